//! Job state in the embedded database: one space per topic partition.
//!
//! Commits are synced, and with them everything that was written before: an offset on disk vouches for the online writes
//! that came ahead of it, which are only ordered. Were the commit only ordered too, a flush of the state's space could put
//! it on disk while a power cut takes the online writes that are still in the journal.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use millrace_embedded::{Batch, Durability, Embedded, Slice, Snapshot, Space};
use millrace_events::TopicPartition;
use millrace_log::Offset;

use super::{OFFSET_KEY, PartitionState, StateStore, StateWrite};
use crate::{Error, Result};

/// State of every partition in one embedded database. Only one process has it open, so owners are fenced in memory.
pub struct FjallStateStore {
    embedded: Arc<Embedded>,
    owners: Mutex<HashMap<TopicPartition, Arc<Mutex<u64>>>>,
}

struct FjallPartition {
    of: TopicPartition,
    space: Space,
    offset: Offset,
    /// Which opening this is, and which is the newest of this partition.
    epoch: u64,
    newest: Arc<Mutex<u64>>,
    /// Which opening of the database the offset was read from: after a failure it may have gone back.
    database: u64,
}

impl FjallStateStore {
    /// State in `embedded`.
    pub fn new(embedded: Arc<Embedded>) -> Self {
        Self { embedded, owners: Mutex::default() }
    }

    /// Up to where the state of `of` is committed in a snapshot of its database, for a backup.
    ///
    /// # Errors
    /// When the snapshot cannot be read now.
    pub fn committed_in(snapshot: &Snapshot, of: TopicPartition) -> Result<Offset> {
        read_offset(of, snapshot.get(&space_name(of), OFFSET_KEY).map_err(|e| failed("read", of, e))?)
    }
}

/// The name of the space of a partition's state.
fn space_name(of: TopicPartition) -> String {
    format!("state/{of}")
}

fn read_offset(of: TopicPartition, stored: Option<Slice>) -> Result<Offset> {
    let Some(bytes) = stored else { return Ok(0) };
    bytes.as_ref().try_into().map(Offset::from_be_bytes).map_err(|_| Error::corrupt("the offset", of))
}

#[async_trait]
impl StateStore for FjallStateStore {
    async fn open(&self, of: TopicPartition) -> Result<Box<dyn PartitionState>> {
        let newest = self.owners.lock().unwrap_or_else(PoisonError::into_inner).entry(of).or_default().clone();
        let mut owner = newest.lock().unwrap_or_else(PoisonError::into_inner);
        *owner += 1;
        let epoch = *owner;
        drop(owner);
        let database = self.embedded.epoch();
        let space = self.embedded.space(&space_name(of)).map_err(|e| failed("open", of, e))?;
        let offset = read_offset(of, space.get(OFFSET_KEY).map_err(|e| failed("read", of, e))?)?;
        Ok(Box::new(FjallPartition { of, space, offset, epoch, newest, database }))
    }

    async fn peek(&self, of: TopicPartition, after: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        let space = self.embedded.space(&space_name(of)).map_err(|e| failed("open", of, e))?;
        let found = space
            .range(Bound::Excluded(after.max(OFFSET_KEY)), Bound::Unbounded, limit)
            .map_err(|e| failed("read", of, e))?;
        Ok(found.into_iter().map(|(k, v)| (Bytes::copy_from_slice(&k), Bytes::copy_from_slice(&v))).collect())
    }
}

impl FjallPartition {
    /// Holds the ownership, so that nothing of a former owner can follow the opening by a new one.
    fn mine(&self, attempted: &'static str) -> Result<MutexGuard<'_, u64>> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if *newest != self.epoch {
            return Err(Error::Fenced(self.of));
        }
        self.same_database(attempted)?;
        Ok(newest)
    }

    /// What is in memory belongs to what was on disk when the state was opened. Asked after a read too: a value that was
    /// read from the reopened database must not be mixed with it.
    fn same_database(&self, attempted: &'static str) -> Result<()> {
        if self.space.embedded().epoch() == self.database {
            return Ok(());
        }
        Err(Error::State { attempted, of: self.of, source: REOPENED.into() })
    }
}

#[async_trait]
impl PartitionState for FjallPartition {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let _mine = self.mine("read")?;
        let value = self.space.get(key).map_err(|e| failed("read", self.of, e))?;
        self.same_database("read")?;
        Ok(value.map(|v| Bytes::copy_from_slice(&v)))
    }

    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        let _mine = self.mine("read")?;
        // The offset's own key sorts before every other and is not part of the content.
        let from = Bound::Excluded(after.unwrap_or(OFFSET_KEY).max(OFFSET_KEY));
        let found = self.space.range(from, Bound::Unbounded, limit).map_err(|e| failed("read", self.of, e))?;
        self.same_database("read")?;
        Ok(found.into_iter().map(|(k, v)| (Bytes::copy_from_slice(&k), Bytes::copy_from_slice(&v))).collect())
    }

    fn offset(&self) -> Offset {
        self.offset
    }

    async fn commit(&mut self, writes: Vec<StateWrite>, offset: Offset) -> Result<()> {
        let mine = self.mine("commit")?;
        let mut batch = Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.put(&self.space, key.as_ref(), value.as_ref()),
                None => batch.delete(&self.space, key.as_ref()),
            }
        }
        batch.put(&self.space, OFFSET_KEY, &offset.to_be_bytes()[..]);
        self.space
            .embedded()
            .write_as_of(self.database, batch, Durability::Synced)
            .map_err(|e| failed("commit", self.of, e))?;
        drop(mine);
        self.offset = offset;
        Ok(())
    }
}

const REOPENED: &str = "the database was reopened after a failure: the partition goes on from what is on disk";

fn failed(attempted: &'static str, of: TopicPartition, source: millrace_embedded::Error) -> Error {
    Error::State { attempted, of, source: Box::new(source) }
}

#[cfg(test)]
mod tests;
