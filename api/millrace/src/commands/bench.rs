//! `millrace bench`: whole-process figures. Each starts a platform of its own in another process, on a directory that is
//! thrown away, drives it over HTTP, and reads the processor time that the kernel counted for that process alone.

mod warehouse;
mod window_count;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args as ClapArgs, ValueEnum};
use millrace_events::{ActionKind, Topic, TopicPartition, format_rfc3339};
use millrace_simulator::population::{Options as PopulationOptions, Population};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::client::{note, say};
use crate::assemble::{self, Status, Stores};
use crate::config::{ClockMode, Config, ConfigArgs};
use crate::jobs::Jobs;
use crate::measure::{Usage, percentiles, stopwatch_us, usage};

/// How many requests are in flight while load is driven.
const IN_FLIGHT: usize = 16;
/// How long a started platform may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Measures this build on this machine
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = "Figures are for the whole process under test; use a release build. See BENCHMARKS.md.\n\n\
    Exit codes: 0 measured · 2 could not run\n\n\
    Example: millrace bench ingest jobs")]
pub(crate) struct Args {
    /// What to measure
    #[arg(required = true)]
    names: Vec<Name>,
    /// How many events, where that matters [default: 400000, and 1000000 for window-count]
    #[arg(long)]
    events: Option<u64>,
    /// For how many seconds, where that matters
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Where to put the throw-away data [default: the system's temporary folder]
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Processor time per event at batch 100 and for single events, all jobs running, then the collector alone.
    Ingest,
    /// How fast all jobs work off a log that is full already.
    Jobs,
    /// From acknowledged to visible, at 2,000 events a second.
    Visible,
    /// Home feeds of viewers who follow 500 and 2,000 authors, at 200 requests a second.
    Feed,
    /// Memory when idle, and the time to start with a million events on disk.
    Start,
    /// What archiving and merging cost per event, and how many bytes an event takes then.
    Archive,
    /// Feeds and ingest alone, and beside the contract queries asked without a pause.
    Queries,
    /// Counts per key and one-minute window with durable state, through the runner, on one partition.
    WindowCount,
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
            Name::Jobs => jobs(&args).await?,
            Name::Visible => visible(&args).await?,
            Name::Feed => feed(&args).await?,
            Name::Start => start(&args).await?,
            Name::Archive => warehouse::archive(&args).await?,
            Name::Queries => warehouse::beside(&args).await?,
            Name::WindowCount => count_windows(&args).await?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A platform in another process.
struct Server {
    child: Child,
    url: String,
    http: reqwest::Client,
    ready_after: Duration,
}

impl Server {
    async fn start(dir: &Path, roles: &str) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let begun = stopwatch_us();
        let child = Command::new(std::env::current_exe()?)
            .args(["up", "--listen", &format!("127.0.0.1:{port}"), "--roles", roles, "--data-dir"])
            .arg(dir)
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start the platform")?;
        let http =
            reqwest::Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(IN_FLIGHT).build()?;
        let mut server = Self { child, url: format!("http://127.0.0.1:{port}"), http, ready_after: Duration::ZERO };
        loop {
            let ready = server.http.get(format!("{}/readyz", server.url)).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                server.ready_after = Duration::from_micros(stopwatch_us() - begun);
                return Ok(server);
            }
            ensure!(server.child.try_wait()?.is_none(), "the platform ended before it was ready");
            ensure!(stopwatch_us() - begun < micros(READY_WITHIN), "the platform was not ready in time");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn usage(&self) -> anyhow::Result<Usage> {
        usage(self.child.id()).context("this system does not tell the processor time of a process")
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> anyhow::Result<()> {
        let request = self.http.post(format!("{}{path}", self.url)).basic_auth("bench", Some("")).body(body);
        let answer = request.send().await?;
        ensure!(answer.status().as_u16() == 200, "{path} was answered with {}", answer.status());
        answer.bytes().await?;
        Ok(())
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await?;
        ensure!(answer.status().as_u16() == 200, "{path} was answered with {}", answer.status());
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    async fn caught_up(&self) -> anyhow::Result<()> {
        while self.get("/v1/status").await?.get("caught_up") != Some(&Value::Bool(true)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        // The shell's own `kill`: the program of that name is not on every machine.
        let stopped = Command::new("sh").args(["-c", "kill -TERM $0", &self.child.id().to_string()]).status()?;
        ensure!(stopped.success(), "cannot stop the platform");
        tokio::task::spawn_blocking(move || self.child.wait()).await??;
        Ok(())
    }
}

fn folder(args: &Args) -> anyhow::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("millrace-bench-");
    Ok(match &args.dir {
        Some(dir) => builder.tempdir_in(dir)?,
        None => builder.tempdir()?,
    })
}

fn population(users: u32, events: u64) -> Population {
    Population::new(PopulationOptions { users, events, ..PopulationOptions::default() })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn per(cpu: Duration, count: u64) -> f64 {
    micros(cpu) as f64 / count.max(1) as f64
}

/// Events as the bodies of requests.
fn bodies(events: u64, batch: usize) -> Vec<Vec<u8>> {
    let calls: Vec<Vec<u8>> = population(2_000, events)
        .map(|call| {
            let mut line = Vec::new();
            call.write_json(&mut line);
            line
        })
        .collect();
    if batch == 1 {
        return calls;
    }
    calls
        .chunks(batch)
        .map(|calls| {
            let mut body = b"{\"batch\":[".to_vec();
            body.extend_from_slice(&calls.join(&b","[..]));
            body.extend_from_slice(b"]}");
            body
        })
        .collect()
}

async fn drive(server: &Arc<Server>, path: &'static str, bodies: Vec<Vec<u8>>) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let bodies = Arc::new(std::sync::Mutex::new(bodies.into_iter()));
    for _ in 0..IN_FLIGHT {
        let (server, bodies) = (server.clone(), bodies.clone());
        tasks.spawn(async move {
            loop {
                let next = bodies.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                let Some(body) = next else { return anyhow::Ok(()) };
                server.post(path, body).await?;
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
            let dir = folder(args)?;
            let server = Arc::new(Server::start(dir.path(), roles).await?);
            let path = if batch == 1 { "/v1/track" } else { "/v1/batch" };
            let warm = bodies(2_000, batch);
            drive(&server, path, warm).await?;
            let bodies = bodies(events, batch);
            let bytes: usize = bodies.iter().map(Vec::len).sum();
            let (before, begun) = (server.usage()?, stopwatch_us());
            drive(&server, path, bodies).await?;
            let took = Duration::from_micros(stopwatch_us() - begun);
            if roles.contains("pipelines") {
                server.caught_up().await?;
            }
            let after = server.usage()?;
            say(&format!(
                "ingest roles={roles} batch={batch}: {:.2} µs CPU per event, {:.0} events/s acknowledged, {} events of {} bytes, {} MiB resident",
                per(after.cpu - before.cpu, events),
                events as f64 / took.as_secs_f64(),
                events,
                bytes as u64 / events.max(1),
                after.resident_bytes >> 20,
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
            content_encoding: None,
            body: body.into(),
        };
        let taken = collector.collect(millrace_collector::Call::Batch, request).await;
        taken.map_err(|refusal| anyhow::anyhow!("{}", refusal.message))?;
    }
    stores.close();
    Ok(())
}

fn config(dir: &Path) -> anyhow::Result<Config> {
    Config::load(&ConfigArgs {
        data_dir: Some(dir.to_path_buf()),
        clock: Some(ClockMode::Replay),
        ..ConfigArgs::default()
    })
}

async fn jobs(args: &Args) -> anyhow::Result<()> {
    let events = args.events.unwrap_or(EVENTS);
    let dir = folder(args)?;
    let config = config(dir.path())?;
    fill(&config, events).await?;
    let stores = Stores::open(&config).await?;
    let (before, begun) = (usage(std::process::id()).unwrap_or_default(), stopwatch_us());
    let jobs = Jobs::all(&stores, &Default::default())?;
    let status = Status::new(&stores, Some(&jobs), None);
    status.caught_up().await?;
    let took = Duration::from_micros(stopwatch_us() - begun);
    jobs.stop().await;
    let after = usage(std::process::id()).unwrap_or_default();
    let mut rekeyed = 0;
    for topic in Topic::DERIVED {
        for partition in 0..stores.log.partitions() {
            rekeyed += stores.log.bounds(TopicPartition::new(topic, partition)).await?.end;
        }
    }
    say(&format!(
        "jobs: {:.0} actions/s from the log, {:.2} µs CPU per action, {:.2} re-keyed records per action, {} actions, {} MiB resident",
        events as f64 / took.as_secs_f64(),
        per(after.cpu - before.cpu, events),
        rekeyed as f64 / events as f64,
        events,
        after.resident_bytes >> 20,
    ))?;
    stores.close();
    Ok(())
}

async fn count_windows(args: &Args) -> anyhow::Result<()> {
    let events = args.events.unwrap_or(1_000_000);
    let dir = folder(args)?;
    let measured = window_count::run(config(dir.path())?, events).await?;
    let window_count::Tally { rows, total, sum } = measured.tally;
    say(&format!("rows={rows} tot={total} sum={sum:016x}"))?;
    say(&format!(
        "window-count: {:.2} µs CPU per event, {:.0} events/s from the log, {events} events, {} MiB resident",
        per(measured.cpu, events),
        events as f64 / measured.took.as_secs_f64(),
        measured.resident_bytes >> 20,
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
    let dir = folder(args)?;
    let server = Arc::new(Server::start(dir.path(), "collector,pipelines,api").await?);
    let target = json!({"target_id": "probe-author"});
    server.post("/v1/batch", batch(&[track("probe-viewer", ActionKind::UserFollowed, &target)])).await?;
    server.caught_up().await?;
    // 2,000 events a second: a batch of 20 every 10 ms.
    let load = tokio::spawn({
        let (server, seconds) = (server.clone(), args.seconds);
        async move {
            let mut every = tokio::time::interval(Duration::from_millis(10));
            for body in bodies(seconds * 2_000, 20) {
                every.tick().await;
                let server = server.clone();
                tokio::spawn(async move { server.post("/v1/batch", body).await });
            }
        }
    });
    let (mut engagement, mut feed) = (Vec::new(), Vec::new());
    for n in 0.. {
        if load.is_finished() {
            break;
        }
        let post = format!("probe-{n}");
        let created = track("probe-author", ActionKind::PostCreated, &json!({"post_id": post, "text": "probe"}));
        let shared = track("probe-other", ActionKind::PostShared, &json!({ "post_id": post }));
        server.post("/v1/batch", batch(&[created, shared])).await?;
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
                let answer = server.get("/v1/feeds/home?viewer=probe-viewer&limit=100").await?;
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
        server.post("/v1/batch", batch(&[seen])).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    load.await?;
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
        let dir = folder(args)?;
        let server = Arc::new(Server::start(dir.path(), "collector,pipelines,api").await?);
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
        drive(&server, "/v1/batch", calls.chunks(200).map(batch).collect()).await?;
        server.caught_up().await?;
        let before = server.usage()?;
        let mut every = tokio::time::interval(Duration::from_millis(5));
        let mut tasks = JoinSet::new();
        let requests = args.seconds * 200;
        for n in 0..requests {
            every.tick().await;
            let server = server.clone();
            tasks.spawn(async move {
                let sent = stopwatch_us();
                let answer = server.get(&format!("/v1/feeds/home?viewer=viewer-{}&limit=20", n % 10)).await?;
                let items = answer.get("items").and_then(Value::as_array).map_or(0, Vec::len);
                ensure!(items == 20, "a feed had {items} items instead of 20");
                Ok(Duration::from_micros(stopwatch_us() - sent))
            });
        }
        let mut samples = Vec::new();
        while let Some(done) = tasks.join_next().await {
            samples.push(done??);
        }
        let after = server.usage()?;
        let (p50, p99, max) = percentiles(&mut samples).context("nothing was measured")?;
        say(&format!(
            "feed following {authors}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms, {:.0} µs CPU per request, {requests} requests at 200/s",
            millis(p50),
            millis(p99),
            millis(max),
            per(after.cpu - before.cpu, requests),
        ))?;
        if let Ok(server) = Arc::try_unwrap(server) {
            server.stop().await?;
        }
    }
    Ok(())
}

async fn start(args: &Args) -> anyhow::Result<()> {
    let dir = folder(args)?;
    let server = Server::start(dir.path(), "collector,pipelines,api").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = server.usage()?;
    say(&format!(
        "start empty: ready after {:.0} ms, {} MiB resident when idle",
        millis(server.ready_after),
        idle.resident_bytes >> 20
    ))?;
    server.stop().await?;
    let dir = folder(args)?;
    let events = 1_000_000;
    fill(&config(dir.path())?, events).await?;
    let server = Server::start(dir.path(), "collector,pipelines,api").await?;
    server.caught_up().await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let worked = server.usage()?;
    server.stop().await?;
    let server = Server::start(dir.path(), "collector,pipelines,api").await?;
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
