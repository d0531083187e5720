//! What people decide and the platform must remember: keys and settings today, flags, models and users one day.
//!
//! A [`Catalog`] holds entries: a kind and a name, and a JSON [`Document`] behind them. All entries share one sequence of
//! revisions, so that a change is made only on what its author has seen ([`Expect`]), and a reader that knows up to which
//! revision it has read asks for what came after ([`Catalog::changes_since`]). What may be asked for at any time, also while
//! the database is away, is held in memory by [`Cached`]. [`SqliteCatalog`] is the embedded one, for one machine;
//! [`PostgresCatalog`] is for many processes.
//!
//! Why documents and not a table for each kind: what is decided is small, read whole, and changes its shape more often than
//! anything else here; each table would want migrations, routes and a watch of its own. Why not the log, like all else: an
//! author must be told at once that someone else was faster.
//!
//! It must never hold what happened (that is the log's), nor be asked while a feed is served or an event taken.

mod cached;
#[cfg(feature = "testing")]
pub mod conformance;
mod copy;
mod document;
mod error;
mod finding;
mod plan;
mod pool;
mod postgres;
mod records;
mod sqlite;
mod statements;
mod store;
mod transfer;

use std::fmt;

use async_trait::async_trait;
use tokio::sync::watch;

pub use cached::{Cached, CachedOptions, CachedState, Snapshot};
pub use document::Document;
pub use error::{Error, ErrorKind, Result};
pub use finding::{Finding, Level};
pub use plan::{OnViolation, TrackingPlan};
pub use postgres::{PostgresCatalog, PostgresOptions};
pub use records::keys::{
    ApiKey, HashedKey, KEY_CHARS_MIN, KeyHash, KeyKind, KeyUse, OLD_KEYS_MAX, OldKey, Scope, hash_clear_keys,
};
pub use records::{PLATFORM, Record, Settings, read, read_record, write_record};
pub use sqlite::{SqliteCatalog, SqliteOptions};
pub use transfer::transfer;

/// How long a kind may be, in bytes.
pub const KIND_BYTES_MAX: usize = 64;
/// How long a name may be, in bytes.
pub const NAME_BYTES_MAX: usize = 256;
/// How long a document may be, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// How many entries or changes one answer holds at most.
pub const PAGE_MAX: usize = 1_000;
/// How many bytes of documents one answer holds; the last one may go past it.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A place in the sequence of all changes of a catalog. The first change is revision 1; 0 is before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an entry must be for a change of it to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is none.
    Absent,
    /// It was changed last at this revision.
    Revision(Revision),
    /// Whatever it is.
    Any,
}

/// A document and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is one of.
    pub kind: String,
    /// Its name, which no other entry of its kind has.
    pub name: String,
    /// What it says.
    pub document: Document,
    /// When it was changed last, in the sequence of all changes.
    pub revision: Revision,
    /// When it was made, in milliseconds since 1970 by the clock of the database.
    pub created_ms: i64,
    /// When it was changed last, by the same clock.
    pub updated_ms: i64,
}

/// What was done to an entry last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was made or changed.
    Put(Entry),
    /// It was deleted.
    Deleted {
        /// What it was one of.
        kind: String,
        /// Its name.
        name: String,
        /// When, in the sequence of all changes.
        revision: Revision,
    },
}

impl Change {
    /// When it was made.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put(entry) => entry.revision,
            Self::Deleted { revision, .. } => *revision,
        }
    }
}

/// How far a catalog is, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The revision of the last change.
    pub revision: Revision,
    /// The clock of the database, in milliseconds since 1970.
    pub now_ms: i64,
}

