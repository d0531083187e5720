//! The catalog of many processes: a schema in Postgres.

mod check;
mod follow;
mod target;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::pool::Pool;
use crate::statements::{Answer, Bounds, Migration, statements};
use crate::store::{Engine, Store, Verdict, delegate};
use crate::{Change, Document, Entry, Error, ErrorKind, Expect, Finding, Head, Result, Revision};

use target::Target;

/// Bounds of the catalog on Postgres. The defaults are for a server in the same data centre.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// How many connections this process has at most, besides the one that hears of changes.
    pub connections_max: usize,
    /// How long connecting may take, TLS and password included.
    pub connect_timeout: Duration,
    /// How long one call may take, with waiting for a connection and connecting.
    pub call_timeout: Duration,
    /// How long changes of the schema may take.
    pub migration_timeout: Duration,
    /// How often to look for changes that no notification told of: those made while one could not be heard.
    pub poll: Duration,
    /// How many entries there may be.
    pub entries_max: u32,
    /// How many tombstones are kept.
    pub tombstones_max: u32,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            connections_max: 4,
            connect_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(5),
            migration_timeout: Duration::from_secs(60),
            poll: Duration::from_secs(5),
            entries_max: 100_000,
            tombstones_max: 10_000,
        }
    }
}

/// The catalog in a schema of Postgres 13 or later, which many processes share. It wants a connection to the server itself or
/// through a pooler by session: one by transaction cannot tell of changes.
pub struct PostgresCatalog {
    store: Arc<Store<Postgres>>,
    target: Arc<Target>,
    follower: JoinHandle<()>,
}

struct Postgres {
    place: String,
}

impl PostgresCatalog {
    /// The catalog at `postgres://user:password@host:5432/database`, with its schema up to date. Needs a Tokio runtime.
    ///
    /// What may follow behind `?`, joined by `&`: `schema=` (its default is `millrace`: 1 to 40 of a-z, 0-9 and _),
    /// `sslmode=` as libpq has it (`disable`, `allow`, `prefer`, the default, `require`, `verify-ca`, `verify-full`),
    /// `sslrootcert=`, `sslcert=` and `sslkey=` (paths; without the first, the certificate authorities of the web), `host=`
    /// (the folder of a Unix socket), `application_name=`. Without a password in it, the one in `PGPASSWORD` is used.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the URL or the options cannot be used; [`ErrorKind::Retry`] when the server is away;
    /// [`ErrorKind::Refused`] when it refuses us or holds the catalog of a newer version. Messages never repeat the URL.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub async fn open(url: &str, options: PostgresOptions) -> Result<Arc<Self>> {
        let catalog = Self::open_lazy(url, options)?;
        catalog.store.ready().await?;
        Ok(catalog)
    }

    /// As [`PostgresCatalog::open`], without waiting for the server: calls say when it is away, and the first that reaches it
    /// brings the schema up to date.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the URL or the options cannot be used.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn open_lazy(url: &str, options: PostgresOptions) -> Result<Arc<Self>> {
        check_options(&options)?;
        // Where crates disagree about it, rustls wants to be told what does the cryptography; whoever said so first is heard.
        let _said_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let target = Arc::new(Target::parse(url)?);
        let pool = {
            let (target, connecting, call) = (target.clone(), options.connect_timeout, options.call_timeout);
            Pool::new(options.connections_max, move || connect(target.clone(), connecting, call))
        };
        let bounds = Bounds { entries_max: options.entries_max, tombstones_max: options.tombstones_max };
        let limits = (options.call_timeout, options.migration_timeout);
        let store = Arc::new(Store::new(Postgres { place: target.place.clone() }, pool, bounds, limits));
        let follower = tokio::spawn(follow::follow(Arc::downgrade(&store), target.clone(), options));
        Ok(Arc::new(Self { store, target, follower }))
    }

    /// What is wrong with this Postgres, and what to do about it. Changes nothing there. `now_ms` is our own clock, in
    /// milliseconds since 1970.
    pub async fn check(&self, now_ms: i64) -> Vec<Finding> {
        check::check(&self.store, &self.target, now_ms).await
    }
}

delegate!(PostgresCatalog);

/// A connection that sees the schema of the catalog alone, and whose server gives up when we do.
async fn connect(target: Arc<Target>, connecting: Duration, call: Duration) -> sqlx::Result<PgConnection> {
    // The server gives up first, and so can say that nothing has happened.
    let limit = (call.as_millis() * 3 / 4).max(1);
    let settings = AssertSqlSafe(format!(
        "SET search_path = {}; SET statement_timeout = {limit}; SET lock_timeout = {limit}; \
         SET idle_in_transaction_session_timeout = {limit}",
        target.schema
    ));
    let connected = timeout(connecting, async {
        let mut connection = PgConnection::connect_with(&target.connect).await?;
        sqlx::raw_sql(settings).execute(&mut connection).await?;
        Ok(connection)
    });
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("not connected within {connecting:?}"));
    connected.await.unwrap_or_else(|_| Err(late().into()))
}

