//! Consumer groups: which member works on which partitions, and how far a group says it is.
//!
//! [`Member`] is the seam; [`Group`] is the one inside a process, where nothing is ever late.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_events::TopicPartition;
use tokio::sync::watch;

use crate::Offset;

/// One member of a consumer group. Leaving is dropping it, after what it had open is closed: dropping may block.
///
/// A group shares out work and knows nothing of it: no record goes through it, and the offset to begin at is in the state of
/// whoever works. A member opens what an assignment has more than the one before, closes what it has less, and then says
/// [`Member::released`]; also when there was nothing to close.
///
/// Laws (`conformance::group` has a function for each):
/// 1. While members release, every partition comes to one of them, and no member has two more than another.
/// 2. A partition that moves is in an assignment of the next member only after its former owner released an assignment
///    without it, or left; or after a bounded time, where owners can hang. So whoever opens a partition fences its state.
/// 3. A partition that does not move is in every assignment in between.
/// 4. Epochs of one member rise with each of its assignments. Those of two members do not compare.
pub trait Member: Send + Sync {
    /// What to work on now, and a way to wait for the next change, which ends in an error when the member has left. An
    /// assignment that nobody looked at is replaced by the next one.
    fn assignment(&self) -> watch::Receiver<Assignment>;

    /// Says that nothing is open any more that the assignment of `epoch` lacks. Older epochs than one released before, and
    /// ones that no assignment had yet, change nothing.
    fn released(&self, epoch: u64);

    /// Reports that everything of `of` below `offset` is applied: for people and tools that watch lag. It never waits, and
    /// only the owner of a partition is listened to.
    fn report(&self, of: TopicPartition, offset: Offset);
}

/// What one member works on, as of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Rises with every change; 0 until there is one.
    pub epoch: u64,
    /// The partitions of this member, in order.
    pub partitions: Vec<TopicPartition>,
}

/// The members of one consumer group inside one process, and the offsets they report.
///
/// Partitions are shared out evenly; each stays with its owner as long as that is even. There is no clock: an owner that
/// neither releases nor leaves keeps what should move for ever, which in one process is a bug of its own. Epochs rise over
/// the whole group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    partitions: Vec<TopicPartition>,
    members: BTreeMap<u64, Share>,
    /// Taken from a member under an epoch that it has not released yet.
    closing: BTreeMap<TopicPartition, Closing>,
    next_member: u64,
    epoch: u64,
    offsets: HashMap<TopicPartition, Offset>,
}

#[derive(Debug)]
struct Share {
    assignment: watch::Sender<Assignment>,
    owned: BTreeSet<TopicPartition>,
}

#[derive(Clone, Copy, Debug)]
struct Closing {
    member: u64,
    epoch: u64,
}

impl Group {
    /// A group over these partitions, without members.
    pub fn new(mut partitions: Vec<TopicPartition>) -> Self {
        partitions.sort_unstable();
        partitions.dedup();
        let inner = Inner { partitions, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Joins; the assignment arrives through [`Member::assignment`]. Leaving is dropping the membership.
    pub fn join(&self) -> Membership {
        let mut inner = self.lock();
        let id = inner.next_member;
        inner.next_member += 1;
        let (sender, assignment) = watch::channel(Assignment::default());
        inner.members.insert(id, Share { assignment: sender, owned: BTreeSet::new() });
        inner.share_out();
        Membership { group: self.clone(), id, assignment }
    }

    /// The offsets reported so far.
    pub fn reported(&self) -> HashMap<TopicPartition, Offset> {
        self.lock().offsets.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes what members have too much, gives away what is free, and tells those for whom something changed.
    fn share_out(&mut self) {
        let quotas = self.quotas();
        self.epoch += 1;
        for (member, quota) in &quotas {
            let Some(share) = self.members.get_mut(member) else { continue };
            while share.owned.len() > *quota {
                let Some(taken) = share.owned.pop_last() else { break };
                self.closing.insert(taken, Closing { member: *member, epoch: self.epoch });
            }
        }
        let owned: BTreeSet<TopicPartition> = self.members.values().flat_map(|share| &share.owned).copied().collect();
        let mut free = self.partitions.iter().filter(|of| !owned.contains(of) && !self.closing.contains_key(of));
        for (member, quota) in &quotas {
            let Some(share) = self.members.get_mut(member) else { continue };
            let room = quota.saturating_sub(share.owned.len());
            share.owned.extend(free.by_ref().take(room));
        }
        for share in self.members.values() {
            let epoch = self.epoch;
            share.assignment.send_if_modified(|assignment| {
                if assignment.partitions.iter().eq(&share.owned) {
                    return false;
                }
                *assignment = Assignment { epoch, partitions: share.owned.iter().copied().collect() };
                true
            });
        }
    }

    /// How many partitions each member should have. What is left over stays with those who have the most, so that nothing
    /// moves to and fro.
    fn quotas(&self) -> Vec<(u64, usize)> {
        let count = self.members.len().max(1);
        let (each, left_over) = (self.partitions.len() / count, self.partitions.len() % count);
        let mut members: Vec<(u64, usize)> = self.members.iter().map(|(id, share)| (*id, share.owned.len())).collect();
        members.sort_by_key(|(id, owned)| (std::cmp::Reverse(*owned), *id));
        members.iter().enumerate().map(|(nth, (id, _))| (*id, each + usize::from(nth < left_over))).collect()
    }

    fn released(&mut self, member: u64, epoch: u64) {
        let newest = self.members.get(&member).map_or(0, |share| share.assignment.borrow().epoch);
        if epoch > newest {
            return;
        }
        let before = self.closing.len();
        self.closing.retain(|_, closing| closing.member != member || closing.epoch > epoch);
        if self.closing.len() < before {
            self.share_out();
        }
    }

    fn left(&mut self, member: u64) {
        self.members.remove(&member);
        self.closing.retain(|_, closing| closing.member != member);
        self.share_out();
    }
}

/// One member of a [`Group`].
#[derive(Debug)]
pub struct Membership {
    group: Group,
    id: u64,
    assignment: watch::Receiver<Assignment>,
}

impl Member for Membership {
    fn assignment(&self) -> watch::Receiver<Assignment> {
        self.assignment.clone()
    }

    fn released(&self, epoch: u64) {
        self.group.lock().released(self.id, epoch);
    }

    fn report(&self, of: TopicPartition, offset: Offset) {
        let mut inner = self.group.lock();
        if inner.members.get(&self.id).is_some_and(|share| share.owned.contains(&of)) {
            inner.offsets.insert(of, offset);
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.group.lock().left(self.id);
    }
}

#[cfg(test)]
mod tests;
