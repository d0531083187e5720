//! The viewer's taste: what they last reacted to, and who wrote it. A feed can be ranked without.

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

/// Reads the taste of the viewer `id`.
pub(crate) async fn read_taste(store: &dyn OnlineStore, id: &str) -> Result<Taste> {
    let list = views::list(REACTIONS, id);
    let head = store.heads(&[list], REACTIONS_MAX).await?.pop().unwrap_or_default();
    let mut taste = Taste { reactions: head.into_iter().filter_map(reaction).collect(), ..Taste::default() };
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

fn reaction(item: ListItem) -> Option<Reaction> {
    let (&kind, post) = item.member.split_first()?;
    let kind = ActionKind::try_from(i32::from(kind)).ok()?;
    Some(Reaction { kind, post_id: String::from_utf8(post.to_vec()).ok()?, at_us: item.score })
}
