//! Proves that the present is a function of the log: every job is replayed from its own topic, from the first record, into
//! scratch stores, and what comes out is compared with what is live, key by key; what stage 1 publishes on replay is
//! compared with what stands in the topics, record by record.

mod warehouse;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_embedded::{Batch, Durability, Embedded, Space};
use millrace_events::{Derived, Position, Topic, TopicPartition, decode};
use millrace_feature_store::online::Content;
use millrace_feature_store::{FjallOnlineStore, OnlineStore, views};
use millrace_log::{Append, Bounds, EventLog, Offset, Record};
use millrace_warehouse::Warehouse;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::archive::{ArchiveOptions, ArchiveSeams, Archived, Archiver};
use crate::error::{Error, Result};
use crate::jobs::stage_of;
use crate::runner::{Board, Gate, Seams, Timer, Worker, WorkerOptions};
use crate::state::FjallStateStore;

/// How much one read of the comparison takes, bytes and keys.
const READ_BYTES: usize = 1024 * 1024;
const SCAN_KEYS: usize = 2_000;

/// What a comparison found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Nothing differs.
    pub equal: bool,
    /// XXH3-128 over all online content in key order, hexadecimal: equal for runs of the same input, once every partition was
    /// told the time after the last event.
    pub content_hash: String,
    /// Online records and list members compared.
    pub content: u64,
    /// Re-keyed records compared, duplicates not counted.
    pub records: u64,
    /// Actions replayed, duplicates and ticks included.
    pub actions: u64,
    /// Rows of the warehouse compared.
    pub rows: u64,
    /// The first difference, in words.
    pub difference: Option<String>,
}

/// A replay in scratch stores, which can be continued to later offsets before it is compared.
pub struct Replay {
    generation: u32,
    live: Arc<dyn EventLog>,
    recorder: Arc<Recorder>,
    online: Arc<dyn OnlineStore>,
    states: Arc<FjallStateStore>,
    reached: BTreeMap<TopicPartition, Offset>,
}

impl Replay {
    /// Begins a replay of `log` in `scratch`, an empty database that the caller deletes afterwards.
    ///
    /// # Errors
    /// When the scratch database cannot be used.
    pub fn new(log: Arc<dyn EventLog>, generation: u32, scratch: &Arc<Embedded>) -> Result<Self> {
        let online = FjallOnlineStore::open(scratch.clone(), Default::default())?;
        Self::onto(log, generation, scratch, online)
    }

    /// Begins a replay that writes to `online`, an empty store that stays: a rebuild. Nothing is published again, and the
    /// job state that it needs is in `scratch`, as of [`Replay::new`].
    ///
    /// # Errors
    /// When the scratch database cannot be used.
    pub fn onto(
        log: Arc<dyn EventLog>,
        generation: u32,
        scratch: &Arc<Embedded>,
        online: Arc<dyn OnlineStore>,
    ) -> Result<Self> {
        let published = scratch.space("verify/published").map_err(|e| scratch_failed(&e))?;
        let recorder = Arc::new(Recorder { live: log.clone(), published });
        let states = Arc::new(FjallStateStore::new(scratch.clone()));
        Ok(Self { generation, live: log, recorder, online, states, reached: BTreeMap::new() })
    }

    /// Replays every partition up to these offsets.
    ///
    /// # Errors
    /// When the log cannot be read from its first record on (it was trimmed), or a partition cannot be applied.
    pub async fn advance(&mut self, ends: &BTreeMap<TopicPartition, Offset>) -> Result<()> {
        for (&of, &end) in ends {
            let Some(stage) = stage_of(of.topic, self.generation, self.live.partitions()) else { continue };
            let seams = Seams {
                log: self.recorder.clone(),
                online: self.online.clone(),
                states: self.states.clone(),
                timer: Arc::new(NoTimer),
                gate: Gate::default(),
                archived: Archived::default(),
            };
            let worker = Worker::new(of, self.generation, stage, seams, WorkerOptions::default(), Board::new());
            worker.run_until(end).await?;
            self.reached.insert(of, end);
        }
        Ok(())
    }

    /// Archives what the replay led to into an empty warehouse: a rebuild.
    ///
    /// # Errors
    /// When the log cannot be read, or the warehouse does not take it.
    pub async fn archive(&self, warehouse: Arc<dyn Warehouse>) -> Result<()> {
        let board = Board::new();
        for (&of, &end) in &self.reached {
            board.update(of, |status| (status.committed, status.applied) = (end, end));
        }
        let seams = ArchiveSeams {
            log: self.live.clone(),
            states: self.states.clone(),
            warehouse,
            board,
            timer: Arc::new(NoTimer),
        };
        Archiver::new(seams, self.generation, ArchiveOptions::default(), Archived::default()).catch_up().await
    }

