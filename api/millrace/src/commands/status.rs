//! `millrace status`: how far every job is, and what came in.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use millrace_http::{IngestStatus, SourceStatus};

use super::client::{Client, Server, Status, say};
use super::sender;

/// Says how far every job is
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 everything acknowledged is visible everywhere · 1 not yet · 2 could not run\n\n\
    Examples: millrace status --wait-caught-up\n          millrace status --sources")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Wait until everything acknowledged is visible everywhere
    #[arg(long)]
    pub(crate) wait_caught_up: bool,
    /// With --wait-caught-up, give up when nothing moves for this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) give_up_after: u64,
    /// Say what came in by source instead: accepted, duplicates, late, robots, and what was refused and why
    #[arg(long, conflicts_with = "wait_caught_up")]
    pub(crate) sources: bool,
    /// Print the server's answer as it is
    #[arg(long)]
    pub(crate) json: bool,
}

/// Prints the status.
///
/// # Errors
/// When there is no server, or its jobs stand still.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?;
    if args.sources {
        return sources(&client, args.json).await;
    }
    if args.wait_caught_up {
        sender::wait(&client, Duration::from_secs(args.give_up_after)).await?;
    }
    let body = client.get("/v1/status", &[]).await?.text().await.context("cannot read the status")?;
    let status: Status = serde_json::from_str(&body).context("the answer to GET /v1/status is not a status")?;
    if args.json {
        say(body.trim_end())?;
    } else {
        for line in table(&status) {
            say(&line)?;
        }
    }
    // New events may have come since the wait ended; what was there then is visible.
    Ok(if status.caught_up || args.wait_caught_up { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn sources(client: &Client, json: bool) -> anyhow::Result<ExitCode> {
    let body = client.get("/v1/ingest/status", &[]).await?.text().await.context("cannot read the status")?;
    if json {
        say(body.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = serde_json::from_str(&body).context("the answer to GET /v1/ingest/status is not one")?;
    for line in sources_table(&status) {
        say(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn sources_table(status: &IngestStatus) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<24} {:>12} {:>10} {:>8} {:>8} {:>10}  last seen",
        "source", "accepted", "duplicates", "late", "robots", "violations"
    )];
    let named = status.sources.iter().map(|(name, of)| (name.as_str(), of));
    for (name, of) in named.chain(status.others.iter().map(|of| ("(all others)", of))) {
        let SourceStatus { accepted, duplicates, late, robots, violations, unapplied, last_seen, door } = of;
        let last_seen = last_seen.as_ref().or(door.last_seen.as_ref()).map_or("-", String::as_str);
        lines.push(format!(
            "{name:<24} {accepted:>12} {duplicates:>10} {late:>8} {robots:>8} {violations:>10}  {last_seen}"
        ));
        if *unapplied > 0 {
            lines.push(format!("  events that no job could apply: {unapplied}; millrace dlq list"));
        }
        for (reason, events) in &door.rejected {
            lines.push(format!(
                "  events rejected as {reason}: {events}; millrace dlq list --source {name} --reason {reason}"
            ));
        }
        for (reason, requests) in &door.refused {
            lines.push(format!("  requests refused as {reason}: {requests}"));
        }
    }
    for (reason, requests) in &status.unattributed {
        lines.push(format!("requests of nobody known refused as {reason}: {requests}"));
    }
    lines.push(format!("rejected and refused: at this door, since {}", status.since));
    lines
}

fn table(status: &Status) -> Vec<String> {
    let mut lines = vec![format!("{:<20} {:>10} {:>14}", "topic", "partitions", "records")];
    for (topic, partitions) in &status.log {
        let records: u64 = partitions.values().map(|at| at.end).sum();
        lines.push(format!("{topic:<20} {:>10} {records:>14}", partitions.len()));
    }
    lines.push(String::new());
    lines.push(format!("{:<20} {:>10} {:>14} {:>10}  complete to", "job", "partitions", "committed", "lag"));
    for (job, partitions) in &status.jobs {
        let committed: u64 = partitions.values().map(|at| at.committed).sum();
        let lag: u64 = partitions.values().map(|at| at.lag).sum();
        // The slowest partition decides; RFC 3339 in UTC sorts as text.
        let clock = partitions.values().filter_map(|at| at.clock.as_ref()?.as_str()).min().unwrap_or("-");
        lines.push(format!("{job:<20} {:>10} {committed:>14} {lag:>10}  {clock}", partitions.len()));
    }
    lines.push(String::new());
    if let Some(archive) = &status.warehouse {
        lines.push(format!("{:<20} {:>10} {:>14} {:>10}  complete to", "warehouse", "tables", "", "lag"));
        let as_of = archive.as_of.as_deref().unwrap_or("-");
        lines.push(format!("{:<20} {:>10} {:>14} {:>10}  {as_of}", "archive", archive.tables.len(), "", archive.lag));
        if let Some(error) = &archive.error {
            lines.push(format!("the archive waits: {error}"));
        }
        lines.push(String::new());
    }
    if status.online.is_some_and(|online| !online.whole) {
        lines.push(
            "the online store is away, or is filled from the log: feeds and counters may lack something".to_owned(),
        );
    }
    if let Some(spool) = &status.spool {
        let oldest = spool.oldest.as_deref().unwrap_or("-");
        lines.push(format!(
            "the log did not take {} records: they wait in the spool, {} bytes, the oldest since {oldest}",
            spool.events, spool.bytes
        ));
        if let Some(error) = &spool.error {
            lines.push(format!("the spool waits: {error}"));
        }
    }
    lines.push(match status.caught_up {
        true => "caught up: everything acknowledged is visible everywhere".to_owned(),
        false => format!("not caught up: {} records to go", status.lag()),
    });
    lines
}

#[cfg(test)]
mod tests;
