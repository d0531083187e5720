//! A table, and what is known of it in memory.

use std::collections::{BTreeMap, HashSet};
use std::error::Error as StdError;
use std::fmt;
use std::fs::File;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::{Action, Metadata, MetadataExt, StructType, new_metadata};
use deltalake_core::{DeltaTableBuilder, DeltaTableError};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt};
use millrace_objects::Target;
use millrace_warehouse::tables::DATE_COLUMN;
use millrace_warehouse::{Error, ErrorKind, Offset, Result, Source, Table};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use url::Url;

use crate::files::{ActiveFile, Files, parse_date, parse_stats};
use crate::log::{self, LOG_DIR};
use crate::maintain::Rounds;
use crate::remote::Remote;
use crate::store::{self, DurableStore};

/// The file whose lock says that a process writes here.
const LOCK_FILE: &str = ".lock";

/// When others have added more entries than this, the table is read anew: it has checkpoints.
const FOLLOW_MAX: usize = 200;
/// How many entries are fetched at one time.
const FETCHES: usize = 8;
/// How often an entry is put again after others were faster. Each time one of them got on.
const TURNS_MAX: u32 = 32;

/// The tables of a directory, or of an object store.
pub(crate) struct Tables {
    store: Arc<dyn ObjectStore>,
    tables: Vec<Arc<DeltaTable>>,
    /// One round of maintenance at a time.
    pub(crate) rounds: tokio::sync::Mutex<Rounds>,
}

impl Tables {
    pub(crate) async fn open(dir: &FsPath, retention: Duration) -> Result<Self> {
        let dir = dir.to_owned();
        let (dir, lock, store) = blocking(move || prepare(&dir)).await?;
        Self::at(Arc::new(store), Home::Dir { dir, _lock: lock }, retention).await
    }

    pub(crate) async fn open_shared(target: Target, retention: Duration) -> Result<Self> {
        let prefix = Path::parse(target.prefix.as_ref()).map_err(|e| {
            Error::with_source(ErrorKind::Invalid, format!("cannot use the prefix of {}", target.name), e)
        })?;
        let store = PrefixStore::new(Remote(target.store), prefix);
        Self::at(Arc::new(store), Home::Shared { name: target.name }, retention).await
    }

    async fn at(store: Arc<dyn ObjectStore>, home: Home, retention: Duration) -> Result<Self> {
        let opened = Table::ALL.map(|table| {
            let (store, home) = (store.clone(), home.clone());
            async move { DeltaTable::open(table, store, home, retention).await.map(Arc::new) }
        });
        let tables = try_join_all(opened).await?;
        Ok(Self { store, tables, rounds: tokio::sync::Mutex::default() })
    }

    /// Reads what others have written since; nothing where nobody else writes.
    pub(crate) async fn follow(&self) -> Result<()> {
        try_join_all(self.tables.iter().map(|table| table.follow())).await.map(drop)
    }

    /// The object store that holds them; its root is the directory of the warehouse.
    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }

    /// One of them.
    pub(crate) fn get(&self, table: Table) -> &Arc<DeltaTable> {
        self.tables.iter().find(|held| held.table == table).expect("all of Table::ALL were opened")
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Arc<DeltaTable>] {
        &self.tables
    }
}

/// Where tables stand, and who writes there.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// A directory of this process alone: what it remembers is what is there.
    Dir {
        dir: PathBuf,
        /// Held while this process may write here; the system gives it up when the process dies.
        _lock: Arc<File>,
    },
    /// An object store where others write too.
    Shared { name: String },
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir { dir, .. } => fmt::Display::fmt(&dir.display(), f),
            Self::Shared { name } => f.write_str(name),
        }
    }
}

/// One table. Its log is read when it is opened; from then on it follows its own entries, and where others write too, theirs.
pub(crate) struct DeltaTable {
    pub(crate) table: Table,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Where it stands in the store.
    pub(crate) root: Path,
    pub(crate) retention: Duration,
    home: Home,
    writer: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

/// What a table holds at one version.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) version: u64,
    pub(crate) positions: BTreeMap<Source, Offset>,
    pub(crate) files: BTreeMap<String, Arc<ActiveFile>>,
    /// What the store holds beside them, by path.
    pub(crate) garbage: BTreeMap<String, Garbage>,
    /// The version that the newest checkpoint sums up.
    pub(crate) checkpoint: Option<u64>,
    /// The same as `files`, until they change.
    listed: Option<Files>,
    /// Whether the last entry was taken is unknown; the log must be read before another one.
    doubtful: bool,
}

