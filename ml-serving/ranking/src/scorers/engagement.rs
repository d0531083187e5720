//! How often those who see a post react: a smoothed rate, so that one like from one viewer does not make a hit.

use millrace_feature_store::views::EngagementRecord;

/// As many imaginary viewers with the usual rate are added to the real ones.
const PRIOR_VIEWERS: f64 = 20.0;
/// The usual rate: where a post without viewers starts.
const PRIOR_RATE: f64 = 0.1;

pub(crate) fn score(totals: &EngagementRecord) -> f64 {
    let reactions = totals.likes as f64
        + 2.0 * totals.comments as f64
        + 2.0 * totals.shares as f64
        + 1.5 * totals.saves as f64
        + 0.25 * totals.clicks as f64
        - 2.0 * totals.hides as f64
        - 4.0 * totals.reports as f64;
    let rate = (reactions + PRIOR_RATE * PRIOR_VIEWERS) / (totals.unique_viewers as f64 + PRIOR_VIEWERS);
    // Where views are not reported (imports of public data) reactions outnumber viewers; this keeps them apart below 1.
    let rate = rate.max(0.0);
    rate / (rate + 1.0)
}
