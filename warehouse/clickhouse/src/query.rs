//! Runs named queries, and reads whole tables.
//!
//! Where the sources stand is read first, then rows up to there: so a query sees whole commits, whatever is inserted while it
//! begins. The names of the tables in its SQL mean these rows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use clickhouse::query::Query;
use futures::StreamExt as _;
use millrace_warehouse::{Answer, Error, ErrorKind, NamedQuery, ParamType, Params, Result, Table, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::Server;
use crate::columns::quoted;
use crate::error::{Bounds, Work, busy, failed, invalid, late, of_query, too_slow};
use crate::ledger::{self, Stands};
use crate::stream::{Batches, answer_schema, convert};

/// The most memory that one query may take on the server, unless told otherwise, bytes.
pub const QUERY_MEMORY_BYTES_MAX: u64 = 2 << 30;

/// The longest that one query may take, from its start to its last row, unless told otherwise. With the time that it may
/// wait for its turn it stays below the half minute after which the HTTP surface gives an answer up.
pub const QUERY_TIME_MAX: Duration = Duration::from_secs(20);

/// How many rows an answer may have, unless told otherwise.
pub const QUERY_ROWS_MAX: u64 = 10_000_000;

/// How many queries of this process run at one time, unless told otherwise.
pub const QUERIES_MAX: usize = 8;

/// How many more may wait for their turn.
const WAITING_MAX: usize = 16;

/// How long they wait.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// By how much an answer may be late that the server should have stopped.
const GRACE: Duration = Duration::from_secs(2);

/// What queries may take.
#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// The most memory that one query may take on the server, bytes.
    pub memory_bytes_max: u64,
    /// The longest that one query may take, from its start to its last row.
    pub time_max: Duration,
    /// How many rows an answer may have.
    pub rows_max: u64,
    /// How many run at one time, for this process.
    pub running_max: usize,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            memory_bytes_max: QUERY_MEMORY_BYTES_MAX,
            time_max: QUERY_TIME_MAX,
            rows_max: QUERY_ROWS_MAX,
            running_max: QUERIES_MAX,
        }
    }
}

/// Runs named queries.
pub(crate) struct Engine {
    server: Server,
    options: QueryOptions,
    /// Those that run.
    running: Arc<Semaphore>,
    /// Those that run or wait.
    entered: Arc<Semaphore>,
}

