//! `millrace verify`: replays every job from its own topic beside what is live, and compares them key by key.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Args as ClapArgs;
use millrace_embedded::{Embedded, Options as EmbeddedOptions};
use millrace_feature_store::OnlineStore;
use millrace_log::EventLog;
use millrace_pipelines::archive::Archived;
use millrace_pipelines::verify::{Replay, Report};

use crate::archive;
use crate::assemble::{GENERATION, Status, Stores};
use crate::commands::client::{Place, note, say};
use crate::config::Config;
use crate::jobs::Jobs;

/// Proves that what is shown is what the log says
#[derive(ClapArgs, Clone, Debug)]
#[command(
    after_help = "Without --to the data directory is opened directly; stop the server first. Jobs that are behind are\n\
    first brought to the end of the log, as a start would, and an online store that lost what it held is filled.\n\n\
    Exit codes: 0 equal · 1 different, the first difference is named · 2 could not run\n\n\
    Example: millrace verify --data-dir ./data --json"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Runs the comparison.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.place.config)?;
    let report: Report = match args.place.server(&config)? {
        Some(client) => {
            serde_json::from_value(client.verify().await?).context("the server's report cannot be understood")?
        }
        None => offline(&config).await?,
    };
    if args.place.json {
        say(&serde_json::to_string(&report)?)?;
    } else {
        say(&describe(&report))?;
    }
    Ok(ExitCode::from(u8::from(!report.equal)))
}

fn describe(report: &Report) -> String {
    let verdict = match &report.difference {
        None => "equal".to_owned(),
        Some(difference) => format!("different: {difference}"),
    };
    format!(
        "{verdict}\n{} actions replayed, {} re-keyed records, {} online entries and {} archived rows compared\ncontent hash {}",
        report.actions, report.records, report.content, report.rows, report.content_hash
    )
}

/// Brings the jobs and the archive to the end of the log, then verifies. No server may run on it.
pub(crate) async fn offline(config: &Config) -> anyhow::Result<Report> {
    let dir = config.database_dir();
    anyhow::ensure!(dir.is_dir(), "there is no data in {}", config.data_dir.display());
    let stores = Stores::open(config).await?;
    let warehouse = archive::open(config).await?;
    note("bringing the jobs and the archive to the end of the log");
    let archived = Archived::default();
    let mut jobs = Jobs::all(&stores, &archived)?;
    let archiver = archive::start(&stores, &mut jobs, warehouse.clone(), archived);
    let status = Status::new(&stores, Some(&jobs), Some(archiver));
    status.caught_up().await?;
    stores.online.fill(config, &stores.log).await?;
    let ends = status.applied();
    jobs.stop().await;
    note("replaying every job from the first record");
    let report = {
        let mut scratch = Scratch::open(config, &stores)?;
        scratch.replay.advance(&ends).await?;
        scratch.replay.compare(stores.online.store().as_ref(), Some(warehouse), || {}).await?
    };
    stores.close();
    Ok(report)
}

/// A replay in a folder of its own, which goes away with it.
pub(crate) struct Scratch {
    pub(crate) replay: Replay,
    // Declared after the replay: it is dropped after it.
    _dir: tempfile::TempDir,
}

impl Scratch {
    /// An empty one, on the disk of the data.
    pub(crate) fn open(config: &Config, stores: &Stores) -> anyhow::Result<Self> {
        Self::within(config, stores.log.clone())
    }

    /// An empty one for this log.
    pub(crate) fn within(config: &Config, log: Arc<dyn EventLog>) -> anyhow::Result<Self> {
        Self::make(config, |embedded| Replay::new(log, GENERATION, embedded))
    }

    /// One for this log that writes to a store that stays.
    pub(crate) fn onto(config: &Config, log: Arc<dyn EventLog>, online: Arc<dyn OnlineStore>) -> anyhow::Result<Self> {
        Self::make(config, |embedded| Replay::onto(log, GENERATION, embedded, online))
    }

    fn make(
        config: &Config,
        replay: impl FnOnce(&Arc<Embedded>) -> millrace_pipelines::Result<Replay>,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("verify-")
            .tempdir_in(&config.data_dir)
            .with_context(|| format!("cannot make a scratch folder in {}", config.data_dir.display()))?;
        let embedded = Embedded::open(dir.path(), EmbeddedOptions::default())?;
        Ok(Self { replay: replay(&embedded)?, _dir: dir })
    }
}
