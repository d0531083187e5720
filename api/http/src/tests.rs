//! The whole surface in process, over a toy log and a toy store.

mod access;
mod doors;
mod harness;
mod ingest;
mod log;
mod overload;
mod queries;
mod reads;
mod serve;
mod slates;
mod trends;
