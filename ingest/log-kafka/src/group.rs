//! A consumer group of the cluster: which partitions this process works on.
//!
//! The group shares out work and nothing else. Its consumer never reads (its partitions stay paused; reading is positional,
//! from the offset in the job's own state), and its committed offsets only report lag. Sharing out is cooperative: a member
//! that joins or leaves stops nobody but the owners of what moves. A partition that moves is first closed by its owner
//! ([`KafkaMember::released`]), then given to the next, who opens and fences its state and begins at the offset in there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millrace_events::{Topic, TopicPartition};
use millrace_log::{Assignment, Error, ErrorKind, Offset, Result};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};
use tokio::sync::watch;

use crate::asking::{Asking, blocking, number};
use crate::context::{Context, failed, unusable};
use crate::options::KafkaOptions;

/// How often the member looks whether it should leave.
const LOOK: Duration = Duration::from_millis(50);
/// Reported offsets are committed every so many looks.
const COMMIT_LOOKS: u32 = 20;

/// How far a group is behind, for every partition of which it said how far it is: the end less what was reported.
///
/// # Errors
/// [`ErrorKind::Invalid`] when the options cannot be; [`ErrorKind::Retry`] when the cluster does not answer in time.
pub(crate) async fn lag(
    options: &KafkaOptions,
    group: &GroupOptions,
    asking: &Asking,
) -> Result<BTreeMap<TopicPartition, Offset>> {
    let mut config = options.client("lag");
    config.set("group.id", group_id(options, group)).set("enable.auto.commit", "false");
    let mut wanted = TopicPartitionList::new();
    for topic in &group.topics {
        for partition in 0..topic.partitions(options.partitions) {
            wanted.add_partition(&options.topic(*topic), number(partition));
        }
    }
    let timeout = options.request_timeout;
    // It asks for the group's offsets without becoming one of it.
    let committed = blocking(move || {
        let consumer = BaseConsumer::from_config_and_context(&config, Context::default());
        let consumer: BaseConsumer<Context> = consumer.map_err(|error| unusable("a client", error))?;
        let asked = consumer.committed_offsets(wanted, timeout);
        asked.map_err(|error| failed("cannot ask how far a group is".to_owned(), error))
    });
    let committed = committed.await?;
    let mut lag = BTreeMap::new();
    for topic in &group.topics {
        for partition in 0..topic.partitions(options.partitions) {
            let name = options.topic(*topic);
            let found = committed.find_partition(&name, number(partition)).and_then(|found| found.offset().to_raw());
            let Some(reported) = found.and_then(|offset| Offset::try_from(offset).ok()) else { continue };
            let (_, end) = asking.bounds(&name, partition).await?;
            lag.insert(TopicPartition::new(*topic, partition), end.saturating_sub(reported));
        }
    }
    Ok(lag)
}

fn group_id(options: &KafkaOptions, group: &GroupOptions) -> String {
    let separator = if options.prefix.is_empty() { "" } else { "." };
    format!("{}{separator}{}", options.prefix, group.name)
}

/// Bounds of a membership.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// The name of the group, after the prefix of the topics.
    pub name: String,
    /// The topics whose partitions are shared out.
    pub topics: Vec<Topic>,
    /// After how long without a sign of life a member's partitions are given to others.
    pub session_timeout: Duration,
    /// How long a partition that moves away is waited for until it is given away unclosed. Its state is fenced in any case.
    pub release_timeout: Duration,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            name: "workers".to_owned(),
            topics: vec![Topic::Actions, Topic::UserEvents, Topic::ReactionEvents, Topic::TagEvents],
            session_timeout: Duration::from_secs(15),
            release_timeout: Duration::from_secs(30),
        }
    }
}

/// One member of a consumer group; leaves when dropped.
pub struct KafkaMember {
    shared: Arc<Shared>,
    assignment: watch::Receiver<Assignment>,
    thread: Option<JoinHandle<()>>,
}

/// What the member and the thread of its consumer share.
struct Shared {
    context: Context,
    release_timeout: Duration,
    topics: BTreeMap<String, Topic>,
    assignment: watch::Sender<Assignment>,
    /// The newest epoch that was released, and a bell for it.
    released: Mutex<u64>,
    bell: Condvar,
    leaving: AtomicBool,
    reports: Mutex<HashMap<TopicPartition, Offset>>,
}

impl KafkaMember {
    /// # Errors
    /// [`ErrorKind::Invalid`] when the options cannot be; [`ErrorKind::Retry`] when no thread can be had.
    pub(crate) fn join(options: &KafkaOptions, group: &GroupOptions) -> Result<Self> {
        if group.name.is_empty() || group.topics.is_empty() || group.release_timeout.is_zero() {
            return Err(Error::new(ErrorKind::Invalid, "a group has a name, topics, and time to release partitions"));
        }
        let (sender, assignment) = watch::channel(Assignment::default());
        let shared = Arc::new(Shared {
            context: Context::default(),
            release_timeout: group.release_timeout,
            topics: group.topics.iter().map(|topic| (options.topic(*topic), *topic)).collect(),
            assignment: sender,
            released: Mutex::default(),
            bell: Condvar::new(),
            leaving: AtomicBool::new(false),
            reports: Mutex::default(),
        });
        let session_ms = group.session_timeout.as_millis();
        // Whoever closes partitions does not poll meanwhile.
        let poll_ms = (session_ms + group.release_timeout.as_millis()).saturating_mul(2).clamp(60_000, 86_400_000);
        let mut config = options.client("group");
        config
            .set("group.id", group_id(options, group))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", session_ms.to_string())
            .set("heartbeat.interval.ms", (session_ms / 5).max(1).to_string())
            .set("max.poll.interval.ms", poll_ms.to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "latest")
            .set("queued.max.messages.kbytes", "64")
            .set("fetch.message.max.bytes", "65536");
        let consumer = BaseConsumer::from_config_and_context(&config, Rebalancing(shared.clone()));
        let consumer = consumer.map_err(|error| unusable("a member of a group", error))?;
        let names: Vec<&str> = shared.topics.keys().map(String::as_str).collect();
        consumer.subscribe(&names).map_err(|error| unusable("a subscription", error))?;
        let run = {
            let shared = shared.clone();
            move || run(&consumer, &shared)
        };
        let thread = thread::Builder::new().name("kafka-group".to_owned()).spawn(run);
        let thread = thread.map_err(|e| Error::with_source(ErrorKind::Retry, "cannot start a member's thread", e))?;
        Ok(Self { shared, assignment, thread: Some(thread) })
    }

