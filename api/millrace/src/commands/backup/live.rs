//! Backups of a running platform, asked for by its administrator.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millrace_http::{Backup, BackupTaker};

use super::Summary;
use super::take::{Destination, Progress, Source};
use crate::measure::stopwatch_us;

/// Backs up this process. Clones share how the last backup went.
#[derive(Clone)]
pub(crate) struct LiveBackup {
    source: Source,
    root: Option<PathBuf>,
    last: Arc<Mutex<(Backup, Progress)>>,
}

impl LiveBackup {
    /// Of `source`, into directories below `root`, or anywhere on a server that only this machine reaches.
    pub(crate) fn new(source: Source, root: Option<PathBuf>) -> Self {
        Self { source, root, last: Arc::default() }
    }

    /// Whoever holds the token over a network must not choose where this process writes.
    fn destination(&self, dest: &str) -> anyhow::Result<Destination> {
        let config = &self.source.config;
        anyhow::ensure!(Path::new(dest).is_absolute(), "dest must be an absolute path on the server's machine");
        anyhow::ensure!(
            self.root.is_some() || config.listen.ip().is_loopback(),
            "this server listens beyond the loopback: say below which directory it may back up with --backup-dir"
        );
        Destination::make(Path::new(dest), &config.data_dir, self.root.as_deref())
    }

    fn last(&self) -> MutexGuard<'_, (Backup, Progress)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(self, dest: Destination, progress: Progress) {
        let (path, begun) = (dest.path().display().to_string(), stopwatch_us());
        let taken = self.source.clone().take(dest, progress).await;
        let taken = taken.and_then(|manifest| Ok(serde_json::to_value(Summary::of(&manifest, path, begun))?));
        let mut last = self.last();
        match taken {
            Ok(report) => (last.0.state, last.0.report) = ("done", Some(report)),
            Err(error) => (last.0.state, last.0.error) = ("failed", Some(format!("{error:#}"))),
        }
    }
}

impl BackupTaker for LiveBackup {
    fn begin(&self, dest: &str) -> Result<Backup, String> {
        let mut last = self.last();
        if last.0.state == "running" {
            return Err(format!("a backup into {} is being taken: wait for it", last.0.dest));
        }
        let made = self.destination(dest).map_err(|error| format!("{error:#}"))?;
        let dest = made.path().display().to_string();
        *last = (Backup { state: "running", dest, ..Backup::default() }, Progress::default());
        tokio::spawn(self.clone().take(made, last.1.clone()));
        Ok(last.0.clone())
    }

    fn state(&self) -> Backup {
        let last = self.last();
        let (records, bytes) = last.1.get();
        let state = if last.0.state.is_empty() { "none" } else { last.0.state };
        Backup { state, records, bytes, ..last.0.clone() }
    }
}
