//! Everything that a job does not do: poll, apply, publish, commit, measure, restart.

mod board;
mod gate;
mod stop;
mod worker;

pub use board::{Board, PartitionStatus};
pub use gate::{Closed, Gate};
pub use stop::Stop;
pub(crate) use worker::chain;
pub use worker::{Seams, Timer, Worker, WorkerOptions};
