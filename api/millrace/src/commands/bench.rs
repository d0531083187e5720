//! `millrace bench`: whole-process figures. Each starts a platform of its own in another process, on a directory that is
//! thrown away, drives it over HTTP, and reads the processor time that the kernel counted for that process alone.

mod collector;
mod meter;
mod partitions;
mod place;
mod server;
mod takeover;
mod warehouse;
mod window_count;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args as ClapArgs, ValueEnum};
use millrace_events::{ActionKind, PARTITIONS_MAX, Topic, TopicPartition, format_rfc3339};
use millrace_simulator::population::{Options as PopulationOptions, Population};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::meter::{Beside, Meter, Spent};
use self::place::Place;
use self::server::{Load, Server, Target};
use super::client::{note, say};
use crate::assemble::{self, Status, Stores};
use crate::config::{Config, StoreArgs};
use crate::jobs::Jobs;
use crate::measure::{percentiles, stopwatch_us};

/// How many requests are in flight while load is driven.
const IN_FLIGHT: usize = 16;
/// How many events a second steady load has...
const LOAD_RATE: u64 = 2_000;
/// ...how many of them one request brings...
const LOAD_BATCH: usize = 20;
/// ...and how often one is sent.
const LOAD_EVERY: Duration = Duration::from_millis(10);

