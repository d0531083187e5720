//! What the online store does when one server of Redis goes away, forgets, hangs or refuses.

#![expect(clippy::unwrap_used, reason = "a set-up that fails ends the test")]

mod redis;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millrace_engines::redis::Redis;
use millrace_feature_store::online::conformance::{at, content, delete, insert, item, put, remove};
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::online::{Error, ErrorKind};
use millrace_feature_store::views::{FOLLOWING, POST, REACTIONS, list, record};
use millrace_feature_store::{OnlineStore, OnlineWrite, RecordKey};
use millrace_redis::{Level, RedisOnlineStore, RedisOptions, State};
use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

fn post(i: u64) -> RecordKey {
    record(POST, &format!("p{i}"))
}

/// What a job writes for the record at this offset.
fn writes_at(offset: u64) -> Vec<OnlineWrite> {
    let (user, member) = (list(FOLLOWING, &format!("u{}", offset % 7)), format!("m{}", offset % 31));
    let key = post(offset % 50);
    vec![
        if offset.is_multiple_of(11) { delete(&key, at(offset)) } else { put(&key, &format!("v{offset}"), at(offset)) },
        if offset.is_multiple_of(5) {
            remove(&user, &member, at(offset))
        } else {
            insert(&user, (offset % 13) as i64, &member, at(offset))
        },
        insert(&list(REACTIONS, "viewer"), offset as i64, &format!("r{}", offset % 400), at(offset)),
    ]
}

/// What a store holds that was given these offsets and lost nothing.
async fn clean_run(offsets: impl IntoIterator<Item = u64>) -> ToyStore {
    let toy = ToyStore::new();
    for offset in offsets {
        toy.write(writes_at(offset)).await.unwrap();
    }
    toy
}

