//! What job state in an object store costs: requests and their price, and times on MinIO.
//!
//! `cargo run --release -p millrace-slatedb --example costs` counts requests in memory, with time running thirty times as fast,
//! and measures on a MinIO of its own when that is installed. `-- times` leaves the counting out, which takes five minutes.

#![expect(clippy::print_stdout, reason = "it prints what it measures")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

#[path = "../tests/state/watched.rs"]
mod watched;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millrace_engines::minio::Minio;
use millrace_events::{Topic, TopicPartition};
use millrace_pipelines::state::{PartitionState, StateStore, StateWrite};
use millrace_slatedb::object_store::memory::InMemory;
use millrace_slatedb::{SlateOptions, SlateStateStore};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use watched::{Requests, Watched};

const OF: TopicPartition = TopicPartition::new(Topic::Actions, 0);

/// How many times as fast time runs while requests are counted.
const FAST: u32 = 30;
/// How much of that time is counted.
const COUNTED: Duration = Duration::from_secs(30 * 60);

/// Dollars for a request to S3 Standard in us-east-1: the public list prices of 2025. Lists cost as puts, deletes nothing.
const DOLLARS_PER_PUT: f64 = 0.005 / 1000.0;
const DOLLARS_PER_GET: f64 = 0.0004 / 1000.0;

/// How often a thousand cached keys are read.
const CACHED_ROUNDS: u32 = 50;

const PARTITIONS: f64 = 64.0;
const HOURS_PER_MONTH: f64 = 730.0;

type Anything = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Anything> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if std::env::args().nth(1).as_deref() != Some("times") {
            requests().await?;
        }
        looks().await?;
        match Minio::start() {
            Some(minio) => times(&minio.url("costs")).await,
            None => {
                println!("no times: {}", millrace_engines::minio::CURE);
                Ok(())
            }
        }
    })
}

/// What one partition asks for, idle and at work.
async fn requests() -> Result<(), Anything> {
    println!("| one partition | PUT/h | LIST/h | GET/h | DELETE/h | 64 partitions: PUT+LIST/s | GET/s | $/month |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, commit_every, options) in [
        ("idle", None, SlateOptions::default()),
        ("a commit every 10 s", Some(10), SlateOptions::default()),
        ("a commit every 5 s", Some(5), SlateOptions::default()),
        ("a commit every 2 s", Some(2), SlateOptions::default()),
        ("a commit every second", Some(1), SlateOptions::default()),
    ] {
        let requests = counted(commit_every.map(Duration::from_secs), options).await?;
        let per_hour = |count: u64| count as f64 * 3600.0 / COUNTED.as_secs_f64();
        let Requests { puts, gets, lists, deletes } = requests;
        let dear = per_hour(puts + lists) * PARTITIONS;
        let cheap = per_hour(gets) * PARTITIONS;
        println!(
            "| {name} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.0} |",
            per_hour(puts),
            per_hour(lists),
            per_hour(gets),
            per_hour(deletes),
            dear / 3600.0,
            cheap / 3600.0,
            (dear * DOLLARS_PER_PUT + cheap * DOLLARS_PER_GET) * HOURS_PER_MONTH
        );
    }
    Ok(())
}

/// What opening asks for, and a look at a partition from its owner's process and from another one.
async fn looks() -> Result<(), Anything> {
    let watched = Watched::new(Arc::new(InMemory::new()));
    let (here, there) = (
        SlateStateStore::on(watched.clone(), "costs", SlateOptions::default()).await?,
        SlateStateStore::on(watched.clone(), "costs", SlateOptions::default()).await?,
    );
    let mut random = SmallRng::seed_from_u64(5);
    let mut state = here.open(OF).await?;
    for offset in 1..=32 {
        state.commit(writes(&mut random, 100_000, 500), offset).await?;
    }
    let mut before = watched.requests();
    let mut told = |what: &str| {
        let now = watched.requests();
        println!(
            "{what}: {} PUT, {} LIST, {} GET",
            now.puts - before.puts,
            now.lists - before.lists,
            now.gets - before.gets
        );
        before = now;
    };
    here.peek(OF, &[1], 100).await?;
    told("a look from the owner's process");
    there.peek(OF, &[1], 100).await?;
    told("a look from another process, 32 commits after the last table");
    let state = there.open(OF).await.map(drop);
    told("taking over, 32 commits after the last table");
    Ok(state?)
}

