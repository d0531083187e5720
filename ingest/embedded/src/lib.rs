//! The embedded database: one fjall database on local disk, under the log, the job state and the online store.
//!
//! One database rather than one per seam, because one journal orders and syncs all three: a write that is synced makes
//! durable whatever was written before it, anywhere, so a group commit of the log also carries the online store, and a full
//! disk is met and left in one place. This is the only crate that names `fjall`.
//!
//! A fjall database that failed a write answers `Poisoned` from then on, even when the cause is gone. [`Embedded`]
//! therefore hands out no handles of fjall's: every call goes through it, and [`Embedded::reopen`] replaces the database
//! underneath while its users keep their [`Space`]s.
//!
//! It must never know what a key means.

mod error;
mod snapshot;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};

pub use error::{Error, ErrorKind};
pub use fjall::Slice;
pub use snapshot::Snapshot;

/// The result of every call here.
pub type Result<T> = std::result::Result<T, Error>;

/// A key and its value.
pub type Pair = (Slice, Slice);

/// Bounds of the database. The defaults are for a laptop.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for blocks read from disk, in bytes.
    pub cache_bytes: u64,
    /// How large all journals together may grow before the oldest keyspaces are flushed, in bytes; at least 64 MiB. It
    /// bounds the memory of unflushed writes and the time to start after a crash.
    pub journal_bytes_max: u64,
    /// How large the unflushed part of one keyspace may grow, in bytes.
    pub memtable_bytes_max: u64,
    /// Threads for flushing and compaction.
    pub worker_threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 32 * 1024 * 1024,
            journal_bytes_max: 64 * 1024 * 1024,
            memtable_bytes_max: 8 * 1024 * 1024,
            worker_threads: 2,
        }
    }
}

/// How sure a write must be before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In the journal, and durable with the next synced write or [`Embedded::sync`]. It may become durable sooner, by a
    /// flush of its space, *without* what other spaces wrote before it: never use it for a write that vouches for others.
    Ordered,
    /// On disk: survives power loss.
    Synced,
}

/// How many memtables of one space may wait for their flush; fjall itself stops writers at four.
const SEALED_MEMTABLES_MAX: usize = 3;

/// How long a write waits for flushes before it says that the disk does not take them.
const FLUSH_PATIENCE: Duration = Duration::from_secs(10);

/// How often a flush is asked after.
const FLUSH_POLL: Duration = Duration::from_millis(5);

/// The database. Share it in an [`Arc`].
pub struct Embedded {
    dir: PathBuf,
    options: Options,
    open: RwLock<Option<Database>>,
    /// Every space ever asked for: outlives a reopen, also one that failed half way.
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    failed: AtomicBool,
    epoch: AtomicU64,
}

/// Where a space's handle of fjall's stands while the database is open. Each use looks here, so that a reopen can take
/// every handle back; a lock of its own keeps readers of different spaces out of each other's way.
struct Slot {
    name: String,
    keyspace: RwLock<Option<Keyspace>>,
}

/// A named, ordered map of bytes inside the database. Cheap to clone; survives [`Embedded::reopen`].
#[derive(Clone)]
pub struct Space {
    embedded: Arc<Embedded>,
    slot: Arc<Slot>,
}

/// Writes that happen together or not at all, in order, over any spaces of one database.
#[derive(Default)]
pub struct Batch {
    writes: Vec<(Arc<Slot>, Slice, Option<Slice>)>,
}

impl Batch {
    /// Sets `key` in `space`.
    pub fn put(&mut self, space: &Space, key: impl Into<Slice>, value: impl Into<Slice>) {
        self.writes.push((space.slot.clone(), key.into(), Some(value.into())));
    }

    /// Deletes `key` from `space`.
    pub fn delete(&mut self, space: &Space, key: impl Into<Slice>) {
        self.writes.push((space.slot.clone(), key.into(), None));
    }

    /// How many writes it holds.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

impl Embedded {
    /// Opens the database in `dir`, creating it when it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] when another process has it open; [`ErrorKind::Io`] when the disk says no.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Arc<Self>> {
        let dir = dir.as_ref().to_path_buf();
        let open = open_database(&dir, &options)?;
        Ok(Arc::new(Self {
            dir,
            options,
            open: RwLock::new(Some(open)),
            slots: Mutex::default(),
            failed: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
        }))
    }

