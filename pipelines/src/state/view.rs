//! The state as jobs see it: typed values, read through a cache, written back at a commit.

use std::any::Any;
use std::mem;

use bytes::Bytes;
use millrace_events::TopicPartition;
use millrace_log::Offset;
use rustc_hash::FxHashMap;

use super::{PartitionState, StateKey, StateWrite};
use crate::{Error, Result};

/// About how many bytes of clean values one partition keeps in memory; what is dirty comes on top until the next commit.
const CACHE_BYTES_MAX: usize = 6 * 1024 * 1024;

/// What a slot costs beside its key and value, in bytes: map entry, boxes, flags.
const SLOT_BYTES: usize = 64;

/// A value that a job keeps.
pub trait StateValue: Send + Sync + Sized + 'static {
    /// Reads the value; `None` when the bytes are not one.
    fn decode(bytes: &[u8]) -> Option<Self>;

    /// Writes the value.
    fn encode(&self, out: &mut Vec<u8>);

    /// About how many bytes it takes in memory beside its key.
    fn weight(&self) -> usize {
        0
    }
}

/// The value of a key whose presence is all that matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present;

impl StateValue for Present {
    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(Present)
    }

    fn encode(&self, _out: &mut Vec<u8>) {}
}

trait Erased: Any + Send + Sync {
    fn encode(&self, out: &mut Vec<u8>);
    fn weight(&self) -> usize;
}

impl<T: StateValue> Erased for T {
    fn encode(&self, out: &mut Vec<u8>) {
        StateValue::encode(self, out);
    }

    fn weight(&self) -> usize {
        StateValue::weight(self)
    }
}

struct Slot {
    value: Option<Box<dyn Erased>>,
    dirty: bool,
}

/// The state of one topic partition, as its jobs read and change it.
///
/// Changes stay here until [`State::commit`]; dropping it instead undoes them, which is how a partition restarts.
pub struct State {
    of: TopicPartition,
    store: Box<dyn PartitionState>,
    /// Touched since the last turn of generations, and everything dirty.
    hot: FxHashMap<Box<[u8]>, Slot>,
    /// Clean, from the generation before; what is touched moves to `hot`, the rest goes at the next turn.
    cold: FxHashMap<Box<[u8]>, Slot>,
    hot_bytes: usize,
    dirty: Vec<Box<[u8]>>,
}

impl State {
    /// Wraps the committed state of `of`.
    pub fn new(of: TopicPartition, store: Box<dyn PartitionState>) -> Self {
        Self { of, store, hot: FxHashMap::default(), cold: FxHashMap::default(), hot_bytes: 0, dirty: Vec::new() }
    }

    /// The offset committed last: the next record to apply.
    pub fn offset(&self) -> Offset {
        self.store.offset()
    }

    /// How many keys the next commit writes.
    pub fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// When the store cannot be read, or holds something that is not a `T`.
    pub fn get<T: StateValue>(&mut self, key: &StateKey) -> Result<Option<&T>> {
        self.load::<T>(key)?;
        match self.hot.get(key.as_bytes()) {
            Some(Slot { value: Some(value), .. }) => downcast::<T>(value.as_ref(), self.of).map(Some),
            _ => Ok(None),
        }
    }

    /// True when `key` has a value.
    ///
    /// # Errors
    /// As of [`State::get`].
    pub fn contains<T: StateValue>(&mut self, key: &StateKey) -> Result<bool> {
        Ok(self.get::<T>(key)?.is_some())
    }

