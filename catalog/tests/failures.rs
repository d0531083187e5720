//! What the catalog does when Postgres goes away, hangs, comes back as an older one or holds writers up.

#![expect(clippy::unwrap_used, reason = "a set-up that fails ends the test")]

mod catalogs;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use millrace_catalog::conformance::{document, entries};
use millrace_catalog::{
    Cached, CachedOptions, Catalog, Entry, ErrorKind, Expect, PostgresCatalog, PostgresOptions, Revision,
    SqliteCatalog, SqliteOptions,
};
use millrace_engines::postgres::Postgres;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a call may take in these tests.
const CALL_MAX: Duration = Duration::from_secs(2);
const KIND: &str = "things";

fn options() -> PostgresOptions {
    PostgresOptions {
        connect_timeout: Duration::from_secs(1),
        call_timeout: CALL_MAX,
        poll: Duration::from_millis(500),
        ..PostgresOptions::default()
    }
}

fn cached_options() -> CachedOptions {
    CachedOptions {
        confirm: Duration::from_millis(500),
        retry: Duration::from_millis(100),
        ..CachedOptions::new([KIND])
    }
}

/// A URL without the schema that `with_schema` gave it, for a connection of our own.
async fn raw(url: &str) -> PgConnection {
    let (server, schema) = catalogs::parts(url);
    let mut connection = PgConnection::connect(server).await.unwrap();
    let search = sqlx::AssertSqlSafe(format!("SET search_path = {schema}"));
    connection.execute(search).await.unwrap();
    connection
}

