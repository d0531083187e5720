//! What the archive costs, and what queries cost those beside them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millrace_clickhouse::{ClickHouseOptions, ClickHouseWarehouse};
use millrace_delta::DeltaWarehouse;
use millrace_pipelines::archive::Archived;
use millrace_warehouse::{Table, Warehouse};
use serde_json::Value;
use tokio::task::JoinSet;

use super::{Args, EVENTS, Meter, Place, Server, batch, bodies, drive, fill, millis, track};
use crate::archive;
use crate::assemble::{Status, Stores};
use crate::commands::client::say;
use crate::config::{Backend, Config};
use crate::jobs::Jobs;
use crate::measure::{percentiles, stopwatch_us};

/// The warehouse under test.
enum Tables {
    Delta(Arc<DeltaWarehouse>),
    ClickHouse(Arc<ClickHouseWarehouse>),
}

/// How large a table is, and in how many pieces.
struct Size {
    rows: u64,
    bytes: u64,
    pieces: String,
}

impl Tables {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        match &config.warehouse {
            Backend::Embedded => Ok(Self::Delta(archive::embedded(config).await?)),
            Backend::Engine { url, .. } => {
                Ok(Self::ClickHouse(Arc::new(ClickHouseWarehouse::open(url, ClickHouseOptions::default()).await?)))
            }
        }
    }

    fn seam(&self) -> Arc<dyn Warehouse> {
        match self {
            Self::Delta(tables) => tables.clone(),
            Self::ClickHouse(tables) => tables.clone(),
        }
    }

    /// How large the events are. Of ClickHouse that is what is there at this moment: it merges when it likes.
    async fn events(&self) -> anyhow::Result<Size> {
        Ok(match self {
            Self::Delta(tables) => {
                let size = tables.size(Table::Events);
                Size { rows: size.rows, bytes: size.bytes, pieces: format!("{} files", size.files) }
            }
            Self::ClickHouse(tables) => {
                let size = tables.size(Table::Events).await?;
                Size { rows: size.rows, bytes: size.bytes, pieces: format!("{} parts", size.parts) }
            }
        })
    }
}

/// Archives a full log whose jobs are done, and merges what comes of it: processor time and bytes per event.
pub(super) async fn archive(args: &Args) -> anyhow::Result<()> {
    let events = args.events.unwrap_or(EVENTS);
    let place = Place::fresh(args)?;
    let config = place.config()?;
    fill(&config, events).await?;
    let stores = Stores::open(&config).await?;
    let tables = Tables::open(&config).await?;
    let archived = Archived::default();
    let mut jobs = Jobs::all(&stores, &archived)?;
    Status::new(&stores, Some(&jobs), None).caught_up().await?;
    let meter = Meter::own(args)?;
    let archiver = archive::start(&stores, &mut jobs, tables.seam(), archived);
    Status::new(&stores, Some(&jobs), Some(archiver)).caught_up().await?;
    let spent = meter.read()?;
    jobs.stop().await;
    let fresh = tables.events().await?;
    say(&format!(
        "archive: {:.2} µs CPU per event{}, {:.0} events/s, {} rows in {}, {:.1} bytes per event",
        spent.per(events),
        spent.beside(events),
        spent.rate(events),
        fresh.rows,
        fresh.pieces,
        fresh.bytes as f64 / fresh.rows as f64,
    ))?;
    let (merging, mut merged) = (Meter::own(args)?, 0);
    loop {
        let done = tables.seam().maintain().await?;
        merged += done.files_merged;
        if done.files_merged == 0 {
            break;
        }
    }
    let (merging, now) = (merging.read()?, tables.events().await?);
    say(&format!(
        "archive merged: {:.2} µs CPU per event for {merged} files, now {}, {:.1} bytes per event",
        merging.per(events),
        now.pieces,
        now.bytes as f64 / now.rows as f64,
    ))?;
    stores.close();
    Ok(())
}

/// The contract queries, one after the other, while feeds are served and events come in; and the same without them.
pub(super) async fn beside(args: &Args) -> anyhow::Result<()> {
    let events = args.events.unwrap_or(EVENTS);
    let place = Place::fresh(args)?;
    fill(&place.config()?, events).await?;
    let server = Arc::new(Server::start(&place, "collector,pipelines,api").await?);
    server.caught_up().await?;
    let viewers: Vec<Value> = (0..50)
        .map(|n| {
            let target = serde_json::json!({ "target_id": format!("u{}", n % 7) });
            track("reader", millrace_events::ActionKind::UserFollowed, &target)
        })
        .collect();
    drive(&Arc::new(server.target("/v1/batch")), vec![batch(&viewers)]).await?;
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
            reader.feed("viewer=reader&limit=20").await?;
            anyhow::Ok(Duration::from_micros(stopwatch_us() - sent))
        });
        appends.spawn(async move {
            let sent = stopwatch_us();
            writer.target("/v1/batch").post(body).await?;
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