/// Writes as a worker does: what fails is repeated until it does not.
async fn write(store: &RedisOnlineStore, offset: u64) {
    let until = Instant::now() + PATIENCE;
    while let Err(error) = store.write(writes_at(offset)).await {
        assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
        assert!(Instant::now() < until, "still refused: {error}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn wait_until(store: &RedisOnlineStore, what: &str, wanted: impl Fn(&State) -> bool) {
    let mut watch = store.watch();
    let came = timeout(PATIENCE, watch.wait_for(wanted)).await;
    assert!(came.is_ok(), "{what}: {:?}", store.state());
}

/// A store that somebody has filled up to this offset.
async fn filled(server: &Redis, options: &RedisOptions, to: u64) -> Arc<RedisOnlineStore> {
    let store = redis::open_with(&server.url(), options);
    assert!(store.connect().await.unwrap().lost, "nobody has filled it yet");
    let rebuild = store.begin_rebuild().await.unwrap();
    for offset in 0..to {
        write(&store, offset).await;
    }
    assert!(store.finish_rebuild(&rebuild).await.unwrap());
    assert!(!store.state().lost);
    store
}

#[track_caller]
fn check_error<T: std::fmt::Debug>(done: Result<T, Error>, kind: ErrorKind, cure: &str) {
    let error = done.expect_err("it cannot be done");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(cure), "{error}");
}

#[tokio::test]
async fn what_a_killed_server_forgot_is_written_again_and_told() {
    let Some(mut server) = redis::own(&[]) else { return };
    let store = filled(&server, &redis::options(), 300).await;
    assert_eq!(store.state().losses, 0);
    server.kill();
    check_error(store.write(writes_at(300)).await, ErrorKind::Retry, "nobody listens there");
    check_error(store.get(&[post(1)]).await, ErrorKind::Retry, "nobody listens there");
    server.restart();
    write(&store, 300).await;
    assert_eq!(content(&*store, 100).await, clean_run(0..=300).await.content());
    let state = store.state();
    assert!(state.lost && state.losses == 1 && state.rewrites == 1, "{state:?}");
}

#[tokio::test]
async fn an_idle_store_notices_a_loss_too() {
    let Some(mut server) = redis::own(&[]) else { return };
    let store = filled(&server, &redis::options(), 100).await;
    server.kill();
    wait_until(&store, "the connection is gone", |state| !state.connected).await;
    server.restart();
    wait_until(&store, "the loss is told", |state| state.lost && state.connected).await;
    assert_eq!(content(&*store, 100).await, clean_run(0..100).await.content());

    let rebuild = store.begin_rebuild().await.unwrap();
    assert!(store.finish_rebuild(&rebuild).await.unwrap());
    server.command(&["FLUSHALL"]);
    wait_until(&store, "the flush is told", |state| state.lost && state.losses == 2).await;
    assert_eq!(content(&*store, 100).await, clean_run(0..100).await.content());
}

#[tokio::test]
async fn a_flush_under_a_writer_loses_nothing_of_the_last_minutes() {
    let Some(server) = redis::own(&[]) else { return };
    let options = RedisOptions { heartbeat: Duration::from_secs(60), ..redis::options() };
    let store = filled(&server, &options, 200).await;
    for offset in 200..1_000 {
        if offset % 200 == 100 {
            server.command(&["FLUSHALL"]);
        }
        write(&store, offset).await;
        let newest = store.get(&[post(offset % 50)]).await.unwrap();
        let want = (!offset.is_multiple_of(11)).then(|| Bytes::from(format!("v{offset}")));
        assert_eq!(newest, [want], "what was answered is seen");
    }
    assert_eq!(content(&*store, 100).await, clean_run(0..1_000).await.content());
    let state = store.state();
    assert!(
        state.lost && state.losses == 4 && state.rewrites == 4,
        "without the heart, by the writes alone: {state:?}"
    );
}

/// What is older than the writes remembered comes back from the log, while ingest goes on.
#[tokio::test]
async fn a_flushed_store_is_rebuilt_while_others_write() {
    let Some(server) = redis::own(&[]) else { return };
    let options = redis::options();
    // The process that filled it is gone, and with it what it remembered.
    drop(filled(&server, &options, 500).await);
    server.command(&["FLUSHALL"]);
    let live = redis::open_with(&server.url(), &options);
    assert!(live.connect().await.unwrap().lost, "whoever comes later is told too");
    let writer = tokio::spawn({
        let live = live.clone();
        async move {
            for offset in 500..900 {
                write(&live, offset).await;
            }
        }
    });
    let rebuilder = redis::open_with(&server.url(), &options);
    let rebuild = rebuilder.begin_rebuild().await.unwrap();
    for offset in 0..500 {
        write(&rebuilder, offset).await;
    }
    assert!(rebuilder.finish_rebuild(&rebuild).await.unwrap());
    writer.await.unwrap();
    assert_eq!(content(&*rebuilder, 100).await, clean_run(0..900).await.content());
    wait_until(&live, "the others are told that it is whole", |state| !state.lost).await;
    assert!(!redis::open_with(&server.url(), &options).connect().await.unwrap().lost, "and so is whoever comes later");
}

#[tokio::test]
async fn a_rebuild_during_which_more_was_lost_does_not_count() {
    let Some(server) = redis::own(&[]) else { return };
    let store = filled(&server, &redis::options(), 10).await;
    server.command(&["FLUSHALL"]);
    wait_until(&store, "the flush is told", |state| state.lost).await;
    let rebuild = store.begin_rebuild().await.unwrap();
    server.command(&["FLUSHALL"]);
    assert!(!store.finish_rebuild(&rebuild).await.unwrap());
    wait_until(&store, "the second flush is told", |state| state.losses == 2).await;
    assert!(!store.finish_rebuild(&rebuild).await.unwrap(), "also when the loss is known");
    assert!(store.state().lost);
    let rebuild = store.begin_rebuild().await.unwrap();
    assert!(store.finish_rebuild(&rebuild).await.unwrap());
    assert!(store.finish_rebuild(&rebuild).await.unwrap(), "repeating it is harmless");
}

#[tokio::test]
async fn a_server_that_takes_over_is_given_what_was_written_lately() {
    let Some(server) = redis::own(&[]) else { return };
    let Some(other) = redis::own(&[]) else { return };
    let store = filled(&server, &redis::options(), 100).await;
    // As if a replica that lagged took over: the same guards, old content, another id of replication.
    let before = server.command(&["INFO", "replication"]);
    let port = server.port.to_string();
    other.command(&["REPLICAOF", "127.0.0.1", &port]);
    wait_for_link(&other).await;
    other.command(&["REPLICAOF", "NO", "ONE"]);
    for offset in 100..200 {
        write(&store, offset).await;
    }
    server.command(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]);
    check_error(retried_until_demoted(&store).await, ErrorKind::Retry, "replica");
    wait_for_link(&server).await;
    server.command(&["REPLICAOF", "NO", "ONE"]);
    assert_ne!(server.command(&["INFO", "replication"]), before);
    write(&store, 200).await;
    assert_eq!(content(&*store, 100).await, clean_run(0..=200).await.content());
    let state = store.state();
    assert!(!state.lost && state.losses == 0 && state.rewrites >= 1, "{state:?}");
}

