//! The online store on the embedded database.
//!
//! Three spaces: records by key; members by list and member, with their versions and tombstones; and the items of lists in
//! their order, which repeat the members so that a head is one short range. Bounded lists have items only, for a viewer's
//! reactions are the most frequent of all writes to lists: no versions, no tombstones, nothing to read before a write, and
//! a member whose score rose stands twice until the list is trimmed.
//!
//! Writes are ordered, not synced: what a job commits after them is behind them in the same journal.

mod scan;
mod write;

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_embedded::{Embedded, Space};
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle, GuardResult};
use rustc_hash::FxHashSet;

use super::head::Head;
use super::keys::{HEADER_BYTES, after_list, descending, list_prefix, read_descending, read_header, record_key};
use super::marks::Marks;
use super::{
    Content, Error, ErrorKind, KEY_BYTES_MAX, ListItem, ListKey, OnlineStore, OnlineWrite, RecordKey, Result, Version,
    check_batch,
};
use crate::views::bound_of;

/// Reading this many records from disk is quicker than handing the work to another thread.
const RECORDS_READ_INLINE: usize = 16;
/// The same for lists, each of which is a range.
const LISTS_READ_INLINE: usize = 2;
/// Longer heads are read from disk each time.
const CACHED_HEAD_ITEMS: usize = 2_048;
/// What an entry of a cache costs beside its key and its value.
const ENTRY_BYTES: usize = 128;
/// For how many entries the caches are laid out, given their size: a guess that need not be right.
const ENTRY_BYTES_TYPICAL: u64 = 384;

/// Bounds of the store. The defaults are for a laptop.
#[derive(Clone, Debug)]
pub struct FjallOnlineOptions {
    /// Memory for records and the heads of lists that were read lately, half for each, in bytes.
    pub cache_bytes: u64,
}

impl Default for FjallOnlineOptions {
    fn default() -> Self {
        Self { cache_bytes: 24 * 1024 * 1024 }
    }
}

/// The online store on the embedded database. Needs a Tokio runtime: what touches the disk runs on its blocking threads.
///
/// Of a list with a bound only its first items are content; the others are dropped now and then.
pub struct FjallOnlineStore {
    shared: Arc<Shared>,
}

struct Shared {
    records: Space,
    members: Space,
    lists: Space,
    embedded: Arc<Embedded>,
    /// The values of records as they are on disk, header included; empty for a record that is not there. A reader that
    /// loads a value holds a placeholder meanwhile, and a write removes or replaces it after it has been applied: what was
    /// read before a write never stays in the cache after it. The same goes for the heads.
    record_cache: ByteCache<Bytes>,
    head_cache: ByteCache<Head>,
    /// The [`Embedded::epoch`] that the caches belong to: what was not durable may be gone after a reopen.
    epoch: AtomicU64,
    /// Held while stored versions are read, compared and replaced.
    writer: Mutex<Marks>,
}

type ByteCache<V> = Cache<Vec<u8>, V, Weight>;

#[derive(Clone)]
struct Weight;

impl Weighter<Vec<u8>, Bytes> for Weight {
    fn weight(&self, key: &Vec<u8>, value: &Bytes) -> u64 {
        (ENTRY_BYTES + key.len() + value.len()) as u64
    }
}

impl Weighter<Vec<u8>, Head> for Weight {
    fn weight(&self, key: &Vec<u8>, head: &Head) -> u64 {
        (ENTRY_BYTES + key.len() + head.weight()) as u64
    }
}

impl FjallOnlineStore {
    /// The online store in this database.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] when the database is closed or the disk says no.
    pub fn open(embedded: Arc<Embedded>, options: FjallOnlineOptions) -> Result<Arc<Self>> {
        let space = |name| embedded.space(name).map_err(|e| retry("open the online store", e));
        let shared = Shared {
            records: space("online/records")?,
            members: space("online/members")?,
            lists: space("online/lists")?,
            record_cache: cache(options.cache_bytes / 2),
            head_cache: cache(options.cache_bytes / 2),
            epoch: AtomicU64::new(embedded.epoch()),
            writer: Mutex::default(),
            embedded,
        };
        Ok(Arc::new(Self { shared: Arc::new(shared) }))
    }

