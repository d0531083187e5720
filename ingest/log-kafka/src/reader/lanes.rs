//! Places of reading: consumers are positional here, and few.
//!
//! A consumer of librdkafka reads many partitions, each at one position, and fetches ahead. A *lane* is one partition of one
//! consumer. A reader that goes on where a lane stands finds its records fetched already; anybody else gets another lane,
//! or moves the one that was used the longest time ago. So a worker, the archiver and people who look around do not throw
//! each other back, and the threads are those of [`LANES_MAX`] clients however many partitions there are.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millrace_events::TopicPartition;
use millrace_log::{Error, ErrorKind, Offset, Result};
use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use tokio::sync::watch;

use crate::asking::number;
use crate::closing::{READER_CLOSE_MAX, within};
use crate::context::{Context, failed, unusable};
use crate::options::KafkaOptions;
use crate::wire::time_of;

/// How many places of reading one partition number needs over all topics: jobs, the archive, and one to spare.
const LANES_OF_A_PARTITION: usize = 8;

/// How many lanes one partition has, each of a consumer of its own: one for those that wait for the end, two to read on
/// with.
pub(super) const LANES_MAX: usize = 3;
/// How often a consumer looks for errors of the client as a whole.
const LOOK: Duration = Duration::from_millis(250);
/// The longest that a fetch waits at the broker for something new. A lane that is moved waits for it at worst.
const FETCH_WAIT_MS: &str = "50";
/// How soon a lane that was full is filled again. librdkafka's own second would hold every reader up.
const REFILL_MS: &str = "5";
/// The most bytes that one fetch brings for all partitions of a broker.
const FETCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A lane without a position: it is being moved, or what it read was wrong.
const NOWHERE: Offset = Offset::MAX;

/// A record as it stands in Kafka: its log time is not raised yet.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) offset: Offset,
    pub(super) time_us: i64,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
}

/// What a read has so far.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) raws: Vec<Raw>,
    /// The offset to go on from.
    pub(super) next: Offset,
    /// Whether the next record did not fit any more.
    pub(super) full: bool,
    bytes: usize,
    bytes_max: usize,
}

impl Taken {
    pub(super) fn new(from: Offset, bytes_max: usize) -> Self {
        Self { raws: Vec::new(), next: from, full: false, bytes: 0, bytes_max }
    }

    /// The first fits in any case.
    fn fits(&self, raw: &Raw) -> bool {
        self.raws.is_empty() || self.bytes + raw.key.len() + raw.value.len() <= self.bytes_max
    }

    fn push(&mut self, raw: Raw) {
        self.bytes += raw.key.len() + raw.value.len();
        self.next = raw.offset + 1;
        self.full = self.bytes >= self.bytes_max;
        self.raws.push(raw);
    }
}

/// Why a lane gave nothing.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It stands somewhere else now.
    Moved,
    /// An offset is left out where the lane stands.
    Gap(Offset),
    /// The cluster said no.
    Failed(KafkaError),
}

/// One partition of one consumer. It is made once and kept, and has one handle to the queue at a time: of two, the one that
/// is dropped takes the callback of the other away.
pub(super) struct Lane {
    consumer: Arc<BaseConsumer<Context>>,
    nth_consumer: usize,
    topic: String,
    partition: i32,
    state: Mutex<State>,
    /// Rises when something was fetched.
    arrivals: Arc<watch::Sender<u64>>,
    /// Whether the consumer fetches it. Changed only while `opening` is held.
    assigned: AtomicBool,
    used: AtomicU64,
    /// How many wait at it, and read from it.
    uses: [AtomicUsize; 2],
}

struct State {
    position: Offset,
    /// Taken off the queue and not given away yet: it stands at `position`.
    stash: Option<Raw>,
    /// What is fetched; none before the first time.
    queue: Option<PartitionQueue<Context>>,
}

impl Lane {
    /// Takes what is fetched from where `taken` ends, up to `until` and as long as it fits.
    pub(super) fn take(&self, taken: &mut Taken, until: Offset) -> std::result::Result<(), Stopped> {
        let mut state = self.state();
        if state.position != taken.next {
            return Err(Stopped::Moved);
        }
        while state.position < until {
            let Some(raw) = Self::next(&mut state)? else { break };
            if !taken.fits(&raw) {
                taken.full = true;
                state.stash = Some(raw);
                break;
            }
            state.position += 1;
            taken.push(raw);
            if taken.full {
                break;
            }
        }
        Ok(())
    }

