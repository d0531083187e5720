//! `millrace simulate`: a seeded population, sent in at the front door, written to a file or run in this very process.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use millrace_events::{Micros, parse_rfc3339};
use millrace_log::{Clock, WallClock};
use millrace_simulator::population::{
    BURST_FACTOR_MAX, BURSTS_MAX, Options, Population, RATE_MAX, ROBOT_PACE_MAX, ROBOTS_MAX, USERS_MAX,
};

use super::client::{Client, Server, is_closed_pipe, say};
use super::import::live;
use super::sender::{self, Door};
use millrace_simulator::import::Retime;

/// Makes people who follow, write and react, and sends what they do
#[derive(Clone, clap::Args)]
#[command(
    after_help = "The same seed and options make the same events, byte for byte; a longer run starts with the shorter one, as long as \
    no event is sent late. Late senders, repeated batches and wrong clocks change how events are sent, not what happened. On a \
    server in wall time an old history is late as a whole: give --start now, or --speed 1 to send it live. A server in replay time \
    goes by the timestamps, so do not give it wrong clocks.\n\n\
    Exit codes: 0 every event accepted · 1 all sent, but some were refused · 2 could not run to the end\n\n\
    Example: millrace simulate --seed 7 --users 2000 --events 100000 --wait\n\
    Example: millrace simulate --seed 7 --bursts 5 --out events.ndjson --truth truth.json"
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
    /// How much of the difference between day and night there is, 0 to 1; the pace is the mean over a day
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = share)]
    pub(crate) rhythm: f64,
    /// How many users are robots, up to half of them
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(..=i64::from(ROBOTS_MAX)))]
    pub(crate) robots: u32,
    /// Events per minute of each robot, on top of the pace
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROBOT_PACE_MAX)))]
    pub(crate) robot_pace: u32,
    /// How many times a tag or a post bursts, at most; the first, third … of a tag, the others of a post
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(..=i64::from(BURSTS_MAX)))]
    pub(crate) bursts: u32,
    /// How many times its usual rate it has then
    #[arg(long, value_name = "X", default_value_t = 20.0, value_parser = factor)]
    pub(crate) burst_factor: f64,
    /// How many seconds a burst takes
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) burst_seconds: u32,
    /// There is one burst in each stretch of this many seconds, after a first one without
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) burst_every: u32,
    /// The share of events that devices hold back, for minutes to hours, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = share)]
    pub(crate) late_share: f64,
    /// The share of events that are sent a second time, in whole batches, 0 to 1
    #[arg(long, alias = "duplicates", value_name = "SHARE", default_value_t = 0.005, value_parser = share)]
    pub(crate) duplicate_share: f64,
    /// The share of users whose clock is wrong, by minutes to hours, 0 to 1; half of them say so with sentAt
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub(crate) skewed_share: f64,
    /// Write what is behind the events to a file: tastes, robots, bursts, what is late, totals; JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) truth: Option<PathBuf>,
    /// Send as if live, this many times as fast: the first event is now
    #[arg(long, value_name = "X", value_parser = super::import::speed, conflicts_with = "out")]
    pub(crate) speed: Option<f64>,
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

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.0..=BURST_FACTOR_MAX).contains(&factor) => Ok(factor),
        _ => Err(format!("must be a number from 1 to {BURST_FACTOR_MAX}")),
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
            rhythm: self.rhythm,
            robots: self.robots,
            robot_pace: self.robot_pace,
            bursts: self.bursts,
            burst_factor: self.burst_factor,
            burst_seconds: self.burst_seconds,
            burst_every_seconds: self.burst_every,
            late: self.late_share,
            duplicates: self.duplicate_share,
            skewed: self.skewed_share,
        }
    }
}

/// Runs the simulation against a server or into a file. For `--in-process` the caller brings the server: [`run_with`].
///
/// # Errors
/// When the file cannot be written, or the server refuses or stays away.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.out {
        write_truth(&args)?;
        let written = if path.as_os_str() == "-" {
            write(&args.history(), io::stdout().lock())
        } else {
            write(&args.history(), create(path)?)
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
    write_truth(&args)?;
    let mut retime = args.speed.map(live);
    let from = retime.as_ref().map(Retime::start_us);
    let calls = Population::new(args.history()).map(move |call| {
        Ok(match &mut retime {
            Some(retime) => retime.call(call),
            None => call,
        }
        .encode())
    });
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a guess for people"
    )]
    let repeated = (args.events as f64 * args.duplicate_share) as u64;
    let report = sender::send(door, calls, &args.sending, from, Some(args.events.saturating_add(repeated))).await?;
    say(&if args.json { report.json() } else { report.line() })?;
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The truth is a function of the options alone: the history is made once for it, and can be scored however sending ends.
fn write_truth(args: &Args) -> anyhow::Result<()> {
    let Some(path) = &args.truth else { return Ok(()) };
    let mut out = BufWriter::new(create(path)?);
    let mut population = Population::new(args.history());
    population.by_ref().for_each(drop);
    let written = population.truth().write_json(&mut out).and_then(|()| out.flush());
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("cannot create {}", path.display()))
}

fn write(history: &Options, out: impl Write) -> anyhow::Result<()> {
    let mut out = BufWriter::new(out);
    let mut line = Vec::new();
    for call in Population::new(history.clone()) {
        line.clear();
        call.write_recorded(&mut line);
        line.push(b'\n');
        out.write_all(&line)?;
    }
    out.flush()?;
    Ok(())
}
