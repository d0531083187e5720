//! The viewer's taste: what they last reacted to, and who wrote it. A feed can be ranked without.

use bytes::Bytes;
use millrace_events::ActionKind;
use millrace_feature_store::views::{self, PostRecord, REACTIONS, REACTIONS_MAX};
use millrace_feature_store::{ListItem, OnlineStore};
use rustc_hash::FxHashMap;

use crate::Result;

/// What a viewer last reacted to.
#[derive(Debug, Default)]
pub(crate) struct Taste {
    /// Newest first.
    pub(crate) reactions: Vec<Reaction>,
    /// By post, as far as it is known.
    pub(crate) authors: FxHashMap<String, String>,
}

/// One thing the viewer did to a post.
#[derive(Debug)]
pub(crate) struct Reaction {
    pub(crate) kind: ActionKind,
    pub(crate) post_id: String,
    pub(crate) at_us: i64,
}

/// Reads the taste of the viewer who has these ids.
pub(crate) async fn read_taste(store: &dyn OnlineStore, ids: &[String]) -> Result<Taste> {
    let lists: Vec<_> = ids.iter().map(|id| views::list(REACTIONS, id)).collect();
    let heads = store.heads(&lists, REACTIONS_MAX).await?;
    let mut taste = Taste { reactions: standing(unite(heads)), ..Taste::default() };
    if taste.reactions.is_empty() {
        return Ok(taste);
    }
    let keys: Vec<_> = taste.reactions.iter().map(|r| views::record(views::POST, &r.post_id)).collect();
    for (reaction, value) in taste.reactions.iter().zip(store.get(&keys).await?) {
        let Some(value) = value else { continue };
        let post: PostRecord = views::decode("post", value)?;
        taste.authors.insert(reaction.post_id.clone(), post.author_id);
    }
    Ok(taste)
}

/// The last reactions over all ids. What several of them did is one reaction, with its latest time, as in the list of one.
fn unite(mut heads: Vec<Vec<ListItem>>) -> Vec<ListItem> {
    if heads.len() == 1 {
        return heads.pop().unwrap_or_default();
    }
    let mut latest: FxHashMap<Bytes, i64> = FxHashMap::default();
    for ListItem { score, member } in heads.into_iter().flatten() {
        let known = latest.entry(member).or_insert(score);
        *known = score.max(*known);
    }
    let mut united: Vec<ListItem> = latest.into_iter().map(|(member, score)| ListItem { score, member }).collect();
    united.sort_unstable_by(ListItem::rank);
    united.truncate(REACTIONS_MAX);
    united
}

/// What was not taken back: a like counts when no unlike of the same post has a later or equal time.
fn standing(items: Vec<ListItem>) -> Vec<Reaction> {
    let mut reactions: Vec<Reaction> = items.into_iter().filter_map(reaction).collect();
    let unlikes = reactions.iter().filter(|reaction| reaction.kind == ActionKind::PostUnliked);
    let unliked: FxHashMap<String, i64> = unlikes.map(|unlike| (unlike.post_id.clone(), unlike.at_us)).collect();
    reactions.retain(|reaction| {
        let unliked_at_us = unliked.get(&reaction.post_id).filter(|_| reaction.kind == ActionKind::PostLiked);
        unliked_at_us.is_none_or(|at_us| *at_us < reaction.at_us)
    });
    reactions
}

fn reaction(item: ListItem) -> Option<Reaction> {
    let (&kind, post) = item.member.split_first()?;
    let kind = ActionKind::try_from(i32::from(kind)).ok()?;
    Some(Reaction { kind, post_id: String::from_utf8(post.to_vec()).ok()?, at_us: item.score })
}