    /// Whether the record at `at` is fetched.
    pub(super) fn has(&self, at: Offset) -> std::result::Result<bool, Stopped> {
        let mut state = self.state();
        if state.position != at {
            return Err(Stopped::Moved);
        }
        state.stash = Self::next(&mut state)?;
        Ok(state.stash.is_some())
    }

    /// The record at the position, without going on. An error leaves the lane nowhere.
    fn next(state: &mut State) -> std::result::Result<Option<Raw>, Stopped> {
        if let Some(raw) = state.stash.take() {
            return Ok(Some(raw));
        }
        let Some(queue) = &state.queue else { return Ok(None) };
        while let Some(polled) = queue.poll(Duration::ZERO) {
            let stopped = match polled {
                Ok(message) => {
                    let offset = Offset::try_from(message.offset()).unwrap_or(0);
                    if offset == state.position {
                        return Ok(Some(raw(offset, &message)));
                    }
                    if offset < state.position {
                        continue;
                    }
                    Stopped::Gap(state.position)
                }
                Err(error) => Stopped::Failed(error),
            };
            state.position = NOWHERE;
            return Err(stopped);
        }
        Ok(None)
    }

    pub(super) fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    fn keep(self: &Arc<Self>, what_for: Use) -> InUse {
        self.uses[what_for as usize].fetch_add(1, Ordering::Relaxed);
        InUse { lane: self.clone(), what_for }
    }

    /// Moves a lane that was taken for it. Blocks until the client knows.
    fn seek(&self, to: Offset, timeout: Duration) -> Result<()> {
        let sought = self.consumer.seek(&self.topic, self.partition, offset(to), timeout);
        sought.map_err(|e| failed(format!("cannot read {} of {} from {to}", self.partition, self.topic), e))?;
        self.place(to);
        Ok(())
    }

    fn place(&self, at: Offset) {
        let mut state = self.state();
        state.stash = None;
        state.position = at;
    }

    /// Takes hold of the queue that the consumer is about to fetch into: a partition that it gave up before it knew its leader
    /// gets another one.
    fn listen(&self) -> Result<()> {
        let mut state = self.state();
        state.queue = None;
        let mut queue = self.consumer.split_partition_queue(&self.topic, self.partition).ok_or_else(|| {
            let message = format!("cannot read {} of {}: the client has no queue for it", self.partition, self.topic);
            Error::new(ErrorKind::Retry, message)
        })?;
        let arrived = self.arrivals.clone();
        // Called by threads of librdkafka that hold locks of its own: it may do no more than this.
        queue.set_nonempty_callback(move || arrived.send_modify(|arrivals| *arrivals += 1));
        state.queue = Some(queue);
        Ok(())
    }

    /// Sends whoever waits at it or reads from it to another lane.
    fn turn_away(&self) {
        self.place(NOWHERE);
        self.arrivals.send_modify(|arrivals| *arrivals += 1);
    }

    fn is_assigned(&self) -> bool {
        self.assigned.load(Ordering::Relaxed)
    }

    fn list(&self, at: Option<Offset>) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(1);
        match at {
            // It fails for offsets that Kafka has no number for: none that a partition has.
            Some(at) => drop(list.add_partition_offset(&self.topic, self.partition, offset(at))),
            None => drop(list.add_partition(&self.topic, self.partition)),
        }
        list
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What somebody needs a lane for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    /// To hear of something new.
    Wait = 0,
    /// To take what comes next.
    Read = 1,
}

/// A lane in use: those that are used for less are moved before it.
pub(super) struct InUse {
    lane: Arc<Lane>,
    what_for: Use,
}

impl Deref for InUse {
    type Target = Lane;

