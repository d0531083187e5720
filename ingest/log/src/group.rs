//! Consumer groups: which member reads which partitions, and how far a group says it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use millrace_events::TopicPartition;
use tokio::sync::watch;

use crate::Offset;

/// The members of one consumer group inside one process, and the offsets they report.
///
/// Partitions are shared out evenly in order; a member that joins or leaves changes the assignment of the others, each
/// change under a larger epoch. Reported offsets are for people (lag); the truth is the offset in a job's own state.
#[derive(Clone, Debug, Default)]
pub struct Group {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    partitions: Vec<TopicPartition>,
    members: BTreeMap<u64, watch::Sender<Assignment>>,
    next_member: u64,
    epoch: u64,
    offsets: HashMap<TopicPartition, Offset>,
}

/// What one member reads, as of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Rises with every change of the group: a larger epoch fences a smaller one.
    pub epoch: u64,
    /// The partitions of this member, in order.
    pub partitions: Vec<TopicPartition>,
}

impl Group {
    /// A group over these partitions, without members.
    pub fn new(partitions: Vec<TopicPartition>) -> Self {
        let inner = Inner { partitions, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Joins; the assignment arrives through [`Membership::assignment`]. Leaving is dropping the membership.
    pub fn join(&self) -> Membership {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let id = inner.next_member;
        inner.next_member += 1;
        let (sender, assignment) = watch::channel(Assignment::default());
        inner.members.insert(id, sender);
        inner.share_out();
        Membership { group: self.clone(), id, assignment }
    }

    /// Reports that the group has applied everything of `of` below `offset`.
    pub fn report(&self, of: TopicPartition, offset: Offset) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).offsets.insert(of, offset);
    }

    /// The offsets reported so far.
    pub fn reported(&self) -> HashMap<TopicPartition, Offset> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).offsets.clone()
    }
}

impl Inner {
    fn share_out(&mut self) {
        self.epoch += 1;
        let count = self.members.len();
        for (nth, sender) in self.members.values().enumerate() {
            let partitions = self.partitions.iter().copied().skip(nth).step_by(count).collect();
            sender.send_replace(Assignment { epoch: self.epoch, partitions });
        }
    }
}

/// One member of a [`Group`]; leaves when dropped.
#[derive(Debug)]
pub struct Membership {
    group: Group,
    id: u64,
    assignment: watch::Receiver<Assignment>,
}

impl Membership {
    /// The partitions to read now, and a way to wait for the next change.
    pub fn assignment(&mut self) -> &mut watch::Receiver<Assignment> {
        &mut self.assignment
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut inner = self.group.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.members.remove(&self.id);
        if !inner.members.is_empty() {
            inner.share_out();
        }
    }
}

#[cfg(test)]
mod tests;
