//! What the embedded log costs: appends in batches, single appends from many callers, and reading.
//!
//! `cargo bench -p millrace-log` prints CPU per record over a longer run first (user and system time of the whole process,
//! flushing and compaction included), then divan's wall times.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking and prints its figures")]

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use divan::counter::ItemsCount;
use millrace_embedded::{Embedded, Options};
use millrace_events::{LogTime, Topic, TopicPartition};
use millrace_log::{Append, Clock, EventLog, FjallLog, FjallLogOptions, WallClock};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const VALUE_BYTES: usize = 300;
const BATCH: usize = 100;
const CALLERS: usize = 64;
const READ_BYTES: usize = 256 * 1024;

struct Bench {
    runtime: Runtime,
    log: Arc<FjallLog>,
    _dir: TempDir,
}

impl Bench {
    fn new(tail_bytes_max: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::open(dir.path(), Options::default()).unwrap();
        let options = FjallLogOptions { tail_bytes_max, ..FjallLogOptions::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { runtime, log: FjallLog::open(embedded, options).unwrap(), _dir: dir }
    }

    /// With records to read in each partition of `actions`.
    fn filled(tail_bytes_max: usize, records: usize) -> Self {
        let bench = Self::new(tail_bytes_max);
        for _ in 0..records / BATCH {
            bench.append_batch();
        }
        bench
    }

    fn append_batch(&self) {
        let offsets = self.runtime.block_on(self.log.append((0..BATCH).map(record).collect())).unwrap();
        assert_eq!(offsets.len(), BATCH);
    }

    /// Each caller makes `calls` appends of `records`, one after the other.
    fn append_from(&self, callers: usize, calls: usize, records: usize) -> usize {
        let caller = |nth: usize| {
            let log = self.log.clone();
            self.runtime.spawn(async move {
                for n in 0..calls {
                    log.append((0..records).map(|of_call| record(nth + n + of_call)).collect()).await.unwrap();
                }
            })
        };
        let callers: Vec<_> = (0..callers).map(caller).collect();
        let count = callers.len() * calls * records;
        self.runtime.block_on(futures::future::try_join_all(callers)).unwrap();
        count
    }

    fn read_all(&self) -> usize {
        self.runtime.block_on(async {
            let mut count = 0;
            for partition in 0..self.log.partitions() {
                let of = TopicPartition::new(Topic::Actions, partition);
                let mut next = self.log.bounds(of).await.unwrap().start;
                loop {
                    let records = self.log.read(of, next, READ_BYTES).await.unwrap();
                    let Some(last) = records.last() else { break };
                    next = last.offset + 1;
                    count += records.len();
                }
            }
            count
        })
    }
}

fn record(nth: usize) -> Append {
    static VALUE: [u8; VALUE_BYTES] = [b'v'; VALUE_BYTES];
    Append {
        to: TopicPartition::new(Topic::Actions, u32::try_from(nth % 4).unwrap()),
        time: LogTime(i64::try_from(nth).unwrap()),
        key: Bytes::from_static(b"user-0123456789"),
        value: Bytes::from_static(&VALUE),
    }
}

/// User and system time of this process so far, in microseconds; `None` where the kernel does not say.
fn cpu_us() -> Option<u64> {
    const TICK_US: u64 = 10_000;
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let [user, system] = [fields.get(11)?.parse::<u64>().ok()?, fields.get(12)?.parse::<u64>().ok()?];
    Some((user + system) * TICK_US)
}

fn report(name: &str, run: impl FnOnce() -> usize) {
    let (wall, cpu) = (WallClock.now().0, cpu_us());
    let records = run();
    let wall_us = (WallClock.now().0 - wall) as f64;
    let per_s = records as f64 / wall_us * 1e6;
    let cpu = cpu
        .zip(cpu_us())
        .map_or("unknown".to_owned(), |(from, to)| format!("{:.2}", (to - from) as f64 / records as f64));
    println!("{name:40} {records:>9} records {per_s:>12.0} records/s {cpu:>8} µs CPU per record");
}

fn main() {
    println!("CPU of the whole process, values of {VALUE_BYTES} bytes over 4 partitions, synced:");
    let bench = Bench::new(1024 * 1024);
    report("append, 100 records per call, 1 caller", || bench.append_from(1, 5000, BATCH));
    let bench = Bench::new(1024 * 1024);
    report("append, 100 records per call, 8 callers", || bench.append_from(8, 1250, BATCH));
    let bench = Bench::new(1024 * 1024);
    report("append, 1 record per call, 64 callers", || bench.append_from(CALLERS, 1500, 1));
    let bench = Bench::filled(0, 500_000);
    report("read from the database", || (0..4).map(|_| bench.read_all()).sum());
    let bench = Bench::filled(64 * 1024 * 1024, 100_000);
    report("read from the tail", || (0..20).map(|_| bench.read_all()).sum());
    drop(bench);
    divan::main();
}

#[divan::bench]
fn append_100_records(bencher: divan::Bencher) {
    let bench = Bench::new(1024 * 1024);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| bench.append_batch());
}

#[divan::bench]
fn append_singles_from_64_callers(bencher: divan::Bencher) {
    let bench = Bench::new(1024 * 1024);
    bencher.counter(ItemsCount::new(CALLERS * 10)).bench_local(|| bench.append_from(CALLERS, 10, 1));
}

#[divan::bench(args = [0, 64 * 1024 * 1024])]
fn read_100_000_records(bencher: divan::Bencher, tail_bytes_max: usize) {
    let bench = Bench::filled(tail_bytes_max, 100_000);
    bencher.counter(ItemsCount::new(100_000_usize)).bench_local(|| bench.read_all());
}