/// A file of which no entry, or no longer one, says that it belongs to the table.
#[derive(Clone, Debug)]
pub(crate) struct Garbage {
    pub(crate) location: Path,
    /// Since when, milliseconds since 1970.
    pub(crate) since_ms: i64,
    /// Held by queries that began before.
    pub(crate) file: Option<Arc<ActiveFile>>,
    /// No entry ever named it, as far as is known: it was left behind, or somebody is about to name it.
    pub(crate) unnamed: bool,
}

/// The right to add an entry to a table's log.
pub(crate) struct Writer<'a> {
    table: &'a DeltaTable,
    _turn: tokio::sync::MutexGuard<'a, ()>,
}

/// What an entry changes.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) positions: BTreeMap<Source, Offset>,
    pub(crate) added: Vec<Arc<ActiveFile>>,
    /// By their paths.
    pub(crate) removed: Vec<String>,
}

/// What the log says of a data file.
struct Logged {
    path: String,
    size: i64,
    written_ms: i64,
    date: Option<String>,
    stats: Option<String>,
}

impl DeltaTable {
    async fn open(table: Table, store: Arc<dyn ObjectStore>, home: Home, retention: Duration) -> Result<Self> {
        let opened = Self {
            table,
            store,
            root: Path::from(table.name()),
            retention,
            home,
            writer: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        };
        opened.create().await?;
        let (state, metadata) = opened.load().await?;
        *opened.lock() = state;
        opened.keep_retention(metadata).await?;
        Ok(opened)
    }

