//! From scores to an order.

mod diversity;

use std::cmp::Reverse;

use crate::hydrate::Hydrated;
use crate::slate::Parts;

/// Scores are compared, shown and carried in cursors in millionths, so that all three agree.
pub(crate) const SCORE_UNITS: f64 = 1_000_000.0;

/// A candidate with its score.
#[derive(Debug)]
pub(crate) struct Scored {
    pub(crate) hydrated: Hydrated,
    pub(crate) parts: Parts,
    /// Millionths.
    pub(crate) score: u32,
}

/// The slate: every candidate, best first, authors spread. Equal scores are ordered by time, newest first, then by post id.
pub(crate) fn select(scored: Vec<(Hydrated, Parts, f64)>) -> Vec<Scored> {
    let mut slate = diversity::spread(scored);
    slate.sort_by(|a, b| {
        let key = |s: &Scored| (Reverse(s.score), Reverse(s.hydrated.created_us()));
        key(a).cmp(&key(b)).then_with(|| a.hydrated.candidate.post_id.cmp(&b.hydrated.candidate.post_id))
    });
    slate
}

#[cfg(test)]
mod tests;
