use std::collections::HashMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_events::TopicPartition;
use millrace_objects::Target;
use millrace_pipelines::Error as StateError;
use millrace_pipelines::state::{OFFSET_KEY, PartitionState, StateStore};
use slatedb::admin::AdminBuilder;
use slatedb::config::{DbReaderOptions, DurabilityLevel, ReadOptions, ScanOptions};
use slatedb::object_store::ObjectStore;
use slatedb::object_store::path::Path;
use slatedb::{CloseReason, Db, DbIterator, DbReader, DbReaderMode, ErrorKind};

use crate::bridge::{Bridge, Late};
use crate::cache::BlockCache;
use crate::gate::Gate;
use crate::marker;
use crate::partition::{Opened, SlatePartition, read_offset};
use crate::{Error, FORMAT, Result, SlateOptions};

/// How many pairs' bytes a scan fetches ahead.
const SCAN_AHEAD_BYTES: usize = 256 * 1024;

/// How often a look from outside begins again because an object that it names was removed meanwhile.
const PEEK_TURNS_MAX: u32 = 3;

/// Longer than any reader lives: each look makes its own.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// State in an object store, each partition in a SlateDB of its own. Any number of processes may have the same one open; the
/// newest opening of a partition owns it.
///
/// Below `<prefix>/state/<generation>` are the objects `format` and `log-name`, and the databases by topic and partition.
pub struct SlateStateStore {
    pub(crate) shared: Arc<Shared>,
}

/// What the partitions of a store have in common.
pub(crate) struct Shared {
    pub(crate) bridge: Bridge,
    pub(crate) options: SlateOptions,
    cache: Arc<BlockCache>,
    store: Arc<dyn ObjectStore>,
    name: String,
    at: Path,
    conditional: bool,
    /// What this process opened last, of each partition, while somebody has it.
    opened: Mutex<HashMap<TopicPartition, Weak<Opened>>>,
}

impl SlateStateStore {
    /// Opens the state at a URL, beginning it where there is none:
    /// `s3://bucket/prefix[?endpoint=…&region=…&allow_http=true]`, with keys from the standard `AWS_*` variables or from the
    /// user part, or `file:///folder` for one process.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] when the URL is none of these, [`crate::ErrorKind::Refused`] when a newer version made
    /// what is there, [`crate::ErrorKind::Retry`] when the object store cannot be read or written now.
    pub async fn open(url: &str, options: SlateOptions) -> Result<Self> {
        Self::begin(Target::parse(url)?, options).await
    }

    /// Opens the state below `prefix` of an object store at hand, which must be able to put an object only if it is not
    /// there, or only if it is still the same.
    ///
    /// # Errors
    /// As of [`SlateStateStore::open`].
    pub async fn on(store: Arc<dyn ObjectStore>, prefix: &str, options: SlateOptions) -> Result<Self> {
        let prefix =
            Path::parse(prefix).map_err(|error| Error::invalid(format!("`{prefix}` is no prefix: {error}")))?;
        let name = format!("{store}/{prefix}");
        Self::begin(Target { store, prefix, conditional: true, name }, options).await
    }

    async fn begin(target: Target, options: SlateOptions) -> Result<Self> {
        options.check()?;
        let bridge = Bridge::new(options.threads)
            .map_err(|error| Error::retry("cannot start threads for the job state", error))?;
        let at = target.prefix.join("state").join(options.generation.to_string());
        let shared = Shared {
            bridge,
            cache: Arc::new(BlockCache::new(options.cache_bytes_max)),
            store: target.store,
            name: target.name,
            at,
            conditional: target.conditional,
            opened: Mutex::default(),
            options,
        };
        let this = Self { shared: Arc::new(shared) };
        let shared = this.shared.clone();
        this.on_its_threads(async move { marker::check_format(&shared.store, &shared.at, FORMAT).await }).await?;
        Ok(this)
    }

    /// Makes sure that the state follows the log of this name: an offset of one log means nothing in another. The first to
    /// ask decides.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Refused`] when it follows another one, [`crate::ErrorKind::Retry`] when that cannot be found out
    /// now.
    pub async fn follow(&self, log: &str) -> Result<()> {
        let (shared, log) = (self.shared.clone(), log.to_owned());
        self.on_its_threads(async move { marker::follow(&shared.store, &shared.at, &log).await }).await
    }

