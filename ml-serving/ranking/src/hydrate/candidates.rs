//! The candidates: their posts, totals and whether the viewer has met them, in one batched read.

use millrace_feature_store::OnlineStore;
use millrace_feature_store::views::{self, EngagementRecord, PostRecord, SeenRecord};
use rustc_hash::FxHashSet;

use crate::Result;
use crate::sources::Candidate;

/// A candidate and what is known about it.
#[derive(Debug)]
pub(crate) struct Hydrated {
    pub(crate) candidate: Candidate,
    pub(crate) post: Option<PostRecord>,
    pub(crate) engagement: EngagementRecord,
    pub(crate) seen: Option<SeenRecord>,
}

impl Hydrated {
    /// Who wrote it; while the post is not known, in whose list it stands; empty when that is nobody's.
    pub(crate) fn author(&self) -> &str {
        let listed_by = self.candidate.listed_by.as_deref();
        self.post.as_ref().map(|post| post.author_id.as_str()).or(listed_by).unwrap_or_default()
    }

    /// When it was created, microseconds.
    pub(crate) fn created_us(&self) -> i64 {
        self.post.as_ref().map_or(self.candidate.listed_us, |post| post.created_at_us)
    }

    /// True when it stands in the list of somebody who did not write it: the id was taken when they created theirs.
    pub(crate) fn is_foreign(&self) -> bool {
        match (&self.candidate.listed_by, &self.post) {
            (Some(listed_by), Some(post)) => *listed_by != post.author_id,
            _ => false,
        }
    }
}

/// Reads what is known about `candidates` and the viewer, who has these ids, in the order of the candidates.
pub(crate) async fn hydrate(
    store: &dyn OnlineStore,
    ids: &[String],
    candidates: Vec<Candidate>,
) -> Result<Vec<Hydrated>> {
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let mut keys = Vec::with_capacity(candidates.len() * (2 + ids.len()));
    for candidate in &candidates {
        keys.push(views::record(views::POST, &candidate.post_id));
        keys.push(views::record(views::ENGAGEMENT, &candidate.post_id));
        keys.extend(ids.iter().map(|id| views::seen_key(id, &candidate.post_id)));
    }
    let mut values = store.get(&keys).await?.into_iter();
    let mut hydrated = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let post = values.next().flatten().map(|v| views::decode("post", v)).transpose()?;
        let engagement = values.next().flatten().map(|v| views::decode("engagement", v)).transpose()?;
        let mut seen: Option<SeenRecord> = None;
        for value in values.by_ref().take(ids.len()).flatten() {
            let met: SeenRecord = views::decode("seen", value)?;
            seen = Some(SeenRecord { hidden: met.hidden || seen.is_some_and(|seen| seen.hidden) });
        }
        hydrated.push(Hydrated { candidate, post, engagement: engagement.unwrap_or_default(), seen });
    }
    Ok(hydrated)
}

/// What the followed authors' lists name, then what else there is and they do not.
///
/// Decided once posts are known: a list that names somebody else's post does not take it away from who else brings it.
pub(crate) fn join(mut followed: Vec<Hydrated>, others: Vec<Hydrated>) -> Vec<Hydrated> {
    let known: FxHashSet<&str> =
        followed.iter().filter(|h| !h.is_foreign()).map(|h| h.candidate.post_id.as_str()).collect();
    let new: Vec<bool> = others.iter().map(|h| !known.contains(h.candidate.post_id.as_str())).collect();
    followed.extend(others.into_iter().zip(new).filter_map(|(hydrated, is_new)| is_new.then_some(hydrated)));
    followed
}
