//! `millrace rebuild online|warehouse`: the online store, or the tables, again, from the log.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args as ClapArgs, Subcommand};
use millrace_embedded::{Embedded, Options};
use millrace_events::TopicPartition;
use millrace_feature_store::FjallOnlineStore;
use millrace_log::{EventLog, FjallLog, FjallLogOptions, Offset};
use millrace_pipelines::state::{FjallStateStore, StateStore};
use millrace_pipelines::verify::Replay;

use crate::archive;
use crate::assemble::{GENERATION, worked_partitions};
use crate::commands::client::{note, say};
use crate::config::{Config, ConfigArgs};
use crate::measure::stopwatch_us;
use crate::unfinished::{self, Work};

/// What the names of the online store's spaces begin with.
const ONLINE: &str = "online/";

/// The folder of the replay's own state, in the data directory.
const SCRATCH: &str = "rebuild-scratch";

/// How many records are replayed between two looks at the time.
const STEP_RECORDS: u64 = 50_000;

/// After so long a line is shown.
const LINE_EVERY_US: u64 = 2_000_000;

/// How long the last flush may take; what it does not write by then is in the journal, durably.
const FLUSH_WITHIN: Duration = Duration::from_secs(60);

/// Makes what is derived again, from the log
#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Deletes the online store and replays the log into it
    #[command(
        after_help = "Stop the server first. The log and the job state are not touched, nothing is published again, and\n\
        the server goes on from where it stood. It needs the log from its first record on, and room for a second copy of\n\
        the job state meanwhile. When it is stopped half way, `millrace up` refuses until it was run again.\n\n\
        Exit codes: 0 rebuilt · 2 could not; when the log was trimmed nothing was deleted, restore a backup\n\n\
        Example: millrace rebuild online --data-dir ./data && millrace verify --data-dir ./data"
    )]
    Online {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Deletes the tables of the warehouse and archives the log again
    #[command(
        after_help = "Stop the server first. Nothing else is touched. It needs the log from its first record on, and room for\n\
        a second copy of the job state meanwhile. Recorded slates and dead letters come back as far as the log still has\n\
        them. When it is stopped half way, `millrace up` refuses until it was run again.\n\n\
        Exit codes: 0 rebuilt · 2 could not; when the log was trimmed nothing was deleted, restore a backup\n\n\
        Example: millrace rebuild warehouse --data-dir ./data && millrace verify --data-dir ./data"
    )]
    Warehouse {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// Rebuilds.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Online { config } => rebuild(&Config::load(&config)?, Work::RebuildOnline).await,
        What::Warehouse { config } => rebuild(&Config::load(&config)?, Work::RebuildWarehouse).await,
    }
}

async fn rebuild(config: &Config, work: Work) -> anyhow::Result<ExitCode> {
    config.embedded(match work {
        Work::RebuildWarehouse => "rebuild warehouse",
        _ => "rebuild online",
    })?;
    let dir = &config.data_dir;
    ensure!(config.database_dir().is_dir(), "there is no data in {}", dir.display());
    unfinished::refuse(dir, Some(work))?;
    let embedded = Embedded::open(config.database_dir(), Options::default())?;
    let partitions =
        FjallLog::made_with(&embedded)?.with_context(|| format!("there is no log in {}", dir.display()))?;
    let log = FjallLog::open(embedded.clone(), FjallLogOptions { partitions, ..FjallLogOptions::default() })?;
    let ends = committed(&embedded, log.as_ref()).await?;
    unfinished::begin(dir, work)?;
    let scratch = Scratch::open(dir)?;
    let (what, (records, seconds)) = if work == Work::RebuildWarehouse {
        ("warehouse", warehouse(config, &log, &scratch, &ends).await?)
    } else {
        ("online store", online(&embedded, &log, &scratch, &ends).await?)
    };
    drop(scratch);
    log.close();
    embedded.flush(FLUSH_WITHIN)?;
    unfinished::end(dir)?;
    let rate = records as f64 / seconds.max(1e-6);
    say(&format!("rebuilt the {what} from {records} records in {seconds:.1} s, {rate:.0} records/s"))?;
    Ok(ExitCode::SUCCESS)
}

