//! What the tests run on: files of SQLite, and one Postgres for all tests of a binary, each test with a schema of its own.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use millrace_catalog::conformance::{Open, Place, Tuning};
use millrace_catalog::{Catalog, PostgresCatalog, PostgresOptions, SqliteCatalog, SqliteOptions};
use millrace_engines::postgres::Postgres;

/// A catalog in a new file.
pub(crate) fn sqlite() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let open = in_file(folder.path().join("catalog.db"));
    Place { open, origin: in_file(folder.path().join("origin.db")), keep: Box::new(folder) }
}

fn in_file(path: PathBuf) -> Open {
    Arc::new(move |tuning: Tuning| {
        let path = path.clone();
        Box::pin(async move {
            let options = SqliteOptions {
                poll: Duration::from_millis(100),
                entries_max: tuning.entries_max,
                tombstones_max: tuning.tombstones_max,
                ..SqliteOptions::default()
            };
            SqliteCatalog::open(&path, options).await.unwrap() as Arc<dyn Catalog>
        })
    })
}

/// The URL of the server that all tests share; without one the test is to end.
pub(crate) fn shared() -> Option<String> {
    static SERVER: OnceLock<Option<Mutex<Postgres>>> = OnceLock::new();
    let server = SERVER.get_or_init(|| Postgres::get().map(Mutex::new));
    server.as_ref().map(|server| server.lock().unwrap().url().to_owned())
}

/// The same with a schema that nobody else has.
pub(crate) fn url() -> Option<String> {
    shared().map(|url| with_schema(&url))
}

/// A URL with a schema that nobody else has.
pub(crate) fn with_schema(url: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let schema = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let joined = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joined}schema={schema}")
}

/// The URL of the server and the schema in it.
pub(crate) fn parts(url: &str) -> (&str, &str) {
    let (server, schema) = url.rsplit_once("schema=").unwrap();
    (server.trim_end_matches(['?', '&']), schema)
}

/// A catalog in a new schema.
pub(crate) fn postgres() -> Option<Place> {
    let url = url()?;
    let open: Open = Arc::new(move |tuning: Tuning| {
        let url = url.clone();
        Box::pin(async move {
            let options = PostgresOptions {
                entries_max: tuning.entries_max,
                tombstones_max: tuning.tombstones_max,
                ..PostgresOptions::default()
            };
            PostgresCatalog::open(&url, options).await.unwrap() as Arc<dyn Catalog>
        })
    });
    let folder = tempfile::tempdir().unwrap();
    Some(Place { open, origin: in_file(folder.path().join("origin.db")), keep: Box::new(folder) })
}
