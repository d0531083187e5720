//! Whole-process scenarios: the real binary, a real disk, real kills.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests: a failure is a panic, and time here is real"
)]

mod backup;
mod crash;
mod engines;
mod full_disk;
mod hostile;
mod scenario;
mod support;
