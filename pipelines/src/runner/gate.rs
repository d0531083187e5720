//! Holds every worker at a commit, so that what is online, what is committed and what is published are one moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use millrace_events::TopicPartition;
use tokio::sync::watch;

/// A gate that workers pass between two steps. Clones share it; open until [`Gate::close`].
#[derive(Clone, Debug)]
pub struct Gate {
    closed: Arc<watch::Sender<bool>>,
    held: Arc<watch::Sender<BTreeSet<TopicPartition>>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { closed: Arc::new(watch::Sender::new(false)), held: Arc::new(watch::Sender::new(BTreeSet::new())) }
    }
}

/// Opens the gate again when dropped.
#[derive(Debug)]
pub struct Closed(Gate);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.closed.send_replace(false);
    }
}

impl Gate {
    /// Closes the gate and waits until each of `workers` has committed and stands before it.
    pub async fn close(&self, workers: &[TopicPartition]) -> Closed {
        self.closed.send_replace(true);
        let closed = Closed(self.clone());
        let mut held = self.held.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _all = held.wait_for(|held| workers.iter().all(|of| held.contains(of))).await;
        closed
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Resolves when the gate closes.
    pub(crate) async fn closing(&self) {
        let mut closed = self.closed.subscribe();
        let _closed = closed.wait_for(|closed| *closed).await;
    }

    /// Stands before the gate until it opens.
    pub(crate) async fn pass(&self, of: TopicPartition) {
        self.held.send_modify(|held| {
            held.insert(of);
        });
        let mut closed = self.closed.subscribe();
        let _opened = closed.wait_for(|closed| !*closed).await;
        drop(_opened);
        self.held.send_modify(|held| {
            held.remove(&of);
        });
    }
}
