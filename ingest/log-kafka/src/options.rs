//! How a cluster is reached, what its topics must be, and every bound of the adapter.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use millrace_events::{PARTITIONS_MAX, Topic};
use millrace_log::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use crate::headers::HeadersOf;

/// What every producer here must be for the laws to hold, and the sizes that follow from our own bounds: not for a URL.
const OWNED: &[&str] = &[
    "acks",
    "auto.offset.reset",
    "delivery.report.only.error",
    "enable.partition.eof",
    "metadata.broker.list",
    "plugin.library.paths",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "group.id",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.max.bytes",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "partition.assignment.strategy",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "request.required.acks",
    "request.timeout.ms",
    "retries",
    "message.send.max.retries",
    "transactional.id",
];

/// The longest name that Kafka gives a topic, in bytes.
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Where the log is and what it must be. The defaults are for a cluster of three brokers or more.
#[derive(Clone)]
pub struct KafkaOptions {
    /// Brokers to ask first, `host:port` with commas between.
    pub brokers: String,
    /// What the names of topics begin with, before a dot; empty for the bare names. One per deployment in a shared cluster.
    pub prefix: String,
    /// How many partitions the topics have; fixed when they are made. `dead-letters` always has one.
    pub partitions: u32,
    /// How many brokers hold each record. 1 only where losing a disk may lose the log.
    pub replication: u32,
    /// How many of them must have a record before it is acknowledged.
    pub min_insync: u32,
    /// Whether topics that are missing are made.
    pub create_topics: bool,
    /// More properties of librdkafka, for TLS, SASL and tuning; those that the laws rest on are refused.
    pub properties: BTreeMap<String, String>,
    /// Headers of a record, beside its log time; `None` for none. See [`cloud_event_headers`](crate::cloud_event_headers).
    pub headers: Option<HeadersOf>,
    /// After how long without an acknowledgement an append is given up with [`ErrorKind::Retry`]. It must outlast the
    /// election of a leader: about ten seconds after a broker died. After a controller that hangs it takes Kafka half a
    /// minute, unless the `controller.socket.timeout.ms` of its brokers is shorter.
    pub append_timeout: Duration,
    /// After how long any other request is given up.
    pub request_timeout: Duration,
    /// How many bytes may wait for acknowledgement; one append may not be larger either. Appends without actions, which
    /// follow from what is in the log already, may come on top until it is twice as many.
    pub queue_bytes_max: usize,
    /// How many records may wait for acknowledgement; twice as many with those of appends that hold no actions.
    pub queue_records_max: usize,
    /// How long a record waits for others to be sent with it.
    pub linger: Duration,
    /// How many bytes of one partition each place of reading fetches ahead.
    pub prefetch_bytes_max: usize,
    /// How many places of reading are kept at once, each with what it fetched ahead.
    pub lanes_max: usize,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            prefix: "millrace".to_owned(),
            partitions: 4,
            replication: 3,
            min_insync: 2,
            create_topics: true,
            properties: BTreeMap::new(),
            headers: None,
            append_timeout: Duration::from_secs(20),
            request_timeout: Duration::from_secs(10),
            queue_bytes_max: 32 * 1024 * 1024,
            queue_records_max: 100_000,
            linger: Duration::from_millis(1),
            prefetch_bytes_max: 1024 * 1024,
            lanes_max: 128,
        }
    }
}

impl fmt::Debug for KafkaOptions {
    /// Without the values of properties: passwords are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("brokers", &self.brokers)
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .field("replication", &self.replication)
            .field("min_insync", &self.min_insync)
            .field("properties", &self.properties.keys())
            .finish_non_exhaustive()
    }
}

