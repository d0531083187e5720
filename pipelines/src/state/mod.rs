//! Job state: what the jobs of one topic partition remember, with the offset up to which they remember it.
//!
//! [`StateStore`] is the seam (fjall embedded, an object store in a cluster); `conformance` (feature `testing`) has one
//! function per law. [`State`] is what a job sees: typed values
//! by key, read through a bounded cache and written back together with the offset in one atomic commit.

mod fjall;
mod key;
mod view;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
pub mod toy;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_events::TopicPartition;
use millrace_log::Offset;

pub use fjall::FjallStateStore;
pub use key::StateKey;
pub use view::{Present, State, StateValue};

use crate::Result;

/// What a commit changes: a value for a key, or its absence.
pub type StateWrite = (Bytes, Option<Bytes>);

/// Opens the state of a topic partition.
///
/// Laws:
///
/// - Opening fences every earlier opening of the same partition: its commits then answer [`crate::Error::Fenced`], and
///   nothing of them is ever seen. Its reads answer that too, or exactly what was committed before the new opening, never
///   anything of the successor: an owner that was replaced and reads what its successor committed would take its own
///   unfinished records for duplicates. What it still reads of its own past leads only to outputs that are known already.
/// - A commit is atomic: its writes and its offset together, or nothing. One that answered with an error other than
///   `Fenced`, or whose future was dropped, may still have happened: whoever goes on opens the partition again.
/// - A commit that answered is never undone by a later one that was not durable; what is durable of the state was committed
///   after everything published before it was durable.
#[async_trait]
pub trait StateStore: Send + Sync + 'static {
    /// Takes the partition over and reads its state as of the last commit.
    ///
    /// # Errors
    /// [`crate::Error::Fenced`] when a still newer opening was faster; otherwise when the store cannot be read now.
    async fn open(&self, of: TopicPartition) -> Result<Box<dyn PartitionState>>;

    /// Up to `limit` committed pairs after `after`, in order of key, read beside whoever owns the partition: for the
    /// archive, which asks only for what a commit that it knows of has put there.
    ///
    /// # Errors
    /// When the store cannot be read now.
    async fn peek(&self, of: TopicPartition, after: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>>;
}

/// The committed state of one topic partition.
#[async_trait]
pub trait PartitionState: Send + Sync {
    /// The committed value of `key`. Called for every key a job touches that is not cached: it must be fast.
    ///
    /// # Errors
    /// [`crate::Error::Fenced`] after a newer opening; otherwise when the store cannot be read now.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// Up to `limit` committed pairs after `after`, in order of key.
    ///
    /// # Errors
    /// As of [`PartitionState::get`].
    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>>;

    /// The offset committed last: the next record to apply.
    fn offset(&self) -> Offset;

    /// Commits writes and the offset they lead to, together or not at all.
    ///
    /// # Errors
    /// [`crate::Error::Fenced`] after a newer opening; otherwise when the store cannot be written now.
    async fn commit(&mut self, writes: Vec<StateWrite>, offset: Offset) -> Result<()>;

    /// Ends what goes on for this partition in the background and leaves it so that its next owner opens it quickly: for a
    /// partition that moves away. Commits are durable without it, and dropping the state instead costs only time.
    ///
    /// # Errors
    /// When that cannot be done now: nothing that was committed is lost, and the partition can be opened anywhere.
    async fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// The reserved key that holds the offset, in stores that keep it beside the values. It sorts before every other.
pub const OFFSET_KEY: &[u8] = &[0];
