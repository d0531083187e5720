//! What both databases have in common: bounds, time limits, and when the schema is looked after.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OnceCell, watch};
use tokio::time::timeout;

use crate::pool::Pool;
use crate::statements::{Answer, Bounds, Failure, Migration, Page, Place, Statements, check_version};
use crate::{
    Change, Document, Entry, Error, ErrorKind, Expect, Head, PAGE_BYTES_MAX, PAGE_MAX, Result, Revision, check_kind,
    check_name,
};

/// What one database does in its own way.
pub(crate) trait Engine: Send + Sync + 'static {
    type Connection: Statements;
    /// Its migrations, from the first on.
    const MIGRATIONS: &'static [Migration];
    /// What an error means.
    fn judge(error: &sqlx::Error) -> Verdict;
    /// Where the database is, for messages.
    fn place(&self) -> &str;
}

/// What an error of a database means.
pub(crate) struct Verdict {
    pub(crate) kind: ErrorKind,
    /// What to do, where it is not plain from the error.
    pub(crate) cure: Option<&'static str>,
    /// All connections are to be made anew.
    pub(crate) reconnect: bool,
    /// When it is the answer to a commit, it has not happened.
    pub(crate) undone: bool,
}

/// Rings when the catalog may have changed.
#[derive(Clone)]
pub(crate) struct Bell(watch::Sender<u64>);

impl Bell {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub(crate) fn ring(&self) {
        self.0.send_modify(|rung| *rung = rung.wrapping_add(1));
    }

    pub(crate) fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

pub(crate) struct Store<E: Engine> {
    pub(crate) engine: E,
    pub(crate) pool: Pool<E::Connection>,
    pub(crate) bell: Bell,
    pub(crate) bounds: Bounds,
    /// How long one call may take.
    pub(crate) limit: Duration,
    /// How long changes of the schema may take.
    pub(crate) migration_limit: Duration,
    migrated: OnceCell<()>,
}

impl<E: Engine> Store<E> {
    pub(crate) fn new(engine: E, pool: Pool<E::Connection>, bounds: Bounds, limits: (Duration, Duration)) -> Self {
        let (limit, migration_limit) = limits;
        Self { engine, pool, bell: Bell::new(), bounds, limit, migration_limit, migrated: OnceCell::new() }
    }

    /// Brings the schema up to date, once.
    pub(crate) async fn ready(&self) -> Result<()> {
        self.migrated.get_or_try_init(|| self.migrate()).await.copied()
    }

    async fn migrate(&self) -> Result<()> {
        let calm = AtomicBool::new(false);
        let version = async {
            let mut lease = self.pool.lease().await?;
            let version = lease.connection().version().await?;
            lease.give_back();
            Ok(version)
        };
        let version = self.within("look at the schema", self.limit, &calm, version).await?.unwrap_or(0);
        check_version(version, E::MIGRATIONS)?;
        if usize::try_from(version) == Ok(E::MIGRATIONS.len()) {
            return Ok(());
        }
        let migrate = async {
            let mut lease = self.pool.lease().await?;
            lease.connection().migrate(E::MIGRATIONS).await?;
            lease.give_back();
            Ok(())
        };
        self.within("make the schema", self.migration_limit, &calm, migrate).await
    }

    pub(crate) async fn head(&self) -> Result<Head> {
        let calm = AtomicBool::new(false);
        let head = async {
            let mut lease = self.pool.lease().await?;
            let head = lease.connection().head().await?;
            lease.give_back();
            Ok(head)
        };
        self.call("read the revision", &calm, head).await
    }

    pub(crate) async fn get(&self, kind: &str, name: &str) -> Result<Option<Entry>> {
        let place = placed(kind, name)?;
        let calm = AtomicBool::new(false);
        let get = async {
            let mut lease = self.pool.lease().await?;
            let entry = lease.connection().get(place).await?;
            lease.give_back();
            Ok(entry)
        };
        self.call("read an entry", &calm, get).await
    }

    pub(crate) async fn list(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
        check_kind(kind)?;
        // No name is empty, so all come behind the empty one.
        let after = after.unwrap_or_default();
        if !after.is_empty() {
            check_name(after)?;
        }
        let page = page(limit);
        let calm = AtomicBool::new(false);
        let list = async {
            let mut lease = self.pool.lease().await?;
            let entries = lease.connection().list(kind, after, page).await?;
            lease.give_back();
            Ok(entries)
        };
        self.call("read a list", &calm, list).await
    }

    pub(crate) async fn kinds(&self) -> Result<Vec<String>> {
        let calm = AtomicBool::new(false);
        let kinds = async {
            let mut lease = self.pool.lease().await?;
            let kinds = lease.connection().kinds(PAGE_MAX as i64).await?;
            lease.give_back();
            Ok(kinds)
        };
        self.call("list the kinds", &calm, kinds).await
    }

    pub(crate) async fn changes_since(&self, revision: Revision, limit: usize) -> Result<Vec<Change>> {
        let page = page(limit);
        let calm = AtomicBool::new(false);
        let changes = async {
            let mut lease = self.pool.lease().await?;
            let changes = lease.connection().changes(revision, page).await?;
            lease.give_back();
            Ok(changes)
        };
        self.call("read changes", &calm, changes).await
    }