fn check_options(options: &PostgresOptions) -> Result<()> {
    let invalid =
        |why: &str| Err(Error::new(ErrorKind::Invalid, format!("cannot open the catalog on Postgres: {why}")));
    if !(1..=64).contains(&options.connections_max) {
        return invalid("it takes 1 to 64 connections");
    }
    let times = [options.connect_timeout, options.call_timeout, options.migration_timeout, options.poll];
    if times.iter().any(|time| !(Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60)).contains(time)) {
        return invalid("times are from a millisecond to a day");
    }
    Ok(())
}

impl Engine for Postgres {
    type Connection = PgConnection;

    const MIGRATIONS: &'static [Migration] =
        &[Migration { name: "catalog", sql: include_str!("../migrations/postgres/0001_catalog.sql") }];

    fn judge(error: &sqlx::Error) -> Verdict {
        let fault = |kind, cure| Verdict { kind, cure, reconnect: true, undone: false };
        match error {
            sqlx::Error::Database(said) => judge_code(said.code().as_deref().unwrap_or_default()),
            // That is how a certificate shows that is not trusted.
            sqlx::Error::Io(cause) if cause.kind() == std::io::ErrorKind::InvalidData => {
                fault(ErrorKind::Refused, Some("see sslmode and sslrootcert in the URL"))
            }
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::BeginFailed => {
                fault(ErrorKind::Retry, None)
            }
            sqlx::Error::Tls(_) => fault(ErrorKind::Refused, Some("see sslmode and sslrootcert in the URL")),
            sqlx::Error::Configuration(_) => fault(ErrorKind::Refused, Some("see the certificates in the URL")),
            sqlx::Error::PoolClosed => fault(ErrorKind::Refused, None),
            _ => fault(ErrorKind::Corrupt, None),
        }
    }

    fn place(&self) -> &str {
        &self.place
    }
}

/// What a code of Postgres means: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn judge_code(code: &str) -> Verdict {
    let refused = |cure| Verdict { kind: ErrorKind::Refused, cure: Some(cure), reconnect: true, undone: true };
    let retry = |cure, reconnect| Verdict { kind: ErrorKind::Retry, cure, reconnect, undone: false };
    match code {
        "28P01" => refused("correct the user or the password in the URL"),
        "28000" => refused("allow this user from this machine in pg_hba.conf"),
        "3D000" => refused("create the database, or correct its name in the URL"),
        "42501" => refused("grant this user what it needs: millrace doctor says what"),
        "42P01" | "3F000" => refused("the schema of the catalog is gone: restart to make it again, or restore it"),
        "25006" => retry(Some("it is read only, as a replica is: name the primary in the URL"), true),
        "53300" => retry(Some("it has no connection left for us: raise max_connections"), true),
        "26000" | "42P05" => refused("connect to the server itself, or through a pooler by session"),
        // A plan from before the schema was changed; a new connection makes a new one.
        "0A000" => Verdict { undone: true, ..retry(None, true) },
        "53100" => retry(Some("its disk is full"), false),
        "40001" | "40P01" | "55P03" | "57014" => Verdict { undone: true, ..retry(None, false) },
        _ if code.starts_with("XX") => Verdict { kind: ErrorKind::Corrupt, cure: None, reconnect: true, undone: false },
        _ if ["08", "25", "40", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class)) => {
            retry(None, true)
        }
        _ => Verdict { kind: ErrorKind::Refused, cure: None, reconnect: true, undone: true },
    }
}

/// One process at a time makes the schema; the others wait until its transaction ends.
async fn prepare(connection: &mut PgConnection) -> Answer<()> {
    let encoding: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut *connection).await?;
    if encoding != "UTF8" {
        let why = format!("the database of the catalog holds text as {encoding}: make one with ENCODING 'UTF8'");
        return Err(Error::new(ErrorKind::Refused, why).into());
    }
    const LOCK: &str =
        "SELECT pg_advisory_xact_lock(hashtextextended('millrace catalog ' || current_setting('search_path'), 0))";
    sqlx::query("SET LOCAL statement_timeout = '10min'").execute(&mut *connection).await?;
    sqlx::query("SET LOCAL lock_timeout = '10min'").execute(&mut *connection).await?;
    sqlx::query(LOCK).execute(&mut *connection).await?;
    // Not by current_schema(), which may be what it was before we waited.
    const MISSING: &str = "SELECT current_setting('search_path') WHERE NOT EXISTS \
                           (SELECT 1 FROM pg_namespace WHERE nspname = current_setting('search_path'))";
    let missing: Option<String> = sqlx::query_scalar(MISSING).fetch_optional(&mut *connection).await?;
    if let Some(schema) = missing {
        // Ours alone, and checked: see `Target`.
        sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(connection).await?;
    }
    Ok(())
}

statements! {
    connection: sqlx::postgres::PgConnection, row: sqlx::postgres::PgRow,
    now: "(extract(epoch FROM clock_timestamp()) * 1000)::bigint", begin: "BEGIN ISOLATION LEVEL READ COMMITTED",
    // The last statement before the commit, which no timeout of the server may cut short: one that waits for a standby would be
    // answered as if that had it.
    notify: Some("SELECT pg_notify('millrace_catalog_' || current_setting('search_path'), ''), \
                  set_config('statement_timeout', '0', true)"),
    tables: "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = current_setting('search_path') AND tablename = 'catalog_migrations'",
}

#[cfg(test)]
mod tests;
