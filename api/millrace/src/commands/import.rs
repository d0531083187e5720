//! `millrace import`: recorded logs, sent in at the front door.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use millrace_simulator::Outgoing;
use millrace_simulator::import::{ImportError, gharchive, segment};

use super::client::{Client, Server, say};
use super::sender::{self, Door};

/// Sends recorded events to a server
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Files are plain or gzip, and sent in the order given. Repeating an import changes no number.\n\n\
    Exit codes: 0 every event accepted · 1 all sent, but some lines or events were refused · 2 could not run to the end\n\n\
    Example: millrace import gharchive 2015-01-01-*.ndjson.gz --wait"
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
    /// Keep the pace of the recording, this many times as fast
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
}

fn speed(text: &str) -> Result<f64, String> {
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
    let report = sender::send(door, calls(args.format, args.paths), &args.sending, args.speed, None).await?;
    say(&if args.json { report.json() } else { report.line() })?;
    Ok(if report.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What the files hold, as calls.
pub(crate) fn calls(
    format: Format,
    paths: Vec<PathBuf>,
) -> Box<dyn Iterator<Item = Result<Outgoing, ImportError>> + Send> {
    match format {
        Format::Segment => Box::new(segment::calls(paths)),
        Format::Gharchive => Box::new(gharchive::calls(paths).map(|call| call.map(millrace_simulator::Call::encode))),
    }
}
