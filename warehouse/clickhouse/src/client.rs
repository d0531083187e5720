//! The server: where it is, who we are there, and requests that end.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use arrow_array::RecordBatch;
use bytes::Bytes;
use clickhouse::Client;
use clickhouse::query::Query;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use millrace_warehouse::{Error, ErrorKind, Result};
use url::Url;
use uuid::Uuid;

use crate::ClickHouseOptions;
use crate::error::{Work, failed, invalid, late};
use crate::stream::Batches;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Idle connections are given up before the server does so, which is after three seconds in old versions.
const IDLE_MAX: Duration = Duration::from_secs(2);
/// The longest name of a database or cluster, bytes.
const NAME_BYTES_MAX: usize = 64;
/// How many rows an answer to a statement of our own may have.
const ANSWER_ROWS_MAX: usize = 1 << 20;

/// A database on a server.
#[derive(Clone)]
pub(crate) struct Server {
    client: Client,
    /// Host and port, for messages.
    place: String,
    pub(crate) database: String,
    pub(crate) cluster: Option<String>,
    /// How long a statement may take, and how long the server may be silent while it streams.
    pub(crate) patience: Duration,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("place", &self.place).field("database", &self.database).finish_non_exhaustive()
    }
}

impl Server {
    /// Reads where the server is; asks it nothing.
    pub(crate) fn new(url: &str, options: &ClickHouseOptions) -> Result<Self> {
        let Address { url, user, password, database } = Address::parse(url)?;
        let place =
            format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let database = database.unwrap_or_else(|| options.database.clone());
        check_name("database", &database)?;
        if let Some(cluster) = &options.cluster {
            check_name("cluster", cluster)?;
        }
        let mut client = client(&url)?.with_url(url.as_str()).with_product_info("millrace", env!("CARGO_PKG_VERSION"));
        if let Some(user) = user {
            client = client.with_user(user);
        }
        if let Some(password) = password {
            client = client.with_password(password);
        }
        Ok(Self { client, place, database, cluster: options.cluster.clone(), patience: options.patience })
    }

    /// Host and port.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// A statement that reads, in no database: ours may not be there yet.
    pub(crate) fn plain(&self, sql: &str) -> Query {
        READING.iter().fold(self.client.query_raw(sql), |query, (name, value)| query.with_setting(*name, *value))
    }

    /// A statement that reads, in our database.
    pub(crate) fn statement(&self, sql: &str) -> Query {
        let mut query = self.plain(sql).with_setting("database", self.database.as_str());
        if self.cluster.is_some() {
            // Another replica than the one that took an insert waits until it has it, too.
            query = query.with_setting("select_sequential_consistency", "1");
        }
        query
    }

    /// Runs a statement that answers nothing, in no database: ours may not be there yet.
    pub(crate) async fn execute(&self, attempt: &str, sql: &str) -> Result<()> {
        let work = Work::new(self, attempt);
        let mut query = self.client.query_raw(sql);
        if self.cluster.is_some() {
            query = query.with_setting("distributed_ddl_task_timeout", "30");
        }
        within(self.patience, &work, query.execute()).await
    }

    /// The rows of a small answer.
    pub(crate) async fn ask(&self, attempt: &str, query: Query) -> Result<Vec<RecordBatch>> {
        let work = Work::new(self, attempt);
        let read = async {
            let cursor = query.fetch_bytes("ArrowStream").map_err(|e| failed(e, &work))?;
            let mut answer = Batches::new(cursor, work.clone(), None);
            let (mut batches, mut rows) = (Vec::new(), 0);
            while let Some(batch) = answer.next().await? {
                rows += batch.num_rows();
                if rows > ANSWER_ROWS_MAX {
                    let message = format!("{}: more than {ANSWER_ROWS_MAX} rows came back", work.attempt);
                    return Err(Error::new(ErrorKind::Corrupt, message));
                }
                batches.push(batch);
            }
            Ok(batches)
        };
        match tokio::time::timeout(self.patience, read).await {
            Ok(answer) => answer,
            Err(_) => Err(late(&work, self.patience)),
        }
    }

    /// Inserts an Arrow stream and answers when the server has it on disk.
    pub(crate) async fn insert(&self, attempt: &str, sql: &str, rows: Bytes) -> Result<()> {
        let work = Work::new(self, attempt);
        // A name of its own, or the server drops rows that it remembers, also when they were deleted since and come back from
        // the log. Equal rows replace each other anyway. The setting that switches this off differs between versions.
        let token = Uuid::new_v4().to_string();
        let insert = self.client.insert_formatted_with(sql).with_setting("insert_deduplication_token", token);
        let mut insert = insert.with_setting("database", self.database.as_str());
        for (name, value) in INSERTING {
            insert = insert.with_setting(*name, *value);
        }
        if self.cluster.is_some() {
            insert = insert.with_setting("insert_quorum", "auto").with_setting("insert_quorum_parallel", "0");
        }
        let send = async {
            insert.send(rows).await?;
            insert.end().await
        };
        within(self.patience, &work, send).await
    }
}

