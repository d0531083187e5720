//! The topics of the log: made as the laws need them, refused when they are something else, and looked over on demand.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_events::Topic;
use millrace_log::{Error, ErrorKind, KEY_BYTES_MAX, Result, VALUE_BYTES_MAX};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use crate::asking::Asking;
use crate::closing::Aside;
use crate::context::{Context, failed};
use crate::headers::HEADERS_BYTES_MAX;
use crate::options::KafkaOptions;

/// The largest record with everything around it, in bytes: what a topic and a producer must take.
pub(crate) const RECORD_BYTES_MAX: usize = VALUE_BYTES_MAX + KEY_BYTES_MAX + HEADERS_BYTES_MAX + 16 * 1024;

/// How often new topics are looked for before they count as not there.
const LOOKS: usize = 100;
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// One thing that [`KafkaLog::check`](crate::KafkaLog::check) found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was found, where.
    pub what: String,
    /// What to do about it; empty when nothing is to be done.
    pub cure: String,
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// It works, and may lose what was acknowledged when a disk or a broker is lost.
    Risk,
    /// It does not work, or loses what was acknowledged in everyday operation.
    Broken,
}

/// What one topic is in the cluster.
struct Found {
    partitions: usize,
    replicas_min: usize,
    insync_min: usize,
    leaderless: usize,
}

/// What asks the cluster about topics.
pub(crate) struct Topics {
    pub(crate) options: KafkaOptions,
    pub(crate) asking: Asking,
    pub(crate) admin: Aside<AdminClient<Context>>,
}

