//! What the online store on Redis costs: `cargo bench -p millrace-redis --bench redis`. On the loopback interface, so what is
//! seen is the work of both ends and the number of round trips, not a network.

#![expect(clippy::unwrap_used, reason = "a set-up that fails ends the bench")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use millrace_engines::redis::{CLUSTER_URL, CURE, Redis, RedisCluster, URL};
use millrace_feature_store::views::{AUTHOR_POSTS, POST, REACTIONS, list, record};
use millrace_feature_store::{ListItem, ListKey, OnlineStore, OnlineWrite, RecordKey, Version};
use millrace_redis::{RedisOnlineStore, RedisOptions};
use tokio::runtime::Runtime;

/// How many writes a job puts into a batch when it has much to do.
const BATCH: u64 = 1_000;
/// How many keys are asked for at once.
const ASKED: u64 = 100;

fn main() {
    divan::main();
}

/// What a bench runs on, when it was started for it: kept until it ends.
type Engine = (Option<Redis>, Option<RedisCluster>);

struct Bench {
    store: Arc<RedisOnlineStore>,
    next: AtomicU64,
    runtime: Runtime,
    _engine: Engine,
}

impl Bench {
    /// `None`, aloud, where there is no Redis.
    fn new(cluster: bool) -> Option<Self> {
        let given = std::env::var(if cluster { CLUSTER_URL } else { URL }).ok();
        let started = match given {
            Some(url) => Some((url, (None, None))),
            None if cluster => RedisCluster::start(0).map(|engine| (engine.url(), (None, Some(engine)))),
            None => Redis::start().map(|engine| (engine.url(), (Some(engine), None))),
        };
        let Some((url, engine)) = started else {
            millrace_engines::skip("Redis", CURE);
            return None;
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = RedisOptions { prefix: format!("b{}:", std::process::id()), ..RedisOptions::default() };
        let store = runtime.block_on(async { RedisOnlineStore::open(&url, options) }).unwrap();
        runtime.block_on(store.connect()).unwrap();
        Some(Self { store, next: AtomicU64::new(0), runtime, _engine: engine })
    }

    /// A store with ten thousand posts by a thousand authors.
    fn filled(cluster: bool) -> Option<Self> {
        let bench = Self::new(cluster)?;
        for _ in 0..10 {
            bench.write(bench.batch(|i| put(record(POST, &id(i)), i)));
            bench.write(bench.batch(|i| insert(author(i % 1_000), i)));
        }
        Some(bench)
    }

    fn batch(&self, write: impl Fn(u64) -> OnlineWrite) -> Vec<OnlineWrite> {
        let first = self.next.fetch_add(BATCH, Ordering::Relaxed);
        (first..first + BATCH).map(write).collect()
    }

    fn write(&self, batch: Vec<OnlineWrite>) {
        self.runtime.block_on(self.store.write(batch)).unwrap();
    }
}

fn measure_writes(bencher: Bencher<'_, '_>, cluster: bool, write: impl Fn(u64) -> OnlineWrite + Sync) {
    let Some(bench) = Bench::new(cluster) else { return };
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| bench.batch(&write))
        .bench_local_values(|batch| bench.write(batch));
}

fn id(i: u64) -> String {
    // Ids come in no order.
    format!("{:016x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn author(i: u64) -> ListKey {
    list(AUTHOR_POSTS, &format!("author-{i}"))
}

fn at(offset: u64) -> Version {
    Version { generation: 0, offset }
}

fn put(key: RecordKey, i: u64) -> OnlineWrite {
    OnlineWrite::Put { key, value: Bytes::from(vec![b'v'; 120]), version: at(i) }
}

fn insert(list: ListKey, i: u64) -> OnlineWrite {
    let item = ListItem { score: i as i64, member: Bytes::from(id(i)) };
    OnlineWrite::Insert { list, item, version: at(i) }
}

#[divan::bench(args = [false, true], sample_count = 200)]
fn record_puts(bencher: Bencher<'_, '_>, cluster: bool) {
    measure_writes(bencher, cluster, |i| put(record(POST, &id(i)), i));
}

#[divan::bench(args = [false, true], sample_count = 200)]
fn author_list_inserts(bencher: Bencher<'_, '_>, cluster: bool) {
    measure_writes(bencher, cluster, |i| insert(author(i % 1_000), i));
}

#[divan::bench(args = [false, true], sample_count = 200)]
fn bounded_list_inserts(bencher: Bencher<'_, '_>, cluster: bool) {
    measure_writes(bencher, cluster, |i| insert(list(REACTIONS, &id(i % 1_000)), i));
}

#[divan::bench(args = [false, true], sample_count = 200)]
fn one_put(bencher: Bencher<'_, '_>, cluster: bool) {
    let Some(bench) = Bench::new(cluster) else { return };
    let next = || bench.next.fetch_add(1, Ordering::Relaxed);
    bencher.with_inputs(|| vec![put(record(POST, "p"), next())]).bench_local_values(|batch| bench.write(batch));
}

#[divan::bench(args = [false, true], sample_count = 200)]
fn get_100_records(bencher: Bencher<'_, '_>, cluster: bool) {
    let Some(bench) = Bench::filled(cluster) else { return };
    let keys: Vec<_> = (0..ASKED).map(|i| record(POST, &id(i * 99))).collect();
    bencher
        .counter(ItemsCount::new(ASKED))
        .bench_local(|| black_box(bench.runtime.block_on(bench.store.get(&keys)).unwrap()));
}

#[divan::bench(args = [false, true], sample_count = 200)]
fn heads_of_100_lists(bencher: Bencher<'_, '_>, cluster: bool) {
    let Some(bench) = Bench::filled(cluster) else { return };
    let lists: Vec<_> = (0..ASKED).map(|i| author(i * 9)).collect();
    bencher
        .counter(ItemsCount::new(ASKED))
        .bench_local(|| black_box(bench.runtime.block_on(bench.store.heads(&lists, 5)).unwrap()));
}