/// Entries that change rarely, one after the other. Its laws:
///
/// 1. Every change of any entry has a revision of its own, and revisions rise by one from change to change. Changes become
///    visible in the order of their revisions: who sees one sees all before it, so a reader of [`Catalog::changes_since`] that
///    goes on from the last revision it was given misses nothing. (Writers wait for each other, at one row that counts.)
/// 2. A change is made when its expectation holds, and else nothing is changed: of many that expect the same, one wins.
/// 3. What was answered is durable, and every handle on the same catalog sees it at once.
/// 4. A deleted entry leaves a tombstone, which `changes_since` tells of. The oldest ones are forgotten when there are too
///    many; readers from before that are told to read all again ([`ErrorKind::Expired`]).
/// 5. Kinds and names are taken as the bytes they are, in no language.
/// 6. Every call ends within the bounds of its options, also while the database hangs.
///
/// A kind is 1 to [`KIND_BYTES_MAX`] of `a-z`, `0-9` and `-`, and begins with a letter; a name is 1 to [`NAME_BYTES_MAX`] bytes
/// without control characters; else calls fail with [`ErrorKind::Invalid`]. Every call may also fail with
/// [`ErrorKind::Retry`], [`ErrorKind::Refused`] or [`ErrorKind::Corrupt`].
#[async_trait]
pub trait Catalog: Send + Sync + fmt::Debug + 'static {
    /// The entry, if there is one.
    async fn get(&self, kind: &str, name: &str) -> Result<Option<Entry>>;

    /// Entries of a kind by the bytes of their names, from behind `after`. Bounded by `limit`, [`PAGE_MAX`] and
    /// [`PAGE_BYTES_MAX`], so a short answer is not the end: only an empty one is, where `limit` is not 0.
    async fn list(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>>;

    /// The kinds that there are entries of, by their bytes: [`PAGE_MAX`] at most.
    async fn kinds(&self) -> Result<Vec<String>>;

    /// Makes or changes an entry, and tells the revision of that.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when it is not as expected; [`ErrorKind::Unknown`] when the answer was lost;
    /// [`ErrorKind::Refused`] when there are too many entries.
    async fn put(&self, kind: &str, name: &str, document: &Document, expect: Expect) -> Result<Revision>;

    /// Deletes an entry, and tells the revision of that; none when there was nothing and nothing was expected.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when it is not as expected; [`ErrorKind::Unknown`] when the answer was lost;
    /// [`ErrorKind::Invalid`] when it is expected to be absent.
    async fn delete(&self, kind: &str, name: &str, expect: Expect) -> Result<Option<Revision>>;

    /// What was done after this revision, to entries of all kinds, in order; of each entry the last change alone. Bounded as
    /// [`Catalog::list`] is.
    ///
    /// # Errors
    /// [`ErrorKind::Expired`] when tombstones from after it are forgotten, or the catalog has not come to it yet: it was
    /// restored, or is another. Read all by [`Catalog::head`] and then [`Catalog::list`], and go on from that head.
    async fn changes_since(&self, revision: Revision, limit: usize) -> Result<Vec<Change>>;

    /// How far the catalog is.
    async fn head(&self) -> Result<Head>;

    /// The revision of the last change.
    async fn revision(&self) -> Result<Revision> {
        Ok(self.head().await?.revision)
    }

    /// Wakes when the catalog may have changed, by whomever; perhaps also when it has not. Its value means nothing.
    fn watch(&self) -> watch::Receiver<u64>;

    /// Whether the catalog can be read now.
    async fn healthy(&self) -> Result<()> {
        self.head().await.map(drop)
    }

    /// Ends its connections and its task. Calls fail afterwards, with [`ErrorKind::Refused`].
    async fn close(&self);
}

/// Refuses a kind that cannot be one.
pub(crate) fn check_kind(kind: &str) -> Result<()> {
    let plain = kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let begins = kind.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    if plain && begins && kind.len() <= KIND_BYTES_MAX {
        return Ok(());
    }
    let why = format!("a kind is 1 to {KIND_BYTES_MAX} of a-z, 0-9 and -, and begins with a letter");
    Err(Error::new(ErrorKind::Invalid, why))
}

/// Refuses a name that cannot be one.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let why = format!("a name is 1 to {NAME_BYTES_MAX} bytes without control characters");
    Err(Error::new(ErrorKind::Invalid, why))
}
