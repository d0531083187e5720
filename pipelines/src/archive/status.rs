//! How far the archive is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_events::{LogTime, TopicPartition};
use millrace_log::Offset;
use millrace_warehouse::Table;

/// How far the archive is, of all tables.
#[derive(Clone, Debug, Default)]
pub struct ArchiveStatus {
    /// Records that are in the log and not yet archived.
    pub lag: u64,
    /// By table.
    pub tables: BTreeMap<Table, TableStatus>,
    /// Every action up to this log time is in the table of events; `None` before the first.
    pub as_of: Option<LogTime>,
    /// True once the warehouse has said where it stands; before that nothing else here means anything.
    pub is_known: bool,
    /// Why it waits; cleared by progress.
    pub error: Option<String>,
}

/// How far the archive of one table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStatus {
    /// Records whose rows it does not have yet.
    pub lag: u64,
}

/// What is in the warehouse, durably, by partition: below it nothing has to be kept for the warehouse. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Archived {
    ends: Arc<Mutex<BTreeMap<TopicPartition, Offset>>>,
}

impl Archived {
    /// Everything below is archived; 0 when nothing is known.
    pub fn get(&self, of: TopicPartition) -> Offset {
        self.ends().get(&of).copied().unwrap_or(0)
    }

    pub(crate) fn set(&self, of: TopicPartition, end: Offset) {
        self.ends().insert(of, end);
    }

    fn ends(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Offset>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