    /// True where others write too.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.home, Home::Shared { .. })
    }

    /// Checkpoints forget replaced files after what the table says, so it must say what this process does.
    async fn keep_retention(&self, found: Metadata) -> Result<()> {
        let mut metadata = found.clone();
        for (name, value) in self.settings() {
            if metadata.configuration().get(name) != Some(&value) {
                metadata = metadata.add_config_key(name.to_owned(), value).map_err(|e| self.unreadable(e.into()))?;
            }
        }
        if metadata == found {
            return Ok(());
        }
        let info = log::commit_info("SET TBLPROPERTIES", now_ms());
        self.writer().await?.add(&[info, Action::Metadata(metadata)], Change::default(), |_| Ok(())).await
    }

    fn settings(&self) -> [(&'static str, String); 2] {
        let interval = format!("interval {} seconds", self.retention.as_secs());
        ["delta.deletedFileRetentionDuration", "delta.logRetentionDuration"].map(|name| (name, interval.clone()))
    }

    /// Its files now.
    pub(crate) fn files(&self) -> Files {
        let mut state = self.lock();
        if let Some(files) = &state.listed {
            return files.clone();
        }
        let files: Files = Arc::new(state.files.values().cloned().collect());
        state.listed = Some(files.clone());
        files
    }

    /// Where its sources stand.
    pub(crate) async fn recorded(&self) -> Result<BTreeMap<Source, Offset>> {
        if self.is_shared() {
            self.follow().await?;
        } else if self.lock().doubtful {
            drop(self.writer().await?);
        }
        Ok(self.lock().positions.clone())
    }

    /// Waits for the right to add an entry. Afterwards memory says what the log says, but for what others add meanwhile.
    pub(crate) async fn writer(&self) -> Result<Writer<'_>> {
        let turn = self.writer.lock().await;
        if self.lock().doubtful {
            self.reload().await?;
        }
        Ok(Writer { table: self, _turn: turn })
    }

    /// Reads what others have added to the log since; nothing where nobody else writes.
    pub(crate) async fn follow(&self) -> Result<()> {
        if !self.is_shared() {
            return Ok(());
        }
        let known = self.lock().version;
        let added = log::entries_after(&*self.store, &self.root, known).await;
        let added = added.map_err(|e| self.error("list the log of", e))?;
        // Entries that a checkpoint sums up are deleted one day: who slept that long begins anew.
        if added.len() > FOLLOW_MAX || added.iter().map(|(version, _)| *version).ne((known + 1..).take(added.len())) {
            return self.reload().await;
        }
        let fetched = futures::stream::iter(added.into_iter().map(|(version, path)| async move {
            Ok::<_, object_store::Error>((version, self.store.get(&path).await?.bytes().await?))
        }));
        let entries: Vec<_> =
            fetched.buffered(FETCHES).try_collect().await.map_err(|e| self.error("read the log of", e))?;
        for (version, entry) in entries {
            let actions = log::actions(version, &entry).map_err(|e| self.unreadable(e))?;
            let Some(change) = self.change(actions)? else { return self.reload().await };
            let mut state = self.lock();
            // This process has added entries, or followed them, meanwhile.
            if version == state.version + 1 {
                state.apply(version, change);
            }
        }
        Ok(())
    }

    /// What an entry changes; `None` when it is not one of those that are written here.
    fn change(&self, actions: Vec<Action>) -> Result<Option<Change>> {
        let (mut change, mut is_ours) = (Change::default(), false);
        for action in actions {
            match action {
                Action::CommitInfo(info) => is_ours = log::is_ours(&info),
                Action::Add(add) => {
                    let date = add.partition_values.get(DATE_COLUMN).cloned().flatten();
                    let (size, written_ms) = (add.size, add.modification_time);
                    let file = Logged { path: add.path, size, written_ms, date, stats: add.stats };
                    change.added.push(Arc::new(self.active_file(file)?));
                }
                Action::Remove(remove) => change.removed.push(remove.path),
                Action::Txn(txn) => log::stands(&txn.app_id, txn.version, &mut change.positions),
                _ => return Ok(None),
            }
        }
        Ok(is_ours.then_some(change))
    }

    /// Reads the whole log.
    async fn reload(&self) -> Result<()> {
        let (mut fresh, _) = self.load().await?;
        let mut state = self.lock();
        if fresh.version >= state.version {
            fresh.keep_held(&state);
            *state = fresh;
        }
        Ok(())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table as deltalake sees it, read from the log. It gets the store and URLs within it: with `file` in them it looks
    /// for itself whether the directory is there, and mistakes one with `%20` in its name. `memory` stands for any store.
    pub(crate) async fn open_delta(&self) -> std::result::Result<deltalake_core::DeltaTable, DeltaTableError> {
        let url = |path: &str| {
            Url::parse(&format!("memory:///{path}")).map_err(|e| DeltaTableError::InvalidTableLocation(e.to_string()))
        };
        let (root, table) = (url("")?, url(&format!("{}/", self.table))?);
        let builder = DeltaTableBuilder::from_url(table)?;
        builder.with_storage_backend(self.store.clone(), root).load().await
    }

    /// Writes the first entry, unless there is one.
    async fn create(&self) -> Result<()> {
        let first = log::entry_path(&self.root, 0);
        let last = self.root.clone().join(LOG_DIR).join("_last_checkpoint");
        for entry in [&first, &last] {
            match self.store.head(entry).await {
                Ok(_) => return Ok(()),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(self.error("look for", e)),
            }
        }
        let entry = self.first_entry().map_err(|e| self.error("create", e))?;
        match self.store.put_opts(&first, entry.into(), PutMode::Create.into()).await {
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(e) => Err(self.error("create", e)),
        }
    }

    /// No feature beyond what every reader of Delta tables has had from the beginning.
    fn first_entry(&self) -> std::result::Result<bytes::Bytes, DeltaTableError> {
        let schema: StructType = self.table.schema().as_ref().try_into_kernel()?;
        let protocol = serde_json::from_value(serde_json::json!({ "minReaderVersion": 1, "minWriterVersion": 2 }))?;
        let metadata = new_metadata(&schema, [DATE_COLUMN], self.settings())?;
        let info = log::commit_info("CREATE TABLE", now_ms());
        log::entry(&[info, Action::Protocol(protocol), Action::Metadata(metadata)])
    }

    /// What the log adds up to, and what it says of the table.
    async fn load(&self) -> Result<(State, Metadata)> {
        let delta = self.open_delta().await.map_err(|e| self.unreadable(e))?;
        let snapshot = delta.snapshot().map_err(|e| self.unreadable(e))?;
        self.check_columns(&snapshot.snapshot().arrow_schema())?;
        if let Home::Dir { dir, .. } = &self.home {
            let log_dir = dir.join(self.table.name()).join(LOG_DIR);
            blocking(move || store::sync_dir(&log_dir).map_err(|e| disk("sync", &log_dir, e))).await?;
        }
        let mut state = State { version: snapshot.version(), ..State::default() };
        let replayed = log::positions(&*self.store, &self.root, state.version).await.map_err(|e| self.unreadable(e))?;
        (state.positions, state.checkpoint) = replayed;
        for view in snapshot.log_data().iter() {
            let file = self.active_file(Logged {
                path: view.path().into_owned(),
                size: view.size(),
                written_ms: view.modification_time(),
                date: view.partition_values_map().get(DATE_COLUMN).cloned().flatten(),
                stats: view.stats(),
            })?;
            state.files.insert(file.path.clone(), Arc::new(file));
        }
        let log_store = delta.log_store();
        let mut removed = snapshot.all_tombstones(&*log_store);
        while let Some(tombstone) = removed.try_next().await.map_err(|e| self.unreadable(e))? {
            let path = tombstone.path().into_owned();
            let since_ms = tombstone.deletion_timestamp().unwrap_or_default();
            let garbage = Garbage { location: self.locate(&path), since_ms, file: None, unnamed: false };
            state.garbage.insert(path, garbage);
        }
        self.find_garbage(&mut state).await?;
        Ok((state, snapshot.metadata().clone()))
    }

    /// What stands in the directory is the table's, or was once, or is what an entry that never came would have named.
    async fn find_garbage(&self, state: &mut State) -> Result<()> {
        let mut listed = self.store.list(Some(&self.root));
        let mut found = HashSet::new();
        while let Some(object) = listed.try_next().await.map_err(|e| self.error("list", e))? {
            let path: Vec<_> = object.location.prefix_match(&self.root).into_iter().flatten().collect();
            let path = path.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("/");
            if !path.ends_with(".parquet") || path.starts_with(LOG_DIR) || state.files.contains_key(&path) {
                continue;
            }
            let since_ms = object.last_modified.timestamp_millis();
            let garbage = Garbage { location: object.location, since_ms, file: None, unnamed: true };
            state.garbage.entry(path.clone()).or_insert(garbage);
            found.insert(path);
        }
        state.garbage.retain(|path, _| found.contains(path));
        Ok(())
    }

    fn active_file(&self, logged: Logged) -> Result<ActiveFile> {
        let path = logged.path;
        let corrupt = |what: &str| self.corrupt(format!("the log says no {what} of {path}"));
        let stats = logged.stats.ok_or_else(|| corrupt("statistics"))?;
        let (rows, columns) = parse_stats(self.table, &stats).ok_or_else(|| corrupt("number of rows"))?;
        Ok(ActiveFile {
            location: self.locate(&path),
            size: u64::try_from(logged.size).map_err(|_| corrupt("size"))?,
            date: logged.date.as_deref().and_then(parse_date).ok_or_else(|| corrupt("date"))?,
            rows,
            written_ms: logged.written_ms,
            columns,
            path,
        })
    }

    fn locate(&self, path: &str) -> Path {
        path.split('/').fold(self.root.clone(), |location, part| location.join(part))
    }

    fn check_columns(&self, found: &arrow::datatypes::Schema) -> Result<()> {
        let expected = self.table.schema();
        let same =
            found.fields().len() == expected.fields().len()
                && found.fields().iter().zip(expected.fields()).all(|(found, expected)| {
                    found.name() == expected.name() && found.data_type() == expected.data_type()
                });
        if same {
            return Ok(());
        }
        Err(self.corrupt("it has other columns: move it away, and it is built again from the log".to_owned()))
    }

    /// Where others write too, one of them deletes what nobody named within the retention: files that waited long for their
    /// entry may be gone. Whoever deletes adds an entry first, so this is asked anew by everybody who was about to.
    fn check_age(&self, change: &Change) -> Result<()> {
        let oldest = change.added.iter().map(|file| file.written_ms).min();
        let age_ms = oldest.map_or(0, |written_ms| now_ms().saturating_sub(written_ms));
        if self.is_shared() && u128::try_from(age_ms).unwrap_or(0) > self.retention.as_millis() / 2 {
            let message = format!("a commit to the table {} took too long: it begins again", self.table);
            return Err(Error::new(ErrorKind::Retry, message));
        }
        Ok(())
    }

    fn corrupt(&self, what: String) -> Error {
        Error::new(ErrorKind::Corrupt, format!("cannot use the table {} in {}: {what}", self.table, self.home))
    }

    fn unreadable(&self, error: DeltaTableError) -> Error {
        let kind = if is_of_disk(&error) { ErrorKind::Retry } else { ErrorKind::Corrupt };
        Error::with_source(kind, format!("cannot read the table {} in {}", self.table, self.home), error)
    }

    pub(crate) fn error(&self, what: &str, error: impl StdError + Send + Sync + 'static) -> Error {
        Error::with_source(ErrorKind::Retry, format!("cannot {what} the table {}", self.table), error)
    }
}