    /// The value of `key` to change, made by `T::default` when there is none.
    ///
    /// # Errors
    /// As of [`State::get`].
    pub fn entry<T: StateValue + Default>(&mut self, key: &StateKey) -> Result<&mut T> {
        self.load::<T>(key)?;
        let of = self.of;
        let slot = self.hot.entry(key.as_bytes().into()).or_insert(Slot { value: None, dirty: false });
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(key.as_bytes().into());
        }
        let value = slot.value.get_or_insert_with(|| Box::new(T::default()));
        let value: &mut dyn Any = value.as_mut();
        value.downcast_mut::<T>().ok_or_else(|| Error::corrupt("a state value of another type", of))
    }

    /// Sets `key`.
    pub fn put<T: StateValue>(&mut self, key: &StateKey, value: T) {
        self.set(key, Some(Box::new(value)));
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &StateKey) {
        self.set(key, None);
    }

    /// Removes up to `limit` committed keys that start with `prefix`; true when that was all of them.
    ///
    /// # Errors
    /// As of [`State::get`].
    pub fn remove_prefix(&mut self, prefix: &StateKey, limit: usize) -> Result<bool> {
        let prefix = prefix.as_bytes();
        let found = self.store.scan(Some(prefix), limit)?;
        let full = found.len() == limit;
        let mut left = false;
        for (key, _) in found {
            if !key.starts_with(prefix) {
                left = true;
                break;
            }
            self.set_bytes(&key, None);
        }
        Ok(left || !full)
    }

    /// Writes everything changed, and the offset it leads to.
    ///
    /// # Errors
    /// As of [`PartitionState::commit`].
    pub async fn commit(&mut self, offset: Offset) -> Result<()> {
        let mut writes: Vec<StateWrite> = Vec::with_capacity(self.dirty.len());
        let mut buffer = Vec::new();
        for key in mem::take(&mut self.dirty) {
            let Some(slot) = self.hot.get_mut(&key) else { continue };
            slot.dirty = false;
            let value = slot.value.as_ref().map(|value| {
                buffer.clear();
                value.encode(&mut buffer);
                self.hot_bytes += value.weight();
                Bytes::copy_from_slice(&buffer)
            });
            writes.push((Bytes::copy_from_slice(&key), value));
        }
        self.store.commit(writes, offset).await?;
        if self.hot_bytes > CACHE_BYTES_MAX / 2 {
            // Everything is clean now, so the older half of the cache can simply go.
            self.cold = mem::take(&mut self.hot);
            self.hot_bytes = 0;
        }
        Ok(())
    }

    fn set(&mut self, key: &StateKey, value: Option<Box<dyn Erased>>) {
        self.set_bytes(key.as_bytes(), value);
    }

    fn set_bytes(&mut self, key: &[u8], value: Option<Box<dyn Erased>>) {
        self.cold.remove(key);
        if let Some(slot) = self.hot.get_mut(key) {
            slot.value = value;
            if !slot.dirty {
                slot.dirty = true;
                self.dirty.push(key.into());
            }
            return;
        }
        self.hot_bytes += key.len() + SLOT_BYTES;
        self.hot.insert(key.into(), Slot { value, dirty: true });
        self.dirty.push(key.into());
    }

    fn load<T: StateValue>(&mut self, key: &StateKey) -> Result<()> {
        let key = key.as_bytes();
        if self.hot.contains_key(key) {
            return Ok(());
        }
        let slot = match self.cold.remove(key) {
            Some(slot) => slot,
            None => {
                let value = match self.store.get(key)? {
                    Some(bytes) => {
                        let value = T::decode(&bytes).ok_or_else(|| Error::corrupt("a state value", self.of))?;
                        Some(Box::new(value) as Box<dyn Erased>)
                    }
                    None => None,
                };
                Slot { value, dirty: false }
            }
        };
        self.hot_bytes += key.len() + SLOT_BYTES + slot.value.as_ref().map_or(0, |v| v.weight());
        self.hot.insert(key.into(), slot);
        Ok(())
    }
}

fn downcast<T: StateValue>(value: &dyn Erased, of: TopicPartition) -> Result<&T> {
    let value: &dyn Any = value;
    value.downcast_ref::<T>().ok_or_else(|| Error::corrupt("a state value of another type", of))
}
