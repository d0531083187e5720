//! The whole surface in process, over a toy log and a toy store.

mod access;
mod doors;
mod harness;
mod ingest;
mod limits;
mod log;
mod overload;
mod persons;
mod queries;
mod reads;
mod serve;
mod slates;
mod trends;
