//! Questions to the cluster: where a partition starts and ends, what a time stands at, what a topic is.
//!
//! The client has no group and never reads, so no fetch that waits for news holds an answer up.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use millrace_log::{Error, ErrorKind, Offset, Result};
use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataPartition};

use crate::closing::Aside;
use crate::context::{Context, failed, unusable};
use crate::options::KafkaOptions;

/// The pause before a question is repeated while a leader is being found.
const PAUSE: Duration = Duration::from_millis(50);

/// How many errors and log lines are heard with each question.
const HEARD_MAX: usize = 16;

/// How long the cluster is asked, topic by topic, whether appends would get through.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// A client that asks.
#[derive(Clone)]
pub(crate) struct Asking {
    consumer: Arc<Aside<BaseConsumer<Context>>>,
    timeout: Duration,
}

impl Asking {
    pub(crate) fn new(options: &KafkaOptions) -> Result<Self> {
        let consumer = BaseConsumer::from_config_and_context(&options.client("asking"), Context::default());
        let consumer = Arc::new(Aside::new(consumer.map_err(|error| unusable("a client", error))?));
        Ok(Self { consumer, timeout: options.request_timeout })
    }

    /// The first offset of a partition and its end, as its leader knows them.
    pub(crate) async fn bounds(&self, topic: &str, partition: u32) -> Result<(Offset, Offset)> {
        let (name, number) = (topic.to_owned(), number(partition));
        let asked = self.ask(move |consumer, timeout| consumer.fetch_watermarks(&name, number, timeout)).await;
        let (start, end) = asked.map_err(|why| why.error(format!("cannot ask for the end of {topic}/{partition}")))?;
        Ok((Offset::try_from(start).unwrap_or(0), Offset::try_from(end).unwrap_or(0)))
    }

    /// The ends of many partitions, as their leaders know them: one request to each broker.
    pub(crate) async fn ends(&self, partitions: Vec<(String, u32)>) -> Result<TopicPartitionList> {
        let asked = self.ask(move |consumer, timeout| {
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for (name, partition) in &partitions {
                // As a time it means the end.
                list.add_partition_offset(name, number(*partition), rdkafka::Offset::End)?;
            }
            let found = consumer.offsets_for_times(list, timeout)?;
            found.elements().iter().try_for_each(|element| element.error())?;
            Ok(found)
        });
        asked.await.map_err(|why| why.error("cannot ask for the ends of partitions".to_owned()))
    }

    /// Whether every partition of these topics has a leader, and as many replicas in sync as an append waits for, or all it
    /// has. Blocks.
    pub(crate) fn takes_appends(&self, topics: &[String], min_insync: usize) -> bool {
        let takes = |topic: &String| {
            let asked = self.consumer.fetch_metadata(Some(topic), self.timeout.min(LOOK_MAX));
            asked.is_ok_and(|metadata| {
                let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
                let mut partitions = partitions.peekable();
                let insync = |of: &MetadataPartition| of.isr().len() >= min_insync.min(of.replicas().len());
                partitions.peek().is_some() && partitions.all(|of| of.leader() >= 0 && insync(of))
            })
        };
        let all = topics.iter().all(takes);
        self.hear();
        all
    }

    /// The first record of a partition with this timestamp or a later one, in milliseconds.
    pub(crate) async fn first_since(&self, topic: &str, partition: u32, timestamp: i64) -> Result<Option<Offset>> {
        let (name, number) = (topic.to_owned(), number(partition));
        let asked = self.ask(move |consumer, timeout| {
            let mut times = TopicPartitionList::with_capacity(1);
            times.add_partition_offset(&name, number, rdkafka::Offset::Offset(timestamp))?;
            let found = consumer.offsets_for_times(times, timeout)?;
            let elements = found.elements();
            let Some(found) = elements.first() else { return Ok(None) };
            found.error()?;
            Ok(found.offset().to_raw().and_then(|offset| Offset::try_from(offset).ok()))
        });
        let attempted = || format!("cannot ask {topic}/{partition} for the first record since {timestamp}");
        asked.await.map_err(|why| why.error(attempted()))
    }