impl Topics {
    /// Makes what is missing, and refuses what has another number of partitions.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when a topic is another one, or missing and not to be made; [`ErrorKind::Retry`] when the
    /// cluster does not answer.
    pub(crate) async fn ensure(&self) -> Result<()> {
        let mut missing = Vec::new();
        for topic in Topic::ALL {
            match self.find(topic).await? {
                Some(found) => self.check_partitions(topic, &found)?,
                None => missing.push(topic),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        if !self.options.create_topics {
            let names: Vec<String> = missing.iter().map(|topic| self.options.topic(*topic)).collect();
            let message = format!("there is no topic {}: make it, or start with create_topics=true", names.join(", "));
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        self.create(&missing).await?;
        for topic in missing {
            self.await_leaders(topic).await?;
        }
        Ok(())
    }

    async fn create(&self, missing: &[Topic]) -> Result<()> {
        let names: Vec<String> = missing.iter().map(|topic| self.options.topic(*topic)).collect();
        let min_insync = self.options.min_insync.to_string();
        let wanted = wanted_configs(&min_insync);
        let replication = i32::try_from(self.options.replication).unwrap_or(i32::MAX);
        let mut new = Vec::new();
        for (topic, name) in missing.iter().zip(&names) {
            let partitions = i32::try_from(topic.partitions(self.options.partitions)).unwrap_or(i32::MAX);
            let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replication));
            new.push(wanted.iter().fold(topic, |topic, (key, value)| topic.set(key, value)));
        }
        let attempted = || format!("cannot make the topics {}", names.join(", "));
        let results =
            self.admin.create_topics(&new, &self.admin_options()).await.map_err(|e| failed(attempted(), e))?;
        for result in results {
            match result {
                // Another process was quicker: whether it made the same is looked at next.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                    let message = format!(
                        "cannot make the topic {name} with {} replicas: the cluster has fewer brokers; start more, or ask for \
                         fewer with replication and min_insync",
                        self.options.replication
                    );
                    return Err(Error::new(ErrorKind::Invalid, message));
                }
                Err((name, code)) => {
                    return Err(Error::with_source(ErrorKind::Retry, format!("cannot make the topic {name}"), code));
                }
            }
        }
        Ok(())
    }

    /// Waits until every partition of a topic has a leader.
    async fn await_leaders(&self, topic: Topic) -> Result<()> {
        for _ in 0..LOOKS {
            if let Some(found) = self.find(topic).await? {
                self.check_partitions(topic, &found)?;
                if found.leaderless == 0 {
                    return self.await_answers(topic).await;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        let message = format!("the topic {} was made, but has no leaders yet", self.options.topic(topic));
        Err(Error::new(ErrorKind::Retry, message))
    }

    /// A leader is named before it knows that it is one: it does when it answers.
    async fn await_answers(&self, topic: Topic) -> Result<()> {
        let name = self.options.topic(topic);
        for partition in 0..topic.partitions(self.options.partitions) {
            self.asking.bounds(&name, partition).await?;
        }
        Ok(())
    }

    fn check_partitions(&self, topic: Topic, found: &Found) -> Result<()> {
        let wanted = topic.partitions(self.options.partitions) as usize;
        if found.partitions == wanted {
            return Ok(());
        }
        let message = format!(
            "the topic {} has {} partitions, not {wanted}: start with the number it was made with, or replay it into a log \
             with another prefix",
            self.options.topic(topic),
            found.partitions
        );
        Err(Error::new(ErrorKind::Invalid, message))
    }

    /// The topic as the cluster describes it; `None` when there is none.
    async fn find(&self, topic: Topic) -> Result<Option<Found>> {
        let name = self.options.topic(topic);
        let metadata = self.asking.topic(&name).await?;
        let Some(topic) = metadata.topics().iter().find(|found| found.name() == name) else { return Ok(None) };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
            Some(code) => {
                return Err(Error::with_source(ErrorKind::Retry, format!("cannot describe the topic {name}"), code));
            }
        }
        let partitions = topic.partitions();
        Ok(Some(Found {
            partitions: partitions.len(),
            replicas_min: partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
            insync_min: partitions.iter().map(|partition| partition.isr().len()).min().unwrap_or(0),
            leaderless: partitions.iter().filter(|partition| partition.leader() < 0).count(),
        }))
    }

    fn admin_options(&self) -> AdminOptions {
        let timeout = Some(self.options.request_timeout);
        AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)
    }

    /// Everything about brokers and topics that an operator should know.
    pub(crate) async fn look_over(&self) -> Result<Vec<Finding>> {
        let mut findings = match self.brokers().await {
            Ok(brokers) => vec![brokers],
            Err(error) if self.asking.refused() => {
                let cure = "correct the user, the password and sasl.mechanism in the URL".to_owned();
                return Ok(vec![Finding { severity: Severity::Broken, what: error.to_string(), cure }]);
            }
            Err(error) => return Err(error),
        };
        let mut present = Vec::new();
        for topic in Topic::ALL {
            match self.find(topic).await? {
                Some(found) => {
                    self.look_at(topic, &found, &mut findings);
                    present.push(self.options.topic(topic));
                }
                None => findings.push(Finding {
                    severity: Severity::Broken,
                    what: format!("there is no topic {}", self.options.topic(topic)),
                    cure: "start once with create_topics=true, or make it".to_owned(),
                }),
            }
        }
        let specifiers: Vec<ResourceSpecifier<'_>> =
            present.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
        if !specifiers.is_empty() {
            let described = self.admin.describe_configs(&specifiers, &self.admin_options()).await;
            for (name, result) in present.iter().zip(described.map_err(|e| failed("cannot describe topics".into(), e))?)
            {
                match result {
                    Ok(config) => self.look_at_config(name, &config, &mut findings),
                    Err(code) => findings.push(Finding {
                        severity: Severity::Risk,
                        what: format!("the configuration of {name} cannot be read: {code}"),
                        cure: "allow this user to describe the configuration of its topics".to_owned(),
                    }),
                }
            }
        }
        Ok(findings)
    }

    async fn brokers(&self) -> Result<Finding> {
        let metadata = self.asking.topic(&self.options.topic(Topic::Actions)).await?;
        let names = metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port()));
        let names: Vec<String> = names.collect();
        let (_, library) = rdkafka::util::get_rdkafka_version();
        // Kafka tells clients the versions of its requests, not its own.
        let what = format!("{} brokers: {}; client librdkafka {library}", names.len(), names.join(", "));
        Ok(Finding { severity: Severity::Fine, what, cure: String::new() })
    }

    fn look_at(&self, topic: Topic, found: &Found, findings: &mut Vec<Finding>) {
        let name = self.options.topic(topic);
        let mut add =
            |severity, what: String, cure: &str| findings.push(Finding { severity, what, cure: cure.to_owned() });
        let wanted = topic.partitions(self.options.partitions) as usize;
        if found.partitions != wanted {
            let what = format!("{name} has {} partitions, not {wanted}", found.partitions);
            add(
                Severity::Broken,
                what,
                "start with the number it was made with; never add partitions to a topic of the log",
            );
        }
        if found.leaderless > 0 {
            let what = format!("{name} has {} partitions without a leader", found.leaderless);
            add(Severity::Broken, what, "bring the brokers that hold it back");
        }
        if found.replicas_min < 2 {
            let cure = "reassign it to three replicas (kafka-reassign-partitions), then set min.insync.replicas=2";
            add(Severity::Risk, format!("{name} has one replica: a lost disk loses the log"), cure);
        } else if found.insync_min < found.replicas_min {
            let what =
                format!("{name} has a partition with {} of {} replicas in sync", found.insync_min, found.replicas_min);
            add(Severity::Risk, what, "wait for the replicas to catch up, or bring their brokers back");
        }
    }

    fn look_at_config(&self, name: &str, config: &ConfigResource, findings: &mut Vec<Finding>) {
        let entries: BTreeMap<&str, &str> =
            config.entries.iter().filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?))).collect();
        let number = |key: &str| entries.get(key).and_then(|value| value.parse::<i64>().ok());
        let mut add = |severity, what: String, cure: String| findings.push(Finding { severity, what, cure });
        let set = |key: &str, value: &str| {
            format!("kafka-configs --alter --entity-type topics --entity-name {name} --add-config {key}={value}")
        };
        if entries.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
            let what = format!("{name} is compacted: offsets are left out and records go");
            add(Severity::Broken, what, set("cleanup.policy", "delete"));
        }
        for key in ["retention.ms", "retention.bytes"] {
            if number(key).is_some_and(|value| value != -1) {
                let what = format!("{key} of {name} drops records that nothing has archived");
                add(Severity::Broken, what, set(key, "-1"));
            }
        }
        if entries.get("unclean.leader.election.enable") == Some(&"true") {
            let what = format!("{name} may elect a leader that lacks acknowledged records");
            add(Severity::Broken, what, set("unclean.leader.election.enable", "false"));
        }
        if number("min.insync.replicas").is_some_and(|insync| insync < 2) {
            let what = format!("{name} acknowledges what one replica has: losing that broker loses it");
            add(Severity::Risk, what, set("min.insync.replicas", "2"));
        }
        let record_max = i64::try_from(RECORD_BYTES_MAX).unwrap_or(i64::MAX);
        if number("max.message.bytes").is_some_and(|bytes| bytes < record_max) {
            let what = format!("{name} does not take the largest record");
            add(Severity::Broken, what, set("max.message.bytes", &record_max.to_string()));
        }
        if entries.get("message.timestamp.type").is_some_and(|kind| *kind != "CreateTime") {
            let what = format!("{name} stamps records itself: log time is lost");
            add(Severity::Broken, what, set("message.timestamp.type", "CreateTime"));
        }
        for key in ["message.timestamp.before.max.ms", "message.timestamp.after.max.ms"] {
            if number(key).is_some_and(|limit| limit != i64::MAX) {
                let what = format!("{key} of {name} turns replays of other times away");
                add(Severity::Risk, what, set(key, &i64::MAX.to_string()));
            }
        }
    }
}

/// What a topic of the log is made with.
fn wanted_configs(min_insync: &str) -> Vec<(&'static str, String)> {
    vec![
        ("cleanup.policy", "delete".to_owned()),
        // Only the platform knows what is archived: it trims, the broker never does.
        ("retention.ms", "-1".to_owned()),
        ("retention.bytes", "-1".to_owned()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("min.insync.replicas", min_insync.to_owned()),
        ("max.message.bytes", RECORD_BYTES_MAX.to_string()),
        ("compression.type", "producer".to_owned()),
        ("message.timestamp.type", "CreateTime".to_owned()),
        // A replay stamps any time, however far it is from the clock of the broker.
        ("message.timestamp.before.max.ms", i64::MAX.to_string()),
        ("message.timestamp.after.max.ms", i64::MAX.to_string()),
    ]
}
