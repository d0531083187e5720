//! What a person who sets this up must know before it runs: whether the server can be used, and if not, why.

use std::time::{SystemTime, UNIX_EPOCH};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_cast::cast;
use arrow_schema::DataType;
use millrace_warehouse::Error;

use crate::ClickHouseOptions;
use crate::client::Server;
use crate::error::{ACCESS_DENIED, AUTHENTICATION_FAILED, REQUIRED_PASSWORD, UNKNOWN_USER, WRONG_PASSWORD, code};
use crate::migrate::{NEWEST, applied, refuse_strangers};

/// The oldest version of ClickHouse that has what is used here: year, then month.
pub const VERSION_MIN: (u32, u32) = (25, 8);

/// By how much the clock of the server may differ from ours, milliseconds. Only people compare times of both.
const SKEW_MS_MAX: i64 = 2_000;

/// How much a [`Finding`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Fine,
    /// It works; something is to be done all the same.
    Warning,
    /// It does not work.
    Fault,
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What, in a word or two.
    pub subject: &'static str,
    /// How it is.
    pub says: String,
    /// What to do; `None` when it is as it should be.
    pub cure: Option<String>,
}

impl Finding {
    fn fine(subject: &'static str, says: impl Into<String>) -> Self {
        Self { level: Level::Fine, subject, says: says.into(), cure: None }
    }

    fn odd(subject: &'static str, says: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { level: Level::Warning, subject, says: says.into(), cure: Some(cure.into()) }
    }

    fn wrong(subject: &'static str, says: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { level: Level::Fault, subject, says: says.into(), cure: Some(cure.into()) }
    }
}

/// Looks at the server behind `url` and changes nothing there. Ends with the first thing that leaves no sense in looking
/// further.
pub async fn check(url: &str, options: &ClickHouseOptions) -> Vec<Finding> {
    let server = match Server::new(url, options) {
        Ok(server) => server,
        Err(e) => return vec![Finding::wrong("configuration", e.to_string(), "correct the URL or the options")],
    };
    let mut findings = Vec::new();
    match reach(&server).await {
        Ok(found) => findings.extend(found),
        Err(found) => {
            findings.push(found);
            return findings;
        }
    }
    findings.push(schema(&server).await);
    findings.push(permissions(&server).await);
    if let Some(name) = &server.cluster {
        findings.push(cluster(&server, name).await);
    }
    findings
}

/// Whether somebody answers, as which version, and what time it is there.
async fn reach(server: &Server) -> std::result::Result<Vec<Finding>, Finding> {
    let place = server.place();
    let query = server.plain("SELECT version() AS version, toInt64(toUnixTimestamp64Milli(now64(3))) AS now");
    let before = now_ms();
    let batches = server.ask("ask ClickHouse for its version", query).await.map_err(|e| refused(place, &e))?;
    let after = now_ms();
    let [version, now] = texts(&batches);
    let mut findings = vec![Finding::fine("reachable", place)];
    let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    let (year, month) = VERSION_MIN;
    findings.push(match numbers[..] {
        [y, m, ..] if (y, m) >= VERSION_MIN => Finding::fine("version", version),
        _ => Finding::wrong("version", version, format!("upgrade ClickHouse to {year}.{month} or later")),
    });
    let skew = now.parse::<i64>().map(|now| if now < before { now - before } else { (now - after).max(0) });
    findings.push(match skew {
        Ok(ms) if ms.abs() <= SKEW_MS_MAX => Finding::fine("clock", format!("differs by {ms} ms or less")),
        Ok(ms) => Finding::odd("clock", format!("differs by {ms} ms"), "set both machines by the same time server"),
        Err(_) => {
            Finding::wrong("clock", format!("`{now}` is no time"), "ask ClickHouse itself, not something before it")
        }
    });
    Ok(findings)
}

fn refused(place: &str, error: &Error) -> Finding {
    match code(error) {
        Some(AUTHENTICATION_FAILED | UNKNOWN_USER | WRONG_PASSWORD | REQUIRED_PASSWORD) => {
            Finding::wrong("user", format!("{place} refuses the user"), "correct the user and the password in the URL")
        }
        Some(_) => Finding::wrong("reachable", error.to_string(), "see what the server says"),
        None => {
            let cause =
                std::error::Error::source(error).map(|cause| format!(": {}", innermost(cause))).unwrap_or_default();
            let cure = "start ClickHouse there, or correct host and port of its HTTP interface in the URL";
            Finding::wrong("reachable", format!("nobody answers at {place}{cause}"), cure)
        }
    }
}

