//! State in memory with the laws of the seam: for simulations, tests and `verify`'s smallest replays.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use millrace_events::TopicPartition;
use millrace_log::Offset;

use super::{PartitionState, StateStore, StateWrite};
use crate::{Error, Result};

/// Committed state by partition. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ToyStateStore {
    parts: Arc<Mutex<HashMap<TopicPartition, Committed>>>,
}

#[derive(Clone, Debug, Default)]
struct Committed {
    /// Which opening of the partition is the newest, and which opening of the database this is.
    epoch: u64,
    database: u64,
    offset: Offset,
    values: BTreeMap<Bytes, Bytes>,
}

struct ToyPartition {
    of: TopicPartition,
    epoch: u64,
    database: u64,
    offset: Offset,
    store: ToyStateStore,
}

impl ToyStateStore {
    /// Nothing committed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The committed values of a partition, in order of key.
    pub fn values(&self, of: TopicPartition) -> Vec<(Bytes, Bytes)> {
        let parts = self.lock();
        parts.get(&of).map(|p| p.values.iter().map(|(k, v)| (k.clone(), v.clone())).collect()).unwrap_or_default()
    }

    /// A store of its own that holds what is committed here now.
    pub fn snapshot(&self) -> Self {
        Self { parts: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// Goes back to `earlier`: what a power cut does to commits that were not synced. Owners stay fenced.
    pub fn restore(&self, earlier: &Self) {
        let mut values = earlier.lock().clone();
        let mut parts = self.lock();
        for (of, now) in parts.iter() {
            let earlier = values.entry(*of).or_default();
            earlier.epoch = now.epoch;
            earlier.database = now.database;
        }
        *parts = values;
    }

    /// As a database that failed a write and was opened again under its users: whoever has state open must begin again.
    pub fn reopen(&self) {
        self.lock().values_mut().for_each(|part| part.database += 1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicPartition, Committed>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StateStore for ToyStateStore {
    async fn open(&self, of: TopicPartition) -> Result<Box<dyn PartitionState>> {
        let mut parts = self.lock();
        let committed = parts.entry(of).or_default();
        committed.epoch += 1;
        let (epoch, database, offset) = (committed.epoch, committed.database, committed.offset);
        Ok(Box::new(ToyPartition { of, epoch, database, offset, store: self.clone() }))
    }

    async fn peek(&self, of: TopicPartition, after: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        let from = Bound::Excluded(Bytes::copy_from_slice(after));
        let parts = self.lock();
        let Some(part) = parts.get(&of) else { return Ok(Vec::new()) };
        let found = part.values.range((from, Bound::Unbounded)).take(limit);
        Ok(found.map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

impl ToyPartition {
    /// The partition, while this is its newest owner.
    fn mine<'a>(&self, parts: &'a mut HashMap<TopicPartition, Committed>) -> Result<&'a mut Committed> {
        let committed = parts.entry(self.of).or_default();
        if committed.epoch != self.epoch {
            return Err(Error::Fenced(self.of));
        }
        if committed.database != self.database {
            let source = "the database was opened again".into();
            return Err(Error::State { attempted: "use", of: self.of, source });
        }
        Ok(committed)
    }
}

#[async_trait]
impl PartitionState for ToyPartition {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.mine(&mut self.store.lock())?.values.get(key).cloned())
    }

    fn scan(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(Bytes::copy_from_slice(key)));
        let mut parts = self.store.lock();
        let part = self.mine(&mut parts)?;
        let found = part.values.range((from, Bound::Unbounded)).take(limit);
        Ok(found.map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn offset(&self) -> Offset {
        self.offset
    }

    async fn commit(&mut self, writes: Vec<StateWrite>, offset: Offset) -> Result<()> {
        let mut parts = self.store.lock();
        let committed = self.mine(&mut parts)?;
        for (key, value) in writes {
            match value {
                Some(value) => committed.values.insert(key, value),
                None => committed.values.remove(&key),
            };
        }
        committed.offset = offset;
        self.offset = offset;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