/// Measures this build on this machine
#[derive(ClapArgs, Clone, Debug)]
#[command(
    after_help = "Figures are for the whole process under test; use a release build. With --log and its like they are \
    taken on engines: each platform under test keeps what it has under a name of its own there, and leaves it, so give it \
    engines that can be thrown away, as `make bench-cluster` does. See BENCHMARKS.md.\n\n\
    Exit codes: 0 measured · 2 could not run\n\n\
    Example: millrace bench ingest jobs"
)]
pub(crate) struct Args {
    /// What to measure
    #[arg(required = true)]
    names: Vec<Name>,
    /// How many events, where that matters [default: 400000, and 1000000 for window-count and start]
    #[arg(long)]
    events: Option<u64>,
    /// For how many seconds, where that matters
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Where to put the throw-away data [default: the system's temporary folder]
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    stores: StoreArgs,
    /// Partitions of every topic [default: 4]; of `partitions`, the most that are tried [default: 64]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(PARTITIONS_MAX)))]
    partitions: Option<u32>,
    /// How many workers `takeover` kills
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    kills: u32,
    /// How many feeds a second `feed` asks for
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    feeds: u32,
    /// Engines on this machine whose processor time is told too
    #[arg(long, value_name = "NAME=PID", env = "MILLRACE_BENCH_BESIDE", value_delimiter = ',', value_parser = Beside::read)]
    beside: Vec<Beside>,
    /// Collectors that run already and get the bodies of `collector` too: single events at the first URL, batches at the second
    #[arg(long, value_name = "NAME=PID=URL=URL", value_parser = collector::Peer::read)]
    peer: Vec<collector::Peer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Processor time per event at batch 100 and for single events, all jobs running, then the collector alone.
    Ingest,
    /// Processor time per event of the collector alone at batch 1, 10 and 100, and of other collectors (--peer).
    Collector,
    /// How fast all jobs work off a log that is full already.
    Jobs,
    /// From acknowledged to visible, at 2,000 events a second.
    Visible,
    /// Home feeds of viewers who follow 500 and 2,000 authors, at a steady rate.
    Feed,
    /// Memory when idle, and the time to start with a million events on disk.
    Start,
    /// What archiving and merging cost per event, and how many bytes an event takes then.
    Archive,
    /// Feeds and ingest alone, and beside the contract queries asked without a pause.
    Queries,
    /// Counts per key and one-minute window with durable state, through the runner, on one partition.
    WindowCount,
    /// Processor time per event and when idle, by the number of partitions.
    Partitions,
    /// How long the partitions of a worker that is killed stand still; needs engines.
    Takeover,
}

/// How many events most benchmarks take.
const EVENTS: u64 = 400_000;

/// Runs the benchmarks named.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        note("this is a debug build: its figures mean nothing");
    }
    for name in &args.names {
        match name {
            Name::Ingest => ingest(&args).await?,
            Name::Collector => collector::run(&args).await?,
            Name::Jobs => jobs(&args).await?,
            Name::Visible => visible(&args).await?,
            Name::Feed => feed(&args).await?,
            Name::Start => start(&args).await?,
            Name::Archive => warehouse::archive(&args).await?,
            Name::Queries => warehouse::beside(&args).await?,
            Name::WindowCount => count_windows(&args).await?,
            Name::Partitions => partitions::run(&args).await?,
            Name::Takeover => takeover::run(&args).await?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn population(users: u32, events: u64) -> Population {
    Population::new(PopulationOptions { users, events, ..PopulationOptions::default() })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Events as the bodies of requests, made when they are wanted.
fn batches(events: u64, batch: usize) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
    let mut calls = population(2_000, events).map(|call| {
        let mut line = Vec::new();
        call.write_json(&mut line);
        line
    });
    std::iter::from_fn(move || {
        if batch == 1 {
            return calls.next();
        }
        let calls: Vec<Vec<u8>> = calls.by_ref().take(batch).collect();
        if calls.is_empty() {
            return None;
        }
        let mut body = b"{\"batch\":[".to_vec();
        body.extend_from_slice(&calls.join(&b","[..]));
        body.extend_from_slice(b"]}");
        Some(body)
    })
}

/// The same, made before anything is measured.
fn bodies(events: u64, batch: usize) -> Vec<Vec<u8>> {
    batches(events, batch).collect()
}

async fn drive(target: &Arc<Target>, bodies: Vec<Vec<u8>>) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let bodies = Arc::new(std::sync::Mutex::new(bodies.into_iter()));
    for _ in 0..IN_FLIGHT {
        let (target, bodies) = (target.clone(), bodies.clone());
        tasks.spawn(async move {
            loop {
                let next = bodies.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                let Some(body) = next else { return anyhow::Ok(()) };
                target.post(body).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn ingest(args: &Args) -> anyhow::Result<()> {
    let all = args.events.unwrap_or(EVENTS);
    for roles in ["collector,pipelines,api", "collector"] {
        for (batch, events) in [(100, all), (1, all / 10)] {
            let place = Place::fresh(args)?;
            let server = Arc::new(Server::start(&place, roles).await?);
            let target = Arc::new(server.target(if batch == 1 { "/v1/track" } else { "/v1/batch" }));
            let warm = bodies(2_000, batch);
            drive(&target, warm).await?;
            let bodies = bodies(events, batch);
            let bytes: usize = bodies.iter().map(Vec::len).sum();
            let meter = Meter::start(args, server.process())?;
            drive(&target, bodies).await?;
            let acknowledged = meter.read()?;
            if roles.contains("pipelines") {
                server.caught_up().await?;
            }
            let spent = meter.read()?;
            say(&format!(
                "ingest roles={roles} batch={batch}: {:.2} µs CPU per event{}, {:.0} events/s acknowledged, {} events of {} bytes, {} MiB resident",
                spent.per(events),
                spent.beside(events),
                acknowledged.rate(events),
                events,
                bytes as u64 / events.max(1),
                spent.resident_bytes >> 20,
            ))?;
            if let Ok(server) = Arc::try_unwrap(server) {
                server.stop().await?;
            }
        }
    }
    Ok(())
}

/// Fills a log through the collector, without jobs.
async fn fill(config: &Config, events: u64) -> anyhow::Result<()> {
    let stores = Stores::open(config).await?;
    let clock = assemble::clock(config, stores.log.as_ref()).await?;
    let collector = assemble::collector(stores.log.clone(), clock, (Vec::new(), true));
    // One after the other: a replay's clock must see the events as they happened.
    for body in bodies(events, 500) {
        let request = millrace_collector::Request {
            authorization: Some("Basic YmVuY2g6".to_owned()),
            body: body.into(),
            ..millrace_collector::Request::default()
        };
        let taken = collector.collect(millrace_collector::Call::Batch, request).await;
        taken.map_err(|refusal| anyhow::anyhow!("{}", refusal.message))?;
    }
    stores.close();
    Ok(())
}

/// A log that was worked off.
struct WorkedOff {
    spent: Spent,
    /// Records in the topics that stage 1 sends to.
    rekeyed: u64,
}

/// Fills a log and has all jobs work it off.
async fn work_off(args: &Args, place: &Place, events: u64) -> anyhow::Result<WorkedOff> {
    let config = place.config()?;
    fill(&config, events).await?;
    let stores = Stores::open(&config).await?;
    let meter = Meter::own(args)?;
    let jobs = Jobs::all(&stores, &Default::default())?;
    let status = Status::new(&stores, Some(&jobs), None);
    status.caught_up().await?;
    let caught_up = meter.read()?;
    jobs.stop().await;
    // What they commit at their end belongs to the cost, not to the rate.
    let spent = Spent { took: caught_up.took, ..meter.read()? };
    let mut rekeyed = 0;
    for topic in Topic::DERIVED {
        for partition in 0..stores.log.partitions() {
            rekeyed += stores.log.bounds(TopicPartition::new(topic, partition)).await?.end;
        }
    }
    stores.close();
    Ok(WorkedOff { spent, rekeyed })
}

async fn jobs(args: &Args) -> anyhow::Result<()> {
    let events = args.events.unwrap_or(EVENTS);
    let WorkedOff { spent, rekeyed } = work_off(args, &Place::fresh(args)?, events).await?;
    say(&format!(
        "jobs: {:.0} actions/s from the log, {:.2} µs CPU per action{}, {:.2} re-keyed records per action, {} actions, {} MiB resident",
        spent.rate(events),
        spent.per(events),
        spent.beside(events),
        rekeyed as f64 / events as f64,
        events,
        spent.resident_bytes >> 20,
    ))?;
    Ok(())
}

async fn count_windows(args: &Args) -> anyhow::Result<()> {
    let events = args.events.unwrap_or(1_000_000);
    let place = Place::fresh(args)?.with_partitions(1);
    let window_count::Measured { tally, spent } = window_count::run(args, place.config()?, events).await?;
    let window_count::Tally { rows, total, sum } = tally;
    say(&format!("rows={rows} tot={total} sum={sum:016x}"))?;
    say(&format!(
        "window-count: {:.2} µs CPU per event{}, {:.0} events/s from the log, {events} events, {} MiB resident",
        spent.per(events),
        spent.beside(events),
        spent.rate(events),
        spent.resident_bytes >> 20,
    ))?;
    Ok(())
}

fn track(user: &str, kind: ActionKind, properties: &Value) -> Value {
    json!({"type": "track", "userId": user, "event": kind.as_str(), "properties": properties})
}

fn batch(calls: &[Value]) -> Vec<u8> {
    json!({ "batch": calls }).to_string().into_bytes()
}

async fn visible(args: &Args) -> anyhow::Result<()> {
    let place = Place::fresh(args)?;
    let server = Arc::new(Server::start(&place, "collector,pipelines,api").await?);
    let target = json!({"target_id": "probe-author"});
    server.target("/v1/batch").post(batch(&[track("probe-viewer", ActionKind::UserFollowed, &target)])).await?;
    server.caught_up().await?;
    let load = Load::start(&server, batches(args.seconds * LOAD_RATE, LOAD_BATCH));
    let (mut engagement, mut feed) = (Vec::new(), Vec::new());
    for n in 0.. {
        if load.is_finished() {
            break;
        }
        let post = format!("probe-{n}");
        let created = track("probe-author", ActionKind::PostCreated, &json!({"post_id": post, "text": "probe"}));
        let shared = track("probe-other", ActionKind::PostShared, &json!({ "post_id": post }));
        server.target("/v1/batch").post(batch(&[created, shared])).await?;
        let acknowledged = stopwatch_us();
        let since = |at: u64| Duration::from_micros(stopwatch_us() - at);
        let (mut counted, mut shown) = (None, None);
        while counted.is_none() || shown.is_none() {
            if counted.is_none() {
                let answer = server.get(&format!("/v1/posts/{post}/engagement")).await?;
                if answer.pointer("/totals/shares") == Some(&json!(1)) {
                    counted = Some(since(acknowledged));
                }
            }
            if shown.is_none() {
                let answer = server.feed("viewer=probe-viewer&limit=100").await?;
                let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
                if items.iter().any(|item| item.get("post_id") == Some(&json!(post))) {
                    shown = Some(since(acknowledged));
                }
            }
            ensure!(since(acknowledged) < Duration::from_secs(10), "{post} did not become visible in 10 s");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        engagement.extend(counted);
        feed.extend(shown);
        // Seen, so that the feed stays short and a new post is always on its first page.
        let seen = track("probe-viewer", ActionKind::PostViewed, &json!({ "post_id": post }));
        server.target("/v1/batch").post(batch(&[seen])).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    load.finish().await?;
    for (what, samples) in [("engagement", &mut engagement), ("a follower's home feed", &mut feed)] {
        let count = samples.len();
        let (p50, p99, max) = percentiles(samples).context("nothing was measured")?;
        say(&format!(
            "visible in {what}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms after the acknowledgement, {count} samples at 2000 events/s",
            millis(p50),
            millis(p99),
            millis(max),
        ))?;
    }
    if let Ok(server) = Arc::try_unwrap(server) {
        server.stop().await?;
    }
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

async fn feed(args: &Args) -> anyhow::Result<()> {
    for authors in [500_u32, 2_000] {
        let place = Place::fresh(args)?;
        let server = Arc::new(Server::start(&place, "collector,pipelines,api").await?);
        let mut calls = Vec::new();
        // Ten viewers who follow all authors, each of whom wrote as many posts as make at least 500 candidates.
        for viewer in 0..10 {
            for author in 0..authors {
                let target = json!({"target_id": format!("author-{author}")});
                calls.push(track(&format!("viewer-{viewer}"), ActionKind::UserFollowed, &target));
            }
        }
        for post in 0..authors.max(500) {
            let id = json!({"post_id": format!("post-{post}"), "text": "a post", "tags": ["bench"]});
            calls.push(track(&format!("author-{}", post % authors), ActionKind::PostCreated, &id));
            for fan in 0..5 {
                let id = json!({"post_id": format!("post-{post}")});
                calls.push(track(&format!("fan-{fan}"), ActionKind::PostLiked, &id));
            }
        }
        drive(&Arc::new(server.target("/v1/batch")), calls.chunks(200).map(batch).collect()).await?;
        server.caught_up().await?;
        let idle = Asked::within(&server, IDLE).await?;
        let (before, meter) = (server.metrics().await?, Meter::start(args, server.process())?);
        let mut every = tokio::time::interval(Duration::from_secs(1) / args.feeds);
        let mut tasks = JoinSet::new();
        let requests = args.seconds * u64::from(args.feeds);
        for n in 0..requests {
            every.tick().await;
            let server = server.clone();
            tasks.spawn(async move {
                let sent = stopwatch_us();
                let answer = server.feed(&format!("viewer=viewer-{}&limit=20", n % 10)).await?;
                let items = answer.get("items").and_then(Value::as_array).map_or(0, Vec::len);
                anyhow::Ok((Duration::from_micros(stopwatch_us() - sent), items == 20))
            });
        }
        let (mut samples, mut short) = (Vec::new(), 0);
        while let Some(done) = tasks.join_next().await {
            let (took, is_whole) = done??;
            samples.push(took);
            short += u64::from(!is_whole);
        }
        // A source that is late is left out: where that is the rule, what is measured is no feed.
        ensure!(
            short * 10 < requests,
            "{short} of {requests} feeds had fewer than 20 items: the stores are too slow for {} feeds a second, give fewer with --feeds",
            args.feeds
        );
        let spent = meter.read()?;
        let asked = Asked::between(&before, &server.metrics().await?);
        let (p50, p99, max) = percentiles(&mut samples).context("nothing was measured")?;
        say(&format!(
            "feed following {authors}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms, {:.0} µs CPU per request{}, {requests} requests at {}/s, {short} of them short{}",
            millis(p50),
            millis(p99),
            millis(max),
            spent.per(requests),
            spent.beside(requests),
            args.feeds,
            asked.each(&idle, spent.took, requests),
        ))?;
        if let Ok(server) = Arc::try_unwrap(server) {
            server.stop().await?;
        }
    }
    Ok(())
}

/// How long an idle platform is looked at, to know what it reads without feeds.
const IDLE: Duration = Duration::from_secs(3);

/// How often an online store that is elsewhere was read: how many times it was waited for, and for how many keys.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Asked {
    round_trips: f64,
    commands: f64,
}

impl Asked {
    fn between(before: &server::Metrics, after: &server::Metrics) -> Self {
        let grown = |name| after.sum(name, "what=\"read\"") - before.sum(name, "what=\"read\"");
        Self {
            round_trips: grown("millrace_online_round_trips_total"),
            commands: grown("millrace_online_commands_total"),
        }
    }

    /// What was read within `time` from now on.
    async fn within(server: &Server, time: Duration) -> anyhow::Result<Self> {
        let before = server.metrics().await?;
        tokio::time::sleep(time).await;
        Ok(Self::between(&before, &server.metrics().await?))
    }

    /// For each of `count` requests, in words, without what an idle platform reads in [`IDLE`]; nothing where the store is not
    /// elsewhere.
    fn each(&self, idle: &Self, took: Duration, count: u64) -> String {
        if self.round_trips == 0.0 {
            return String::new();
        }
        let share = took.as_secs_f64() / IDLE.as_secs_f64();
        let each = |all: f64, idle: f64| (all - idle * share) / count.max(1) as f64;
        format!(
            ", {:.2} round trips and {:.0} commands each",
            each(self.round_trips, idle.round_trips),
            each(self.commands, idle.commands)
        )
    }
}

async fn start(args: &Args) -> anyhow::Result<()> {
    let place = Place::fresh(args)?;
    let server = Server::start(&place, "collector,pipelines,api").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = server.usage()?;
    say(&format!(
        "start empty: ready after {:.0} ms, {} MiB resident when idle",
        millis(server.ready_after),
        idle.resident_bytes >> 20
    ))?;
    server.stop().await?;
    let place = Place::fresh(args)?;
    let events = args.events.unwrap_or(1_000_000);
    fill(&place.config()?, events).await?;
    let server = Server::start(&place, "collector,pipelines,api").await?;
    server.caught_up().await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let worked = server.usage()?;
    server.stop().await?;
    let server = Server::start(&place, "collector,pipelines,api").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = server.usage()?;
    say(&format!(
        "start with {events} events from {}: ready after {:.0} ms, {} MiB resident when idle ({} MiB after working off all of them)",
        format_rfc3339(PopulationOptions::default().start_us),
        millis(server.ready_after),
        idle.resident_bytes >> 20,
        worked.resident_bytes >> 20,
    ))?;
    server.stop().await
}

#[cfg(test)]
mod tests;
