//! `millrace migrate`: from one set of stores to another, with the proof that both show the same.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Args as ClapArgs;
use millrace_catalog::transfer;
use millrace_events::{Topic, TopicPartition};
use millrace_log::{Append, EventLog, Offset, Record};

use crate::assemble::Stores;
use crate::catalog;
use crate::commands::client::{note, say};
use crate::commands::verify;
use crate::config::{Config, ConfigArgs};

/// What is copied. All other topics follow from actions, and the jobs of the new place write them again.
const COPIED: [Topic; 3] = [Topic::Actions, Topic::ServedSlates, Topic::DeadLetters];

/// How much one read takes, bytes.
const READ_BYTES: usize = 1024 * 1024;

/// Copies a deployment to other stores, and proves that both show the same
#[derive(ClapArgs, Clone, Debug)]
#[command(
    after_help = "Stop every server of both first. The log is copied record by record, with its times, partitions and order; then the\n\
    catalog; then the jobs compute everything else in the new place, and both places are verified and compared. The old place\n\
    is left as it is. It can be run again: what was copied is kept. Recorded slates that the log has dropped stay in the old\n\
    warehouse.\n\n\
    Exit codes: 0 both show the same · 1 they differ · 2 could not\n\n\
    Example: millrace migrate --from laptop.toml --to cluster.toml"
)]
pub(crate) struct Args {
    /// The config file of the place to leave, as for `millrace up --config`
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The config file of the place to go to
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Moves.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (from, mut to) = (load(args.from)?, load(args.to)?);
    ensure!(from.data_dir != to.data_dir, "both configurations name the data directory {}", from.data_dir.display());
    ensure!(from.database_dir().is_dir(), "there is no data in {}", from.data_dir.display());
    copy(&from, &mut to).await?;
    note("verifying the old place");
    let old = verify::offline(&from).await.context("the old place cannot be verified")?;
    note("computing and verifying the new place");
    let new = verify::offline(&to).await.context("the new place cannot be verified")?;
    for (place, report) in [("old", &old), ("new", &new)] {
        if let Some(difference) = &report.difference {
            say(&format!("the {place} place is not what its log says: {difference}"))?;
            return Ok(ExitCode::from(1));
        }
    }
    let is_same = old.content_hash == new.content_hash;
    say(&format!(
        "{}: content hash {} in the old place, {} in the new one, after {} actions",
        if is_same { "the same" } else { "different" },
        old.content_hash,
        new.content_hash,
        new.actions
    ))?;
    Ok(ExitCode::from(u8::from(!is_same)))
}

fn load(path: PathBuf) -> anyhow::Result<Config> {
    Config::load(&ConfigArgs { config: Some(path), ..ConfigArgs::default() })
}

async fn copy(from: &Config, to: &mut Config) -> anyhow::Result<()> {
    crate::spool::refuse_leftovers(from)?;
    let old = Stores::open(from).await.context("cannot open the old place")?;
    let partitions = old.log.partitions();
    to.partitions.get_or_insert(partitions);
    let new = Stores::open(to).await.context("cannot open the new place")?;
    ensure!(
        new.log.partitions() == partitions,
        "the old log has {partitions} partitions, the new one {}: another number is another order of events, and cannot be proven \
         equal; configure {partitions}",
        new.log.partitions()
    );
    for topic in COPIED {
        let mut copied = 0;
        for partition in 0..topic.partitions(partitions) {
            copied += copy_partition(TopicPartition::new(topic, partition), old.log.as_ref(), new.log.as_ref()).await?;
        }
        note(&format!("{}: {copied} records copied", topic.as_str()));
    }
    let (ours, theirs) = (catalog::open(from).await?, catalog::open(to).await?);
    let copied = transfer(ours.as_ref(), theirs.as_ref()).await;
    ours.close().await;
    theirs.close().await;
    note(&format!("catalog: {} entries", copied.context("cannot copy the catalog")?));
    for stores in [old, new] {
        tokio::task::spawn_blocking(move || stores.close()).await?;
    }
    Ok(())
}

/// Copies what is not there yet; how many records.
async fn copy_partition(of: TopicPartition, old: &dyn EventLog, new: &dyn EventLog) -> anyhow::Result<u64> {
    let (have, done) = (old.bounds(of).await?, new.bounds(of).await?);
    ensure!(
        have.start == 0 || of.topic == Topic::ServedSlates,
        "{of} begins at {} in the old log: what is older was trimmed, and nothing could prove the new place",
        have.start
    );
    ensure!(done.start == 0, "{of} begins at {} in the new log: it was used before; take a new one", done.start);
    let mut next = have.start + done.end;
    ensure!(next <= have.end, "{of} has more in the new log than in the old one: take a new one");
    if done.end > 0 {
        let (ours, theirs) = (one(old, of, next - 1).await?, one(new, of, done.end - 1).await?);
        let is_same = (ours.time, &ours.key, &ours.value) == (theirs.time, &theirs.key, &theirs.value);
        ensure!(is_same, "{of} has other records in the new log than in the old one: take a new one");
    }
    let begun = next;
    while next < have.end {
        let records = old.read(of, next, READ_BYTES).await?;
        let Some(last) = records.last() else { bail!("{of} has no record at {next}, but ends at {}", have.end) };
        next = last.offset + 1;
        let appends = records.into_iter().map(|r| Append { to: of, time: r.time, key: r.key, value: r.value });
        new.append(appends.collect()).await.with_context(|| format!("cannot append to {of} of the new log"))?;
    }
    Ok(next - begun)
}

async fn one(log: &dyn EventLog, of: TopicPartition, at: Offset) -> anyhow::Result<Record> {
    let found = log.read(of, at, 1).await?.into_iter().next();
    found.with_context(|| format!("{of} has no record at {at}"))
}