    /// Compares what the replay led to with what is live, the warehouse included when there is one. The live jobs must stand
    /// still at the offsets reached until `release` is called: the rows of a warehouse are many, and neither they nor the
    /// part of the log that led to them change any more. The archive may go on.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn compare(
        &self,
        live: &dyn OnlineStore,
        warehouse: Option<Arc<dyn Warehouse>>,
        release: impl FnOnce() + Send,
    ) -> Result<Report> {
        let mut report = Report::default();
        let actions = self.reached.iter().filter(|(of, _)| of.topic == Topic::Actions);
        report.actions = actions.map(|(_, end)| end).sum();
        self.compare_content(live, &mut report).await?;
        if report.difference.is_none() {
            self.compare_records(&mut report).await?;
        }
        if let Some(warehouse) = warehouse.filter(|_| report.difference.is_none()) {
            let comparison = warehouse::Comparison {
                generation: self.generation,
                live: self.live.clone(),
                states: self.states.clone(),
                warehouse,
                reached: self.reached.clone(),
            };
            let recorded = comparison.recorded().await?;
            release();
            comparison.run(&recorded, &mut report).await?;
        }
        report.equal = report.difference.is_none();
        Ok(report)
    }

    async fn compare_content(&self, live: &dyn OnlineStore, report: &mut Report) -> Result<()> {
        let mut hasher = Xxh3::new();
        let mut live = Scan::new(live);
        let mut again = Scan::new(self.online.as_ref());
        loop {
            let (ours, theirs) = (live.next().await?, again.next().await?);
            if let Some(content) = &ours {
                report.content += 1;
                hash_content(&mut hasher, content);
            }
            if ours == theirs && ours.is_none() {
                break;
            }
            if ours != theirs && report.difference.is_none() {
                report.difference = Some(format!("live has {}, a replay gives {}", describe(&ours), describe(&theirs)));
                // The hash is still wanted, to compare with other runs, so the live side is read to its end.
                while let Some(content) = live.next().await? {
                    report.content += 1;
                    hash_content(&mut hasher, &content);
                }
                break;
            }
        }
        report.content_hash = format!("{:032x}", hasher.digest128());
        Ok(())
    }

    /// Everything that stands in the re-keyed topics was published by the replay too, and the other way round.
    async fn compare_records(&self, report: &mut Report) -> Result<()> {
        let mut live_count: u64 = 0;
        for topic in Topic::DERIVED {
            for partition in 0..self.live.partitions() {
                let of = TopicPartition::new(topic, partition);
                let end = self.live.bounds(of).await?.end;
                let mut marks: BTreeMap<u32, Position> = BTreeMap::new();
                let mut next = 0;
                while next < end {
                    let records = self.live.read(of, next, READ_BYTES).await?;
                    for record in records.into_iter().filter(|r| r.offset < end) {
                        next = record.offset + 1;
                        let derived: Derived = decode("a re-keyed record", record.value.clone())
                            .map_err(|_| Error::corrupt("a re-keyed record", of))?;
                        let at = derived.position;
                        let source = TopicPartition::new(Topic::Actions, at.partition);
                        let beyond = self.reached.get(&source).is_none_or(|reached| at.offset >= *reached);
                        if beyond || marks.get(&at.partition).is_some_and(|mark| at <= *mark) {
                            continue;
                        }
                        marks.insert(at.partition, at);
                        live_count += 1;
                        let again =
                            self.recorder.published.get(published_key(of, at)).map_err(|e| scratch_failed(&e))?;
                        if again.as_deref() != Some(&xxh3_128(&record.value).to_be_bytes()[..]) {
                            let why = if again.is_some() {
                                "a replay publishes another"
                            } else {
                                "a replay does not publish it"
                            };
                            report.difference = Some(format!("{of} has {derived:?}: {why}"));
                            return Ok(());
                        }
                    }
                }
            }
        }
        report.records = live_count;
        let replayed = self.recorder.count()?;
        if replayed != live_count {
            let difference = format!("stage 1 published {live_count} records, a replay publishes {replayed}");
            report.difference = Some(difference);
        }
        Ok(())
    }
}

/// Reads the live log; what is appended is remembered by hash instead.
struct Recorder {
    live: Arc<dyn EventLog>,
    published: Space,
}

