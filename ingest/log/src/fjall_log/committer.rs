//! The one thread that writes the log: commits what is queued, and brings the database back after a failed write.

use std::fs::{self, File};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use millrace_embedded::{Batch as Writes, Durability, Slice};
use millrace_events::LogTime;

use super::batch::{Batch, Builder, base_of, key_of};
use super::queue::{Next, Phase, Request};
use super::{Shared, storage_error};
use crate::{Error, ErrorKind, Offset, Result};

/// The most bytes of requests in one commit.
const COMMIT_BYTES: usize = 8 * 1024 * 1024;
/// Where a batch is cut: what a reader fetches at once.
const BATCH_BYTES: usize = 256 * 1024;
/// How often an idle log looks whether somebody else's write failed.
const IDLE_PATIENCE: Duration = Duration::from_millis(500);
/// Pauses between attempts to bring the database back.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long, in pauses, the disk is only probed before the database is opened again all the same.
const INSIST_EVERY: Duration = Duration::from_secs(5);
/// What the disk must take before the database is closed and opened again.
const PROBE_BYTES: usize = 1024 * 1024;
const PROBE_FILE: &str = "probe.tmp";
const PROBE_KEY: &str = "probe";

/// See the module.
pub(super) struct Committer {
    shared: Arc<Shared>,
    /// One per partition, in the same order.
    writers: Vec<Writer>,
    /// The partitions of the commit in progress.
    touched: Vec<usize>,
    requests: Vec<Request>,
    offsets: Vec<Vec<Offset>>,
}

