//! The event log on Apache Kafka.
//!
//! [`KafkaLog`] is the backend of [`EventLog`] for a cluster; only this crate names `rdkafka`. How the laws are kept:
//!
//! * *Durable, then visible.* Appends wait for the delivery report of each record under `acks=all` and
//!   `min.insync.replicas`; readers see what is below the high watermark, which follows the replicas.
//! * *Dense offsets in order.* One idempotent producer per process, without transactions (their markers take offsets) and
//!   without compaction. After any failure the producer is replaced whole: see `writer`.
//! * *Log time never falls.* Several processes append to one partition, and Kafka has no append that depends on the record
//!   before. So a record keeps the time it was stamped with (to the microsecond in a header, cut to milliseconds as its
//!   `CreateTime`), and the reader raises it to the highest before it: a function of the partition, the same for every
//!   reader wherever it starts. `LogAppendTime` would be simpler, but it is the clock of a broker, falls when the leader
//!   moves, has milliseconds only and knows no replay. See `reader/high.rs` for how the highest is found.
//! * *Trimming* never goes beyond the newest record, nor beyond one that an earlier one exceeds: log time goes on as it was.
//!
//! What it does not do: after an append that failed, what was on the network may still arrive, also after a repetition of
//! the same append. Nothing is left out of order within an append; the repetition is what positions and message ids drop.
//! A program that appends without our header has its records read with the time of their timestamp.
//!
//! It must never know what an event means: headers for others come from a function that is passed in.

mod asking;
mod closing;
mod context;
mod group;
mod headers;
mod health;
mod lag;
mod options;
mod proof;
mod reader;
mod topics;
mod wire;
mod writer;

// The broker of the tests beside the crate serves those inside it.
#[cfg(test)]
#[path = "../tests/cluster/mod.rs"]
mod cluster;
#[cfg(test)]
extern crate self as millrace_log_kafka;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use millrace_events::{Topic, TopicPartition};
use millrace_log::{
    Append, Bounds, Error, ErrorKind, EventLog, KEY_BYTES_MAX, Offset, Record, Result, VALUE_BYTES_MAX,
};
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::FromClientConfigAndContext;
use tokio::task::JoinHandle;

use asking::{Asking, number};
use closing::Aside;
use context::{Context, failed, unusable};
use lag::Lags;
use proof::Proof;
use reader::Reader;
use topics::Topics;
use writer::Writer;

pub use group::{GroupOptions, KafkaMember};
pub use headers::{HeadersOf, cloud_event_headers};
pub use options::KafkaOptions;
pub use topics::{Finding, Severity};

/// The log in a Kafka cluster.
pub struct KafkaLog {
    topics: Arc<Topics>,
    reader: Arc<Reader>,
    writer: Writer,
    lags: Lags,
    proof: Arc<Proof>,
    /// Asks the cluster what it is, where that was not known when the log was opened.
    asks: Mutex<Option<JoinHandle<()>>>,
}

impl KafkaLog {
    /// Opens the log in this cluster, making its topics where they are missing.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the options cannot be, or a topic is there with another number of partitions;
    /// [`ErrorKind::Retry`] when the cluster does not answer in time.
    pub async fn open(options: KafkaOptions) -> Result<Arc<Self>> {
        let topics = connect(&options)?;
        topics.ensure().await?;
        Self::over(topics, options, Proof::given())
    }

    /// Opens a log that was here before, while its cluster does not answer: `expected` is its [`KafkaLog::identity`]. Until the
    /// cluster has said that it is that one, the log is not healthy, appends end with [`ErrorKind::Retry`] at once and all else
    /// after it was waited for; when it says that it is another, or its topics are others, they end with
    /// [`ErrorKind::Invalid`] for good. Needs a Tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the options cannot be.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn open_unanswered(options: KafkaOptions, expected: String) -> Result<Arc<Self>> {
        let log = Self::over(connect(&options)?, options, Proof::wanted())?;
        let asks = tokio::spawn(log.proof.clone().find(log.topics.clone(), expected));
        *log.asks.lock().unwrap_or_else(PoisonError::into_inner) = Some(asks);
        Ok(log)
    }

    /// Why a log that was opened by [`KafkaLog::open_unanswered`] will never be used; `None` as far as is known.
    pub fn refusal(&self) -> Option<String> {
        self.proof.check().err().filter(|error| error.kind() == ErrorKind::Invalid).map(|error| error.to_string())
    }

    /// Waits until the cluster is known to be the right one, as long as any question waits for it.
    async fn answers(&self) -> Result<()> {
        self.proof.await_answer(self.topics.options.request_timeout).await
    }

    fn over(topics: Topics, options: KafkaOptions, proof: Proof) -> Result<Arc<Self>> {
        let reader = Arc::new(Reader::new(options.clone(), topics.asking.clone()));
        let told = reader.clone();
        let (asking, insync) = (topics.asking.clone(), options.min_insync as usize);
        let names: Vec<String> = Topic::ALL.iter().map(|topic| options.topic(*topic)).collect();
        let answers = move || asking.takes_appends(&names, insync);
        let writer = Writer::new(options, Arc::new(move |of, end| told.told(of, end)), answers)?;
        let (topics, proof) = (Arc::new(topics), Arc::new(proof));
        Ok(Arc::new(Self { topics, reader, writer, lags: Lags::default(), proof, asks: Mutex::default() }))
    }

    /// The [`KafkaLog::identity`] of the log that [`KafkaLog::open`] would open, changing nothing: whoever keeps offsets can
    /// refuse another log before topics are made in it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the options cannot be; [`ErrorKind::Retry`] when the cluster does not answer in time.
    pub async fn identify(options: &KafkaOptions) -> Result<String> {
        options.check()?;
        let asking = Asking::new(options)?;
        let found = identity(options, &asking).await;
        // Who is refused now will be refused again.
        found.map_err(|error| if asking.refused() { Error::new(ErrorKind::Invalid, error.to_string()) } else { error })
    }

    /// Looks a cluster over, changing nothing: brokers, topics that are missing, and every setting under which what was
    /// acknowledged could be lost, each with its cure.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the options cannot be; [`ErrorKind::Retry`] when the cluster does not answer in time.
    pub async fn check(options: &KafkaOptions) -> Result<Vec<Finding>> {
        connect(options)?.look_over().await
    }

    /// Joins a consumer group over topics of this log; what to work on arrives through [`Member::assignment`](millrace_log::Member::assignment).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the options cannot be; [`ErrorKind::Retry`] when no thread can be had, or the cluster is not
    /// known to be the right one yet.
    pub fn join(&self, group: &GroupOptions) -> Result<KafkaMember> {
        self.proof.check()?;
        KafkaMember::join(&self.topics.options, group)
    }

    /// How far a group is behind, in records, for every partition of which it reported how far it is: five seconds old at
    /// most, as is an error. Two requests and one per broker at worst, five seconds; for any number of callers.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the options cannot be; [`ErrorKind::Retry`] when the cluster does not answer in time.
    pub async fn lag(&self, group: &GroupOptions) -> Result<BTreeMap<TopicPartition, Offset>> {
        self.answers().await?;
        self.lags.of(&self.topics.options, group, &self.topics.asking).await
    }

    /// What tells this log from every other: the cluster, as it names itself, and the prefix.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] when the cluster does not answer in time.
    pub async fn identity(&self) -> Result<String> {
        identity(&self.topics.options, &self.topics.asking).await
    }
}

