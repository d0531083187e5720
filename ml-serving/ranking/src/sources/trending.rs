//! What rises now, over any of the windows.

use millrace_events::{Topic, Window};
use millrace_feature_store::OnlineStore;
use millrace_feature_store::views::{self, TrendKind, TrendsRecord};
use rustc_hash::FxHashMap;

use super::{Candidate, Source};
use crate::{Result, TRENDING_CANDIDATES_MAX};

/// The posts that rise most, best first. A post stands in one partition; over the windows its highest score counts.
pub(crate) async fn pull(store: &dyn OnlineStore, partitions: u32) -> Result<Vec<Candidate>> {
    let keys: Vec<_> = (0..Topic::ReactionEvents.partitions(partitions))
        .flat_map(|partition| Window::ALL.map(|window| views::trends_key(TrendKind::Posts, window, partition)))
        .collect();
    let mut scores: FxHashMap<String, f64> = FxHashMap::default();
    for value in store.get(&keys).await?.into_iter().flatten() {
        let listed: TrendsRecord = views::decode("trends", value)?;
        for item in listed.items {
            let score = scores.entry(item.id).or_insert(item.score);
            *score = score.max(item.score);
        }
    }
    let mut best: Vec<(String, f64)> = scores.into_iter().collect();
    best.sort_unstable_by(|(a, a_score), (b, b_score)| b_score.total_cmp(a_score).then_with(|| a.cmp(b)));
    best.truncate(TRENDING_CANDIDATES_MAX);
    let candidate = |(post_id, _)| Candidate { post_id, source: Source::Trending, listed_by: None, listed_us: 0 };
    Ok(best.into_iter().map(candidate).collect())
}
