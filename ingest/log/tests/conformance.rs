//! The laws of the log and of groups, for the backends that need no server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "conformance/fjall.rs"]
mod fjall;
#[path = "conformance/group.rs"]
mod group;
#[path = "conformance/toy.rs"]
mod toy;