async fn identity(options: &KafkaOptions, asking: &Asking) -> Result<String> {
    let cluster = asking.cluster().await?;
    Ok(format!("kafka {cluster}/{}", options.prefix))
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn connect(options: &KafkaOptions) -> Result<Topics> {
    options.check()?;
    let admin = AdminClient::from_config_and_context(&options.client("admin"), Context::default());
    let admin = admin.map_err(|error| unusable("a client for administration", error))?;
    Ok(Topics { options: options.clone(), asking: Asking::new(options)?, admin: Aside::new(admin) })
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Offset>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.proof.check()?;
        for append in &batch {
            self.reader.check(append.to)?;
            let (key, value) = (append.key.len(), append.value.len());
            if value > VALUE_BYTES_MAX || key > KEY_BYTES_MAX {
                let message = format!(
                    "cannot append a key of {key} and a value of {value} bytes: at most {KEY_BYTES_MAX} and {VALUE_BYTES_MAX}"
                );
                return Err(Error::new(ErrorKind::Invalid, message));
            }
        }
        self.writer.append(batch).await
    }

    async fn read(&self, of: TopicPartition, from: Offset, bytes_max: usize) -> Result<Vec<Record>> {
        self.answers().await?;
        self.reader.read(of, from, bytes_max).await
    }

    async fn wait(&self, of: TopicPartition, from: Offset) -> Result<()> {
        self.answers().await?;
        self.reader.wait(of, from).await
    }

    async fn bounds(&self, of: TopicPartition) -> Result<Bounds> {
        self.answers().await?;
        self.reader.bounds(of).await
    }

    async fn trim(&self, of: TopicPartition, before: Offset) -> Result<()> {
        self.answers().await?;
        let Some(place) = self.reader.trim_place(of, before).await? else { return Ok(()) };
        let options = &self.topics.options;
        let attempted = || format!("cannot trim {of} to {place}");
        let offset = rdkafka::Offset::Offset(i64::try_from(place).unwrap_or(i64::MAX));
        let mut list = TopicPartitionList::with_capacity(1);
        let added = list.add_partition_offset(&options.topic(of.topic), number(of.partition), offset);
        added.map_err(|error| failed(attempted(), error))?;
        let timeout = Some(options.request_timeout);
        let admin_options = AdminOptions::new().request_timeout(timeout).operation_timeout(timeout);
        let deleted = self.topics.admin.delete_records(&list, &admin_options).await;
        for element in deleted.map_err(|error| failed(attempted(), error))?.elements() {
            element.error().map_err(|error| failed(attempted(), error))?;
        }
        self.reader.trimmed(of, place);
        Ok(())
    }

    fn partitions(&self) -> u32 {
        self.topics.options.partitions
    }

    /// False until the cluster is known to be the right one; while an append waits for three seconds or longer; from one that
    /// failed, or from when no broker can be reached, until a record is acknowledged or the cluster answers that it takes
    /// appends again; and after [`EventLog::close`].
    fn healthy(&self) -> bool {
        self.proof.is_given() && self.writer.healthy()
    }

    /// Stops taking appends, waits for those that were taken (two and a half seconds at most: the rest is told to retry),
    /// and ends every client. Blocks until then, five seconds at most: what a cluster that hangs holds up ends alone.
    /// Dropping does the same, and ends the clients that ask: a second and a half more at most.
    fn close(&self) {
        if let Some(asks) = self.asks.lock().unwrap_or_else(PoisonError::into_inner).take() {
            asks.abort();
        }
        self.writer.close();
        self.reader.close();
    }
}
