//! The laws of the log, for the backends that need no server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "conformance/fjall.rs"]
mod fjall;
#[path = "conformance/toy.rs"]
mod toy;
