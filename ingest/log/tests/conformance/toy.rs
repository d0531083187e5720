use std::sync::Arc;

use async_trait::async_trait;
use millrace_log::EventLog;
use millrace_log::conformance::Harness;
use millrace_log::toy::ToyLog;

/// Keeps everything in memory, so a stop is nothing.
struct Toy;

#[async_trait]
impl Harness for Toy {
    async fn open(&self) -> Arc<dyn EventLog> {
        Arc::new(ToyLog::new(3))
    }

    async fn reopen(&self, log: Arc<dyn EventLog>) -> Arc<dyn EventLog> {
        log
    }
}

millrace_log::event_log_conformance!(Toy);