async fn retried_until_demoted(store: &RedisOnlineStore) -> Result<(), Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        let done = store.write(writes_at(150)).await;
        if done.is_err() || Instant::now() > until {
            return done;
        }
    }
}

#[tokio::test]
async fn a_new_id_of_replication_is_noticed_on_a_living_connection() {
    let Some(server) = redis::own(&["--enable-debug-command", "yes"]) else { return };
    let store = filled(&server, &redis::options(), 100).await;
    server.command(&["DEBUG", "CHANGE-REPL-ID"]);
    wait_until(&store, "the new id is noticed", |state| state.rewrites == 1).await;
    let state = store.state();
    assert!(!state.lost && state.losses == 0, "{state:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_costs_nothing_while_the_server_is_the_same() {
    let Some(server) = redis::own(&[]) else { return };
    let store = filled(&server, &redis::options(), 100).await;
    for _ in 0..5 {
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        store.write(writes_at(100)).await.unwrap();
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        store.get(&[post(1)]).await.unwrap();
    }
    let state = store.state();
    assert!(!state.lost && state.losses == 0 && state.rewrites == 0, "{state:?}");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_in_time() {
    let Some(server) = redis::own(&[]) else { return };
    let limit = Duration::from_millis(300);
    let options = RedisOptions { timeout: limit, connect_timeout: limit, ..redis::options() };
    let store = filled(&server, &options, 50).await;
    server.suspend();
    for _ in 0..3 {
        let begun = Instant::now();
        check_error(store.write(writes_at(50)).await, ErrorKind::Retry, "answer");
        check_error(store.get(&[post(1)]).await, ErrorKind::Retry, "answer");
        assert!(begun.elapsed() < limit * 8, "{:?} for two calls", begun.elapsed());
    }
    server.resume();
    write(&store, 50).await;
    assert_eq!(content(&*store, 100).await, clean_run(0..=50).await.content());
    assert!(!store.state().lost);
}

#[tokio::test]
async fn a_full_server_says_retry_and_how_to_help() {
    let Some(server) = redis::own(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]) else { return };
    let store = redis::open(&server.url());
    let large = "x".repeat(100_000);
    let mut done = Ok(());
    for i in 0..60 {
        done = store.write(vec![put(&post(i), &large, at(i))]).await;
        if done.is_err() {
            break;
        }
    }
    check_error(done, ErrorKind::Retry, "raise maxmemory");
    assert!(store.get(&[post(0)]).await.unwrap()[0].is_some(), "reading goes on");
    server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    assert!(store.get(&[post(0)]).await.unwrap()[0].is_some(), "also on a new connection");
    server.command(&["CONFIG", "SET", "maxmemory", "100mb"]);
    store.write(vec![put(&post(99), &large, at(1))]).await.unwrap();
}

#[tokio::test]
async fn what_is_not_ours_is_corrupt() {
    let Some(server) = redis::own(&[]) else { return };
    let options = RedisOptions { prefix: "mine:".to_owned(), ..redis::options() };
    let store = redis::open_with(&server.url(), &options);
    store.connect().await.unwrap();
    let (p, u, r) = (post(1), list(FOLLOWING, "u"), list(REACTIONS, "u"));
    for (command, what) in [
        (&["SET", "mine:r:1:p1", "short"][..], "a record without a header"),
        (&["SET", "mine:r:1:p1", "x34567890123456"], "a record with another flag"),
        (&["LPUSH", "mine:r:1:p1", "x"], "a record of another type"),
    ] {
        server.command(&["DEL", "mine:r:1:p1"]);
        server.command(command);
        let read = store.get(std::slice::from_ref(&p)).await;
        assert_eq!(read.map_err(|e| e.kind()), Err(ErrorKind::Corrupt), "{what}");
        if what != "a record with another flag" {
            check_error(store.write(vec![put(&p, "v", at(1))]).await, ErrorKind::Corrupt, "not written by us");
        }
    }
    server.command(&["ZADD", "mine:l:{33:u}", "0", "short"]);
    check_error(store.heads(std::slice::from_ref(&u), 5).await, ErrorKind::Corrupt, "prefix of our own");
    server.command(&["HSET", "mine:v:{33:u}", "m", "short"]);
    check_error(store.write(vec![insert(&u, 1, "m", at(1))]).await, ErrorKind::Corrupt, "not written by us");
    server.command(&["HSET", "mine:v:{37:u}", "m", "short"]);
    check_error(store.write(vec![insert(&r, 1, "m", at(1))]).await, ErrorKind::Corrupt, "not written by us");

    server.command(&["SET", "other:epoch:{3560}", "x"]);
    let keys = server.command(&["KEYS", "mine:epoch:*"]).trim().replace("mine:", "other:");
    server.command(&["SET", &keys, "x"]);
    let other = redis::open(&format!("{}?prefix=other:", server.url()));
    check_error(other.connect().await, ErrorKind::Corrupt, "prefix of our own");
}

#[tokio::test]
async fn scripts_that_redis_forgot_are_loaded_again() {
    let Some(server) = redis::own(&[]) else { return };
    let store = filled(&server, &redis::options(), 10).await;
    server.command(&["SCRIPT", "FLUSH"]);
    store.write(writes_at(10)).await.unwrap();
    assert_eq!(content(&*store, 100).await, clean_run(0..=10).await.content());
}

#[tokio::test]
async fn passwords_are_used_and_never_told() {
    let Some(server) = redis::own(&["--requirepass", "hush-hush"]) else { return };
    let with = |who: &str| format!("redis://{who}127.0.0.1:{}", server.port);
    let store = redis::open(&with(":hush-hush@"));
    store.write(writes_at(0)).await.unwrap();
    assert!(!format!("{store:?}").contains("hush"));
    for who in ["", ":hush-wrong@", "hush-user:hush-wrong@"] {
        let store = redis::open(&with(who));
        let error = store.write(writes_at(0)).await.expect_err("it has a password");
        let text = format!("{error} {error:?} {store:?} {:?}", store.check().await);
        assert!(!text.contains("hush"), "{text}");
        assert_eq!(error.kind(), ErrorKind::Retry);
        assert!(error.to_string().contains("correct them in the URL"), "{error}");
    }
}

#[tokio::test]
async fn a_replica_is_neither_written_nor_read() {
    let Some(master) = redis::own(&[]) else { return };
    let options = redis::options();
    let store = filled(&master, &options, 10).await;
    let Some(replica) = redis::own(&["--replicaof", "127.0.0.1", &master.port.to_string()]) else { return };
    wait_for_link(&replica).await;
    let other = redis::open_with(&replica.url(), &options);
    check_error(other.get(&[post(1)]).await, ErrorKind::Retry, "point the URL at the master");
    check_error(other.write(writes_at(1)).await, ErrorKind::Retry, "point the URL at the master");
    assert!(store.get(&[post(1)]).await.unwrap()[0].is_some());
}

/// Waits until a replica has all that its master has.
async fn wait_for_link(replica: &Redis) {
    let until = Instant::now() + PATIENCE;
    while !replica.command(&["INFO", "replication"]).contains("master_link_status:up") {
        assert!(Instant::now() < until, "the replica does not connect");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Several writers, while connections are cut, the server is flushed, killed and given another id of replication.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_happens_to_redis_recent_writes_are_there() {
    let Some(mut server) = redis::own(&["--enable-debug-command", "yes"]) else { return };
    let options = redis::options();
    let first = filled(&server, &options, 0).await;
    let second = redis::open_with(&server.url(), &options);
    let ended = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..4_u64 {
        let (store, ended) = (if writer < 2 { first.clone() } else { second.clone() }, ended.clone());
        writers.push(tokio::spawn(async move {
            let mut offsets = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                let offset = 4 * offsets.len() as u64 + writer;
                write(&store, offset).await;
                offsets.push(offset);
            }
            offsets
        }));
    }
    // A linear congruence: as good as chance, and the same each time.
    let mut drawn = 20_261_u64;
    for _ in 0..40 {
        drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        match (drawn >> 33) % 4 {
            0 => drop(server.command(&["FLUSHALL"])),
            1 => drop(server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])),
            2 => drop(server.command(&["DEBUG", "CHANGE-REPL-ID"])),
            _ => {
                server.kill();
                server.restart();
            }
        }
        sleep(Duration::from_millis((drawn >> 40) % 120)).await;
    }
    ended.store(true, Ordering::Relaxed);
    let toy = ToyStore::new();
    for writer in writers {
        for offset in writer.await.unwrap() {
            toy.write(writes_at(offset)).await.unwrap();
        }
    }
    // One of the two may not have noticed the last blow yet: a write each, and it has.
    for store in [&first, &second] {
        write(store, 0).await;
    }
    assert_eq!(content(&*first, 100).await, toy.content());
    assert!(first.state().lost && first.state().losses > 5, "{:?}", first.state());
}

