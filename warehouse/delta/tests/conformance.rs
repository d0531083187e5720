//! The laws of the warehouse, for the embedded one. Nothing is kept back after a commit replaced it, so that every law also
//! runs against files that are deleted at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use millrace_delta::{DeltaOptions, DeltaWarehouse};
use millrace_warehouse::conformance::Harness;
use millrace_warehouse::{ErrorKind, Warehouse, warehouse_conformance};
use tempfile::TempDir;

/// One directory for each law.
struct Embedded {
    dir: TempDir,
    /// Where the last one was opened: a law may open several.
    opened: Mutex<u32>,
}

impl Embedded {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), opened: Mutex::new(0) }
    }

    async fn open_at(&self, number: u32) -> Arc<dyn Warehouse> {
        let dir = self.dir.path().join(number.to_string());
        let options = DeltaOptions { retention: Duration::ZERO, ..DeltaOptions::default() };
        // A commit or a scan that nobody waits for any more may hold the directory a little longer.
        loop {
            match DeltaWarehouse::open(&dir, options.clone()).await {
                Ok(warehouse) => return Arc::new(warehouse),
                Err(e) if e.kind() == ErrorKind::Busy => tokio::task::yield_now().await,
                Err(e) => panic!("cannot open: {e} {e:?}"),
            }
        }
    }
}

#[async_trait]
impl Harness for Embedded {
    async fn open(&self) -> Arc<dyn Warehouse> {
        let number = {
            let mut opened = self.opened.lock().unwrap();
            *opened += 1;
            *opened
        };
        self.open_at(number).await
    }

    async fn reopen(&self, warehouse: Arc<dyn Warehouse>) -> Arc<dyn Warehouse> {
        drop(warehouse);
        let number = *self.opened.lock().unwrap();
        self.open_at(number).await
    }
}

warehouse_conformance!(Embedded::new());