/// Settings of every statement that reads.
const READING: &[(&str, &str)] = &[
    ("do_not_merge_across_partitions_select_final", "1"),
    ("output_format_arrow_compression_method", "none"),
    ("output_format_arrow_string_as_string", "1"),
    ("output_format_arrow_low_cardinality_as_dictionary", "0"),
    ("session_timezone", "UTC"),
];

/// Settings of every insert.
const INSERTING: &[(&str, &str)] = &[
    // Answered when it is done, not when it is queued.
    ("async_insert", "0"),
    // Ours is the bound: see `DATES_MAX`.
    ("max_partitions_per_insert_block", "0"),
    // A column that the server does not know is an error, not a loss.
    ("input_format_skip_unknown_fields", "0"),
    ("input_format_arrow_allow_missing_columns", "0"),
];

async fn within(
    time_max: Duration,
    work: &Work,
    request: impl Future<Output = clickhouse::error::Result<()>>,
) -> Result<()> {
    match tokio::time::timeout(time_max, request).await {
        Ok(done) => done.map_err(|e| failed(e, work)),
        Err(_) => Err(late(work, time_max)),
    }
}

/// Without TLS no certificates are needed on this machine.
fn client(url: &Url) -> Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(CONNECT_MAX));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(IDLE_MAX).pool_timer(hyper_util::rt::TokioTimer::new());
    if url.scheme() == "http" {
        return Ok(Client::with_http_client(builder.build(tcp)));
    }
    let tls = HttpsConnectorBuilder::new().with_native_roots().map_err(|e| {
        let message =
            "TLS to ClickHouse needs the certificates of this machine and there are none: install ca-certificates";
        Error::with_source(ErrorKind::Invalid, message, e)
    })?;
    Ok(Client::with_http_client(builder.build(tls.https_only().enable_http1().wrap_connector(tcp))))
}

/// What a URL says. The URL itself is without user and password from here on, so that no message can hold them.
struct Address {
    url: Url,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
}

impl Address {
    fn parse(text: &str) -> Result<Self> {
        const SHAPE: &str = "write it as clickhouse://USER:PASSWORD@HOST:PORT/DATABASE, or clickhouses:// for TLS; \
                             percent-encode what is special in a password";
        let (scheme, rest, port) = match text.split_once("://") {
            Some(("clickhouse", rest)) => ("http", rest, Some(8123)),
            Some(("clickhouses", rest)) => ("https", rest, Some(8443)),
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest, None),
            _ => return Err(invalid(format!("the URL of ClickHouse has another scheme: {SHAPE}"))),
        };
        let mut url = Url::parse(&format!("{scheme}://{rest}"))
            .map_err(|_| invalid(format!("the URL of ClickHouse cannot be read: {SHAPE}")))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid(format!("the URL of ClickHouse has more after its path: {SHAPE}")));
        }
        let user = Some(decoded(url.username())).filter(|user| !user.is_empty());
        let password = url.password().map(decoded);
        let database = Some(url.path().trim_matches('/').to_owned()).filter(|name| !name.is_empty());
        url.set_path("/");
        let stripped = url.set_username("").and_then(|()| url.set_password(None));
        let with_port = match port {
            Some(port) if url.port().is_none() => url.set_port(Some(port)),
            _ => Ok(()),
        };
        stripped.and(with_port).map_err(|()| invalid(format!("the URL of ClickHouse names no host: {SHAPE}")))?;
        Ok(Self { url, user, password, database })
    }
}

/// Percent-encoding undone.
fn decoded(text: &str) -> String {
    // As the value of a form, in which three more characters mean something.
    let text = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    url::form_urlencoded::parse(text.as_bytes()).map(|(text, _)| text.into_owned()).next().unwrap_or_default()
}

/// Names stand in the text of DDL, so they are letters, digits and what needs no quotes.
fn check_name(what: &str, name: &str) -> Result<()> {
    let is_name = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && !name.starts_with(['-', '.']);
    if is_name {
        return Ok(());
    }
    Err(invalid(format!(
        "the {what} of ClickHouse cannot have this name: use up to {NAME_BYTES_MAX} letters, digits, `_`, `-` and `.`"
    )))
}

#[cfg(test)]
mod tests;
