//! Remembers now: the online store and what is kept in it.
//!
//! [`OnlineStore`] is the seam: records and ranked lists by key, written by pipelines only, read by serving only. The
//! embedded backend is [`FjallOnlineStore`]. `views` has the single definition of every record and list: its key, its
//! fields and their units. It is not a cache: deleting it loses nothing, because it is a function of the log.
//!
//! It must never know a job, a request or a model.

pub mod online;
pub mod person;
pub mod views;

pub use online::{
    Error, ErrorKind, FjallOnlineOptions, FjallOnlineStore, ListItem, ListKey, OnlineStore, OnlineWrite, RecordKey,
    Result, Version,
};
