//! Job state on SlateDB, in an object store: for pipelines that run in more than one process.
//!
//! One SlateDB per topic partition, so that a partition moves without its neighbours and its fence is its own. A commit is
//! one batch with the offset in it, and one object written only if it is not there yet: that condition is what fences a
//! former owner, whoever is slow, paused or cut off. Reads are answered from memory and from a bounded cache of blocks.
//!
//! A database server was the obvious alternative. It would be one more thing to run, with a lease of its own to get wrong; the
//! object store is there anyway, keeps the state for the price of its bytes, and decides who owns a partition by the write
//! itself.
//!
//! It must never know what a job is, what the bytes of a value mean, or which log the offsets are of beyond its name.

mod bridge;
mod cache;
mod error;
mod gate;
mod marker;
mod options;
mod partition;
mod store;

/// The object stores that SlateDB is built on.
pub use slatedb::object_store;

pub use error::{Error, ErrorKind, Result};
pub use marker::FORMAT;
pub use options::SlateOptions;
pub use store::SlateStateStore;
