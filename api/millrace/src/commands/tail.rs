//! `millrace tail`: the log as JSON lines.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use millrace_events::Topic;
use serde_json::Value;
use tokio::time::sleep;

use super::client::{Admin, Client, LogBounds, Server, is_closed_pipe, say};

/// Records asked for at a time.
const PAGE_RECORDS: u64 = 500;

/// How often the end of the log is looked at.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// Prints the records of a topic as JSON, one a line
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Without --limit it goes on with what is appended, until Ctrl-C. With it, it never waits:\n\
    --from end --limit 10 prints the last ten records.\n\n\
    Exit codes: 0 done · 2 could not run\n\n\
    Example: millrace tail actions --from start --limit 10")]
pub(crate) struct Args {
    /// actions, user-events, reaction-events or dead-letters
    pub(crate) topic: Topic,
    /// Where to begin: start, end or an offset
    #[arg(long, value_name = "start|end|OFFSET", default_value = "end")]
    pub(crate) from: From,
    /// Only this partition
    #[arg(long, value_name = "N")]
    pub(crate) partition: Option<u32>,
    /// Stop after this many records, or at the end
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Print the ticks of idle partitions too
    #[arg(long)]
    pub(crate) ticks: bool,
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The oldest record that is kept.
    Start,
    /// After the newest.
    End,
    /// This one.
    Offset(u64),
}

impl FromStr for From {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "start" => Ok(From::Start),
            "end" => Ok(From::End),
            offset => offset.parse().map(From::Offset).map_err(|_| "must be start, end or a number"),
        }
    }
}

/// What can be read: a server over HTTP, or the directory of one that is not running.
#[async_trait]
pub(crate) trait Records: Send + Sync {
    /// What each partition of `topic` holds, in the order of the partitions.
    async fn bounds(&self, topic: Topic) -> anyhow::Result<Vec<LogBounds>>;

    /// At most `limit` records from offset `from` on, which is within the bounds. An empty page is the end.
    async fn read(&self, topic: Topic, partition: u32, from: u64, limit: u64) -> anyhow::Result<Page>;

    /// True when more may come while we look.
    fn grows(&self) -> bool {
        true
    }
}

/// Some records of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// One JSON object each, as the log's HTTP door writes them.
    pub(crate) lines: Vec<String>,
    /// Where to read on.
    pub(crate) next: u64,
}

#[async_trait]
impl Records for Client {
    async fn bounds(&self, topic: Topic) -> anyhow::Result<Vec<LogBounds>> {
        let status = self.status().await?;
        let partitions = status.log.get(topic.as_str()).with_context(|| format!("the server has no topic {topic}"))?;
        let mut found: Vec<(u32, LogBounds)> = Vec::new();
        for (partition, &bounds) in partitions {
            found.push((partition.parse().with_context(|| format!("{partition:?} is not a partition"))?, bounds));
        }
        found.sort_unstable_by_key(|(partition, _)| *partition);
        Ok(found.into_iter().map(|(_, bounds)| bounds).collect())
    }

    async fn read(&self, topic: Topic, partition: u32, from: u64, limit: u64) -> anyhow::Result<Page> {
        let query = [("partition", partition.to_string()), ("from", from.to_string()), ("limit", limit.to_string())];
        let answer = self.get(&format!("/v1/log/{topic}"), &query).await?;
        let next = answer.headers().get("x-millrace-next-offset").and_then(|next| next.to_str().ok()?.parse().ok());
        let body = answer.text().await.context("cannot read the records")?;
        let lines: Vec<String> = body.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let next = next.context("the server does not say where the next record is")?;
        Ok(Page { lines, next })
    }
}

/// Tails a server's log.
///
/// # Errors
/// When there is no server, it refuses, or the output cannot be written.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?.with_admin_token(args.admin.token()?);
    run_with(&args, &client).await
}

/// Tails `records`.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_with(args: &Args, records: &dyn Records) -> anyhow::Result<ExitCode> {
    match tail(args, records, &mut |line| Ok(say(line)?)).await {
        Err(error) if !is_closed_pipe(&error) => Err(error),
        _ => Ok(ExitCode::SUCCESS),
    }
}

