//! One partition that this process owns.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use millrace_events::TopicPartition;
use millrace_log::Offset;
use millrace_pipelines::state::{OFFSET_KEY, PartitionState, StateWrite};
use millrace_pipelines::{Error, Result};
use slatedb::config::{CloseOptions, FlushOptions, FlushType};
use slatedb::{Db, WriteBatch};
use tokio::runtime::Handle;

use crate::bridge::Late;
use crate::gate::Gate;
use crate::store::{Shared, failed, is_fenced, read_options, scan_options, take};

/// The longest key that SlateDB takes, in bytes.
const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// The longest value that SlateDB takes, in bytes.
const VALUE_BYTES_MAX: usize = u32::MAX as usize;

/// A database that is open here. Dropped, it ends: nothing of it goes on in the background.
pub(crate) struct Opened {
    pub(crate) db: Db,
    pub(crate) epoch: u64,
    gate: Gate,
    handle: Handle,
}

impl Opened {
    pub(crate) fn new(db: Db, gate: Gate, epoch: u64, handle: Handle) -> Self {
        Self { db, epoch, gate, handle }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // Everything that was promised is durable, and what was not must not become so later.
        self.gate.shut();
        let db = self.db.clone();
        self.handle.spawn(async move {
            if let Err(error) = db.close_with_options(CloseOptions { flush_type: None }).await {
                tracing::debug!(%error, "job state that was given up did not close");
            }
        });
    }
}

pub(crate) struct SlatePartition {
    shared: Arc<Shared>,
    opened: Arc<Opened>,
    of: TopicPartition,
    offset: Offset,
    /// A commit was begun of which nobody knows whether it happened.
    in_doubt: bool,
    /// How many commits are not in a table yet.
    loose: u64,
    /// Whether a table is being written.
    writing: Arc<AtomicBool>,
}

impl SlatePartition {
    pub(crate) fn new(shared: Arc<Shared>, opened: Arc<Opened>, of: TopicPartition, offset: Offset) -> Self {
        Self { shared, opened, of, offset, in_doubt: false, loose: 0, writing: Arc::default() }
    }

    /// Memory may hold what is not stored, or the store what memory does not know of, once a commit ended without an answer.
    fn settled(&self, attempted: &'static str) -> Result<()> {
        if self.in_doubt {
            return Err(failed(attempted, self.of, IN_DOUBT));
        }
        Ok(())
    }

    /// Reads on the calling thread.
    fn read<T: Send + 'static>(
        &self,
        work: impl Future<Output = std::result::Result<T, slatedb::Error>> + Send + 'static,
    ) -> Result<T> {
        let (shared, opened, of) = (self.shared.clone(), self.opened.clone(), self.of);
        let answer = self.shared.bridge.wait(self.shared.options.read_timeout, async move {
            match work.await {
                Ok(found) => Ok(found),
                Err(error) => Err(meaning("read", of, &shared, &opened, error).await),
            }
        });
        match answer {
            Ok(Ok(found)) => found,
            Ok(Err(late)) => Err(failed("read", self.of, late)),
            Err(ended) => Err(failed("read", self.of, ended)),
        }
    }
}

const IN_DOUBT: &str = "a commit before ended without an answer: the partition has to be opened again, and goes on from what is \
                        stored";

/// What an error of SlateDB says about a partition.
async fn meaning(
    attempted: &'static str,
    of: TopicPartition,
    shared: &Shared,
    opened: &Opened,
    error: slatedb::Error,
) -> Error {
    // A put whose answer was lost and that cannot be looked up looks like a fence too, and what is missing may have been
    // removed by a new owner: the manifest knows.
    match shared.newest_epoch(of).await {
        Ok(Some(newest)) if newest > opened.epoch => Error::Fenced(of),
        Err(_) if is_fenced(&error) => Error::Fenced(of),
        _ => failed(attempted, of, error),
    }
}

