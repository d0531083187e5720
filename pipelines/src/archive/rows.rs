//! What waits in the state of a job until the warehouse has it: rows, which records have none, and which are a robot's.
//!
//! Four tables of the state are the runner's, three of them by offset: their keys begin with the offset of the record, so
//! that what is archived can be swept from the front.

use millrace_events::{LogTime, TopicPartition};
use millrace_feature_store::views::WindowCounts;
use millrace_log::Offset;
use prost::Message;

use crate::error::{Error, Result};
use crate::job::{ClosedWindow, LinkedId, Row};
use crate::state::{StateKey, StateStore, StateValue};

/// Records that a job marked as a robot's.
const ROBOTS: u8 = 251;
/// Up to which offset the others have been swept.
const SWEPT: u8 = 252;
/// Records that have no row.
const LEFT_OUT: u8 = 253;
/// Rows that jobs made.
const ROWS: u8 = 254;

/// How many rows one value holds: keeps values around a hundred kilobytes.
pub(crate) const ROWS_PER_VALUE: usize = 1_024;

pub(crate) fn left_out_table() -> StateKey {
    StateKey::new(LEFT_OUT)
}

pub(crate) fn robots_table() -> StateKey {
    StateKey::new(ROBOTS)
}

pub(crate) fn rows_table() -> StateKey {
    StateKey::new(ROWS)
}

pub(crate) fn left_out_key(offset: Offset) -> StateKey {
    left_out_table().number(offset)
}

pub(crate) fn robot_key(offset: Offset) -> StateKey {
    robots_table().number(offset)
}

/// The key of the `nth` value with rows of a record.
pub(crate) fn rows_key(offset: Offset, nth: u64) -> StateKey {
    rows_table().number(offset).number(nth)
}

/// The key of the offset below which nothing is kept for the warehouse any more.
pub(crate) fn swept_key() -> StateKey {
    StateKey::new(SWEPT)
}

/// Up to where a partition's state was swept: the warehouse had everything below when that was committed.
pub(crate) async fn swept_offset(states: &dyn StateStore, of: TopicPartition) -> Result<Offset> {
    // Nothing sorts between the end of the table before and this key.
    let after = [SWEPT - 1, u8::MAX, u8::MAX, u8::MAX, u8::MAX, u8::MAX, u8::MAX, u8::MAX, u8::MAX, u8::MAX];
    let found = states.peek(of, &after, 1).await?;
    let value = found.first().filter(|(key, _)| key.as_ref() == swept_key().as_bytes()).map(|(_, value)| value);
    match value {
        Some(value) => Swept::decode(value).map(|s| s.0).ok_or_else(|| Error::corrupt("how far it was swept", of)),
        None => Ok(0),
    }
}

/// See [`swept_key`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept(pub(crate) Offset);

impl StateValue for Swept {
    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self(Offset::from_be_bytes(bytes.try_into().ok()?)))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }
}

/// The offset in a key of these tables.
pub(crate) fn offset_of(key: &[u8]) -> Option<Offset> {
    Some(Offset::from_be_bytes(*key.get(1..)?.first_chunk::<8>()?))
}

/// A key that sorts before every key of the table with this offset, and after those before.
pub(crate) fn before(table: &StateKey, offset: Offset) -> Vec<u8> {
    match offset.checked_sub(1) {
        // Longer than a key with that offset, so after it, and still before the next.
        Some(last) => table.clone().number(last).last(&[u8::MAX; 9]).as_bytes().to_vec(),
        None => table.as_bytes().to_vec(),
    }
}

/// Rows of one record.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct RowsValue {
    pub(crate) rows: Vec<Row>,
}

#[derive(Clone, PartialEq, Message)]
struct RowsMessage {
    #[prost(message, repeated, tag = "1")]
    windows: Vec<WindowMessage>,
    #[prost(message, repeated, tag = "2")]
    identities: Vec<IdentityMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct WindowMessage {
    #[prost(string, tag = "1")]
    post_id: String,
    #[prost(message, required, tag = "2")]
    counts: WindowCounts,
    #[prost(sint64, tag = "3")]
    closed_at_us: i64,
}

#[derive(Clone, PartialEq, Message)]
struct IdentityMessage {
    #[prost(string, tag = "1")]
    alias_id: String,
    #[prost(string, tag = "2")]
    person_id: String,
    #[prost(sint64, tag = "3")]
    linked_at_us: i64,
}

/// The jobs of one topic make rows of one kind only, so the order of their kinds says nothing.
impl StateValue for RowsValue {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let message = RowsMessage::decode(bytes).ok()?;
        let window = |w: WindowMessage| {
            Row::EngagementWindow(ClosedWindow {
                post_id: w.post_id,
                counts: w.counts,
                closed_at: LogTime(w.closed_at_us),
            })
        };
        let identity = |i: IdentityMessage| {
            let IdentityMessage { alias_id, person_id, linked_at_us } = i;
            Row::Identity(LinkedId { alias_id, person_id, linked_at_us })
        };
        let rows = message.windows.into_iter().map(window).chain(message.identities.into_iter().map(identity));
        Some(Self { rows: rows.collect() })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut message = RowsMessage::default();
        for row in &self.rows {
            match row {
                Row::EngagementWindow(window) => message.windows.push(WindowMessage {
                    post_id: window.post_id.clone(),
                    counts: window.counts,
                    closed_at_us: window.closed_at.0,
                }),
                Row::Identity(identity) => message.identities.push(IdentityMessage {
                    alias_id: identity.alias_id.clone(),
                    person_id: identity.person_id.clone(),
                    linked_at_us: identity.linked_at_us,
                }),
            }
        }
        out.extend_from_slice(&message.encode_to_vec());
    }

    fn weight(&self) -> usize {
        self.rows.len() * size_of::<Row>()
    }
}
