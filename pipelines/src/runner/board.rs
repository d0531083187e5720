//! What the workers say about themselves: for `/v1/status`, readiness and tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_events::{LogTime, Topic, TopicPartition};
use millrace_feature_store::views::SourceCounts;
use millrace_log::Offset;

/// Progress of one worker.
#[derive(Clone, Debug, Default)]
pub struct PartitionStatus {
    /// The jobs that read this partition.
    pub jobs: Vec<&'static str>,
    /// Everything below is committed with its state.
    pub committed: Offset,
    /// Everything below is applied, published and online: visible.
    pub applied: Offset,
    /// How many rows of the warehouse follow from what is applied and not committed.
    pub owed: u64,
    /// The clock of the partition.
    pub clock: Option<LogTime>,
    /// What it counted, by name.
    pub counts: Vec<(&'static str, u64)>,
    /// What came in by source, see [`crate::Stage::sources`].
    pub sources: Vec<SourceCounts>,
    /// Why it last restarted; cleared by progress.
    pub error: Option<String>,
    /// How often it restarted from its commit.
    pub restarts: u64,
    /// The reason in `error` is that the log does not do now what it is asked; the partition goes on by itself.
    pub waits_for_log: bool,
    /// It has stopped for good, for the reason in `error`.
    pub stopped: bool,
}

/// The status of every worker of this process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Board {
    parts: Arc<Mutex<BTreeMap<TopicPartition, PartitionStatus>>>,
}

impl Board {
    /// Nothing known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// All of it, as of now.
    pub fn all(&self) -> BTreeMap<TopicPartition, PartitionStatus> {
        self.lock().clone()
    }

    /// One partition's, as of now.
    pub fn get(&self, of: TopicPartition) -> Option<PartitionStatus> {
        self.lock().get(&of).cloned()
    }

    /// True where the first partition of actions is worked on: of several processes in one, so what one suffices for is done
    /// there.
    pub fn leads(&self) -> bool {
        self.lock().contains_key(&TopicPartition::new(Topic::Actions, 0))
    }

    /// Forgets a partition that has moved away.
    pub fn remove(&self, of: TopicPartition) {
        self.lock().remove(&of);
    }

    pub(crate) fn update(&self, of: TopicPartition, change: impl FnOnce(&mut PartitionStatus)) {
        change(self.lock().entry(of).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, PartitionStatus>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
