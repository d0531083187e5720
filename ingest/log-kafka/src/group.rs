//! A consumer group of the cluster: which partitions this process works on.
//!
//! The group shares out work and nothing else. Its consumer never reads (its partitions stay paused; reading is positional,
//! from the offset in the job's own state), and its committed offsets only report lag. Sharing out is cooperative: a member
//! that joins or leaves stops nobody but the owners of what moves. A partition that moves is first closed by its owner
//! ([`Member::released`]), then given to the next, who opens and fences its state and begins at the offset in there.
//!
//! A member whose cluster was away, or who was taken for dead, comes back by itself: it is told that it has nothing, then
//! what it has next. When librdkafka cannot do what the group decided, the member leaves and joins anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millrace_events::{Topic, TopicPartition};
use millrace_log::{Assignment, Error, ErrorKind, Member, Offset, Result};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};
use tokio::sync::watch;

use crate::asking::number;
use crate::closing::{LEAVE_MAX, within};
use crate::context::{Context, unusable};
use crate::options::KafkaOptions;

/// How often the member looks whether it should leave.
const LOOK: Duration = Duration::from_millis(50);
/// The pause before a member joins anew.
const REJOIN: Duration = Duration::from_secs(1);
/// Reported offsets are committed every so many looks.
const COMMIT_LOOKS: u32 = 20;

pub(crate) fn group_id(options: &KafkaOptions, group: &GroupOptions) -> String {
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
            session_timeout: Duration::from_secs(10),
            release_timeout: Duration::from_secs(30),
        }
    }
}

/// One member of a consumer group of the cluster; leaves when dropped.
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
    said: Mutex<Said>,
    /// Rung when something was said.
    bell: Condvar,
    /// Set when the client could not do what the group decided.
    failed: AtomicBool,
    reports: Mutex<HashMap<TopicPartition, Offset>>,
}

/// What the member said.
#[derive(Debug, Default)]
struct Said {
    /// The newest epoch that was released.
    released: u64,
    leaves: bool,
}

impl KafkaMember {
    /// # Errors
    /// [`ErrorKind::Invalid`] when the options cannot be; [`ErrorKind::Retry`] when no thread can be had.
    pub(crate) fn join(options: &KafkaOptions, group: &GroupOptions) -> Result<Self> {
        if group.name.is_empty() || group.topics.is_empty() || group.release_timeout.is_zero() {
            return Err(Error::new(ErrorKind::Invalid, "a group has a name, topics, and time to release partitions"));
        }
        let config = config(options, group);
        let (shared, assignment) = Shared::new(options, group);
        let consumer = subscribe(&config, &shared)?;
        let run = {
            let shared = shared.clone();
            move || run(consumer, &config, &shared)
        };
        let thread = thread::Builder::new().name("kafka-group".to_owned()).spawn(run);
        let thread = thread.map_err(|e| Error::with_source(ErrorKind::Retry, "cannot start a member's thread", e))?;
        Ok(Self { shared, assignment, thread: Some(thread) })
    }
}

fn config(options: &KafkaOptions, group: &GroupOptions) -> ClientConfig {
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
    config
}

fn subscribe(config: &ClientConfig, shared: &Arc<Shared>) -> Result<BaseConsumer<Rebalancing>> {
    let consumer = BaseConsumer::from_config_and_context(config, Rebalancing(shared.clone()));
    let consumer = consumer.map_err(|error| unusable("a member of a group", error))?;
    let names: Vec<&str> = shared.topics.keys().map(String::as_str).collect();
    consumer.subscribe(&names).map_err(|error| unusable("a subscription", error))?;
    Ok(consumer)
}

impl Member for KafkaMember {
    fn assignment(&self) -> watch::Receiver<Assignment> {
        self.assignment.clone()
    }

    fn released(&self, epoch: u64) {
        self.shared.released(epoch);
    }

    /// Committed within seconds, as long as the partition is this member's.
    fn report(&self, of: TopicPartition, offset: Offset) {
        self.shared.reports.lock().unwrap_or_else(PoisonError::into_inner).insert(of, offset);
    }
}

impl Drop for KafkaMember {
    /// Leaves at once: the caller has closed its partitions. Blocks, five seconds at most: a cluster that does not answer
    /// gives the partitions away when the session is over.
    fn drop(&mut self) {
        self.shared.leave();
        let Some(thread) = self.thread.take() else { return };
        within(LEAVE_MAX, "a member of a group", move || {
            if thread.join().is_err() {
                tracing::error!("a member's thread ended with a panic");
            }
        });
    }
}