    async fn on_its_threads<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let within = self.shared.options.open_timeout;
        let asked = async move { tokio::time::timeout(within, work).await };
        match self.shared.bridge.run(asked).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(Error::retry(format!("cannot use the job state at {}", self.shared.name), Late(within))),
            Err(ended) => Err(Error::retry(format!("cannot use the job state at {}", self.shared.name), ended)),
        }
    }
}

impl fmt::Debug for SlateStateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlateStateStore").field("at", &self.shared.name).finish_non_exhaustive()
    }
}

impl fmt::Display for SlateStateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.name.fmt(f)
    }
}

#[async_trait]
impl StateStore for SlateStateStore {
    async fn open(&self, of: TopicPartition) -> millrace_pipelines::Result<Box<dyn PartitionState>> {
        let gate = Gate::new(self.shared.store.clone());
        let opening = Opening { gate: gate.clone(), done: false };
        let work = open_partition(self.shared.clone(), gate, of);
        let (opened, offset) = self.shared.within("open", of, work).await?;
        opening.succeeded();
        self.shared.lock().insert(of, Arc::downgrade(&opened));
        Ok(Box::new(SlatePartition::new(self.shared.clone(), opened, of, offset)))
    }

    async fn peek(
        &self,
        of: TopicPartition,
        after: &[u8],
        limit: usize,
    ) -> millrace_pipelines::Result<Vec<(Bytes, Bytes)>> {
        let (shared, after) = (self.shared.clone(), Bytes::copy_from_slice(after.max(OFFSET_KEY)));
        self.shared.within("look at", of, async move { peek(&shared, of, after, limit).await }).await
    }
}

/// Shuts the gate of an opening that nobody waited for, or that failed, so that nothing of it stays.
struct Opening {
    gate: Gate,
    done: bool,
}

impl Opening {
    fn succeeded(mut self) {
        self.done = true;
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.done {
            self.gate.shut();
        }
    }
}

impl Shared {
    /// Runs on the threads of the store, and no longer than opening may take.
    pub(crate) async fn within<T: Send + 'static>(
        &self,
        attempted: &'static str,
        of: TopicPartition,
        work: impl Future<Output = millrace_pipelines::Result<T>> + Send + 'static,
    ) -> millrace_pipelines::Result<T> {
        let within = self.options.open_timeout;
        match self.bridge.run(async move { tokio::time::timeout(within, work).await }).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(failed(attempted, of, Late(within))),
            Err(ended) => Err(failed(attempted, of, ended)),
        }
    }

    /// Where the database of a partition is.
    fn path(&self, of: TopicPartition) -> Path {
        self.at.clone().join(of.topic.as_str()).join(of.partition.to_string())
    }

    /// What its entries in the cache have in common: names of tables are unique in one database only.
    fn cache_scope(of: TopicPartition) -> u64 {
        (of.topic as u64) << 32 | u64::from(of.partition)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TopicPartition, Weak<Opened>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this process has open of a partition.
    fn opened(&self, of: TopicPartition) -> Option<Arc<Opened>> {
        self.lock().get(&of).and_then(Weak::upgrade)
    }

    /// Asks the object store which opening is the newest. `None` when there was none.
    pub(crate) async fn newest_epoch(&self, of: TopicPartition) -> std::result::Result<Option<u64>, slatedb::Error> {
        let admin = AdminBuilder::new(self.path(of), self.store.clone()).build();
        Ok(admin.read_manifest(None).await?.map(|manifest| manifest.writer_epoch()))
    }
}

/// What a read sees: only what is durable.
pub(crate) fn read_options() -> ReadOptions {
    ReadOptions { durability_filter: DurabilityLevel::Remote, ..ReadOptions::default() }
}

/// As [`read_options`].
pub(crate) fn scan_options() -> ScanOptions {
    ScanOptions {
        durability_filter: DurabilityLevel::Remote,
        read_ahead_bytes: SCAN_AHEAD_BYTES,
        cache_blocks: true,
        ..ScanOptions::default()
    }
}

