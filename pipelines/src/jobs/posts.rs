//! Posts: who wrote them and what they say now. The first creation of a post id decides whose it is; only its author
//! edits or deletes it, and anyone else's attempt is a dead letter. The newest are listed by partition, but for those that a
//! robot wrote: it could fill the list alone.

use bytes::Bytes;
use millrace_events::{ActionKind, PostContent, Topic};
use millrace_feature_store::views::{self, PostRecord};
use prost::Message;

use super::tables;
use crate::Result;
use crate::job::{Input, Job, Writes};
use crate::state::{State, StateKey, StateValue};

/// See the module.
pub struct Posts;

impl Job for Posts {
    fn name(&self) -> &'static str {
        "posts"
    }

    fn apply(&self, input: &Input<'_>, state: &mut State, writes: &mut Writes) -> Result<()> {
        let record = input.record;
        let kind = record.kind();
        if !matches!(kind, ActionKind::PostCreated | ActionKind::PostEdited | ActionKind::PostDeleted) {
            return Ok(());
        }
        let key = StateKey::new(tables::POSTS).last(input.key.as_bytes());
        let known = state.get::<Post>(&key)?;
        let refusal = match (kind, known) {
            (ActionKind::PostCreated, None) => None,
            (ActionKind::PostCreated, Some(_)) => {
                Some(("post_exists", "a post with this post_id exists: use a new id"))
            }
            (_, None) => Some(("unknown_post", "no post with this post_id was created before")),
            (_, Some(post)) if post.0.author_id != record.actor => {
                Some(("not_the_author", "only the author of a post may edit or delete it"))
            }
            (_, Some(post)) if post.0.deleted => Some(("post_deleted", "the post was deleted before")),
            _ => None,
        };
        if let Some((reason, why)) = refusal {
            let detail = format!("{} by {} on {}: {why}", kind.as_str(), record.actor, record.post_id);
            writes.refuse(Topic::ReactionEvents, self.name(), reason, detail, record.encode_to_vec().into());
            return Ok(());
        }
        let partition = state.of().partition;
        let post = state.entry::<Post>(&key)?;
        match kind {
            ActionKind::PostCreated => {
                post.0.author_id.clone_from(&record.actor);
                post.0.created_at_us = record.event_time_us;
                post.0.content = record.content.clone();
                post.0.robot = record.robot;
                if !record.robot {
                    let newest = views::fresh_key(partition);
                    writes.raise(newest, Bytes::copy_from_slice(input.key.as_bytes()), record.event_time_us);
                }
            }
            ActionKind::PostEdited => {
                post.0.edited_at_us = record.event_time_us;
                edit(post.0.content.get_or_insert_default(), record.content.as_ref());
            }
            _ => {
                post.0.deleted = true;
                post.0.content = None;
            }
        }
        let value = Bytes::from(post.0.encode_to_vec());
        writes.put(views::record(views::POST, input.key), value);
        Ok(())
    }
}

/// An edit replaces what it names and keeps the rest.
fn edit(content: &mut PostContent, change: Option<&PostContent>) {
    let Some(change) = change else { return };
    let replace = |old: &mut String, new: &String| {
        if !new.is_empty() {
            old.clone_from(new);
        }
    };
    replace(&mut content.text, &change.text);
    replace(&mut content.lang, &change.lang);
    replace(&mut content.kind, &change.kind);
    replace(&mut content.reply_to, &change.reply_to);
    replace(&mut content.repost_of, &change.repost_of);
    replace(&mut content.url, &change.url);
    if !change.tags.is_empty() {
        content.tags.clone_from(&change.tags);
    }
}

#[derive(Clone, Default)]
struct Post(PostRecord);

impl StateValue for Post {
    fn decode(bytes: &[u8]) -> Option<Self> {
        PostRecord::decode(bytes).ok().map(Self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.encode_to_vec());
    }

    fn weight(&self) -> usize {
        self.0.encoded_len()
    }
}

#[cfg(test)]
mod tests;