    /// The space with this name, made when it is not there.
    ///
    /// # Errors
    /// As of [`Embedded::open`].
    pub fn space(self: &Arc<Self>, name: &str) -> Result<Space> {
        let guard = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let db = guard.as_ref().ok_or_else(closed)?;
        let mut slots = self.slots();
        if let Some(slot) = slots.get(name) {
            return Ok(Space { embedded: self.clone(), slot: slot.clone() });
        }
        let keyspace = RwLock::new(Some(make_keyspace(db, name, &self.options)?));
        let slot = Arc::new(Slot { name: name.to_owned(), keyspace });
        slots.insert(name.to_owned(), slot.clone());
        Ok(Space { embedded: self.clone(), slot })
    }

    /// The names of all spaces on disk.
    ///
    /// # Errors
    /// When the database is closed.
    pub fn space_names(&self) -> Result<Vec<String>> {
        self.with_open(|db| Ok(db.list_keyspace_names().iter().map(ToString::to_string).collect()))
    }

    /// Drops a space whole, at once, whatever it holds. Using a [`Space`] of that name afterwards is an error.
    ///
    /// # Errors
    /// As of [`Embedded::write`].
    pub fn drop_space(&self, name: &str) -> Result<()> {
        let guard = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let db = guard.as_ref().ok_or_else(closed)?;
        let keyspace = match self.slots().remove(name) {
            Some(slot) => slot.keyspace.write().unwrap_or_else(PoisonError::into_inner).take(),
            None if db.keyspace_exists(name) => Some(make_keyspace(db, name, &self.options)?),
            None => None,
        };
        let dropped = keyspace.map_or(Ok(()), |keyspace| db.delete_keyspace(keyspace));
        drop(guard);
        dropped.map_err(|e| self.failure("drop a space", e))
    }

    /// Applies a batch.
    ///
    /// # Errors
    /// [`ErrorKind::Failed`] when a write failed, now or before: nothing more can be written until [`Embedded::reopen`].
    /// The batch may be there after reopening.
    pub fn write(&self, batch: Batch, durability: Durability) -> Result<()> {
        self.write_checked(batch, durability, None)
    }

    /// Applies a batch, if the database is still the one of `epoch`: for a writer whose batch only makes sense on top of
    /// what it wrote before.
    ///
    /// # Errors
    /// [`ErrorKind::Reopened`] when it is not; otherwise as of [`Embedded::write`].
    pub fn write_as_of(&self, epoch: u64, batch: Batch, durability: Durability) -> Result<()> {
        self.write_checked(batch, durability, Some(epoch))
    }

    fn write_checked(&self, mut batch: Batch, durability: Durability, epoch: Option<u64>) -> Result<()> {
        // In order of key each insert into a memtable starts where the last one ended, in memory that is still near.
        // Stable, so that of two writes to one key the later one stays the later one.
        batch.writes.sort_by(|(a, key_a, _), (b, key_b, _)| (Arc::as_ptr(a), key_a).cmp(&(Arc::as_ptr(b), key_b)));
        self.wait_for_flushes(&batch)?;
        let done = self.with_open(|db| {
            // Compared while the database cannot be replaced.
            if epoch.is_some_and(|epoch| epoch != self.epoch()) {
                return Err(Error::new(ErrorKind::Reopened, "the database was reopened after a failure"));
            }
            let durability = match durability {
                Durability::Ordered => None,
                Durability::Synced => Some(PersistMode::SyncData),
            };
            let mut writes = OwnedWriteBatch::with_capacity(db.clone(), batch.writes.len()).durability(durability);
            for (slot, key, value) in batch.writes {
                slot.with(|keyspace| {
                    match value {
                        Some(value) => writes.insert(keyspace, key, value),
                        None => writes.remove(keyspace, key),
                    }
                    Ok(())
                })?;
            }
            Ok(writes.commit())
        })?;
        done.map_err(|e| self.failure("write a batch", e))
    }

