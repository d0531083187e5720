//! The catalog in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::copy::{self, Copy};
use crate::records::{self, Record};
use crate::{Catalog, Change, Entry, Error, ErrorKind, PAGE_MAX, Result, Revision, check_kind};

/// After how long a copy is written again when nothing has changed, so that it tells how old it is, milliseconds.
const COPY_MS_MAX: i64 = 60_000;

/// What is kept in memory, and how.
#[derive(Clone, Debug)]
pub struct CachedOptions {
    /// The kinds that are kept; all of their entries are.
    pub kinds: Vec<String>,
    /// Where a copy of the content is kept for the next start, which may be while the catalog is away. Only its owner may read
    /// it. Its folder must be there. Each process needs a file of its own.
    pub copy: Option<PathBuf>,
    /// How often the catalog is asked whether the content is still what it holds, while nothing tells of changes.
    pub confirm: Duration,
    /// How soon that is tried again while the catalog is away.
    pub retry: Duration,
    /// How far apart at least it is asked because somebody called [`Cached::refresh`].
    pub refresh: Duration,
    /// How many bytes of documents are kept. When the catalog holds more of these kinds, the last content stays.
    pub bytes_max: usize,
}

impl CachedOptions {
    /// The defaults, for these kinds.
    pub fn new<K: Into<String>>(kinds: impl IntoIterator<Item = K>) -> Self {
        Self {
            kinds: kinds.into_iter().map(Into::into).collect(),
            copy: None,
            confirm: Duration::from_secs(5),
            retry: Duration::from_secs(1),
            refresh: Duration::from_millis(250),
            bytes_max: 64 * 1024 * 1024,
        }
    }
}

type Names = BTreeMap<String, Arc<Entry>>;

/// All entries of some kinds, as they were at one revision; one that was changed again while it was read may lack what it was
/// in between.
#[derive(Clone, Default)]
pub struct Snapshot {
    kinds: BTreeMap<String, Arc<Names>>,
    revision: Revision,
    bytes: usize,
}

impl Snapshot {
    /// Nothing, of these kinds.
    fn of(kinds: &[String]) -> Self {
        Self { kinds: kinds.iter().map(|kind| (kind.clone(), Arc::default())).collect(), ..Self::default() }
    }

    /// The revision of the last change that it has seen, of any kind.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// An entry.
    pub fn get(&self, kind: &str, name: &str) -> Option<&Entry> {
        self.kinds.get(kind)?.get(name).map(AsRef::as_ref)
    }

    /// The entries of a kind, by name.
    pub fn entries(&self, kind: &str) -> impl Iterator<Item = &Entry> {
        self.kinds.get(kind).into_iter().flat_map(|names| names.values()).map(AsRef::as_ref)
    }

    /// A record, if there is one.
    ///
    /// # Errors
    /// As of [`records::read`].
    pub fn record<R: Record>(&self, name: &str) -> Result<Option<R>> {
        self.get(R::KIND, name).map(records::read).transpose()
    }

    /// The records of a kind, by name: each or why it cannot be read, so that one that somebody has spoiled takes no other with
    /// it.
    pub fn records<R: Record>(&self) -> impl Iterator<Item = Result<R>> {
        self.entries(R::KIND).map(records::read)
    }

    fn put(&mut self, entry: Entry) {
        let Some(names) = self.kinds.get_mut(&entry.kind) else { return };
        let (name, bytes) = (entry.name.clone(), entry.document.as_str().len());
        // What was listed may be newer than a change that is told of again.
        if names.get(&name).is_some_and(|known| known.revision > entry.revision) {
            return;
        }
        let before = Arc::make_mut(names).insert(name, Arc::new(entry));
        self.bytes = self.bytes + bytes - before.map_or(0, |before| before.document.as_str().len());
    }

    fn remove(&mut self, kind: &str, name: &str, revision: Revision) {
        let Some(names) = self.kinds.get_mut(kind) else { return };
        if names.get(name).is_some_and(|known| known.revision < revision)
            && let Some(before) = Arc::make_mut(names).remove(name)
        {
            self.bytes -= before.document.as_str().len();
        }
    }