#[async_trait]
impl PartitionState for SlatePartition {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.settled("read")?;
        let (opened, key) = (self.opened.clone(), Bytes::copy_from_slice(key));
        self.read(async move { opened.db.get_with_options(key, &read_options()).await })
    }

    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        self.settled("read")?;
        // The offset's own key sorts before every other and is not part of the content.
        let after = Bytes::copy_from_slice(after.unwrap_or(OFFSET_KEY).max(OFFSET_KEY));
        let opened = self.opened.clone();
        self.read(async move {
            let range = (Bound::Excluded(after), Bound::Unbounded);
            take(opened.db.scan_with_options(range, &scan_options()).await, limit).await
        })
    }

    fn offset(&self) -> Offset {
        self.offset
    }

    async fn commit(&mut self, writes: Vec<StateWrite>, offset: Offset) -> Result<()> {
        self.settled("commit")?;
        let batch = self.batch(writes, offset)?;
        // Until it is known, also when nobody waits any more.
        self.in_doubt = true;
        let (shared, opened, of) = (self.shared.clone(), self.opened.clone(), self.of);
        let within = shared.options.commit_timeout;
        let committed = self.shared.bridge.run(async move {
            match tokio::time::timeout(within, write(&opened.db, batch)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => {
                    let meaning = meaning("commit", of, &shared, &opened, error);
                    Err(tokio::time::timeout(within, meaning)
                        .await
                        .unwrap_or_else(|_| failed("commit", of, Late(within))))
                }
                Err(_) => Err(failed("commit", of, Late(within))),
            }
        });
        let committed = committed.await.map_err(|ended| failed("commit", of, ended))?;
        // A fence stays one: every later commit is to be told the same.
        self.in_doubt = !matches!(committed, Ok(()) | Err(Error::Fenced(_)));
        committed?;
        self.offset = offset;
        self.count();
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<()> {
        let (opened, of) = (self.opened.clone(), self.of);
        // Written as a table, what is in memory need not be read again piece by piece.
        let work = async move { opened.db.close().await.map_err(|error| failed("close", of, error)) };
        if self.in_doubt {
            return Ok(());
        }
        self.shared.within("close", of, work).await
    }
}

impl SlatePartition {
    /// Begins a table when there were enough commits. Nobody waits for it: they are durable without it, and what it fails of
    /// the next commit meets as well.
    fn count(&mut self) {
        self.loose += 1;
        if self.loose < self.shared.options.commits_before_table || self.writing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.loose = 0;
        // Not `opened`, which would stay open for it.
        let (db, of, writing) = (self.opened.db.clone(), self.of, self.writing.clone());
        self.shared.bridge.handle().spawn(async move {
            if let Err(error) = db.flush_with_options(FlushOptions { flush_type: FlushType::MemTable }).await {
                tracing::debug!(%of, %error, "no table of job state was written");
            }
            writing.store(false, Ordering::Release);
        });
    }

    fn batch(&self, writes: Vec<StateWrite>, offset: Offset) -> Result<WriteBatch> {
        let mut batch = WriteBatch::new();
        for (key, value) in writes {
            let value_bytes = value.as_ref().map_or(0, Bytes::len);
            // SlateDB panics on these.
            if key.as_ref() <= OFFSET_KEY || key.len() > KEY_BYTES_MAX || value_bytes > VALUE_BYTES_MAX {
                let what = format!(
                    "a key of {} bytes with a value of {value_bytes}: keys have 1 to {KEY_BYTES_MAX} and sort after the offset's, \
                     values have up to {VALUE_BYTES_MAX}",
                    key.len()
                );
                return Err(failed("commit", self.of, what));
            }
            match value {
                Some(value) => batch.put_bytes(key, value),
                None => batch.delete(key),
            }
        }
        batch.put(OFFSET_KEY, offset.to_be_bytes());
        Ok(batch)
    }
}

/// One batch, one object, and nobody is told before it is there.
async fn write(db: &Db, batch: WriteBatch) -> std::result::Result<(), slatedb::Error> {
    let written = db.write(batch).await?;
    db.flush_with_options(FlushOptions { flush_type: FlushType::Wal }).await?;
    written.await_durable().await
}

pub(crate) fn read_offset(of: TopicPartition, stored: Option<&[u8]>) -> Result<Offset> {
    let Some(bytes) = stored else { return Ok(0) };
    let bytes = bytes.try_into().map_err(|_| {
        Error::Corrupt(format!(
            "cannot decode the offset in the state of {of}: restore the object store's prefix from a backup"
        ))
    })?;
    Ok(Offset::from_be_bytes(bytes))
}
