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
const CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many pairs one look at what is to be removed reads: their values come along.
const REMOVE_STEP: usize = 64;

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
    key: Box<[u8]>,
    value: Option<Box<dyn Erased>>,
    dirty: bool,
}

/// The key of the root in the store. No table has this number.
const ROOT_KEY: &[u8] = &[u8::MAX];

/// The state of one topic partition, as its jobs read and change it.
///
/// Changes stay here until [`State::commit`]; dropping it instead undoes them, which is how a partition restarts.
pub struct State {
    of: TopicPartition,
    store: Box<dyn PartitionState>,
    /// Where a key's slot is, for keys touched since the last turn of generations and for everything dirty.
    hot: FxHashMap<Box<[u8]>, usize>,
    slots: Vec<Slot>,
    /// Clean, from the generation before; what is touched moves to `hot`, the rest goes at the next turn.
    cold: FxHashMap<Box<[u8]>, Option<Box<dyn Erased>>>,
    hot_bytes: usize,
    /// The slots that the next commit writes.
    dirty: Vec<usize>,
    root: Option<Box<dyn Erased>>,
}

impl State {
    /// Wraps the committed state of `of`.
    pub fn new(of: TopicPartition, store: Box<dyn PartitionState>) -> Self {
        Self {
            of,
            store,
            hot: FxHashMap::default(),
            slots: Vec::new(),
            cold: FxHashMap::default(),
            hot_bytes: 0,
            dirty: Vec::new(),
            root: None,
        }
    }

    /// Whose state it is.
    pub fn of(&self) -> TopicPartition {
        self.of
    }

    /// The offset committed last: the next record to apply.
    pub fn offset(&self) -> Offset {
        self.store.offset()
    }

    /// How many keys the next commit writes.
    pub fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Gives the partition up. What was not committed is gone.
    ///
    /// # Errors
    /// As of [`PartitionState::close`].
    pub async fn close(self) -> Result<()> {
        self.store.close().await
    }