    fn deref(&self) -> &Lane {
        &self.lane
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.lane.uses[self.what_for as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

fn raw(offset: Offset, message: &BorrowedMessage<'_>) -> Raw {
    let (key, value) = (message.key().unwrap_or_default(), message.payload().unwrap_or_default());
    let mut bytes = BytesMut::with_capacity(key.len() + value.len());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    let mut value_bytes = bytes.freeze();
    let key_bytes = value_bytes.split_to(key.len());
    Raw { offset, time_us: time_of(message), key: key_bytes, value: value_bytes }
}

fn offset(offset: Offset) -> rdkafka::Offset {
    rdkafka::Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX))
}

/// All lanes of this process.
pub(super) struct Lanes {
    options: KafkaOptions,
    consumers: Mutex<Consumers>,
    lanes: Mutex<HashMap<TopicPartition, Vec<Arc<Lane>>>>,
    /// Held while a lane is made or moved, which blocks; looking for one does not wait for it.
    opening: Mutex<()>,
    clock: AtomicU64,
}

#[derive(Default)]
struct Consumers {
    clients: Vec<Client>,
    closed: bool,
}

/// A consumer and the thread that hears its errors.
struct Client {
    consumer: Arc<BaseConsumer<Context>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Lanes {
    pub(super) fn new(options: KafkaOptions) -> Self {
        Self {
            options,
            consumers: Mutex::default(),
            lanes: Mutex::default(),
            opening: Mutex::default(),
            clock: AtomicU64::new(0),
        }
    }

    /// A lane that stands at `position`, if there is one.
    pub(super) fn at(&self, of: TopicPartition, position: Offset, what_for: Use) -> Option<InUse> {
        if position == NOWHERE {
            return None;
        }
        let lanes = self.lock();
        let lane = lanes.get(&of)?.iter().find(|lane| lane.state().position == position)?;
        lane.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(lane.keep(what_for))
    }

    /// A lane that stands at `position`; one is made or moved for it. Blocks.
    pub(super) fn open(&self, of: TopicPartition, position: Offset, what_for: Use) -> Result<InUse> {
        // Whatever is opened is in use before anybody else looks for one to move.
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = self.at(of, position, what_for) {
            return Ok(lane);
        }
        let free = {
            let lanes = self.lock();
            let taken = lanes.get(&of).map(Vec::as_slice).unwrap_or_default();
            (0..LANES_MAX).find(|nth| taken.iter().all(|lane| lane.nth_consumer != *nth || !lane.is_assigned()))
        };
        let lane = match free {
            Some(nth) => self.assign(of, nth, position)?,
            None => match self.moved(of, position) {
                Ok(lane) => lane,
                // Right after it was made it may not be movable yet.
                Err((lane, error)) => {
                    tracing::debug!(%of, position, %error, "a lane is assigned anew");
                    unassign(of, &lane);
                    self.assign(of, lane.nth_consumer, position)?
                }
            },
        };
        lane.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Ok(lane.keep(what_for))
    }

    fn moved(&self, of: TopicPartition, position: Offset) -> std::result::Result<Arc<Lane>, (Arc<Lane>, Error)> {
        let lane = {
            let lanes = self.lock();
            let taken = lanes.get(&of).map(Vec::as_slice).unwrap_or_default();
            taken.iter().min_by_key(|lane| lane.rank()).expect("every consumer has a lane here").clone()
        };
        lane.turn_away();
        match lane.seek(position, self.options.request_timeout) {
            Ok(()) => Ok(lane),
            Err(error) => Err((lane, error)),
        }
    }

    /// Lets a consumer fetch a partition that it does not.
    fn assign(&self, of: TopicPartition, nth: usize, position: Offset) -> Result<Arc<Lane>> {
        self.make_room();
        let lane = self.lane(of, nth)?;
        lane.listen()?;
        let assigned = lane.consumer.incremental_assign(&lane.list(Some(position)));
        assigned.map_err(|error| failed(format!("cannot read {of} from {position}"), error))?;
        lane.assigned.store(true, Ordering::Relaxed);
        lane.place(position);
        Ok(lane)
    }

    /// The lane of a consumer for a partition, made when there is none.
    fn lane(&self, of: TopicPartition, nth: usize) -> Result<Arc<Lane>> {
        let consumer = self.consumer(nth)?;
        let mut lanes = self.lock();
        let lanes = lanes.entry(of).or_default();
        if let Some(lane) = lanes.iter().find(|lane| lane.nth_consumer == nth) {
            return Ok(lane.clone());
        }
        let lane = Arc::new(Lane {
            consumer,
            nth_consumer: nth,
            topic: self.options.topic(of.topic),
            partition: number(of.partition),
            state: Mutex::new(State { position: NOWHERE, stash: None, queue: None }),
            arrivals: Arc::new(watch::Sender::new(0)),
            assigned: AtomicBool::new(false),
            used: AtomicU64::new(0),
            uses: Default::default(),
        });
        lanes.push(lane.clone());
        Ok(lane)
    }

    /// Closes the lane that was used the longest time ago, when there are too many.
    fn make_room(&self) {
        let oldest = {
            let lanes = self.lock();
            let all = lanes.iter().flat_map(|(of, lanes)| lanes.iter().map(move |lane| (*of, lane)));
            let all = all.filter(|(_, lane)| lane.is_assigned());
            // Fewer than the readers of all partitions would take lanes from each other for ever.
            let needed = LANES_OF_A_PARTITION * self.options.partitions as usize;
            if all.clone().count() < self.options.lanes_max.max(needed) {
                return;
            }
            all.min_by_key(|(_, lane)| lane.rank()).map(|(of, lane)| (of, lane.clone()))
        };
        if let Some((of, lane)) = oldest {
            unassign(of, &lane);
        }
    }

    /// # Errors
    /// [`ErrorKind::Retry`] after [`Lanes::close`], or when no thread can be had; [`ErrorKind::Invalid`] when the options
    /// cannot be.
    fn consumer(&self, nth: usize) -> Result<Arc<BaseConsumer<Context>>> {
        let mut consumers = self.consumers.lock().unwrap_or_else(PoisonError::into_inner);
        if consumers.closed {
            return Err(Error::new(ErrorKind::Retry, "cannot read: the log is closed"));
        }
        while consumers.clients.len() <= nth {
            consumers.clients.push(self.client()?);
        }
        Ok(consumers.clients[nth].consumer.clone())
    }

    fn client(&self) -> Result<Client> {
        let prefetch = self.options.prefetch_bytes_max;
        let mut config = self.options.client("reader");
        // It never joins the group: librdkafka wants a name for whatever is assigned.
        config
            .set("group.id", format!("{}-readers", self.options.prefix))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_uncommitted")
            .set("check.crcs", "true")
            .set("fetch.wait.max.ms", FETCH_WAIT_MS)
            .set("fetch.queue.backoff.ms", REFILL_MS)
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.message.max.bytes", prefetch.to_string())
            .set("fetch.max.bytes", FETCH_BYTES_MAX.to_string())
            .set("receive.message.max.bytes", (FETCH_BYTES_MAX * 2).to_string())
            .set("queued.max.messages.kbytes", (prefetch / 1024).to_string());
        let consumer = BaseConsumer::from_config_and_context(&config, Context::default());
        let consumer = Arc::new(consumer.map_err(|error| unusable("a consumer", error))?);
        let stop = Arc::new(AtomicBool::new(false));
        let (polled, stopped) = (consumer.clone(), stop.clone());
        let thread = thread::Builder::new().name("kafka-reader".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // Errors go to the context; records come through the lanes.
                drop(polled.poll(LOOK));
            }
        });
        let thread = thread.map_err(|e| Error::with_source(ErrorKind::Retry, "cannot start a reader's thread", e))?;
        Ok(Client { consumer, stop, thread })
    }

