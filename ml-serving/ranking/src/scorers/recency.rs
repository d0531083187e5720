//! How new a post is.

use super::decay;

/// A post loses half of its recency in this time.
const HALF_LIFE_US: i64 = 6 * 3600 * 1_000_000;

pub(crate) fn score(created_us: i64, now_us: i64) -> f64 {
    decay(now_us.saturating_sub(created_us), HALF_LIFE_US)
}
