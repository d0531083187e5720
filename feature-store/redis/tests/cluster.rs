//! What the online store does when a cluster changes under it.

#![expect(clippy::unwrap_used, reason = "a set-up that fails ends the test")]

mod redis;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millrace_engines::redis::RedisCluster;
use millrace_feature_store::online::conformance::{at, content, delete, insert, item, put, remove};
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::online::{Content, ErrorKind, Result};
use millrace_feature_store::views::{FOLLOWING, POST, REACTIONS, list, record};
use millrace_feature_store::{OnlineStore, OnlineWrite};
use millrace_redis::{Level, RedisOnlineStore, RedisOptions};
use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(40);

/// What a job writes for the record at this offset: to all servers.
fn writes_at(offset: u64) -> Vec<OnlineWrite> {
    let (user, member) = (list(FOLLOWING, &format!("u{}", offset % 37)), format!("m{}", offset % 31));
    vec![
        put(&record(POST, &format!("p{}", offset % 500)), &format!("v{offset}"), at(offset)),
        if offset.is_multiple_of(5) {
            remove(&user, &member, at(offset))
        } else {
            insert(&user, (offset % 13) as i64, &member, at(offset))
        },
        insert(&list(REACTIONS, &format!("u{}", offset % 37)), offset as i64, &format!("r{offset}"), at(offset)),
    ]
}