impl Recorder {
    fn count(&self) -> Result<u64> {
        let mut count = 0;
        let mut after: Option<Vec<u8>> = None;
        loop {
            let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let found = self.published.range(from, Bound::Unbounded, SCAN_KEYS).map_err(|e| scratch_failed(&e))?;
            let Some((last, _)) = found.last() else { return Ok(count) };
            count += found.len() as u64;
            after = Some(last.to_vec());
        }
    }
}

#[async_trait]
impl EventLog for Recorder {
    async fn append(&self, batch: Vec<Append>) -> millrace_log::Result<Vec<Offset>> {
        let count = batch.len();
        let mut hashes = Batch::default();
        for append in batch.into_iter().filter(|a| a.to.topic != Topic::DeadLetters) {
            if let Ok(derived) = decode::<Derived>("a re-keyed record", append.value.clone()) {
                let key = published_key(append.to, derived.position);
                hashes.put(&self.published, key.as_ref(), &xxh3_128(&append.value).to_be_bytes()[..]);
            }
        }
        self.published.embedded().write(hashes, Durability::Ordered).map_err(|e| {
            millrace_log::Error::with_source(millrace_log::ErrorKind::Retry, "cannot write to the scratch database", e)
        })?;
        Ok(vec![0; count])
    }

    async fn read(&self, of: TopicPartition, from: Offset, bytes_max: usize) -> millrace_log::Result<Vec<Record>> {
        self.live.read(of, from, bytes_max).await
    }

    async fn wait(&self, of: TopicPartition, from: Offset) -> millrace_log::Result<()> {
        self.live.wait(of, from).await
    }

    async fn bounds(&self, of: TopicPartition) -> millrace_log::Result<Bounds> {
        self.live.bounds(of).await
    }

    async fn trim(&self, _of: TopicPartition, _before: Offset) -> millrace_log::Result<()> {
        Ok(())
    }

    fn partitions(&self) -> u32 {
        self.live.partitions()
    }
}

/// A replay never waits.
struct NoTimer;

#[async_trait]
impl Timer for NoTimer {
    async fn pause(&self, _duration: std::time::Duration) {}
}

/// Content in key order, without what only says how far a partition is.
struct Scan<'a> {
    store: &'a dyn OnlineStore,
    page: std::vec::IntoIter<Content>,
    last: Option<Content>,
    done: bool,
}

impl<'a> Scan<'a> {
    fn new(store: &'a dyn OnlineStore) -> Self {
        Self { store, page: Vec::new().into_iter(), last: None, done: false }
    }

    async fn next(&mut self) -> Result<Option<Content>> {
        loop {
            for content in self.page.by_ref() {
                if !matches!(&content, Content::Record(key, _) if key.view == views::PROGRESS) {
                    return Ok(Some(content));
                }
            }
            if self.done {
                return Ok(None);
            }
            let page = self.store.scan(self.last.as_ref(), SCAN_KEYS).await?;
            self.done = page.len() < SCAN_KEYS;
            self.last = page.last().cloned().or(self.last.take());
            self.page = page.into_iter();
        }
    }
}

fn hash_content(hasher: &mut Xxh3, content: &Content) {
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    match content {
        Content::Record(key, value) => {
            part(&[0, key.view]);
            part(&key.entity);
            part(value);
        }
        Content::Member(list, member, score) => {
            part(&[1, list.view]);
            part(&list.entity);
            part(member);
            part(&score.to_le_bytes());
        }
    }
}

fn describe(content: &Option<Content>) -> String {
    match content {
        None => "nothing more".to_owned(),
        Some(Content::Record(key, value)) => {
            format!("record {} {:?} = {value:?}", key.view, String::from_utf8_lossy(&key.entity))
        }
        Some(Content::Member(list, member, score)) => {
            let (entity, member) = (String::from_utf8_lossy(&list.entity), String::from_utf8_lossy(member));
            format!("list {} {entity:?} with {member:?} at {score}", list.view)
        }
    }
}

fn published_key(of: TopicPartition, at: Position) -> Bytes {
    let mut key = Vec::with_capacity(25);
    key.push(of.topic as u8);
    key.extend_from_slice(&of.partition.to_be_bytes());
    key.extend_from_slice(&at.generation.to_be_bytes());
    key.extend_from_slice(&at.partition.to_be_bytes());
    key.extend_from_slice(&at.offset.to_be_bytes());
    key.extend_from_slice(&at.index.to_be_bytes());
    key.into()
}

fn scratch_failed(error: &millrace_embedded::Error) -> Error {
    Error::Corrupt(format!("cannot use the scratch database: {error}"))
}
