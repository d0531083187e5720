//! What the archive costs per event, in processor time and on disk: `cargo bench -p millrace-delta --bench archive`.
//!
//! Rows are modelled on an import of GitHub's public events. To measure on others, name a file of them in
//! `MILLRACE_BENCH_ROWS`, sorted by time, one row a line: message id, event, actor, post, time in microseconds and properties,
//! separated by tabs.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![expect(clippy::print_stdout, reason = "figures are what this program is for")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use millrace_delta::{DeltaOptions, DeltaWarehouse};
use millrace_events::Topic;
use millrace_warehouse::tables::{EventRow, EventsBuilder};
use millrace_warehouse::{Block, Source, Table, Warehouse};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Runtime;

const EVENTS: usize = 1_000_000;
const BLOCK_EVENTS: usize = 10_000;
const PARTITIONS: usize = 4;
/// 2015-01-01T00:00:00Z, microseconds.
const TIME_US: i64 = 1_420_070_400_000_000;

struct Row {
    message_id: String,
    event: String,
    actor: String,
    post: String,
    time_us: i64,
    properties: String,
}

fn main() {
    report();
    divan::main();
}

fn rows() -> Vec<Row> {
    match std::env::var_os("MILLRACE_BENCH_ROWS") {
        Some(path) => std::fs::read_to_string(path).unwrap().lines().map(parse).collect(),
        None => modelled(EVENTS),
    }
}

fn parse(line: &str) -> Row {
    let mut fields = line.split('\t').map(str::to_owned);
    let mut field = || fields.next().unwrap();
    let (message_id, event, actor, post) = (field(), field(), field(), field());
    Row { message_id, event, actor, post, time_us: field().parse().unwrap(), properties: field() }
}

