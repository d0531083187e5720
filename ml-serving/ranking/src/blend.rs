//! From parts to one score. Kept apart from the scorers, so that what the platform prefers can be read in one place.

use crate::slate::Parts;

/// How much each part of a score counts. They add up to 1, so a score lies between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Of being new.
    pub recency: f64,
    /// Of the viewer's own history with the author.
    pub affinity: f64,
    /// Of what others made of the post.
    pub engagement: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { recency: 0.5, affinity: 0.3, engagement: 0.2 }
    }
}

/// The blended score of `parts`.
pub(crate) fn blend(weights: &Weights, parts: &Parts) -> f64 {
    weights.recency * parts.recency + weights.affinity * parts.affinity + weights.engagement * parts.engagement
}
