//! One engine for all tests of a binary, and databases of its own for each test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use clickhouse::Client;
use millrace_clickhouse::{ClickHouseOptions, ClickHouseWarehouse};
use millrace_engines::clickhouse::ClickHouse;
use url::Url;

/// Databases for one test, or `None` where no engine can be had, which has been said.
pub(crate) fn databases() -> Option<Databases> {
    static ENGINE: OnceLock<Option<ClickHouse>> = OnceLock::new();
    let engine = ENGINE.get_or_init(ClickHouse::get).as_ref()?;
    Some(Databases::of(engine))
}

/// Databases that go with this handle.
pub(crate) struct Databases {
    url: String,
    prefix: String,
    opened: AtomicU64,
}

impl Databases {
    /// On this engine.
    pub(crate) fn of(engine: &ClickHouse) -> Self {
        static TESTS: AtomicU64 = AtomicU64::new(0);
        let test = TESTS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("millrace_test_{}_{test}", std::process::id());
        Self { url: engine.url().to_owned(), prefix, opened: AtomicU64::new(0) }
    }

    /// The name of a database that is not there yet.
    pub(crate) fn name(&self) -> String {
        format!("{}_{}", self.prefix, self.opened.fetch_add(1, Ordering::Relaxed))
    }

    /// Where the engine is, with user and password.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The same for a user who is not known there.
    pub(crate) fn url_of(&self, user: &str, password: &str) -> String {
        let mut url = Url::parse(&self.url).unwrap();
        url.set_username(user).unwrap();
        url.set_password(Some(password)).unwrap();
        url.to_string()
    }

    pub(crate) async fn open(&self, database: &str, options: ClickHouseOptions) -> ClickHouseWarehouse {
        let options = ClickHouseOptions { database: database.to_owned(), ..options };
        ClickHouseWarehouse::open(&self.url, options).await.unwrap_or_else(|e| panic!("cannot open: {e} {e:?}"))
    }

    /// A client of the same engine that knows nothing of ours.
    pub(crate) fn stranger(&self, database: &str) -> Client {
        let mut url = Url::parse(&self.url).unwrap();
        let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
        url.set_username("").unwrap();
        url.set_password(None).unwrap();
        Client::default().with_url(url.as_str()).with_database(database).with_user(user).with_password(password)
    }
}

fn decoded(text: &str) -> String {
    url::form_urlencoded::parse(text.as_bytes()).map(|(text, _)| text.into_owned()).next().unwrap_or_default()
}

impl Drop for Databases {
    fn drop(&mut self) {
        let opened = self.opened.load(Ordering::Relaxed);
        let client = self.stranger("default");
        let names = (0..opened).map(|n| format!("{}_{n}", self.prefix)).collect::<Vec<_>>();
        // A destructor cannot wait in the runtime it runs in, and an engine of ours may be gone already.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            for name in names {
                drop(runtime.block_on(client.query(&format!("DROP DATABASE IF EXISTS {name}")).execute()));
            }
        });
        drop(dropped.join());
    }
}

/// One text from the first row of an answer.
pub(crate) async fn text(client: &Client, sql: &str) -> String {
    let mut cursor = client.query_raw(sql).fetch_bytes("TSVRaw").unwrap();
    let bytes = cursor.collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    String::from_utf8(bytes.to_vec()).unwrap().trim_end().to_owned()
}
