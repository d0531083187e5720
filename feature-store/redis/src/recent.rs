//! What was written in the last minutes, to write it again when a server may have lost it.

use std::collections::VecDeque;

use crate::plan::Plan;

/// How many parts the time is cut into: whole parts are forgotten. A key that is written all the time is kept once in each.
const PARTS: u32 = 10;

/// The writes of the last minutes, of each key and part of the time the one that wins.
#[derive(Debug)]
pub(crate) struct Recent {
    /// The newest is the last.
    parts: VecDeque<Plan>,
    bytes_max: usize,
    /// How many beats make a part.
    beats_per_part: u32,
    beats: u32,
    /// For so many beats some of the time is missing.
    cut_beats: u32,
}

impl Recent {
    /// Remembers for `beats` calls of [`Recent::beat`], within `bytes_max`.
    pub(crate) fn new(beats: u32, bytes_max: usize) -> Self {
        let beats_per_part = beats.div_ceil(PARTS).max(1);
        Self { parts: VecDeque::from([Plan::default()]), bytes_max, beats_per_part, beats: 0, cut_beats: 0 }
    }

    /// Remembers these writes.
    pub(crate) fn add(&mut self, plan: &Plan) {
        if let Some(newest) = self.parts.back_mut() {
            newest.merge(plan);
        }
        let part_max = self.bytes_max / PARTS as usize;
        if self.parts.back().is_some_and(|newest| newest.bytes() > part_max) {
            self.parts.push_back(Plan::default());
        }
        while self.bytes() > self.bytes_max && self.parts.len() > 1 {
            self.cut_beats = self.beats_per_part.saturating_mul(PARTS);
            self.parts.pop_front();
        }
    }

    /// Says that time passes.
    pub(crate) fn beat(&mut self) {
        self.beats = self.beats.wrapping_add(1);
        self.cut_beats = self.cut_beats.saturating_sub(1);
        if !self.beats.is_multiple_of(self.beats_per_part) {
            return;
        }
        self.parts.push_back(Plan::default());
        // The newest part has just begun: what is in the last `PARTS` before it is young enough.
        while self.parts.len() > PARTS as usize + 1 {
            self.parts.pop_front();
        }
    }

    /// True while writes are missing that are young enough: there was no room for them.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut_beats > 0
    }

    /// All that is remembered.
    pub(crate) fn all(&self) -> Plan {
        let mut all = Plan::default();
        for part in &self.parts {
            all.merge(part);
        }
        all
    }

    pub(crate) fn clear(&mut self) {
        self.parts = VecDeque::from([Plan::default()]);
    }

    fn bytes(&self) -> usize {
        self.parts.iter().map(Plan::bytes).sum()
    }
}

#[cfg(test)]
mod tests;
