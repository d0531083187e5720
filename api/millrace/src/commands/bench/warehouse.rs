//! What the archive costs, and what queries cost those beside them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millrace_pipelines::archive::Archived;
use millrace_warehouse::{Table, Warehouse};
use serde_json::Value;
use tokio::task::JoinSet;

use super::{Args, EVENTS, Server, batch, bodies, config, drive, fill, folder, millis, per, track};
use crate::archive;
use crate::assemble::{Status, Stores};
use crate::commands::client::say;
use crate::jobs::Jobs;
use crate::measure::{percentiles, stopwatch_us, usage};

/// Archives a full log whose jobs are done, and merges what comes of it: processor time and bytes per event.
pub(super) async fn archive(args: &Args) -> anyhow::Result<()> {
    let events = args.events.unwrap_or(EVENTS);
    let dir = folder(args)?;
    let config = config(dir.path())?;
    fill(&config, events).await?;
    let stores = Stores::open(&config).await?;
    let warehouse = archive::embedded(&config).await?;
    let archived = Archived::default();
    let mut jobs = Jobs::all(&stores, &archived)?;
    Status::new(&stores, Some(&jobs), None).caught_up().await?;
    let process = std::process::id();
    let (before, begun) = (usage(process).unwrap_or_default(), stopwatch_us());
    let archiver = archive::start(&stores, &mut jobs, warehouse.clone(), archived);
    Status::new(&stores, Some(&jobs), Some(archiver)).caught_up().await?;
    let took = Duration::from_micros(stopwatch_us() - begun);
    let after = usage(process).unwrap_or_default();
    jobs.stop().await;
    let fresh = warehouse.size(Table::Events);
    say(&format!(
        "archive: {:.2} µs CPU per event, {:.0} events/s, {} rows in {} files, {:.1} bytes per event",
        per(after.cpu - before.cpu, events),
        events as f64 / took.as_secs_f64(),
        fresh.rows,
        fresh.files,
        fresh.bytes as f64 / fresh.rows as f64,
    ))?;
    let mut merged = 0;
    loop {
        let done = warehouse.maintain().await?;
        merged += done.files_merged;
        if done.files_merged == 0 {
            break;
        }
    }
    let (merging, now) = (usage(process).unwrap_or_default(), warehouse.size(Table::Events));
    say(&format!(
        "archive merged: {:.2} µs CPU per event for {merged} files, now {} files, {:.1} bytes per event",
        per(merging.cpu - after.cpu, events),
        now.files,
        now.bytes as f64 / now.rows as f64,
    ))?;
    stores.close();
    Ok(())
}

/// The contract queries, one after the other, while feeds are served and events come in; and the same without them.
pub(super) async fn beside(args: &Args) -> anyhow::Result<()> {
    let events = args.events.unwrap_or(EVENTS);
    let dir = folder(args)?;
    fill(&config(dir.path())?, events).await?;
    let server = Arc::new(Server::start(dir.path(), "collector,pipelines,api").await?);
    server.caught_up().await?;
    let viewers: Vec<Value> = (0..50)
        .map(|n| {
            let target = serde_json::json!({ "target_id": format!("u{}", n % 7) });
            track("reader", millrace_events::ActionKind::UserFollowed, &target)
        })
        .collect();
    drive(&server, "/v1/batch", vec![batch(&viewers)]).await?;
    for with_queries in [false, true] {
        let asking = with_queries.then(|| tokio::spawn(ask(server.clone())));
        let (mut feeds, mut appends) = load(&server, args.seconds).await?;
        if let Some(asking) = asking {
            asking.abort();
            // Ended is what it was told to be; what it held of the server is free after that.
            let _ended = asking.await;
        }
        let beside = if with_queries { "beside queries" } else { "alone" };
        for (what, samples) in [("feeds", &mut feeds), ("batches of 20", &mut appends)] {
            let (p50, p99, max) = percentiles(samples).context("nothing was measured")?;
            say(&format!(
                "{what} {beside}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
                millis(p50),
                millis(p99),
                millis(max)
            ))?;
        }
    }
    if let Ok(server) = Arc::try_unwrap(server) {
        server.stop().await?;
    }
    Ok(())
}

/// Asks the contract queries, two at a time, for ever.
async fn ask(server: Arc<Server>) {
    let names = ["events_by_name", "events_by_hour", "top_posts?by=views", "active_users?every=day"];
    let mut asked = 0;
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < 2 {
            let (server, name) = (server.clone(), names[asked % names.len()]);
            asked += 1;
            tasks.spawn(async move { server.get(&format!("/v1/queries/{name}")).await });
        }
        if let Some(Ok(Err(error))) = tasks.join_next().await {
            tracing::warn!(%error, "a query failed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A hundred feeds and a hundred batches a second: how long each took.
async fn load(server: &Arc<Server>, seconds: u64) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
    let mut every = tokio::time::interval(Duration::from_millis(10));
    let (mut feeds, mut appends) = (JoinSet::new(), JoinSet::new());
    for body in bodies(seconds * 2_000, 20) {
        every.tick().await;
        let (reader, writer) = (server.clone(), server.clone());
        feeds.spawn(async move {
            let sent = stopwatch_us();
            reader.get("/v1/feeds/home?viewer=reader&limit=20").await?;
            anyhow::Ok(Duration::from_micros(stopwatch_us() - sent))
        });
        appends.spawn(async move {
            let sent = stopwatch_us();
            writer.post("/v1/batch", body).await?;
            anyhow::Ok(Duration::from_micros(stopwatch_us() - sent))
        });
    }
    let mut took = (Vec::new(), Vec::new());
    while let Some(done) = feeds.join_next().await {
        took.0.push(done??);
    }
    while let Some(done) = appends.join_next().await {
        took.1.push(done??);
    }
    Ok(took)
}
