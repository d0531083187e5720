//! A data directory that a command was changing whole when it was stopped: nobody may use it until that was done again.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, bail};

/// The file that says so.
const MARKER: &str = "UNFINISHED";

/// What changes a data directory in a way that cannot be left half done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// It is being filled from a backup.
    Restore,
    /// Its online store is being made again.
    RebuildOnline,
    /// Its warehouse is being made again.
    RebuildWarehouse,
}

impl Work {
    const ALL: [Self; 3] = [Self::Restore, Self::RebuildOnline, Self::RebuildWarehouse];

    fn name(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::RebuildOnline => "rebuild online",
            Self::RebuildWarehouse => "rebuild warehouse",
        }
    }

    fn cure(self) -> &'static str {
        match self {
            Self::Restore => "delete it and run `millrace restore` again",
            Self::RebuildOnline => "run `millrace rebuild online` on it again",
            Self::RebuildWarehouse => "run `millrace rebuild warehouse` on it again",
        }
    }
}

/// Marks `dir` before the first change, durably.
///
/// # Errors
/// When the mark cannot be written.
pub(crate) fn begin(dir: &Path, work: Work) -> anyhow::Result<()> {
    let path = dir.join(MARKER);
    let mark = || {
        std::fs::write(&path, work.name())?;
        File::open(&path)?.sync_all()?;
        sync_dir(dir)
    };
    mark().with_context(|| format!("cannot write {}", path.display()))
}

/// Takes the mark off after the last change is durable.
///
/// # Errors
/// When it cannot be taken off.
pub(crate) fn end(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join(MARKER);
    let unmark = || {
        std::fs::remove_file(&path)?;
        sync_dir(dir)
    };
    unmark().with_context(|| format!("cannot delete {}", path.display()))
}

/// Refuses a data directory that is marked, unless it is `again` that is about to be done.
///
/// # Errors
/// When it is marked; the error names the cure.
pub(crate) fn refuse(dir: &Path, again: Option<Work>) -> anyhow::Result<()> {
    let path = dir.join(MARKER);
    let said = match std::fs::read_to_string(&path) {
        Ok(said) => said,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let dir = dir.display();
    match Work::ALL.into_iter().find(|work| work.name() == said) {
        Some(work) if Some(work) == again => Ok(()),
        Some(work) => bail!("{} of {dir} did not finish: {}", work.name(), work.cure()),
        None => bail!("{dir} is marked as unfinished by another version of this program: use that one"),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