fn run(first: BaseConsumer<Rebalancing>, config: &ClientConfig, shared: &Arc<Shared>) {
    let mut consumer = Some(first);
    loop {
        if let Some(consumer) = consumer.take() {
            attend(&consumer, shared);
        }
        // The consumer is gone, and with it whatever it was given.
        shared.publish(BTreeSet::clear);
        if shared.leaves_within(REJOIN) {
            return;
        }
        shared.failed.store(false, Ordering::Relaxed);
        match subscribe(config, shared) {
            Ok(joined) => consumer = Some(joined),
            Err(error) => tracing::warn!(%error, "a member cannot join anew yet"),
        }
    }
}

/// Is a member until it leaves, or the client fails.
fn attend(consumer: &BaseConsumer<Rebalancing>, shared: &Shared) {
    let mut looks = 0;
    while !shared.said().leaves && !shared.failed.load(Ordering::Relaxed) {
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
    fn new(options: &KafkaOptions, group: &GroupOptions) -> (Arc<Self>, watch::Receiver<Assignment>) {
        let (sender, assignment) = watch::channel(Assignment::default());
        let shared = Self {
            context: Context::default(),
            release_timeout: group.release_timeout,
            topics: group.topics.iter().map(|topic| (options.topic(*topic), *topic)).collect(),
            assignment: sender,
            said: Mutex::default(),
            bell: Condvar::new(),
            failed: AtomicBool::new(false),
            reports: Mutex::default(),
        };
        (Arc::new(shared), assignment)
    }

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

    /// Publishes the next assignment, when it is another; its epoch.
    fn publish(&self, change: impl FnOnce(&mut BTreeSet<TopicPartition>)) -> u64 {
        self.assignment.send_if_modified(|assignment| {
            let mut partitions = assignment.partitions.iter().copied().collect();
            change(&mut partitions);
            if partitions.iter().eq(&assignment.partitions) {
                return false;
            }
            let epoch = assignment.epoch + 1;
            *assignment = Assignment { epoch, partitions: partitions.into_iter().collect() };
            true
        });
        self.assignment.borrow().epoch
    }

    /// What the group gives counts once the client has it: otherwise the member joins anew.
    fn given(&self, changed: &BTreeSet<TopicPartition>, assigned: KafkaResult<()>) {
        match assigned {
            Ok(()) => {
                self.publish(|mine| mine.extend(changed));
            }
            Err(error) => self.fail(&error),
        }
    }

    /// What the group takes is closed before it is given back. Lost, it is somebody else's already: what is still open is
    /// fenced.
    fn taken(&self, changed: &BTreeSet<TopicPartition>, lost: bool) {
        let epoch = self.publish(|mine| mine.retain(|of| !changed.contains(of)));
        if !changed.is_empty() && !lost {
            self.await_release(epoch);
        }
    }

    fn fail(&self, error: &KafkaError) {
        self.context.note(error, "the member of the group leaves and joins anew");
        self.failed.store(true, Ordering::Relaxed);
    }

    fn await_release(&self, epoch: u64) {
        let still_open = |said: &mut Said| said.released < epoch && !said.leaves;
        let waited = self.bell.wait_timeout_while(self.said(), self.release_timeout, still_open);
        if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
            tracing::warn!(epoch, timeout = ?self.release_timeout, "partitions are given away before they were closed");
        }
    }

    fn released(&self, epoch: u64) {
        if epoch <= self.assignment.borrow().epoch {
            let mut said = self.said();
            said.released = said.released.max(epoch);
            self.bell.notify_all();
        }
    }

    fn leave(&self) {
        self.said().leaves = true;
        self.bell.notify_all();
    }

    /// Waits whether it leaves.
    fn leaves_within(&self, time: Duration) -> bool {
        let waited = self.bell.wait_timeout_while(self.said(), time, |said| !said.leaves);
        waited.unwrap_or_else(PoisonError::into_inner).0.leaves
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
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
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.0.fail(&error);
        }
    }
}

impl ConsumerContext for Rebalancing {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let changed = self.0.partitions(list);
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let assigned = consumer.incremental_assign(list).and_then(|()| consumer.pause(list));
            return self.0.given(&changed, assigned);
        }
        self.0.taken(&changed, consumer.assignment_lost());
        if let Err(error) = consumer.incremental_unassign(list) {
            self.0.fail(&error);
        }
    }
}

#[cfg(test)]
mod tests;
