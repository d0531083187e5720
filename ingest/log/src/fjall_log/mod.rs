//! The embedded log: one space of the database per partition, one thread that commits for everybody.
//!
//! `append` queues its records and waits; the thread takes whatever is queued, writes it as one batch with one sync, makes
//! it visible and answers. While it syncs, the next commit gathers by itself, so there is no delay to tune. A failed
//! write (full disk) turns every append away until the thread has opened the database again and written to it.

mod batch;
mod committer;
mod partition;
mod queue;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use millrace_embedded::{Batch as Writes, Durability, Embedded, Slice, Snapshot, Space};
use millrace_events::{PARTITIONS_MAX, Topic, TopicPartition};
use tokio::sync::oneshot;

use crate::{Append, Bounds, Error, ErrorKind, EventLog, KEY_BYTES_MAX, Offset, Record, Result, VALUE_BYTES_MAX};
use committer::Committer;
use partition::Partition;
use queue::{Phase, Queue, Request};

/// What a queued record costs beside its key and value, so that empty ones are bounded too.
const QUEUED_RECORD_BYTES: usize = 64;
const META_SPACE: &str = "log/meta";
const LAYOUT_KEY: &str = "layout";
/// The number of the layout of spaces and keys; that of the values is in each.
const LAYOUT: u8 = 2;

/// Bounds of a [`FjallLog`]. The defaults are for a laptop.
#[derive(Clone, Debug)]
pub struct FjallLogOptions {
    /// How many partitions the topics have; fixed when the log is made.
    pub partitions: u32,
    /// How many bytes may wait to be committed; one append may not be larger either. Appends without actions, which follow
    /// from what is in the log already, may come on top until it is twice as many.
    pub queue_bytes_max: usize,
    /// How many appends may wait to be committed; twice as many with those that hold no actions.
    pub queue_requests_max: usize,
    /// How many bytes of the newest records each partition keeps in memory, for readers that keep up.
    pub tail_bytes_max: usize,
}

impl Default for FjallLogOptions {
    fn default() -> Self {
        Self {
            partitions: 4,
            queue_bytes_max: 32 * 1024 * 1024,
            queue_requests_max: 16 * 1024,
            tail_bytes_max: 1024 * 1024,
        }
    }
}