    /// Waits, within a bound, until the spaces of `batch` have few memtables that still wait for their flush.
    ///
    /// fjall waits for that itself, inside a commit and without a bound: when the disk is full and its flushing thread has
    /// given up, such a wait never ends, and a reopen would wait for it. So the wait happens here first, where it can fail.
    #[expect(clippy::disallowed_methods, reason = "fjall has no way to wait for a flush but to ask again")]
    fn wait_for_flushes(&self, batch: &Batch) -> Result<()> {
        let mut last: Option<&Arc<Slot>> = None;
        for (slot, ..) in &batch.writes {
            // Sorted, so the writes of a space stand together.
            if last.is_some_and(|last| Arc::ptr_eq(last, slot)) {
                continue;
            }
            last = Some(slot);
            let mut waited = Duration::ZERO;
            while slot.with(|keyspace| Ok(keyspace.sealed_memtable_count()))? >= SEALED_MEMTABLES_MAX {
                if waited >= FLUSH_PATIENCE {
                    self.failed.store(true, Ordering::Release);
                    let message = format!("space {} cannot be flushed: is the disk full?", slot.name);
                    return Err(Error::new(ErrorKind::Failed, message));
                }
                std::thread::sleep(FLUSH_POLL);
                waited += FLUSH_POLL;
            }
        }
        Ok(())
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// As of [`Embedded::write`].
    pub fn sync(&self) -> Result<()> {
        let done = self.with_open(|db| Ok(db.persist(PersistMode::SyncAll)))?;
        done.map_err(|e| self.failure("sync", e))
    }

    /// Writes what is only in memory and in the journal into tables, so that the next opening has no journal to replay.
    /// Waits for at most `within`; what is not written by then is replayed, and nothing is lost either way.
    ///
    /// # Errors
    /// As of [`Embedded::write`].
    #[expect(clippy::disallowed_methods, reason = "fjall has no way to wait for a flush but to ask again")]
    pub fn flush(&self, within: Duration) -> Result<()> {
        self.sync()?;
        let rotated = self.with_open(|_| {
            let rotate = |slot: &Arc<Slot>| slot.with(|keyspace| Ok(keyspace.rotate_memtable().map(|_| ())));
            self.slots().values().map(rotate).collect::<Result<fjall::Result<Vec<()>>>>()
        })?;
        rotated.map_err(|e| self.failure("flush", e))?;
        let mut waited = Duration::ZERO;
        while waited < within && self.with_open(|db| Ok(db.outstanding_flushes()))? > 0 {
            std::thread::sleep(FLUSH_POLL);
            waited += FLUSH_POLL;
        }
        Ok(())
    }

    /// True after a failed write: call [`Embedded::reopen`].
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// False after a [`Embedded::reopen`] that failed: nothing can be read until one succeeds.
    pub fn is_open(&self) -> bool {
        self.open.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Closes the database and opens it again from disk. Blocks until calls in progress are done.
    ///
    /// # Errors
    /// As of [`Embedded::open`]; the database then stays closed and `reopen` may be called again.
    pub fn reopen(&self) -> Result<()> {
        let mut guard = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // First of all, so that nothing that was read from here on passes for what was there before.
        self.epoch.fetch_add(1, Ordering::AcqRel);
        // The database must be gone before it is opened again: its lock file is held until the last handle drops.
        for slot in self.slots().values() {
            drop(slot.keyspace.write().unwrap_or_else(PoisonError::into_inner).take());
        }
        drop(guard.take());
        let db = open_database(&self.dir, &self.options)?;
        for slot in self.slots().values() {
            let keyspace = make_keyspace(&db, &slot.name, &self.options)?;
            *slot.keyspace.write().unwrap_or_else(PoisonError::into_inner) = Some(keyspace);
        }
        *guard = Some(db);
        self.failed.store(false, Ordering::Release);
        Ok(())
    }

    /// Rises with every [`Embedded::reopen`]: what was written without [`Durability::Synced`] before may be gone after.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The folder it lives in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_open<T>(&self, call: impl FnOnce(&Database) -> Result<T>) -> Result<T> {
        let guard = self.open.read().unwrap_or_else(PoisonError::into_inner);
        call(guard.as_ref().ok_or_else(closed)?)
    }

    fn failure(&self, attempted: &'static str, cause: fjall::Error) -> Error {
        self.failed.store(true, Ordering::Release);
        Error::with_source(ErrorKind::Failed, format!("cannot {attempted} in {}", self.dir.display()), cause)
    }
}

impl Space {
    /// The value of `key`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the disk says no.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.with_keyspace(|keyspace| keyspace.get(key).map_err(|e| self.read_error(e)))
    }

