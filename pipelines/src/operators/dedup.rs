//! Exact dedup of message ids, remembered on disk in segments that are dropped whole.
//!
//! An id is remembered for at least [`DedupBounds::keep_us`] of log time and for at least the last
//! [`DedupBounds::keep_ids`] ids of its partition. A segment is closed when it has a quarter of those ids *and* spans a
//! seventh of that time, so that few segments are alive (about nine at a steady rate) and each look-up costs few reads.

use millrace_events::LogTime;
use xxhash_rust::xxh3::Xxh3;

use crate::Result;
use crate::state::{Present, State, StateKey, StateValue};

/// How long ids are remembered: both hold.
#[derive(Clone, Copy, Debug)]
pub struct DedupBounds {
    /// At least this much log time, microseconds.
    pub keep_us: i64,
    /// At least this many ids.
    pub keep_ids: u64,
}

impl Default for DedupBounds {
    fn default() -> Self {
        Self { keep_us: 7 * 24 * 3_600 * 1_000_000, keep_ids: 10_000_000 }
    }
}

/// The state key of the list of segments, and the table of the ids.
#[derive(Clone, Copy, Debug)]
pub struct Dedup {
    segments_table: u8,
    ids_table: u8,
    bounds: DedupBounds,
}

/// The segments alive, oldest first, and those being swept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Segments {
    next: u64,
    alive: Vec<Segment>,
    dropped: Vec<Dropped>,
}

/// A segment being swept, and the last of its ids that was; 0 before the first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Dropped {
    number: u64,
    swept: u128,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    number: u64,
    ids: u64,
    first_us: i64,
    last_us: i64,
}

impl Dedup {
    /// Dedup whose state lives in these two tables.
    pub fn new(segments_table: u8, ids_table: u8, bounds: DedupBounds) -> Self {
        Self { segments_table, ids_table, bounds }
    }

    /// Remembers the id; false when it was remembered already. `time` is the log time of the record.
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn first_time(&self, state: &mut State, id: u128, time: LogTime) -> Result<bool> {
        let segments_key = StateKey::new(self.segments_table);
        let segments = state.get::<Segments>(&segments_key)?;
        let alive: Vec<u64> = segments.map(|s| s.alive.iter().rev().map(|s| s.number).collect()).unwrap_or_default();
        for number in alive {
            if state.contains::<Present>(&self.id_key(number, id))? {
                return Ok(false);
            }
        }
        let bounds = self.bounds;
        let segments = state.entry::<Segments>(&segments_key)?;
        let current = segments.current(time, &bounds);
        let sweep = segments.sweep_due();
        state.put(&self.id_key(current, id), Present);
        if let Some(dropped) = sweep {
            self.sweep(state, &dropped)?;
        }
        Ok(true)
    }

    fn id_key(&self, segment: u64, id: u128) -> StateKey {
        StateKey::new(self.ids_table).number(segment).last(&id.to_be_bytes())
    }

    /// Deletes a few ids of a dropped segment: all at once would stall the partition.
    fn sweep(&self, state: &mut State, dropped: &Dropped) -> Result<()> {
        let prefix = StateKey::new(self.ids_table).number(dropped.number);
        // From the prefix itself at first, so that an id of 0 is swept too.
        let after = if dropped.swept == 0 { prefix.clone() } else { self.id_key(dropped.number, dropped.swept) };
        let last = state.remove_prefix(&prefix, after.as_bytes(), SWEEP_KEYS)?;
        let segments = state.entry::<Segments>(&StateKey::new(self.segments_table))?;
        let last = last.and_then(|key| key.last_chunk().map(|id| u128::from_be_bytes(*id)));
        match (last, segments.dropped.first_mut()) {
            (Some(id), Some(sweeping)) => sweeping.swept = id,
            _ => segments.dropped.retain(|other| other.number != dropped.number),
        }
        Ok(())
    }
}

/// A sweep comes with every so many ids...
const SWEEP_EVERY: u64 = 1_024;
/// ...and deletes up to so many ids of a dropped segment: four times as fast as ids come in.
const SWEEP_KEYS: usize = 4_096;

impl Segments {
    /// The segment that takes an id at `time`; opens and drops segments as the bounds say.
    fn current(&mut self, time: LogTime, bounds: &DedupBounds) -> u64 {
        let full = self.alive.last().is_none_or(|s| {
            s.ids >= (bounds.keep_ids / 4).max(1) && time.0.saturating_sub(s.first_us) >= bounds.keep_us / 7
        });
        if full {
            self.alive.push(Segment { number: self.next, ids: 0, first_us: time.0, last_us: time.0 });
            self.next += 1;
            self.drop_old(time, bounds);
        }
        match self.alive.last_mut() {
            Some(segment) => {
                segment.ids += 1;
                segment.last_us = segment.last_us.max(time.0);
                segment.number
            }
            None => self.next,
        }
    }

    /// The dropped segment to sweep now, if it is time for one.
    fn sweep_due(&self) -> Option<Dropped> {
        let ids = self.alive.last().map_or(0, |s| s.ids);
        if ids.is_multiple_of(SWEEP_EVERY) { self.dropped.first().cloned() } else { None }
    }

    fn drop_old(&mut self, time: LogTime, bounds: &DedupBounds) {
        while let Some(oldest) = self.alive.first() {
            let newer: u64 = self.alive.iter().skip(1).map(|s| s.ids).sum();
            let old_enough = time.0.saturating_sub(oldest.last_us) > bounds.keep_us;
            if !old_enough || newer < bounds.keep_ids {
                return;
            }
            self.dropped.push(Dropped { number: oldest.number, swept: 0 });
            self.alive.remove(0);
        }
    }
}

impl StateValue for Segments {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(8).map(|c| c.try_into().map(u64::from_le_bytes));
        let mut take = || numbers.next()?.ok();
        let (next, alive, dropped) = (take()?, take()?, take()?);
        let mut segments = Segments { next, ..Segments::default() };
        for _ in 0..alive {
            let (number, ids, first, last) = (take()?, take()?, take()?, take()?);
            segments.alive.push(Segment { number, ids, first_us: first.cast_signed(), last_us: last.cast_signed() });
        }
        for _ in 0..dropped {
            let (number, high, low) = (take()?, take()?, take()?);
            segments.dropped.push(Dropped { number, swept: u128::from(high) << 64 | u128::from(low) });
        }
        Some(segments)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |n: u64| out.extend_from_slice(&n.to_le_bytes());
        put(self.next);
        put(self.alive.len() as u64);
        put(self.dropped.len() as u64);
        for s in &self.alive {
            [s.number, s.ids, s.first_us.cast_unsigned(), s.last_us.cast_unsigned()].into_iter().for_each(&mut put);
        }
        for d in &self.dropped {
            // The upper and the lower half.
            [d.number, (d.swept >> 64) as u64, d.swept as u64].into_iter().for_each(&mut put);
        }
    }
}

/// The 128-bit identity of a message: XXH3 over source, key and message id, each with its length before it, so that no two
/// triples run into each other.
pub fn message_identity(source: &str, key: &str, message_id: &str) -> u128 {
    let mut hasher = Xxh3::new();
    for part in [source, key, message_id] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.digest128()
}
