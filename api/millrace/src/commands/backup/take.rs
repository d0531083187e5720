//! Takes a backup: one moment of the database and of the warehouse, then writes it out while everything goes on.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use millrace_catalog::{Catalog, SqliteCatalog, SqliteOptions, transfer};
use millrace_embedded::{Embedded, Snapshot};
use millrace_events::{Topic, TopicPartition, format_rfc3339};
use millrace_log::{Clock, FjallLog, WallClock};
use millrace_pipelines::archive::Archiver;
use millrace_pipelines::state::FjallStateStore;

use super::format::{CHUNK_BYTES, CHUNKS, Chunk, ChunkWriter, Entry, FORMAT, Manifest, Place};
use super::staging::Staged;
use crate::assemble::{GENERATION, worked_partitions};
use crate::catalog;
use crate::config::Config;
use crate::measure::stopwatch_us;
use crate::unfinished::sync_dir;

/// How much of a space is read at a time, in bytes.
const PAGE_BYTES: usize = 1024 * 1024;

/// Makes the warehouse stand still.
#[async_trait]
pub(crate) trait Quiesce: Send + Sync + 'static {
    /// Waits until nothing writes to the warehouse, neither rows nor maintenance; it stays so until the guard is dropped.
    async fn pause(&self) -> Box<dyn Send + '_>;
}

/// Where no archive runs, the warehouse stands still.
pub(crate) struct Still;

#[async_trait]
impl Quiesce for Still {
    async fn pause(&self) -> Box<dyn Send + '_> {
        Box::new(())
    }
}

#[async_trait]
impl Quiesce for Archiver {
    async fn pause(&self) -> Box<dyn Send + '_> {
        Box::new(self.hold().await)
    }
}

/// What is backed up.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) config: Config,
    pub(crate) embedded: Arc<Embedded>,
    pub(crate) partitions: u32,
    pub(crate) archive: Arc<dyn Quiesce>,
}

/// How far a backup is. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<(AtomicU64, AtomicU64)>);

impl Progress {
    /// Records of the database and bytes of keys, values and files so far.
    pub(crate) fn get(&self) -> (u64, u64) {
        (self.0.0.load(Ordering::Relaxed), self.0.1.load(Ordering::Relaxed))
    }