    /// Up to `limit` pairs of the range, in order of key.
    ///
    /// # Errors
    /// As of [`Space::get`].
    pub fn range(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Pair>> {
        self.with_keyspace(|keyspace| {
            let found = keyspace.range::<&[u8], _>((from, to)).take(limit);
            found.map(|guard| guard.into_inner().map_err(|e| self.read_error(e))).collect()
        })
    }

    /// Up to `limit` keys of the range, in order.
    ///
    /// # Errors
    /// As of [`Space::get`].
    pub fn keys(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Slice>> {
        self.with_keyspace(|keyspace| {
            let found = keyspace.range::<&[u8], _>((from, to)).take(limit);
            found.map(|guard| guard.key().map_err(|e| self.read_error(e))).collect()
        })
    }

    /// Up to `limit` pairs of the range, from its end backwards.
    ///
    /// # Errors
    /// As of [`Space::get`].
    pub fn range_back(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Pair>> {
        self.with_keyspace(|keyspace| {
            let found = keyspace.range::<&[u8], _>((from, to)).rev().take(limit);
            found.map(|guard| guard.into_inner().map_err(|e| self.read_error(e))).collect()
        })
    }

    /// Up to `limit` pairs whose key starts with `prefix`, in order.
    ///
    /// # Errors
    /// As of [`Space::get`].
    pub fn prefix(&self, prefix: &[u8], limit: usize) -> Result<Vec<Pair>> {
        self.with_keyspace(|keyspace| {
            let found = keyspace.prefix(prefix).take(limit);
            found.map(|guard| guard.into_inner().map_err(|e| self.read_error(e))).collect()
        })
    }

    /// The database it belongs to.
    pub fn embedded(&self) -> &Arc<Embedded> {
        &self.embedded
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.slot.name
    }

    fn with_keyspace<T>(&self, call: impl FnOnce(&Keyspace) -> Result<T>) -> Result<T> {
        self.slot.with(call)
    }

    fn read_error(&self, cause: fjall::Error) -> Error {
        Error::with_source(ErrorKind::Io, format!("cannot read space {}", self.slot.name), cause)
    }
}

impl Slot {
    fn with<T>(&self, call: impl FnOnce(&Keyspace) -> Result<T>) -> Result<T> {
        let keyspace = self.keyspace.read().unwrap_or_else(PoisonError::into_inner);
        call(keyspace.as_ref().ok_or_else(|| no_space(&self.name))?)
    }
}

fn open_database(dir: &Path, options: &Options) -> Result<Database> {
    let opened = Database::builder(dir)
        .cache_size(options.cache_bytes)
        .max_journaling_size(options.journal_bytes_max.max(64 * 1024 * 1024))
        .worker_threads(options.worker_threads.max(1))
        // Values in the journal are read once, after a crash; compressing each write would cost more than it saves.
        .journal_compression(fjall::CompressionType::None)
        // Batches say themselves when they must be on disk.
        .manual_journal_persist(true)
        .open();
    opened.map_err(|e| match e {
        fjall::Error::Locked => Error::with_source(
            ErrorKind::Locked,
            format!(
                "cannot open {}: another process has it open; stop it, or use another data directory",
                dir.display()
            ),
            e,
        ),
        e => Error::with_source(ErrorKind::Io, format!("cannot open the database in {}", dir.display()), e),
    })
}

fn make_keyspace(db: &Database, name: &str, options: &Options) -> Result<Keyspace> {
    let tuning =
        || KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes_max).manual_journal_persist(true);
    db.keyspace(name, tuning).map_err(|e| Error::with_source(ErrorKind::Io, format!("cannot open space {name}"), e))
}

fn closed() -> Error {
    Error::new(ErrorKind::Failed, "the database is closed after a failure; it is reopened as soon as the disk allows")
}

fn no_space(name: &str) -> Error {
    Error::new(ErrorKind::Failed, format!("space {name} is closed: it was dropped, or the database is being reopened"))
}

#[cfg(test)]
mod tests;
