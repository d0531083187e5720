//! The warehouse of a cluster: ClickHouse tables, filled by any number of writers, read by anybody.
//!
//! ClickHouse has no transactions, so a commit is two inserts: rows, then one small block of `blocks` that says up to which
//! offset each source now stands. Readers take rows below that and no others, each by the record it came from once; so rows
//! of a commit that died are not seen, and a repeat of it, or a zombie's, writes rows that replace themselves. That holds
//! without any memory of the server's about inserts, which is kept out of it: it forgets after an hour or some thousands of
//! blocks, and until then it drops rows that were deleted and come back. A materialized view over inserts would count what is
//! inserted twice.
//!
//! Between processes nothing refuses a block that another one committed a moment ago: both are answered, and both wrote the
//! same rows. What a record leads to must therefore follow from the log alone, as the seam has it anyway.
//!
//! It must never know what a row means, nor put a value into the text of a statement.

mod check;
mod client;
mod columns;
mod commit;
mod error;
mod ledger;
mod migrate;
mod query;
mod size;
mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millrace_warehouse::{Answer, Block, Maintained, NamedQuery, Offset, Params, Result, Source, Table, Warehouse};

pub use check::{Finding, Level, VERSION_MIN, check};
pub use query::{QUERIES_MAX, QUERY_MEMORY_BYTES_MAX, QUERY_ROWS_MAX, QUERY_TIME_MAX, QueryOptions};
pub use size::TableSize;

use client::Server;

/// How many dates the rows of one commit may have; each month of them is a part of its own on the server. Blocks with more
/// are to be cut smaller.
pub const DATES_MAX: usize = 512;

/// For how long a statement is waited for, unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How the warehouse in ClickHouse behaves.
#[derive(Clone, Debug)]
pub struct ClickHouseOptions {
    /// The database, which is created when it is missing. A database in the URL goes before it.
    pub database: String,
    /// The cluster, by its name in the servers' configuration, of one shard with any number of replicas. `None`: one server.
    pub cluster: Option<String>,
    /// For how many days after its date a row stays. A table that is not named here keeps rows for ever; a bound that was set
    /// before is taken back.
    pub keep_days: BTreeMap<Table, u32>,
    /// For how long a statement or an insert is waited for, and the next part of a scan. What was given up may happen all the
    /// same, and repeating it is harmless.
    pub patience: Duration,
    /// What queries may take.
    pub queries: QueryOptions,
}

impl Default for ClickHouseOptions {
    fn default() -> Self {
        Self {
            database: "millrace".to_owned(),
            cluster: None,
            keep_days: BTreeMap::new(),
            patience: PATIENCE,
            queries: QueryOptions::default(),
        }
    }
}

/// ClickHouse tables in a database.
pub struct ClickHouseWarehouse {
    server: Server,
    writers: Arc<commit::Writers>,
    queries: query::Engine,
}

impl ClickHouseWarehouse {
    /// Opens the tables at `url` and creates or migrates what is missing.
    ///
    /// `url` is `clickhouse://USER:PASSWORD@HOST:PORT/DATABASE`, or `clickhouses://` for TLS; `http://` and `https://` are the
    /// same. Port (8123, with TLS 8443), user, password and database may be left out.
    ///
    /// # Errors
    /// [`millrace_warehouse::ErrorKind::Invalid`] for a URL or options that cannot be; the message says what to write instead.
    /// [`millrace_warehouse::ErrorKind::Corrupt`] when the database was made by a newer version, or migrations of it were changed.
    /// [`millrace_warehouse::ErrorKind::Retry`] when the server cannot be reached, or refuses the user.
    pub async fn open(url: &str, options: ClickHouseOptions) -> Result<Self> {
        let server = Server::new(url, &options)?;
        migrate::migrate(&server, &options).await?;
        let queries = query::Engine::new(server.clone(), options.queries);
        Ok(Self { writers: Arc::new(commit::Writers::new(server.clone())), server, queries })
    }

    /// How much the server keeps of `table` now: each row as often as it is there, whether it counts or not.
    ///
    /// # Errors
    /// [`millrace_warehouse::ErrorKind::Retry`] when the server cannot be asked.
    pub async fn size(&self, table: Table) -> Result<TableSize> {
        size::read(&self.server, table).await
    }
}

#[async_trait]
impl Warehouse for ClickHouseWarehouse {
    async fn recorded(&self, table: Table) -> Result<BTreeMap<Source, Offset>> {
        Ok(ledger::read(&self.server).await?.remove(&table).unwrap_or_default())
    }

    async fn commit(&self, table: Table, blocks: Vec<Block>) -> Result<()> {
        commit::commit(&self.writers, table, blocks).await
    }

    /// Nothing: the server merges parts by itself, and those of a month that has been quiet for an hour into one.
    async fn maintain(&self) -> Result<Maintained> {
        // Whoever does this again and again must let others run.
        tokio::task::yield_now().await;
        Ok(Maintained::default())
    }

    async fn scan(&self, table: Table, columns: &[&str]) -> Result<Answer> {
        query::scan(&self.server, table, columns).await
    }

    async fn query(&self, query: &NamedQuery, params: &Params) -> Result<Answer> {
        self.queries.run(query, params).await
    }
}