async fn tail(
    args: &Args,
    records: &dyn Records,
    print: &mut (dyn FnMut(&str) -> anyhow::Result<()> + Send),
) -> anyhow::Result<()> {
    let bounds = records.bounds(args.topic).await?;
    let mut places: Vec<(u32, LogBounds)> = Vec::new();
    for (partition, &held) in (0_u32..).zip(&bounds) {
        if args.partition.is_some_and(|wanted| wanted != partition) {
            continue;
        }
        places.push((partition, held));
    }
    if places.is_empty() {
        bail!("{} has no partition {}: it has {}", args.topic, args.partition.unwrap_or(0), bounds.len());
    }
    if let (Some(limit), From::End) = (args.limit, args.from) {
        return last(args, records, &places, limit, print).await;
    }
    let place = |(partition, held): (u32, LogBounds)| match args.from {
        From::Start => (partition, held.start),
        From::End => (partition, held.end),
        // What is no longer kept is skipped, what is not there yet is waited for from the end.
        From::Offset(offset) => (partition, offset.clamp(held.start, held.end)),
    };
    forward(args, records, places.into_iter().map(place).collect(), args.limit, print).await
}

/// Goes on from `places`, partition by partition; stops after `limit` or at the end when there is one.
async fn forward(
    args: &Args,
    records: &dyn Records,
    mut places: Vec<(u32, u64)>,
    limit: Option<u64>,
    print: &mut (dyn FnMut(&str) -> anyhow::Result<()> + Send),
) -> anyhow::Result<()> {
    let mut left = limit.unwrap_or(u64::MAX);
    loop {
        let mut moved = false;
        for (partition, from) in &mut places {
            let page = records.read(args.topic, *partition, *from, PAGE_RECORDS).await?;
            moved |= page.next > *from;
            *from = page.next;
            for line in page.lines.iter().filter(|line| args.ticks || !is_tick(line)) {
                if left == 0 {
                    return Ok(());
                }
                print(line)?;
                left -= 1;
            }
        }
        if left == 0 || (!moved && (limit.is_some() || !records.grows())) {
            return Ok(());
        }
        if !moved {
            sleep(POLL_EVERY).await;
        }
    }
}

/// The last `limit` records of `places`, oldest first by log time.
async fn last(
    args: &Args,
    records: &dyn Records,
    places: &[(u32, LogBounds)],
    limit: u64,
    print: &mut (dyn FnMut(&str) -> anyhow::Result<()> + Send),
) -> anyhow::Result<()> {
    let mut found: Vec<(String, String)> = Vec::new();
    for &(partition, held) in places {
        // Backwards in pages: ticks in between do not count, so that how far back to go is not known before.
        let mut upper = held.end;
        let mut here = Vec::new();
        while upper > held.start && (here.len() as u64) < limit {
            let lower = upper.saturating_sub(PAGE_RECORDS).max(held.start);
            let page = records.read(args.topic, partition, lower, upper - lower).await?;
            let mut older: Vec<(String, String)> = Vec::new();
            for line in page.lines {
                if args.ticks || !is_tick(&line) {
                    older.push((log_time(&line), line));
                }
            }
            older.append(&mut here);
            here = older;
            if page.next <= lower {
                break;
            }
            upper = lower;
        }
        let surplus = here.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        found.extend(here.drain(surplus..));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let surplus = found.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    found.iter().skip(surplus).try_for_each(|(_, line)| print(line))
}

/// A tick carries nothing but its time.
fn is_tick(line: &str) -> bool {
    // The cheap look first: nearly no line holds the word.
    line.contains("tick")
        && serde_json::from_str::<Value>(line)
            .is_ok_and(|record| record["type"] == "tick" || record["tick"] == Value::Bool(true))
}

fn log_time(line: &str) -> String {
    let record: Value = serde_json::from_str(line).unwrap_or_default();
    record["log_time"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