async fn put(catalog: &dyn Catalog, name: &str, n: u64) -> Revision {
    let until = Instant::now() + PATIENCE;
    loop {
        match catalog.put(KIND, name, &document(n), Expect::Any).await {
            Ok(revision) => return revision,
            Err(error) => assert!(error.is_retry() && Instant::now() < until, "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Fails in time, in a way that lets the caller repeat the call.
async fn check_away<T: std::fmt::Debug>(what: &str, call: impl Future<Output = millrace_catalog::Result<T>>) {
    let begun = Instant::now();
    let error = call.await.expect_err(what);
    let took = begun.elapsed();
    assert_eq!(error.kind(), ErrorKind::Retry, "{what}: {error}");
    assert!(took < CALL_MAX + Duration::from_millis(500), "{what} took {took:?}");
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

async fn check_all_away(catalog: &dyn Catalog) {
    check_away("get", catalog.get(KIND, "a")).await;
    check_away("list", catalog.list(KIND, None, 10)).await;
    check_away("put", catalog.put(KIND, "lost", &document(0), Expect::Any)).await;
    check_away("delete", catalog.delete(KIND, "a", Expect::Any)).await;
    check_away("changes_since", catalog.changes_since(Revision(0), 10)).await;
    check_away("healthy", catalog.healthy()).await;
}

async fn is_stale(cached: &Cached, wanted: bool) {
    let mut watch = cached.watch();
    let came = timeout(PATIENCE, watch.wait_for(|state| state.is_stale == wanted)).await;
    assert!(came.is_ok(), "stale is not {wanted}: {cached:?}");
}

fn names(cached: &Cached) -> Vec<String> {
    cached.snapshot().entries(KIND).map(|entry| entry.name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_missed_by_nobody_who_reads_from_memory() {
    let Some(mut server) = Postgres::start() else { return };
    let url = catalogs::with_schema(server.url());
    let catalog = PostgresCatalog::open(&url, options()).await.unwrap();
    put(&*catalog, "a", 1).await;
    let cached = Cached::start(catalog.clone(), cached_options()).await.unwrap();
    let confirmed_ms = cached.state().confirmed_ms;
    server.kill();
    check_all_away(&*catalog).await;
    is_stale(&cached, true).await;
    assert_eq!(names(&cached), ["a"]);
    assert!(cached.stale_since_ms().unwrap() >= confirmed_ms);
    server.restart();
    let other = PostgresCatalog::open(&url, options()).await.unwrap();
    put(&*other, "b", 2).await;
    let last = other.delete(KIND, "a", Expect::Any).await.unwrap().unwrap();
    timeout(PATIENCE, cached.reached(last)).await.unwrap();
    assert_eq!(names(&cached), ["b"]);
    is_stale(&cached, false).await;
    assert_eq!(put(&*catalog, "c", 3).await, Revision(last.0 + 1), "what failed took no revision");
    assert_eq!(catalog.get(KIND, "lost").await.unwrap(), None, "what is to be repeated has not happened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_holds_nobody_up() {
    let Some(mut server) = Postgres::start() else { return };
    let url = catalogs::with_schema(server.url());
    let catalog = PostgresCatalog::open(&url, options()).await.unwrap();
    put(&*catalog, "a", 1).await;
    let cached = Cached::start(catalog.clone(), cached_options()).await.unwrap();
    server.suspend();
    check_all_away(&*catalog).await;
    // Many at once wait for the same few connections, and all of them end in time.
    let calls = (0..40).map(|_| check_away("get", catalog.get(KIND, "a")));
    futures::future::join_all(calls).await;
    let lazy = PostgresCatalog::open_lazy(&url, options()).unwrap();
    let calls = (0..40).map(|_| check_away("get", lazy.get(KIND, "a")));
    futures::future::join_all(calls).await;
    is_stale(&cached, true).await;
    assert_eq!(names(&cached), ["a"]);
    server.resume();
    is_stale(&cached, false).await;
    let other = PostgresCatalog::open(&url, options()).await.unwrap();
    let last = put(&*other, "b", 2).await;
    assert_eq!(put(&*lazy, "b", 2).await, Revision(last.0 + 1));
    let last = Revision(last.0 + 1);
    timeout(PATIENCE, cached.reached(last)).await.unwrap();
    assert_eq!(put(&*catalog, "c", 3).await, Revision(last.0 + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_a_kill_and_what_was_refused_never_happened() {
    const WRITERS: u64 = 4;
    let Some(mut server) = Postgres::start() else { return };
    let url = catalogs::with_schema(server.url());
    let catalog = PostgresCatalog::open(&url, options()).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (catalog, stopped) = (catalog.clone(), stopped.clone());
            tokio::spawn(async move {
                let (mut made, mut refused, mut unknown) = (Vec::new(), Vec::new(), 0_usize);
                let mut n = 0;
                while !*stopped.borrow() {
                    let name = format!("w{writer}-{n}");
                    n += 1;
                    match catalog.put(KIND, &name, &document(n), Expect::Absent).await {
                        Ok(_) => made.push(name),
                        Err(error) if error.kind() == ErrorKind::Unknown => unknown += 1,
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
                            refused.push(name);
                            sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
                (made, refused, unknown)
            })
        })
        .collect();
    for _ in 0..4 {
        let before = catalog.revision().await;
        let before = before.map_or(0, |revision| revision.0);
        let written = timeout(PATIENCE, async {
            while catalog.revision().await.map_or(0, |revision| revision.0) < before + 40 {
                sleep(Duration::from_millis(10)).await;
            }
        });
        written.await.unwrap();
        server.kill();
        server.restart();
    }
    stop.send(true).unwrap();
    let (mut made, mut refused, mut unknown) = (BTreeSet::new(), BTreeSet::new(), 0);
    for writer in writers {
        let (some_made, some_refused, some_unknown) = writer.await.unwrap();
        made.extend(some_made);
        refused.extend(some_refused);
        unknown += some_unknown;
    }
    let there = timeout(PATIENCE, async {
        while catalog.healthy().await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
        entries(&*catalog, KIND, 500).await
    });
    let there: BTreeSet<String> = there.await.unwrap().into_iter().map(|entry: Entry| entry.name).collect();
    println!("{} made, {} refused, {unknown} unknown, {} there", made.len(), refused.len(), there.len());
    assert!(!refused.is_empty(), "the kills were noticed");
    assert!(made.is_subset(&there), "lost: {:?}", made.difference(&there).collect::<Vec<_>>());
    assert!(refused.is_disjoint(&there), "phantoms: {:?}", refused.intersection(&there).collect::<Vec<_>>());
    assert!(there.len() - made.len() <= unknown);
    assert_eq!(catalog.revision().await.unwrap(), Revision(there.len() as u64), "no revision is missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_later_is_waited_for() {
    let Some(mut server) = Postgres::start() else { return };
    let url = catalogs::with_schema(server.url());
    server.kill();
    let refused = PostgresCatalog::open(&url, options()).await.expect_err("the server is away");
    assert_eq!(refused.kind(), ErrorKind::Retry, "{refused}");
    let catalog = PostgresCatalog::open_lazy(&url, options()).unwrap();
    let mut watch = catalog.watch();
    check_all_away(&*catalog).await;
    let none = Cached::start(catalog.clone(), cached_options()).await.expect_err("there is no copy either");
    assert_eq!(none.kind(), ErrorKind::Retry, "{none}");
    server.restart();
    assert_eq!(put(&*catalog, "a", 1).await, Revision(1));
    timeout(PATIENCE, watch.changed()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_stands_in_for_a_server_that_is_away() {
    let Some(mut server) = Postgres::start() else { return };
    let url = catalogs::with_schema(server.url());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.json");
    let options_with_copy = CachedOptions { copy: Some(path.clone()), ..cached_options() };
    let catalog = PostgresCatalog::open(&url, options()).await.unwrap();
    put(&*catalog, "a", 1).await;
    let cached = Cached::start(catalog.clone(), options_with_copy.clone()).await.unwrap();
    let last = put(&*catalog, "b", 2).await;
    timeout(PATIENCE, cached.reached(last)).await.unwrap();
    let written = timeout(PATIENCE, async {
        while !std::fs::read_to_string(&path).unwrap_or_default().contains("\"revision\":2") {
            sleep(Duration::from_millis(20)).await;
        }
    });
    written.await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let confirmed_ms = cached.state().confirmed_ms;
    drop(cached);
    server.kill();
    let away = PostgresCatalog::open_lazy(&url, options()).unwrap();
    let cached = Cached::start(away.clone(), options_with_copy.clone()).await.unwrap();
    assert_eq!(names(&cached), ["a", "b"]);
    assert!(cached.stale_since_ms().unwrap() <= confirmed_ms);
    let others = CachedOptions { kinds: vec![KIND.to_owned(), "others".to_owned()], ..options_with_copy };
    let refused = Cached::start(away.clone(), others).await.expect_err("the copy does not hold others");
    assert_eq!(refused.kind(), ErrorKind::Retry);
    server.restart();
    is_stale(&cached, false).await;
    let last = put(&*away, "c", 3).await;
    timeout(PATIENCE, cached.reached(last)).await.unwrap();
    assert_eq!(names(&cached), ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_restored_replaces_what_is_in_memory() {
    let Some(mut server) = Postgres::start() else { return };
    let url = catalogs::with_schema(server.url());
    let catalog = PostgresCatalog::open(&url, options()).await.unwrap();
    for n in 0..5 {
        put(&*catalog, &format!("n{n}"), n).await;
    }
    let cached = Cached::start(catalog.clone(), cached_options()).await.unwrap();
    server.kill();
    is_stale(&cached, true).await;
    server.restart();
    // As if it came from a backup of revision 2, and somebody has written since.
    let mut connection = raw(&url).await;
    connection.execute("BEGIN").await.unwrap();
    connection.execute("DELETE FROM catalog_entries WHERE revision > 2").await.unwrap();
    connection.execute("UPDATE catalog_state SET revision = 2, entries = 2").await.unwrap();
    connection.execute("COMMIT").await.unwrap();
    put(&*catalog, "new", 9).await;
    is_stale(&cached, false).await;
    let came = timeout(PATIENCE, async {
        while names(&cached) != ["n0", "n1", "new"] {
            sleep(Duration::from_millis(20)).await;
        }
    });
    came.await.unwrap_or_else(|_| panic!("{:?}", names(&cached)));
    assert_eq!(cached.snapshot().revision(), Revision(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stalls_holds_others_up_for_a_bounded_time() {
    let Some(url) = catalogs::url() else { return };
    let catalog = PostgresCatalog::open(&url, options()).await.unwrap();
    put(&*catalog, "a", 1).await;
    let mut stalled = raw(&url).await;
    stalled.execute("BEGIN").await.unwrap();
    stalled.execute("UPDATE catalog_state SET revision = revision + 1").await.unwrap();
    check_away("put", catalog.put(KIND, "a", &document(2), Expect::Any)).await;
    assert_eq!(catalog.get(KIND, "a").await.unwrap().unwrap().document, document(1), "readers do not wait");
    stalled.close_hard().await.unwrap();
    assert_eq!(put(&*catalog, "a", 3).await, Revision(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_unknown() {
    let Some(mut server) = Postgres::start() else { return };
    let url = catalogs::with_schema(server.url());
    let catalog = PostgresCatalog::open(&url, options()).await.unwrap();
    let mut connection = raw(&url).await;
    // While it commits, it waits for longer than we do.
    let slow =
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NULL; END $$";
    connection.execute(slow).await.unwrap();
    let trigger = "CREATE CONSTRAINT TRIGGER slow AFTER INSERT OR UPDATE ON catalog_entries DEFERRABLE INITIALLY DEFERRED \
                   FOR EACH ROW EXECUTE FUNCTION slow()";
    connection.execute(trigger).await.unwrap();
    let begun = Instant::now();
    let unknown = catalog.put(KIND, "late", &document(1), Expect::Absent).await.expect_err("it is too slow");
    assert_eq!(unknown.kind(), ErrorKind::Unknown, "{unknown}");
    assert!(unknown.to_string().contains("may have happened"), "{unknown}");
    assert!(begun.elapsed() < CALL_MAX + Duration::from_millis(500));
    let happened = timeout(PATIENCE, async {
        while catalog.get(KIND, "late").await.unwrap().is_none() {
            sleep(Duration::from_millis(50)).await;
        }
    });
    happened.await.unwrap();
    let cut = tokio::spawn({
        let catalog = catalog.clone();
        async move { catalog.put(KIND, "cut", &document(1), Expect::Absent).await }
    });
    sleep(Duration::from_secs(1)).await;
    server.kill();
    let unknown = cut.await.unwrap().expect_err("the server is gone");
    assert_eq!(unknown.kind(), ErrorKind::Unknown, "{unknown}");
    server.restart();
    let mut connection = raw(&url).await;
    connection.execute("DROP TRIGGER slow ON catalog_entries").await.unwrap();
    assert_eq!(catalog.get(KIND, "cut").await.unwrap(), None, "this time it has not");
    assert_eq!(catalog.put(KIND, "cut", &document(1), Expect::Absent).await.unwrap(), Revision(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_prove_its_name_is_refused() {
    let Some((server, authority)) = Postgres::start_with_tls() else { return };
    let by_name = server.url().replace("127.0.0.1", "localhost");
    let root = format!("sslrootcert={}", authority.display());
    let encrypted = async |url: &str| {
        let catalog = PostgresCatalog::open(url, options()).await?;
        put(&*catalog, "a", 1).await;
        let mut connection = PgConnection::connect(server.url()).await.unwrap();
        let ssl = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                   WHERE application_name = 'millrace' AND backend_type = 'client backend'";
        let ssl: bool = sqlx::query_scalar(ssl).fetch_one(&mut connection).await.unwrap();
        catalog.close().await;
        millrace_catalog::Result::Ok(ssl)
    };
    assert!(!encrypted(&format!("{by_name}?sslmode=disable")).await.unwrap());
    for mode in ["prefer".to_owned(), "require".to_owned(), format!("verify-full&{root}")] {
        assert!(encrypted(&format!("{by_name}?sslmode={mode}")).await.unwrap(), "{mode}");
    }
    let by_number = server.url();
    assert!(encrypted(&format!("{by_number}?sslmode=verify-ca&{root}")).await.unwrap());
    for url in [format!("{by_number}?sslmode=verify-full&{root}"), format!("{by_name}?sslmode=verify-full")] {
        let refused = encrypted(&url).await.expect_err("it has not proved its name");
        assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
        assert!(refused.to_string().contains("certificate"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_ends_are_made_again() {
    let Some(mut server) = Postgres::start() else { return };
    let url = catalogs::with_schema(server.url());
    let slow_poll = PostgresOptions { poll: Duration::from_secs(3600), ..options() };
    let (writer, reader) =
        (PostgresCatalog::open(&url, options()).await.unwrap(), PostgresCatalog::open(&url, slow_poll).await.unwrap());
    put(&*writer, "a", 1).await;
    let mut connection = raw(&url).await;
    let ended: i64 = sqlx::query_scalar(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'millrace'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert!(ended >= 3, "{ended} connections, of two handles and those that hear of changes");
    put(&*writer, "a", 2).await;
    // Nobody polls: only a notification wakes the reader now, so it hears again.
    let woken = timeout(PATIENCE, async {
        loop {
            let listening: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'millrace' AND query LIKE 'LISTEN%'",
            )
            .fetch_one(&mut connection)
            .await
            .unwrap();
            if listening == 2 {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        let mut watch = reader.watch();
        while reader.revision().await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
        // What it looked at when it began to listen may still ring; only what comes later counts.
        sleep(Duration::from_millis(300)).await;
        watch.mark_unchanged();
        put(&*writer, "a", 3).await;
        watch.changed().await.unwrap();
    });
    woken.await.unwrap();
    server.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_that_start_at_once_make_one_schema() {
    let Some(url) = catalogs::url() else { return };
    let opens = (0..8).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { PostgresCatalog::open(&url, PostgresOptions::default()).await.unwrap() })
    });
    let catalogs: Vec<Arc<PostgresCatalog>> =
        futures::future::join_all(opens).await.into_iter().map(|opened| opened.unwrap()).collect();
    for (n, catalog) in (1..).zip(&catalogs) {
        assert_eq!(put(&**catalog, "a", n).await, Revision(n));
    }
    let mut connection = raw(&url).await;
    let applied: i64 =
        sqlx::query_scalar("SELECT count(*) FROM catalog_migrations").fetch_one(&mut connection).await.unwrap();
    assert_eq!(applied, 1);
}

#[tokio::test]
async fn a_schema_of_a_newer_version_is_refused() {
    let Some(url) = catalogs::url() else { return };
    PostgresCatalog::open(&url, options()).await.unwrap().close().await;
    let mut connection = raw(&url).await;
    connection.execute("INSERT INTO catalog_migrations VALUES (99, 'of tomorrow', 0)").await.unwrap();
    let refused = PostgresCatalog::open(&url, options()).await.expect_err("it is newer");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("newer version of Millrace"), "{refused}");
    let lazy = PostgresCatalog::open_lazy(&url, options()).unwrap();
    assert_eq!(lazy.healthy().await.expect_err("it is newer").kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn many_handles_that_open_one_file_at_once_make_one_schema() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    let opens = (0..8).map(|_| SqliteCatalog::open(&path, SqliteOptions::default()));
    let catalogs = futures::future::join_all(opens).await;
    for (n, catalog) in (1..).zip(catalogs) {
        assert_eq!(put(&*catalog.unwrap(), "a", n).await, Revision(n));
    }
}

#[tokio::test]
async fn a_file_is_for_its_owner_alone_and_must_be_a_catalog_of_this_version() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    let catalog = SqliteCatalog::open(&path, SqliteOptions::default()).await.unwrap();
    put(&*catalog, "a", 1).await;
    for suffix in ["", "-wal", "-shm"] {
        let file = folder.path().join(format!("catalog.db{suffix}"));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    let findings = catalog.check().await;
    assert!(findings.iter().all(|finding| finding.cure.is_none()), "{findings:?}");
    catalog.close().await;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let catalog = SqliteCatalog::open(&path, SqliteOptions::default()).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    catalog.close().await;
    let url = format!("sqlite://{}", path.display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    connection.execute("INSERT INTO catalog_migrations VALUES (99, 'of tomorrow', 0)").await.unwrap();
    let newer = SqliteCatalog::open(&path, SqliteOptions::default()).await.expect_err("it is newer");
    assert_eq!(newer.kind(), ErrorKind::Refused);
    assert!(newer.to_string().contains("upgrade this one"), "{newer}");
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "what somebody has noted, and is no database at all\n".repeat(100)).unwrap();
    let other = SqliteCatalog::open(&text, SqliteOptions::default()).await.expect_err("it is no database");
    assert_eq!(other.kind(), ErrorKind::Corrupt, "{other}");
    let nowhere = folder.path().join("none/catalog.db");
    let refused = SqliteCatalog::open(&nowhere, SqliteOptions::default()).await.expect_err("there is no folder");
    assert_eq!(refused.kind(), ErrorKind::Refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_process_holds_is_waited_for_and_then_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalog.db");
    let options = SqliteOptions { busy_timeout: Duration::from_millis(200), ..SqliteOptions::default() };
    let catalog = SqliteCatalog::open(&path, options).await.unwrap();
    put(&*catalog, "a", 1).await;
    let mut other = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    check_away("put", catalog.put(KIND, "a", &document(2), Expect::Any)).await;
    assert_eq!(catalog.get(KIND, "a").await.unwrap().unwrap().document, document(1), "readers do not wait");
    other.execute("COMMIT").await.unwrap();
    assert_eq!(put(&*catalog, "a", 3).await, Revision(2));
}