    pub(crate) async fn put(&self, kind: &str, name: &str, document: &Document, expect: Expect) -> Result<Revision> {
        let place = placed(kind, name)?;
        let committing = AtomicBool::new(false);
        let put = async {
            let mut lease = self.pool.lease().await?;
            let put = lease.connection().put(place, document, expect, self.bounds, &committing).await;
            if matches!(put, Ok(_) | Err(Failure::Ours(_))) {
                lease.give_back();
            }
            put
        };
        let revision = self.call("write an entry", &committing, put).await?;
        self.bell.ring();
        Ok(revision)
    }

    pub(crate) async fn delete(&self, kind: &str, name: &str, expect: Expect) -> Result<Option<Revision>> {
        let place = placed(kind, name)?;
        if expect == Expect::Absent {
            return Err(Error::new(ErrorKind::Invalid, "what is expected to be absent cannot be deleted"));
        }
        let committing = AtomicBool::new(false);
        let delete = async {
            let mut lease = self.pool.lease().await?;
            let deleted = lease.connection().delete(place, expect, self.bounds, &committing).await;
            if matches!(deleted, Ok(_) | Err(Failure::Ours(_))) {
                lease.give_back();
            }
            deleted
        };
        let revision = self.call("delete an entry", &committing, delete).await?;
        self.bell.ring();
        Ok(revision)
    }

    /// Does `work` on a schema that is up to date, within the time that one call has.
    async fn call<T>(&self, what: &str, committing: &AtomicBool, work: impl Future<Output = Answer<T>>) -> Result<T> {
        let ready = async {
            // Many may wait for one that does it; who has waited too long leaves it to the others.
            self.ready().await?;
            work.await
        };
        self.within(what, self.limit, committing, ready).await
    }

    /// Does `work` within the time that it has, and says what its failure means.
    pub(crate) async fn within<T>(
        &self,
        what: &str,
        limit: Duration,
        committing: &AtomicBool,
        work: impl Future<Output = Answer<T>>,
    ) -> Result<T> {
        let what = format!("cannot {what} of the catalog at {}", self.engine.place());
        let failed = match timeout(limit, work).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(Failure::Ours(error))) => return Err(error),
            Ok(Err(Failure::Database(error))) => Some(error),
            Err(_) => None,
        };
        let verdict = failed.as_ref().map_or(Verdict::LATE, E::judge);
        if verdict.reconnect {
            self.pool.forget();
        }
        let lost = committing.load(Ordering::Relaxed) && !verdict.undone;
        let kind = if lost { ErrorKind::Unknown } else { verdict.kind };
        let mut why = failed.map_or_else(|| format!("no answer within {limit:?}"), |error| describe(&error));
        if let Some(cure) = verdict.cure {
            why = format!("{why}: {cure}");
        }
        if lost {
            why.push_str("; it may have happened");
        }
        Err(Error::new(kind, format!("{what}: {why}")).with_cure(verdict.cure))
    }
}

impl Verdict {
    const LATE: Self = Self { kind: ErrorKind::Retry, cure: None, reconnect: true, undone: false };
}

/// What the database says. No more than that is kept of the error: its details may hold rows, and so documents.
fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(said) => said.message().to_owned(),
        sqlx::Error::PoolClosed => "it was closed".to_owned(),
        sqlx::Error::Io(cause) => cause.to_string(),
        sqlx::Error::ColumnDecode { index, .. } => format!("column {index} holds what it cannot"),
        other => other.to_string(),
    }
}

fn placed<'a>(kind: &'a str, name: &'a str) -> Result<Place<'a>> {
    check_kind(kind)?;
    check_name(name)?;
    Ok(Place { kind, name })
}

fn page(limit: usize) -> Page {
    Page { limit: limit.min(PAGE_MAX) as i64, bytes: PAGE_BYTES_MAX as i64 }
}

/// The [`crate::Catalog`] of a type with a field `store`.
macro_rules! delegate {
    ($catalog:ty) => {
        #[async_trait::async_trait]
        impl $crate::Catalog for $catalog {
            async fn get(&self, kind: &str, name: &str) -> Result<Option<Entry>> {
                self.store.get(kind, name).await
            }

            async fn list(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
                self.store.list(kind, after, limit).await
            }

            async fn put(&self, kind: &str, name: &str, document: &Document, expect: Expect) -> Result<Revision> {
                self.store.put(kind, name, document, expect).await
            }

            async fn delete(&self, kind: &str, name: &str, expect: Expect) -> Result<Option<Revision>> {
                self.store.delete(kind, name, expect).await
            }

            async fn kinds(&self) -> Result<Vec<String>> {
                self.store.kinds().await
            }

            async fn changes_since(&self, revision: Revision, limit: usize) -> Result<Vec<Change>> {
                self.store.changes_since(revision, limit).await
            }

            async fn head(&self) -> Result<Head> {
                self.store.head().await
            }

            fn watch(&self) -> tokio::sync::watch::Receiver<u64> {
                self.store.bell.listen()
            }

            async fn close(&self) {
                self.follower.abort();
                self.store.pool.close().await;
            }
        }

        impl std::fmt::Debug for $catalog {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($catalog)).field("at", &self.store.engine.place()).finish_non_exhaustive()
            }
        }

        impl Drop for $catalog {
            fn drop(&mut self) {
                self.follower.abort();
            }
        }
    };
}
pub(crate) use delegate;
