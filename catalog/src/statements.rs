//! What is asked of a database. SQLite and Postgres understand the same SQL here; only the types of sqlx differ, so the
//! functions are stamped for both.

use std::future::Future;
use std::sync::atomic::AtomicBool;

use sqlx::Connection;

use crate::{Change, Document, Entry, Error, ErrorKind, Expect, Head, Result, Revision};

/// Why a statement had no answer.
pub(crate) enum Failure {
    /// The database says so.
    Database(sqlx::Error),
    /// We say so.
    Ours(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

pub(crate) type Answer<T> = std::result::Result<T, Failure>;

/// Where an entry is.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
}

/// Bounds of what is stored.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) entries_max: u32,
    pub(crate) tombstones_max: u32,
}

/// Bounds of one answer.
#[derive(Clone, Copy)]
pub(crate) struct Page {
    pub(crate) limit: i64,
    pub(crate) bytes: i64,
}

/// A connection that the statements below can be sent over. `committing` becomes true when a change may have happened.
pub(crate) trait Statements: Connection + Send + Sized + 'static {
    fn head(&mut self) -> impl Future<Output = Answer<Head>> + Send;
    fn get(&mut self, place: Place<'_>) -> impl Future<Output = Answer<Option<Entry>>> + Send;
    fn list(&mut self, kind: &str, after: &str, page: Page) -> impl Future<Output = Answer<Vec<Entry>>> + Send;
    fn kinds(&mut self, limit: i64) -> impl Future<Output = Answer<Vec<String>>> + Send;
    fn changes(&mut self, since: Revision, page: Page) -> impl Future<Output = Answer<Vec<Change>>> + Send;
    fn put(
        &mut self,
        place: Place<'_>,
        document: &Document,
        expect: Expect,
        bounds: Bounds,
        committing: &AtomicBool,
    ) -> impl Future<Output = Answer<Revision>> + Send;
    fn delete(
        &mut self,
        place: Place<'_>,
        expect: Expect,
        bounds: Bounds,
        committing: &AtomicBool,
    ) -> impl Future<Output = Answer<Option<Revision>>> + Send;
    /// Applies those migrations that were not, all or none; one process at a time.
    fn migrate(&mut self, known: &[Migration]) -> impl Future<Output = Answer<()>> + Send;
    /// The newest migration that was applied; none where there is no catalog yet.
    fn version(&mut self) -> impl Future<Output = Answer<Option<i64>>> + Send;
}

