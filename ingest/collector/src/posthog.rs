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
//! id, beside which `$device_id` is the anonymous one. An event without a timestamp happened `offset` milliseconds ago.
//!
//! The newer protocol, of `/i/v1/analytics/events`, takes some properties out of the others: they go back under their old
//! names, so that one thing has one name whichever SDK sent it. There the time of sending is a header.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use millrace_events::{Kind, Micros, format_rfc3339};
use percent_encoding::percent_decode;

use crate::bounds::OFFSET_MS_MAX;
use crate::event::check_object;
use crate::json::{Events, Fields, Pairs, Raw, merge, pick};
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

    /// Reads an object with a list `batch`; `None` when it has none.
    pub(crate) fn read_batch(text: &'a str) -> serde_json::Result<Option<Self>> {
        let [batch, token, api_key] = pick(text, &["batch", "token", "api_key"])?;
        let Some(batch) = batch else { return Ok(None) };
        let Events(events) = serde_json::from_str(batch.as_str())?;
        Ok(Some(Self { events, sent_at: None, token: token.or(api_key) }))
    }

    /// Reads each of its events, once: what is found is needed for the key, and then for the record.
    pub(crate) fn captured(&self) -> Vec<Result<Captured<'a>, Rejection>> {
        self.events.iter().map(|event| Captured::read(event)).collect()
    }

    /// The key that the body is sent with: its own, or that of its events, which must be the same for all.
    pub(crate) fn token(&self, events: &[Result<Captured<'a>, Rejection>]) -> Result<Option<Cow<'a, str>>, Refusal> {
        if let Some(token) = self.token {
            return Ok(token.string());
        }
        let mut found = None;
        for token in events.iter().filter_map(|event| event.as_ref().ok()?.token?.string()) {
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

/// What a form holds, if the body is one: `data=` and the body, in base 64 or only escaped.
pub(crate) fn unwrap_form(body: Bytes) -> Result<Bytes, Refusal> {
    let Some(data) = body.trim_ascii_start().strip_prefix(FORM) else { return Ok(body) };
    let data = data.split(|byte| *byte == b'&').next().unwrap_or_default();
    let data: Vec<u8> = percent_decode(data).collect();
    if data.trim_ascii_start().starts_with(b"{") || data.trim_ascii_start().starts_with(b"[") {
        return Ok(Bytes::from(data));
    }
    // A plus that was not escaped has become a space on some ways.
    let packed: Vec<u8> = data.into_iter().map(|byte| if byte == b' ' { b'+' } else { byte }).collect();
    let unpacked = STANDARD.decode(packed.trim_ascii_end());
    unpacked.map(Bytes::from).map_err(|_| Refusal::new(Code::InvalidEncoding, "`data` of the form is not base 64"))
}

/// The SDK that sent a request, as its header `PostHog-Sdk-Info` names it: what the newer protocol leaves out of each event.
#[derive(Debug, Default)]
pub(crate) struct Sdk {
    /// JSON strings; empty when unknown.
    name: String,
    version: String,
}

impl Sdk {
    /// Reads a header such as `posthog-python/7.91.1`.
    pub(crate) fn of(info: Option<&str>) -> Self {
        /// More than this is no name. In bytes.
        const INFO_BYTES_MAX: usize = 200;
        let Some(info) = info.map(str::trim).filter(|info| !info.is_empty() && info.len() <= INFO_BYTES_MAX) else {
            return Self::default();
        };
        // A string always serialises.
        let json = |text: &str| serde_json::to_string(text).unwrap_or_default();
        match info.split_once('/') {
            Some((name, version)) => Self { name: json(name), version: json(version) },
            None => Self { name: json(info), version: String::new() },
        }
    }

    fn part(text: &str) -> Option<Raw<'_>> {
        (!text.is_empty()).then(|| Raw::written(text))
    }
}

/// The fields of an event that are looked at, and those of its properties.
pub(crate) struct Captured<'a> {
    name: Option<Raw<'a>>,
    who: Option<Raw<'a>>,
    device: Option<Raw<'a>>,
    known_before: Option<Raw<'a>>,
    message: Option<Raw<'a>>,
    timestamp: Option<Raw<'a>>,
    offset: Option<Raw<'a>>,
    properties: Option<Raw<'a>>,
    set: Option<Raw<'a>>,
    alias: Option<Raw<'a>>,
    profile: Option<Raw<'a>>,
    group: Option<Raw<'a>>,
    group_set: Option<Raw<'a>>,
    screen: Option<Raw<'a>>,
    /// The key that it was sent with.
    token: Option<Raw<'a>>,
    /// What the newer protocol has beside the properties: `options`, `session_id` and `window_id`.
    beside: [Option<Raw<'a>>; 3],
}

/// Texts that an event has only after it was translated.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    timestamp: String,
    properties: String,
}

/// The call that an event is.
pub(crate) struct CapturedCall<'a> {
    pub(crate) kind: Kind,
    pub(crate) fields: Fields<'a>,
    /// Its time is told by our clock, or must not be corrected.
    pub(crate) is_on_our_clock: bool,
}

impl<'a> Captured<'a> {
    fn read(event: &'a str) -> Result<Self, Rejection> {
        check_object(event)?;
        let [
            name,
            own_id,
            dollar_id,
            uuid,
            timestamp,
            offset,
            properties,
            set,
            token,
            api_key,
            options,
            session,
            window,
        ] = read(
            event,
            &[
                "event",
                "distinct_id",
                "$distinct_id",
                "uuid",
                "timestamp",
                "offset",
                "properties",
                "$set",
                "token",
                "api_key",
                "options",
                "session_id",
                "window_id",
            ],
        )?;
        let inner = properties.filter(|properties| properties.is_object()).map_or("{}", Raw::as_str);
        let [
            inner_id,
            device,
            known_before,
            inner_set,
            alias,
            insert_id,
            profile,
            group,
            group_set,
            screen,
            inner_token,
        ] = read(
            inner,
            &[
                "distinct_id",
                "$device_id",
                "$anon_distinct_id",
                "$set",
                "alias",
                "$insert_id",
                "$process_person_profile",
                "$group_key",
                "$group_set",
                "$screen_name",
                "token",
            ],
        )?;
        Ok(Self {
            name,
            who: own_id.or(dollar_id).or(inner_id),
            device,
            known_before,
            message: uuid.or(insert_id),
            timestamp,
            offset,
            properties,
            set: set.or(inner_set),
            alias,
            profile,
            group,
            group_set,
            screen,
            token: token.or(api_key).or(inner_token),
            beside: [options, session, window],
        })
    }

    /// The call that it is, received at `received` from `sdk`.
    pub(crate) fn call<'s>(
        self,
        sdk: &Sdk,
        received: Micros,
        scratch: &'s mut Scratch,
    ) -> Result<CapturedCall<'s>, Rejection>
    where
        'a: 's,
    {
        let Scratch { timestamp, properties } = scratch;
        let options = Options::read(self.beside[0])?;
        let is_on_our_clock = self.timestamp.is_none() && self.offset.is_some();
        if let (None, Some(offset)) = (self.timestamp, self.offset) {
            *timestamp = format!("\"{}\"", format_rfc3339(ago(received, offset)?));
        }
        let kind = self.kind();
        let mut fields = Fields {
            event: self.name,
            user_id: self.who,
            anonymous_id: self.device,
            message_id: self.message,
            timestamp: if is_on_our_clock { Some(Raw::written(timestamp)) } else { self.timestamp },
            properties: self.with_beside(sdk, &options, properties)?,
            ..Fields::default()
        };
        let profile = options.profile.or(self.profile);
        match kind {
            Kind::Identify => {
                // The device would do for a name, but an anonymous id here says whose it is, and `$set` does not: several
                // people set their traits from one device.
                fields.anonymous_id = self.known_before;
                fields.traits = self.set;
            }
            Kind::Alias => fields.previous_id = self.alias,
            _ if is_literal(profile, "false") || is_same(self.who, self.device) => {
                (fields.user_id, fields.anonymous_id) = (None, self.who);
            }
            _ => {}
        }
        if kind == Kind::Group {
            (fields.group_id, fields.traits) = (self.group, self.group_set);
        }
        if kind == Kind::Screen {
            fields.name = self.screen;
        }
        let is_on_our_clock = is_on_our_clock || is_literal(options.uncorrected, "true");
        Ok(CapturedCall { kind, fields, is_on_our_clock })
    }

    fn kind(&self) -> Kind {
        match self.name.and_then(Raw::string).as_deref() {
            Some("$identify" | "$set") => Kind::Identify,
            // What sets a person's properties and no more needs no name.
            None if self.name.is_none() && self.set.is_some() => Kind::Identify,
            Some("$create_alias" | "$merge_dangerously") => Kind::Alias,
            Some("$groupidentify") => Kind::Group,
            Some("$pageview") => Kind::Page,
            Some("$screen") => Kind::Screen,
            _ => Kind::Track,
        }
    }

    /// The properties with those that the newer protocol has beside them.
    fn with_beside<'s>(
        &self,
        sdk: &Sdk,
        options: &Options<'a>,
        scratch: &'s mut String,
    ) -> Result<Option<Raw<'s>>, Rejection>
    where
        'a: 's,
    {
        let [_, session, window] = self.beside;
        let beside = [
            ("$lib", Sdk::part(&sdk.name)),
            ("$lib_version", Sdk::part(&sdk.version)),
            ("$session_id", session),
            ("$window_id", window),
            ("$process_person_profile", options.profile),
            ("$ignore_sent_at", options.uncorrected),
            ("$cookieless_mode", options.cookieless),
            ("$product_tour_id", options.tour),
        ];
        let is_empty = beside.iter().all(|(_, value)| value.is_none());
        // What is no object is refused as it is, where every call is checked.
        if is_empty || self.properties.is_some_and(|properties| !properties.is_object()) {
            return Ok(self.properties);
        }
        let pairs = Pairs(beside.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect());
        let merged = merge(self.properties.map_or("{}", Raw::as_str), &pairs);
        *scratch = merged
            .ok_or_else(|| Rejection::new(Reason::InvalidJson, "properties has a key that is not valid Unicode"))?;
        Ok(Some(Raw::written(scratch)))
    }
}

