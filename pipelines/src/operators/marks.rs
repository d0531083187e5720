//! Duplicates, gaps and the clock of a re-keyed partition: one mark per source partition.

use millrace_events::{Derived, LogTime, Position};

use crate::state::StateValue;

/// The last position applied and the last log time seen, of every source partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    sources: Vec<Mark>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    position: Option<Position>,
    log_time: Option<LogTime>,
}

/// What a record's position says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next of its source: apply it.
    Next,
    /// Applied before: drop it.
    Duplicate,
    /// One before it is missing: stop.
    Gap,
    /// Its source left out a record that it sent before: two versions of the source disagree. Stop for good.
    Fork,
}

impl Marks {
    /// Judges a record and, when it is next, moves the mark of its source.
    pub fn admit(&mut self, record: &Derived) -> Verdict {
        let source = record.position.partition as usize;
        if self.sources.len() <= source {
            self.sources.resize(source + 1, Mark::default());
        }
        let mark = &mut self.sources[source];
        if mark.position.is_some_and(|at| record.position <= at) {
            return Verdict::Duplicate;
        }
        if record.previous > mark.position {
            return Verdict::Gap;
        }
        // What a source sends is a function of its partition, so above the mark only the mark itself can come before.
        if record.previous < mark.position {
            return Verdict::Fork;
        }
        mark.position = Some(record.position);
        let time = LogTime(record.log_time_us);
        mark.log_time = Some(mark.log_time.map_or(time, |before| before.max(time)));
        Verdict::Next
    }

    /// The clock: the earliest of the log times last seen from each of `sources` partitions; `None` until each was heard.
    pub fn clock(&self, sources: u32) -> Option<LogTime> {
        if self.sources.len() < sources as usize {
            return None;
        }
        self.sources.iter().map(|mark| mark.log_time).min().flatten()
    }
}

impl StateValue for Marks {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut sources = Vec::new();
        for chunk in bytes.chunks(MARK_BYTES) {
            let chunk: &[u8; MARK_BYTES] = chunk.try_into().ok()?;
            let u32_at = |i: usize| chunk[i..i + 4].try_into().map(u32::from_le_bytes).ok();
            let u64_at = |i: usize| chunk[i..i + 8].try_into().map(u64::from_le_bytes).ok();
            let position = Position {
                generation: u32_at(1)?,
                partition: u32::try_from(sources.len()).ok()?,
                offset: u64_at(5)?,
                index: u32_at(13)?,
            };
            let seen = chunk[0] == 1;
            let log_time = LogTime(u64_at(17)?.cast_signed());
            sources.push(Mark { position: seen.then_some(position), log_time: seen.then_some(log_time) });
        }
        Some(Self { sources })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for mark in &self.sources {
            let position = mark.position.unwrap_or_default();
            out.push(u8::from(mark.position.is_some()));
            out.extend_from_slice(&position.generation.to_le_bytes());
            out.extend_from_slice(&position.offset.to_le_bytes());
            out.extend_from_slice(&position.index.to_le_bytes());
            out.extend_from_slice(&mark.log_time.unwrap_or_default().0.to_le_bytes());
        }
    }
}

/// Flag, generation, offset, index, log time.
const MARK_BYTES: usize = 1 + 4 + 8 + 4 + 8;
