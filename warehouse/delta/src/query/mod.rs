//! Runs named queries with DataFusion.
//!
//! A query gets the files that are active when it begins and holds them, threads of a lower priority than everything
//! else in the process, a bounded share of memory and of time, and no disk: what does not fit is refused. DataFusion
//! would spill instead, but to the disk that the log syncs, and then one large question slows every small write.

mod answer;
mod error;
mod json;
mod provider;
mod prune;
mod threads;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, ParamValues, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt as _;
use millrace_warehouse::{Answer, Error, ErrorKind, NamedQuery, Params, Result, Table, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::error::{busy, failed, too_slow};
use self::provider::FilesTable;
pub use self::threads::step_back;

use self::threads::Threads;
use crate::files::Files;
use crate::table::Tables;

/// The most memory that one query may take, unless told otherwise, bytes.
pub const QUERY_MEMORY_BYTES_MAX: usize = 512 << 20;

/// The longest that one query may take, from its start to its last row, unless told otherwise. With the time that it
/// may wait for its turn it stays below the half minute after which the HTTP surface gives an answer up, so that the
/// reason is told.
pub const QUERY_TIME_MAX: Duration = Duration::from_secs(20);

/// How many queries run at one time, unless told otherwise.
pub const QUERIES_MAX: usize = 2;

/// How many more may wait for their turn.
const WAITING_MAX: usize = 16;

/// How long they wait.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How many threads compute, and into how many parts a query is split.
const THREADS: usize = 2;

/// How much of the footers of data files is remembered between queries, bytes.
const FOOTERS_BYTES_MAX: usize = 32 << 20;

/// How many batches of an answer wait for a reader who is slower than the query.
const BATCHES_AHEAD: usize = 1;

/// How many consumers of memory an error names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

/// What queries may take.
#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// The most memory that one query may take, bytes.
    pub memory_bytes_max: usize,
    /// The longest that one query may take, from its start to its last row.
    pub time_max: Duration,
    /// How many run at one time.
    pub running_max: usize,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self { memory_bytes_max: QUERY_MEMORY_BYTES_MAX, time_max: QUERY_TIME_MAX, running_max: QUERIES_MAX }
    }
}

/// Runs queries over the tables.
pub(crate) struct Engine {
    tables: Arc<Tables>,
    options: QueryOptions,
    threads: Threads,
    /// Shared by all queries: the store and the footers of files.
    shared: RuntimeEnv,
    /// Those that run.
    running: Arc<Semaphore>,
    /// Those that run or wait.
    entered: Arc<Semaphore>,
}

impl Engine {
    pub(crate) fn new(tables: Arc<Tables>, options: QueryOptions) -> Result<Self> {
        let threads = Threads::start(THREADS)
            .map_err(|e| Error::with_source(ErrorKind::Retry, "threads for queries could not be started", e))?;
        let shared = RuntimeEnvBuilder::new()
            .with_metadata_cache_limit(FOOTERS_BYTES_MAX)
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build()
            .map_err(failed)?;
        shared.register_object_store(ObjectStoreUrl::local_filesystem().as_ref(), tables.store());
        let running = Arc::new(Semaphore::new(options.running_max));
        let entered = Arc::new(Semaphore::new(options.running_max + WAITING_MAX));
        Ok(Self { tables, options, threads, shared, running, entered })
    }

    /// Begins a query and answers when its columns are known. The rest happens as rows are taken.
    pub(crate) async fn run(&self, query: &NamedQuery, params: &Params) -> Result<Answer> {
        let place = self.enter().await?;
        let tables = Table::ALL.map(|table| (table, self.tables.get(table).files()));
        let job = Job { tables, sql: query.sql.clone(), params: values(params), context: self.context()? };
        let (columns, schema) = oneshot::channel();
        let (batches, rows) = mpsc::channel(BATCHES_AHEAD);
        let time_max = self.options.time_max;
        let memory_max = self.options.memory_bytes_max;
        let task = self.threads.spawn(async move {
            let _place = place;
            let work = job.run(columns, batches);
            match tokio::time::timeout(time_max, work).await {
                Ok(done) => done.map_err(|e| error::of(e, memory_max)),
                Err(_) => Err(too_slow(time_max)),
            }
        });
        answer::receive(task, schema, rows).await
    }

    /// A place among the queries that run, as soon as there is one.
    async fn enter(&self) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let entered = Arc::clone(&self.entered).try_acquire_owned().map_err(|_| busy())?;
        let running = Arc::clone(&self.running).acquire_owned();
        match tokio::time::timeout(WAIT_MAX, running).await {
            Ok(Ok(running)) => Ok((entered, running)),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }

    /// A session of its own for one query, with memory of its own: whether a query fits never depends on its
    /// neighbours.
    fn context(&self) -> Result<SessionContext> {
        let pool = TrackConsumersPool::new(GreedyMemoryPool::new(self.options.memory_bytes_max), CONSUMERS_NAMED);
        let runtime = RuntimeEnvBuilder::from_runtime_env(&self.shared)
            .with_memory_pool(Arc::new(pool))
            .build_arc()
            .map_err(failed)?;
        let mut config = SessionConfig::new().with_target_partitions(THREADS).with_information_schema(false);
        let parquet = &mut config.options_mut().execution.parquet;
        // Other columns are read only where an event's name fits, which is cheap to compare and what most queries ask
        // for.
        parquet.pushdown_filters = true;
        parquet.reorder_filters = true;
        let context = SessionContext::new_with_config_rt(config, runtime);
        context.register_udf(json::json_texts());
        Ok(context)
    }
}

/// What one query needs.
struct Job {
    /// Holding the files keeps them from being deleted.
    tables: [(Table, Files); Table::ALL.len()],
    sql: String,
    params: ParamValues,
    context: SessionContext,
}

impl Job {
    async fn run(
        self,
        columns: oneshot::Sender<SchemaRef>,
        batches: mpsc::Sender<datafusion::arrow::array::RecordBatch>,
    ) -> std::result::Result<(), DataFusionError> {
        let mut rows = self.plan().await?;
        let schema = answer::schema(&rows.schema())?;
        if columns.send(schema.clone()).is_err() {
            return Ok(());
        }
        while let Some(batch) = rows.next().await {
            let batch = answer::convert(&batch?, &schema)?;
            // Nobody waits for more.
            if batches.send(batch).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn plan(&self) -> std::result::Result<SendableRecordBatchStream, DataFusionError> {
        for (table, files) in &self.tables {
            self.context.register_table(table.name(), Arc::new(FilesTable::new(*table, files.clone())))?;
        }
        let only_reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let rows = self.context.sql_with_options(&self.sql, only_reads).await?;
        rows.with_param_values(self.params.clone())?.execute_stream().await
    }
}

/// Parameters as the values that they are. They never become text of a statement.
fn values(params: &Params) -> ParamValues {
    let value = |value: &Value| match value {
        Value::Null => ScalarValue::Null,
        Value::Text(text) => ScalarValue::Utf8(Some(text.clone())),
        Value::Timestamp(us) => ScalarValue::TimestampMicrosecond(Some(*us), Some(Arc::from("UTC"))),
        Value::Integer(n) => ScalarValue::Int64(Some(*n)),
    };
    ParamValues::from(params.iter().map(|(name, v)| (name.clone(), value(v))).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
