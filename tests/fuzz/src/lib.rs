//! What must hold of every decoder, whatever bytes it is given: one function for each, which panics where it does not.
//!
//! `targets/` hands them what libFuzzer thinks up (`make fuzz`); `tests/regressions.rs` hands them the seeds, and every input that
//! ever made one of them fail. Stated here and not in the targets, so that the stable toolchain checks the same laws.
//!
//! It must never know how a decoder works: only what whoever stands behind it relies on.

mod cursor;
mod door;
mod protobuf;

pub use cursor::cursor;
pub use door::{cloud_events, gzip, http_body};
pub use protobuf::protobuf;

/// Panics where something does not hold of these bytes.
pub type Law = fn(&[u8]);

/// Everything that can be fuzzed: the name of its target and the law.
pub const TARGETS: &[(&str, Law)] = &[
    ("http_body", http_body),
    ("cloud_events", cloud_events),
    ("gzip", gzip),
    ("protobuf", protobuf),
    ("cursor", cursor),
];