    /// The partitions to work on now, and a way to wait for the next change. An epoch is larger than those before it of the
    /// same member; epochs of two members do not compare.
    pub fn assignment(&mut self) -> &mut watch::Receiver<Assignment> {
        &mut self.assignment
    }

    /// Says that everything is closed that is not in the assignment of `epoch`: what moved away may be opened elsewhere. To
    /// be called for every assignment.
    pub fn released(&self, epoch: u64) {
        let mut released = self.shared.released();
        *released = (*released).max(epoch);
        self.shared.bell.notify_all();
    }

    /// Reports that everything of `of` below `offset` is applied: for people and tools that watch lag. Committed within
    /// seconds, as long as the partition is this member's; the truth is the offset in the job's own state.
    pub fn report(&self, of: TopicPartition, offset: Offset) {
        self.shared.reports.lock().unwrap_or_else(PoisonError::into_inner).insert(of, offset);
    }
}

impl Drop for KafkaMember {
    /// Leaves at once: the caller has closed its partitions.
    fn drop(&mut self) {
        self.shared.leaving.store(true, Ordering::Release);
        self.shared.bell.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a member's thread ended with a panic");
        }
    }
}

fn run(consumer: &BaseConsumer<Rebalancing>, shared: &Shared) {
    let mut looks = 0;
    while !shared.leaving.load(Ordering::Acquire) {
        // A record was fetched before its partition was paused: nobody reads here. Errors go to the context.
        drop(consumer.poll(LOOK));
        looks += 1;
        if looks % COMMIT_LOOKS == 0 {
            shared.commit(consumer, CommitMode::Async);
        }
    }
    shared.commit(consumer, CommitMode::Sync);
}

impl Shared {
    /// Commits what was reported since the last time.
    fn commit(&self, consumer: &BaseConsumer<Rebalancing>, mode: CommitMode) {
        let reports = std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner));
        let mine: BTreeSet<TopicPartition> = self.assignment.borrow().partitions.iter().copied().collect();
        let mut offsets = TopicPartitionList::new();
        for (of, offset) in reports.into_iter().filter(|(of, _)| mine.contains(of)) {
            let Some((name, _)) = self.topics.iter().find(|(_, topic)| **topic == of.topic) else { continue };
            let offset = rdkafka::Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
            if let Err(error) = offsets.add_partition_offset(name, number(of.partition), offset) {
                tracing::debug!(%of, %error, "an offset cannot be reported");
            }
        }
        if offsets.count() > 0
            && let Err(error) = consumer.commit(&offsets, mode)
        {
            // The next report is as good.
            tracing::debug!(%error, "offsets were not reported");
        }
    }

    /// What a list of the cluster names of our topics.
    fn partitions(&self, list: &TopicPartitionList) -> BTreeSet<TopicPartition> {
        let elements = list.elements();
        let ours = elements.iter().filter_map(|element| {
            let partition = u32::try_from(element.partition()).ok()?;
            Some(TopicPartition::new(*self.topics.get(element.topic())?, partition))
        });
        ours.collect()
    }

    /// Publishes the next assignment; its epoch.
    fn publish(&self, change: impl FnOnce(&mut BTreeSet<TopicPartition>)) -> u64 {
        let mut epoch = 0;
        self.assignment.send_modify(|assignment| {
            let mut partitions = assignment.partitions.iter().copied().collect();
            change(&mut partitions);
            epoch = assignment.epoch + 1;
            *assignment = Assignment { epoch, partitions: partitions.into_iter().collect() };
        });
        epoch
    }

    fn await_release(&self, epoch: u64) {
        let still_open = |released: &mut u64| *released < epoch && !self.leaving.load(Ordering::Acquire);
        let waited = self.bell.wait_timeout_while(self.released(), self.release_timeout, still_open);
        if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
            tracing::warn!(epoch, timeout = ?self.release_timeout, "partitions are given away before they were closed");
        }
    }

    fn released(&self) -> MutexGuard<'_, u64> {
        self.released.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears what the group decides.
struct Rebalancing(Arc<Shared>);

impl ClientContext for Rebalancing {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.context.line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.context.note(&error, reason);
    }
}

impl ConsumerContext for Rebalancing {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let changed = self.0.partitions(list);
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let assigned = consumer.incremental_assign(list).and_then(|()| consumer.pause(list));
            self.0.publish(|mine| mine.extend(&changed));
            assigned
        } else {
            let epoch = self.0.publish(|mine| mine.retain(|of| !changed.contains(of)));
            // Lost, they are somebody else's already: what is still open here is fenced.
            if !changed.is_empty() && !consumer.assignment_lost() {
                self.0.await_release(epoch);
            }
            consumer.incremental_unassign(list)
        };
        if let Err(error) = done {
            self.0.context.note(&error, &error.to_string());
        }
    }
}
