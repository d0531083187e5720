//! What a job is: a rule over its state that returns writes as values.

use bytes::Bytes;
use millrace_events::{DeadLetter, Derived, LogTime, Micros, Position, Topic, TopicPartition};
use millrace_feature_store::views::{SourceCounts, WindowCounts};
use millrace_feature_store::{ListItem, ListKey, OnlineWrite, RecordKey, Version};
use millrace_log::{Offset, Record};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::state::State;
use crate::{Error, Result};

/// One record as a job sees it: admitted, decoded, with the clock of its partition.
#[derive(Debug)]
pub struct Input<'a> {
    /// The record.
    pub record: &'a Derived,
    /// The key it was routed by: the user or the post concerned.
    pub key: &'a str,
    /// The clock before this record; `None` until every source partition was heard.
    pub clock: Option<LogTime>,
}

/// A rule. It keeps nothing between calls but what it puts into the state.
pub trait Job: Send + Sync {
    /// A noun: what it makes.
    fn name(&self) -> &'static str;

    /// Applies one record.
    ///
    /// # Errors
    /// When state cannot be read; never because of the record: what cannot be applied becomes a dead letter.
    fn apply(&self, input: &Input<'_>, state: &mut State, writes: &mut Writes) -> Result<()>;

    /// The clock has moved, or was told again: closes what is due. Called record by record, never per batch, after `apply` of
    /// the record that moved it.
    ///
    /// # Errors
    /// When state cannot be read.
    fn advance(&self, advance: Advance, state: &mut State, writes: &mut Writes) -> Result<()> {
        let (_, _, _) = (advance, state, writes);
        Ok(())
    }

    /// The value now of a record that was only announced, see [`Writes::put_later`]; `None` when it is another job's.
    ///
    /// # Errors
    /// When state cannot be read.
    fn value(&self, key: &RecordKey, state: &mut State) -> Result<Option<Bytes>> {
        let (_, _) = (key, state);
        Ok(None)
    }
}

/// A step of the clock of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// Where the clock stood, which for a tick may be where it stands; `None` before it was known.
    pub from: Option<LogTime>,
    /// Where it stands.
    pub to: LogTime,
    /// The record carried nothing but the time: its source is idle, or has not sent here for a while.
    pub by_tick: bool,
}

/// Everything that reads one topic: it decodes, admits, and runs its jobs.
pub trait Stage: Send + Sync {
    /// The names under which its progress is reported.
    fn jobs(&self) -> Vec<&'static str>;

    /// Applies one record of the log.
    ///
    /// # Errors
    /// When state cannot be read, or the partition must stop (a gap).
    fn apply(&self, of: TopicPartition, record: Record, state: &mut State, writes: &mut Writes) -> Result<()>;

    /// The value now of a record that one of its jobs announced, see [`Writes::put_later`].
    ///
    /// # Errors
    /// When state cannot be read, or no job knows the record.
    fn value(&self, key: &RecordKey, state: &mut State) -> Result<Bytes> {
        let _ = state;
        Err(Error::Corrupt(format!("no job makes the record {key:?}")))
    }

    /// The clock of the partition as of the state.
    ///
    /// # Errors
    /// When state cannot be read.
    fn clock(&self, state: &mut State) -> Result<Option<LogTime>>;

    /// What came in by source, in the order of names, as of the state; nothing where it does not matter.
    ///
    /// # Errors
    /// When state cannot be read.
    fn sources(&self, state: &mut State) -> Result<Vec<SourceCounts>> {
        let _ = state;
        Ok(Vec::new())
    }

    /// What it counted, by name, as of the state.
    ///
    /// # Errors
    /// When state cannot be read.
    fn counts(&self, state: &mut State) -> Result<Vec<(&'static str, u64)>> {
        let _ = state;
        Ok(Vec::new())
    }
}

/// How much of a refused record its dead letter holds, bytes.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// A re-keyed record on its way out.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Where to.
    pub to: TopicPartition,
    /// The key it is routed by.
    pub key: Bytes,
    /// The record, its positions filled in.
    pub record: Derived,
}

/// What a batch of records leads to, collected before any of it happens. Online writes to the same key replace each other.
#[derive(Debug, Default)]
pub struct Writes {
    /// Re-keyed records, in order.
    pub publish: Vec<Publish>,
    /// Refusals.
    pub dead: Vec<DeadLetter>,
    /// Rows for the warehouse, each with the offset of the record that led to it.
    pub(crate) rows: Vec<(Offset, Row)>,
    /// Records that have no row in the table of their topic.
    pub(crate) left_out: Vec<Offset>,
    /// Records whose row in the table of their topic says that a robot did it, and that do not say so themselves.
    pub(crate) robots: Vec<Offset>,
    online: Vec<OnlineWrite>,
    /// Which of `online` have no value yet.
    announced: FxHashSet<usize>,
    place: FxHashMap<Place, usize>,
    version: Version,
    at: Position,
    time: LogTime,
}

/// A row for the warehouse, beside the rows of `events` that follow from the log itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A closed window of a post, for `engagement_windows`.
    EngagementWindow(ClosedWindow),
    /// An id that belongs to another since an earlier time than was known, for `identities`.
    Identity(LinkedId),
}

