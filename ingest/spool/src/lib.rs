//! What a door does with events that the log does not take now: keeps them on its own disk, up to a bound, and brings them in
//! when the log is well again.
//!
//! [`Spool`] stands between the collector and the log. While the log takes what comes, everything goes straight through. What
//! the log refuses, or does not acknowledge within [`TRY_MAX`], becomes durable in files here, is acknowledged, and from then
//! on whatever comes goes behind it, so that the events of one actor keep their order. [`Spool::drain`] appends from the head;
//! when the last of it is in the log, the way is straight again. Beyond the bound a batch is refused as the log would.
//!
//! What comes of a failed append nobody knows, and what was drained is not written down. So a batch may come to stand in the
//! log more than once, which is harmless because stage 1 drops by message id: *every event appended here must carry an id that
//! it is known by*, its client's or one that the collector minted for good. A repetition stands behind a whole first copy, so
//! order holds for first copies.
//!
//! A record keeps the log time that it was stamped with when it came. Nothing else of this process is appended to
//! `actions` meanwhile: ticks, which have no key, are refused until the spool is empty, so that time is not told before the
//! events that came before it. Where other doors reach the log when this one does not, they tell the time, and then what waited
//! here for longer than the allowed lateness is late, as it must be: windows that it belonged to have closed.
//!
//! It is no log for jobs: what it keeps has no offset yet, so `append` answers with none.
//!
//! It must never know what an event means.

mod drain;
mod frame;
mod queue;
mod segments;
mod writer;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind as IoErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use millrace_events::{LogTime, TopicPartition};
use millrace_failpoints::reach;
use millrace_log::{Append, Bounds, Error, ErrorKind, EventLog, Offset, Record, Result};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use drain::Drain;
use queue::{Queue, Way};
use segments::{Leftovers, Segments, failed};
use writer::Files;

/// How many bytes a spool holds unless said otherwise.
pub const SPOOL_BYTES: u64 = 1024 * 1024 * 1024;
/// How long an append may take in the log before it is kept here. With [`KEEP_MAX`] it stays below the second within which a
/// client is answered.
pub const TRY_MAX: Duration = Duration::from_millis(400);
/// How long the spool's own disk may take.
pub const KEEP_MAX: Duration = Duration::from_millis(500);
/// Where a file ends and the next begins: what is repeated at most after a crash, give or take a group.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// How many bytes stay free on the spool's disk: others have to live on it too.
pub const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// How many files a full spool has at least, so that there is room again before all of it is drained.
const SEGMENTS_MIN: u64 = 8;
/// How long [`EventLog::close`] waits for the disk.
const CLOSE_MAX: Duration = Duration::from_secs(2);

const LOCK: &str = "lock";
/// The file that names the log which the events are for.
const LOG_NAME: &str = "log-name";

/// Where a spool is, and its bounds.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// Its directory, made when it is not there; for this process alone.
    pub dir: PathBuf,
    /// What tells the log from every other: what is kept for one is never given to another.
    pub log_name: String,
    /// How many bytes its files may have.
    pub bytes_max: u64,
    /// See [`FREE_BYTES_MIN`].
    pub free_bytes_min: u64,
    /// See [`TRY_MAX`].
    pub try_max: Duration,
    /// See [`KEEP_MAX`].
    pub keep_max: Duration,
}

impl SpoolOptions {
    /// The defaults for a spool in this directory.
    pub fn new(dir: impl Into<PathBuf>, log_name: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            log_name: log_name.into(),
            bytes_max: SPOOL_BYTES,
            free_bytes_min: FREE_BYTES_MIN,
            try_max: TRY_MAX,
            keep_max: KEEP_MAX,
        }
    }

    fn segment_bytes(&self) -> u64 {
        SEGMENT_BYTES.min(self.bytes_max / SEGMENTS_MIN)
    }
}

/// What a spool holds now, and what it did since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spooled {
    /// How many bytes its files have.
    pub bytes: u64,
    /// How many records are in none but it; what is in the queue of its disk is not counted.
    pub events: u64,
    /// The log time of the oldest.
    pub oldest: Option<LogTime>,
    /// Records that were kept.
    pub kept_events: u64,
    /// Records that came into the log from here.
    pub drained_events: u64,
    /// Why its disk takes nothing now.
    pub failing: Option<String>,
    /// Why the log will never take what stands at the head, or it cannot be read: a person must look.
    pub stuck: Option<String>,
}

