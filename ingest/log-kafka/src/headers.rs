//! Headers of a record beside its log time: the CloudEvents Kafka binding, for programs that read our topics.
//!
//! The log does not know what an event means: whoever opens it passes a function that does.

use std::sync::Arc;

use bytes::Bytes;
use millrace_events::{
    ActionKind, DeadLetter, Derived, Envelope, Kind, Micros, ServedSlate, Topic, decode, format_rfc3339,
};
use millrace_log::Append;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rdkafka::message::{Header, OwnedHeaders};
use xxhash_rust::xxh3::xxh3_64;

use crate::wire::headers_of;

/// Gives the headers of a record: called once per append, it should be quick. Values are UTF-8.
pub type HeadersOf = Arc<dyn Fn(&Append) -> Vec<(&'static str, String)> + Send + Sync>;

/// The most bytes that headers add to a record; a record with more goes without.
pub(crate) const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// What a URI reference may not hold as it is.
const UNSAFE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// All headers of a record.
pub(crate) fn all_of(append: &Append, more: Option<&HeadersOf>) -> OwnedHeaders {
    let more = more.map(|headers| headers(append)).unwrap_or_default();
    let bytes: usize = more.iter().map(|(name, value)| name.len() + value.len()).sum();
    let more = if bytes > HEADERS_BYTES_MAX { Vec::new() } else { more };
    let mut headers = headers_of(append.time.0, more.len());
    for (name, value) in &more {
        headers = headers.insert(Header { key: name, value: Some(value.as_bytes()) });
    }
    headers
}

/// The attributes of CloudEvents 1.0 in binary mode: `ce_specversion`, `ce_id`, `ce_source`, `ce_type`, `ce_time` and the
/// content type. A record that cannot be decoded, which no part of Millrace writes, gets none.
///
/// An action is what was sent: its id is the message id, its type the event, its source the name of the write key. What
/// Millrace derived has a source of its own, and an id that repeats when a crash repeats the record.
pub fn cloud_event_headers() -> HeadersOf {
    Arc::new(|append| attributes(append).map(CloudEvent::headers).unwrap_or_default())
}

struct CloudEvent {
    id: String,
    source: String,
    kind: String,
    time: Micros,
}

impl CloudEvent {
    fn headers(self) -> Vec<(&'static str, String)> {
        vec![
            ("content-type", "application/protobuf".to_owned()),
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", self.id),
            ("ce_source", self.source),
            ("ce_type", self.kind),
            ("ce_time", format_rfc3339(self.time)),
        ]
    }
}

fn attributes(append: &Append) -> Option<CloudEvent> {
    let value = append.value.clone();
    match append.to.topic {
        Topic::Actions => action(append, value),
        Topic::UserEvents | Topic::ReactionEvents | Topic::TagEvents => derived(append, value),
        Topic::DeadLetters => dead_letter(append, value),
        Topic::ServedSlates => slate(append, value),
    }
}

fn action(append: &Append, value: Bytes) -> Option<CloudEvent> {
    let envelope: Envelope = decode("an envelope", value).ok()?;
    if envelope.kind == Kind::Tick as i32 {
        // One partition ticks once at a time, whoever ticks it.
        return Some(CloudEvent {
            id: format!("tick-{}-{}", append.to.partition, append.time.0),
            source: ours(append.to.topic),
            kind: "tick".to_owned(),
            time: append.time.0,
        });
    }
    Some(CloudEvent {
        id: envelope.message_id,
        source: or(utf8_percent_encode(&envelope.source, UNSAFE).to_string(), append.to.topic.as_str()),
        kind: or(envelope.event, "event"),
        time: envelope.event_time_us,
    })
}

fn derived(append: &Append, value: Bytes) -> Option<CloudEvent> {
    let derived: Derived = decode("a derived record", value).ok()?;
    let at = derived.position;
    let name = ActionKind::try_from(derived.kind).map_or("", ActionKind::as_str);
    let kind = if derived.tick { "tick" } else { name };
    Some(CloudEvent {
        id: format!("{}-{}-{}-{}", at.generation, at.partition, at.offset, at.index),
        source: ours(append.to.topic),
        kind: or(kind.to_owned(), "event"),
        time: if derived.tick { derived.log_time_us } else { derived.event_time_us },
    })
}

fn dead_letter(append: &Append, value: Bytes) -> Option<CloudEvent> {
    // Refused by the collector it has no id but its offset, which is not known yet: what it says is as good.
    let content = format!("{}-{:016x}", append.time.0, xxh3_64(&value));
    let letter: DeadLetter = decode("a dead letter", value).ok()?;
    Some(CloudEvent {
        id: or(letter.id, &content),
        source: ours(append.to.topic),
        kind: "dead_letter".to_owned(),
        time: letter.log_time_us,
    })
}

fn slate(append: &Append, value: Bytes) -> Option<CloudEvent> {
    let slate: ServedSlate = decode("a served slate", value).ok()?;
    Some(CloudEvent {
        id: format!("{}-{}", slate.slate, slate.first_position),
        source: ours(append.to.topic),
        kind: "slate_served".to_owned(),
        time: append.time.0,
    })
}

/// The source of what Millrace makes itself, a relative reference.
fn ours(topic: Topic) -> String {
    format!("/millrace/{topic}")
}

/// Attributes of CloudEvents are never empty.
fn or(text: String, instead: &str) -> String {
    if text.is_empty() { instead.to_owned() } else { text }
}

#[cfg(test)]
mod tests;
