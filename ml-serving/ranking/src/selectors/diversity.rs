//! One author does not fill the screen: each further post of the same author counts for less.

use rustc_hash::FxHashMap;

use super::{SCORE_UNITS, Scored};
use crate::hydrate::Hydrated;
use crate::slate::Parts;

/// The second post of an author counts this much, the third its square, and so on.
const REPEAT_FACTOR: f64 = 0.7;
/// No post counts for less than this, so that the rest of a lone author's posts stay in order of their own merit.
const FACTOR_MIN: f64 = 0.1;

/// Applies the penalty. An author's posts keep their order among themselves, so what the n-th of them counts does not
/// depend on the other authors, and sorting by the result is the same as choosing greedily.
pub(crate) fn spread(mut scored: Vec<(Hydrated, Parts, f64)>) -> Vec<Scored> {
    scored.sort_by(|(a, _, a_score), (b, _, b_score)| {
        let newer = b.created_us().cmp(&a.created_us());
        b_score.total_cmp(a_score).then(newer).then_with(|| a.candidate.post_id.cmp(&b.candidate.post_id))
    });
    let mut factors: FxHashMap<String, f64> = FxHashMap::default();
    let mut spread = Vec::with_capacity(scored.len());
    for (hydrated, mut parts, score) in scored {
        let author = hydrated.author();
        parts.diversity = match factors.get_mut(author) {
            Some(factor) => {
                *factor = (*factor * REPEAT_FACTOR).max(FACTOR_MIN);
                *factor
            }
            None => {
                factors.insert(author.to_owned(), 1.0);
                1.0
            }
        };
        // Between 0 and 1 by the weights; the cast saturates should somebody configure others.
        let score = (score * parts.diversity * SCORE_UNITS).round() as u32;
        spread.push(Scored { hydrated, parts, score });
    }
    spread
}
