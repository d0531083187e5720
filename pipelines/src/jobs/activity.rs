//! What the actor did, kept by actor: seen and hidden posts, and the last reactions. Runs inside stage 1's pass, because
//! `actions` is keyed by the actor already.

use millrace_events::{Action, ActionKind};
use millrace_feature_store::views;
use prost::Message;

use crate::job::Writes;

/// Writes what one action says about its actor.
pub(super) fn apply(actor: &str, action: &Action, event_time_us: i64, writes: &mut Writes) {
    let kind = action.kind();
    match kind {
        ActionKind::PostViewed | ActionKind::PostHidden => {
            let seen = views::SeenRecord { hidden: kind == ActionKind::PostHidden };
            writes.put(views::seen_key(actor, &action.post_id), seen.encode_to_vec().into());
        }
        // By event time: log time is not the same when the same events are sent in again, and this is content.
        // An unlike stands beside the like it takes back: a list of which only the head is kept forgets by itself, and
        // taking a member out could not bring back one that fell off its end.
        ActionKind::PostClicked
        | ActionKind::PostLiked
        | ActionKind::PostUnliked
        | ActionKind::PostShared
        | ActionKind::PostSaved
        | ActionKind::PostCommented => {
            let member = views::reaction_member(kind, &action.post_id);
            writes.raise(views::list(views::REACTIONS, actor), member, event_time_us);
        }
        _ => {}
    }
}
