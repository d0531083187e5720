//! From parts to one score. Kept apart from the scorers, so that what the platform prefers can be read in one place.

use crate::slate::Parts;
use crate::sources::Source;

/// How much each part of a score counts. Recency, affinity and engagement add up to 1; what a source counts multiplies
/// their sum and is at most 1. So a score lies between 0 and 1.
///
/// Whom a viewer follows is the strongest thing they have said, so a stranger's post counts for a part of what the same
/// post of a followed author would. By the defaults a new post of a followed author goes before any stranger's; a
/// stranger's trending post of this hour goes before a followed author's of about eight hours ago, and a fresh one before
/// those of fifteen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Of being new.
    pub recency: f64,
    /// Of the viewer's own history with the author.
    pub affinity: f64,
    /// Of what others made of the post.
    pub engagement: f64,
    /// What the sum counts for a post of an author whom the viewer follows.
    pub follows: f64,
    /// What it counts for one that only rises.
    pub trending: f64,
    /// What it counts for one that is only new.
    pub fresh: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { recency: 0.5, affinity: 0.3, engagement: 0.2, follows: 1.0, trending: 0.4, fresh: 0.2 }
    }
}

impl Weights {
    /// What a post counts that `source` brought.
    pub(crate) fn of(&self, source: Source) -> f64 {
        match source {
            Source::Follows => self.follows,
            Source::Trending => self.trending,
            Source::Fresh => self.fresh,
        }
    }
}

/// The blended score of `parts`; diversity is applied when the slate is selected.
pub(crate) fn blend(weights: &Weights, parts: &Parts) -> f64 {
    let merit =
        weights.recency * parts.recency + weights.affinity * parts.affinity + weights.engagement * parts.engagement;
    merit * parts.source
}