type Place = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Engine {
    pub(crate) fn new(server: Server, options: QueryOptions) -> Self {
        let running = Arc::new(Semaphore::new(options.running_max));
        let entered = Arc::new(Semaphore::new(options.running_max + WAITING_MAX));
        Self { server, options, running, entered }
    }

    /// Begins a query and answers when its columns are known. Dropping the answer hangs up, which stops the query.
    pub(crate) async fn run(&self, query: &NamedQuery, params: &Params) -> Result<Answer> {
        let statement = Statement::of(query, params)?;
        let place = self.enter().await?;
        let bounds = Bounds {
            time_max: self.options.time_max,
            memory_bytes_max: self.options.memory_bytes_max,
            rows_max: self.options.rows_max,
        };
        let until = Until::Deadline { at: Instant::now() + bounds.time_max + GRACE, time_max: bounds.time_max };
        let work = Work::new(&self.server, &format!("run {}", query.name));
        let stands = until.keep(&work, ledger::read(&self.server)).await?;
        let request = self.bounded(statement.request(&self.server, &stands));
        let cursor = request.fetch_bytes("ArrowStream").map_err(|e| of_query(e, &work, bounds))?;
        let batches = Batches::new(cursor, work.clone(), Some(bounds));
        answer(batches, work, until, None, Some(place)).await
    }

    /// A place among the queries that run, as soon as there is one.
    async fn enter(&self) -> Result<Place> {
        let entered = Arc::clone(&self.entered).try_acquire_owned().map_err(|_| busy())?;
        match timeout(WAIT_MAX, Arc::clone(&self.running).acquire_owned()).await {
            Ok(Ok(running)) => Ok((entered, running)),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }

    /// The server keeps the bounds: it knows what a query takes.
    fn bounded(&self, request: Query) -> Query {
        let options = &self.options;
        let settings = [
            // What a statement could change, these bounds among it.
            ("readonly", "1".to_owned()),
            ("max_execution_time", options.time_max.as_secs_f64().to_string()),
            ("timeout_overflow_mode", "throw".to_owned()),
            ("max_memory_usage", options.memory_bytes_max.to_string()),
            // What does not fit is refused: a disk that is full of one question's rows slows every insert.
            ("max_bytes_ratio_before_external_group_by", "0".to_owned()),
            ("max_bytes_ratio_before_external_sort", "0".to_owned()),
            ("max_result_rows", options.rows_max.to_string()),
            ("result_overflow_mode", "throw".to_owned()),
            ("cancel_http_readonly_queries_on_client_close", "1".to_owned()),
        ];
        settings
            .into_iter()
            .chain(DIALECT.iter().map(|(name, value)| (*name, (*value).to_owned())))
            .fold(request, |request, (name, value)| request.with_setting(name, value))
    }
}

/// What makes the same SQL mean what it means to other engines.
const DIALECT: &[(&str, &str)] = &[
    // The hour of a time before 1970.
    ("enable_extended_results_for_datetime_functions", "1"),
    // Nothing from no rows is null, not zero.
    ("aggregate_functions_null_for_empty", "1"),
    ("join_use_nulls", "1"),
    ("union_default_mode", "ALL"),
];

/// A statement whose parameters are values on the server.
struct Statement {
    sql: String,
    tables: Vec<Table>,
    params: BTreeMap<String, Value>,
}

impl Statement {
    /// # Errors
    /// [`ErrorKind::Invalid`] when `params` are not those that the query has.
    fn of(query: &NamedQuery, params: &Params) -> Result<Self> {
        if let Some(missing) = query.params.iter().find(|param| !params.contains_key(&param.name)) {
            return Err(invalid(format!("{} is missing: bind the parameters of {} first", missing.name, query.name)));
        }
        if let Some(name) = params.keys().find(|name| !query.params.iter().any(|param| param.name == **name)) {
            return Err(invalid(format!("{} has no parameter `{name}`", query.name)));
        }
        let sql = query.sql_in(DIALECT_NAME);
        let tables: Vec<Table> = Table::ALL.into_iter().filter(|table| sql.contains(table.name())).collect();
        Ok(Self { sql: with_tables(&with_params(query, sql), &tables), tables, params: params.clone() })
    }

    fn request(&self, server: &Server, stands: &Stands) -> Query {
        let mut request = server.statement(&self.sql);
        for table in &self.tables {
            request = ledger::bind(request, *table, stands);
        }
        for (name, value) in &self.params {
            request = match value {
                Value::Null => request.param(name, None::<String>),
                Value::Text(text) => request.param(name, text),
                Value::Timestamp(n) | Value::Integer(n) => request.param(name, n),
            };
        }
        request
    }
}

/// How the files of queries that only ClickHouse reads are called.
const DIALECT_NAME: &str = "clickhouse";

/// The SQL with `{name:Type}` for each `$name`.
fn with_params(query: &NamedQuery, sql: &str) -> String {
    let mut parts = sql.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        match query.params.iter().find(|param| param.name == name) {
            Some(param) => {
                let is_optional = param.default == Some(Value::Null);
                let kind = |kind: &str| if is_optional { format!("Nullable({kind})") } else { kind.to_owned() };
                let written = match param.kind {
                    ParamType::Text => write!(out, "{{{name}:{}}}", kind("String")),
                    ParamType::Integer => write!(out, "{{{name}:{}}}", kind("Int64")),
                    // As a number, which reads the same in every time zone and far from 1970.
                    ParamType::Timestamp => {
                        write!(out, "fromUnixTimestamp64Micro({{{name}:{}}}, 'UTC')", kind("Int64"))
                    }
                };
                written.expect("a string takes whatever is written");
            }
            None => {
                out.push('$');
                out.push_str(name);
            }
        }
        out.push_str(rest);
    }
    out
}

