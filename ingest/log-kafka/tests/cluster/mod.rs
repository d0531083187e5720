//! The broker that the tests of one program share, and options for topics of one's own.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use millrace_engines::kafka::{Kafka, brokers};
use millrace_log_kafka::KafkaOptions;

/// One replica and two partitions under a prefix that nobody else has; `None`, said aloud, when there is no Kafka.
pub(crate) fn options() -> Option<KafkaOptions> {
    static BROKER: OnceLock<Option<(String, Option<Kafka>)>> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (brokers, _) = BROKER.get_or_init(brokers).as_ref()?;
    let prefix = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let one = KafkaOptions { replication: 1, min_insync: 1, partitions: 2, ..KafkaOptions::default() };
    Some(KafkaOptions { brokers: brokers.clone(), prefix, ..one })
}
