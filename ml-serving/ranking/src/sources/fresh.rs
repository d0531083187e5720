//! The newest posts of the whole platform, whoever wrote them.

use millrace_events::Topic;
use millrace_feature_store::views::{self, FRESH_MAX};
use millrace_feature_store::{ListItem, OnlineStore};

use super::{Candidate, Source};
use crate::{FRESH_CANDIDATES_MAX, Result};

/// How many times its even share of the candidates each partition is asked for: posts are spread by a hash, so the newest
/// stand about evenly in the partitions' lists.
const SHARE_FACTOR: usize = 4;
/// What every partition gives at least.
const PER_PARTITION_MIN: usize = 16;

/// The newest posts over all partitions, newest first.
pub(crate) async fn pull(store: &dyn OnlineStore, partitions: u32) -> Result<Vec<Candidate>> {
    let lists: Vec<_> = (0..Topic::ReactionEvents.partitions(partitions)).map(views::fresh_key).collect();
    let share = (SHARE_FACTOR * FRESH_CANDIDATES_MAX).div_ceil(lists.len().max(1));
    let heads = store.heads(&lists, share.clamp(PER_PARTITION_MIN, FRESH_CANDIDATES_MAX.min(FRESH_MAX))).await?;

    let mut newest: Vec<ListItem> = heads.into_iter().flatten().collect();
    if newest.len() > FRESH_CANDIDATES_MAX {
        newest.select_nth_unstable_by(FRESH_CANDIDATES_MAX, ListItem::rank);
        newest.truncate(FRESH_CANDIDATES_MAX);
    }
    newest.sort_unstable_by(ListItem::rank);
    let candidates = newest.into_iter().filter_map(|item| {
        // Members are ids, checked to be UTF-8 when they came in.
        let post_id = String::from_utf8(item.member.into()).ok()?;
        Some(Candidate { post_id, source: Source::Fresh, listed_by: None, listed_us: item.score })
    });
    Ok(candidates.collect())
}