impl Writer<'_> {
    /// Adds an entry, if `still` has nothing against it: where others write too it is asked again after each of theirs. After
    /// an error it is unknown whether the entry was taken, and the next writer reads the log first.
    pub(crate) async fn add(
        &self,
        actions: &[Action],
        change: Change,
        still: impl Fn(&State) -> Result<()>,
    ) -> Result<()> {
        let table = self.table;
        let entry = log::entry(actions).map_err(|e| table.error("write to", e))?;
        for _ in 0..TURNS_MAX {
            let version = {
                let mut state = table.lock();
                still(&state)?;
                // Doubtful until answered: whoever drops this future leaves the question open.
                state.doubtful = !table.is_shared();
                state.version + 1
            };
            table.check_age(&change)?;
            let path = log::entry_path(&table.root, version);
            match table.store.put_opts(&path, entry.clone().into(), PutMode::Create.into()).await {
                Ok(_) => {
                    let mut state = table.lock();
                    // Whoever follows the log may have met it already.
                    if state.version < version {
                        state.apply(version, change);
                    }
                    return Ok(());
                }
                Err(object_store::Error::AlreadyExists { .. }) if table.is_shared() => {
                    let there = async { table.store.get(&path).await?.bytes().await }.await;
                    table.follow().await?;
                    // An answer was lost on the way, and the client asked again.
                    if there.map_err(|e| table.error("read the log of", e))? == entry {
                        return Ok(());
                    }
                }
                Err(e @ object_store::Error::AlreadyExists { .. }) => {
                    let message = format!("somebody else wrote version {version} of the table {}", table.table);
                    return Err(Error::with_source(ErrorKind::Conflict, message, e));
                }
                Err(e) => return Err(table.error("write to", e)),
            }
        }
        let message = format!("others write to the table {} all the time: try again", table.table);
        Err(Error::new(ErrorKind::Retry, message))
    }
}