/// The side of a partition that may be ahead of what readers see.
#[derive(Debug, Default)]
struct Writer {
    next: Offset,
    last_time: Option<LogTime>,
    builder: Builder,
    /// The offset at which the batch in the builder begins.
    base: Offset,
    touched: bool,
    cut: Vec<Batch>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let mut writers = Vec::new();
        writers.resize_with(shared.partitions.len(), Writer::default);
        let mut committer = Self { shared, writers, touched: Vec::new(), requests: Vec::new(), offsets: Vec::new() };
        committer.go_on_from_published();
        committer
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let abandon = Abandon(self.shared.clone());
        loop {
            match self.shared.queue.take(&mut self.requests, COMMIT_BYTES, IDLE_PATIENCE) {
                Next::Closed => break,
                // Every write of this process goes to one database: somebody else's failed write stops this log too.
                _ if self.shared.embedded.has_failed() => self.recover(),
                Next::Requests => self.commit(),
                Next::Idle => {}
            }
        }
        if let Err(error) = self.shared.embedded.sync() {
            // What was acknowledged is durable already; only a trim may come back.
            tracing::warn!(%error, "the log could not be synced at its end");
        }
        drop(abandon);
    }

    fn commit(&mut self) {
        let mut writes = Writes::default();
        for nth in 0..self.requests.len() {
            self.assign(nth, &mut writes);
        }
        for nth in 0..self.touched.len() {
            self.cut(self.touched[nth], &mut writes);
        }
        if let Err(error) = self.shared.embedded.write(writes, Durability::Synced) {
            tracing::error!(%error, cause = cause(&error), "the log could not write; it is tried again until it can");
            self.recover();
            return;
        }
        for partition in self.touched.drain(..) {
            let writer = &mut self.writers[partition];
            writer.touched = false;
            self.shared.partitions[partition].publish(writer.cut.drain(..));
        }
        for (request, offsets) in self.requests.drain(..).zip(self.offsets.drain(..)) {
            // Nobody waits for the answer when the caller was cancelled; the records are there all the same.
            drop(request.answer.send(Ok(offsets)));
        }
    }

    /// Gives the records of a request their offsets and log times.
    fn assign(&mut self, nth: usize, writes: &mut Writes) {
        let batch = std::mem::take(&mut self.requests[nth].batch);
        let mut offsets = Vec::with_capacity(batch.len());
        for append in batch {
            // Checked when the request was queued.
            let Some(partition) = self.shared.index_of(append.to) else { continue };
            let writer = &mut self.writers[partition];
            if !writer.touched {
                writer.touched = true;
                self.touched.push(partition);
            }
            let time = writer.last_time.map_or(append.time, |last| last.max(append.time));
            writer.builder.push(time, &append.key, &append.value);
            writer.last_time = Some(time);
            offsets.push(writer.next);
            writer.next += 1;
            if writer.builder.bytes() >= BATCH_BYTES {
                self.cut(partition, writes);
            }
        }
        self.offsets.push(offsets);
    }

    fn cut(&mut self, partition: usize, writes: &mut Writes) {
        let writer = &mut self.writers[partition];
        if let Some((batch, value)) = writer.builder.finish(writer.base) {
            writes.put(&self.shared.partitions[partition].space, key_of(batch.base).as_slice(), value);
            writer.base = batch.end();
            writer.cut.push(batch);
        }
    }

    /// Refuses everything until the database is open again and takes a write.
    fn recover(&mut self) {
        self.shared.queue.enter(Phase::Failing);
        self.requests.drain(..).for_each(Request::refuse);
        self.offsets.clear();
        let mut pause = PAUSE_MIN;
        let mut paused = Duration::ZERO;
        loop {
            let insist = paused >= INSIST_EVERY;
            if insist {
                paused = Duration::ZERO;
            }
            match self.try_recover(insist) {
                Ok(()) => {
                    self.go_on_from_published();
                    self.shared.queue.enter(Phase::Open);
                    tracing::info!("the log can write again");
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::error!(%error, "the log stops: restore the data directory from a copy, or start a new one");
                    self.shared.queue.enter(Phase::Broken);
                    return;
                }
                Err(error) => tracing::debug!(%error, cause = cause(&error), "the log cannot write yet"),
            }
            if self.shared.queue.pause(pause) {
                return;
            }
            paused += pause;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Opens the database again and checks that it takes writes.
    ///
    /// The failed database still answers reads, and nobody can read while it is opened again: so the disk is asked first
    /// whether it takes a file, unless `insist`. What a failed flush left half written may itself be what fills the disk,
    /// and only opening again removes it.
    pub(super) fn try_recover(&self, insist: bool) -> Result<()> {
        if !insist && self.shared.embedded.is_open() {
            self.probe_disk().map_err(|e| Error::with_source(ErrorKind::Retry, "the disk does not take a file", e))?;
        }
        self.shared.embedded.reopen().map_err(|e| storage_error("cannot open the database again", e))?;
        let mut recovered = Vec::new();
        for partition in &self.shared.partitions {
            let published = partition.bounds().end;
            let newest = partition.newest()?;
            let end = newest.as_ref().map_or(0, Batch::end);
            if end < published {
                let message = format!("{} ends at {end} on disk but {published} was acknowledged", partition.name);
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            // A failed sync may have left pages that look clean and are on no disk, so what it was to sync is written anew.
            let mut next = published;
            while next < end {
                let Some((key, value)) = partition.stored_from(next)? else { break };
                let mut writes = Writes::default();
                next = Batch::parse(base_of(&key)?, value.clone())?.end();
                writes.put(&partition.space, key, value);
                self.write(writes)?;
            }
            if let Some(newest) = newest.filter(|_| end > published) {
                recovered.push((partition, newest));
            }
        }
        let mut probe = Writes::default();
        probe.put(&self.shared.meta, PROBE_KEY, Slice::from([0_u8; 8].as_slice()));
        self.write(probe)?;
        for (partition, newest) in recovered {
            partition.publish_recovered(&newest);
        }
        Ok(())
    }

    fn write(&self, writes: Writes) -> Result<()> {
        let written = self.shared.embedded.write(writes, Durability::Synced);
        written.map_err(|e| storage_error("cannot write after opening again", e))
    }

    fn probe_disk(&self) -> std::io::Result<()> {
        let path = self.shared.embedded.dir().join(PROBE_FILE);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(&vec![0; PROBE_BYTES])?;
            file.sync_all()
        };
        let written = write();
        fs::remove_file(&path)?;
        written
    }

    /// Drops what was not committed.
    fn go_on_from_published(&mut self) {
        self.touched.clear();
        for (writer, partition) in self.writers.iter_mut().zip(&self.shared.partitions) {
            let bounds = partition.bounds();
            writer.next = bounds.end;
            writer.base = bounds.end;
            writer.last_time = bounds.last_time;
            writer.touched = false;
            writer.cut.clear();
            writer.builder.reset();
        }
    }
}

/// Lets nobody wait for a thread that has ended, however it ended.
struct Abandon(Arc<Shared>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.queue.abandon();
        for partition in &self.0.partitions {
            partition.close();
        }
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}
