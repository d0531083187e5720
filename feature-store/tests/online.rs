//! Every backend of the online store against its laws, and the embedded one against the plainest.

#![expect(clippy::unwrap_used, reason = "a set-up that fails ends the test")]

use std::sync::Arc;

use bytes::Bytes;
use millrace_embedded::{Batch, Durability, Embedded, Options};
use millrace_feature_store::online::conformance::{Store, at, content, delete, insert, item, put, remove};
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::online::{ErrorKind, Version};
use millrace_feature_store::views::{
    AUTHOR_POSTS, FOLLOWING, POST, PROGRESS, REACTIONS, REACTIONS_MAX, USER, list, record,
};
use millrace_feature_store::{
    FjallOnlineOptions, FjallOnlineStore, ListKey, OnlineStore, OnlineWrite, RecordKey, online_conformance,
};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

fn toy() -> (Store, ()) {
    (Arc::new(ToyStore::new()), ())
}

fn fjall() -> (Store, TempDir) {
    let (store, _, dir) = embedded(FjallOnlineOptions::default());
    (store, dir)
}

/// Almost nothing fits into the caches, so that everything is evicted and loaded all the time.
fn fjall_small_cache() -> (Store, TempDir) {
    let (store, _, dir) = embedded(FjallOnlineOptions { cache_bytes: 4 * 1024 });
    (store, dir)
}

fn embedded(options: FjallOnlineOptions) -> (Arc<FjallOnlineStore>, Arc<Embedded>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(dir.path(), Options::default()).unwrap();
    (FjallOnlineStore::open(embedded.clone(), options).unwrap(), embedded, dir)
}

online_conformance!(on_toy, toy);
online_conformance!(on_fjall, fjall);
online_conformance!(on_fjall_small_cache, fjall_small_cache);

#[tokio::test]
async fn content_survives_sync_and_reopen() {
    let (store, embedded, dir) = embedded(FjallOnlineOptions::default());
    let of = list(FOLLOWING, "u");
    let batch = (0..500)
        .flat_map(|i| [put(&record(POST, &format!("p{i}")), "v", at(1)), insert(&of, i, &format!("m{i}"), at(1))]);
    store.write(batch.collect()).await.unwrap();
    store.write(vec![delete(&record(POST, "p1"), at(2)), remove(&of, "m1", at(2))]).await.unwrap();
    let before = content(&*store, 100).await;
    assert_eq!(before.len(), 998);

    embedded.sync().unwrap();
    embedded.reopen().unwrap();
    assert_eq!(content(&*store, 100).await, before, "after a reopen in the process");
    drop((store, embedded));
    let embedded = Embedded::open(dir.path(), Options::default()).unwrap();
    let store = FjallOnlineStore::open(embedded, FjallOnlineOptions::default()).unwrap();
    assert_eq!(content(&*store, 100).await, before, "after a start");
    store.write(vec![put(&record(POST, "p1"), "no", at(1)), insert(&of, 1, "m1", at(1))]).await.unwrap();
    assert_eq!(content(&*store, 100).await, before, "tombstones survive too");
}

#[tokio::test]
async fn a_reopen_forgets_what_was_not_durable() {
    let (store, embedded, _dir) = embedded(FjallOnlineOptions::default());
    let (key, of) = (record(POST, "p"), list(FOLLOWING, "u"));
    store.write(vec![put(&key, "v", at(7)), insert(&of, 1, "m", at(7))]).await.unwrap();
    assert_eq!(store.get(std::slice::from_ref(&key)).await.unwrap(), [Some(Bytes::from("v"))]);
    assert_eq!(store.heads(std::slice::from_ref(&of), 5).await.unwrap(), [[item(1, "m")]]);

    lose_everything(&embedded);
    embedded.reopen().unwrap();
    assert_eq!(store.get(std::slice::from_ref(&key)).await.unwrap(), [None], "the cache is as forgetful as the disk");
    assert_eq!(
        store.heads(std::slice::from_ref(&of), 5).await.unwrap()[0],
        [],
        "the cache is as forgetful as the disk"
    );
    store.write(vec![put(&key, "again", at(7)), insert(&of, 2, "m", at(7))]).await.unwrap();
    assert_eq!(store.get(&[key]).await.unwrap(), [Some(Bytes::from("again"))], "and so are versions");
    assert_eq!(store.heads(&[of], 5).await.unwrap(), [[item(2, "m")]]);
}

