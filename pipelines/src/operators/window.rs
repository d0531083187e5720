//! Tumbling windows that close by the clock of the partition.
//!
//! A window `[start, start + width)` takes every record whose event time lies in it, until the clock reaches
//! `end + lateness`: then no record on time can still arrive, and the window is final. Because the clock moves record by
//! record, where a batch is cut cannot show.
//!
//! The counts of a window are kept in chunks of a thousand keys. Counting changes the last chunk only, so a commit writes
//! what was counted since the one before and at most one chunk again; a key that comes back after its chunk was full is
//! counted once more in a later chunk, and closing adds the chunks up. Memory is bounded by what one commit covers.

use millrace_events::{LogTime, Micros};
use prost::encoding::encode_varint;
use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64;

use super::due::{DueAt, List, chunk_key, drop_chunk, first_due, last_chunk, next_chunk, set_taken, split_key};
use crate::state::{State, StateValue};
use crate::{Error, Result};

/// Counts per key and tumbling window, in one table of the state.
#[derive(Clone, Copy, Debug)]
pub struct TumblingCount {
    /// The table.
    pub table: u8,
    /// Width of a window, microseconds.
    pub width_us: i64,
    /// How long after its end a window stays open, microseconds.
    pub lateness_us: i64,
}

/// A window that closed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Closed {
    /// Start of the window, microseconds; it ends `width_us` later.
    pub start_us: Micros,
    /// The key.
    pub key: String,
    /// How many records.
    pub count: u64,
}

/// A chunk of counts with this many keys is full.
const CHUNK_KEYS: usize = 1_024;

/// Closing adds up so many chunks at a time; a window with more takes several passes over them, each for the keys whose
/// hash lies in its share. It bounds the memory of closing, and how much one call returns, at about 65,000 keys.
const PASS_CHUNKS: u64 = 64;

impl TumblingCount {
    /// Counts one record; false when its window has closed already (it was late).
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn add(&self, state: &mut State, key: &str, at: Micros, clock: Option<LogTime>) -> Result<bool> {
        let start = at.div_euclid(self.width_us).saturating_mul(self.width_us);
        let due = DueAt { at_us: start.saturating_add(self.width_us).saturating_add(self.lateness_us), kind: 0 };
        if clock.is_some_and(|clock| clock.0 >= due.at_us) {
            return Ok(false);
        }
        let last = last_chunk(state, self.table, due)?;
        let counts = state.entry::<Counts>(&chunk_key(self.table, due, last))?;
        counts.add(key.as_bytes(), 1);
        if counts.keys() >= CHUNK_KEYS {
            next_chunk(state, self.table, due)?;
        }
        Ok(true)
    }

    /// Takes out windows that the clock has closed, by start, each key once, in an order that follows from the records
    /// alone. Call it again until nothing comes back: one call returns a bounded part.
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn close(&self, state: &mut State, clock: LogTime) -> Result<Vec<Closed>> {
        let mut closed = Vec::new();
        while let Some(list) = first_due(state, self.table, clock)?
            && closed.len() < CHUNK_KEYS
        {
            self.close_pass(state, list, &mut closed)?;
        }
        Ok(closed)
    }

    /// One pass over the chunks of a window; the last one deletes them.
    fn close_pass(&self, state: &mut State, list: List, closed: &mut Vec<Closed>) -> Result<()> {
        let passes = list.last / PASS_CHUNKS + 1;
        let pass = list.taken;
        let mut sums = Counts::default();
        for chunk in list.first..=list.last {
            // The last chunk is not there when the one before was just full.
            let Some(counts) = state.get::<Counts>(&chunk_key(self.table, list.due, chunk))? else { continue };
            for (key, count) in counts.iter() {
                if passes == 1 || share_of(xxh3_64(key), passes) == pass {
                    sums.add(key, count);
                }
            }
        }
        let start_us = list.due.at_us.saturating_sub(self.lateness_us).saturating_sub(self.width_us);
        closed.reserve(sums.keys());
        for (key, count) in sums.iter() {
            let key = std::str::from_utf8(key).map_err(|_| Error::corrupt("a key of a window", state.of()))?.to_owned();
            closed.push(Closed { start_us, key, count });
        }
        if pass + 1 < passes {
            return set_taken(state, self.table, list.due, pass + 1);
        }
        for first in list.first..=list.last {
            drop_chunk(state, self.table, List { first, ..list })?;
        }
        Ok(())
    }
}

