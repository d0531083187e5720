//! NDJSON files of Segment calls, one call a line, as a warehouse export or a proxy would have kept them.
//!
//! A line goes out as it stands, with these exceptions. A call without `messageId` gets one made from the file's name, the line
//! and its number, because a retry or a second import could not be told from a new event otherwise. `sentAt` is left out: it tells
//! the server how wrong the client's clock was when it sent, which for a recorded call would move every event to today.
//!
//! When the recording is re-timed ([`SegmentCalls::retimed`]), `timestamp` and `originalTimestamp` are moved. `receivedAt`, where a
//! line has it, is when the call is due; else that is its time. With `receivedAt` there `sentAt` means something again: it is
//! moved too and sent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use millrace_events::{Micros, format_rfc3339, parse_rfc3339};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use xxhash_rust::xxh3::xxh3_64;

use super::{ImportError, Lines, Place, Retime};
use crate::Outgoing;

/// The calls of `paths`, in order.
pub struct SegmentCalls {
    lines: Lines,
    retime: Option<Retime>,
}

/// Reads `paths` one after the other.
pub fn calls(paths: Vec<PathBuf>) -> SegmentCalls {
    SegmentCalls { lines: Lines::new(paths), retime: None }
}

impl SegmentCalls {
    /// The same, as if they were live.
    pub fn retimed(self, retime: Retime) -> Self {
        Self { retime: Some(retime), ..self }
    }
}

impl Iterator for SegmentCalls {
    type Item = Result<Outgoing, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?;
        Some(line.and_then(|(place, line)| read(place, line, self.retime.as_mut())))
    }
}

/// The parts that decide how a line is sent. Ids may be numbers: the front door takes them too.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    message_id: Option<Id>,
    user_id: Option<Id>,
    anonymous_id: Option<Id>,
    timestamp: Option<serde_json::Value>,
    original_timestamp: Option<serde_json::Value>,
    sent_at: Option<serde_json::Value>,
    received_at: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(serde_json::Number),
    /// Anything else is for the front door to refuse, with its reason kept.
    Other(serde::de::IgnoredAny),
}

impl Id {
    fn text(self) -> Option<String> {
        match self {
            Id::Text(text) if !text.is_empty() => Some(text),
            Id::Number(number) => Some(number.to_string()),
            Id::Text(_) | Id::Other(_) => None,
        }
    }
}

fn read(place: Place<'_>, line: &[u8], retime: Option<&mut Retime>) -> Result<Outgoing, ImportError> {
    let head: Head =
        serde_json::from_slice(line).map_err(|error| place.error(format!("not a JSON object of a call: {error}")))?;
    let key = head.user_id.and_then(Id::text).or_else(|| head.anonymous_id.and_then(Id::text)).unwrap_or_default();
    let happened_us = micros(head.original_timestamp.or(head.timestamp).as_ref());
    let received_us = micros(head.received_at.as_ref());
    let due_us = received_us.or(happened_us);
    let has_id = head.message_id.and_then(Id::text).is_some();
    let Some(retime) = retime else {
        let json = if has_id && head.sent_at.is_none() { line.to_vec() } else { rewrite(place, line, has_id, None)? };
        return Ok(Outgoing { key, due_us, json });
    };
    if let Some(due_us) = due_us {
        retime.note(due_us);
    }
    let keeps_sent_at = received_us.is_some();
    let json = rewrite(place, line, has_id, Some((retime, keeps_sent_at)))?;
    Ok(Outgoing { key, due_us: due_us.map(|due_us| retime.at(due_us)), json })
}

/// What is no time stays as it is, for the front door to refuse.
fn micros(value: Option<&serde_json::Value>) -> Option<Micros> {
    parse_rfc3339(value?.as_str()?).ok()
}

fn rewrite(
    place: Place<'_>,
    line: &[u8],
    has_id: bool,
    retime: Option<(&Retime, bool)>,
) -> Result<Vec<u8>, ImportError> {
    let refuse = |error: serde_json::Error| place.error(format!("not a JSON object of a call: {error}"));
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(line).map_err(refuse)?;
    if !retime.is_some_and(|(_, keeps_sent_at)| keeps_sent_at) {
        fields.remove("sentAt");
    }
    if let Some((retime, _)) = retime {
        fields.remove("receivedAt");
        for name in ["timestamp", "originalTimestamp", "sentAt"] {
            let Some(value) = fields.get_mut(name) else { continue };
            if let Some(time_us) = micros(serde_json::from_str(value.get()).ok().as_ref()) {
                *value = to_raw_value(&format_rfc3339(retime.at(time_us))).map_err(refuse)?;
            }
        }
    }
    if !has_id {
        let name = place.path.file_name().unwrap_or_default().to_string_lossy();
        let id = format!("line-{:016x}-{:016x}-{}", xxh3_64(name.as_bytes()), xxh3_64(line), place.line);
        fields.insert("messageId".to_owned(), to_raw_value(&id).map_err(refuse)?);
    }
    serde_json::to_vec(&fields).map_err(refuse)
}
