//! The online store on Redis and on a cluster of three masters against its laws, and against the plainest store.

#![expect(clippy::unwrap_used, reason = "a set-up that fails ends the test")]

mod redis;

use std::time::Duration;

use bytes::Bytes;
use millrace_feature_store::online::conformance::{Store, at, content, insert, item, put, remove};
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::online::{Content, Version};
use millrace_feature_store::views::{
    AUTHOR_POSTS, FOLLOWING, POST, PROGRESS, REACTIONS, REACTIONS_MAX, USER, list, record,
};
use millrace_feature_store::{ListKey, OnlineStore, OnlineWrite, RecordKey, online_conformance};
use millrace_redis::RedisOptions;
use proptest::collection::vec;
use proptest::prelude::*;
use redis::{cluster, open, single};

/// A factory of empty stores on one server, or the test ends here.
macro_rules! on_single {
    () => {
        match single() {
            Some(url) => move || (open(&url) as Store, ()),
            None => return,
        }
    };
}

/// The same on the cluster.
macro_rules! on_cluster {
    () => {
        match cluster() {
            Some(url) => move || (open(&url) as Store, ()),
            None => return,
        }
    };
}

online_conformance!(on_one_server, on_single!());
online_conformance!(on_a_cluster, on_cluster!());

/// A write with its version drawn from a few, so that many meet.
fn any_write() -> impl Strategy<Value = OnlineWrite> {
    let key = (prop::sample::select(vec![POST, USER]), "[ab\0{}%]{1,2}").prop_map(|(view, id)| record(view, &id));
    let of =
        (prop::sample::select(vec![AUTHOR_POSTS, FOLLOWING]), "[a\0}]{1,2}").prop_map(|(view, id)| list(view, &id));
    let offset = prop_oneof![0..30_u64, Just(u64::from(u32::MAX)), Just(1 << 32), Just(u64::MAX)];
    let version = (0..2_u32, offset.clone()).prop_map(|(generation, offset)| Version { generation, offset });
    let score = prop_oneof![-3..3_i64, Just(i64::MIN), Just(i64::MAX), Just((1 << 53) + 1), Just(1 << 53)];
    prop_oneof![
        (key.clone(), any::<u8>(), version.clone()).prop_map(|(key, value, version)| OnlineWrite::Put {
            key,
            value: vec![value; usize::from(value)].into(),
            version
        }),
        (key, version.clone()).prop_map(|(key, version)| OnlineWrite::Delete { key, version }),
        (of.clone(), "[a-f]", score.clone(), version.clone()).prop_map(|(list, member, score, version)| {
            OnlineWrite::Insert { list, item: item(score, &member), version }
        }),
        (of, "[a-f]", version).prop_map(|(list, member, version)| remove(&list, &member, version)),
        ("[a-c]", score, 0..400_u64, offset).prop_map(|(id, score, member, offset)| insert(
            &list(REACTIONS, &id),
            score,
            &format!("m{member}"),
            at(offset)
        )),
    ]
}

