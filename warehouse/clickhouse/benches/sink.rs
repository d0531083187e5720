//! What the sink costs: `cargo bench -p millrace-clickhouse --bench sink`. Needs an engine, as the tests do.
//!
//! Processor time of this process for each row of an insert, from columns to the last byte sent, and how long reads take that
//! count each row once, against reads that do not care.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![expect(clippy::print_stdout, reason = "figures are what this program is for")]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use clickhouse::Client;
use divan::Bencher;
use divan::counter::ItemsCount;
use millrace_clickhouse::{ClickHouseOptions, ClickHouseWarehouse};
use millrace_engines::clickhouse::{ClickHouse, PASSWORD, USER};
use millrace_events::Topic;
use millrace_warehouse::tables::{EventRow, EventsBuilder};
use millrace_warehouse::{Block, Source, Table, Warehouse};
use tokio::runtime::Runtime;
use url::Url;

/// 2015-01-01T00:00:00Z, microseconds.
const TIME_US: i64 = 1_420_070_400_000_000;
const BLOCK_EVENTS: usize = 65_536;
const BLOCKS: usize = 16;
const DATABASE: &str = "millrace_bench";
const EVENTS: [&str; 5] = ["post_edited", "post_created", "post_liked", "post_commented", "post_viewed"];

fn main() {
    if engine().is_none() {
        return;
    }
    report();
    divan::main();
}

fn engine() -> Option<&'static ClickHouse> {
    static ENGINE: OnceLock<Option<ClickHouse>> = OnceLock::new();
    ENGINE.get_or_init(ClickHouse::get).as_ref()
}

fn block(nth: usize) -> Block {
    let start = nth * BLOCK_EVENTS;
    let mut rows = EventsBuilder::with_capacity(BLOCK_EVENTS);
    for offset in start..start + BLOCK_EVENTS {
        // Spread by multiplication: the same in each run, and no two neighbours alike.
        let spread = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let actor = format!("user{}", spread % 200_000);
        let post = format!("user{}/project-web-{}", spread % 50_000, spread % 9);
        let time = TIME_US + offset as i64 * 100_000;
        rows.push(EventRow {
            message_id: &format!("gh-{}", 2_489_368_070 + offset * 3),
            source: "default",
            event: EVENTS[spread % EVENTS.len()],
            actor_id: &actor,
            user_id: Some(&actor),
            anonymous_id: None,
            post_id: Some(&post),
            target_id: None,
            tag: None,
            slate: None,
            event_time: time,
            ingest_time: time,
            properties: &format!(r#"{{"post_id":"{post}","comment_id":"{offset}"}}"#),
            context: "{}",
            topic: "actions",
            partition: 0,
            offset: offset as u64,
            robot: false,
            violation: None,
        });
    }
    let source = Source { generation: 1, topic: Topic::Actions, partition: 0 };
    Block { source, start: start as u64, end: (start + BLOCK_EVENTS) as u64, rows: vec![rows.finish()] }
}

fn client() -> Client {
    let mut url = Url::parse(engine().unwrap().url()).unwrap();
    url.set_username("").unwrap();
    url.set_password(None).unwrap();
    Client::default().with_url(url.as_str()).with_database(DATABASE).with_user(USER).with_password(PASSWORD)
}

async fn empty() -> ClickHouseWarehouse {
    client()
        .with_database("default")
        .query(&format!("DROP DATABASE IF EXISTS {DATABASE} SYNC"))
        .execute()
        .await
        .unwrap();
    let options = ClickHouseOptions { database: DATABASE.to_owned(), ..ClickHouseOptions::default() };
    ClickHouseWarehouse::open(engine().unwrap().url(), options).await.unwrap()
}

/// Inserts a million rows and reads them, first as they lie after the inserts, then merged.
fn report() {
    let runtime = Runtime::new().unwrap();
    let warehouse = runtime.block_on(empty());
    let client = client();
    let run = |sql: &str| runtime.block_on(client.query_raw(sql).execute()).unwrap();
    run("SYSTEM STOP MERGES events_rows");
    let blocks: Vec<Block> = (0..BLOCKS).map(block).collect();
    let (cpu_before, started) = (cpu(), now());
    for block in blocks {
        runtime.block_on(warehouse.commit(Table::Events, vec![block])).unwrap();
    }
    let (cpu, wall) = (cpu() - cpu_before, started.elapsed());
    let rows = (BLOCKS * BLOCK_EVENTS) as f64;
    println!("{rows} events in blocks of {BLOCK_EVENTS}:");
    println!(
        "  commit  {:.2} µs CPU of this process, {:.2} µs until answered, for each",
        us(cpu) / rows,
        us(wall) / rows
    );
    for state in ["as inserted", "merged"] {
        if state == "merged" {
            run("SYSTEM START MERGES events_rows");
            run("OPTIMIZE TABLE events_rows FINAL");
        }
        for (name, sql) in [
            ("names", "SELECT event, count() FROM TABLE GROUP BY event FORMAT Null"),
            ("actors", "SELECT uniqExact(actor_id) FROM TABLE WHERE event = 'post_liked' FORMAT Null"),
            ("posts", "SELECT post_id, count() AS n FROM TABLE GROUP BY post_id ORDER BY n DESC LIMIT 20 FORMAT Null"),
        ] {
            let time = |table: &str| {
                let sql = sql.replace("TABLE", table);
                let once = || {
                    let started = now();
                    run(&sql);
                    started.elapsed()
                };
                (0..7).map(|_| once()).min().unwrap()
            };
            let (raw, exact) = (time("events_rows"), time("events"));
            println!(
                "  {name}, {state}: {:.1} ms exact, {:.1} ms raw, ratio {:.1}",
                us(exact) / 1e3,
                us(raw) / 1e3,
                exact.as_secs_f64() / raw.as_secs_f64()
            );
        }
    }
    drop(warehouse);
}

/// The processor time that this process has taken: 100 ticks a second on every Linux that this is built for.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    Duration::from_millis((fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10)
}

#[expect(clippy::disallowed_methods, reason = "how long it takes is what is measured")]
fn now() -> Instant {
    Instant::now()
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A whole commit: columns into a stream, the stream over HTTP, both inserts synced.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn commit(bencher: Bencher<'_, '_>) {
    let runtime = Runtime::new().unwrap();
    let warehouse = runtime.block_on(empty());
    let mut nth = 0;
    bencher
        .counter(ItemsCount::new(BLOCK_EVENTS))
        .with_inputs(|| {
            nth += 1;
            block(nth - 1)
        })
        .bench_local_values(|block| runtime.block_on(warehouse.commit(Table::Events, vec![block])).unwrap());
}
