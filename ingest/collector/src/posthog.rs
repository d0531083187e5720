//! PostHog's capture protocol: bodies of several shapes, whose events are calls under other names.
//!
//! | event | call | what else it says |
//! |---|---|---|
//! | `$identify`, `$set` | identify | traits are `$set`; the anonymous id is `$anon_distinct_id` |
//! | `$create_alias`, `$merge_dangerously` | alias | the previous id is `alias` |
//! | `$groupidentify` | group | the group is `$group_key`, traits are `$group_set` |
//! | `$pageview` | page | |
//! | `$screen` | screen | the name is `$screen_name` |
//! | any other | track | |
//!
//! The message id is `uuid`, else `$insert_id`. Properties are kept as they are. `distinct_id` is who did it: an anonymous id
//! when the client says that it knows no person (it is the `$device_id`, or `$process_person_profile` is false), else a user
//! id, beside which `$device_id` is the anonymous one.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use millrace_events::Kind;
use percent_encoding::percent_decode;

use crate::json::{Events, Fields, Raw, pick};
use crate::refusal::{Code, Reason, Refusal, Rejection};

/// What a form names the body.
const FORM: &[u8] = b"data=";

/// A body, its events still as text.
pub(crate) struct CaptureBody<'a> {
    pub(crate) events: Vec<&'a str>,
    pub(crate) sent_at: Option<Raw<'a>>,
    token: Option<Raw<'a>>,
}

impl<'a> CaptureBody<'a> {
    /// Reads one event, a list of them, or an object with a list `batch`.
    pub(crate) fn read(text: &'a str) -> serde_json::Result<Self> {
        let text = text.trim_ascii();
        if text.starts_with('[') {
            let Events(events) = serde_json::from_str(text)?;
            return Ok(Self { events, sent_at: None, token: None });
        }
        // The SDK for Python spells the time as Segment does.
        let [batch, sent_at, camel, token, api_key] = pick(text, &["batch", "sent_at", "sentAt", "token", "api_key"])?;
        let events = match batch {
            Some(batch) => serde_json::from_str::<Events<'a>>(batch.as_str())?.0,
            None => vec![text],
        };
        Ok(Self { events, sent_at: sent_at.or(camel), token: token.or(api_key) })
    }

    /// The key that the body is sent with: its own, or that of its events, which must be the same for all.
    pub(crate) fn token(&self) -> Result<Option<Cow<'a, str>>, Refusal> {
        if let Some(token) = self.token {
            return Ok(token.string());
        }
        let mut found = None;
        for token in self.events.iter().filter_map(|event| token_of(event)) {
            if found.as_ref().is_some_and(|found| *found != token) {
                return Err(Refusal::new(
                    Code::InvalidWriteKey,
                    "the events have several keys: send one key at a time",
                ));
            }
            found = Some(token);
        }
        Ok(found)
    }
}

/// What a form holds, if the body is one: `data=` and the body in base 64.
pub(crate) fn unwrap_form(body: Bytes) -> Result<Bytes, Refusal> {
    let Some(data) = body.trim_ascii_start().strip_prefix(FORM) else { return Ok(body) };
    let data = data.split(|byte| *byte == b'&').next().unwrap_or_default();
    // A plus that was not escaped has become a space on some ways.
    let packed: Vec<u8> = percent_decode(data).map(|byte| if byte == b' ' { b'+' } else { byte }).collect();
    let unpacked = STANDARD.decode(packed.trim_ascii_end());
    unpacked.map(Bytes::from).map_err(|_| Refusal::new(Code::InvalidEncoding, "`data` of the form is not base 64"))
}

/// The call that an event is.
pub(crate) fn call<'a>(event: &'a str) -> Result<(Kind, Fields<'a>), Rejection> {
    let [event_name, own_id, dollar_id, uuid, timestamp, properties, set] =
        read(event, &["event", "distinct_id", "$distinct_id", "uuid", "timestamp", "properties", "$set"])?;
    let inner = properties.filter(|properties| properties.is_object()).map_or("{}", Raw::as_str);
    let [inner_id, device, known_before, inner_set, alias, insert_id, profile] = read(
        inner,
        &["distinct_id", "$device_id", "$anon_distinct_id", "$set", "alias", "$insert_id", "$process_person_profile"],
    )?;
    let who = own_id.or(dollar_id).or(inner_id);
    let traits = set.or(inner_set);
    let name = event_name.and_then(Raw::string);
    let mut fields = Fields {
        event: event_name,
        user_id: who,
        anonymous_id: device,
        message_id: uuid.or(insert_id),
        timestamp,
        properties,
        ..Fields::default()
    };
    let kind = match name.as_deref() {
        Some("$identify" | "$set") => Kind::Identify,
        // What sets a person's properties and no more needs no name.
        None if event_name.is_none() && traits.is_some() => Kind::Identify,
        Some("$create_alias" | "$merge_dangerously") => Kind::Alias,
        Some("$groupidentify") => Kind::Group,
        Some("$pageview") => Kind::Page,
        Some("$screen") => Kind::Screen,
        _ => Kind::Track,
    };
    match kind {
        Kind::Identify => {
            // The device would do for a name, but an anonymous id here says whose it is, and `$set` does not: several people
            // set their traits from one device.
            fields.anonymous_id = known_before;
            fields.traits = traits;
        }
        Kind::Alias => fields.previous_id = alias,
        _ if profile.is_some_and(|profile| profile.as_str() == "false") || is_same(who, device) => {
            (fields.user_id, fields.anonymous_id) = (None, who);
        }
        _ => {}
    }
    if kind == Kind::Group {
        [fields.group_id, fields.traits] = read(inner, &["$group_key", "$group_set"])?;
    }
    if kind == Kind::Screen {
        [fields.name] = read(inner, &["$screen_name"])?;
    }
    Ok((kind, fields))
}

fn read<'a, const N: usize>(json: &'a str, names: &[&str; N]) -> Result<[Option<Raw<'a>>; N], Rejection> {
    pick(json, names).map_err(|e| Rejection::new(Reason::InvalidJson, format!("the event cannot be read: {e}")))
}

fn token_of(event: &str) -> Option<Cow<'_, str>> {
    let [token, api_key, properties] = pick(event, &["token", "api_key", "properties"]).ok()?;
    let inner = || pick(properties?.as_str(), &["token"]).ok()?[0];
    token.or(api_key).or_else(inner)?.string()
}

fn is_same(one: Option<Raw<'_>>, other: Option<Raw<'_>>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one.id() == other.id())
}

#[cfg(test)]
mod tests;
