//! What the log on Kafka costs its clients: appends in batches, single appends from many callers, and reading.
//!
//! `cargo bench -p millrace-log-kafka` prints CPU per record over a longer run first (user and system time of this process,
//! the threads of librdkafka included, the broker not), then divan's wall times. One broker, on the same machine.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark fails by panicking and prints its figures")]

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use divan::counter::ItemsCount;
use millrace_engines::kafka::{Kafka, brokers};
use millrace_events::{Envelope, Kind, LogTime, Personal, Topic, TopicPartition};
use millrace_log::{Append, Clock, EventLog, WallClock};
use millrace_log_kafka::{KafkaLog, KafkaOptions, cloud_event_headers};
use prost::Message as _;
use tokio::runtime::Runtime;

const VALUE_BYTES: usize = 300;
const BATCH: usize = 100;
const CALLERS: usize = 64;
const READ_BYTES: usize = 256 * 1024;

fn broker() -> Option<&'static str> {
    static BROKER: OnceLock<Option<(String, Option<Kafka>)>> = OnceLock::new();
    BROKER.get_or_init(brokers).as_ref().map(|(brokers, _)| brokers.as_str())
}

struct Bench {
    runtime: Runtime,
    log: Arc<KafkaLog>,
    values: Arc<Vec<Bytes>>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut KafkaOptions)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let brokers = broker().expect("main looked").to_owned();
        let prefix = format!("bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut options = KafkaOptions { brokers, prefix, replication: 1, min_insync: 1, ..KafkaOptions::default() };
        change(&mut options);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let log = runtime.block_on(KafkaLog::open(options)).unwrap();
        Self { runtime, log, values: Arc::new((0..200).map(noise).collect()) }
    }

    /// With records to read in each partition of `actions`.
    fn filled(records: usize) -> Self {
        let bench = Self::new();
        bench.append_from(8, records / BATCH / 8, BATCH);
        bench
    }

    fn append_batch(&self) {
        let offsets =
            self.runtime.block_on(self.log.append((0..BATCH).map(|nth| record(&self.values, nth)).collect())).unwrap();
        assert_eq!(offsets.len(), BATCH);
    }

    /// Each caller makes `calls` appends of `records`, one after the other.
    fn append_from(&self, callers: usize, calls: usize, records: usize) -> usize {
        let caller = |nth: usize| {
            let (log, values) = (self.log.clone(), self.values.clone());
            self.runtime.spawn(async move {
                for n in 0..calls {
                    let batch = (0..records).map(|of_call| record(&values, nth + n + of_call)).collect();
                    log.append(batch).await.unwrap();
                }
            })
        };
        let callers: Vec<_> = (0..callers).map(caller).collect();
        let count = callers.len() * calls * records;
        self.runtime.block_on(futures::future::try_join_all(callers)).unwrap();
        count
    }

    /// From the start to the end, with a reader that has fetched nothing before.
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

/// Bytes that do not compress, so that compression costs what it does at worst.
fn noise(seed: u64) -> Bytes {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..VALUE_BYTES).map(|_| next()).collect()
}

/// An action of about as many bytes.
fn action(nth: u64) -> Bytes {
    let personal = Personal { properties: noise(nth).slice(..VALUE_BYTES - 70), ..Personal::default() };
    let envelope = Envelope {
        message_id: format!("message-{nth:012}"),
        source: "web".to_owned(),
        kind: Kind::Track as i32,
        event: "post_liked".to_owned(),
        user_id: format!("user-{nth:010}"),
        event_time_us: 1_700_000_000_000_000,
        received_us: 1_700_000_000_000_000,
        personal: Some(personal),
        ..Envelope::default()
    };
    envelope.encode_to_vec().into()
}

fn record(values: &[Bytes], nth: usize) -> Append {
    Append {
        to: TopicPartition::new(Topic::Actions, u32::try_from(nth % 4).unwrap()),
        time: LogTime(1_700_000_000_000_000 + i64::try_from(nth).unwrap()),
        key: Bytes::from_static(b"user-0123456789"),
        value: values[nth % values.len()].clone(),
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
    if broker().is_none() {
        return;
    }
    println!("CPU of this process, values of {VALUE_BYTES} bytes over 4 partitions, one broker:");
    let bench = Bench::new();
    report("append, 100 records per call, 1 caller", || bench.append_from(1, 2000, BATCH));
    report("append, 100 records per call, 8 callers", || bench.append_from(8, 500, BATCH));
    report("append, 1 record per call, 64 callers", || bench.append_from(CALLERS, 500, 1));
    let mut bench = Bench::with(|options| options.headers = Some(cloud_event_headers()));
    bench.values = Arc::new((0..200).map(action).collect());
    report("append with CloudEvents headers", || bench.append_from(8, 500, BATCH));
    let bench = Bench::with(|options| options.linger = Duration::from_millis(0));
    report("without linger, 100 per call, 1 caller", || bench.append_from(1, 2000, BATCH));
    report("without linger, 100 per call, 8 callers", || bench.append_from(8, 500, BATCH));
    report("without linger, 1 per call, 64 callers", || bench.append_from(CALLERS, 500, 1));
    let bench = Bench::filled(400_000);
    report("read", || bench.read_all());
    report("read again", || (0..3).map(|_| bench.read_all()).sum());
    drop(bench);
    divan::main();
}

#[divan::bench(max_time = 2)]
fn append_100_records(bencher: divan::Bencher) {
    let bench = Bench::new();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| bench.append_batch());
}

#[divan::bench(max_time = 2)]
fn append_singles_from_64_callers(bencher: divan::Bencher) {
    let bench = Bench::new();
    bencher.counter(ItemsCount::new(CALLERS * 10)).bench_local(|| bench.append_from(CALLERS, 10, 1));
}

#[divan::bench(max_time = 4)]
fn read_100_000_records(bencher: divan::Bencher) {
    let bench = Bench::filled(100_000);
    bencher.counter(ItemsCount::new(100_000_usize)).bench_local(|| bench.read_all());
}