    /// Forgets what is in memory. Only tests and benches need it: a reopened database is noticed.
    pub fn clear_cache(&self) {
        self.shared.clear_cache();
    }

    async fn blocking<T: Send + 'static>(&self, call: impl FnOnce(&Shared) -> Result<T> + Send + 'static) -> Result<T> {
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || call(&shared)).await;
        done.map_err(|e| Error::with_source(ErrorKind::Retry, "cannot finish a call on the online store", e))?
    }
}

#[async_trait]
impl OnlineStore for FjallOnlineStore {
    async fn write(&self, batch: Vec<OnlineWrite>) -> Result<()> {
        check_batch(&batch)?;
        self.blocking(move |shared| shared.write(&batch)).await
    }

    async fn get(&self, keys: &[RecordKey]) -> Result<Vec<Option<Bytes>>> {
        let (mut values, missing) = self.shared.cached_records(keys)?;
        let keys = missing.iter().map(|&i| keys[i].clone()).collect();
        let loaded = if missing.len() <= RECORDS_READ_INLINE {
            self.shared.load_records(keys)?
        } else {
            self.blocking(|shared| shared.load_records(keys)).await?
        };
        for (i, value) in missing.into_iter().zip(loaded) {
            values[i] = value;
        }
        Ok(values)
    }

    async fn heads(&self, lists: &[ListKey], limit: usize) -> Result<Vec<Vec<ListItem>>> {
        let (mut heads, missing) = self.shared.cached_heads(lists, limit);
        let lists = missing.iter().map(|&i| lists[i].clone()).collect();
        let loaded = if missing.len() <= LISTS_READ_INLINE {
            self.shared.load_heads(lists, limit)?
        } else {
            self.blocking(move |shared| shared.load_heads(lists, limit)).await?
        };
        for (i, head) in missing.into_iter().zip(loaded) {
            heads[i] = head;
        }
        Ok(heads)
    }

    async fn page(&self, list: &ListKey, after: Option<&ListItem>, limit: usize) -> Result<Vec<ListItem>> {
        let (list, after) = (list.clone(), after.cloned());
        self.blocking(move |shared| shared.page(&list, after.as_ref(), limit)).await
    }

    async fn scan(&self, after: Option<&Content>, limit: usize) -> Result<Vec<Content>> {
        let after = after.cloned();
        self.blocking(move |shared| shared.scan(after.as_ref(), limit)).await
    }
}

impl Shared {
    /// The values that are cached, and the places of the keys that are not.
    fn cached_records(&self, keys: &[RecordKey]) -> Result<(Vec<Option<Bytes>>, Vec<usize>)> {
        self.check_epoch();
        let mut values = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        let mut bytes = Vec::new();
        for (i, key) in keys.iter().enumerate() {
            record_key(&mut bytes, key);
            match self.record_cache.get(&bytes[..]) {
                Some(stored) => values.push(value_of(stored)?),
                None => {
                    values.push(None);
                    missing.push(i);
                }
            }
        }
        Ok((values, missing))
    }