/// See the module. Share it in an [`Arc`].
pub struct Spool {
    log: Arc<dyn EventLog>,
    options: SpoolOptions,
    queue: Arc<Queue>,
    files: Files,
    left: Leftovers,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Locked as long as it is open. The last field, so that it is dropped last.
    _lock: File,
}

/// What became of a batch in the log.
enum Tried {
    Answered(Result<Vec<Offset>>),
    /// It may be there or not.
    Refused,
    /// It is not known yet; this will tell whether the log took it.
    Slow(oneshot::Receiver<bool>),
}

impl Spool {
    /// Opens the spool in front of `log` with what an earlier process left in it. It drains while [`Spool::drain`] runs.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when another process has it open, or it holds events for another log; [`ErrorKind::Corrupt`]
    /// when what was acknowledged is damaged; [`ErrorKind::Retry`] when the disk says no.
    pub fn open(log: Arc<dyn EventLog>, options: SpoolOptions) -> Result<Arc<Self>> {
        let dir = &options.dir;
        fs::create_dir_all(dir).map_err(|e| failed("make", dir, e))?;
        let lock = lock(dir)?;
        belongs_to(dir, &options.log_name)?;
        let (segments, left) = Segments::open(dir, options.segment_bytes(), options.free_bytes_min)?;
        if left.cut_bytes > 0 {
            tracing::warn!(bytes = left.cut_bytes, "the end of the spool was never acknowledged and is cut off");
        }
        let (queue, files) = (Arc::new(Queue::new(options.bytes_max, &left)), Arc::new(Mutex::new(segments)));
        let thread = thread::Builder::new().name("spool".to_owned()).spawn({
            let (queue, files) = (queue.clone(), files.clone());
            move || writer::run(&queue, &files)
        });
        let writer = Mutex::new(Some(thread.map_err(|e| failed("start the thread that writes to", dir, e))?));
        Ok(Arc::new(Self { log, queue, files, left, writer, options, _lock: lock }))
    }

    /// Appends what is kept to the log whenever it is well, until the spool is closed. For one task.
    pub fn drain(&self) -> impl Future<Output = ()> + Send + use<> {
        let place = writer::lock(&self.files).start();
        Drain::new(self.log.clone(), self.queue.clone(), self.files.clone(), place).run()
    }

    /// What it holds now.
    pub fn spooled(&self) -> Spooled {
        self.queue.spooled()
    }

    /// True when nothing waits here: whatever was acknowledged is in the log.
    pub fn is_empty(&self) -> bool {
        self.queue.way() == Way::Straight
    }

    /// The newest log time of what it held when it was opened: a replay goes on from there.
    pub fn newest_left(&self) -> Option<LogTime> {
        self.left.newest
    }

    /// Its bound, in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.options.bytes_max
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// True when a batch goes into the log: nothing is kept, and the log is well.
    async fn goes_straight(&self, deadline: Instant) -> bool {
        if self.queue.way() == Way::HandingOver && timeout_at(deadline, self.queue.handed_over()).await.is_err() {
            return false;
        }
        self.queue.way() == Way::Straight && self.log.healthy()
    }

    async fn try_log(&self, batch: Vec<Append>, deadline: Instant) -> Tried {
        let log = self.log.clone();
        let mut trying = Box::pin(async move {
            told_to_refuse("spool-trying")?;
            log.append(batch).await
        });
        match timeout_at(deadline, &mut trying).await {
            Ok(Err(error)) if error.kind() == ErrorKind::Retry => {
                tracing::debug!(%error, "the log does not take a batch: it is kept");
                Tried::Refused
            }
            Ok(answer) => Tried::Answered(answer),
            Err(_) => {
                // A log must see the end of what it was given: whether it hangs is what it learns from it.
                let (tell, told) = oneshot::channel();
                tokio::spawn(async move { tell.send(trying.await.is_ok()) });
                Tried::Slow(told)
            }
        }
    }

    async fn keep(&self, batch: Vec<Append>, straggler: Option<oneshot::Receiver<bool>>) -> Result<Vec<Offset>> {
        let answered = self.queue.push(batch, straggler)?;
        match timeout(self.options.keep_max, answered).await {
            Ok(Ok(answer)) => answer.map(|()| Vec::new()),
            Ok(Err(_)) => Err(Error::new(ErrorKind::Retry, "the spool was closed while it took a batch")),
            Err(_) => Err(Error::new(ErrorKind::Retry, "the disk of the spool does not answer in time")),
        }
    }
}