fn innermost(mut error: &dyn std::error::Error) -> &dyn std::error::Error {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// Which migrations the database has.
async fn schema(server: &Server) -> Finding {
    let exists = server
        .plain("SELECT count() AS n FROM system.tables WHERE database = {database:String} AND name = 'migrations'")
        .param("database", &server.database);
    match server.ask("look for the tables", exists).await {
        Err(e) => Finding::wrong("tables", e.to_string(), "see what the server says"),
        Ok(batches) if texts::<1>(&batches)[0] == "0" => {
            Finding::fine("tables", format!("{} has none yet: they are created at the start", server.database))
        }
        Ok(_) => match applied(server).await.and_then(|applied| {
            refuse_strangers(&server.database, &applied)?;
            Ok(applied.len())
        }) {
            Ok(count) if count == NEWEST as usize => Finding::fine("tables", format!("migration {NEWEST}")),
            Ok(count) => {
                let cure = "start this millrace: it brings the tables up to date";
                Finding::odd("tables", format!("migration {count}, the newest is {NEWEST}"), cure)
            }
            Err(e) => Finding::wrong("tables", e.to_string(), "run the right version, or name another database"),
        },
    }
}

/// What the user must be granted on the database.
const GRANTS: &str =
    "SELECT, INSERT, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP VIEW, ALTER ADD COLUMN, ALTER TTL";

async fn permissions(server: &Server) -> Finding {
    let query = server.plain(&format!("CHECK GRANT {GRANTS} ON `{}`.*", server.database));
    match server.ask("look at what the user may do", query).await {
        Ok(batches) if texts::<1>(&batches)[0] == "1" => Finding::fine("permissions", "all that is needed"),
        Ok(_) => missing(server),
        Err(e) if code(&e) == Some(ACCESS_DENIED) => missing(server),
        Err(e) => Finding::wrong("permissions", e.to_string(), "see what the server says"),
    }
}

fn missing(server: &Server) -> Finding {
    let cure = format!("GRANT {GRANTS} ON `{}`.* TO the user in the URL", server.database);
    Finding::wrong("permissions", format!("something on {} is missing", server.database), cure)
}

/// Whether the cluster is one shard: rows of one source must meet in one place to replace each other.
pub(crate) async fn cluster(server: &Server, name: &str) -> Finding {
    let query = server
        .plain("SELECT uniqExact(shard_num) AS shards, count() AS replicas FROM system.clusters WHERE cluster = {name:String}")
        .param("name", name);
    let batches = match server.ask("look for the cluster", query).await {
        Ok(batches) => batches,
        Err(e) => return Finding::wrong("cluster", e.to_string(), "see what the server says"),
    };
    let [shards, replicas] = texts(&batches);
    match shards.as_str() {
        "1" => Finding::fine("cluster", format!("{name} has {replicas} replicas")),
        "0" => Finding::wrong(
            "cluster",
            format!("the server knows no cluster {name}"),
            "name one of those in its remote_servers, or none for a single server",
        ),
        _ => Finding::wrong(
            "cluster",
            format!("{name} has {shards} shards"),
            "name a cluster of one shard: rows are replaced within a shard only",
        ),
    }
}

/// The first row of an answer, as texts.
fn texts<const N: usize>(batches: &[RecordBatch]) -> [String; N] {
    let first = batches.iter().find(|batch| batch.num_rows() > 0);
    std::array::from_fn(|nth| {
        let column = first.filter(|batch| nth < batch.num_columns()).map(|batch| batch.column(nth));
        let text = column.and_then(|column| cast(column, &DataType::Utf8).ok());
        text.filter(|text| text.is_valid(0)).map(|text| text.as_string::<i32>().value(0).to_owned()).unwrap_or_default()
    })
}

#[expect(clippy::disallowed_methods, reason = "the wall clock of this machine is what is compared")]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
