//! One Segment call and its JSON.

use std::borrow::Cow;

use millrace_events::{Kind, Micros, format_rfc3339};

/// One Segment call. What is sent is [`Call::write_json`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which call; nearly always [`Kind::Track`].
    pub kind: Kind,
    /// The dedup key together with the user: derived from the source, never random.
    pub message_id: String,
    /// Who did it.
    pub user_id: String,
    /// `user_id` is sent as `anonymousId`: somebody, but nobody knows who.
    pub is_anonymous: bool,
    /// What, for a track call.
    pub event: Cow<'static, str>,
    /// A JSON object, already encoded.
    pub properties: String,
    /// When it happened, by the clock of the device.
    pub time_us: Micros,
    /// When it was sent, by the clock of the device, where the device says so: the server corrects the one by the other.
    pub sent_at_us: Option<Micros>,
    /// When it was sent: what a live sender waits for. The same as `time_us` when it was sent at once by a right clock.
    pub due_us: Micros,
}

impl Call {
    /// A track call of something that is sent when it happens.
    pub(crate) fn track(
        message_id: String,
        user_id: String,
        event: Cow<'static, str>,
        properties: Properties,
        time_us: Micros,
    ) -> Self {
        let properties = properties.end();
        Self {
            kind: Kind::Track,
            message_id,
            user_id,
            is_anonymous: false,
            event,
            properties,
            time_us,
            sent_at_us: None,
            due_us: time_us,
        }
    }

    /// Appends the call as one JSON object, without a newline. The order of the fields is fixed.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(self.kind.as_str().as_bytes());
        out.extend_from_slice(b"\",\"messageId\":");
        write_string(out, &self.message_id);
        out.extend_from_slice(if self.is_anonymous { b",\"anonymousId\":" } else { b",\"userId\":" });
        write_string(out, &self.user_id);
        out.extend_from_slice(b",\"event\":");
        write_string(out, &self.event);
        out.extend_from_slice(b",\"properties\":");
        out.extend_from_slice(self.properties.as_bytes());
        out.extend_from_slice(b",\"timestamp\":\"");
        out.extend_from_slice(format_rfc3339(self.time_us).as_bytes());
        out.push(b'"');
        if let Some(sent_at_us) = self.sent_at_us {
            out.extend_from_slice(b",\"sentAt\":\"");
            out.extend_from_slice(format_rfc3339(sent_at_us).as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
    }

    /// Appends the call as a line of a recording: with `receivedAt` when it did not come in when it says it happened, so that
    /// the recording can be sent again at the pace of the original. Without a newline.
    pub fn write_recorded(&self, out: &mut Vec<u8>) {
        self.write_json(out);
        if self.due_us != self.time_us {
            out.pop();
            out.extend_from_slice(b",\"receivedAt\":\"");
            out.extend_from_slice(format_rfc3339(self.due_us).as_bytes());
            out.extend_from_slice(b"\"}");
        }
    }

    /// The call as it is sent.
    pub fn encode(self) -> Outgoing {
        let mut json = Vec::with_capacity(192 + self.properties.len());
        self.write_json(&mut json);
        Outgoing { key: self.user_id, due_us: Some(self.due_us), json }
    }
}

/// A call ready to be put into a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// `userId`, else `anonymousId`: calls of one key must be sent in order. Empty when the call names nobody.
    pub key: String,
    /// When it is to be sent by a sender that keeps the pace, if the call says so.
    pub due_us: Option<Micros>,
    /// One JSON object.
    pub json: Vec<u8>,
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    serde_json::to_writer(out, text).expect("a string encodes, and a Vec takes every write");
}

/// Builds a JSON object of a few properties without going through a map.
pub(crate) struct Properties {
    out: Vec<u8>,
}

impl Properties {
    pub(crate) fn new() -> Self {
        Self { out: vec![b'{'] }
    }

    fn name(&mut self, name: &str) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        write_string(&mut self.out, name);
        self.out.push(b':');
    }

    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        write_string(&mut self.out, value);
        self
    }

    pub(crate) fn number(mut self, name: &str, value: u64) -> Self {
        self.name(name);
        self.out.extend_from_slice(value.to_string().as_bytes());
        self
    }

    pub(crate) fn list<'a>(mut self, name: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        self.name(name);
        self.out.push(b'[');
        for (i, value) in values.into_iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            write_string(&mut self.out, value);
        }
        self.out.push(b']');
        self
    }

    pub(crate) fn end(mut self) -> String {
        self.out.push(b'}');
        String::from_utf8(self.out).expect("built from strings only")
    }
}

#[cfg(test)]
mod tests;