/// The message about an ACL names what is needed.
#[tokio::test]
async fn a_user_needs_what_the_message_says() {
    let Some(server) = redis::own(&[]) else { return };
    let url = server.url().replace("://", "://feeds:hush@");
    let options = redis::options();
    let prefix = format!("~{}*", options.prefix);
    server.command(&["ACL", "SETUSER", "feeds", "on", ">hush", &prefix, "+@read"]);
    let store = redis::open_with(&url, &options);
    let error = store.write(writes_at(0)).await.expect_err("it may only read");
    let (_, granted) =
        error.to_string().split_once("grant it our prefix and ").map(|(a, b)| (a.len(), b.to_owned())).unwrap();
    let granted: Vec<&str> = granted.split(';').next().unwrap().split_whitespace().collect();
    assert!(granted.iter().all(|grant| grant.starts_with('+')), "{granted:?}");
    server.command(&[&["ACL", "SETUSER", "feeds"][..], &granted].concat());
    for offset in 0..50 {
        write(&store, offset).await;
    }
    assert_eq!(content(&*store, 100).await, clean_run(0..50).await.content());
    store.clear().await.unwrap();
    assert!(store.check().await.iter().all(|finding| finding.level < Level::Fault));
    let elsewhere = redis::open_with(&url, &redis::options());
    check_error(elsewhere.write(writes_at(0)).await, ErrorKind::Retry, "grant it our prefix");
}

