//! The event log: topics, partitions, offsets, and nothing visible before it is durable.
//!
//! [`EventLog`] is the seam; [`FjallLog`] is the embedded backend, Apache Kafka the one for a cluster. The trait is
//! batch-shaped and object-safe and promises laws, not mechanisms: `conformance` (feature `testing`) has one function per
//! law and every backend passes them all. It is deliberately not a queue with acknowledgements per record: a consumer's
//! place is an offset that it keeps with its own state, which is what makes effects exactly-once.
//!
//! It must never know what an event means.

mod clock;
mod error;
mod fjall_log;
mod group;

#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
pub mod toy;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_events::{LogTime, TopicPartition};

pub use clock::{Clock, ReplayClock, WallClock};
pub use error::{Error, ErrorKind};
pub use fjall_log::{FjallLog, FjallLogOptions};
pub use group::{Assignment, Group, Member, Membership};

/// The result of every call here.
pub type Result<T> = std::result::Result<T, Error>;

/// The place of a record in its partition, from 0. As a position to read from it is the next one to read.
pub type Offset = u64;

/// The largest value that a log must accept, in bytes.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// The largest key that a log must accept, in bytes.
pub const KEY_BYTES_MAX: usize = 64 * 1024;

/// One record to append.
#[derive(Clone, Debug)]
pub struct Append {
    /// Where to.
    pub to: TopicPartition,
    /// Its log time; the log raises it to that of the record before it, so that log time is monotone per partition.
    pub time: LogTime,
    /// The partition key, at most [`KEY_BYTES_MAX`] bytes.
    pub key: Bytes,
    /// The value, at most [`VALUE_BYTES_MAX`] bytes.
    pub value: Bytes,
}

/// One record read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place.
    pub offset: Offset,
    /// Its log time, monotone per partition.
    pub time: LogTime,
    /// The partition key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest offset still there.
    pub start: Offset,
    /// One past the newest durable record.
    pub end: Offset,
    /// The log time of the newest record; `None` while the partition was never written.
    pub last_time: Option<LogTime>,
}

/// A partitioned, durable, ordered log.
///
/// Laws (`conformance` has one function or more for each that shows without breaking a disk):
/// 1. `append` answers only after every record of the call is durable, with their offsets in the order given.
/// 2. Offsets of a partition are dense, start at 0 and follow the order of appends; log time never falls.
/// 3. No reader sees a record before it is durable; what a reader saw once it sees again, unchanged, until it is trimmed.
/// 4. A failed `append` may or may not have happened, per record, in order: of the records for one partition a prefix is there.
/// 5. After `trim(p, o)` `start` is at most `o`: a backend may keep more than it was told to drop, never less. Reading from
///    below `start` is [`ErrorKind::OutOfRange`], reading from `start` on is as before, and offsets and log time go on.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Appends a batch, for any partitions, and waits until all of it is durable.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] when the log cannot take it now (full disk, full queue, broker away): the same call may be
    /// repeated. [`ErrorKind::Invalid`] when it never will (too large, no such partition).
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Offset>>;

    /// Reads from `from`, in order, until about `bytes_max` bytes are taken (at least one record when there is one).
    /// Empty when `from` is the end.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfRange`] when `from` was trimmed or lies beyond the end.
    async fn read(&self, of: TopicPartition, from: Offset, bytes_max: usize) -> Result<Vec<Record>>;

    /// Waits until the end of the partition lies beyond `from`.
    ///
    /// # Errors
    /// As of [`EventLog::bounds`].
    async fn wait(&self, of: TopicPartition, from: Offset) -> Result<()>;

    /// What the partition holds now.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when there is no such partition.
    async fn bounds(&self, of: TopicPartition) -> Result<Bounds>;

    /// Drops records below `before`. Retention: the caller has made sure that nobody needs them.
    ///
    /// # Errors
    /// As of [`EventLog::bounds`].
    async fn trim(&self, of: TopicPartition, before: Offset) -> Result<()>;

    /// How many partitions the topics have (`dead-letters` always has one).
    fn partitions(&self) -> u32;

    /// False while appends fail for a reason that lies outside of them (a full disk, no broker), and after
    /// [`EventLog::close`]. Asked often: it never waits.
    fn healthy(&self) -> bool {
        true
    }

    /// Takes no more appends and finishes those that were taken. Blocks until then, within a bound.
    fn close(&self) {}
}