/// The SQL with the names of the tables meaning the rows that count.
fn with_tables(sql: &str, tables: &[Table]) -> String {
    if tables.is_empty() {
        return sql.to_owned();
    }
    let named = tables.iter().map(|table| {
        let columns: Vec<String> = table.schema().fields().iter().map(|field| quoted(field.name())).collect();
        format!("{} AS ({})", table.name(), ledger::counted(*table, &columns))
    });
    let named = named.collect::<Vec<_>>().join(",\n");
    match sql.get(..5).filter(|word| word.eq_ignore_ascii_case("with ")) {
        Some(_) => format!("WITH {named},\n{}", &sql[5..]),
        None => format!("WITH {named}\n{sql}"),
    }
}

/// Every row of a table, these columns of it.
pub(crate) async fn scan(server: &Server, table: Table, columns: &[&str]) -> Result<Answer> {
    let all = table.schema();
    let indexes = columns.iter().map(|name| {
        all.index_of(name)
            .map_err(|e| Error::with_source(ErrorKind::Invalid, format!("{table} has no column {name}"), e))
    });
    let schema = all.project(&indexes.collect::<Result<Vec<_>>>()?);
    let schema =
        schema.map_err(|e| Error::with_source(ErrorKind::Corrupt, format!("{table} has no such columns"), e))?;
    let mut names: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    if names.is_empty() {
        // Rows are counted by something; it is left out of the answer.
        names.push(quoted("offset"));
    }
    let work = Work::new(server, &format!("read {table}"));
    let stands = ledger::read(server).await?;
    let request = ledger::bind(server.statement(&ledger::counted(table, &names)), table, &stands)
        .with_setting("cancel_http_readonly_queries_on_client_close", "1")
        .with_setting("max_execution_time", "0")
        .with_setting("readonly", "1");
    let cursor = request.fetch_bytes("ArrowStream").map_err(|e| failed(e, &work))?;
    answer(Batches::new(cursor, work.clone(), None), work, Until::Silent(server.patience), Some(Arc::new(schema)), None)
        .await
}

/// How long an answer is waited for.
#[derive(Clone, Copy)]
enum Until {
    /// For as long as something comes now and then.
    Silent(Duration),
    /// To the end of its time.
    Deadline { at: Instant, time_max: Duration },
}

impl Until {
    async fn keep<T>(self, work: &Work, step: impl Future<Output = Result<T>>) -> Result<T> {
        match self {
            Until::Silent(patience) => timeout(patience, step).await.unwrap_or_else(|_| Err(late(work, patience))),
            Until::Deadline { at, time_max } => timeout_at(at, step).await.unwrap_or_else(|_| Err(too_slow(time_max))),
        }
    }
}

/// What is left of an answer.
struct Rest {
    batches: Batches,
    work: Work,
    until: Until,
    schema: arrow_schema::SchemaRef,
    _place: Option<Place>,
}

async fn answer(
    mut batches: Batches,
    work: Work,
    until: Until,
    schema: Option<arrow_schema::SchemaRef>,
    place: Option<Place>,
) -> Result<Answer> {
    let found = until.keep(&work, batches.schema()).await?;
    let schema = match schema {
        Some(schema) => schema,
        None => answer_schema(&found)?,
    };
    let rest = Rest { batches, work, until, schema: schema.clone(), _place: place };
    let rows = futures::stream::unfold(Some(rest), |rest| async move {
        let mut rest = rest?;
        let next = rest.until.keep(&rest.work, rest.batches.next()).await;
        match next.and_then(|batch| batch.map(|batch| convert(&batch, &rest.schema)).transpose()) {
            Ok(batch) => batch.map(|batch| (Ok(batch), Some(rest))),
            Err(e) => Some((Err(e), None)),
        }
    });
    Ok(Answer { schema, rows: rows.boxed() })
}

#[cfg(test)]
mod tests;
