//! The online store: latest values by key, and ranked lists.

mod error;
mod fjall_store;
mod head;
mod keys;
mod marks;

#[cfg(feature = "testing")]
pub mod conformance;
#[cfg(feature = "testing")]
pub mod toy;

use std::cmp::Ordering;

use async_trait::async_trait;
use bytes::Bytes;

use crate::views::bound_of;

pub use error::{Error, ErrorKind};
pub use fjall_store::{FjallOnlineOptions, FjallOnlineStore};

/// The result of every call here.
pub type Result<T> = std::result::Result<T, Error>;

/// How long the key of an entity, or a member, may be.
pub const KEY_BYTES_MAX: usize = 500;

/// Which write wins: the one from the later record of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Changes when order or code is no longer comparable; a larger generation always wins.
    pub generation: u32,
    /// The offset, in the partition that owns the key, of the last record that changed it.
    pub offset: u64,
}

/// The key of a record: which view, and the bytes of the entity's key within it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The number of the view: see [`crate::views`].
    pub view: u8,
    /// The entity, 1 to 500 bytes.
    pub entity: Bytes,
}

/// The key of a ranked list: which view, and the bytes of the entity's key within it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListKey {
    /// The number of the view: see [`crate::views`].
    pub view: u8,
    /// The entity, 1 to 500 bytes.
    pub entity: Bytes,
}

/// A member of a ranked list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListItem {
    /// Higher is nearer the head.
    pub score: i64,
    /// The member, unique within its list; equal scores are ordered by member, ascending bytes.
    pub member: Bytes,
}

impl ListItem {
    /// The order of lists: `Less` is nearer the head.
    pub fn rank(&self, other: &Self) -> Ordering {
        other.score.cmp(&self.score).then_with(|| self.member.cmp(&other.member))
    }
}

/// One write. Values are absolute: a count, never an increment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnlineWrite {
    /// Sets a record.
    Put {
        /// Which.
        key: RecordKey,
        /// What it is now.
        value: Bytes,
        /// When it became so.
        version: Version,
    },
    /// Deletes a record; a tombstone stays, so that an older write cannot bring it back.
    Delete {
        /// Which.
        key: RecordKey,
        /// When it went.
        version: Version,
    },
    /// Puts a member into a list, or moves it to this score.
    Insert {
        /// Which list.
        list: ListKey,
        /// The member and its score.
        item: ListItem,
        /// When it became so.
        version: Version,
    },
    /// Takes a member out of a list; a tombstone stays.
    Remove {
        /// Which list.
        list: ListKey,
        /// The member.
        member: Bytes,
        /// When it went.
        version: Version,
    },
}

/// What is stored for [`OnlineStore::scan`]: the content without its versions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// A record and its value.
    Record(RecordKey, Bytes),
    /// A list, a member and its score.
    Member(ListKey, Bytes, i64),
}

impl Content {
    /// The order of [`OnlineStore::scan`]: by key alone, whatever the value is now.
    pub fn cmp_key(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Record(a, _), Self::Record(b, _)) => a.cmp(b),
            (Self::Record(..), Self::Member(..)) => Ordering::Less,
            (Self::Member(..), Self::Record(..)) => Ordering::Greater,
            (Self::Member(a, x, _), Self::Member(b, y, _)) => a.cmp(b).then_with(|| x.cmp(y)),
        }
    }
}

/// Records and ranked lists by key.
///
/// Laws (each is a function in `conformance`, feature `testing`):
/// 1. A write with a version that is not above the stored one for the same record or member changes nothing (an equal
///    version is a repetition of the same write). Versions are per record and per member. A member of a bounded list
///    ([`crate::views::BOUNDED_LISTS`]) instead keeps its highest score, whatever the versions, and cannot be removed.
/// 2. A deleted record and a removed member are gone for readers, and an older write does not bring them back.
/// 3. A batch is applied in order; when `write` answers, every reader sees all of it.
/// 4. Lists are read in descending score, then ascending member, without gaps or repetition, and `page` continues
///    exactly after the given item even when that item has gone.
/// 5. `get` and `heads` answer in the order asked, one answer for each key, also for keys asked twice.
#[async_trait]
pub trait OnlineStore: Send + Sync + 'static {
    /// Applies a batch.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] when the store cannot take it now; part of the batch may be applied, and repeating it is harmless.
    async fn write(&self, batch: Vec<OnlineWrite>) -> Result<()>;

    /// The values of these records, `None` for what is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] when the store cannot be read now.
    async fn get(&self, keys: &[RecordKey]) -> Result<Vec<Option<Bytes>>>;

    /// The first `limit` items of each list, best first; empty for a list that is not there.
    ///
    /// # Errors
    /// As of [`OnlineStore::get`].
    async fn heads(&self, lists: &[ListKey], limit: usize) -> Result<Vec<Vec<ListItem>>>;

    /// Up to `limit` items of one list after `after` (from the head when `None`).
    ///
    /// # Errors
    /// As of [`OnlineStore::get`].
    async fn page(&self, list: &ListKey, after: Option<&ListItem>, limit: usize) -> Result<Vec<ListItem>>;

    /// Up to `limit` pieces of content after `after`, in key order (records first, then members): for `verify`.
    ///
    /// # Errors
    /// As of [`OnlineStore::get`].
    async fn scan(&self, after: Option<&Content>, limit: usize) -> Result<Vec<Content>>;
}

/// True when a write to a member of a list in `view` replaces what is stored for it (its version, and its score unless it was
/// removed): law 1.
pub fn wins(view: u8, stored: Option<(Version, Option<i64>)>, version: Version, score: Option<i64>) -> bool {
    stored.is_none_or(
        |(stored_version, stored_score)| {
            if bound_of(view) == usize::MAX { version > stored_version } else { score > stored_score }
        },
    )
}

/// Refuses a batch whole when a write in it can never be taken: what every backend does first.
///
/// # Errors
/// [`ErrorKind::Invalid`] when an entity or a member is empty or longer than [`KEY_BYTES_MAX`], a view is 0, or a member of a
/// bounded list would be removed.
pub fn check_batch(batch: &[OnlineWrite]) -> Result<()> {
    let fits = |bytes: &Bytes| (1..=KEY_BYTES_MAX).contains(&bytes.len());
    for write in batch {
        let (view, key, member) = match write {
            OnlineWrite::Put { key, .. } | OnlineWrite::Delete { key, .. } => (key.view, &key.entity, None),
            OnlineWrite::Insert { list, item, .. } => (list.view, &list.entity, Some(&item.member)),
            OnlineWrite::Remove { list, member, .. } => (list.view, &list.entity, Some(member)),
        };
        if view == 0 || !fits(key) || !member.is_none_or(fits) {
            let message = format!(
                "cannot write {write:?}: views begin at 1, entities and members have 1 to {KEY_BYTES_MAX} bytes"
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if let OnlineWrite::Remove { list, .. } = write
            && bound_of(list.view) != usize::MAX
        {
            let message = format!("cannot remove from a list of view {}: its length is bounded", list.view);
            return Err(Error::new(ErrorKind::Invalid, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