/// What the newer protocol says about how to take an event.
#[derive(Debug, Default)]
struct Options<'a> {
    profile: Option<Raw<'a>>,
    uncorrected: Option<Raw<'a>>,
    cookieless: Option<Raw<'a>>,
    tour: Option<Raw<'a>>,
}

impl<'a> Options<'a> {
    fn read(options: Option<Raw<'a>>) -> Result<Self, Rejection> {
        let Some(options) = options.filter(|options| options.is_object()) else { return Ok(Self::default()) };
        let [profile, uncorrected, cookieless, tour] = read(
            options.as_str(),
            &["process_person_profile", "disable_skew_correction", "cookieless_mode", "product_tour_id"],
        )?;
        Ok(Self { profile, uncorrected, cookieless, tour })
    }
}

/// The time that many milliseconds before `received`.
fn ago(received: Micros, offset: Raw<'_>) -> Result<Micros, Rejection> {
    let must_be =
        || Rejection::wrong_type("offset", &format!("a whole number of milliseconds from 0 to {OFFSET_MS_MAX}"));
    let offset_us =
        offset.integer(OFFSET_MS_MAX).and_then(|ms| Micros::try_from(ms * 1000).ok()).ok_or_else(must_be)?;
    Ok(received.saturating_sub(offset_us))
}

fn read<'a, const N: usize>(json: &'a str, names: &[&str; N]) -> Result<[Option<Raw<'a>>; N], Rejection> {
    pick(json, names).map_err(|e| Rejection::new(Reason::InvalidJson, format!("the event cannot be read: {e}")))
}

fn is_literal(raw: Option<Raw<'_>>, literal: &str) -> bool {
    raw.is_some_and(|raw| raw.as_str() == literal)
}

fn is_same(one: Option<Raw<'_>>, other: Option<Raw<'_>>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one.id() == other.id())
}

#[cfg(test)]
mod tests;