/// What the store keeps about newest versions must be as true on disk as in memory: the next start believes the disk.
#[track_caller]
fn check_after_start(embedded: Arc<Embedded>) {
    block_on(async {
        let store = FjallOnlineStore::open(embedded, FjallOnlineOptions::default()).unwrap();
        let key = record(POST, "p");
        store.write(vec![put(&key, "old", at(5))]).await.unwrap();
        assert_eq!(store.get(&[key]).await.unwrap(), [Some(Bytes::from("v"))], "an older version won");
    });
}

#[test]
fn a_write_that_failed_and_was_repeated_is_known_after_a_start() {
    let (store, embedded, _dir) = embedded(FjallOnlineOptions::default());
    block_on(async {
        let write = put(&record(POST, "p"), "v", at(7));
        // The lists cannot be written to, so the whole batch fails.
        embedded.drop_space("online/lists").unwrap();
        let failed = store.write(vec![write.clone(), insert(&list(FOLLOWING, "u"), 1, "m", at(7))]).await;
        assert_eq!(failed.map_err(|e| e.kind()), Err(ErrorKind::Retry));
        store.write(vec![write]).await.unwrap();
    });
    check_after_start(embedded);
}

#[test]
fn a_write_that_was_lost_and_repeated_is_known_after_a_start() {
    let (store, embedded, _dir) = embedded(FjallOnlineOptions::default());
    block_on(async {
        let write = put(&record(POST, "p"), "v", at(7));
        store.write(vec![write.clone()]).await.unwrap();
        lose_everything(&embedded);
        embedded.reopen().unwrap();
        // A reader is the first to notice.
        assert_eq!(store.get(&[record(POST, "p")]).await.unwrap(), [None]);
        store.write(vec![write]).await.unwrap();
    });
    check_after_start(embedded);
}

#[test]
fn a_write_to_a_cached_record_is_known_after_a_start() {
    let (store, embedded, _dir) = embedded(FjallOnlineOptions::default());
    block_on(async {
        let key = record(POST, "p");
        assert_eq!(store.get(std::slice::from_ref(&key)).await.unwrap(), [None]);
        store.write(vec![put(&key, "v", at(7))]).await.unwrap();
    });
    check_after_start(embedded);
}

/// As if nothing had ever been durable.
fn lose_everything(embedded: &Arc<Embedded>) {
    for name in ["online/records", "online/members", "online/lists"] {
        let space = embedded.space(name).unwrap();
        let mut lost = Batch::default();
        for (found, _) in space.prefix(&[], 10).unwrap() {
            lost.delete(&space, found);
        }
        embedded.write(lost, Durability::Synced).unwrap();
    }
}

#[tokio::test]
async fn bounded_lists_stay_short_on_disk() {
    let (store, embedded, _dir) = embedded(FjallOnlineOptions::default());
    let of = list(REACTIONS, "viewer");
    let n = 20 * REACTIONS_MAX as i64;
    for i in 0..n {
        store.write(vec![insert(&of, i, &format!("m{i}"), at(i as u64))]).await.unwrap();
    }
    let stored = embedded.space("online/lists").unwrap().prefix(&[], n as usize).unwrap().len();
    assert!((REACTIONS_MAX..10 * REACTIONS_MAX).contains(&stored), "{stored} items after {n} inserts");
    assert_eq!(store.heads(&[of], n as usize).await.unwrap()[0].len(), REACTIONS_MAX);
}

#[tokio::test]
async fn a_closed_database_says_retry() {
    let (store, embedded, _dir) = embedded(FjallOnlineOptions::default());
    embedded.drop_space("online/records").unwrap();
    let written = store.write(vec![put(&record(POST, "p"), "v", at(1))]).await;
    assert_eq!(written.map_err(|e| e.kind()), Err(ErrorKind::Retry));
    let read = store.get(&[record(POST, "p")]).await;
    assert_eq!(read.map_err(|e| e.kind()), Err(ErrorKind::Retry));
}

#[tokio::test]
async fn the_toy_fails_when_told_to() {
    let toy = ToyStore::new();
    let batch: Vec<_> = (0..10).map(|i| put(&record(POST, &format!("p{i}")), "v", at(1))).collect();
    toy.fail_next(2);
    for (applied, kind) in [(10, Err(ErrorKind::Retry)), (5, Err(ErrorKind::Retry)), (10, Ok(()))] {
        let store = toy.snapshot();
        assert_eq!(store.write(batch.clone()).await.map_err(|e| e.kind()), kind);
        assert_eq!(store.content().len(), applied);
        toy.fail_next(usize::from(applied == 10 && kind.is_err()));
    }
}

