//! What a home feed costs: `cargo bench -p millrace-ranking --bench home`.
//!
//! Over the embedded store, whose cache is the size of the default. Every sample is another viewer's first page, or the
//! page that follows it, so that a viewer's own lists are not always cached. Three sources bring up to 900 candidates: 500 of
//! the authors followed, 200 that rise and 200 that are new. After the benches it prints percentiles of first pages with and
//! without a record for `served-slates`.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up should stop")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use divan::Bencher;
use millrace_embedded::Embedded;
use millrace_events::{ActionKind, PostContent, Topic, TopicPartition, Window, partition_of};
use millrace_feature_store::views::{
    self, EngagementRecord, PostRecord, ProgressRecord, SeenRecord, TRENDS_MAX, TrendItem, TrendKind, TrendsRecord,
};
use millrace_feature_store::{FjallOnlineOptions, FjallOnlineStore, ListItem, OnlineStore, OnlineWrite, Version};
use millrace_ranking::{HomeQuery, Ranker, RankerOptions};
use prost::Message;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const PARTITIONS: u32 = 4;
const AUTHORS: usize = 5_000;
const POSTS_PER_AUTHOR: usize = 20;
const VIEWERS: usize = 64;
const NOW_US: i64 = 1_767_225_600_000_000;

fn main() {
    divan::main();
    percentiles();
}

struct Setting {
    runtime: Runtime,
    ranker: Ranker,
    viewers: AtomicUsize,
    _dir: TempDir,
}