    /// True when no entry has changed since; the revision may have, by entries of other kinds.
    fn holds_the_same(&self, before: &Self) -> bool {
        let mut kinds = self.kinds.iter().zip(&before.kinds);
        kinds.all(|((_, names), (_, before))| Arc::ptr_eq(names, before))
    }

    fn check(&self, bytes_max: usize) -> Result<()> {
        if self.bytes <= bytes_max {
            return Ok(());
        }
        let kinds: Vec<&str> = self.kinds.keys().map(String::as_str).collect();
        let why = format!(
            "the catalog holds more than {bytes_max} bytes of {}: delete some, or keep more in memory",
            kinds.join(", ")
        );
        Err(Error::new(ErrorKind::Refused, why))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: BTreeMap<&str, usize> =
            self.kinds.iter().map(|(kind, names)| (kind.as_str(), names.len())).collect();
        f.debug_struct("Snapshot").field("revision", &self.revision).field("entries", &counts).finish()
    }
}

/// What is in memory, and how good that is.
#[derive(Clone, Debug)]
pub struct CachedState {
    /// The content.
    pub snapshot: Arc<Snapshot>,
    /// When the catalog held just that for certain, in milliseconds since 1970 by the clock of the database.
    pub confirmed_ms: i64,
    /// True while the catalog cannot be asked: what is in memory may be old.
    pub is_stale: bool,
    /// When this machine was told that; none when it was read from a copy.
    confirmed_at: Option<Instant>,
}

impl CachedState {
    /// The clock of the database, by how far that of this machine has gone since the catalog was last asked, in milliseconds
    /// since 1970; none when it has not been asked yet.
    pub fn now_ms(&self) -> Option<i64> {
        let elapsed_ms = self.confirmed_at?.elapsed().as_millis();
        Some(self.confirmed_ms.saturating_add(i64::try_from(elapsed_ms).unwrap_or(i64::MAX)))
    }
}

/// All entries of some kinds in memory, as new as the catalog tells of changes. While the catalog is away the last content
/// stays. For what is asked for with each event or each feed.
pub struct Cached {
    state: watch::Sender<CachedState>,
    revision: watch::Sender<Revision>,
    /// How often [`Cached::refresh`] was called, and up to which of these calls the catalog has been asked since.
    calls: watch::Sender<u64>,
    answered: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Cached {
    /// Reads the catalog, or the copy when it is away, and follows it from then on. Needs a Tokio runtime.
    ///
    /// # Errors
    /// Why the catalog cannot be read, when there is no copy of these kinds either: as of [`Catalog::list`];
    /// [`ErrorKind::Refused`] when it holds more than is kept; [`ErrorKind::Invalid`] when the options cannot be used.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub async fn start(catalog: Arc<dyn Catalog>, options: CachedOptions) -> Result<Self> {
        check_options(&options)?;
        let first = match load(&*catalog, &options).await {
            Ok((snapshot, now_ms)) => fresh(snapshot, now_ms),
            Err(error) => match load_copy(&options).await {
                Some(state) => {
                    tracing::warn!("{error}; going on with the copy of revision {}", state.snapshot.revision);
                    state
                }
                None => return Err(error),
            },
        };
        let revision = watch::Sender::new(first.snapshot.revision);
        let state = watch::Sender::new(first);
        let (calls, answered) = (watch::Sender::new(0), watch::Sender::new(0));
        let follower = Follower {
            catalog,
            options,
            state: state.clone(),
            revision: revision.clone(),
            calls: calls.subscribe(),
            answered: answered.clone(),
            copied: None,
            copy_fails: false,
        };
        Ok(Self { state, revision, calls, answered, task: tokio::spawn(follower.run()) })
    }

