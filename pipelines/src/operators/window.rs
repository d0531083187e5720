//! Tumbling windows that close by the clock of the partition.
//!
//! A window `[start, start + width)` takes every record whose event time lies in it, until the clock reaches
//! `end + lateness`: then no record on time can still arrive, and the window is final. Because the clock moves record by
//! record, where a batch is cut cannot show.

use millrace_events::{LogTime, Micros};

use crate::Result;
use crate::state::{State, StateKey, StateValue};

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

/// The windows of one key, by start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Open {
    keys: Vec<(Micros, String, u64)>,
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

impl TumblingCount {
    /// Counts one record; false when its window has closed already (it was late).
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn add(&self, state: &mut State, key: &str, at: Micros, clock: Option<LogTime>) -> Result<bool> {
        let start = at.div_euclid(self.width_us) * self.width_us;
        if clock.is_some_and(|clock| self.is_closed(start, clock)) {
            return Ok(false);
        }
        let open = state.entry::<Open>(&StateKey::new(self.table))?;
        match open.keys.binary_search_by(|(s, k, _)| (*s, k.as_str()).cmp(&(start, key))) {
            Ok(found) => open.keys[found].2 += 1,
            Err(place) => open.keys.insert(place, (start, key.to_owned(), 1)),
        }
        Ok(true)
    }

    /// Takes out every window that the clock has closed, by start, then key.
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn close(&self, state: &mut State, clock: LogTime) -> Result<Vec<Closed>> {
        let table = StateKey::new(self.table);
        let due = match state.get::<Open>(&table)? {
            Some(open) => open.keys.iter().take_while(|(start, ..)| self.is_closed(*start, clock)).count(),
            None => 0,
        };
        if due == 0 {
            return Ok(Vec::new());
        }
        let open = state.entry::<Open>(&table)?;
        Ok(open.keys.drain(..due).map(|(start_us, key, count)| Closed { start_us, key, count }).collect())
    }

    fn is_closed(&self, start: Micros, clock: LogTime) -> bool {
        clock.0 >= start.saturating_add(self.width_us).saturating_add(self.lateness_us)
    }
}

impl StateValue for Open {
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut keys = Vec::new();
        while !bytes.is_empty() {
            let (start, rest) = bytes.split_first_chunk::<8>()?;
            let (count, rest) = rest.split_first_chunk::<8>()?;
            let (len, rest) = rest.split_first_chunk::<2>()?;
            let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            let key = String::from_utf8(key.to_vec()).ok()?;
            keys.push((i64::from_le_bytes(*start), key, u64::from_le_bytes(*count)));
            bytes = rest;
        }
        Some(Self { keys })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for (start, key, count) in &self.keys {
            out.extend_from_slice(&start.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
            out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(key.as_bytes());
        }
    }
}