    /// Closes every lane and consumer, for good. Blocks until their threads have ended, at most [`READER_CLOSE_MAX`].
    pub(super) fn close(&self) {
        let clients = {
            let mut consumers = self.consumers.lock().unwrap_or_else(PoisonError::into_inner);
            consumers.closed = true;
            std::mem::take(&mut consumers.clients)
        };
        let lanes = std::mem::take(&mut *self.lock());
        lanes.values().flatten().for_each(|lane| lane.turn_away());
        for client in &clients {
            client.stop.store(true, Ordering::Relaxed);
        }
        if clients.is_empty() {
            return;
        }
        within(READER_CLOSE_MAX, "the readers", move || {
            for client in clients {
                if client.thread.join().is_err() {
                    tracing::error!("a reader's thread ended with a panic");
                }
            }
            // With the last lane its consumer goes, which takes its time.
            drop(lanes);
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicPartition, Vec<Arc<Lane>>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unassign(of: TopicPartition, lane: &Lane) {
    lane.turn_away();
    lane.assigned.store(false, Ordering::Relaxed);
    if let Err(error) = lane.consumer.incremental_unassign(&lane.list(None)) {
        tracing::debug!(%of, %error, "a lane was gone already");
    }
}

impl Lane {
    /// The smallest is moved first: nobody reads from it or waits at it, and it was used the longest time ago.
    fn rank(&self) -> (bool, bool, u64) {
        let [waits, reads] = [Use::Wait, Use::Read].map(|what| self.uses[what as usize].load(Ordering::Relaxed) > 0);
        (reads, waits, self.used.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