impl State {
    fn apply(&mut self, version: u64, change: Change) {
        let since_ms = now_ms();
        self.version = version;
        self.doubtful = false;
        self.positions.extend(change.positions);
        if !change.added.is_empty() || !change.removed.is_empty() {
            self.listed = None;
        }
        for file in change.removed.iter().filter_map(|path| self.files.remove(path)) {
            let garbage =
                Garbage { location: file.location.clone(), since_ms, file: Some(file.clone()), unnamed: false };
            self.garbage.insert(file.path.clone(), garbage);
        }
        for file in change.added {
            self.garbage.remove(&file.path);
            self.files.insert(file.path.clone(), file);
        }
    }

    /// Takes over from what was known before what queries may hold.
    fn keep_held(&mut self, before: &State) {
        for (path, file) in &mut self.files {
            if let Some(held) = before.files.get(path) {
                *file = held.clone();
            }
        }
        for (path, garbage) in &mut self.garbage {
            let replaced = before.garbage.get(path).and_then(|garbage| garbage.file.clone());
            garbage.file = before.files.get(path).cloned().or(replaced);
        }
    }
}

/// Creates the directory, locks it and deletes what interrupted writes left.
fn prepare(dir: &FsPath) -> Result<(PathBuf, Arc<File>, DurableStore)> {
    let dir = std::path::absolute(dir).map_err(|e| disk("find", dir, e))?;
    store::create_dirs(&dir).map_err(|e| disk("create", &dir, e))?;
    let path = dir.join(LOCK_FILE);
    let lock = File::options().create(true).write(true).truncate(false).open(&path);
    let lock = lock.map_err(|e| disk("open", &path, e))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let message = format!("another process has the warehouse in {} open: stop it first", dir.display());
            return Err(Error::new(ErrorKind::Busy, message));
        }
        Err(std::fs::TryLockError::Error(e)) => return Err(disk("lock", &path, e)),
    }
    DurableStore::clean(&dir).map_err(|e| disk("clean", &dir, e))?;
    let store = DurableStore::new(&dir)
        .map_err(|e| Error::with_source(ErrorKind::Retry, format!("cannot find {}", dir.display()), e))?;
    Ok((dir, Arc::new(lock), store))
}

/// True when somewhere below an error is one of the disk, so that the next try may succeed.
fn is_of_disk(error: &(dyn StdError + 'static)) -> bool {
    let of_disk = error.is::<std::io::Error>() || error.is::<object_store::Error>();
    of_disk || error.source().is_some_and(is_of_disk)
}

fn disk(what: &str, path: &FsPath, error: std::io::Error) -> Error {
    Error::with_source(ErrorKind::Retry, format!("cannot {what} {}", path.display()), error)
}

/// Runs what blocks or computes for long where it holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::with_source(ErrorKind::Retry, "interrupted work of the warehouse", e))?
}

/// Milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "files are as old as the file system's clock says, and that is the wall")]
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