fn keys_of(batches: &[Vec<OnlineWrite>]) -> (Vec<RecordKey>, Vec<ListKey>) {
    let mut records = vec![record(PROGRESS, "never")];
    let mut lists = vec![list(FOLLOWING, "never")];
    for write in batches.iter().flatten() {
        match write {
            OnlineWrite::Put { key, .. } | OnlineWrite::Delete { key, .. } => records.push(key.clone()),
            OnlineWrite::Insert { list, .. } | OnlineWrite::Remove { list, .. } => lists.push(list.clone()),
        }
    }
    (records, lists)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn check_equal(store: &dyn OnlineStore, toy: &ToyStore, records: &[RecordKey], lists: &[ListKey]) {
    assert_eq!(store.get(records).await.unwrap(), toy.get(records).await.unwrap());
    for limit in [1, 4, 300] {
        assert_eq!(store.heads(lists, limit).await.unwrap(), toy.heads(lists, limit).await.unwrap());
    }
}

fn check_equals_toy(url: Option<String>, batches: Vec<Vec<OnlineWrite>>, limit: usize) {
    let Some(url) = url else { return };
    block_on(async {
        let store = open(&url);
        let toy = ToyStore::new();
        let (records, lists) = keys_of(&batches);
        for (step, batch) in batches.iter().enumerate() {
            store.write(batch.clone()).await.unwrap();
            toy.write(batch.clone()).await.unwrap();
            if step % 3 == 0 {
                check_equal(&*store, &toy, &records, &lists).await;
            }
        }
        assert_eq!(content(&*store, limit).await, toy.content());
        for batch in batches.iter().rev() {
            store.write(batch.clone()).await.unwrap();
        }
        assert_eq!(content(&*store, 1_000).await, toy.content(), "repetition changes nothing");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn one_server_equals_toy(batches in vec(vec(any_write(), 0..60), 1..12), limit in 1..20_usize) {
        check_equals_toy(single(), batches, limit);
    }

    #[test]
    fn a_cluster_equals_toy(batches in vec(vec(any_write(), 0..60), 1..8), limit in 1..20_usize) {
        check_equals_toy(cluster(), batches, limit);
    }

    #[test]
    fn bounded_lists_do_not_depend_on_trims(
        inserts in vec((0..2_000_i64, 0..600_u64), 300..2_000),
        cuts in (1..200_usize, 1..200_usize),
    ) {
        let Some(url) = single() else { return Ok(()) };
        let of = list(REACTIONS, "viewer");
        let insert = |i: usize, (score, member): (i64, u64)| insert(&of, score, &format!("m{member}"), at(i as u64));
        let inserts: Vec<_> = inserts.into_iter().enumerate().map(|(i, drawn)| insert(i, drawn)).collect();
        block_on(async {
            let toy = ToyStore::new();
            toy.write(inserts.clone()).await.unwrap();
            let store = open(&url);
            for batch in inserts.chunks(cuts.0) {
                store.write(batch.to_vec()).await.unwrap();
            }
            assert_eq!(content(&*store, 100).await, toy.content());
            for batch in inserts.chunks(cuts.1).rev() {
                store.write(batch.to_vec()).await.unwrap();
            }
            assert_eq!(content(&*store, 100).await, toy.content(), "repetition changes nothing");
        });
    }
}

/// Two processes that write the same keys, and readers meanwhile.
async fn check_races(url: Option<String>) {
    let Some(url) = url else { return };
    let options = redis::options();
    let (first, second) = (redis::open_with(&url, &options), redis::open_with(&url, &options));
    let of = list(FOLLOWING, "u");
    let keys: Vec<RecordKey> = (0..40).map(|i| record(POST, &format!("p{i}"))).collect();
    let writes = |writer: u64| (0..150).map(move |i| ((i * 7 + writer * 3) % 151, (i * 13 + writer) % 40));
    let batch = |keys: &[RecordKey], of: &ListKey, version: u64, key: u64| {
        let text = format!("v{version}");
        vec![
            put(&keys[key as usize], &text, at(version)),
            insert(of, version as i64, &format!("m{key}"), at(version)),
            insert(&list(REACTIONS, "u"), version as i64, &format!("m{key}"), at(version)),
        ]
    };
    let mut tasks = Vec::new();
    for writer in 0..4 {
        let store = if writer % 2 == 0 { first.clone() } else { second.clone() };
        let (of, keys) = (of.clone(), keys.clone());
        tasks.push(tokio::spawn(async move {
            for (version, key) in writes(writer) {
                store.write(batch(&keys, &of, version, key)).await.unwrap();
                let seen = store.heads(std::slice::from_ref(&of), 100).await.unwrap();
                let place = seen[0].iter().find(|item| item.member == format!("m{key}").as_bytes());
                assert!(place.is_some_and(|item| item.score >= version as i64), "what was answered is seen");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let toy = ToyStore::new();
    for (version, key) in (0..4).flat_map(writes) {
        toy.write(batch(&keys, &of, version, key)).await.unwrap();
    }
    for store in [first, second] {
        assert_eq!(content(&*store, 10).await, toy.content());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn races_leave_the_newest_versions_on_one_server() {
    check_races(single()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn races_leave_the_newest_versions_in_a_cluster() {
    check_races(cluster()).await;
}

#[tokio::test]
async fn large_batches_and_long_lists_are_taken() {
    for url in [single(), cluster()].into_iter().flatten() {
        let store = open(&url);
        let of = list(FOLLOWING, "u");
        let large = "x".repeat(300_000);
        let puts = (0..5_000).map(|i| put(&record(POST, &format!("p{i}")), "v", at(1)));
        let large_puts = (0..10).map(|i| put(&record(USER, &format!("u{i}")), &large, at(1)));
        let inserts = (0..12_000).map(|i| insert(&of, i % 100, &format!("m{i:05}"), at(1)));
        store.write(puts.chain(large_puts).chain(inserts).collect()).await.unwrap();
        let heads = store.heads(std::slice::from_ref(&of), usize::MAX).await.unwrap();
        assert_eq!(heads[0].len(), 12_000);
        let found = content(&*store, 1_024).await;
        assert_eq!(found.len(), 5_000 + 10 + 12_000);
        assert!(found.is_sorted_by(|a, b| a.cmp_key(b).is_lt()));
    }
}

#[tokio::test]
async fn a_scan_goes_on_where_the_last_page_ended_and_sees_writes_when_it_does_not() {
    let Some(url) = single() else { return };
    let store = open(&url);
    let keys: Vec<RecordKey> = (0..10).map(|i| record(POST, &format!("p{i}"))).collect();
    store.write(keys.iter().step_by(2).map(|key| put(key, "v", at(1))).collect()).await.unwrap();
    let first = store.scan(None, 2).await.unwrap();
    store.write(keys.iter().map(|key| put(key, "w", at(2))).collect()).await.unwrap();
    let again = store.scan(None, 100).await.unwrap();
    assert_eq!(again.len(), 10, "a scan from the beginning sees what is new");
    let rest = store.scan(first.last(), 100).await.unwrap();
    assert_eq!(rest.len(), 7, "and so does one that begins elsewhere");
    assert!(matches!(&rest[0], Content::Record(key, value) if *key == keys[3] && value == "w"));
}

#[tokio::test]
async fn a_bounded_list_stays_short_in_redis() {
    let Some(server) = redis::own(&[]) else { return };
    let store = open(&server.url());
    let of = list(REACTIONS, "viewer");
    for some in (0..4 * REACTIONS_MAX as i64).collect::<Vec<_>>().chunks(100) {
        let inserts = some.iter().map(|i| insert(&of, *i, &format!("m{i}"), at(*i as u64)));
        store.write(inserts.collect()).await.unwrap();
    }
    let keys = server.command(&["KEYS", "*37:viewer*"]);
    for key in keys.lines() {
        let kind = server.command(&["TYPE", key]);
        let len = server.command(&[if kind.trim() == "hash" { "HLEN" } else { "ZCARD" }, key]);
        assert_eq!(len.trim(), REACTIONS_MAX.to_string(), "{key}");
    }
    assert_eq!(keys.lines().count(), 2, "{keys}");
}

/// How often a server has found something to read on any connection.
fn reads_of(server: &millrace_engines::redis::Redis) -> u64 {
    let stats = server.command(&["INFO", "stats"]);
    let reads = stats.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
    reads.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn many_keys_are_one_round_trip() {
    let Some(server) = redis::own(&[]) else { return };
    let options = RedisOptions { heartbeat: Duration::from_secs(60), ..redis::options() };
    let store = redis::open_with(&server.url(), &options);
    let keys: Vec<RecordKey> = (0..100).map(|i| record(POST, &format!("p{i}"))).collect();
    let lists: Vec<ListKey> = (0..100).map(|i| list(FOLLOWING, &format!("u{i}"))).collect();
    store.connect().await.unwrap();
    let before = reads_of(&server);
    for round in 0..50 {
        let puts = keys.iter().map(|key| put(key, "v", at(round)));
        store.write(puts.chain(lists.iter().map(|of| insert(of, 1, "m", at(round)))).collect()).await.unwrap();
        store.get(&keys).await.unwrap();
        store.heads(&lists, 5).await.unwrap();
    }
    let reads = reads_of(&server) - before;
    // A write is longer than what the server reads at once.
    assert!((150..300).contains(&reads), "{reads} reads for 50 writes, 50 gets and 50 heads of 100 keys");
}

#[tokio::test]
async fn the_empty_value_is_a_value() {
    let Some(url) = single() else { return };
    let store = open(&url);
    let key = record(POST, "p");
    store.write(vec![put(&key, "", at(1))]).await.unwrap();
    assert_eq!(store.get(&[key]).await.unwrap(), [Some(Bytes::new())]);
}
