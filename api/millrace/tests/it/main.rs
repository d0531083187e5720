//! Whole-process scenarios: the real binary, a real disk, real kills.

mod crash;
mod full_disk;
mod hostile;
mod scenario;
mod support;