    /// The content. It waits for nobody but a writer that is exchanging one pointer.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.state.borrow().snapshot.clone()
    }

    /// The content, and how good that is.
    pub fn state(&self) -> CachedState {
        self.state.borrow().clone()
    }

    /// Since when the content may be old, in milliseconds since 1970 by the clock of the database; none while it is fresh.
    pub fn stale_since_ms(&self) -> Option<i64> {
        let state = self.state.borrow();
        state.is_stale.then_some(state.confirmed_ms)
    }

    /// Tells when the content changes, becomes stale or fresh; not when entries of other kinds change.
    pub fn watch(&self) -> watch::Receiver<CachedState> {
        self.state.subscribe()
    }

    /// Asks the catalog now, and waits until it has answered or could not: for who misses something that another process may
    /// have written a moment ago. Calls within [`CachedOptions::refresh`] are answered together.
    pub async fn refresh(&self) {
        let mut call = 0;
        self.calls.send_modify(|calls| {
            *calls += 1;
            call = *calls;
        });
        let mut answered = self.answered.subscribe();
        // It cannot fail: the sender is our own.
        drop(answered.wait_for(|answered| *answered >= call).await);
    }

    /// Waits until the content has this revision, for as long as the caller lets it.
    pub async fn reached(&self, revision: Revision) {
        let mut reached = self.revision.subscribe();
        // It cannot fail: the sender is our own.
        drop(reached.wait_for(|reached| *reached >= revision).await);
    }
}

impl Drop for Cached {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cached").field(&*self.state.borrow()).finish()
    }
}

fn fresh(snapshot: Snapshot, now_ms: i64) -> CachedState {
    let confirmed_at = Some(Instant::now());
    CachedState { snapshot: Arc::new(snapshot), confirmed_ms: now_ms, is_stale: false, confirmed_at }
}

fn check_options(options: &CachedOptions) -> Result<()> {
    let invalid = |why| Err(Error::new(ErrorKind::Invalid, why));
    options.kinds.iter().try_for_each(|kind| check_kind(kind))?;
    if options.kinds.is_empty() {
        return invalid("a catalog in memory needs at least one kind");
    }
    let times = [options.confirm, options.retry, options.refresh];
    if times.iter().any(|time| !(Duration::from_millis(1)..=Duration::from_secs(60 * 60)).contains(time)) {
        return invalid("times of a catalog in memory are from a millisecond to an hour");
    }
    Ok(())
}

/// Reads all entries: each as of some moment after the revision that the catalog had before, and then what changed since.
async fn load(catalog: &dyn Catalog, options: &CachedOptions) -> Result<(Snapshot, i64)> {
    let head = catalog.head().await?;
    let mut snapshot = Snapshot::of(&options.kinds);
    for kind in &options.kinds {
        let mut after: Option<String> = None;
        loop {
            let page = catalog.list(kind, after.as_deref(), PAGE_MAX).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            for entry in page {
                snapshot.put(entry);
            }
            snapshot.check(options.bytes_max)?;
        }
    }
    snapshot.revision = head.revision;
    // What was listed last may be newer than that.
    let head = catalog.head().await?;
    let snapshot = advance(catalog, options, snapshot, head.revision).await?;
    Ok((snapshot, head.now_ms))
}

/// Applies what was changed, at least up to `to`.
async fn advance(
    catalog: &dyn Catalog,
    options: &CachedOptions,
    mut snapshot: Snapshot,
    to: Revision,
) -> Result<Snapshot> {
    loop {
        let changes = catalog.changes_since(snapshot.revision, PAGE_MAX).await?;
        let Some(last) = changes.last() else { break };
        snapshot.revision = last.revision();
        for change in changes {
            match change {
                Change::Put(entry) => snapshot.put(entry),
                Change::Deleted { kind, name, revision } => snapshot.remove(&kind, &name, revision),
            }
        }
        snapshot.check(options.bytes_max)?;
        // Not until there is nothing left: writers may be faster.
        if snapshot.revision >= to {
            break;
        }
    }
    Ok(snapshot)
}

async fn load_copy(options: &CachedOptions) -> Option<CachedState> {
    let path = options.copy.clone()?;
    let bytes_max = options.bytes_max;
    let copy = match blocking(path.clone(), move |path| copy::load(path, bytes_max)).await {
        Ok(copy) => copy,
        Err(error) => {
            tracing::warn!("cannot use the copy of the catalog at {}: {error}", path.display());
            return None;
        }
    };
    if let Some(missing) = options.kinds.iter().find(|kind| !copy.kinds.contains(kind)) {
        tracing::warn!("cannot use the copy of the catalog at {}: it is without {missing}", path.display());
        return None;
    }
    let mut snapshot = Snapshot::of(&options.kinds);
    copy.entries.into_iter().for_each(|entry| snapshot.put(entry));
    snapshot.revision = copy.revision;
    let confirmed_ms = copy.confirmed_ms;
    Some(CachedState { snapshot: Arc::new(snapshot), confirmed_ms, is_stale: true, confirmed_at: None })
}

