//! How much the viewer has reacted to an author lately, from the viewer's own last reactions.

use millrace_events::ActionKind;
use rustc_hash::FxHashMap;

use super::decay;
use crate::hydrate::Taste;

/// A reaction loses half of its weight in this time.
const HALF_LIFE_US: i64 = 14 * 24 * 3600 * 1_000_000;
/// The sum of weights at which affinity is one half: about three fresh likes.
const HALF_WEIGHT: f64 = 3.0;

/// A viewer's affinity to authors.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    weights: FxHashMap<String, f64>,
}

impl Affinity {
    /// From what the viewer last reacted to.
    pub(crate) fn new(taste: &Taste, now_us: i64) -> Self {
        let mut affinity = Self::default();
        for reaction in &taste.reactions {
            let Some(author) = taste.authors.get(&reaction.post_id) else { continue };
            let gain = weight(reaction.kind) * decay(now_us.saturating_sub(reaction.at_us), HALF_LIFE_US);
            *affinity.weights.entry(author.clone()).or_default() += gain;
        }
        affinity
    }

    /// Affinity to `author`, 0 for a stranger, towards 1 for a favourite.
    pub(crate) fn of(&self, author: &str) -> f64 {
        let weight = self.weights.get(author).copied().unwrap_or_default().max(0.0);
        weight / (weight + HALF_WEIGHT)
    }
}

/// What one fresh reaction says about the viewer and the author.
fn weight(kind: ActionKind) -> f64 {
    match kind {
        ActionKind::PostLiked => 1.0,
        ActionKind::PostCommented | ActionKind::PostShared => 2.0,
        ActionKind::PostSaved => 1.5,
        ActionKind::PostClicked => 0.25,
        ActionKind::PostHidden => -2.0,
        ActionKind::PostReported => -3.0,
        _ => 0.0,
    }
}