impl KafkaOptions {
    /// Reads `kafka://[user:password@]host:port[,host:port…]/[prefix][?name=value&…]`; `kafka+ssl://` is the same over TLS.
    ///
    /// Names are `partitions`, `replication`, `min_insync`, `create_topics`, `append_timeout_ms`, and properties of
    /// librdkafka, such as `ssl.ca.location`. A user means SASL, by `sasl.mechanism`, else SCRAM-SHA-512. What a URL may not
    /// hold unescaped is percent-encoded.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it is not such a URL, or when the values cannot be. No message repeats a password.
    pub fn from_url(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("a Kafka URL begins with kafka://"))?;
        let tls = match scheme {
            "kafka" => false,
            "kafka+ssl" => true,
            _ => return Err(invalid(format!("cannot use {scheme}:// for Kafka: use kafka:// or kafka+ssl://"))),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, brokers) = match place.rsplit_once('@') {
            Some((user, brokers)) => (Some(user), brokers),
            None => (None, place),
        };
        let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
        if std::iter::once(prefix).chain(names).any(|text| text.contains('@')) {
            return Err(invalid(
                "an @ stands after the hosts: percent-encode what is special in the user and the password",
            ));
        }
        let mut options = Self { brokers: brokers.to_owned(), prefix: decoded(prefix)?, ..Self::default() };
        let properties = &mut options.properties;
        let security = match (tls, user.is_some()) {
            (false, false) => "PLAINTEXT",
            (true, false) => "SSL",
            (false, true) => "SASL_PLAINTEXT",
            (true, true) => "SASL_SSL",
        };
        properties.insert("security.protocol".to_owned(), security.to_owned());
        if let Some(user) = user {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            properties.insert("sasl.mechanism".to_owned(), "SCRAM-SHA-512".to_owned());
            properties.insert("sasl.username".to_owned(), decoded(name)?);
            properties.insert("sasl.password".to_owned(), decoded(password)?);
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            options.set(&decoded(name)?, decoded(value)?)?;
        }
        options.check()?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: String) -> Result<()> {
        let number = |value: &str| {
            value.parse::<u32>().map_err(|_| invalid(format!("{name} of a Kafka URL is not a number: {value:?}")))
        };
        match name {
            "partitions" => self.partitions = number(&value)?,
            "replication" => self.replication = number(&value)?,
            "min_insync" => self.min_insync = number(&value)?,
            "append_timeout_ms" => self.append_timeout = Duration::from_millis(u64::from(number(&value)?)),
            "create_topics" => {
                self.create_topics =
                    value.parse().map_err(|_| invalid(format!("{name} is true or false, not {value:?}")))?;
            }
            // Every property of librdkafka but a handful has a dot in it, and none of ours has.
            _ if name.contains('.') => {
                self.properties.insert(name.to_owned(), value);
            }
            _ => {
                let known = "partitions, replication, min_insync, create_topics, append_timeout_ms, or a property of \
                             librdkafka such as ssl.ca.location";
                return Err(invalid(format!("a Kafka URL has no {name:?}: use {known}")));
            }
        }
        Ok(())
    }

    /// # Errors
    /// [`ErrorKind::Invalid`] when the values cannot be.
    pub(crate) fn check(&self) -> Result<()> {
        if self.brokers.split(',').any(|broker| broker.is_empty()) {
            return Err(invalid("a Kafka URL names its brokers: kafka://host:port,host:port/prefix"));
        }
        if self.partitions == 0 || self.partitions > PARTITIONS_MAX {
            return Err(invalid(format!(
                "a log cannot have {} partitions: use 1 to {PARTITIONS_MAX}",
                self.partitions
            )));
        }
        if self.replication == 0 || self.min_insync == 0 || self.min_insync > self.replication {
            return Err(invalid(format!(
                "{} of {} replicas cannot be what an append waits for: min_insync is 1 to replication",
                self.min_insync, self.replication
            )));
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let longest = Topic::ALL.iter().map(|topic| self.topic(*topic).len()).max().unwrap_or(0);
        if !self.prefix.bytes().all(legal) || longest > TOPIC_NAME_BYTES_MAX {
            return Err(invalid(format!(
                "topics cannot begin with {:?}: use letters, digits, '.', '_' and '-', and not too many",
                self.prefix
            )));
        }
        if let Some(name) = self.properties.keys().find(|name| OWNED.contains(&name.as_str())) {
            return Err(invalid(format!("{name} is not for a Kafka URL: the laws of the log rest on it")));
        }
        if self.append_timeout.is_zero() || self.request_timeout.is_zero() {
            return Err(invalid("a time-out of zero leaves no time for anything"));
        }
        if self.lanes_max == 0 || self.prefetch_bytes_max < 1024 {
            return Err(invalid("reading needs one lane and one kilobyte at least"));
        }
        Ok(())
    }

    /// The name of a topic in the cluster.
    pub(crate) fn topic(&self, topic: Topic) -> String {
        if self.prefix.is_empty() { topic.as_str().to_owned() } else { format!("{}.{topic}", self.prefix) }
    }

    /// What every client of the cluster is configured with.
    pub(crate) fn client(&self, role: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        let request_ms = self.request_timeout.as_millis();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", format!("millrace-{role}"))
            .set("socket.timeout.ms", request_ms.max(1000).to_string())
            .set("socket.connection.setup.timeout.ms", request_ms.clamp(1000, 10_000).to_string())
            // A broker that comes back is found again within a second, not within ten.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.nagle.disable", "true")
            .set("allow.auto.create.topics", "false")
            .set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }
}

fn decoded(text: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| invalid("a Kafka URL holds escaped bytes that are no text"))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests;