async fn counted(commit_every: Option<Duration>, options: SlateOptions) -> Result<Requests, Anything> {
    let watched = Watched::new(Arc::new(InMemory::new()));
    let options = SlateOptions {
        poll_every: options.poll_every / FAST,
        compact_every: options.compact_every / FAST,
        collect_every: options.collect_every / FAST,
        collect_age_min: options.collect_age_min / FAST,
        ..options
    };
    let store = SlateStateStore::on(watched.clone(), "costs", options).await?;
    let mut state = store.open(OF).await?;
    let mut random = SmallRng::seed_from_u64(7);
    state.commit(writes(&mut random, 100_000, 500), 1).await?;
    let before = watched.requests();
    let began = Instant::now();
    let mut offset = 1;
    while began.elapsed() < COUNTED / FAST {
        match commit_every {
            Some(every) => {
                offset += 1;
                state.commit(writes(&mut random, 100_000, 500), offset).await?;
                tokio::time::sleep_until((began + every / FAST * u32::try_from(offset)?).into()).await;
            }
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    let after = watched.requests();
    Ok(Requests {
        puts: after.puts - before.puts,
        gets: after.gets - before.gets,
        lists: after.lists - before.lists,
        deletes: after.deletes - before.deletes,
    })
}

/// So many keys of so many, with values of 100 bytes.
fn writes(random: &mut SmallRng, keys: u32, count: usize) -> Vec<StateWrite> {
    (0..count).map(|_| (key(random.random_range(0..keys)), Some(Bytes::from(vec![b'v'; 100])))).collect()
}

fn key(number: u32) -> Bytes {
    Bytes::from(format!("\u{1}{number:08}"))
}

/// Times on an object store of this machine.
async fn times(url: &str) -> Result<(), Anything> {
    const KEYS: u32 = 100_000;
    let mut random = SmallRng::seed_from_u64(11);
    let store = SlateStateStore::open(url, SlateOptions::default()).await?;
    let mut state = store.open(OF).await?;
    let mut offset = 0;
    for from in (0..KEYS).step_by(2_000) {
        offset += 1;
        let writes = (from..from + 2_000).map(|n| (key(n), Some(Bytes::from(vec![b'v'; 100])))).collect();
        state.commit(writes, offset).await?;
    }
    let mut commits = Vec::new();
    for _ in 0..300 {
        offset += 1;
        let writes = writes(&mut random, KEYS, 500);
        let began = Instant::now();
        state.commit(writes, offset).await?;
        commits.push(began.elapsed());
    }
    println!("\ncommit of 500 writes of 100 bytes: {}", spread(&mut commits));

    state.close().await?;
    takeover(url, "after a close", &mut random).await?;
    let state = store.open(OF).await?;
    let state = unflushed(state, &mut offset, &mut random).await?;
    drop(state);
    takeover(url, "after a kill, with 60 commits not yet in a table", &mut random).await
}

/// Commits that a new owner has to read one by one.
async fn unflushed(
    mut state: Box<dyn PartitionState>,
    offset: &mut u64,
    random: &mut SmallRng,
) -> Result<Box<dyn PartitionState>, Anything> {
    for _ in 0..60 {
        *offset += 1;
        state.commit(writes(random, 100_000, 500), *offset).await?;
    }
    Ok(state)
}

async fn takeover(url: &str, when: &str, random: &mut SmallRng) -> Result<(), Anything> {
    let mut cold = Vec::new();
    let store = SlateStateStore::open(url, SlateOptions::default()).await?;
    let began = Instant::now();
    let state = store.open(OF).await?;
    let opened = began.elapsed();
    for _ in 0..500 {
        let began = Instant::now();
        if state.get(&key(random.random_range(0..100_000)))?.is_none() {
            return Err("a key is missing".into());
        }
        cold.push(began.elapsed());
    }
    let first = cold[0];
    let keys: Vec<Bytes> = (0..1_000).map(|_| key(random.random_range(0..100_000))).collect();
    for key in &keys {
        state.get(key)?;
    }
    let (began, used) = (Instant::now(), cpu()?);
    for _ in 0..CACHED_ROUNDS {
        for key in &keys {
            state.get(key)?;
        }
    }
    let cached = CACHED_ROUNDS * 1_000;
    println!(
        "takeover {when}: open {:.0?}, first get {:.1?}; gets while blocks are cold: {}; cached gets: {:.1?} of CPU, {:.1?} by the clock",
        opened,
        first,
        spread(&mut cold),
        (cpu()? - used) / cached,
        began.elapsed() / cached
    );
    Ok(())
}

/// What this process has used of the processors, in hundredths of a second.
fn cpu() -> Result<Duration, Anything> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // After the name in parentheses: the state, then numbers.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 =
        fields.get(11).ok_or("no time")?.parse::<u64>()? + fields.get(12).ok_or("no time")?.parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    format!("p50 {:.1?}, p99 {:.1?} of {}", at(50), at(99), times.len())
}
