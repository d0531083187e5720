//! Whose an id is: what was known before a login belongs to the person after it.
//!
//! An id that several say is theirs (two people sign in on one device) belongs to the one who said so first, by event time;
//! of what was said at one time, to the one whose id comes first in the order of bytes. What says so comes from as many
//! partitions of `actions` as there are people, and how those interleave here is not determined: so the rule must not see
//! the order, and a minimum does not. It also makes the outcome the same however often a link is repeated.
//!
//! A link goes to both ends. Here the id's own end keeps the record, and the person's end keeps a list of claims, because it
//! does not see who else claims the same id: a reader confirms each claim by the id's record.

use bytes::Bytes;
use millrace_events::{Envelope, Kind, Link};
use millrace_feature_store::views::{self, IdentityRecord};
use prost::Message;

use super::tables;
use crate::Result;
use crate::job::{Input, Job, LinkedId, Row, Writes};
use crate::state::{State, StateKey, StateValue};

/// See the module.
pub struct Identity;

impl Job for Identity {
    fn name(&self) -> &'static str {
        "identity"
    }

    fn apply(&self, input: &Input<'_>, state: &mut State, writes: &mut Writes) -> Result<()> {
        let Some(Link { alias_id, person_id }) = &input.record.link else { return Ok(()) };
        let at_us = input.record.event_time_us;
        // The record went to both ends; its key says which end this is.
        if input.key != alias_id {
            writes.raise(views::list(views::ALIASES, input.key), Bytes::copy_from_slice(alias_id.as_bytes()), at_us);
            return Ok(());
        }
        let key = StateKey::new(tables::IDENTITIES).last(alias_id.as_bytes());
        let said = BelongsTo(IdentityRecord { person_id: person_id.clone(), linked_at_us: at_us });
        if state.get::<BelongsTo>(&key)?.is_some_and(|known| known.rank() <= said.rank()) {
            return Ok(());
        }
        writes.put(views::record(views::IDENTITY, alias_id), said.0.encode_to_vec().into());
        let linked_at_us = at_us;
        writes.row(Row::Identity(LinkedId { alias_id: alias_id.clone(), person_id: person_id.clone(), linked_at_us }));
        state.put(&key, said);
        Ok(())
    }
}

/// What a call says about who is who. Only `identify` and `alias` say it: another call that carries two ids says who acted,
/// and on which device, and on one device several people act.
pub(super) fn link_of(envelope: &Envelope) -> Option<Link> {
    let alias_id = match envelope.kind() {
        Kind::Identify => &envelope.anonymous_id,
        Kind::Alias => &envelope.previous_id,
        _ => return None,
    };
    let person_id = &envelope.user_id;
    let says_something = !alias_id.is_empty() && !person_id.is_empty() && alias_id != person_id;
    says_something.then(|| Link { alias_id: alias_id.clone(), person_id: person_id.clone() })
}

/// Whose an id is.
#[derive(Clone, Default)]
struct BelongsTo(IdentityRecord);

impl BelongsTo {
    /// The least wins.
    fn rank(&self) -> (i64, &[u8]) {
        (self.0.linked_at_us, self.0.person_id.as_bytes())
    }
}

impl StateValue for BelongsTo {
    fn decode(bytes: &[u8]) -> Option<Self> {
        IdentityRecord::decode(bytes).ok().map(Self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.encode_to_vec());
    }

    fn weight(&self) -> usize {
        size_of::<Self>() + self.0.person_id.capacity()
    }
}

#[cfg(test)]
mod tests;