/// Writers that race for the same keys, and readers that fill the caches meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn races_leave_the_newest_versions() {
    let (store, _embedded, _dir) = embedded(FjallOnlineOptions { cache_bytes: 64 * 1024 });
    let of = list(FOLLOWING, "u");
    let keys: Vec<RecordKey> = (0..40).map(|i| record(POST, &format!("p{i}"))).collect();
    let writes = |writer: u64| {
        (0..300).map(move |i| {
            let version = (i * 7 + writer * 3) % 301;
            let key = (i * 13 + writer) % 40;
            (version, key)
        })
    };
    let mut tasks = Vec::new();
    for writer in 0..4 {
        let (store, of, keys) = (store.clone(), of.clone(), keys.clone());
        tasks.push(tokio::spawn(async move {
            for (version, key) in writes(writer) {
                let text = format!("v{version}");
                let batch = vec![
                    put(&keys[key as usize], &text, at(version)),
                    insert(&of, version as i64, &format!("m{key}"), at(version)),
                ];
                store.write(batch).await.unwrap();
            }
        }));
    }
    for limit in [3, 30] {
        let (store, of, keys) = (store.clone(), of.clone(), keys.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..500 {
                store.get(&keys).await.unwrap();
                store.heads(std::slice::from_ref(&of), limit).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }

    let toy = ToyStore::new();
    for (version, key) in (0..4).flat_map(writes) {
        let text = format!("v{version}");
        let batch = vec![
            put(&keys[key as usize], &text, at(version)),
            insert(&of, version as i64, &format!("m{key}"), at(version)),
        ];
        toy.write(batch).await.unwrap();
    }
    for _ in 0..2 {
        assert_eq!(store.get(&keys).await.unwrap(), toy.get(&keys).await.unwrap());
        for limit in [3, 30, 100] {
            let lists = std::slice::from_ref(&of);
            assert_eq!(store.heads(lists, limit).await.unwrap(), toy.heads(lists, limit).await.unwrap());
        }
        store.clear_cache();
    }
    assert_eq!(content(&*store, 10).await, toy.content());
}

/// Readers that ask for records and lists while these are written for the first time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn races_leave_nothing_old_in_the_caches() {
    let (store, _embedded, _dir) = embedded(FjallOnlineOptions::default());
    for round in 0..40_u64 {
        let keys: Vec<_> = (0..400).map(|i| record(POST, &format!("p{round}-{i}"))).collect();
        let lists: Vec<_> = (0..50).map(|i| list(FOLLOWING, &format!("u{round}-{i}"))).collect();
        let puts = keys.iter().map(|key| put(key, "there", at(round)));
        let batch = puts.chain(lists.iter().map(|of| insert(of, 1, "m", at(round)))).collect();
        let writer = tokio::spawn({
            let store = store.clone();
            async move { store.write(batch).await.unwrap() }
        });
        while !writer.is_finished() {
            store.get(&keys).await.unwrap();
            store.heads(&lists, 5).await.unwrap();
        }
        writer.await.unwrap();
        let values = store.get(&keys).await.unwrap();
        assert!(values.iter().all(Option::is_some), "a record is missing in round {round}");
        let heads = store.heads(&lists, 5).await.unwrap();
        assert!(heads.iter().all(|head| head.len() == 1), "a list is empty in round {round}");
    }
}

