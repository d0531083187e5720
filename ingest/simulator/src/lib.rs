//! Where actions come from when no app is connected: a seeded population that behaves, and importers of recorded logs.
//!
//! Both end in the same thing, a stream of [`Outgoing`] calls as a Segment client would send them. They go in at the front
//! door like anybody's: writing the log directly would leave validation, stamping and dedup untested by the very data that is
//! at hand to test them.
//!
//! Everything here is a function of its input: the same seed and options, or the same files, give the same bytes and the same
//! message ids on every run. That is what makes a repeated import change no number. This crate knows no server, no network and
//! no clock; the binary sends.

mod call;
pub mod import;
pub mod population;

pub use call::{Call, Outgoing};