pub(crate) fn failed(
    attempted: &'static str,
    of: TopicPartition,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StateError {
    StateError::State { attempted, of, source: source.into() }
}

pub(crate) fn is_fenced(error: &slatedb::Error) -> bool {
    matches!(error.kind(), ErrorKind::Closed(CloseReason::Fenced))
}

async fn open_partition(
    shared: Arc<Shared>,
    gate: Gate,
    of: TopicPartition,
) -> millrace_pipelines::Result<(Arc<Opened>, u64)> {
    marker::check_not_newer(&shared.store, &shared.at, FORMAT).await.map_err(|error| failed("open", of, error))?;
    let db = Db::builder(shared.path(of), Arc::new(gate.clone()) as Arc<dyn ObjectStore>)
        .with_settings(shared.options.settings(shared.conditional))
        .with_db_cache(shared.cache.clone(), Shared::cache_scope(of))
        .build()
        .await;
    let db = db.map_err(|error| if is_fenced(&error) { StateError::Fenced(of) } else { failed("open", of, error) })?;
    let epoch = db.manifest().writer_epoch();
    let opened = Opened::new(db, gate, epoch, shared.bridge.handle());
    let stored = opened.db.get_with_options(OFFSET_KEY, &read_options()).await;
    let stored =
        stored.map_err(|error| if is_fenced(&error) { StateError::Fenced(of) } else { failed("read", of, error) })?;
    let offset = read_offset(of, stored.as_deref())?;
    Ok((Arc::new(opened), offset))
}

async fn peek(
    shared: &Shared,
    of: TopicPartition,
    after: Bytes,
    limit: usize,
) -> millrace_pipelines::Result<Vec<(Bytes, Bytes)>> {
    if let Some(opened) = shared.opened(of) {
        // Whoever still is the owner after being asked has made every commit that was known when the look began.
        if opened.db.refresh_manifest().await.is_ok() {
            let range = (Bound::Excluded(after.clone()), Bound::Unbounded);
            if let Ok(found) = take(opened.db.scan_with_options(range, &scan_options()).await, limit).await {
                return Ok(found);
            }
        }
    }
    let mut turn = 0;
    loop {
        turn += 1;
        match peek_from_outside(shared, of, &after, limit).await {
            Ok(found) => return Ok(found),
            Err(error) if turn < PEEK_TURNS_MAX => {
                // There may be nothing yet, or what is removed as nobody's was needed here.
                let newest = shared.newest_epoch(of).await.map_err(|error| failed("look at", of, error))?;
                if newest.is_none() {
                    return Ok(Vec::new());
                }
                tracing::debug!(%of, %error, "looking at job state again");
            }
            Err(error) => return Err(failed("look at", of, error)),
        }
    }
}

/// A look that needs no owner in this process, and that no owner notices.
async fn peek_from_outside(
    shared: &Shared,
    of: TopicPartition,
    after: &Bytes,
    limit: usize,
) -> std::result::Result<Vec<(Bytes, Bytes)>, slatedb::Error> {
    let gate = Gate::new(shared.store.clone());
    // Also when this look is given up: its reader would go on polling.
    let _closes = Opening { gate: gate.clone(), done: false };
    let reader = DbReader::builder(shared.path(of), Arc::new(gate) as Arc<dyn ObjectStore>)
        .with_reader_mode(DbReaderMode::FollowLatest)
        .with_options(DbReaderOptions {
            manifest_poll_interval: NEVER,
            checkpoint_lifetime: NEVER * 3,
            object_store_max_retries: shared.options.settings(shared.conditional).object_store_max_retries,
            ..DbReaderOptions::default()
        })
        .with_db_cache(shared.cache.clone(), Shared::cache_scope(of))
        .build()
        .await?;
    let range = (Bound::Excluded(after.clone()), Bound::Unbounded);
    let found = take(reader.scan_with_options(range, &scan_options()).await, limit).await;
    if let Err(error) = reader.close().await {
        tracing::debug!(%of, %error, "a reader of job state did not close");
    }
    found
}

/// The first pairs of a scan.
pub(crate) async fn take(
    scan: std::result::Result<DbIterator, slatedb::Error>,
    limit: usize,
) -> std::result::Result<Vec<(Bytes, Bytes)>, slatedb::Error> {
    let mut scan = scan?;
    let mut found = Vec::new();
    while found.len() < limit {
        let Some(pair) = scan.next().await? else { break };
        found.push((pair.key, pair.value));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
