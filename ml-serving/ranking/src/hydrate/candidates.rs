//! The candidates: their posts, totals and whether the viewer has met them, in one batched read.

use millrace_feature_store::OnlineStore;
use millrace_feature_store::views::{self, EngagementRecord, PostRecord, SeenRecord};
use rustc_hash::FxHashMap;

use super::Viewer;
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

/// What is known about candidates, and who wrote the posts that the viewer reacted to.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) candidates: Vec<Hydrated>,
    pub(crate) reacted_authors: FxHashMap<String, String>,
}

/// Reads what is known about `candidates`, in their order; the authors of [`Viewer::reactions`] come with the same read.
pub(crate) async fn hydrate(store: &dyn OnlineStore, viewer: &Viewer, candidates: Vec<Candidate>) -> Result<Known> {
    if candidates.is_empty() {
        return Ok(Known::default());
    }
    let mut keys = Vec::with_capacity(candidates.len() * 3 + viewer.reactions.len());
    for candidate in &candidates {
        keys.push(views::record(views::POST, &candidate.post_id));
        keys.push(views::record(views::ENGAGEMENT, &candidate.post_id));
        keys.push(views::seen_key(&viewer.id, &candidate.post_id));
    }
    keys.extend(viewer.reactions.iter().map(|r| views::record(views::POST, &r.post_id)));

    let mut values = store.get(&keys).await?.into_iter();
    let mut known = Known::default();
    known.candidates.reserve(candidates.len());
    for candidate in candidates {
        let post = values.next().flatten().map(|v| views::decode("post", v)).transpose()?;
        let engagement = values.next().flatten().map(|v| views::decode("engagement", v)).transpose()?;
        let seen = values.next().flatten().map(|v| views::decode("seen", v)).transpose()?;
        known.candidates.push(Hydrated { candidate, post, engagement: engagement.unwrap_or_default(), seen });
    }
    for (reaction, value) in viewer.reactions.iter().zip(values) {
        let Some(value) = value else { continue };
        let post: PostRecord = views::decode("post", value)?;
        known.reacted_authors.insert(reaction.post_id.clone(), post.author_id);
    }
    Ok(known)
}