/// An id that belongs to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedId {
    /// The id.
    pub alias_id: String,
    /// Whose it is; that one may belong to another itself.
    pub person_id: String,
    /// Event time of what says so, microseconds.
    pub linked_at_us: Micros,
}

/// A closed window of a post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedWindow {
    /// The post.
    pub post_id: String,
    /// What it drew, and which window.
    pub counts: WindowCounts,
    /// The clock that closed it.
    pub closed_at: LogTime,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Place {
    Record(RecordKey),
    Member(ListKey, Bytes),
}

impl Writes {
    /// Begins a record: what is written from now on carries its version and its position.
    pub fn begin(&mut self, generation: u32, partition: u32, offset: Offset, time: LogTime) {
        self.version = Version { generation, offset };
        self.at = Position { generation, partition, offset, index: 0 };
        self.time = time;
    }

    /// Sets a record.
    pub fn put(&mut self, key: RecordKey, value: Bytes) {
        let version = self.version;
        self.online(Place::Record(key.clone()), OnlineWrite::Put { key, value, version });
    }

    /// Sets a record to the value that [`Job::value`] says when the batch is written: for a record that many events change
    /// and that is dear to make. What is written is the same, once for each batch.
    pub fn put_later(&mut self, key: RecordKey) {
        let version = self.version;
        let at = self.online(Place::Record(key.clone()), OnlineWrite::Put { key, value: Bytes::new(), version });
        self.announced.insert(at);
    }

    /// Gives every announced record its value.
    pub(crate) fn settle(&mut self, mut value: impl FnMut(&RecordKey) -> Result<Bytes>) -> Result<()> {
        for at in self.announced.drain() {
            if let Some(OnlineWrite::Put { key, value: now, .. }) = self.online.get_mut(at) {
                *now = value(key)?;
            }
        }
        Ok(())
    }

    /// Deletes a record.
    pub fn delete(&mut self, key: RecordKey) {
        let version = self.version;
        self.online(Place::Record(key.clone()), OnlineWrite::Delete { key, version });
    }

    /// Puts a member into a list.
    pub fn insert(&mut self, list: ListKey, member: Bytes, score: Micros) {
        let version = self.version;
        let item = ListItem { score, member: member.clone() };
        self.online(Place::Member(list.clone(), member), OnlineWrite::Insert { list, item, version });
    }

    /// Puts a member into a list of which only a head is kept, where a member's highest score counts.
    pub fn raise(&mut self, list: ListKey, member: Bytes, score: Micros) {
        let place = Place::Member(list.clone(), member.clone());
        let higher = match self.place.get(&place).and_then(|at| self.online.get(*at)) {
            Some(OnlineWrite::Insert { item, .. }) => item.score.max(score),
            _ => score,
        };
        self.insert(list, member, higher);
    }

    /// Takes a member out of a list.
    pub fn remove(&mut self, list: ListKey, member: Bytes) {
        let version = self.version;
        self.online(Place::Member(list.clone(), member.clone()), OnlineWrite::Remove { list, member, version });
    }

    /// Refuses the record. The id is a function of its place, so that a repetition after a crash is the same letter.
    pub fn refuse(&mut self, topic: Topic, by: &str, reason: &str, detail: String, payload: Bytes) {
        let at = self.at;
        let truncated = payload.len() > PAYLOAD_BYTES_MAX;
        let payload = if truncated { payload.slice(..PAYLOAD_BYTES_MAX) } else { payload };
        self.dead.push(DeadLetter {
            id: format!("{topic}-{}-{}-{}-{by}", at.generation, at.partition, at.offset),
            reason: reason.to_owned(),
            detail,
            source: String::new(),
            by: by.to_owned(),
            payload,
            truncated,
            log_time_us: self.time.0,
            position: Some(at),
            door: String::new(),
        });
    }

    /// Adds a row to the warehouse: exactly once, some seconds from now.
    pub fn row(&mut self, row: Row) {
        self.rows.push((self.at.offset, row));
    }

    /// Keeps this record out of the warehouse: a duplicate, or what could not be read.
    pub fn leave_out(&mut self) {
        self.left_out.push(self.at.offset);
    }

    /// Marks this record as a robot's in the warehouse.
    pub fn mark_robot(&mut self) {
        self.robots.push(self.at.offset);
    }

    /// The position of the next re-keyed record of this input.
    pub(crate) fn next_position(&mut self) -> Position {
        let position = self.at;
        self.at.index += 1;
        position
    }

    /// How much has been collected: records out, refusals and online writes.
    pub fn len(&self) -> usize {
        self.publish.len() + self.dead.len() + self.online.len() + self.rows.len()
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the online writes out.
    pub fn take_online(&mut self) -> Vec<OnlineWrite> {
        debug_assert!(self.announced.is_empty(), "announced records get their value before they are written");
        self.place.clear();
        std::mem::take(&mut self.online)
    }

    fn online(&mut self, place: Place, write: OnlineWrite) -> usize {
        match self.place.get(&place) {
            Some(&at) => {
                self.online[at] = write;
                self.announced.remove(&at);
                at
            }
            None => {
                let at = self.online.len();
                self.place.insert(place, at);
                self.online.push(write);
                at
            }
        }
    }
}
