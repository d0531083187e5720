//! Reading at any position, and what a partition holds.

mod high;
mod lanes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_events::{LogTime, Topic, TopicPartition};
use millrace_log::{Bounds, Error, ErrorKind, Offset, Record, Result};
use tokio::sync::{Semaphore, watch};

use crate::asking::{Asking, blocking};
use crate::context::failed;
use crate::options::KafkaOptions;
use high::{High, History, WINDOW, high_before};
use lanes::{InUse, LANES_MAX, Lanes, Raw, Stopped, Taken, Use};

/// The most bytes that one read takes, whatever it asks for.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many bytes are read back at once in a search for log time.
const SEARCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often a read looks for another lane when its own failed.
const ATTEMPTS: usize = 8;
/// How often it does when others have moved its own away, which costs no time where nothing is wrong.
const MOVES_MAX: usize = 32;
/// How long a waiter trusts a quiet lane before it asks the broker for the end.
const RECHECK: Duration = Duration::from_secs(5);
/// The pause after a lane failed under a waiter.
const STOPPED_PAUSE: Duration = Duration::from_millis(100);
/// For how many offsets of a partition the highest log time before them is remembered.
const HIGHS_MAX: usize = 64;

/// Reads for everybody in this process.
pub(crate) struct Reader {
    options: KafkaOptions,
    asking: Asking,
    lanes: Arc<Lanes>,
    /// Every partition of every topic, in the order of topics.
    parts: Vec<Part>,
}

/// What this process knows of one partition.
struct Part {
    of: TopicPartition,
    name: String,
    known: watch::Sender<Known>,
    highs: Mutex<Highs>,
    /// One lane is left to those that wait for the end, or readers and they would move each other for ever.
    reading: Semaphore,
}

/// What is certain about a partition: neither of them ever falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    start: Offset,
    end: Offset,
}

#[derive(Default)]
struct Highs {
    before: BTreeMap<Offset, High>,
    order: VecDeque<Offset>,
}

impl Part {
    fn learn(&self, start: Offset, end: Offset) -> Known {
        self.known.send_if_modified(|known| {
            let learnt = Known { start: known.start.max(start), end: known.end.max(end) };
            std::mem::replace(known, learnt) != learnt
        });
        *self.known.borrow()
    }

    fn remember(&self, before: Offset, high: High) {
        let mut highs = self.highs.lock().unwrap_or_else(PoisonError::into_inner);
        if highs.before.insert(before, high).is_none() {
            highs.order.push_back(before);
        }
        if highs.order.len() > HIGHS_MAX
            && let Some(oldest) = highs.order.pop_front()
        {
            highs.before.remove(&oldest);
        }
    }

    /// The highest before `before` or the nearest offset below it for which it is remembered.
    fn remembered(&self, before: Offset) -> Option<(Offset, High)> {
        let highs = self.highs.lock().unwrap_or_else(PoisonError::into_inner);
        highs.before.range(..=before).next_back().map(|(before, high)| (*before, *high))
    }
}

impl Reader {
    pub(crate) fn new(options: KafkaOptions, asking: Asking) -> Self {
        let mut parts = Vec::new();
        for topic in Topic::ALL {
            for partition in 0..topic.partitions(options.partitions) {
                parts.push(Part {
                    of: TopicPartition::new(topic, partition),
                    name: options.topic(topic),
                    known: watch::Sender::new(Known::default()),
                    highs: Mutex::default(),
                    reading: Semaphore::new(LANES_MAX - 1),
                });
            }
        }
        let lanes = Arc::new(Lanes::new(options.clone()));
        Self { options, asking, lanes, parts }
    }

    pub(crate) fn close(&self) {
        self.lanes.close();
    }

    /// # Errors
    /// [`ErrorKind::Invalid`] when there is no such partition.
    pub(crate) fn check(&self, of: TopicPartition) -> Result<()> {
        self.part(of).map(|_| ())
    }

    /// The end is at least there: a delivery report said so.
    pub(crate) fn told(&self, of: TopicPartition, end: Offset) {
        if let Ok(part) = self.part(of) {
            part.learn(0, end);
        }
    }

    pub(crate) async fn bounds(&self, of: TopicPartition) -> Result<Bounds> {
        let part = self.part(of)?;
        let known = self.ask(part).await?;
        let last = self.high(part, known.start, known.end).await?;
        Ok(Bounds { start: known.start, end: known.end, last_time: last.map(|high| LogTime(high.time_us)) })
    }

