//! What the four queries of the contract cost over many events, written as the archive writes them and merged by
//! maintenance.
//!
//! `cargo bench -p millrace-delta --bench queries`. `MILLRACE_BENCH_EVENTS` says how many events, a million when
//! absent. `MILLRACE_BENCH_DIR` names a directory to keep: what it holds already is queried as it stands, so that
//! another engine can be measured on the same files and the memory printed at the end is that of queries alone. DuckDB
//! reads them so, with the files below `warehouse/core/queries` as they are (its parameters are called `$from` too;
//! Python needs `pytz` for times):
//!
//! ```python
//! con.execute("SET threads = 2; SET TimeZone = 'UTC'")
//! con.execute(f"CREATE VIEW events AS FROM read_parquet('{dir}/events/*/*.parquet', hive_partitioning = true)")
//! con.execute(open("warehouse/core/queries/events/events_by_hour.sql").read(), {"from": None, "to": None, "event": None})
//! ```

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking and prints its figures")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use futures::TryStreamExt as _;
use millrace_delta::{DeltaOptions, DeltaWarehouse};
use millrace_events::Topic;
use millrace_warehouse::tables::{EventRow, EventsBuilder};
use millrace_warehouse::{Block, Maintained, Source, Table, Warehouse, named_queries};
use tokio::runtime::Runtime;

const EVENTS: u64 = 1_000_000;
const BLOCK: u64 = 20_000;
const PARTITIONS: u64 = 4;
const USERS: u64 = 100_000;
const POSTS: u64 = 50_000;
/// 2024-01-01.
const START_US: i64 = 1_704_067_200_000_000;
/// Over which the events are spread, in order of time.
const SPAN_US: i64 = 7 * 24 * 3_600 * 1_000_000;

/// Of a hundred events.
const MIX: [(&str, u64); 8] = [
    ("post_viewed", 70),
    ("post_liked", 10),
    ("post_clicked", 7),
    ("post_created", 4),
    ("post_commented", 3),
    ("post_shared", 3),
    ("user_followed", 2),
    ("search_performed", 1),
];

struct Bench {
    runtime: Runtime,
    warehouse: DeltaWarehouse,
    events: u64,
    dir: PathBuf,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let kept = std::env::var_os("MILLRACE_BENCH_DIR").map(PathBuf::from);
    let dir = kept.unwrap_or_else(|| tempfile::tempdir().unwrap().keep());
    let events = std::env::var("MILLRACE_BENCH_EVENTS").map_or(EVENTS, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let warehouse = runtime.block_on(fill(&dir, events));
    Bench { runtime, warehouse, events, dir }
});

async fn fill(dir: &Path, events: u64) -> DeltaWarehouse {
    // What was merged is deleted at once, so that other engines see each event once without reading the Delta log.
    let options = DeltaOptions { retention: Duration::ZERO, ..DeltaOptions::default() };
    let warehouse = DeltaWarehouse::open(dir, options).await.unwrap();
    if !warehouse.recorded(Table::Events).await.unwrap().is_empty() {
        return warehouse;
    }
    let mut ends = [0; PARTITIONS as usize];
    for first in (0..events).step_by(BLOCK as usize) {
        let partition = first / BLOCK % PARTITIONS;
        let end = &mut ends[partition as usize];
        let source = Source { generation: 0, topic: Topic::Actions, partition: partition as u32 };
        let rows = first..events.min(first + BLOCK);
        let block = Block { source, start: *end, end: *end + BLOCK, rows: vec![batch(rows, events, partition, *end)] };
        warehouse.commit(Table::Events, vec![block]).await.unwrap();
        *end += BLOCK;
    }
    while warehouse.maintain().await.unwrap() != Maintained::default() {}
    warehouse
}

fn batch(rows: std::ops::Range<u64>, events: u64, partition: u64, offset: u64) -> arrow::array::RecordBatch {
    let mut builder = EventsBuilder::with_capacity(BLOCK as usize);
    for (nth, row) in rows.enumerate() {
        let [who, what, which] = [1, 2, 3].map(|salt| mix(row * 4 + salt));
        let event = name(what % 100);
        let (actor, post) = (format!("u{}", skewed(who, USERS)), format!("p{}", skewed(which, POSTS)));
        let event_time = START_US + (SPAN_US as i128 * i128::from(row) / i128::from(events)) as i64;
        let is_about_post = event.starts_with("post");
        let target = format!("u{}", skewed(which, USERS));
        builder.push(EventRow {
            message_id: &format!("{:016x}{:016x}", who, what),
            source: "app",
            event,
            actor_id: &actor,
            user_id: Some(&actor),
            anonymous_id: None,
            post_id: is_about_post.then_some(post.as_str()),
            target_id: (event == "user_followed").then_some(target.as_str()),
            tag: None,
            slate: None,
            event_time,
            ingest_time: event_time + (who % 2_000_000) as i64,
            properties: &if is_about_post { format!(r#"{{"post_id":"{post}"}}"#) } else { "{}".to_owned() },
            context: "{}",
            topic: "actions",
            partition: partition as u32,
            offset: offset + nth as u64,
            robot: false,
            violation: None,
        });
    }
    builder.finish()
}

fn name(of_hundred: u64) -> &'static str {
    let mut below = 0;
    let found = MIX.iter().find(|(_, share)| {
        below += share;
        of_hundred < below
    });
    found.unwrap().0
}

/// Few are met often: the chance of the n-th is about as 1 to the square root of n.
fn skewed(random: u64, of: u64) -> u64 {
    let unit = (random >> 11) as f64 / (1_u64 << 53) as f64;
    ((unit * unit) * of as f64) as u64
}

/// The finaliser of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn ask(bencher: Bencher<'_, '_>, name: &str) {
    let bench = &*BENCH;
    let query = &named_queries()[name];
    let params = query.bind([]).unwrap();
    bencher.counter(ItemsCount::new(bench.events)).bench(|| {
        bench.runtime.block_on(async {
            let answer = bench.warehouse.query(query, &params).await.unwrap();
            answer.rows.try_collect::<Vec<_>>().await.unwrap()
        })
    });
}

#[divan::bench]
fn events_by_name(bencher: Bencher<'_, '_>) {
    ask(bencher, "events_by_name");
}

#[divan::bench]
fn events_by_hour(bencher: Bencher<'_, '_>) {
    ask(bencher, "events_by_hour");
}

#[divan::bench]
fn top_posts(bencher: Bencher<'_, '_>) {
    ask(bencher, "top_posts");
}

#[divan::bench]
fn active_users(bencher: Bencher<'_, '_>) {
    ask(bencher, "active_users");
}

fn main() {
    divan::main();
    println!("{} events in {}", BENCH.events, BENCH.dir.display());
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        status.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("most memory: {line}"));
    }
}