/// Keeps the content as new as it can.
struct Follower {
    catalog: Arc<dyn Catalog>,
    options: CachedOptions,
    state: watch::Sender<CachedState>,
    revision: watch::Sender<Revision>,
    calls: watch::Receiver<u64>,
    answered: watch::Sender<u64>,
    /// Content and time of the copy.
    copied: Option<(Arc<Snapshot>, i64)>,
    copy_fails: bool,
}

impl Follower {
    async fn run(mut self) {
        let mut bell = self.catalog.watch();
        loop {
            self.copy().await;
            let pause = if self.state.borrow().is_stale { self.options.retry } else { self.options.confirm };
            let asked = Instant::now();
            let rung = async {
                if let Ok(Err(_)) = timeout(pause, bell.changed()).await {
                    // Nobody rings any more, so nobody wakes us too early either.
                    sleep(pause).await;
                }
            };
            tokio::select! {
                () = rung => {}
                // It cannot fail: this task ends before its owner lets go of the sender.
                _ = self.calls.changed() => sleep_until(asked + self.options.refresh).await,
            }
            let call = *self.calls.borrow_and_update();
            self.step().await;
            self.answered.send_replace(call);
        }
    }

    /// Asks the catalog once.
    async fn step(&mut self) {
        let (before, was_stale) = {
            let state = self.state.borrow();
            (state.snapshot.clone(), state.is_stale)
        };
        match self.newer(&before, was_stale).await {
            Ok((snapshot, now_ms)) => {
                if was_stale {
                    tracing::info!("the catalog is back, at revision {}", snapshot.revision);
                }
                let revision = snapshot.revision;
                let is_news = was_stale || !snapshot.holds_the_same(&before);
                self.state.send_if_modified(|state| {
                    *state = fresh(snapshot, now_ms);
                    is_news
                });
                self.revision.send_if_modified(|reached| std::mem::replace(reached, revision) != revision);
            }
            Err(error) => {
                let is_news = self.state.send_if_modified(|state| !std::mem::replace(&mut state.is_stale, true));
                if is_news {
                    tracing::warn!("{error}; going on with revision {}", before.revision);
                }
            }
        }
    }

    /// The content now. Read whole after the catalog was away, for it may have come back as an older one.
    async fn newer(&self, before: &Snapshot, was_stale: bool) -> Result<(Snapshot, i64)> {
        if was_stale {
            return load(&*self.catalog, &self.options).await;
        }
        let head = self.catalog.head().await?;
        if head.revision == before.revision {
            return Ok((before.clone(), head.now_ms));
        }
        match advance(&*self.catalog, &self.options, before.clone(), head.revision).await {
            Ok(snapshot) => Ok((snapshot, head.now_ms)),
            Err(error) if error.kind() == ErrorKind::Expired => load(&*self.catalog, &self.options).await,
            Err(error) => Err(error),
        }
    }

    /// Writes the copy when it is not what is in memory, or does not tell for how long that was good.
    async fn copy(&mut self) {
        let state = self.state.borrow().clone();
        let is_good = self.copied.as_ref().is_some_and(|(snapshot, confirmed_ms)| {
            state.snapshot.holds_the_same(snapshot) && state.confirmed_ms - confirmed_ms < COPY_MS_MAX
        });
        let Some(path) = self.options.copy.clone().filter(|_| !is_good && !state.is_stale) else { return };
        let entries = state.snapshot.kinds.values().flat_map(|names| names.values()).map(|entry| (**entry).clone());
        let copy = Copy {
            kinds: self.options.kinds.clone(),
            revision: state.snapshot.revision,
            confirmed_ms: state.confirmed_ms,
            entries: entries.collect(),
        };
        match blocking(path.clone(), move |path| copy::save(path, copy)).await {
            Ok(()) => {
                self.copied = Some((state.snapshot, state.confirmed_ms));
                self.copy_fails = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.copy_fails, true) {
                    tracing::warn!("cannot write the copy of the catalog at {}: {error}", path.display());
                }
            }
        }
    }
}

/// Touches a file away from the threads that must not wait.
async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(move || work(&path)).await.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests;
