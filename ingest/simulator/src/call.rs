//! One Segment call and its JSON.

use std::borrow::Cow;

use millrace_events::{Kind, Micros, format_rfc3339};

/// One Segment call by an identified user. What is sent is [`Call::write_json`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which call; nearly always [`Kind::Track`].
    pub kind: Kind,
    /// The dedup key together with the user: derived from the source, never random.
    pub message_id: String,
    /// Who did it.
    pub user_id: String,
    /// What, for a track call.
    pub event: Cow<'static, str>,
    /// A JSON object, already encoded.
    pub properties: String,
    /// When it happened.
    pub time_us: Micros,
}

impl Call {
    /// Appends the call as one JSON object, without a newline. The order of the fields is fixed.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(self.kind.as_str().as_bytes());
        out.extend_from_slice(b"\",\"messageId\":");
        write_string(out, &self.message_id);
        out.extend_from_slice(b",\"userId\":");
        write_string(out, &self.user_id);
        out.extend_from_slice(b",\"event\":");
        write_string(out, &self.event);
        out.extend_from_slice(b",\"properties\":");
        out.extend_from_slice(self.properties.as_bytes());
        out.extend_from_slice(b",\"timestamp\":\"");
        out.extend_from_slice(format_rfc3339(self.time_us).as_bytes());
        out.extend_from_slice(b"\"}");
    }

    /// The call as it is sent.
    pub fn encode(self) -> Outgoing {
        let mut json = Vec::with_capacity(192 + self.properties.len());
        self.write_json(&mut json);
        Outgoing { key: self.user_id, time_us: Some(self.time_us), json }
    }
}

/// A call ready to be put into a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// `userId`, else `anonymousId`: calls of one key must be sent in order. Empty when the call names nobody.
    pub key: String,
    /// When it happened, if the call says so.
    pub time_us: Option<Micros>,
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