/// A write with its version drawn from a few, so that many meet.
fn any_write() -> impl Strategy<Value = OnlineWrite> {
    let key = (prop::sample::select(vec![POST, USER]), "[ab\0]{1,2}").prop_map(|(view, id)| record(view, &id));
    let of = (prop::sample::select(vec![AUTHOR_POSTS, FOLLOWING]), "[a\0]{1,2}").prop_map(|(view, id)| list(view, &id));
    let version = (0..2_u32, 0..30_u64).prop_map(|(generation, offset)| Version { generation, offset });
    prop_oneof![
        (key.clone(), any::<u8>(), version.clone()).prop_map(|(key, value, version)| OnlineWrite::Put {
            key,
            value: vec![value; usize::from(value)].into(),
            version
        }),
        (key, version.clone()).prop_map(|(key, version)| OnlineWrite::Delete { key, version }),
        (of.clone(), "[a-f]", -3..3_i64, version.clone()).prop_map(|(list, member, score, version)| {
            OnlineWrite::Insert { list, item: item(score, &member), version }
        }),
        (of, "[a-f]", version).prop_map(|(list, member, version)| remove(&list, &member, version)),
        ("[a-c]", 0..40_i64, 0..30_u64, 0..30_u64).prop_map(|(id, score, member, offset)| insert(
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn fjall_equals_toy(batches in vec(vec(any_write(), 0..60), 1..12), limit in 1..20_usize, small in any::<bool>()) {
        block_on(async {
            let cache_bytes = if small { 2 * 1024 } else { 1024 * 1024 };
            let (store, _embedded, _dir) = embedded(FjallOnlineOptions { cache_bytes });
            let toy = ToyStore::new();
            let (records, lists) = keys_of(&batches);
            for (step, batch) in batches.into_iter().enumerate() {
                store.write(batch.clone()).await.unwrap();
                toy.write(batch).await.unwrap();
                // Not after every write, so that caches are also updated by several.
                if step % 3 != 0 {
                    continue;
                }
                assert_eq!(store.get(&records).await.unwrap(), toy.get(&records).await.unwrap());
                for limit in [1, 4, 300] {
                    assert_eq!(store.heads(&lists, limit).await.unwrap(), toy.heads(&lists, limit).await.unwrap());
                }
            }
            assert_eq!(content(&*store, limit).await, toy.content());
            store.clear_cache();
            assert_eq!(store.get(&records).await.unwrap(), toy.get(&records).await.unwrap());
        });
    }

    #[test]
    fn order_changes_nothing(
        writes in vec(any_write(), 0..80),
        swaps in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..80),
        cut in 1..20_usize,
    ) {
        // Versions of their own: two writes of one version are one write.
        let mut writes: Vec<OnlineWrite> = writes.into_iter().enumerate().map(|(i, write)| own_version(write, i)).collect();
        block_on(async {
            let toy = ToyStore::new();
            toy.write(writes.clone()).await.unwrap();
            if !writes.is_empty() {
                for (a, b) in &swaps {
                    let (a, b) = (a.index(writes.len()), b.index(writes.len()));
                    writes.swap(a, b);
                }
            }
            let (store, _embedded, _dir) = embedded(FjallOnlineOptions::default());
            let other = ToyStore::new();
            for batch in writes.chunks(cut) {
                store.write(batch.to_vec()).await.unwrap();
                other.write(batch.to_vec()).await.unwrap();
            }
            assert_eq!(other.content(), toy.content());
            assert_eq!(content(&*store, cut).await, toy.content());
            for batch in writes.chunks(cut) {
                store.write(batch.to_vec()).await.unwrap();
            }
            assert_eq!(content(&*store, 1_000).await, toy.content(), "repetition changes nothing");
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn bounded_lists_do_not_depend_on_trims(
        inserts in vec((0..2_000_i64, 0..600_u64), 300..2_000),
        cuts in (1..200_usize, 1..200_usize),
    ) {
        let of = list(REACTIONS, "viewer");
        let insert = |i: usize, (score, member): (i64, u64)| insert(&of, score, &format!("m{member}"), at(i as u64));
        let inserts: Vec<_> = inserts.into_iter().enumerate().map(|(i, drawn)| insert(i, drawn)).collect();
        block_on(async {
            let toy = ToyStore::new();
            toy.write(inserts.clone()).await.unwrap();
            let (store, _embedded, _dir) = embedded(FjallOnlineOptions::default());
            let lists = std::slice::from_ref(&of);
            for batch in inserts.chunks(cuts.0) {
                store.write(batch.to_vec()).await.unwrap();
                store.heads(lists, 10).await.unwrap();
            }
            assert_eq!(content(&*store, 100).await, toy.content());
            for batch in inserts.chunks(cuts.1).rev() {
                store.write(batch.to_vec()).await.unwrap();
            }
            assert_eq!(content(&*store, 100).await, toy.content(), "repetition changes nothing");
            assert_eq!(store.heads(lists, 300).await.unwrap(), toy.heads(lists, 300).await.unwrap());
        });
    }
}

fn own_version(write: OnlineWrite, i: usize) -> OnlineWrite {
    let own = |version: Version| Version { offset: version.offset * 100 + i as u64, ..version };
    match write {
        OnlineWrite::Put { key, value, version } => OnlineWrite::Put { key, value, version: own(version) },
        OnlineWrite::Delete { key, version } => OnlineWrite::Delete { key, version: own(version) },
        OnlineWrite::Insert { list, item, version } => OnlineWrite::Insert { list, item, version: own(version) },
        OnlineWrite::Remove { list, member, version } => OnlineWrite::Remove { list, member, version: own(version) },
    }
}