    fn load_records(&self, keys: Vec<RecordKey>) -> Result<Vec<Option<Bytes>>> {
        let mut bytes = Vec::new();
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            record_key(&mut bytes, &key);
            values.push(if key.entity.len() > KEY_BYTES_MAX { None } else { value_of(self.load_record(&bytes)?)? });
        }
        Ok(values)
    }

    fn load_record(&self, key: &[u8]) -> Result<Bytes> {
        let read = || {
            let stored = self.records.get(key).map_err(read_failed)?;
            // A copy: what the database hands out may be a part of a larger block.
            Ok(stored.map_or_else(Bytes::new, |stored| Bytes::copy_from_slice(&stored)))
        };
        match self.record_cache.get_value_or_guard(key, Some(Duration::ZERO)) {
            GuardResult::Value(stored) => Ok(stored),
            // Somebody else is loading it, and will cache it.
            GuardResult::Timeout => read(),
            GuardResult::Guard(guard) => {
                let stored = read()?;
                if fits(&self.record_cache, key, &stored) {
                    // An error says that a write was quicker: then what was read must not be kept.
                    drop(guard.insert(stored.clone()));
                }
                Ok(stored)
            }
        }
    }

    /// The heads that are cached, and the places of the lists that are not.
    fn cached_heads(&self, lists: &[ListKey], limit: usize) -> (Vec<Vec<ListItem>>, Vec<usize>) {
        self.check_epoch();
        let mut heads = Vec::with_capacity(lists.len());
        let mut missing = Vec::new();
        let mut prefix = Vec::new();
        for (i, list) in lists.iter().enumerate() {
            list_prefix(&mut prefix, list);
            let limit = limit.min(bound_of(list.view));
            match self.head_cache.get(&prefix[..]) {
                Some(head) if head.has(limit) => heads.push(head.items(limit)),
                _ => {
                    heads.push(Vec::new());
                    missing.push(i);
                }
            }
        }
        (heads, missing)
    }

    fn load_heads(&self, lists: Vec<ListKey>, limit: usize) -> Result<Vec<Vec<ListItem>>> {
        lists.iter().map(|list| self.load_head(list, limit)).collect()
    }

    fn load_head(&self, list: &ListKey, limit: usize) -> Result<Vec<ListItem>> {
        let limit = limit.min(bound_of(list.view));
        if limit == 0 || list.entity.len() > KEY_BYTES_MAX {
            return Ok(Vec::new());
        }
        let mut prefix = Vec::new();
        list_prefix(&mut prefix, list);
        if limit > CACHED_HEAD_ITEMS {
            return Ok(self.read_head(&prefix, limit)?.items(limit));
        }
        // A head that is too short makes room for the guard, so that a write meanwhile is noticed.
        self.head_cache.remove_if(&prefix[..], |head| !head.has(limit));
        let head = match self.head_cache.get_value_or_guard(&prefix[..], Some(Duration::ZERO)) {
            GuardResult::Value(head) if head.has(limit) => head,
            GuardResult::Value(_) | GuardResult::Timeout => self.read_head(&prefix, limit)?,
            GuardResult::Guard(guard) => {
                let head = self.read_head(&prefix, limit)?;
                if fits(&self.head_cache, &prefix, &head) {
                    drop(guard.insert(head.clone()));
                }
                head
            }
        };
        Ok(head.items(limit))
    }

    fn read_head(&self, prefix: &[u8], limit: usize) -> Result<Head> {
        if bound_of(prefix[0]) != usize::MAX {
            return self.read_bounded(prefix, limit);
        }
        let pairs = self.lists.prefix(prefix, limit).map_err(read_failed)?;
        let items: Vec<_> = pairs.iter().map(|(key, _)| read_item(&key[prefix.len()..])).collect::<Result<_>>()?;
        Ok(Head::pack(items.into_iter(), limit))
    }

    /// The first items of a bounded list: on disk a member also stands where it stood before its score rose.
    fn read_bounded(&self, prefix: &[u8], limit: usize) -> Result<Head> {
        let mut items: Vec<(i64, Bytes)> = Vec::with_capacity(limit);
        let mut met = FxHashSet::default();
        let mut from = prefix.to_vec();
        let to = after_list(prefix);
        while items.len() < limit {
            // Most members stand once.
            let pairs = self.lists.range(Bound::Excluded(&from), Bound::Excluded(&to), limit).map_err(read_failed)?;
            for (key, _) in &pairs {
                let (score, member) = read_item(&key[prefix.len()..])?;
                let member = Bytes::copy_from_slice(member);
                if items.len() < limit && met.insert(member.clone()) {
                    items.push((score, member));
                }
            }
            match pairs.into_iter().next_back() {
                Some((last, _)) => from = last.to_vec(),
                None => break,
            }
        }
        Ok(Head::pack(items.iter().map(|(score, member)| (*score, &member[..])), limit))
    }

    fn page(&self, list: &ListKey, after: Option<&ListItem>, limit: usize) -> Result<Vec<ListItem>> {
        let bound = bound_of(list.view);
        let Some(after) = after else { return self.load_head(list, limit) };
        if bound != usize::MAX {
            let head = self.load_head(list, bound)?.into_iter();
            return Ok(head.filter(|item| item.rank(after).is_gt()).take(limit).collect());
        }
        if list.entity.len() > KEY_BYTES_MAX || after.member.len() > KEY_BYTES_MAX {
            return Ok(Vec::new());
        }
        let mut prefix = Vec::new();
        list_prefix(&mut prefix, list);
        let from = [&prefix[..], &descending(after.score), &after.member].concat();
        let to = after_list(&prefix);
        let pairs = self.lists.range(Bound::Excluded(&from), Bound::Excluded(&to), limit).map_err(read_failed)?;
        let items = pairs.iter().map(|(key, _)| {
            let (score, member) = read_item(&key[prefix.len()..])?;
            Ok(ListItem { score, member: Bytes::copy_from_slice(member) })
        });
        items.collect()
    }

    /// Clears the caches when the database was reopened since they were filled.
    fn check_epoch(&self) -> u64 {
        let epoch = self.embedded.epoch();
        if self.epoch.load(Ordering::Acquire) != epoch {
            self.clear_cache();
            self.epoch.store(epoch, Ordering::Release);
        }
        epoch
    }

    fn clear_cache(&self) {
        self.record_cache.clear();
        self.head_cache.clear();
    }

    fn writer(&self) -> MutexGuard<'_, Marks> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cache<V: Clone>(bytes: u64) -> ByteCache<V>