    fn add(&self, records: u64, bytes: u64) {
        self.0.0.fetch_add(records, Ordering::Relaxed);
        self.0.1.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Source {
    /// Backs up into `dest`, which [`Destination::make`] made.
    ///
    /// # Errors
    /// When something cannot be read or written; what is in `dest` then is no backup, and a restore refuses it.
    pub(crate) async fn take(self, dest: Destination, progress: Progress) -> anyhow::Result<Manifest> {
        self.config.embedded("backup")?;
        let guard = self.archive.pause().await;
        let begun = stopwatch_us();
        let moment = tokio::task::spawn_blocking({
            let (embedded, config) = (self.embedded.clone(), self.config.clone());
            move || -> anyhow::Result<_> {
                let taken_at = format_rfc3339(WallClock.now().0);
                Ok((taken_at, embedded.snapshot()?, Staged::take(&config.data_dir, &config.warehouse_dir())?))
            }
        });
        let moment = moment.await;
        // The archive goes on: what it writes and deletes from here on changes nothing of the moment.
        drop(guard);
        let pause_us = stopwatch_us() - begun;
        let (taken_at, snapshot, staged) = moment??;
        let partitions = self.partitions;
        let catalog = copy_catalog(&self.config, &dest.0).await?;
        let written = tokio::task::spawn_blocking(move || {
            let manifest = Manifest {
                format: FORMAT,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                generation: GENERATION,
                partitions,
                taken_at,
                pause_us,
                offsets: offsets(&snapshot, partitions)?,
                spaces: snapshot.names().map(str::to_owned).collect(),
                chunks: dump(&snapshot, &dest.0, &progress)?,
                catalog: catalog.map(|name| Entry::of(&dest.0, name.to_owned())).transpose()?,
                warehouse: staged.move_to(&dest.0, &|bytes| progress.add(0, bytes))?,
                complete: false,
            };
            manifest.write(&dest.0)
        });
        written.await?
    }
}

/// Copies the catalog as it is by then, when there is one; its name in the backup.
async fn copy_catalog(config: &Config, dest: &Path) -> anyhow::Result<Option<&'static str>> {
    let path = config.data_dir.join(catalog::FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let from = SqliteCatalog::open(&path, SqliteOptions::default()).await?;
    let to = SqliteCatalog::open(&dest.join(catalog::FILE), SqliteOptions::default()).await?;
    let copied = transfer(from.as_ref(), to.as_ref()).await;
    // The last to close it leaves one file.
    to.close().await;
    from.close().await;
    copied.context("cannot copy the catalog")?;
    Ok(Some(catalog::FILE))
}

/// Where every partition stands in the snapshot.
fn offsets(snapshot: &Snapshot, partitions: u32) -> anyhow::Result<BTreeMap<String, Place>> {
    let worked = worked_partitions(partitions);
    let mut offsets = BTreeMap::new();
    for topic in Topic::ALL {
        for partition in 0..topic.partitions(partitions) {
            let of = TopicPartition::new(topic, partition);
            let bounds = FjallLog::bounds_in(snapshot, of)?;
            let committed = worked.contains(&of).then(|| FjallStateStore::committed_in(snapshot, of)).transpose()?;
            ensure!(
                committed.is_none_or(|committed| committed <= bounds.end),
                "the state of {of} is beyond the end of its log: this is no moment to go back to"
            );
            offsets.insert(of.to_string(), Place { start: bounds.start, end: bounds.end, committed });
        }
    }
    Ok(offsets)
}

/// Writes every space, in chunks.
fn dump(snapshot: &Snapshot, dest: &Path, progress: &Progress) -> anyhow::Result<Vec<Chunk>> {
    let dir = dest.join(CHUNKS);
    fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut chunks = Vec::new();
    for name in snapshot.names() {
        let mut after: Option<Vec<u8>> = None;
        let mut chunk: Option<ChunkWriter> = None;
        loop {
            let page = snapshot.page(name, after.as_deref(), PAGE_BYTES)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.to_vec());
            let chunk_now = match &mut chunk {
                Some(chunk) => chunk,
                none => none.insert(ChunkWriter::create(dest, chunks.len(), name)?),
            };
            let mut bytes = 0;
            for (key, value) in &page {
                chunk_now.push(key, value)?;
                bytes += (key.len() + value.len()) as u64;
            }
            progress.add(page.len() as u64, bytes);
            if let Some(full) = chunk.take_if(|chunk| chunk.raw_bytes() >= CHUNK_BYTES) {
                chunks.push(full.finish()?);
            }
        }
        if let Some(last) = chunk {
            chunks.push(last.finish()?);
        }
    }
    sync_dir(&dir).with_context(|| format!("cannot sync {}", dir.display()))?;
    Ok(chunks)
}

/// A directory for a backup: new, empty, readable by the owner only.
#[derive(Debug)]
pub(crate) struct Destination(PathBuf);

impl Destination {
    /// Makes `dest`, within `root` when there is one, and never in what is backed up.
    ///
    /// # Errors
    /// When it is something else already, or may not be there.
    pub(crate) fn make(dest: &Path, data_dir: &Path, root: Option<&Path>) -> anyhow::Result<Self> {
        let shown = dest.display();
        let real = |path: &Path| {
            path.canonicalize().with_context(|| format!("there is no directory {}: make it first", path.display()))
        };
        let name = match dest.components().next_back() {
            Some(Component::Normal(name)) => name,
            _ => bail!("cannot back up into {shown}: name a directory that is not there yet"),
        };
        let parent = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = real(parent)?;
        ensure!(
            !parent.starts_with(real(data_dir)?),
            "cannot back up into {shown}: it is inside of the data directory and would be lost with it"
        );
        if let Some(root) = root {
            ensure!(
                parent.starts_with(real(root)?),
                "cannot back up into {shown}: backups of this server go below {}",
                root.display()
            );
        }
        let path = parent.join(name);
        // Not followed: a link could lead anywhere.
        match fs::symlink_metadata(&path) {
            Ok(found) => {
                let is_empty = found.is_dir() && fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
                ensure!(is_empty, "cannot back up into {shown}: it is there already and is not an empty directory");
                fs::set_permissions(&path, Permissions::from_mode(0o700))
            }
            Err(_) => DirBuilder::new().mode(0o700).create(&path),
        }
        .with_context(|| format!("cannot make {shown}"))?;
        sync_dir(&parent).with_context(|| format!("cannot sync {}", parent.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
mod tests;