#[tokio::test]
async fn a_server_that_is_none_of_a_cluster_says_so() {
    let Some(server) = redis::own(&[]) else { return };
    let store = redis::open(&format!("{}?cluster=true", server.url()));
    check_error(store.write(writes_at(0)).await, ErrorKind::Invalid, "begin the URL with redis://");
}

#[tokio::test]
async fn nobody_there_says_retry_at_once() {
    for url in ["redis://127.0.0.1:1", "redis-cluster://127.0.0.1:1"] {
        let store = redis::open(url);
        let begun = Instant::now();
        check_error(store.get(&[post(1)]).await, ErrorKind::Retry, "nobody listens there");
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert!(store.check().await.iter().any(|finding| finding.level == Level::Fault && finding.cure.is_some()));
    }
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let default = redis::options();
    for options in [
        RedisOptions { prefix: String::new(), ..default.clone() },
        RedisOptions { prefix: "a{b".to_owned(), ..default.clone() },
        RedisOptions { prefix: "a b".to_owned(), ..default.clone() },
        RedisOptions { prefix: "p".repeat(65), ..default.clone() },
        RedisOptions { timeout: Duration::ZERO, ..default.clone() },
        RedisOptions { heartbeat: Duration::ZERO, ..default.clone() },
        RedisOptions { recent: Duration::ZERO, ..default.clone() },
        RedisOptions { tombstones: Duration::from_secs(10), ..default.clone() },
        RedisOptions { tombstones: Duration::MAX, ..default },
    ] {
        check_error(RedisOnlineStore::open("redis://localhost", options), ErrorKind::Invalid, "cannot open");
    }
}

