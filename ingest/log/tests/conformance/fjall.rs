use std::sync::Arc;

use async_trait::async_trait;
use millrace_embedded::{Embedded, Options};
use millrace_log::conformance::Harness;
use millrace_log::{EventLog, FjallLog, FjallLogOptions};
use tempfile::TempDir;

struct Fjall {
    dir: TempDir,
    options: FjallLogOptions,
}

impl Fjall {
    fn new(options: FjallLogOptions) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), options }
    }

    fn open(&self) -> Arc<dyn EventLog> {
        let embedded = Embedded::open(self.dir.path(), Options::default()).unwrap();
        FjallLog::open(embedded, self.options.clone()).unwrap()
    }
}

#[async_trait]
impl Harness for Fjall {
    async fn open(&self) -> Arc<dyn EventLog> {
        self.open()
    }

    async fn reopen(&self, log: Arc<dyn EventLog>) -> Arc<dyn EventLog> {
        drop(log);
        self.open()
    }
}

mod as_it_is {
    use super::*;

    millrace_log::event_log_conformance!(Fjall::new(FjallLogOptions { partitions: 3, ..FjallLogOptions::default() }));
}

/// Every read goes to the database.
mod without_a_tail {
    use super::*;

    millrace_log::event_log_conformance!(Fjall::new(FjallLogOptions {
        tail_bytes_max: 0,
        ..FjallLogOptions::default()
    }));
}
