//! Who follows, blocks and mutes whom, at both ends. A follow survives a block: while the block lasts it only hides.

use bytes::Bytes;
use millrace_events::ActionKind;
use millrace_feature_store::views::{self, UserRecord};
use prost::Message;

use super::tables;
use crate::Result;
use crate::job::{Input, Job, Writes};
use crate::state::{Present, State, StateKey, StateValue};

/// See the module.
pub struct Graph;

/// The kinds of edge, as they stand in state keys.
const FOLLOW: u8 = b'f';
const BLOCK: u8 = b'b';
const MUTE: u8 = b'm';

impl Job for Graph {
    fn name(&self) -> &'static str {
        "graph"
    }

    fn apply(&self, input: &Input<'_>, state: &mut State, writes: &mut Writes) -> Result<()> {
        let (edge, on) = match input.record.kind() {
            ActionKind::UserFollowed => (FOLLOW, true),
            ActionKind::UserUnfollowed => (FOLLOW, false),
            ActionKind::UserBlocked => (BLOCK, true),
            ActionKind::UserUnblocked => (BLOCK, false),
            ActionKind::UserMuted => (MUTE, true),
            ActionKind::UserUnmuted => (MUTE, false),
            _ => return Ok(()),
        };
        // The record went to both ends; its key says which end this is.
        let forward = input.key == input.record.actor;
        let (table, other) =
            if forward { (tables::EDGES, &input.record.target_id) } else { (tables::EDGES_BACK, &input.record.actor) };
        let list = match (edge, forward) {
            (FOLLOW, true) => Some(views::FOLLOWING),
            (BLOCK, true) => Some(views::BLOCKED),
            (BLOCK, false) => Some(views::BLOCKED_BY),
            (MUTE, true) => Some(views::MUTED),
            _ => None,
        };
        if let Some(view) = list.filter(|_| !on) {
            // Also where there is no such edge: the person may have made it under another id.
            let undone = views::list(views::UNDONE, input.key);
            writes.raise(undone, views::undone_member(view, other), input.record.event_time_us);
        }
        let key = StateKey::new(table).part(input.key).last(&[edge]).last(other.as_bytes());
        if state.contains::<Present>(&key)? == on {
            return Ok(());
        }
        if on {
            state.put(&key, Present);
        } else {
            state.remove(&key);
        }
        if let Some(view) = list {
            let member = Bytes::copy_from_slice(other.as_bytes());
            if on {
                writes.insert(views::list(view, input.key), member, input.record.event_time_us);
            } else {
                writes.remove(views::list(view, input.key), member);
            }
        }
        if edge == FOLLOW {
            let user = state.entry::<UserCounts>(&StateKey::new(tables::USERS).last(input.key.as_bytes()))?;
            let count = if forward { &mut user.0.following } else { &mut user.0.followers };
            *count = if on { *count + 1 } else { count.saturating_sub(1) };
            writes.put(views::record(views::USER, input.key), user.0.encode_to_vec().into());
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Default)]
struct UserCounts(UserRecord);

impl StateValue for UserCounts {
    fn decode(bytes: &[u8]) -> Option<Self> {
        UserRecord::decode(bytes).ok().map(Self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.encode_to_vec());
    }
}