/// The log on local disk.
pub struct FjallLog {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What callers and the committing thread share.
struct Shared {
    embedded: Arc<Embedded>,
    meta: Space,
    count: u32,
    /// Every partition of every topic, in the order of topics.
    partitions: Vec<Partition>,
    queue: Queue,
}

impl FjallLog {
    /// Opens the log in this database, making it when it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the number of partitions is not possible or not the one that the log was made with;
    /// [`ErrorKind::Retry`] when the disk says no; [`ErrorKind::Corrupt`] when what is there is not a log.
    pub fn open(embedded: Arc<Embedded>, options: FjallLogOptions) -> Result<Arc<Self>> {
        let count = options.partitions;
        if count == 0 || count > PARTITIONS_MAX {
            let message = format!("a log cannot have {count} partitions: use 1 to {PARTITIONS_MAX}");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let meta = embedded.space(META_SPACE).map_err(|e| storage_error("cannot open the log", e))?;
        check_layout(&embedded, &meta, count)?;
        let mut partitions = Vec::new();
        for topic in Topic::ALL {
            for partition in 0..topic.partitions(count) {
                let name = TopicPartition::new(topic, partition);
                let space = embedded.space(&space_name(name)).map_err(|e| storage(name, e))?;
                partitions.push(Partition::open(name, space, &meta, options.tail_bytes_max)?);
            }
        }
        // A process that was killed may have written what it never synced. Readers are about to see it, so sync it now.
        embedded.sync().map_err(|e| storage_error("cannot sync the log", e))?;
        let queue = Queue::new(options.queue_bytes_max, options.queue_requests_max);
        let shared = Arc::new(Shared { embedded, meta, count, partitions, queue });
        let committer = Committer::new(shared.clone());
        let thread = thread::Builder::new().name("millrace-log".to_owned()).spawn(move || committer.run());
        let thread = thread.map_err(|e| Error::with_source(ErrorKind::Retry, "cannot start the log's thread", e))?;
        Ok(Arc::new(Self { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// How many partitions the log in this database was made with; `None` when there is none yet.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] when the disk says no.
    pub fn made_with(embedded: &Arc<Embedded>) -> Result<Option<u32>> {
        let meta = embedded.space(META_SPACE).map_err(|e| storage_error("cannot open the log", e))?;
        let found = meta.get(LAYOUT_KEY).map_err(|e| storage_error("cannot read the log's layout", e))?;
        Ok(found.and_then(|found| Some(u32::from_be_bytes(found.get(1..)?.try_into().ok()?))))
    }

    /// What a partition holds in a snapshot of its database, for a backup.
    ///
    /// # Errors
    /// As of [`FjallLog::open`].
    pub fn bounds_in(snapshot: &Snapshot, of: TopicPartition) -> Result<Bounds> {
        partition::bounds_in(snapshot, of, META_SPACE)
    }
}

impl Drop for FjallLog {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl EventLog for FjallLog {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Offset>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = self.shared.check(&batch)?;
        let (answer, answered) = oneshot::channel();
        self.shared.queue.push(Request { batch, bytes, answer })?;
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(ErrorKind::Retry, "the log was closed while it took an append")),
        }
    }

    async fn read(&self, of: TopicPartition, from: Offset, bytes_max: usize) -> Result<Vec<Record>> {
        let index = self.shared.index(of)?;
        if let Some(records) = self.shared.partitions[index].read_tail(from, bytes_max)? {
            return Ok(records);
        }
        self.blocking(move |shared| shared.partitions[index].read_disk(from, bytes_max)).await
    }

    async fn wait(&self, of: TopicPartition, from: Offset) -> Result<()> {
        self.shared.partitions[self.shared.index(of)?].wait(from).await
    }

    async fn bounds(&self, of: TopicPartition) -> Result<Bounds> {
        Ok(self.shared.partitions[self.shared.index(of)?].bounds())
    }

    async fn trim(&self, of: TopicPartition, before: Offset) -> Result<()> {
        let index = self.shared.index(of)?;
        self.blocking(move |shared| shared.partitions[index].trim(&shared.embedded, &shared.meta, before)).await
    }

    fn partitions(&self) -> u32 {
        self.shared.count
    }

    /// False from a failed write until the database takes writes again, and after [`EventLog::close`].
    fn healthy(&self) -> bool {
        self.shared.queue.phase() == Phase::Open && !self.shared.embedded.has_failed()
    }

    /// Stops taking appends, commits those that were taken, and ends the thread. Blocks until then; dropping does the same.
    fn close(&self) {
        self.shared.queue.enter(Phase::Closed);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the log's thread ended with a panic");
        }
    }
}

impl FjallLog {
    /// Runs what waits for the disk where it holds up no other task.
    async fn blocking<T: Send + 'static>(&self, call: impl FnOnce(&Shared) -> Result<T> + Send + 'static) -> Result<T> {
        let shared = self.shared.clone();
        let called = tokio::task::spawn_blocking(move || call(&shared)).await;
        called.unwrap_or_else(|e| Err(Error::with_source(ErrorKind::Retry, "the call to the disk was ended", e)))
    }
}

impl Shared {
    /// Checks that a batch can be appended, and says how many bytes it is in the queue.
    fn check(&self, batch: &[Append]) -> Result<usize> {
        let mut bytes: usize = 0;
        for append in batch {
            self.index(append.to)?;
            let (key, value) = (append.key.len(), append.value.len());
            if value > VALUE_BYTES_MAX || key > KEY_BYTES_MAX {
                let message = format!(
                    "cannot append a key of {key} and a value of {value} bytes: at most {KEY_BYTES_MAX} and {VALUE_BYTES_MAX}"
                );
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            bytes += QUEUED_RECORD_BYTES + key + value;
        }
        if bytes > self.queue.bytes_max() {
            let message = format!("cannot append {bytes} bytes at once: at most {}; split it", self.queue.bytes_max());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(bytes)
    }

    fn index(&self, of: TopicPartition) -> Result<usize> {
        self.index_of(of).ok_or_else(|| {
            let count = of.topic.partitions(self.count);
            Error::new(ErrorKind::Invalid, format!("there is no partition {of}: the topic has {count}"))
        })
    }

    fn index_of(&self, of: TopicPartition) -> Option<usize> {
        if of.partition >= of.topic.partitions(self.count) {
            return None;
        }
        let before = Topic::ALL.into_iter().take_while(|topic| *topic != of.topic);
        let before: u32 = before.map(|topic| topic.partitions(self.count)).sum();
        Some((before + of.partition) as usize)
    }
}

/// The name of the space of a partition.
fn space_name(of: TopicPartition) -> String {
    format!("log/{of}")
}

fn check_layout(embedded: &Embedded, meta: &Space, count: u32) -> Result<()> {
    let wanted: Vec<u8> = [LAYOUT].into_iter().chain(count.to_be_bytes()).collect();
    let found = meta.get(LAYOUT_KEY).map_err(|e| storage_error("cannot read the log's layout", e))?;
    let Some(found) = found else {
        let mut writes = Writes::default();
        writes.put(meta, LAYOUT_KEY, Slice::from(wanted.as_slice()));
        let written = embedded.write(writes, Durability::Synced);
        return written.map_err(|e| storage_error("cannot write the log's layout", e));
    };
    match &*found {
        [LAYOUT, made_with @ ..] if made_with.len() == 4 => {
            let made_with = made_with.iter().fold(0, |number, byte| number << 8 | u32::from(*byte));
            if made_with == count {
                return Ok(());
            }
            let message = format!(
                "the log has {made_with} partitions, not {count}: start with {made_with}, or replay it into a new data \
                 directory made with {count}"
            );
            Err(Error::new(ErrorKind::Invalid, message))
        }
        // Layout 1 had four topics. What stage 1 derives is another generation now, so nothing of it can be continued.
        [made, ..] if *made < LAYOUT => {
            let message = "the log was made by an older version, with fewer topics: replay it into a new data directory \
                           (`millrace tail actions` of that version writes it out)";
            Err(Error::new(ErrorKind::Invalid, message))
        }
        [made, ..] if *made > LAYOUT => {
            let message = format!(
                "the log was made by a newer version (layout {made}, this one knows up to {LAYOUT}): upgrade this process"
            );
            Err(Error::new(ErrorKind::Invalid, message))
        }
        _ => Err(Error::new(
            ErrorKind::Corrupt,
            "the log has no layout: the data directory is damaged, restore a backup",
        )),
    }
}

/// The database's error about a partition, as the log's.
fn storage(name: TopicPartition, error: millrace_embedded::Error) -> Error {
    storage_error(&format!("cannot use {name} now"), error)
}

fn storage_error(attempted: &str, error: millrace_embedded::Error) -> Error {
    Error::with_source(ErrorKind::Retry, attempted, error)
}

#[cfg(test)]
mod tests;