where
    Weight: Weighter<Vec<u8>, V>,
{
    let entries = usize::try_from(bytes / ENTRY_BYTES_TYPICAL).unwrap_or(usize::MAX);
    Cache::with(entries, bytes, Weight, Default::default(), DefaultLifecycle::default())
}

/// Caches a value after a write, in place of whatever is there or being loaded.
fn insert<V: Clone>(cache: &ByteCache<V>, key: &[u8], value: V)
where
    Weight: Weighter<Vec<u8>, V>,
{
    if fits(cache, key, &value) {
        cache.insert(key.to_vec(), value);
    } else {
        cache.remove(key);
    }
}

/// False for what would push most other entries out.
fn fits<V: Clone>(cache: &ByteCache<V>, key: &[u8], value: &V) -> bool
where
    Weight: Weighter<Vec<u8>, V>,
{
    // The key's own weight is small.
    Weight.weight(&Vec::new(), value) + key.len() as u64 <= cache.shard_capacity() / 2
}

/// The key of the newest version in a view. It is among the records so that it is written with them; no view is 0.
fn newest_key(view: u8) -> [u8; 2] {
    [0, view]
}

/// The score and the member in the key of an item, without its list's prefix.
fn read_item(item: &[u8]) -> Result<(i64, &[u8])> {
    let (score, member) = item.split_at_checked(8).ok_or_else(corrupt)?;
    Ok((read_descending(score).ok_or_else(corrupt)?, member))
}

fn read_member(stored: &[u8]) -> Result<(Version, Option<i64>)> {
    let (version, score) = read_header(stored).ok_or_else(corrupt)?;
    let score = score.map(|score| score.try_into().map(i64::from_be_bytes)).transpose().map_err(|_| corrupt())?;
    Ok((version, score))
}

/// The version of a cached or stored record; empty means that it is not there.
fn version_of(stored: &[u8]) -> Result<Option<Version>> {
    if stored.is_empty() {
        return Ok(None);
    }
    read_header(stored).map(|(version, _)| Some(version)).ok_or_else(corrupt)
}

fn value_of(stored: Bytes) -> Result<Option<Bytes>> {
    if stored.is_empty() {
        return Ok(None);
    }
    let (_, value) = read_header(&stored).ok_or_else(corrupt)?;
    Ok(value.is_some().then(|| stored.slice(HEADER_BYTES..)))
}

fn read_failed(cause: millrace_embedded::Error) -> Error {
    retry("read the online store", cause)
}

fn retry(attempted: &'static str, cause: millrace_embedded::Error) -> Error {
    Error::with_source(ErrorKind::Retry, format!("cannot {attempted}; it is tried again"), cause)
}

fn corrupt() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "cannot read the online store: a stored value is not one of ours; stop, delete the store and replay the log",
    )
}
