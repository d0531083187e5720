//! A warehouse of Delta Lake tables: in a directory, written by one process, or on S3, written by several; read by anybody.
//!
//! A commit is one Parquet file per date and one entry of the Delta log, put only if that version is free. The entry names the
//! files and, as Delta `txn` actions, up to which offset each source now stands; one atomic write of one small file therefore
//! decides everything, and a kill before it leaves files that nobody refers to. deltalake's own transactions list the log
//! and re-read it for each commit; here a table is read once at open and then follows its own commits in memory. Where others
//! write too, a version that is taken already makes a writer read what they wrote, and decide again whether its blocks still
//! follow; a query lists the log first.
//!
//! It must never know what a row means, nor delete what a reader within the retention can need.

mod commit;
mod files;
mod log;
mod maintain;
mod query;
mod remote;
mod scan;
mod store;
mod table;
mod write;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millrace_objects::Target;
use millrace_warehouse::{
    Answer, Block, Error, ErrorKind, Maintained, NamedQuery, Offset, Params, Result, Source, Table, Warehouse,
};
use tokio::runtime::Handle;

pub use commit::DATES_MAX;
pub use query::{QUERIES_MAX, QUERY_MEMORY_BYTES_MAX, QUERY_TIME_MAX, QueryOptions, step_back};

use table::Tables;

/// For how long files stay that a commit has replaced, unless told otherwise: a reader that opened the table less than this
/// ago goes on undisturbed.
pub const RETENTION: Duration = Duration::from_secs(3_600);

/// How the warehouse behaves.
#[derive(Clone, Debug)]
pub struct DeltaOptions {
    /// For how long files stay that a commit has replaced, and files that no commit ever named.
    pub retention: Duration,
    /// What queries may take.
    pub queries: QueryOptions,
}

impl Default for DeltaOptions {
    fn default() -> Self {
        Self { retention: RETENTION, queries: QueryOptions::default() }
    }
}

/// Delta Lake tables in a directory, or on an object store.
pub struct DeltaWarehouse {
    tables: Arc<Tables>,
    queries: query::Engine,
}

impl DeltaWarehouse {
    /// Opens the tables in `dir` and creates what is missing.
    ///
    /// # Errors
    /// [`millrace_warehouse::ErrorKind::Busy`] when another process has it open.
    /// [`millrace_warehouse::ErrorKind::Corrupt`] when a table there has other columns or cannot be read as a Delta table.
    /// [`millrace_warehouse::ErrorKind::Retry`] when the disk fails.
    pub async fn open(dir: &Path, options: DeltaOptions) -> Result<Self> {
        Self::of(Tables::open(dir, options.retention).await?, options.queries)
    }

    /// Opens the tables at a URL and creates what is missing: `s3://bucket/prefix`, as [`Target::parse`] takes it. Other
    /// processes may have them open too; all of them should have the same retention, longer than any query or commit takes.
    ///
    /// # Errors
    /// [`millrace_warehouse::ErrorKind::Invalid`] for a URL that is none. Otherwise as of [`DeltaWarehouse::open`], but never
    /// [`millrace_warehouse::ErrorKind::Busy`].
    ///
    /// Requests run on the runtime of the caller, which must live as long as the tables: those of queries and of the Delta
    /// kernel, which ask too, have no driver for the network, or end before.
    pub async fn open_shared(url: &str, options: DeltaOptions) -> Result<Self> {
        let target = Target::parse_on(url, Handle::current()).map_err(|e| {
            let kind =
                if matches!(e, millrace_objects::Error::Retry { .. }) { ErrorKind::Retry } else { ErrorKind::Invalid };
            Error::with_source(kind, "cannot use the URL of the warehouse", e)
        })?;
        Self::on(target, options).await
    }

    /// Opens the tables in an object store at hand, which must list in order and put an object only if it is not there.
    ///
    /// # Errors
    /// As of [`DeltaWarehouse::open_shared`].
    pub async fn on(target: Target, options: DeltaOptions) -> Result<Self> {
        if !target.conditional {
            let message = format!(
                "tables in {} cannot be shared: leave the URL out, and they are in the data directory",
                target.name
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Self::of(Tables::open_shared(target, options.retention).await?, options.queries)
    }

    fn of(tables: Tables, options: QueryOptions) -> Result<Self> {
        let tables = Arc::new(tables);
        let queries = query::Engine::new(tables.clone(), options)?;
        Ok(Self { tables, queries })
    }
}

/// How large a table is now, without what only earlier versions of it name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSize {
    /// Data files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Rows in them.
    pub rows: u64,
}

impl DeltaWarehouse {
    /// How large `table` is.
    pub fn size(&self, table: Table) -> TableSize {
        let mut size = TableSize::default();
        for file in self.tables.get(table).files().iter() {
            size.files += 1;
            size.bytes += file.size;
            size.rows += file.rows;
        }
        size
    }
}

#[async_trait]
impl Warehouse for DeltaWarehouse {
    async fn recorded(&self, table: Table) -> Result<BTreeMap<Source, Offset>> {
        self.tables.get(table).recorded().await
    }

    async fn commit(&self, table: Table, blocks: Vec<Block>) -> Result<()> {
        commit::commit(self.tables.get(table), blocks).await
    }

    async fn maintain(&self) -> Result<Maintained> {
        maintain::maintain(&self.tables).await
    }

    async fn scan(&self, table: Table, columns: &[&str]) -> Result<Answer> {
        let table = self.tables.get(table);
        table.follow().await?;
        scan::scan(table, columns)
    }

    async fn query(&self, query: &NamedQuery, params: &Params) -> Result<Answer> {
        self.tables.follow().await?;
        self.queries.run(query, params).await
    }
}