    /// The one value that every record touches. It has no key to look up and is written with every commit.
    ///
    /// # Errors
    /// As of [`State::get`].
    pub fn root<T: StateValue + Default>(&mut self) -> Result<&mut T> {
        let of = self.of;
        if self.root.is_none() {
            let value = match self.store.get(ROOT_KEY)? {
                Some(bytes) => T::decode(&bytes).ok_or_else(|| Error::corrupt("the root of the state", of))?,
                None => T::default(),
            };
            self.root = Some(Box::new(value));
        }
        let root: Option<&mut dyn Any> = self.root.as_mut().map(|root| root.as_mut() as &mut dyn Any);
        root.and_then(<dyn Any>::downcast_mut).ok_or_else(|| Error::corrupt("a root of another type", of))
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// When the store cannot be read, or holds something that is not a `T`.
    pub fn get<T: StateValue>(&mut self, key: &StateKey) -> Result<Option<&T>> {
        let at = self.load::<T>(key.as_bytes())?;
        match &self.slots[at].value {
            Some(value) => downcast::<T>(value.as_ref(), self.of).map(Some),
            None => Ok(None),
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
        let at = self.load::<T>(key.as_bytes())?;
        self.soil(at);
        let of = self.of;
        let value = self.slots[at].value.get_or_insert_with(|| Box::new(T::default()));
        let value: &mut dyn Any = value.as_mut();
        value.downcast_mut::<T>().ok_or_else(|| Error::corrupt("a state value of another type", of))
    }

    /// Sets `key`.
    pub fn put<T: StateValue>(&mut self, key: &StateKey, value: T) {
        self.set(key.as_bytes(), Some(Box::new(value)));
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &StateKey) {
        self.set(key.as_bytes(), None);
    }

    /// Removes up to `limit` committed keys that start with `prefix`, after `after`; the last key removed, or `None` when
    /// none is left. What was put since the last commit is not looked at.
    ///
    /// # Errors
    /// As of [`State::get`].
    pub fn remove_prefix(&mut self, prefix: &StateKey, after: &[u8], limit: usize) -> Result<Option<Bytes>> {
        let prefix = prefix.as_bytes();
        let mut last = None;
        for (key, _) in self.store.scan(Some(prefix.max(after)), limit)? {
            if !key.starts_with(prefix) {
                return Ok(None);
            }
            self.set(&key, None);
            last = Some(key);
        }
        Ok(last)
    }

    /// Removes up to `limit` committed keys after `after` and before `end`; how many. What was put since the last commit is not
    /// looked at.
    ///
    /// # Errors
    /// As of [`State::get`].
    pub fn remove_range(&mut self, after: &[u8], end: &StateKey, limit: usize) -> Result<usize> {
        let (mut removed, mut after) = (0, Bytes::copy_from_slice(after));
        while removed < limit {
            let found = self.store.scan(Some(&after), REMOVE_STEP.min(limit - removed))?;
            let due = found.iter().take_while(|(key, _)| key.as_ref() < end.as_bytes()).count();
            for (key, _) in &found[..due] {
                self.set(key, None);
            }
            removed += due;
            match found.last() {
                Some((last, _)) if due == found.len() => after = last.clone(),
                _ => break,
            }
        }
        Ok(removed)
    }

    /// Writes everything changed, and the offset it leads to.
    ///
    /// # Errors
    /// As of [`PartitionState::commit`].
    pub async fn commit(&mut self, offset: Offset) -> Result<()> {
        let mut writes: Vec<StateWrite> = Vec::with_capacity(self.dirty.len() + 1);
        let mut buffer = Vec::new();
        for at in mem::take(&mut self.dirty) {
            let slot = &mut self.slots[at];
            slot.dirty = false;
            let value = slot.value.as_ref().map(|value| {
                self.hot_bytes += value.weight();
                encoded(value.as_ref(), &mut buffer)
            });
            writes.push((Bytes::copy_from_slice(&slot.key), value));
        }
        if let Some(root) = &self.root {
            writes.push((Bytes::from_static(ROOT_KEY), Some(encoded(root.as_ref(), &mut buffer))));
        }
        self.store.commit(writes, offset).await?;
        if self.hot_bytes > CACHE_BYTES_MAX / 2 {
            // Everything is clean now, so the older half of the cache can simply go.
            self.hot.clear();
            self.cold = self.slots.drain(..).map(|slot| (slot.key, slot.value)).collect();
            self.hot_bytes = 0;
        }
        Ok(())
    }

    fn soil(&mut self, at: usize) {
        if !mem::replace(&mut self.slots[at].dirty, true) {
            self.dirty.push(at);
        }
    }

    fn set(&mut self, key: &[u8], value: Option<Box<dyn Erased>>) {
        let at = match self.hot.get(key) {
            Some(&at) => at,
            None => {
                self.cold.remove(key);
                self.warm(key, None)
            }
        };
        self.slots[at].value = value;
        self.soil(at);
    }

    /// The slot of `key`, read from the store when nobody has yet.
    fn load<T: StateValue>(&mut self, key: &[u8]) -> Result<usize> {
        if let Some(&at) = self.hot.get(key) {
            return Ok(at);
        }
        let value = match self.cold.remove(key) {
            Some(value) => value,
            None => match self.store.get(key)? {
                Some(bytes) => {
                    let value = T::decode(&bytes).ok_or_else(|| Error::corrupt("a state value", self.of))?;
                    Some(Box::new(value) as Box<dyn Erased>)
                }
                None => None,
            },
        };
        Ok(self.warm(key, value))
    }

    /// A slot for a key that has none.
    fn warm(&mut self, key: &[u8], value: Option<Box<dyn Erased>>) -> usize {
        self.hot_bytes += 2 * key.len() + SLOT_BYTES + value.as_ref().map_or(0, |v| v.weight());
        let at = self.slots.len();
        self.slots.push(Slot { key: key.into(), value, dirty: false });
        self.hot.insert(key.into(), at);
        at
    }
}

fn encoded(value: &dyn Erased, buffer: &mut Vec<u8>) -> Bytes {
    buffer.clear();
    value.encode(buffer);
    Bytes::copy_from_slice(buffer)
}

fn downcast<T: StateValue>(value: &dyn Erased, of: TopicPartition) -> Result<&T> {
    let value: &dyn Any = value;
    value.downcast_ref::<T>().ok_or_else(|| Error::corrupt("a state value of another type", of))
}
