//! The warehouse at one moment, for next to nothing: a hard link to each of its files, in a folder beside it.
//!
//! Its files are never changed, only written whole and deleted, so a link is a copy; the archive stands still for as long
//! as linking takes, and what is deleted afterwards is still here.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::format::{Entry, WAREHOUSE};
use crate::unfinished::sync_dir;

/// The folder of the links, in the data directory.
const FOLDER: &str = "backup-links";

/// How many files a warehouse may have: their names are kept in memory and in the manifest.
const FILES_MAX: usize = 1_000_000;

/// How deep its folders may be.
const DEPTH_MAX: usize = 16;

/// The links; gone when dropped.
pub(super) struct Staged {
    dir: PathBuf,
    /// Paths within the warehouse.
    files: Vec<PathBuf>,
}

impl Staged {
    /// Links every file of `warehouse`, which nobody may write meanwhile, into a folder of `data_dir`.
    ///
    /// # Errors
    /// When the disk says no.
    pub(super) fn take(data_dir: &Path, warehouse: &Path) -> anyhow::Result<Self> {
        let dir = data_dir.join(FOLDER);
        // Left by a process that was killed: links only.
        remove(&dir)?;
        let mut staged = Self { dir, files: Vec::new() };
        if warehouse.is_dir() {
            let linked = staged.link(warehouse, Path::new(""), 0);
            linked.with_context(|| format!("cannot link the files of {}", warehouse.display()))?;
        }
        Ok(staged)
    }

    fn link(&mut self, warehouse: &Path, within: &Path, depth: usize) -> anyhow::Result<()> {
        ensure!(depth < DEPTH_MAX, "the folders are deeper than {DEPTH_MAX}");
        fs::create_dir_all(self.dir.join(within))?;
        for entry in fs::read_dir(warehouse.join(within))? {
            let entry = entry?;
            let path = within.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.link(warehouse, &path, depth + 1)?;
            } else if kind.is_file() {
                ensure!(self.files.len() < FILES_MAX, "there are more than {FILES_MAX} files");
                let linked = fs::hard_link(entry.path(), self.dir.join(&path));
                if linked.is_err() {
                    // Not every file system has links; then the archive waits for a copy.
                    fs::copy(entry.path(), self.dir.join(&path))?;
                }
                self.files.push(path);
            }
        }
        Ok(())
    }

    /// Moves everything into the backup at `dest`, or copies it there when that is another disk; tells `each` of every file.
    ///
    /// # Errors
    /// When the disk says no.
    pub(super) fn move_to(mut self, dest: &Path, each: &dyn Fn(u64)) -> anyhow::Result<Vec<Entry>> {
        let root = dest.join(WAREHOUSE);
        make_dir(&root)?;
        self.files.sort();
        let mut entries = Vec::with_capacity(self.files.len());
        let mut folders = vec![root.clone()];
        for path in &self.files {
            let (from, to) = (self.dir.join(path), root.join(path));
            if let Some(folder) = to.parent().filter(|folder| !folder.is_dir()) {
                fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
                folders.extend(folder.ancestors().take_while(|above| *above != root).map(Path::to_path_buf));
            }
            let moved = match fs::rename(&from, &to) {
                Err(error) if error.kind() == ErrorKind::CrossesDevices => fs::copy(&from, &to).map(|_| ()),
                moved => moved,
            };
            moved.with_context(|| format!("cannot write {}", to.display()))?;
            let name = Path::new(WAREHOUSE).join(path);
            let name = name.to_str().with_context(|| format!("the name of {} is not text", name.display()))?;
            let entry = Entry::of(dest, name.to_owned())?;
            each(entry.bytes);
            entries.push(entry);
        }
        for folder in folders {
            sync_dir(&folder).with_context(|| format!("cannot sync {}", folder.display()))?;
        }
        Ok(entries)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.dir) {
            tracing::warn!("{error:#}; the next backup tries again");
        }
    }
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir(dir).with_context(|| format!("cannot make {}", dir.display()))
}
