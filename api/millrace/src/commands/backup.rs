//! `millrace backup`: a consistent copy of everything, of a directory that nobody has open or of a server under load.
//!
//! Any moment of the database is what a crash at that moment would have left: job state is never ahead of the log, and a
//! start goes on from there. So a backup stops nobody; only the archive stands still while its files are linked, because
//! what the warehouse holds and what the jobs keep for it must be of one moment.

pub(crate) mod format;
pub(crate) mod live;
mod staging;
pub(crate) mod take;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args as ClapArgs;
use serde::Deserialize;
use serde_json::json;

use self::format::Manifest;
use self::take::{Destination, Progress, Source, Still};
use crate::assemble::Stores;
use crate::commands::client::{Client, Place, note, say};
use crate::config::Config;
use crate::measure::stopwatch_us;

/// How often it is said, or asked, how far it is.
const POLL: Duration = Duration::from_millis(200);

/// Every so many polls a line is shown.
const POLLS_PER_LINE: u32 = 10;

/// Copies everything, as of one moment, into a new directory
#[derive(ClapArgs, Clone, Debug)]
#[command(
    after_help = "Without --to the data directory is opened directly; stop the server first. With --to a running\n\
    server writes the backup to its own disk, under load; only a server on the loopback takes any directory, others need\n\
    --backup-dir. What is in the backup: the log, job state, the online store and the warehouse. What is not: write keys\n\
    and tokens, which are configuration.\n\n\
    Exit codes: 0 complete and on disk · 2 could not; what is in DEST then is refused by `millrace restore`\n\n\
    Examples: millrace backup /backups/monday --data-dir ./data\n\
    \x20         millrace backup /backups/monday --to http://127.0.0.1:8080 --data-dir ./data"
)]
pub(crate) struct Args {
    /// Where to; must not be there yet, or be empty. With --to an absolute path on the server's machine
    #[arg(value_name = "DEST")]
    pub(crate) dest: PathBuf,
    #[command(flatten)]
    pub(crate) place: Place,
}

/// What is told about a backup when it is done.
#[derive(Debug, Default, serde::Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Where it is.
    pub(crate) dest: String,
    /// Records of the database.
    pub(crate) records: u64,
    /// Files, and their size.
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// How long the archive stood still, microseconds.
    pub(crate) pause_us: u64,
    /// How long it took altogether, milliseconds.
    pub(crate) took_ms: u64,
}

impl Summary {
    fn of(manifest: &Manifest, dest: String, begun_us: u64) -> Self {
        Self {
            dest,
            records: manifest.records(),
            files: manifest.files().count() as u64,
            bytes: manifest.bytes(),
            pause_us: manifest.pause_us,
            took_ms: (stopwatch_us() - begun_us) / 1_000,
        }
    }

    fn describe(&self) -> String {
        format!(
            "backed up to {}\n{} records in {} files, {:.1} MB, in {:.1} s; the archive stood still for {:.1} ms",
            self.dest,
            self.records,
            self.files,
            self.bytes as f64 / 1e6,
            self.took_ms as f64 / 1e3,
            self.pause_us as f64 / 1e3
        )
    }
}

/// Takes the backup.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.place.config)?;
    let summary = match args.place.server(&config)? {
        Some(client) => of_server(&client, &args).await?,
        None => offline(&config, &args).await?,
    };
    match args.place.json {
        true => say(&serde_json::to_string(&summary)?)?,
        false => say(&summary.describe())?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn offline(config: &Config, args: &Args) -> anyhow::Result<Summary> {
    ensure!(config.database_dir().is_dir(), "there is no data in {}", config.data_dir.display());
    let begun = stopwatch_us();
    config.embedded("backup")?;
    let stores = Stores::open(config).await?;
    let dest = Destination::make(&args.dest, &config.data_dir, None)?;
    let path = dest.path().display().to_string();
    let source = Source {
        config: config.clone(),
        embedded: stores.embedded.clone(),
        partitions: stores.log.partitions(),
        archive: Arc::new(Still),
    };
    let progress = Progress::default();
    let mut taking = Box::pin(source.take(dest, progress.clone()));
    let mut every = tokio::time::interval(POLL * POLLS_PER_LINE);
    every.tick().await;
    let manifest = loop {
        tokio::select! {
            taken = &mut taking => break taken?,
            _ = every.tick() => tell(progress.get()),
        }
    };
    stores.close();
    Ok(Summary::of(&manifest, path, begun))
}

/// How the server says a backup stands.
#[derive(Deserialize)]
struct State {
    state: String,
    records: u64,
    bytes: u64,
    report: Option<Summary>,
    error: Option<String>,
}

async fn of_server(client: &Client, args: &Args) -> anyhow::Result<Summary> {
    ensure!(args.dest.is_absolute(), "{} is not absolute: it is a path on the server's machine", args.dest.display());
    let dest = args.dest.to_str().context("the path is not text")?;
    let mut said = client.admin("/v1/admin/backup", Some(&json!({ "dest": dest }))).await?;
    for poll in 1_u32.. {
        let state: State = serde_json::from_value(said).context("the server's answer cannot be understood")?;
        match (state.state.as_str(), state.report) {
            ("done", Some(summary)) => return Ok(summary),
            ("running", _) => {
                if poll.is_multiple_of(POLLS_PER_LINE) {
                    tell((state.records, state.bytes));
                }
                tokio::time::sleep(POLL).await;
            }
            _ => bail!("the server could not back up: {}", state.error.unwrap_or(state.state)),
        }
        said = client.admin("/v1/admin/backup", None).await?;
    }
    bail!("the server did not finish")
}

fn tell((records, bytes): (u64, u64)) {
    note(&format!("{records} records, {:.1} MB so far", bytes as f64 / 1e6));
}