/// Events of one day, times in whole seconds, ids that grow with gaps, a few repositories with most of the events.
fn modelled(events: usize) -> Vec<Row> {
    const SHARES: [(&str, u32); 7] = [
        ("post_edited", 34),
        ("repo_pushed", 17),
        ("post_created", 17),
        ("repo_ref_created", 12),
        ("post_liked", 9),
        ("post_commented", 7),
        ("repo_issue_changed", 4),
    ];
    let mut rng = SmallRng::seed_from_u64(2015);
    let mut id = 2_489_368_070_u64;
    let mut row = |nth: usize| {
        id += rng.random_range(1..4);
        let owner = (rng.random::<f64>().powi(3) * 200_000.0) as u32;
        let actor = if rng.random_bool(0.6) { owner } else { rng.random_range(0..200_000) };
        let actor_name = format!("{}{actor}", ["octo", "dev-", "team", "j"][actor as usize % 4]);
        let repository = rng.random_range(0..4_u32).pow(2);
        let post = format!("user{owner}/project-{}-{repository}", ["web", "api", "dotfiles"][repository as usize % 3]);
        let mut draw = rng.random_range(0..100);
        let chosen = SHARES.iter().find(|(_, share)| match draw >= *share {
            true => {
                draw -= share;
                false
            }
            false => true,
        });
        let event = chosen.map_or("post_shared", |(event, _)| event);
        let properties = match event {
            "post_edited" | "post_created" => format!(
                r#"{{"post_id":"{post}","text":"{post}","kind":"link","url":"https://github.com/{post}","commits":{}}}"#,
                rng.random_range(1..4)
            ),
            "post_commented" => format!(r#"{{"post_id":"{post}","comment_id":"{}"}}"#, 68_000_000 + nth),
            _ => format!(r#"{{"post_id":"{post}"}}"#),
        };
        let time_us = TIME_US + (nth * 86_400 / events) as i64 * 1_000_000;
        Row { message_id: format!("gh-{id}"), event: event.to_owned(), actor: actor_name, post, time_us, properties }
    };
    (0..events).map(&mut row).collect()
}

/// Rows as each partition gets them, with their offsets in it.
fn partitioned(rows: &[Row]) -> Vec<Vec<&Row>> {
    let mut partitions = vec![Vec::new(); PARTITIONS];
    for row in rows {
        let mut hasher = DefaultHasher::new();
        row.actor.hash(&mut hasher);
        partitions[(hasher.finish() % PARTITIONS as u64) as usize].push(row);
    }
    partitions
}

fn block(partition: usize, start: usize, rows: &[&Row]) -> Block {
    let mut builder = EventsBuilder::with_capacity(rows.len());
    for (row, offset) in rows.iter().zip(start..) {
        builder.push(EventRow {
            message_id: &row.message_id,
            source: "default",
            event: &row.event,
            actor_id: &row.actor,
            user_id: Some(&row.actor),
            anonymous_id: None,
            post_id: Some(&row.post),
            target_id: None,
            tag: None,
            slate: None,
            event_time: row.time_us,
            ingest_time: row.time_us,
            properties: &row.properties,
            context: "{}",
            topic: "actions",
            partition: partition as u32,
            offset: offset as u64,
            robot: false,
            violation: None,
        });
    }
    let source = Source { generation: 1, topic: Topic::Actions, partition: partition as u32 };
    Block { source, start: start as u64, end: (start + rows.len()) as u64, rows: vec![builder.finish()] }
}

/// Archives all rows as the archive does, merges until nothing is left to merge, and prints what each part took.
fn report() {
    let rows = rows();
    let events = rows.len() as f64;
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let warehouse = runtime.block_on(open(dir.path()));
    let before = cpu();
    // Small enough blocks that a day of few events has enough files to be merged too.
    let block_events = BLOCK_EVENTS.min(rows.len() / PARTITIONS / 100);
    for (partition, rows) in partitioned(&rows).iter().enumerate() {
        for (nth, part) in rows.chunks(block_events).enumerate() {
            let block = block(partition, nth * block_events, part);
            runtime.block_on(warehouse.commit(Table::Events, vec![block])).unwrap();
        }
    }
    let archived = cpu();
    let fresh_bytes = bytes(dir.path());
    while runtime.block_on(warehouse.maintain()).unwrap().files_merged > 0 {}
    let merged = cpu();
    runtime.block_on(warehouse.maintain()).unwrap();
    println!("{} events in blocks of {block_events}, per event:", rows.len());
    println!("  build and commit  {:.2} µs CPU, {:.1} bytes", us(archived - before) / events, fresh_bytes / events);
    println!(
        "  merge             {:.2} µs CPU, {:.1} bytes",
        us(merged - archived) / events,
        bytes(dir.path()) / events
    );
}

async fn open(dir: &Path) -> DeltaWarehouse {
    let options = DeltaOptions { retention: Duration::ZERO, ..DeltaOptions::default() };
    DeltaWarehouse::open(dir, options).await.unwrap()
}

/// How large all Parquet files of `events` are that hold rows.
fn bytes(dir: &Path) -> f64 {
    let dates = std::fs::read_dir(dir.join(Table::Events.name())).unwrap().map(|entry| entry.unwrap().path());
    let of_dates = dates.filter(|path| path.is_dir() && !path.ends_with("_delta_log"));
    let files = of_dates.flat_map(|path| std::fs::read_dir(path).unwrap());
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>() as f64
}

/// The processor time that this process has taken: 100 ticks a second on every Linux that this is built for.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    Duration::from_millis((fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10)
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Rows into columns.
#[divan::bench]
fn build(bencher: Bencher<'_, '_>) {
    let rows = modelled(BLOCK_EVENTS);
    let rows: Vec<&Row> = rows.iter().collect();
    bencher.counter(ItemsCount::new(BLOCK_EVENTS)).bench_local(|| block(0, 0, &rows));
}

/// Rows into columns, columns into Parquet, both files synced.
#[divan::bench(sample_count = 50)]
fn build_and_commit(bencher: Bencher<'_, '_>) {
    let rows = modelled(BLOCK_EVENTS);
    let rows: Vec<&Row> = rows.iter().collect();
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let warehouse = runtime.block_on(open(dir.path()));
    let mut start = 0;
    bencher.counter(ItemsCount::new(BLOCK_EVENTS)).bench_local(|| {
        runtime.block_on(warehouse.commit(Table::Events, vec![block(0, start, &rows)])).unwrap();
        start += BLOCK_EVENTS;
    });
}