async fn check_is_clean_run(store: &RedisOnlineStore, offsets: u64) {
    let toy = ToyStore::new();
    for offset in 0..offsets {
        toy.write(writes_at(offset)).await.unwrap();
    }
    let until = Instant::now() + PATIENCE;
    let found = loop {
        // A walk says Retry while servers come back.
        match timeout(PATIENCE, walk(store)).await.unwrap() {
            Ok(found) => break found,
            Err(error) => assert!(Instant::now() < until && error.kind() == ErrorKind::Retry, "{error}"),
        }
        sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(found, toy.content());
}

async fn walk(store: &RedisOnlineStore) -> Result<Vec<Content>> {
    store.connect().await?;
    Ok(content(store, 1_000).await)
}

/// Writes as a worker does: what fails is repeated until it does not.
async fn write(store: &RedisOnlineStore, batch: Vec<OnlineWrite>) {
    let until = Instant::now() + PATIENCE;
    while let Err(error) = store.write(batch.clone()).await {
        assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
        assert!(Instant::now() < until, "still refused: {error}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn filled(cluster: &RedisCluster, offsets: u64) -> Arc<RedisOnlineStore> {
    let store = redis::open_with(&cluster.url(), &RedisOptions { recent_bytes: 1 << 30, ..redis::options() });
    let rebuild = store.begin_rebuild().await.unwrap();
    for offset in 0..offsets {
        write(&store, writes_at(offset)).await;
    }
    assert!(store.finish_rebuild(&rebuild).await.unwrap());
    assert!(!store.state().lost);
    store
}

#[tokio::test]
async fn a_replica_that_lagged_takes_over_and_nothing_is_missing() {
    let Some(mut cluster) = redis::own_cluster(1) else { return };
    let store = filled(&cluster, 500).await;
    let replica = replica_of(&cluster, 0);
    has_caught_up(&cluster, 0, replica).await;
    cluster.nodes[replica].suspend();
    // More than the sockets between the two hold: the rest is with the master alone, and goes with it.
    let large = "x".repeat(3_000_000);
    let mut large_ones = Vec::new();
    for i in 0..60 {
        let key = record(POST, &format!("large-{i}"));
        write(&store, vec![put(&key, &large, at(500))]).await;
        large_ones.push(key);
    }
    for offset in 500..600 {
        write(&store, writes_at(offset)).await;
    }
    cluster.nodes[0].kill();
    cluster.nodes[replica].resume();
    for offset in 600..900 {
        write(&store, writes_at(offset)).await;
    }
    assert!(cluster.nodes[replica].command(&["INFO", "replication"]).contains("role:master"), "the replica took over");
    let state = store.state();
    assert!(!state.lost && state.losses == 0 && state.rewrites >= 1, "{state:?}");
    for some in large_ones.chunks(10) {
        let found = store.get(some).await.unwrap();
        assert!(
            found.iter().all(|value| value.as_ref().is_some_and(|value| value.len() == large.len())),
            "one is missing"
        );
    }
    for key in &large_ones {
        write(&store, vec![delete(key, at(501))]).await;
    }
    check_is_clean_run(&store, 900).await;
}

/// Waits until a replica has as many keys as its master: one that takes over before its first copy has truly lost everything.
async fn has_caught_up(cluster: &RedisCluster, master: usize, replica: usize) {
    let size = |nth: usize| cluster.nodes[nth].command(&["DBSIZE"]);
    let caught_up = async {
        while size(replica) != size(master) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, caught_up).await.expect("a replica copies its master");
}

fn replica_of(cluster: &RedisCluster, master: usize) -> usize {
    let port = format!("master_port:{}", cluster.nodes[master].port);
    let found = (0..cluster.nodes.len()).find(|&i| {
        let info = cluster.nodes[i].command(&["INFO", "replication"]);
        info.lines().any(|line| line.trim() == port)
    });
    found.expect("each master has a replica")
}

#[tokio::test]
async fn a_master_that_comes_back_empty_is_filled_and_told() {
    let Some(mut cluster) = redis::own_cluster(0) else { return };
    let store = filled(&cluster, 1_000).await;
    cluster.nodes[1].kill();
    let refused = timeout(PATIENCE, store.write(writes_at(1_000).into_iter().chain(writes_at(1_001)).collect())).await;
    assert!(refused.is_ok(), "a call ends in time");
    cluster.nodes[1].restart();
    for offset in 1_000..1_200 {
        write(&store, writes_at(offset)).await;
    }
    check_is_clean_run(&store, 1_200).await;
    let state = store.state();
    assert!(state.lost && state.losses == 1 && state.rewrites == 1, "{state:?}");
}

#[tokio::test]
async fn a_flush_of_one_master_is_noticed_by_the_next_write() {
    let Some(cluster) = redis::own_cluster(0) else { return };
    let store = filled(&cluster, 1_000).await;
    cluster.nodes[2].command(&["FLUSHALL"]);
    for offset in 1_000..1_050 {
        write(&store, writes_at(offset)).await;
    }
    check_is_clean_run(&store, 1_050).await;
    let state = store.state();
    assert!(state.lost && state.losses == 1 && state.rewrites == 1, "{state:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_move_under_readers_and_writers() {
    let Some(cluster) = redis::own_cluster(0) else { return };
    let store = filled(&cluster, 1_000).await;
    let moved = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, moved) = (store.clone(), moved.clone());
        async move {
            let mut offset = 1_000;
            while !moved.load(Ordering::Relaxed) || offset < 1_200 {
                write(&store, writes_at(offset)).await;
                let written = record(POST, &format!("p{}", offset % 500));
                let found = store.get(&[written]).await;
                let Ok(found) = found else { continue };
                assert_eq!(found[0].as_deref(), Some(format!("v{offset}").as_bytes()), "what was answered is seen");
                offset += 1;
            }
            offset
        }
    });
    let cluster = Arc::new(cluster);
    let reshard = tokio::task::spawn_blocking({
        let cluster = cluster.clone();
        move || {
            let ids: Vec<String> =
                cluster.nodes.iter().map(|node| node.command(&["CLUSTER", "MYID"]).trim().to_owned()).collect();
            let (first, slots) = (format!("127.0.0.1:{}", cluster.nodes[0].port), "1200");
            let arguments = ["--cluster", "reshard", &first, "--cluster-from", &ids[0], "--cluster-to", &ids[1]];
            cluster.nodes[0].command(&[&arguments[..], &["--cluster-slots", slots, "--cluster-yes"]].concat())
        }
    });
    let told = reshard.await.unwrap();
    moved.store(true, Ordering::Relaxed);
    let offsets = writer.await.unwrap();
    let slots = cluster.nodes[1].command(&["CLUSTER", "NODES"]);
    let own = slots.lines().find(|line| line.contains("myself")).unwrap();
    let ranges: BTreeSet<&str> = own.split_whitespace().skip(8).collect();
    assert!(ranges.len() >= 2, "slots have moved: {own}\n{told}");
    check_is_clean_run(&store, offsets).await;
    let state = store.state();
    assert!(!state.lost && state.losses == 0, "{state:?}");
    let findings = store.check().await;
    assert!(findings.iter().all(|finding| finding.level < Level::Fault), "{findings:?}");
    assert!(findings.iter().any(|finding| finding.what == "3 masters have all slots"), "{findings:?}");
}

#[tokio::test]
async fn keys_that_have_moved_already_are_asked_for_where_they_are() {
    let Some(cluster) = redis::own_cluster(0) else { return };
    let options = redis::options();
    let store = redis::open_with(&cluster.url(), &options);
    store.connect().await.unwrap();
    let (key, of) = (record(POST, "p"), list(FOLLOWING, "u"));
    let mut moving = Vec::new();
    for name in [format!("{}r:1:p", options.prefix), format!("{}l:{{33:u}}", options.prefix)] {
        let slot = cluster.nodes[0].command(&["CLUSTER", "KEYSLOT", &name]).trim().to_owned();
        let owner = slot.parse::<usize>().unwrap() / 5_462;
        let to = (owner + 1) % 3;
        let id = |node: usize| cluster.nodes[node].command(&["CLUSTER", "MYID"]).trim().to_owned();
        let told = cluster.nodes[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(owner)]);
        assert_eq!(told.trim(), "OK", "{name} is in slot {slot}");
        let told = cluster.nodes[owner].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
        assert_eq!(told.trim(), "OK");
        moving.push((slot, id(to)));
    }
    // Nothing of them is with the owners of their slots any more, so it goes to the others, at once.
    assert_eq!(store.get(std::slice::from_ref(&key)).await.unwrap(), [None]);
    store.write(vec![put(&key, "v", at(1))]).await.unwrap();
    assert_eq!(store.get(std::slice::from_ref(&key)).await.unwrap(), [Some(Bytes::from("v"))]);
    // Redis lets nobody touch keys together while some of them may be on either side.
    let refused = store.write(vec![insert(&of, 1, "m", at(1))]).await.expect_err("its slot is between two servers");
    assert_eq!(refused.kind(), ErrorKind::Retry);
    assert!(refused.to_string().contains("slots are moving"), "{refused}");
    assert_eq!(store.heads(std::slice::from_ref(&of), 5).await.unwrap(), [[]]);
    for (slot, to) in moving {
        for node in &cluster.nodes {
            node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &to]);
        }
    }
    write(&store, vec![insert(&of, 1, "m", at(1))]).await;
    assert_eq!(store.heads(&[of], 5).await.unwrap(), [[item(1, "m")]]);
    assert_eq!(store.state().losses, 0);
}

#[tokio::test]
async fn one_server_of_a_cluster_without_saying_so_is_refused() {
    let Some(url) = redis::cluster() else { return };
    let one = url.replace("redis-cluster://", "redis://");
    let one = one.split(',').next().unwrap();
    let refused = redis::open(one).write(writes_at(0)).await.expect_err("it belongs to a cluster");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("begin the URL with redis-cluster://"), "{refused}");
}
