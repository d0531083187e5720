//! `millrace restore`: a data directory from a backup.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args as ClapArgs;
use millrace_embedded::{Batch, Durability, Embedded, Options};

use crate::assemble::GENERATION;
use crate::commands::backup::format::{ChunkReader, Entry, Manifest, WAREHOUSE};
use crate::commands::client::{note, say};
use crate::measure::stopwatch_us;
use crate::unfinished::{self, Work, sync_dir};

/// How many bytes of records one write takes.
const WRITE_BYTES: usize = 2 * 1024 * 1024;

/// How long the last flush may take; what it does not write by then is in the journal, durably.
const FLUSH_WITHIN: Duration = Duration::from_secs(60);

/// Every so many seconds a line is shown.
const LINE_EVERY_US: u64 = 2_000_000;

/// Makes a data directory from a backup
#[derive(ClapArgs, Clone, Debug)]
#[command(
    after_help = "Every file of the backup is checked before anything is written. A restore that was stopped half way\n\
    is refused by `millrace up`: delete the directory and restore again. Afterwards the server goes on from the moment of\n\
    the backup; clients may send again what they sent since, and what was counted then is not counted twice.\n\n\
    Exit codes: 0 restored · 1 the backup is damaged or incomplete, nothing was written · 2 could not run\n\n\
    Example: millrace restore /backups/monday --data-dir ./data && millrace verify --data-dir ./data"
)]
pub(crate) struct Args {
    /// The backup
    #[arg(value_name = "SRC")]
    pub(crate) src: PathBuf,
    /// Where to; must not be there yet, or be empty
    #[arg(long, value_name = "DIR", env = "MILLRACE_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
}

/// Restores.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    tokio::task::spawn_blocking(move || restore(&args.src, &args.data_dir)).await?
}

fn restore(src: &Path, dir: &Path) -> anyhow::Result<ExitCode> {
    let begun = stopwatch_us();
    is_free(dir)?;
    let manifest = match check(src) {
        Ok(manifest) => manifest,
        Err(error) => {
            note(&format!("millrace: {error:#}"));
            return Ok(ExitCode::from(1));
        }
    };
    make(dir)?;
    unfinished::begin(dir, Work::Restore)?;
    load(src, &manifest, &dir.join("db"))?;
    copy(src, manifest.catalog.iter().chain(&manifest.warehouse), dir)?;
    sync_dir(dir).with_context(|| format!("cannot sync {}", dir.display()))?;
    unfinished::end(dir)?;
    let seconds = (stopwatch_us() - begun) as f64 / 1e6;
    say(&format!(
        "restored {} as of {}\n{} records and {} files of the warehouse in {seconds:.1} s",
        dir.display(),
        manifest.taken_at,
        manifest.records(),
        manifest.warehouse.len()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn is_free(dir: &Path) -> anyhow::Result<()> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot restore into {}", dir.display())),
        Ok(mut entries) => {
            // A restore that was stopped says so itself, with its cure.
            unfinished::refuse(dir, None)?;
            ensure!(
                entries.next().is_none(),
                "cannot restore into {}: it is not empty; name a directory that is not there yet",
                dir.display()
            );
            Ok(())
        }
    }
}

/// The manifest, when every file is what it says.
fn check(src: &Path) -> anyhow::Result<Manifest> {
    let manifest = Manifest::read(src, GENERATION)?;
    note(&format!("checking {} files, {:.1} MB", manifest.files().count(), manifest.bytes() as f64 / 1e6));
    for file in manifest.files() {
        file.check(src)?;
    }
    Ok(manifest)
}

fn make(dir: &Path) -> anyhow::Result<()> {
    let make = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        sync_dir(dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    };
    make().with_context(|| format!("cannot make {}", dir.display()))
}

/// Writes the records of every chunk into a new database.
fn load(src: &Path, manifest: &Manifest, db: &Path) -> anyhow::Result<()> {
    let embedded = Embedded::open(db, Options::default())?;
    for space in &manifest.spaces {
        embedded.space(space)?;
    }
    let (total, mut done, mut told) = (manifest.records(), 0, stopwatch_us());
    for chunk in &manifest.chunks {
        let space = embedded.space(&chunk.space)?;
        let mut reader = ChunkReader::open(src, chunk)?;
        let (mut batch, mut bytes) = (Batch::default(), 0);
        while let Some((key, value)) = reader.next()? {
            bytes += key.len() + value.len();
            batch.put(&space, key, value);
            done += 1;
            if bytes >= WRITE_BYTES {
                write(&embedded, &mut batch)?;
                bytes = 0;
            }
        }
        write(&embedded, &mut batch)?;
        if stopwatch_us() - told >= LINE_EVERY_US {
            told = stopwatch_us();
            note(&format!("{done} of {total} records"));
        }
    }
    embedded.flush(FLUSH_WITHIN)?;
    Ok(())
}

fn write(embedded: &Arc<Embedded>, batch: &mut Batch) -> anyhow::Result<()> {
    Ok(embedded.write(std::mem::take(batch), Durability::Ordered)?)
}

/// Copies the warehouse and the catalog. Not by links: the backup must not share a file with what is used.
fn copy<'a>(src: &Path, files: impl Iterator<Item = &'a Entry>, dir: &Path) -> anyhow::Result<()> {
    fs::create_dir(dir.join(WAREHOUSE)).with_context(|| format!("cannot make {WAREHOUSE} in {}", dir.display()))?;
    let mut folders = std::collections::BTreeSet::from([dir.join(WAREHOUSE)]);
    for file in files {
        let to = file.within(dir)?;
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            folders.extend(folder.ancestors().take_while(|above| *above != dir).map(Path::to_path_buf));
        }
        fs::copy(file.within(src)?, &to).with_context(|| format!("cannot write {}", to.display()))?;
        // Hashed again, and synced: the backup may have changed since it was checked.
        file.check(dir)?;
    }
    for folder in folders {
        sync_dir(&folder).with_context(|| format!("cannot sync {}", folder.display()))?;
    }
    Ok(())
}