#[async_trait]
impl EventLog for Spool {
    /// Answers when the batch is durable, in the log or here; with its offsets in the former case, with none in the latter.
    ///
    /// # Errors
    /// As of the log, within [`TRY_MAX`] and [`KEEP_MAX`]. What failed may come to stand in the log all the same.
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Offset>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        // A tick: nobody's event, and true again in a second.
        if batch.iter().all(|append| append.key.is_empty()) {
            if !self.is_empty() {
                return Err(Error::new(ErrorKind::Retry, "the time is told when what is kept is in the log"));
            }
            return self.log.append(batch).await;
        }
        let deadline = Instant::now() + self.options.try_max;
        let mut straggler = None;
        if self.goes_straight(deadline).await {
            match self.try_log(batch.clone(), deadline).await {
                Tried::Answered(answer) => return answer,
                Tried::Refused => {}
                Tried::Slow(told) => straggler = Some(told),
            }
            reach("spool-tried");
        }
        self.keep(batch, straggler).await
    }

    async fn read(&self, of: TopicPartition, from: Offset, bytes_max: usize) -> Result<Vec<Record>> {
        self.log.read(of, from, bytes_max).await
    }

    async fn wait(&self, of: TopicPartition, from: Offset) -> Result<()> {
        self.log.wait(of, from).await
    }

    async fn bounds(&self, of: TopicPartition) -> Result<Bounds> {
        self.log.bounds(of).await
    }

    async fn trim(&self, of: TopicPartition, before: Offset) -> Result<()> {
        self.log.trim(of, before).await
    }

    fn partitions(&self) -> u32 {
        self.log.partitions()
    }

    /// True while an append would be taken, by the log or here.
    fn healthy(&self) -> bool {
        let log_takes = || self.queue.way() != Way::Kept && self.log.healthy() && !self.queue.is_closed();
        self.queue.takes_more() || log_takes()
    }

    /// Keeps nothing more, drains no further and waits until what was taken is on disk, two seconds at most. The log below
    /// stays open: it has other users.
    fn close(&self) {
        self.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        let (tell, told) = std::sync::mpsc::channel();
        // A disk that hangs holds up a thread of its own, and nobody else.
        let joining = thread::Builder::new().name("spool-closing".to_owned()).spawn(move || {
            drop(tell.send(writer.join()));
        });
        match joining.map(|_| told.recv_timeout(CLOSE_MAX)) {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(_))) => tracing::error!("the thread of the spool ended with a panic"),
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("the disk of the spool does not answer: what was acknowledged is on it")
            }
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.close();
    }
}

/// True when there are events in this directory that no running process has brought in: they are in no log yet.
pub fn has_leftovers(dir: &Path) -> bool {
    segments::any(dir)
}

/// Makes sure that no other process has the spool open.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|e| failed("open", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message = format!(
                "another process has the spool in {} open: stop it, or give each door its own --spool-dir or --data-dir",
                dir.display()
            );
            Err(Error::new(ErrorKind::Invalid, message))
        }
        Err(TryLockError::Error(error)) => Err(failed("lock", &path, error)),
    }
}

/// Makes sure that what is in `dir` is for this log.
fn belongs_to(dir: &Path, log_name: &str) -> Result<()> {
    let path = dir.join(LOG_NAME);
    let known = match fs::read_to_string(&path) {
        Ok(known) => Some(known),
        Err(error) if error.kind() == IoErrorKind::NotFound => None,
        Err(error) => return Err(failed("read", &path, error)),
    };
    match known {
        Some(known) if known == log_name => return Ok(()),
        Some(known) if segments::any(dir) => {
            let message = format!(
                "the spool in {} holds events for the log `{known}`, not for `{log_name}`: start with --log as it was until \
                 they are in there, or give another --spool-dir",
                dir.display()
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        _ => {}
    }
    let fresh = dir.join(format!("{LOG_NAME}.new"));
    let write = || {
        fs::write(&fresh, log_name)?;
        File::open(&fresh)?.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| failed("write", &path, e))
}

/// Refuses where a test has asked for it.
fn told_to_refuse(name: &'static str) -> Result<()> {
    if millrace_failpoints::refuses(name) {
        return Err(Error::new(ErrorKind::Retry, "the log refuses, as a test has asked"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
