//! Computes from what happened: the jobs, and the runner that makes their effects exactly-once.
//!
//! A job is a rule: given its state, one record, and the clock of its partition, it returns writes as values. It never
//! sees a client, a clock or a task. The [`runner`] does everything else, in one order: read, apply, publish, await every
//! acknowledgement, write online, and only then commit state and offset together. A crash therefore repeats outputs and
//! never skips them; positions on re-keyed records, versions on online writes and absolute values make the repetition
//! harmless. A stream engine was the obvious alternative; what it would bring (transactions across stores, its own state
//! and scheduling) is what these laws make unnecessary, and it could not run inside a laptop process.
//!
//! It must never know HTTP, a viewer's request or a model's runtime.

/// Fills the warehouse.
pub mod archive;
pub mod jobs;
pub mod operators;
pub mod runner;
pub mod state;
/// Replays beside what happened live.
pub mod verify;

mod error;
mod job;

pub use error::{Error, Result};
pub use job::{Advance, ClosedWindow, Input, Job, LinkedId, Row, Stage, Writes};
