//! Remembers always: every action, closed window, served slate and refusal, in columns.
//!
//! [`Warehouse`] is the seam: Delta Lake tables on local disk embedded, ClickHouse in a cluster. It takes *blocks*: the rows
//! that one range of offsets of one log partition leads to. Each table remembers, for every source, up to which offset it
//! holds rows, and a block is taken only where the last one ended; that and nothing else makes the archive exactly-once, so
//! a writer may repeat itself, race another one or die anywhere. A staging area with later merging was the alternative: it
//! needs a second store and a moment when an outside reader sees half of something.
//!
//! It must never know how a row came about, nor who asks a query.

mod error;
mod query;
/// The tables: their columns, and builders that turn rows into columns.
pub mod tables;

#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
pub mod toy;

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use millrace_events::Topic;

pub use error::{Error, ErrorKind};
pub use query::{
    Answer, ColumnType, NamedQuery, Param, ParamType, Params, Rows, TEXT_PARAM_BYTES_MAX, Value, named_queries,
};
#[cfg(feature = "testing")]
pub use query::{goldens, sample};
pub use tables::Table;

/// The result of every call here.
pub type Result<T> = std::result::Result<T, Error>;

/// The place of a record in its partition; as a position the next one.
pub type Offset = u64;

/// Where rows come from: one partition of a topic, in one generation of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// Changes when offsets are no longer comparable.
    pub generation: u32,
    /// The topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: u32,
}

/// The rows that the records `[start, end)` of a source lead to: none, when those records lead to no row.
#[derive(Clone, Debug)]
pub struct Block {
    /// Whose.
    pub source: Source,
    /// The first record.
    pub start: Offset,
    /// One past the last record.
    pub end: Offset,
    /// The rows, with the columns of their table, in any number of batches.
    pub rows: Vec<RecordBatch>,
}

/// What one round of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Small files that were merged.
    pub files_merged: u64,
    /// Files they were merged into.
    pub files_written: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Files deleted that no reader within the retention can need.
    pub files_deleted: u64,
}

/// Tables that only grow.
///
/// Laws (`conformance`, feature `testing`, has a function for each):
/// 1. `commit` takes all blocks of a call or none, and answers when they are durable: `recorded` then says their ends.
/// 2. A block whose `start` is not where its source stands in that table is refused with [`ErrorKind::Conflict`] and nothing
///    of its call is taken; so a repeated commit changes nothing.
/// 3. Every row of a taken block is read exactly once by every query that begins after `commit` answered, also during and
///    after `maintain`.
/// 4. After a kill at any moment, reopening shows for each table a set of whole commits, and every one that was answered.
#[async_trait]
pub trait Warehouse: Send + Sync + 'static {
    /// For each source with a committed block in `table`: where its next block begins.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] when the table cannot be read now.
    async fn recorded(&self, table: Table) -> Result<BTreeMap<Source, Offset>>;

    /// Commits blocks of different sources into `table`, together.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when a block does not begin where its source stands: read `recorded` again.
    /// [`ErrorKind::Retry`] when the table cannot be written now; the commit may have happened, and repeating it is harmless.
    async fn commit(&self, table: Table, blocks: Vec<Block>) -> Result<()>;

    /// Merges small files, writes checkpoints, deletes what nobody can need any more. Bounded work; call it now and then.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] when it could not be done now. Nothing is lost.
    async fn maintain(&self) -> Result<Maintained>;

    /// Every row of a table as of now, in any order, these columns of it: for `verify`, which compares the archive with a
    /// replay of the log. No bound on rows, so read it as a stream; dropping it cancels.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a column that the table does not have; otherwise as of [`Warehouse::recorded`].
    async fn scan(&self, table: Table, columns: &[&str]) -> Result<Answer>;

    /// Runs a named query. Dropping the answer cancels it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for parameters that the query does not have or cannot take. [`ErrorKind::TooLarge`] when it
    /// needs more memory or time than queries may take: ask for less. [`ErrorKind::Busy`] when too many run already.
    async fn query(&self, query: &NamedQuery, params: &Params) -> Result<Answer>;
}
