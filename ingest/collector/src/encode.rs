//! Writes what goes into the log straight from the texts of the request.
//!
//! The messages of `millrace-events` own their fields: building one costs a dozen allocations per event, more than all the
//! rest of the door. These write the same bytes from borrowed text into one buffer per request; a test holds them equal.

use std::borrow::Cow;

use millrace_events::{ActionKind, Kind, Micros};

use crate::properties::{Content, Typed};

/// `millrace_events::Envelope`, borrowed.
#[derive(Debug, Default)]
pub(crate) struct EnvelopeRef<'a> {
    pub(crate) message_id: &'a str,
    pub(crate) minted_id: bool,
    pub(crate) source: &'a str,
    pub(crate) kind: Option<Kind>,
    pub(crate) event: &'a str,
    pub(crate) user_id: &'a str,
    pub(crate) anonymous_id: &'a str,
    pub(crate) event_time_us: Micros,
    pub(crate) received_us: Micros,
    pub(crate) action: Option<(ActionKind, &'a Typed<'a>)>,
    pub(crate) group_id: &'a str,
    pub(crate) previous_id: &'a str,
    pub(crate) robot: bool,
    pub(crate) violation: &'a str,
    /// The event name as sent, when folding changed it.
    pub(crate) name: &'a str,
    pub(crate) properties: &'a str,
    pub(crate) traits: &'a str,
    pub(crate) context: &'a str,
}

/// `millrace_events::DeadLetter` as the collector writes it, borrowed.
#[derive(Debug)]
pub(crate) struct DeadLetterRef<'a> {
    /// Empty when its place is its id.
    pub(crate) id: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) detail: &'a str,
    pub(crate) source: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) truncated: bool,
    pub(crate) log_time_us: Micros,
    pub(crate) door: &'a str,
}

/// The `by` of the collector's dead letters.
pub(crate) const BY: &str = "collector";

/// A Protobuf message that can be written, and measured by writing it to a [`Measure`].
pub(crate) trait Message {
    fn write(&self, to: &mut impl Sink);
}

pub(crate) trait Sink {
    fn byte(&mut self, byte: u8);
    fn bytes(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    #[inline]
    fn byte(&mut self, byte: u8) {
        self.push(byte);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts what would be written.
struct Measure(u64);

impl Sink for Measure {
    #[inline]
    fn byte(&mut self, _byte: u8) {
        self.0 += 1;
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
    }
}

impl Message for EnvelopeRef<'_> {
    fn write(&self, to: &mut impl Sink) {
        text(to, 1, self.message_id);
        number(to, 2, u64::from(self.minted_id));
        text(to, 3, self.source);
        number(to, 4, enumeration(self.kind.map_or(0, |kind| kind as i32)));
        text(to, 5, self.event);
        text(to, 6, self.user_id);
        text(to, 7, self.anonymous_id);
        number(to, 8, zigzag(self.event_time_us));
        number(to, 9, zigzag(self.received_us));
        if let Some((kind, typed)) = self.action {
            message(to, 10, &ActionRef { kind, typed });
        }
        text(to, 11, self.group_id);
        text(to, 12, self.previous_id);
        number(to, 13, u64::from(self.robot));
        text(to, 14, self.violation);
        let personal = PersonalRef(self);
        if !personal.is_empty() {
            message(to, 20, &personal);
        }
    }
}

struct ActionRef<'a> {
    kind: ActionKind,
    typed: &'a Typed<'a>,
}

impl Message for ActionRef<'_> {
    fn write(&self, to: &mut impl Sink) {
        number(to, 1, enumeration(self.kind as i32));
        text(to, 2, &self.typed.post_id);
        text(to, 3, &self.typed.target_id);
        text(to, 4, &self.typed.tag);
        text(to, 5, &self.typed.slate);
        if let Some(position) = self.typed.position {
            present_number(to, 6, u64::from(position));
        }
        if let Some(dwell_ms) = self.typed.dwell_ms {
            present_number(to, 7, dwell_ms);
        }
        text(to, 8, &self.typed.comment_id);
    }
}

/// The fields of `millrace_events::Personal`.
struct PersonalRef<'a>(&'a EnvelopeRef<'a>);

impl<'a> PersonalRef<'a> {
    fn content(&self) -> Option<&'a Content<'a>> {
        self.0.action.and_then(|(_, typed)| typed.content.as_ref())
    }

    fn is_empty(&self) -> bool {
        let EnvelopeRef { name, properties, traits, context, .. } = self.0;
        [name, properties, traits, context].iter().all(|text| text.is_empty()) && self.content().is_none()
    }
}

impl Message for PersonalRef<'_> {
    fn write(&self, to: &mut impl Sink) {
        text(to, 1, self.0.name);
        text(to, 2, self.0.properties);
        text(to, 3, self.0.traits);
        text(to, 4, self.0.context);
        if let Some(content) = self.content() {
            message(to, 5, content);
        }
    }
}

impl Message for Content<'_> {
    fn write(&self, to: &mut impl Sink) {
        text(to, 1, &self.text);
        for tag in &self.tags {
            present_text(to, 2, tag);
        }
        let rest: [(u32, &Cow<'_, str>); 5] =
            [(3, &self.lang), (4, &self.kind), (5, &self.reply_to), (6, &self.repost_of), (7, &self.url)];
        for (tag, value) in rest {
            text(to, tag, value);
        }
    }
}

impl Message for DeadLetterRef<'_> {
    fn write(&self, to: &mut impl Sink) {
        text(to, 1, self.id);
        text(to, 2, self.reason);
        text(to, 3, self.detail);
        text(to, 4, self.source);
        text(to, 5, BY);
        text(to, 6, self.payload);
        number(to, 7, u64::from(self.truncated));
        number(to, 8, zigzag(self.log_time_us));
        text(to, 10, self.door);
    }
}

/// Protobuf's wire types.
const VARINT: u32 = 0;
const LENGTH_DELIMITED: u32 = 2;

/// A field that is left out when it has its default.
#[inline]
fn text(to: &mut impl Sink, tag: u32, value: &str) {
    if !value.is_empty() {
        present_text(to, tag, value);
    }
}

#[inline]
fn present_text(to: &mut impl Sink, tag: u32, value: &str) {
    varint(to, u64::from(tag << 3 | LENGTH_DELIMITED));
    varint(to, value.len() as u64);
    to.bytes(value.as_bytes());
}

#[inline]
fn number(to: &mut impl Sink, tag: u32, value: u64) {
    if value != 0 {
        present_number(to, tag, value);
    }
}

#[inline]
fn present_number(to: &mut impl Sink, tag: u32, value: u64) {
    varint(to, u64::from(tag << 3 | VARINT));
    varint(to, value);
}

fn message(to: &mut impl Sink, tag: u32, message: &impl Message) {
    let mut measure = Measure(0);
    message.write(&mut measure);
    varint(to, u64::from(tag << 3 | LENGTH_DELIMITED));
    varint(to, measure.0);
    message.write(to);
}

#[inline]
fn varint(to: &mut impl Sink, mut value: u64) {
    while value >= 0x80 {
        to.byte((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.byte((value & 0x7f) as u8);
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Our enumerations have no negative numbers.
#[inline]
fn enumeration(value: i32) -> u64 {
    u64::from(value.unsigned_abs())
}

#[cfg(test)]
mod tests;
