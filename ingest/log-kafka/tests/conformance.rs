//! The laws of the log, on a broker that all of them share: each has topics of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use std::sync::Arc;

use async_trait::async_trait;
use millrace_log::EventLog;
use millrace_log::conformance::Harness;
use millrace_log_kafka::{KafkaLog, KafkaOptions};

struct Cluster {
    options: KafkaOptions,
}

#[async_trait]
impl Harness for Cluster {
    async fn open(&self) -> Arc<dyn EventLog> {
        KafkaLog::open(self.options.clone()).await.unwrap()
    }

    async fn reopen(&self, log: Arc<dyn EventLog>) -> Arc<dyn EventLog> {
        drop(log);
        self.open().await
    }
}

millrace_log::event_log_conformance!({
    let Some(options) = cluster::options() else { return };
    Cluster { options }
});