#[tokio::test]
async fn a_check_finds_what_will_hurt() {
    let Some(server) = redis::own(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]) else { return };
    let store = redis::open(&server.url());
    let findings = store.check().await;
    let level = |what: &str| {
        let found: Vec<_> = findings.iter().filter(|finding| finding.what.contains(what)).collect();
        assert_eq!(found.len(), 1, "{what}: {findings:?}");
        assert_eq!(found[0].cure.is_some(), found[0].level > Level::Fine);
        found[0].level
    };
    assert_eq!(level("version 7."), Level::Fine);
    assert_eq!(level("maxmemory-policy allkeys-lru"), Level::Fault);
    assert_eq!(level("of its maxmemory"), Level::Fine);
    assert_eq!(level("keeps nothing on disk"), Level::Warning);
    assert_eq!(level("has no replica"), Level::Warning);
    assert_eq!(level("is not whole"), Level::Warning);
}

#[tokio::test]
async fn tombstones_go_one_day_and_not_before() {
    let Some(server) = redis::own(&[]) else { return };
    let second = Duration::from_secs(1);
    let options = RedisOptions { recent: second, tombstones: second * 2, ..redis::options() };
    let store = redis::open_with(&server.url(), &options);
    let (key, of, gone) = (post(1), list(FOLLOWING, "u"), list(FOLLOWING, "gone"));
    let batch = vec![
        delete(&key, at(5)),
        insert(&of, 1, "stays", at(5)),
        remove(&of, "m", at(5)),
        insert(&gone, 1, "m", at(4)),
        remove(&gone, "m", at(5)),
    ];
    store.write(batch).await.unwrap();
    store.write(vec![put(&key, "old", at(4)), insert(&of, 1, "m", at(4)), insert(&gone, 1, "m", at(4))]).await.unwrap();
    assert_eq!(content(&*store, 10).await.len(), 1, "what is older stays away");
    assert_eq!(server.command(&["DBSIZE"]).trim(), "7", "a guard, a tombstone, three keys of a list, two of the other");
    sleep(second * 4).await;
    store.write(vec![remove(&of, "other", at(6))]).await.unwrap();
    let graves = server.command(&["ZRANGE", &format!("{}t:{{33:u}}", options.prefix), "0", "-1"]);
    assert_eq!(graves.trim(), "other", "old tombstones go when new ones come");
    assert_eq!(server.command(&["DBSIZE"]).trim(), "4", "what is empty goes whole");
    store.write(vec![insert(&gone, 1, "m", at(7))]).await.unwrap();
    let ttl = server.command(&["TTL", &format!("{}v:{{33:gone}}", options.prefix)]);
    assert_eq!(ttl.trim(), "-1", "a list with items stays");

    // A member that came back has no tombstone to be forgotten with.
    store.write(vec![insert(&of, 1, "other", at(7))]).await.unwrap();
    sleep(second * 4).await;
    store.write(vec![remove(&of, "third", at(8))]).await.unwrap();
    store.write(vec![insert(&of, 2, "other", at(9)), insert(&of, 3, "other", at(6))]).await.unwrap();
    let members = store.heads(&[of], 10).await.unwrap().remove(0);
    assert_eq!(members, [item(2, "other"), item(1, "stays")]);
}

#[tokio::test]
async fn recent_writes_that_outgrow_their_room_are_told() {
    let Some(server) = redis::own(&[]) else { return };
    let options = RedisOptions { recent_bytes: 100_000, ..redis::options() };
    let store = redis::open_with(&server.url(), &options);
    store.write((0..200).map(|i| put(&post(i), &"x".repeat(100), at(i))).collect()).await.unwrap();
    assert!(!store.state().cut);
    for offset in 0..2_000 {
        write(&store, offset).await;
    }
    wait_until(&store, "it is told", |state| state.cut).await;
    assert!(store.check().await.iter().any(|finding| finding.what.contains("outgrow")));
}

#[tokio::test]
async fn a_cleared_store_is_empty_and_lost() {
    let Some(server) = redis::own(&[]) else { return };
    let options = redis::options();
    let store = filled(&server, &options, 200).await;
    let beside = RedisOptions { prefix: "beside:".to_owned(), ..redis::options() };
    let beside = filled(&server, &beside, 50).await;
    store.clear().await.unwrap();
    assert_eq!(content(&*store, 10).await, []);
    assert!(store.state().lost);
    store.write(writes_at(1)).await.unwrap();
    assert_eq!(content(&*store, 10).await, clean_run(1..2).await.content(), "tombstones are gone too");
    assert_eq!(content(&*beside, 100).await, clean_run(0..50).await.content(), "what is beside it stays");
}