impl Setting {
    fn new(follows: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::open(dir.path(), millrace_embedded::Options::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let store: Arc<dyn OnlineStore> = runtime.block_on(async {
            let store = FjallOnlineStore::open(embedded, FjallOnlineOptions::default()).unwrap();
            fill(store.as_ref(), follows).await;
            store
        });
        let ranker = Ranker::new(store, PARTITIONS, RankerOptions::default());
        Self { runtime, ranker, viewers: AtomicUsize::new(0), _dir: dir }
    }

    fn query(&self) -> HomeQuery {
        let nth = self.viewers.fetch_add(1, Ordering::Relaxed) % VIEWERS;
        HomeQuery { viewer: viewer(nth), limit: 20, cursor: None, explain: false, record_rate: None }
    }
}

fn viewer(nth: usize) -> String {
    format!("viewer-{nth}")
}

fn author(nth: usize) -> String {
    format!("author-{nth}")
}

fn post(author: usize, nth: usize) -> String {
    format!("post-{author}-{nth}")
}

/// Authors of twenty posts over two days, each with counters; viewers who follow some, reacted a hundred times and have
/// seen a tenth.
async fn fill(store: &dyn OnlineStore, follows: usize) {
    let version = Version { generation: 0, offset: 1 };
    let mut batch = Vec::new();
    for topic in Topic::DERIVED {
        for partition in 0..PARTITIONS {
            let key = views::progress_key(TopicPartition::new(topic, partition));
            batch.push(put(key, ProgressRecord { next: 1, clock_us: NOW_US, sources: Vec::new() }));
        }
    }
    for a in 0..AUTHORS {
        for p in 0..POSTS_PER_AUTHOR {
            let (id, at) = (post(a, p), NOW_US - ((a * 7919 + p * 104_729) % 172_800_000) as i64 * 1_000);
            let text = "What somebody has to say takes about a hundred characters, now and then a few more than that.";
            let content = PostContent { text: text.to_owned(), ..PostContent::default() };
            let record =
                PostRecord { author_id: author(a), created_at_us: at, content: Some(content), ..Default::default() };
            batch.push(put(views::record(views::POST, &id), record));
            let views = (a * 31 + p) as u64 % 1_000;
            let totals =
                EngagementRecord { views, unique_viewers: views / 2, likes: views / 10, ..EngagementRecord::default() };
            batch.push(put(views::record(views::ENGAGEMENT, &id), totals));
            batch.push(insert(views::AUTHOR_POSTS, &author(a), id.clone().into_bytes(), at, version));
            if a % 10 == 9 {
                let list = views::fresh_key(partition_of(id.as_bytes(), PARTITIONS));
                batch.push(OnlineWrite::Insert { list, item: ListItem { score: at, member: id.into() }, version });
            }
        }
        if batch.len() > 5_000 {
            store.write(std::mem::take(&mut batch)).await.unwrap();
        }
    }
    for partition in 0..PARTITIONS {
        for (nth, window) in Window::ALL.into_iter().enumerate() {
            let item = |i: usize| TrendItem {
                id: post((partition as usize * 1_000 + nth * 300 + i * 2 + 1) % AUTHORS, i % POSTS_PER_AUTHOR),
                count: 100,
                baseline: 10.0,
                score: (TRENDS_MAX - i) as f64,
            };
            let record = TrendsRecord { clock_us: NOW_US, items: (0..TRENDS_MAX).map(item).collect() };
            batch.push(put(views::trends_key(TrendKind::Posts, window, partition), record));
        }
    }
    for v in 0..VIEWERS {
        for f in 0..follows {
            let a = (v * 37 + f * 2) % AUTHORS;
            batch.push(insert(views::FOLLOWING, &viewer(v), author(a).into_bytes(), NOW_US - f as i64, version));
            if f % 10 == 0 {
                batch.push(put(views::seen_key(&viewer(v), &post(a, 0)), SeenRecord { hidden: false }));
            }
            if f % 5 == 0 && f < 500 {
                let member = views::reaction_member(ActionKind::PostLiked, &post(a, 1));
                batch.push(insert(views::REACTIONS, &viewer(v), member.to_vec(), NOW_US - f as i64, version));
            }
        }
        store.write(std::mem::take(&mut batch)).await.unwrap();
    }
}

fn put(key: millrace_feature_store::RecordKey, value: impl Message) -> OnlineWrite {
    OnlineWrite::Put { key, value: value.encode_to_vec().into(), version: Version { generation: 0, offset: 1 } }
}

fn insert(view: u8, of: &str, member: Vec<u8>, score: i64, version: Version) -> OnlineWrite {
    OnlineWrite::Insert { list: views::list(view, of), item: ListItem { score, member: member.into() }, version }
}

#[divan::bench(args = [500, 2_000], sample_count = 400, sample_size = 1)]
fn first_page(bencher: Bencher, follows: usize) {
    let setting = Setting::new(follows);
    let warm = setting.runtime.block_on(setting.ranker.home(setting.query())).unwrap();
    assert_eq!(warm.items.len(), 20);
    bencher
        .with_inputs(|| setting.query())
        .bench_values(|query| setting.runtime.block_on(setting.ranker.home(query)).unwrap());
}

#[divan::bench(args = [500, 2_000], sample_count = 400, sample_size = 1)]
fn next_page(bencher: Bencher, follows: usize) {
    let setting = Setting::new(follows);
    let next = || {
        let query = setting.query();
        let first = setting.runtime.block_on(setting.ranker.home(query.clone())).unwrap();
        HomeQuery { cursor: first.next_cursor, ..query }
    };
    bencher.with_inputs(next).bench_values(|query| setting.runtime.block_on(setting.ranker.home(query)).unwrap());
}

/// How many first pages the percentiles are of, after as many that are not measured.
const MEASURED: usize = 4_000;

/// What a record costs an answer. It is dropped outside of the measured time, as a writer of its own does.
#[expect(clippy::print_stdout, reason = "a bench says what it measured")]
#[expect(clippy::disallowed_methods, reason = "a bench measures")]
fn percentiles() {
    let setting = Setting::new(500);
    for record_rate in [None, Some(1.0), None, Some(1.0)] {
        let mut took_us: Vec<u128> = Vec::with_capacity(MEASURED);
        for _ in 0..2 {
            took_us.clear();
            for _ in 0..MEASURED {
                let query = HomeQuery { record_rate, ..setting.query() };
                let started = Instant::now();
                let slate = setting.runtime.block_on(setting.ranker.home(query)).unwrap();
                took_us.push(started.elapsed().as_micros());
                assert_eq!(slate.record.is_some(), record_rate.is_some());
            }
        }
        took_us.sort_unstable();
        let at = |percent: usize| took_us[MEASURED * percent / 100];
        println!("first page, recorded: {:<5} p50 {} µs, p99 {} µs", record_rate.is_some(), at(50), at(99));
    }
}
