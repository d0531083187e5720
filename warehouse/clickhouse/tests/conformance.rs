//! The laws of the warehouse, for ClickHouse.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use engine::Databases;
use millrace_clickhouse::ClickHouseOptions;
use millrace_warehouse::conformance::Harness;
use millrace_warehouse::{Warehouse, warehouse_conformance};

/// Databases for each law.
struct Served {
    databases: Databases,
    /// Where the last one was opened: a law may open several.
    last: Mutex<String>,
}

#[async_trait]
impl Harness for Served {
    async fn open(&self) -> Arc<dyn Warehouse> {
        let name = self.databases.name();
        self.last.lock().unwrap().clone_from(&name);
        Arc::new(self.databases.open(&name, ClickHouseOptions::default()).await)
    }

    async fn reopen(&self, warehouse: Arc<dyn Warehouse>) -> Arc<dyn Warehouse> {
        drop(warehouse);
        let name = self.last.lock().unwrap().clone();
        Arc::new(self.databases.open(&name, ClickHouseOptions::default()).await)
    }
}

warehouse_conformance!(match engine::databases() {
    Some(databases) => Served { databases, last: Mutex::default() },
    None => return,
});
