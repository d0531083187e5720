//! `millrace import`: recorded logs, sent in at the front door.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use millrace_log::{Clock, WallClock};
use millrace_simulator::import::{ImportError, Retime, gharchive, segment, stackexchange};
use millrace_simulator::{Call, Outgoing};

use super::client::{Client, Server, say};
use super::sender::{self, Door};

/// Sends recorded events to a server
#[derive(Clone, clap::Args)]
#[command(
    after_help = "Files are plain or gzip, and sent in the order given; those of stackexchange side by side, by time. Repeating an \
    import changes no number.\n\n\
    With --speed the recording is sent as if it were live: its first event is now, and every distance from it is divided by X, in \
    timestamps as in sending. A server on wall time then sees events when they happen and opens windows for them; without, an old \
    recording is late. Message ids stay: what was imported before is not counted again, under whichever time.\n\n\
    Exit codes: 0 every event accepted · 1 all sent, but some lines or events were refused · 2 could not run to the end\n\n\
    Example: millrace import gharchive 2015-01-01-*.ndjson.gz --wait\n\
    Example: millrace import stackexchange Posts.xml.gz Comments.xml.gz Votes.xml.gz Users.xml.gz --speed 3600"
)]
pub(crate) struct Args {
    /// What the files hold
    #[arg(value_enum)]
    pub(crate) format: Format,
    /// The files
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) server: Server,
    /// The write key to send as
    #[arg(long, value_name = "KEY", env = "MILLRACE_WRITE_KEY", hide_env_values = true, default_value = "dev")]
    pub(crate) write_key: String,
    /// Send as if live, this many times as fast as recorded: timestamps are moved to now
    #[arg(long, value_name = "X", value_parser = speed)]
    pub(crate) speed: Option<f64>,
    #[command(flatten)]
    pub(crate) sending: sender::Options,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the files hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One Segment call a line
    Segment,
    /// GitHub's public events, full or compact
    Gharchive,
    /// The XML files of a Stack Exchange site's public dump
    Stackexchange,
}

/// A factor of time.
pub(crate) fn speed(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('x').parse::<f64>() {
        Ok(speed) if speed > 0.0 && speed.is_finite() => Ok(speed),
        _ => Err("must be a number above 0, such as 1 or 60".to_owned()),
    }
}

/// Runs the import against a server.
///
/// # Errors
/// When a file cannot be read, or the server refuses or stays away.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?.with_write_key(&args.write_key);
    run_with(args, Arc::new(client)).await
}

/// Runs the import through `door`.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_with(args: Args, door: Arc<dyn Door>) -> anyhow::Result<ExitCode> {
    let retime = args.speed.map(live);
    let from = retime.as_ref().map(Retime::start_us);
    let report = sender::send(door, calls(args.format, args.paths, retime), &args.sending, from, None).await?;
    say(&if args.json { report.json() } else { report.line() })?;
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// From now on, `speed` times as fast.
pub(crate) fn live(speed: f64) -> Retime {
    Retime::new(speed, WallClock.received())
}

/// What the files hold, as calls, moved to now when they are sent live.
pub(crate) fn calls(
    format: Format,
    paths: Vec<PathBuf>,
    retime: Option<Retime>,
) -> Box<dyn Iterator<Item = Result<Outgoing, ImportError>> + Send> {
    match (format, retime) {
        (Format::Segment, None) => Box::new(segment::calls(paths)),
        (Format::Segment, Some(retime)) => Box::new(segment::calls(paths).retimed(retime)),
        (Format::Gharchive, retime) => encode(gharchive::calls(paths), retime),
        (Format::Stackexchange, retime) => encode(stackexchange::calls(paths), retime),
    }
}

fn encode(
    calls: impl Iterator<Item = Result<Call, ImportError>> + Send + 'static,
    mut retime: Option<Retime>,
) -> Box<dyn Iterator<Item = Result<Outgoing, ImportError>> + Send> {
    Box::new(calls.map(move |call| {
        let call = call?;
        Ok(match &mut retime {
            Some(retime) => retime.call(call),
            None => call,
        }
        .encode())
    }))
}