    pub(crate) async fn read(&self, of: TopicPartition, from: Offset, bytes_max: usize) -> Result<Vec<Record>> {
        let part = self.part(of)?;
        let known = *part.known.borrow();
        if let Some(records) = self.read_fetched(part, known, from, bytes_max).await? {
            return Ok(records);
        }
        let known = self.ask(part).await?;
        if from < known.start || from > known.end {
            let message = format!("cannot read {of} from {from}: it holds {} to {}", known.start, known.end);
            return Err(Error::new(ErrorKind::OutOfRange, message));
        }
        if from == known.end {
            return Ok(Vec::new());
        }
        let high = self.high(part, known.start, from).await?;
        let raws = self.raws(part, from, known.end, bytes_max).await?;
        Ok(self.records(part, high, raws))
    }

    /// What a lane has fetched already, when nothing else need be asked.
    async fn read_fetched(
        &self,
        part: &Part,
        known: Known,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Option<Vec<Record>>> {
        if from < known.start {
            return Ok(None);
        }
        let high = match part.remembered(from) {
            Some((before, high)) if before == from => Some(high),
            _ if from == 0 => None,
            _ => return Ok(None),
        };
        let Some(lane) = self.lanes.at(part.of, from, Use::Read) else { return Ok(None) };
        if !lane.has(from).unwrap_or(false) {
            return Ok(None);
        }
        let raws = self.raws(part, from, known.end.max(from + 1), bytes_max).await?;
        Ok(Some(self.records(part, high, raws)))
    }

    /// Raises log times, and remembers the highest for whoever goes on.
    fn records(&self, part: &Part, mut high: Option<High>, raws: Vec<Raw>) -> Vec<Record> {
        let mut records = Vec::with_capacity(raws.len());
        for raw in raws {
            let raised = High::raise(high, raw.offset, raw.time_us);
            high = Some(raised);
            records.push(Record { offset: raw.offset, time: LogTime(raised.time_us), key: raw.key, value: raw.value });
        }
        if let (Some(high), Some(last)) = (high, records.last()) {
            part.learn(0, last.offset + 1);
            part.remember(last.offset + 1, high);
        }
        records
    }

    pub(crate) async fn wait(&self, of: TopicPartition, from: Offset) -> Result<()> {
        let part = self.part(of)?;
        let mut known = part.known.subscribe();
        while known.borrow_and_update().end <= from {
            // What is appended at `from` comes to a lane that stands there: no need to ask for the end first.
            let (lane, at) = match self.lanes.at(of, from, Use::Wait) {
                Some(lane) => (lane, from),
                None => {
                    let end = self.ask(part).await?.end;
                    if end > from {
                        return Ok(());
                    }
                    (self.lane(part, end, Use::Wait).await?, end)
                }
            };
            self.await_arrival(part, &lane, at, &mut known).await?;
        }
        Ok(())
    }

    /// Until something comes to this lane, which stands at the end, or more is known of the partition, or long enough.
    async fn await_arrival(
        &self,
        part: &Part,
        lane: &InUse,
        at: Offset,
        known: &mut watch::Receiver<Known>,
    ) -> Result<()> {
        let mut arrivals = lane.arrivals();
        arrivals.borrow_and_update();
        match lane.has(at) {
            Ok(true) => {
                part.learn(0, at + 1);
                return Ok(());
            }
            Ok(false) => {}
            Err(Stopped::Moved) => return Ok(()),
            Err(stopped) => {
                tracing::debug!(of = %part.of, at, ?stopped, "a lane stopped while it was waited for");
                tokio::time::sleep(STOPPED_PAUSE).await;
                return Ok(());
            }
        }
        let changed = async {
            tokio::select! {
                _ = arrivals.changed() => {}
                _ = known.changed() => {}
            }
        };
        if tokio::time::timeout(RECHECK, changed).await.is_err() {
            self.ask(part).await?;
        } else if lane.has(at).unwrap_or(false) {
            part.learn(0, at + 1);
        }
        Ok(())
    }

    /// The offset that a partition may be trimmed to at most when it is told to drop what is below `before`: that of a
    /// record that none before it exceeds, so that log times stay what they are without those. `None` for nothing to trim.
    pub(crate) async fn trim_place(&self, of: TopicPartition, before: Offset) -> Result<Option<Offset>> {
        let part = self.part(of)?;
        let known = self.ask(part).await?;
        // The newest record stays, so that log time goes on from it.
        let before = before.min(known.end.saturating_sub(1));
        if before <= known.start {
            return Ok(None);
        }
        let high = self.high(part, known.start, before + 1).await?;
        Ok(high.map(|high| high.at).filter(|at| *at > known.start))
    }

    pub(crate) fn trimmed(&self, of: TopicPartition, start: Offset) {
        if let Ok(part) = self.part(of) {
            part.learn(start, start);
        }
    }

    /// The highest of the records before `before`; `None` when there are none.
    async fn high(&self, part: &Part, start: Offset, before: Offset) -> Result<Option<High>> {
        if before <= start {
            return Ok(None);
        }
        let mut history = PartHistory { reader: self, part };
        let high = match part.remembered(before) {
            Some((near, high)) if near == before => return Ok(Some(high)),
            Some((near, high)) if near > start && before - near <= WINDOW => {
                high::scan(&mut history, near, before, Some(high)).await?
            }
            _ => high_before(&mut history, start, before).await?,
        };
        if let Some(high) = high {
            part.remember(before, high);
        }
        Ok(high)
    }

    /// Reads from `from`, where there is a record, up to `until`: all of it or about `bytes_max` bytes.
    async fn raws(&self, part: &Part, from: Offset, until: Offset, bytes_max: usize) -> Result<Vec<Raw>> {
        let mut taken = Taken::new(from, bytes_max.min(READ_BYTES_MAX));
        let (mut stopped, mut failures) = (Stopped::Moved, 0);
        let _permit = part.reading.acquire().await;
        for _ in 0..MOVES_MAX {
            let lane = self.lane(part, taken.next, Use::Read).await?;
            let mut arrivals = lane.arrivals();
            loop {
                arrivals.borrow_and_update();
                if let Err(why) = lane.take(&mut taken, until) {
                    failures += usize::from(!matches!(why, Stopped::Moved));
                    stopped = why;
                    break;
                }
                if taken.full || taken.next >= until {
                    return Ok(taken.raws);
                }
                if tokio::time::timeout(self.options.request_timeout, arrivals.changed()).await.is_err() {
                    if !taken.raws.is_empty() {
                        return Ok(taken.raws);
                    }
                    let message = format!("cannot read {} from {from} now: nothing came within the time-out", part.of);
                    return Err(Error::new(ErrorKind::Retry, message));
                }
            }
            if failures >= ATTEMPTS {
                break;
            }
        }
        if !taken.raws.is_empty() {
            return Ok(taken.raws);
        }
        Err(match stopped {
            Stopped::Gap(at) => Error::new(
                ErrorKind::Corrupt,
                format!("offset {at} of {} is missing: is the topic compacted, or written in transactions?", part.of),
            ),
            Stopped::Failed(error) => failed(format!("cannot read {} from {from}", part.of), error),
            Stopped::Moved => {
                Error::new(ErrorKind::Retry, format!("cannot read {} from {from} now: too many read it", part.of))
            }
        })
    }

    async fn lane(&self, part: &Part, position: Offset, what_for: Use) -> Result<InUse> {
        if let Some(lane) = self.lanes.at(part.of, position, what_for) {
            return Ok(lane);
        }
        let (lanes, of) = (self.lanes.clone(), part.of);
        blocking(move || lanes.open(of, position, what_for)).await
    }

    /// Asks the leader where the partition starts and ends.
    async fn ask(&self, part: &Part) -> Result<Known> {
        let (start, end) = self.asking.bounds(&part.name, part.of.partition).await?;
        Ok(part.learn(start, end))
    }

    fn part(&self, of: TopicPartition) -> Result<&Part> {
        let count = of.topic.partitions(self.options.partitions);
        let before = Topic::ALL.into_iter().take_while(|topic| *topic != of.topic);
        let before: u32 = before.map(|topic| topic.partitions(self.options.partitions)).sum();
        let part = if of.partition < count { self.parts.get((before + of.partition) as usize) } else { None };
        part.ok_or_else(|| Error::new(ErrorKind::Invalid, format!("there is no partition {of}: the topic has {count}")))
    }
}

struct PartHistory<'a> {
    reader: &'a Reader,
    part: &'a Part,
}

impl History for PartHistory<'_> {
    async fn stamps(&mut self, from: Offset, until: Offset) -> Result<Vec<i64>> {
        let raws = self.reader.raws(self.part, from, until, SEARCH_BYTES_MAX).await?;
        Ok(raws.iter().map(|raw| raw.time_us).collect())
    }

    async fn first_since(&mut self, timestamp: i64) -> Result<Option<Offset>> {
        self.reader.asking.first_since(&self.part.name, self.part.of.partition, timestamp).await
    }
}
