//! Whole-process scenarios: the real binary, a real disk, real kills.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests: a failure is a panic, time here is real, and chance says where it began"
)]

mod absence;
mod backup;
mod bounds;
mod cluster;
mod crash;
mod doctor;
mod engines;
mod failpoints;
mod full_disk;
mod hostile;
mod identity;
mod keys;
mod load;
mod migrate;
mod scenario;
mod sources;
mod spool;
mod support;
