//! State in real and in pretended object stores: the laws of the seam, what only this backend promises, and what happens when
//! the object store fails.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod failures;
mod laws;
mod model;
mod places;
mod takeover;
mod watched;