/// Which of `shares` equal parts of all hashes this one lies in.
fn share_of(hash: u64, shares: u64) -> u64 {
    // The upper half of a product of 64 bits is below `shares`.
    ((u128::from(hash) * u128::from(shares)) >> 64) as u64
}

/// Counts by key, in the order in which keys first came: each key with its length before it and its count behind it, as it
/// is stored, so that writing and reading a chunk is a copy.
#[derive(Clone, Debug, Default)]
struct Counts {
    bytes: Vec<u8>,
    /// Where a key's count stands, by the key's hash; of two keys with one hash, the second is under the next free number.
    /// Empty after reading, and filled when something is added.
    places: FxHashMap<u64, Place>,
}

/// Where an entry stands: its key from `key` to `count`, its count behind.
#[derive(Clone, Copy, Debug)]
struct Place {
    key: usize,
    count: usize,
}

/// A count, little-endian.
const COUNT_BYTES: usize = 8;

impl Counts {
    /// How many keys were added since it was read or made.
    fn keys(&self) -> usize {
        self.places.len()
    }

    fn add(&mut self, key: &[u8], count: u64) {
        if self.places.is_empty() && !self.bytes.is_empty() {
            self.index();
        }
        match self.find(key) {
            Ok(at) => {
                if let Some(sum) = self.bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<COUNT_BYTES>()) {
                    *sum = u64::from_le_bytes(*sum).saturating_add(count).to_le_bytes();
                }
            }
            Err(free) => {
                encode_varint(key.len() as u64, &mut self.bytes);
                let place = Place { key: self.bytes.len(), count: self.bytes.len() + key.len() };
                self.bytes.extend_from_slice(key);
                self.bytes.extend_from_slice(&count.to_le_bytes());
                self.places.insert(free, place);
            }
        }
    }

    /// Where the count of a key stands, or the number under which its place goes.
    fn find(&self, key: &[u8]) -> std::result::Result<usize, u64> {
        let mut hash = xxh3_64(key);
        while let Some(place) = self.places.get(&hash) {
            if self.bytes.get(place.key..place.count) == Some(key) {
                return Ok(place.count);
            }
            hash = hash.wrapping_add(1);
        }
        Err(hash)
    }

    fn index(&mut self) {
        let mut at = 0;
        while let Some((key, _, rest)) = self.bytes.get(at..).and_then(split_entry) {
            let end = self.bytes.len() - rest.len();
            let place = Place { key: end - COUNT_BYTES - key.len(), count: end - COUNT_BYTES };
            let mut hash = xxh3_64(key);
            while self.places.contains_key(&hash) {
                hash = hash.wrapping_add(1);
            }
            self.places.insert(hash, place);
            at = end;
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (key, count, after) = split_entry(rest)?;
            rest = after;
            Some((key, count))
        })
    }
}

/// The first key, its count and what follows; `None` at the end.
fn split_entry(bytes: &[u8]) -> Option<(&[u8], u64, &[u8])> {
    let (key, rest) = split_key(bytes)?;
    let (count, rest) = rest.split_first_chunk::<COUNT_BYTES>()?;
    Some((key, u64::from_le_bytes(*count), rest))
}

impl StateValue for Counts {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = split_entry(rest)?.2;
        }
        Some(Self { bytes: bytes.to_vec(), places: FxHashMap::default() })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }

    fn weight(&self) -> usize {
        self.bytes.capacity() + self.places.capacity() * (size_of::<u64>() + size_of::<Place>())
    }
}
