//! `millrace simulate`: a seeded population, sent in at the front door, written to a file or run in this very process.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use millrace_events::{Micros, parse_rfc3339};
use millrace_log::{Clock, WallClock};
use millrace_simulator::population::{Options, Population, RATE_MAX, USERS_MAX};

use super::client::{Client, Server, is_closed_pipe, say};
use super::sender::{self, Door};

/// Makes people who follow, write and react, and sends what they do
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "The same seed and options make the same events, byte for byte; a longer run starts with the shorter one.\n\n\
    Exit codes: 0 every event accepted · 1 all sent, but some were refused · 2 could not run to the end\n\n\
    Example: millrace simulate --seed 7 --users 2000 --events 100000 --wait"
)]
pub(crate) struct Args {
    /// What the randomness starts from
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many people there are at most
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(USERS_MAX)))]
    pub(crate) users: u32,
    /// How many events to make
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) events: u64,
    /// The time of the first event, or now; on a server that runs on wall time, older events count but open no window
    #[arg(long, value_name = "TIME", default_value = "2026-01-01T00:00:00Z", value_parser = time)]
    pub(crate) start: Micros,
    /// Events per second of their own time, on average
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    pub(crate) pace: u32,
    /// The share of events that are sent a second time, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub(crate) duplicates: f64,
    #[command(flatten)]
    pub(crate) server: Server,
    /// Write the events to a file, one a line, instead of sending them; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "in_process")]
    pub(crate) out: Option<PathBuf>,
    /// Send the events to a server in this process, on a directory that is thrown away
    #[arg(long)]
    pub(crate) in_process: bool,
    /// The write key to send as
    #[arg(long, value_name = "KEY", env = "MILLRACE_WRITE_KEY", hide_env_values = true, default_value = "dev")]
    pub(crate) write_key: String,
    #[command(flatten)]
    pub(crate) sending: sender::Options,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn time(text: &str) -> Result<Micros, String> {
    if text == "now" {
        return Ok(WallClock.received());
    }
    parse_rfc3339(text).map_err(|error| error.to_string())
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a number from 0 to 1".to_owned()),
    }
}

impl Args {
    /// The history to make.
    pub(crate) fn history(&self) -> Options {
        Options {
            seed: self.seed,
            users: self.users,
            events: self.events,
            start_us: self.start,
            rate: self.pace,
            duplicates: self.duplicates,
        }
    }
}

/// Runs the simulation against a server or into a file. For `--in-process` the caller brings the server: [`run_with`].
///
/// # Errors
/// When the file cannot be written, or the server refuses or stays away.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.out {
        let written = if path.as_os_str() == "-" {
            write(&args.history(), io::stdout().lock())
        } else {
            let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
            write(&args.history(), file)
        };
        return match written {
            Err(error) if !is_closed_pipe(&error) => Err(error.context(format!("cannot write {}", path.display()))),
            _ => Ok(ExitCode::SUCCESS),
        };
    }
    let client = Client::new(&args.server)?.with_write_key(&args.write_key);
    run_with(args, Arc::new(client)).await
}

/// Sends the simulation through `door`.
///
/// # Errors
/// When the door refuses or stays shut.
pub(crate) async fn run_with(args: Args, door: Arc<dyn Door>) -> anyhow::Result<ExitCode> {
    let calls = Population::new(args.history()).map(|call| Ok(call.encode()));
    let total = (args.duplicates == 0.0).then_some(args.events);
    let report = sender::send(door, calls, &args.sending, None, total).await?;
    say(&if args.json { report.json() } else { report.line() })?;
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn write(history: &Options, out: impl Write) -> anyhow::Result<()> {
    let mut out = BufWriter::new(out);
    let mut line = Vec::new();
    for call in Population::new(history.clone()) {
        line.clear();
        call.write_json(&mut line);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.flush()?;
    Ok(())
}
