//! The totals of a post. A like is a state of (actor, post); distinct viewers are a sketch; the rest counts every event.

use millrace_events::ActionKind;
use millrace_feature_store::views::{self, EngagementRecord};
use prost::Message;

use super::tables;
use crate::Result;
use crate::job::{Input, Job, Writes};
use crate::operators::distinct::Distinct;
use crate::state::{Present, State, StateKey, StateValue};

/// See the module.
pub struct Engagement;

impl Job for Engagement {
    fn name(&self) -> &'static str {
        "engagement"
    }

    fn apply(&self, input: &Input<'_>, state: &mut State, writes: &mut Writes) -> Result<()> {
        let record = input.record;
        let kind = record.kind();
        if matches!(kind, ActionKind::PostCreated | ActionKind::PostEdited | ActionKind::PostDeleted) {
            return Ok(());
        }
        let likes = match kind {
            ActionKind::PostLiked | ActionKind::PostUnliked => {
                let on = kind == ActionKind::PostLiked;
                let key = StateKey::new(tables::LIKES).part(input.key).last(record.actor.as_bytes());
                if state.contains::<Present>(&key)? == on {
                    return Ok(());
                }
                if on {
                    state.put(&key, Present);
                } else {
                    state.remove(&key);
                }
                on
            }
            _ => false,
        };
        let viewers = if kind == ActionKind::PostViewed {
            let viewers = state.entry::<Distinct>(&StateKey::new(tables::VIEWERS).last(input.key.as_bytes()))?;
            viewers.insert(&record.actor);
            Some(viewers.estimate())
        } else {
            None
        };
        let totals = &mut state.entry::<Totals>(&StateKey::new(tables::TOTALS).last(input.key.as_bytes()))?.0;
        match kind {
            ActionKind::PostViewed => {
                totals.views += 1;
                totals.unique_viewers = viewers.unwrap_or(totals.unique_viewers);
            }
            ActionKind::PostClicked => totals.clicks += 1,
            ActionKind::PostLiked if likes => totals.likes += 1,
            ActionKind::PostUnliked => totals.likes = totals.likes.saturating_sub(1),
            ActionKind::PostCommented => totals.comments += 1,
            ActionKind::PostShared => totals.shares += 1,
            ActionKind::PostSaved => totals.saves += 1,
            ActionKind::PostHidden => totals.hides += 1,
            ActionKind::PostReported => totals.reports += 1,
            _ => return Ok(()),
        }
        writes.put(views::record(views::ENGAGEMENT, input.key), totals.encode_to_vec().into());
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Totals(EngagementRecord);

impl StateValue for Totals {
    fn decode(bytes: &[u8]) -> Option<Self> {
        EngagementRecord::decode(bytes).ok().map(Self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.encode_to_vec());
    }
}
