//! The embedded catalog: one file of SQLite.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::pool::Pool;
use crate::statements::{Answer, Bounds, Migration, Statements as _, statements};
use crate::store::{Engine, Store, Verdict, delegate};
use crate::{Change, Document, Entry, Error, ErrorKind, Expect, Finding, Head, Level, Result, Revision};

/// How many connections one handle has: readers do not wait for the writer.
const CONNECTIONS_MAX: usize = 4;
/// How long to wait before connecting again to a file that is in use.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);
/// What SQLite says when somebody else writes.
const BUSY: u32 = 5;
/// How long the schema may take.
const MIGRATION_MAX: Duration = Duration::from_secs(60);
/// How much longer a call may take than the database waits for another writer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Bounds of the embedded catalog.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// How long a writer waits for others, of this process and others.
    pub busy_timeout: Duration,
    /// How often to look for changes of other handles and processes.
    pub poll: Duration,
    /// How many entries there may be.
    pub entries_max: u32,
    /// How many tombstones are kept.
    pub tombstones_max: u32,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(5),
            poll: Duration::from_secs(1),
            entries_max: 100_000,
            tombstones_max: 10_000,
        }
    }
}

/// The catalog in a file that only its owner may read. Other processes of the same machine may use the same file.
pub struct SqliteCatalog {
    store: Arc<Store<Sqlite>>,
    follower: JoinHandle<()>,
}

struct Sqlite {
    place: String,
}

impl SqliteCatalog {
    /// The catalog in this file, which is made when there is none; its folder must be there. Needs a Tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when the file cannot be used or is of a newer version, [`ErrorKind::Corrupt`] when it is no
    /// catalog, [`ErrorKind::Retry`] when another process holds it too long.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub async fn open(path: &Path, options: SqliteOptions) -> Result<Arc<Self>> {
        keep_private(path).map_err(|e| {
            let why = format!("cannot open the catalog at {}: {e}", path.display());
            Error::with_source(ErrorKind::Refused, why, e)
        })?;
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(options.busy_timeout)
            // What was replaced or deleted is overwritten in the file too: earlier builds kept keys in clear.
            .pragma("secure_delete", "ON")
            .disable_statement_logging();
        let busy_timeout = options.busy_timeout;
        let pool = Pool::new(CONNECTIONS_MAX, move || {
            let connect = connect.clone();
            self::connect(connect, busy_timeout)
        });
        let bounds = Bounds { entries_max: options.entries_max, tombstones_max: options.tombstones_max };
        let limits = (options.busy_timeout + ANSWER_MAX, MIGRATION_MAX);
        let store = Arc::new(Store::new(Sqlite { place: path.display().to_string() }, pool, bounds, limits));
        store.ready().await?;
        let follower = tokio::spawn(follow(Arc::downgrade(&store), options.poll));
        Ok(Arc::new(Self { store, follower }))
    }

    /// What is wrong with this catalog, and what to do about it.
    pub async fn check(&self) -> Vec<Finding> {
        let place = self.store.engine.place();
        let calm = AtomicBool::new(false);
        let ask = async {
            let mut lease = self.store.pool.lease().await?;
            let said: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *lease.connection()).await?;
            let version = lease.connection().version().await?;
            lease.give_back();
            Ok((said, version))
        };
        match self.store.within("check", self.store.limit, &calm, ask).await {
            Ok((said, version)) if said == "ok" => {
                vec![Finding::fine(format!("{place} can be read, with schema {}", version.unwrap_or(0)))]
            }
            Ok((said, _)) => {
                let cure = "restore it from a backup: it is damaged";
                vec![Finding::bad(Level::Fault, format!("{place}: {said}"), cure)]
            }
            Err(error) => vec![Finding::bad(Level::Fault, error.to_string(), "see the message")],
        }
    }
}

delegate!(SqliteCatalog);

/// Makes the file, and lets only its owner read it: it holds keys. What SQLite puts beside it gets the same permissions. A file
/// that is there is not opened: to close it again would take away the locks that another handle of this process has on it.
fn keep_private(path: &Path) -> io::Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if !path.exists() {
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(format!(".{}-{}.new", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?);
        let linked = fs::hard_link(&fresh, path);
        fs::remove_file(&fresh)?;
        match linked {
            // Somebody else was faster.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            linked => linked?,
        }
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        let file = PathBuf::from(file);
        match fs::metadata(&file) {
            Ok(known) if known.permissions().mode() & 0o077 != 0 => {
                fs::set_permissions(file, Permissions::from_mode(0o600))?;
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// A connection. Where the file is in use SQLite waits by itself, save while somebody makes it the kind of file that has a log
/// beside it.
async fn connect(options: SqliteConnectOptions, patience: Duration) -> sqlx::Result<SqliteConnection> {
    let until = Instant::now() + patience;
    loop {
        match SqliteConnection::connect_with(&options).await {
            Err(error) if code(&error) == BUSY && Instant::now() < until => sleep(CONNECT_PAUSE).await,
            connected => return connected,
        }
    }
}

/// What SQLite says: the lowest byte tells what it is, the others which of them. 0 when it says nothing.
fn code(error: &sqlx::Error) -> u32 {
    let said = error.as_database_error().and_then(|said| said.code()?.parse::<u32>().ok());
    said.unwrap_or(0) & 0xff
}

/// Rings when somebody else has changed the catalog.
async fn follow(store: Weak<Store<Sqlite>>, poll: Duration) {
    let mut ticks = interval(poll.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Revision(0);
    loop {
        ticks.tick().await;
        let Some(store) = store.upgrade() else { return };
        match store.head().await {
            Ok(head) if head.revision != seen => {
                seen = head.revision;
                store.bell.ring();
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

impl Engine for Sqlite {
    type Connection = SqliteConnection;

    const MIGRATIONS: &'static [Migration] =
        &[Migration { name: "catalog", sql: include_str!("../migrations/sqlite/0001_catalog.sql") }];

    fn judge(error: &sqlx::Error) -> Verdict {
        let fault = |kind, cure| Verdict { kind, cure, reconnect: true, undone: false };
        match error {
            sqlx::Error::Database(_) => {
                match code(error) {
                    // Busy, locked, interrupted: nothing of it was written.
                    BUSY | 6 | 9 => Verdict { kind: ErrorKind::Retry, cure: None, reconnect: false, undone: true },
                    13 => Verdict { kind: ErrorKind::Retry, cure: Some("make room"), reconnect: false, undone: true },
                    10 => fault(ErrorKind::Retry, Some("the disk cannot be read or written")),
                    3 | 8 | 14 | 23 => {
                        fault(ErrorKind::Refused, Some("see who may read and write the file and its folder"))
                    }
                    11 | 26 => {
                        fault(ErrorKind::Corrupt, Some("it is no catalog, or damaged: restore it from a backup"))
                    }
                    _ => fault(ErrorKind::Corrupt, None),
                }
            }
            sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => fault(ErrorKind::Retry, None),
            sqlx::Error::PoolClosed => fault(ErrorKind::Refused, None),
            _ => fault(ErrorKind::Corrupt, None),
        }
    }

    fn place(&self) -> &str {
        &self.place
    }
}

/// Nothing is to be made or locked before: to begin at once to write is the lock.
async fn prepare(_connection: &mut SqliteConnection) -> Answer<()> {
    Ok(())
}

statements! {
    connection: sqlx::sqlite::SqliteConnection, row: sqlx::sqlite::SqliteRow,
    now: "CAST(unixepoch('subsec') * 1000 AS INTEGER)", begin: "BEGIN IMMEDIATE", notify: None,
    tables: "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'catalog_migrations'",
}
