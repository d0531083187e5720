//! How good a post is for a viewer, as parts between 0 and 1. Plain formulas: the baseline that ranks without a model.

pub(crate) mod affinity;
mod engagement;
mod recency;

use affinity::Affinity;

use crate::hydrate::Hydrated;
use crate::slate::Parts;

/// The parts of `candidate`'s score.
pub(crate) fn score(candidate: &Hydrated, affinity: &Affinity, now_us: i64) -> Parts {
    Parts {
        recency: recency::score(candidate.created_us(), now_us),
        affinity: affinity.of(candidate.author()),
        engagement: engagement::score(&candidate.engagement),
        source: 1.0,
        diversity: 1.0,
    }
}

/// What is left of 1 after `age_us`, halving every `half_life_us`. Nothing is younger than new.
fn decay(age_us: i64, half_life_us: i64) -> f64 {
    (-(age_us.max(0) as f64) / half_life_us as f64).exp2()
}

#[cfg(test)]
mod tests;
