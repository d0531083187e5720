//! What the embedded online store costs: `cargo bench -p millrace-feature-store --bench online`.

#![expect(clippy::unwrap_used, reason = "a set-up that fails ends the bench")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use millrace_embedded::{Embedded, Options};
use millrace_feature_store::views::{AUTHOR_POSTS, ENGAGEMENT, POST, REACTIONS, SEEN, list, record, seen_key};
use millrace_feature_store::{
    FjallOnlineOptions, FjallOnlineStore, ListItem, ListKey, OnlineStore, OnlineWrite, RecordKey, Version,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How many writes a job puts into a batch when it has much to do.
const BATCH: u64 = 1_000;
/// What a home feed asks for at once.
const ASKED: u64 = 500;

fn main() {
    divan::main();
}

struct Bench {
    runtime: Runtime,
    store: Arc<FjallOnlineStore>,
    next: AtomicU64,
    _dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::open(dir.path(), Options::default()).unwrap();
        let store = FjallOnlineStore::open(embedded, FjallOnlineOptions::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, store, next: AtomicU64::new(0), _dir: dir }
    }

    /// A store with the posts and engagement of a hundred thousand posts by a thousand authors.
    fn filled() -> Self {
        let bench = Self::new();
        for _ in 0..100 {
            bench.write(bench.batch(|i| put(record(POST, &id(i)), i)));
            bench.write(bench.batch(|i| insert(author(i % 1_000), i)));
        }
        bench
    }

    fn batch(&self, write: impl Fn(u64) -> OnlineWrite) -> Vec<OnlineWrite> {
        let first = self.next.fetch_add(BATCH, Ordering::Relaxed);
        (first..first + BATCH).map(write).collect()
    }

    fn write(&self, batch: Vec<OnlineWrite>) {
        self.runtime.block_on(self.store.write(batch)).unwrap();
    }

    fn measure_writes(&self, bencher: Bencher<'_, '_>, write: impl Fn(u64) -> OnlineWrite + Sync) {
        bencher
            .counter(ItemsCount::new(BATCH))
            .with_inputs(|| self.batch(&write))
            .bench_local_values(|batch| self.write(batch));
    }

    fn measure_get(&self, bencher: Bencher<'_, '_>, keys: &[RecordKey], cached: bool) {
        let get = || black_box(self.runtime.block_on(self.store.get(keys)).unwrap());
        get();
        let forget = || {
            if !cached {
                self.store.clear_cache();
            }
        };
        bencher.counter(ItemsCount::new(keys.len())).with_inputs(forget).bench_local_values(|()| get());
    }

    fn measure_heads(&self, bencher: Bencher<'_, '_>, lists: &[ListKey], limit: usize, cached: bool) {
        let heads = || black_box(self.runtime.block_on(self.store.heads(lists, limit)).unwrap());
        heads();
        let forget = || {
            if !cached {
                self.store.clear_cache();
            }
        };
        bencher.counter(ItemsCount::new(lists.len())).with_inputs(forget).bench_local_values(|()| heads());
    }
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

#[divan::bench(sample_count = 500)]
fn fresh_record_puts(bencher: Bencher<'_, '_>) {
    Bench::new().measure_writes(bencher, |i| put(record(POST, &id(i)), i));
}

#[divan::bench(sample_count = 500)]
fn fresh_seen_puts(bencher: Bencher<'_, '_>) {
    Bench::new().measure_writes(bencher, |i| {
        let key = seen_key(&id(i % 1_000), &id(i));
        OnlineWrite::Put { key, value: Bytes::new(), version: at(i) }
    });
}

#[divan::bench(sample_count = 500)]
fn hot_record_puts(bencher: Bencher<'_, '_>) {
    Bench::new().measure_writes(bencher, |i| put(record(ENGAGEMENT, &id(i % 5_000)), i));
}

#[divan::bench(sample_count = 500)]
fn author_list_inserts(bencher: Bencher<'_, '_>) {
    Bench::new().measure_writes(bencher, |i| insert(author(i % 1_000), i));
}

#[divan::bench(sample_count = 500)]
fn bounded_list_inserts(bencher: Bencher<'_, '_>) {
    Bench::new().measure_writes(bencher, |i| insert(list(REACTIONS, &id(i % 1_000)), i));
}

#[divan::bench(args = [true, false])]
fn get_500_records(bencher: Bencher<'_, '_>, cached: bool) {
    let keys: Vec<_> = (0..ASKED).map(|i| record(POST, &id(i * 199))).collect();
    Bench::filled().measure_get(bencher, &keys, cached);
}

#[divan::bench(args = [true, false])]
fn get_500_records_that_are_not_there(bencher: Bencher<'_, '_>, cached: bool) {
    let keys: Vec<_> = (0..ASKED).map(|i| record(SEEN, &id(i * 199))).collect();
    Bench::filled().measure_get(bencher, &keys, cached);
}

#[divan::bench(args = [true, false])]
fn heads_of_500_lists(bencher: Bencher<'_, '_>, cached: bool) {
    let lists: Vec<_> = (0..ASKED).map(|i| author(i * 2)).collect();
    Bench::filled().measure_heads(bencher, &lists, 5, cached);
}

#[divan::bench(args = [true, false])]
fn head_of_100_of_one_list(bencher: Bencher<'_, '_>, cached: bool) {
    Bench::filled().measure_heads(bencher, &[author(7)], 100, cached);
}