/// A step from one schema to the next; they are numbered from 1, without gaps.
pub(crate) struct Migration {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// Refuses a schema that only a later version of this program knows.
pub(crate) fn check_version(version: i64, known: &[Migration]) -> Result<()> {
    let newest = known.len();
    if usize::try_from(version).is_ok_and(|version| version <= newest) {
        return Ok(());
    }
    let why = format!(
        "the catalog was made by a newer version of Millrace (its schema is {version}, this one knows up to {newest}): upgrade \
         this one"
    );
    Err(Error::new(ErrorKind::Refused, why))
}

/// Whether the entry that is at `present` may be changed.
pub(crate) fn check_expect(place: Place<'_>, present: Option<Revision>, expect: Expect) -> Result<()> {
    let holds = match expect {
        Expect::Any => true,
        Expect::Absent => present.is_none(),
        Expect::Revision(revision) => present == Some(revision),
    };
    if holds {
        return Ok(());
    }
    let now = present.map_or_else(|| "absent".to_owned(), |revision| format!("at revision {revision}"));
    let expected = match expect {
        Expect::Revision(revision) => format!("at revision {revision}"),
        _ => "absent".to_owned(),
    };
    let why = format!("cannot change {} {:?}: it is {now}, not {expected}", place.kind, place.name);
    Err(Error::new(ErrorKind::Conflict(present), why))
}

/// Whether changes since this revision are all known.
pub(crate) fn check_since(since: Revision, head: Revision, forgotten: Revision) -> Result<()> {
    if since > head {
        let why = format!(
            "the catalog is at revision {head}, before {since}: it was restored or is another, read all of it again"
        );
        return Err(Error::new(ErrorKind::Expired, why));
    }
    if since < forgotten {
        let why = format!("what was deleted up to revision {forgotten} is forgotten: read all of the catalog again");
        return Err(Error::new(ErrorKind::Expired, why));
    }
    Ok(())
}

/// A document out of the database, which somebody else may have written there.
pub(crate) fn stored(kind: &str, name: &str, text: &str) -> Result<Document> {
    Document::parse(text).map_err(|e| {
        let why = format!("what the catalog holds as {kind} {name:?} cannot be: {e}");
        Error::with_source(ErrorKind::Corrupt, why, e)
    })
}

pub(crate) fn revision(stored: i64) -> Result<Revision> {
    let counted = u64::try_from(stored).map(Revision);
    counted.map_err(|_| Error::new(ErrorKind::Corrupt, format!("the catalog holds {stored} as a revision")))
}

pub(crate) fn signed(revision: Revision) -> i64 {
    // Beyond what any catalog can come to, where the two sides compare alike.
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// Entries of the page at hand, with how many bytes come before each.
macro_rules! page_of {
    ($wanted:literal, $order:literal) => {
        concat!(
            "(SELECT kind, name, document, revision, created_ms, updated_ms, sum(bytes) OVER (ORDER BY ",
            $order,
            ") - bytes AS bytes_before FROM (SELECT * FROM catalog_entries WHERE ",
            $wanted,
            " ORDER BY ",
            $order,
            " LIMIT $2) AS page) AS found"
        )
    };
}

macro_rules! statements {
    (
        connection: $connection:ty, row: $row:ty,
        now: $now:literal, begin: $begin:literal, notify: $notify:expr, tables: $tables:literal $(,)?
    ) => {
        mod stamped {
            use std::sync::atomic::{AtomicBool, Ordering};

            use sqlx::{Connection as _, Row as _};

            use super::prepare;
            use $crate::statements::{
                Answer, Bounds, Failure, Migration, Page, Place, Statements, check_expect, check_since, check_version,
                page_of, revision, signed, stored,
            };
            use $crate::{Change, Document, Entry, Error, ErrorKind, Expect, Head, Revision};

            /// Columns from `at` on.
            fn entry(row: &$row, at: usize) -> Answer<Option<Entry>> {
                let Some(text) = row.try_get::<Option<String>, _>(at + 2)? else { return Ok(None) };
                let (kind, name): (String, String) = (row.try_get(at)?, row.try_get(at + 1)?);
                Ok(Some(Entry {
                    document: stored(&kind, &name, &text)?,
                    revision: revision(row.try_get(at + 3)?)?,
                    created_ms: row.try_get(at + 4)?,
                    updated_ms: row.try_get(at + 5)?,
                    kind,
                    name,
                }))
            }

            fn change(row: &$row, at: usize) -> Answer<Option<Change>> {
                // Without any entry there is one row, for the state alone.
                let Some(changed) = row.try_get::<Option<i64>, _>(at + 3)? else { return Ok(None) };
                Ok(Some(match entry(row, at)? {
                    Some(entry) => Change::Put(entry),
                    None => Change::Deleted {
                        kind: row.try_get(at)?,
                        name: row.try_get(at + 1)?,
                        revision: revision(changed)?,
                    },
                }))
            }

            /// Takes the next revision, and with it the right to write, until the transaction ends. Also the time, and how many
            /// entries there are.
            async fn next(connection: &mut $connection) -> Answer<(Revision, i64, i64)> {
                const NEXT: &str = concat!(
                    "UPDATE catalog_state SET revision = revision + 1 RETURNING revision, ",
                    $now,
                    ", entries"
                );
                let row = sqlx::query(NEXT).fetch_one(connection).await?;
                Ok((revision(row.try_get(0)?)?, row.try_get(1)?, row.try_get(2)?))
            }

            async fn present(connection: &mut $connection, place: Place<'_>) -> Answer<Option<Revision>> {
                const PRESENT: &str =
                    "SELECT revision FROM catalog_entries WHERE kind = $1 AND name = $2 AND document IS NOT NULL";
                let row = sqlx::query(PRESENT).bind(place.kind).bind(place.name).fetch_optional(connection).await?;
                Ok(row.map(|row| row.try_get(0)).transpose()?.map(revision).transpose()?)
            }

            async fn count(connection: &mut $connection, more: i64) -> Answer<()> {
                const COUNT: &str = "UPDATE catalog_state SET entries = entries + $1";
                sqlx::query(COUNT).bind(more).execute(connection).await?;
                Ok(())
            }

            async fn notify(connection: &mut $connection) -> Answer<()> {
                let notify: Option<&'static str> = $notify;
                if let Some(notify) = notify {
                    sqlx::query(notify).execute(connection).await?;
                }
                Ok(())
            }

            /// Forgets the oldest tombstones beyond so many.
            async fn forget(connection: &mut $connection, tombstones_max: u32) -> Answer<()> {
                const OLDEST: &str =
                    "SELECT revision FROM catalog_entries WHERE document IS NULL ORDER BY revision DESC LIMIT 1 OFFSET $1";
                let oldest = sqlx::query(OLDEST).bind(i64::from(tombstones_max)).fetch_optional(&mut *connection).await?;
                let Some(oldest) = oldest else { return Ok(()) };
                let oldest: i64 = oldest.try_get(0)?;
                const FORGET: &str = "DELETE FROM catalog_entries WHERE document IS NULL AND revision <= $1";
                sqlx::query(FORGET).bind(oldest).execute(&mut *connection).await?;
                const FORGOTTEN: &str = "UPDATE catalog_state SET forgotten = $1";
                sqlx::query(FORGOTTEN).bind(oldest).execute(connection).await?;
                Ok(())
            }

            async fn version(connection: &mut $connection) -> Answer<Option<i64>> {
                if sqlx::query($tables).fetch_optional(&mut *connection).await?.is_none() {
                    return Ok(None);
                }
                const VERSION: &str = "SELECT max(version) FROM catalog_migrations";
                let row = sqlx::query(VERSION).fetch_one(connection).await?;
                Ok(row.try_get(0)?)
            }

            impl Statements for $connection {
                async fn head(&mut self) -> Answer<Head> {
                    const HEAD: &str = concat!("SELECT revision, ", $now, " FROM catalog_state");
                    let row = sqlx::query(HEAD).fetch_one(self).await?;
                    Ok(Head { revision: revision(row.try_get(0)?)?, now_ms: row.try_get(1)? })
                }

                async fn get(&mut self, place: Place<'_>) -> Answer<Option<Entry>> {
                    const GET: &str = "SELECT kind, name, document, revision, created_ms, updated_ms FROM catalog_entries \
                                       WHERE kind = $1 AND name = $2";
                    let row = sqlx::query(GET).bind(place.kind).bind(place.name).fetch_optional(self).await?;
                    row.map_or(Ok(None), |row| entry(&row, 0))
                }

                async fn list(&mut self, kind: &str, after: &str, page: Page) -> Answer<Vec<Entry>> {
                    const LIST: &str = concat!(
                        "SELECT kind, name, document, revision, created_ms, updated_ms FROM ",
                        page_of!("kind = $1 AND name > $4 AND document IS NOT NULL", "name"),
                        " WHERE bytes_before < $3 ORDER BY name"
                    );
                    let query = sqlx::query(LIST).bind(kind).bind(page.limit).bind(page.bytes).bind(after);
                    let rows = query.fetch_all(self).await?;
                    let entries: Answer<Vec<Option<Entry>>> = rows.iter().map(|row| entry(row, 0)).collect();
                    Ok(entries?.into_iter().flatten().collect())
                }

                async fn kinds(&mut self, limit: i64) -> Answer<Vec<String>> {
                    const KINDS: &str =
                        "SELECT DISTINCT kind FROM catalog_entries WHERE document IS NOT NULL ORDER BY kind LIMIT $1";
                    let rows = sqlx::query(KINDS).bind(limit).fetch_all(self).await?;
                    Ok(rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?)
                }

                async fn changes(&mut self, since: Revision, page: Page) -> Answer<Vec<Change>> {
                    // One statement, so that the state and the changes are of one moment.
                    const CHANGES: &str = concat!(
                        "SELECT catalog_state.revision, forgotten, kind, name, document, found.revision, created_ms, \
                         updated_ms FROM catalog_state LEFT JOIN ",
                        page_of!("revision > $1", "revision"),
                        " ON bytes_before < $3 ORDER BY found.revision"
                    );
                    let query = sqlx::query(CHANGES).bind(signed(since)).bind(page.limit).bind(page.bytes);
                    let rows = query.fetch_all(self).await?;
                    let Some(state) = rows.first() else { return Err(Failure::Database(sqlx::Error::RowNotFound)) };
                    check_since(since, revision(state.try_get(0)?)?, revision(state.try_get(1)?)?)?;
                    let changes: Answer<Vec<Option<Change>>> = rows.iter().map(|row| change(row, 2)).collect();
                    Ok(changes?.into_iter().flatten().collect())
                }

                async fn put(
                    &mut self,
                    place: Place<'_>,
                    document: &Document,
                    expect: Expect,
                    bounds: Bounds,
                    committing: &AtomicBool,
                ) -> Answer<Revision> {
                    let mut tx = self.begin_with($begin).await?;
                    let (revision, now_ms, entries) = next(&mut tx).await?;
                    let present = present(&mut tx, place).await?;
                    let mut allowed = check_expect(place, present, expect);
                    if allowed.is_ok() && present.is_none() && entries >= i64::from(bounds.entries_max) {
                        let why = format!("the catalog holds {entries} entries, as many as it may: delete some");
                        allowed = Err(Error::new(ErrorKind::Refused, why));
                    }
                    if let Err(refused) = allowed {
                        tx.rollback().await?;
                        return Err(refused.into());
                    }
                    const PUT: &str =
                        "INSERT INTO catalog_entries (kind, name, document, bytes, revision, created_ms, updated_ms) \
                         VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (kind, name) DO UPDATE SET \
                         created_ms = CASE WHEN catalog_entries.document IS NULL THEN excluded.created_ms \
                         ELSE catalog_entries.created_ms END, document = excluded.document, bytes = excluded.bytes, \
                         revision = excluded.revision, updated_ms = excluded.updated_ms";
                    let bytes = i32::try_from(document.as_str().len()).unwrap_or(i32::MAX);
                    let query = sqlx::query(PUT).bind(place.kind).bind(place.name).bind(document.as_str());
                    query.bind(bytes).bind(signed(revision)).bind(now_ms).execute(&mut *tx).await?;
                    if present.is_none() {
                        count(&mut tx, 1).await?;
                    }
                    notify(&mut tx).await?;
                    committing.store(true, Ordering::Relaxed);
                    tx.commit().await?;
                    Ok(revision)
                }

                async fn delete(
                    &mut self,
                    place: Place<'_>,
                    expect: Expect,
                    bounds: Bounds,
                    committing: &AtomicBool,
                ) -> Answer<Option<Revision>> {
                    let mut tx = self.begin_with($begin).await?;
                    let (revision, now_ms, _) = next(&mut tx).await?;
                    let present = present(&mut tx, place).await?;
                    let allowed = check_expect(place, present, expect);
                    if allowed.is_err() || present.is_none() {
                        tx.rollback().await?;
                        return Ok(allowed.map(|()| None)?);
                    }
                    const DELETE: &str = "UPDATE catalog_entries SET document = NULL, bytes = 0, revision = $3, \
                                          updated_ms = $4 WHERE kind = $1 AND name = $2";
                    let query = sqlx::query(DELETE).bind(place.kind).bind(place.name);
                    query.bind(signed(revision)).bind(now_ms).execute(&mut *tx).await?;
                    count(&mut tx, -1).await?;
                    forget(&mut tx, bounds.tombstones_max).await?;
                    notify(&mut tx).await?;
                    committing.store(true, Ordering::Relaxed);
                    tx.commit().await?;
                    Ok(Some(revision))
                }

                async fn migrate(&mut self, known: &[Migration]) -> Answer<()> {
                    let mut tx = self.begin_with($begin).await?;
                    prepare(&mut tx).await?;
                    let before = version(&mut tx).await?;
                    if before.is_none() {
                        const TABLE: &str = "CREATE TABLE catalog_migrations (version BIGINT PRIMARY KEY, name TEXT NOT \
                                             NULL, applied_ms BIGINT NOT NULL)";
                        sqlx::query(TABLE).execute(&mut *tx).await?;
                    }
                    let before = before.unwrap_or(0);
                    check_version(before, known)?;
                    for (migration, version) in known.iter().zip(1_i64..).filter(|(_, version)| *version > before) {
                        sqlx::raw_sql(migration.sql).execute(&mut *tx).await?;
                        const APPLIED: &str = concat!(
                            "INSERT INTO catalog_migrations (version, name, applied_ms) VALUES ($1, $2, ",
                            $now,
                            ")"
                        );
                        sqlx::query(APPLIED).bind(version).bind(migration.name).execute(&mut *tx).await?;
                    }
                    tx.commit().await?;
                    Ok(())
                }

                async fn version(&mut self) -> Answer<Option<i64>> {
                    version(self).await
                }
            }
        }
    };
}
pub(crate) use {page_of, statements};
