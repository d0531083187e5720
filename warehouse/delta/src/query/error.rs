//! What the engine says, as what a caller should do.

use std::time::Duration;

use datafusion::common::DataFusionError;
use millrace_warehouse::{Error, ErrorKind};

pub(super) fn busy() -> Error {
    Error::new(ErrorKind::Busy, "too many queries are running; ask again in a moment")
}

pub(super) fn too_slow(time_max: Duration) -> Error {
    let message = format!(
        "the query was stopped after {} s, the longest that one may take: ask again when the machine is less busy, or ask for \
         less, such as a shorter time",
        time_max.as_secs_f64()
    );
    Error::new(ErrorKind::TooLarge, message)
}

fn too_much_memory(memory_max: usize, source: DataFusionError) -> Error {
    let message = format!(
        "the query was stopped because it needs more than {} MiB of memory, the most that one may take; ask for less, \
         such as a shorter time",
        memory_max >> 20
    );
    Error::with_source(ErrorKind::TooLarge, message, source)
}

/// The error of a query.
pub(super) fn of(error: DataFusionError, memory_max: usize) -> Error {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => too_much_memory(memory_max, error),
        DataFusionError::SQL(..) | DataFusionError::Plan(_) | DataFusionError::SchemaError(..) => {
            let message = format!("the query cannot be planned: {}", error.strip_backtrace());
            Error::with_source(ErrorKind::Invalid, message, error)
        }
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => {
            Error::with_source(ErrorKind::Retry, "a data file could not be read", error)
        }
        _ => failed(error),
    }
}

/// An error that no question explains.
pub(super) fn failed(error: DataFusionError) -> Error {
    let message = format!("the query failed: {}", error.strip_backtrace());
    Error::with_source(ErrorKind::Corrupt, message, error)
}
