//! The posts of each author, newest first. Whether a post id really is this author's is decided where the post is: see
//! `posts`; a foreign id in this list is dropped when it is read.

use bytes::Bytes;
use millrace_events::ActionKind;
use millrace_feature_store::views;

use super::tables;
use crate::Result;
use crate::job::{Input, Job, Writes};
use crate::state::{Present, State, StateKey};

/// See the module.
pub struct Authors;

impl Job for Authors {
    fn name(&self) -> &'static str {
        "authors"
    }

    fn apply(&self, input: &Input<'_>, state: &mut State, writes: &mut Writes) -> Result<()> {
        let created = match input.record.kind() {
            ActionKind::PostCreated => true,
            ActionKind::PostDeleted => false,
            _ => return Ok(()),
        };
        let post = input.record.post_id.as_bytes();
        let key = StateKey::new(tables::AUTHORED).part(input.key).last(post);
        let known = state.contains::<Present>(&key)?;
        let list = views::list(views::AUTHOR_POSTS, input.key);
        let member = Bytes::copy_from_slice(post);
        if created && !known {
            state.put(&key, Present);
            writes.insert(list, member, input.record.event_time_us);
        } else if !created && known {
            // The key stays: a post id is used once, so a second creation cannot bring a deleted post back.
            writes.remove(list, member);
        }
        Ok(())
    }
}
