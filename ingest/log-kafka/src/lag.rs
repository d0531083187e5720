//! How far a group is behind, at a price that a page of metrics may ask every few seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millrace_events::{Topic, TopicPartition};
use millrace_log::{Error, ErrorKind, Offset, Result};
use rdkafka::TopicPartitionList;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::asking::{Asking, blocking, hear, number};
use crate::closing::Aside;
use crate::context::{Context, failed, unusable};
use crate::group::{GroupOptions, group_id};
use crate::options::KafkaOptions;

/// For how long an answer is repeated, also that there is none.
const FRESH: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The lag of each partition, in records.
type Lag = BTreeMap<TopicPartition, Offset>;

/// Asks for the lag of one group at a time: a process has one.
#[derive(Default)]
pub(crate) struct Lags {
    last: Mutex<Option<Asked>>,
}

struct Asked {
    of: (String, Vec<Topic>),
    consumer: Arc<Aside<BaseConsumer<Context>>>,
    at: Instant,
    lag: Option<Lag>,
}

impl Lags {
    /// What the group was behind a few seconds ago at most, for every partition of which it said how far it is.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the options cannot be; [`ErrorKind::Retry`] when the cluster does not answer in time, or
    /// did not a moment ago.
    pub(crate) async fn of(&self, options: &KafkaOptions, group: &GroupOptions, asking: &Asking) -> Result<Lag> {
        let of = (group_id(options, group), group.topics.clone());
        // Whoever comes while somebody asks waits for that answer.
        let mut last = self.last.lock().await;
        let known = last.take().filter(|asked| asked.of == of);
        let consumer = match known {
            Some(asked) if asked.at.elapsed() < FRESH => {
                let lag = asked.lag.clone();
                *last = Some(asked);
                let message = format!("the lag of {} could not be asked for less than {FRESH:?} ago", of.0);
                return lag.ok_or_else(|| Error::new(ErrorKind::Retry, message));
            }
            Some(asked) => asked.consumer,
            None => Arc::new(Aside::new(consumer(options, &of.0)?)),
        };
        let at = Instant::now();
        let asked = last.insert(Asked { of, consumer: consumer.clone(), at, lag: None });
        let answer = tokio::time::timeout(ANSWER_MAX, ask(options, group, consumer, asking)).await;
        let late = |_| Error::new(ErrorKind::Retry, format!("the cluster did not tell the lag within {ANSWER_MAX:?}"));
        let lag = answer.map_err(late)??;
        asked.lag = Some(lag.clone());
        Ok(lag)
    }
}

/// A client that asks for the group's offsets without becoming one of it.
fn consumer(options: &KafkaOptions, group_id: &str) -> Result<BaseConsumer<Context>> {
    let mut config = options.client("lag");
    config.set("group.id", group_id).set("enable.auto.commit", "false");
    let consumer = BaseConsumer::from_config_and_context(&config, Context::default());
    consumer.map_err(|error| unusable("a client", error))
}

async fn ask(
    options: &KafkaOptions,
    group: &GroupOptions,
    consumer: Arc<Aside<BaseConsumer<Context>>>,
    asking: &Asking,
) -> Result<Lag> {
    let mut wanted = TopicPartitionList::new();
    for topic in &group.topics {
        for partition in 0..topic.partitions(options.partitions) {
            wanted.add_partition(&options.topic(*topic), number(partition));
        }
    }
    let timeout = options.request_timeout.min(ANSWER_MAX);
    let committed = blocking(move || {
        hear(&consumer);
        let asked = consumer.committed_offsets(wanted, timeout);
        asked.map_err(|error| failed("cannot ask how far a group is".to_owned(), error))
    });
    let committed = committed.await?;
    let mut reported: Lag = BTreeMap::new();
    let mut named = Vec::new();
    for topic in &group.topics {
        for partition in 0..topic.partitions(options.partitions) {
            let name = options.topic(*topic);
            let Some(offset) = offset_in(&committed, &name, partition) else { continue };
            reported.insert(TopicPartition::new(*topic, partition), offset);
            named.push((name, partition));
        }
    }
    if named.is_empty() {
        return Ok(reported);
    }
    let ends = asking.ends(named).await?;
    for (of, offset) in &mut reported {
        let end = offset_in(&ends, &options.topic(of.topic), of.partition).unwrap_or(*offset);
        *offset = end.saturating_sub(*offset);
    }
    Ok(reported)
}

fn offset_in(list: &TopicPartitionList, name: &str, partition: u32) -> Option<Offset> {
    let found = list.find_partition(name, number(partition))?;
    Offset::try_from(found.offset().to_raw()?).ok()
}