    /// What the cluster says of a topic, and of its brokers.
    pub(crate) async fn topic(&self, topic: &str) -> Result<Metadata> {
        let name = topic.to_owned();
        let asked = self.ask(move |consumer, timeout| consumer.fetch_metadata(Some(&name), timeout)).await;
        asked.map_err(|why| why.error(format!("cannot ask the cluster for the topic {topic}")))
    }

    /// The name that the cluster gave itself when it was made.
    pub(crate) async fn cluster(&self) -> Result<String> {
        let asked = self.ask(|consumer, timeout| Ok(consumer.client().fetch_cluster_id(timeout))).await;
        let name = asked.map_err(|why| why.error("cannot ask the cluster for its name".to_owned()))?;
        name.ok_or_else(|| {
            self.hear();
            let why = self.consumer.context().why();
            Error::new(ErrorKind::Retry, format!("the cluster did not tell its name in time{why}"))
        })
    }

    /// Asks until there is an answer other than that a leader is being found, or time is up.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl Fn(&BaseConsumer<Context>, Duration) -> KafkaResult<T> + Clone + Send + 'static,
    ) -> std::result::Result<T, NoAnswer> {
        let mut last = None;
        let answered = tokio::time::timeout(self.timeout, async {
            loop {
                match self.ask_once(question.clone()).await {
                    Err(error) if finds_leader(&error) => last = Some(error),
                    answered => return answered,
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        let error = match answered.await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => last.unwrap_or(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut)),
        };
        self.hear();
        Err(NoAnswer { error, why: self.consumer.context().why() })
    }

    /// Whether a broker refused the user or the password.
    pub(crate) fn refused(&self) -> bool {
        self.consumer.context().refused()
    }

    fn hear(&self) {
        hear(&self.consumer);
    }

    /// One try, where it holds up no other task.
    fn ask_once<T: Send + 'static>(
        &self,
        question: impl Fn(&BaseConsumer<Context>, Duration) -> KafkaResult<T> + Send + 'static,
    ) -> impl Future<Output = KafkaResult<T>> {
        let (consumer, timeout) = (self.consumer.clone(), self.timeout);
        let asked = tokio::task::spawn_blocking(move || question(&consumer, timeout));
        self.hear();
        async { asked.await.unwrap_or(Err(KafkaError::Canceled)) }
    }
}

/// Nobody else empties the queue of a client that does not read.
pub(crate) fn hear(consumer: &BaseConsumer<Context>) {
    for _ in 0..HEARD_MAX {
        // Errors and log lines go to the context; there is nothing else.
        drop(consumer.poll(Duration::ZERO));
    }
}

struct NoAnswer {
    error: KafkaError,
    why: String,
}

impl NoAnswer {
    fn error(self, attempted: String) -> Error {
        failed(attempted + &self.why, self.error)
    }
}

/// Whether the question was for a leader that has moved, or is not one yet.
fn finds_leader(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::ReplicaNotAvailable
                | RDKafkaErrorCode::OffsetNotAvailable
                | RDKafkaErrorCode::FencedLeaderEpoch
                | RDKafkaErrorCode::UnknownLeaderEpoch
                | RDKafkaErrorCode::BrokerTransportFailure
        )
    )
}

/// The number of a partition as Kafka counts.
pub(crate) fn number(partition: u32) -> i32 {
    i32::try_from(partition).expect("it is below PARTITIONS_MAX")
}

/// Runs what waits for the cluster where it holds up no other task.
///
/// # Errors
/// Those of the call, and [`ErrorKind::Retry`] when the runtime ends.
pub(crate) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let called = tokio::task::spawn_blocking(call).await;
    called.unwrap_or_else(|e| Err(Error::with_source(ErrorKind::Retry, "the call to the cluster was ended", e)))
}