async fn online(
    embedded: &Arc<Embedded>,
    log: &Arc<FjallLog>,
    scratch: &Scratch,
    ends: &BTreeMap<TopicPartition, Offset>,
) -> anyhow::Result<(u64, f64)> {
    for name in embedded.space_names()?.iter().filter(|name| name.starts_with(ONLINE)) {
        embedded.drop_space(name)?;
    }
    let online = FjallOnlineStore::open(embedded.clone(), Default::default())?;
    let mut replay = Replay::onto(log.clone(), GENERATION, &scratch.embedded, online)?;
    replay_into(&mut replay, ends).await
}

async fn warehouse(
    config: &Config,
    log: &Arc<FjallLog>,
    scratch: &Scratch,
    ends: &BTreeMap<TopicPartition, Offset>,
) -> anyhow::Result<(u64, f64)> {
    delete(&config.warehouse_dir())?;
    let mut replay = Replay::new(log.clone(), GENERATION, &scratch.embedded)?;
    let done = replay_into(&mut replay, ends).await?;
    note("archiving what the replay led to");
    replay.archive(archive::open(config).await?).await?;
    Ok(done)
}

/// Up to where each job has committed: there the online store must stand, for there the job goes on.
async fn committed(embedded: &Arc<Embedded>, log: &FjallLog) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
    let states = FjallStateStore::new(embedded.clone());
    let mut ends = BTreeMap::new();
    for of in worked_partitions(log.partitions()) {
        let (bounds, committed) = (log.bounds(of).await?, states.open(of).await?.offset());
        ensure!(
            bounds.start == 0,
            "{of} begins at {}: what is older was trimmed, and what follows from it cannot be made again; use \
             `millrace restore` with a backup",
            bounds.start
        );
        ensure!(
            committed <= bounds.end,
            "the state of {of} is at offset {committed}, but the log ends at {}: use `millrace restore` with a backup",
            bounds.end
        );
        ends.insert(of, committed);
    }
    Ok(ends)
}

/// Replays in steps, so that it can be said how far it is; how many records, and in how many seconds.
async fn replay_into(replay: &mut Replay, ends: &BTreeMap<TopicPartition, Offset>) -> anyhow::Result<(u64, f64)> {
    let total: u64 = ends.values().sum();
    let (begun, mut told, mut done) = (stopwatch_us(), stopwatch_us(), 0);
    for (&of, &end) in ends {
        let mut next = 0;
        while next < end {
            let step = (end - next).min(STEP_RECORDS);
            next += step;
            replay.advance(&BTreeMap::from([(of, next)])).await?;
            done += step;
            if stopwatch_us() - told >= LINE_EVERY_US {
                told = stopwatch_us();
                let rate = done as f64 * 1e6 / (told - begun).max(1) as f64;
                note(&format!("{done} of {total} records, {rate:.0} records/s"));
            }
        }
    }
    Ok((done, (stopwatch_us() - begun) as f64 / 1e6))
}

/// A database for the replay's own state, which goes away with it.
struct Scratch {
    embedded: Arc<Embedded>,
    // Declared after the database: it is dropped after it.
    _folder: Folder,
}

/// A folder that is deleted when dropped.
struct Folder(PathBuf);

impl Scratch {
    fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let folder = Folder(data_dir.join(SCRATCH));
        // Left by one that was killed. Only one process at a time gets here: the database is locked.
        delete(&folder.0)?;
        Ok(Self { embedded: Embedded::open(&folder.0, Options::default())?, _folder: folder })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = delete(&self.0) {
            tracing::warn!("{error:#}");
        }
    }
}

fn delete(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
