//! From the JSON of one call to its record in `actions`, or to the reason why not.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use millrace_events::{ActionKind, Kind, LogTime, Micros, Topic, TopicPartition, check_id, fold_name, partition_of};
use millrace_log::Append;

use crate::Call;
use crate::body::is_deeper_than;
use crate::bounds::{Bounds, EVENT_NAME_BYTES_MAX, KEYS_MAX, NUMBER_BYTES_MAX};
use crate::cloudevents;
use crate::encode::{DeadLetterRef, EnvelopeRef, Message as _};
use crate::json::{Fields, Pairs, Raw, merge, readable};
use crate::plan::Plans;
use crate::posthog::{self, Captured, Sdk};
use crate::properties::{Typed, typed};
use crate::refusal::{Reason, Rejection};
use crate::robots::is_robot;
use crate::shape::{has_longer_number_than, has_more_keys_than, has_number_beyond_doubles};
use crate::time::{Stamps, time};
use crate::verdict::Verdicts;

/// The records that one request becomes, in one buffer.
pub(crate) struct Records<'c> {
    /// What they came in by.
    pub(crate) call: Call,
    pub(crate) source: &'c str,
    pub(crate) stamps: Stamps<'c>,
    pub(crate) bounds: Bounds,
    /// The request says that a crawler sent it.
    pub(crate) from_crawler: bool,
    pub(crate) plans: Arc<Plans>,
    /// How many events depart from their plan and are kept.
    pub(crate) violations: u32,
    pub(crate) partitions: u32,
    pub(crate) minted: &'c AtomicU64,
    /// Part of the ids that are minted, where the log may hold a record more than once.
    pub(crate) door: Option<&'c str>,
    pub(crate) buffer: Vec<u8>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) rejected: Vec<Reason>,
    /// Where the client wants to know what became of each event.
    pub(crate) verdicts: Option<Verdicts>,
}

/// A record whose bytes are still in the buffer.
pub(crate) struct Pending {
    to: TopicPartition,
    time: LogTime,
    key: Range<usize>,
    value: Range<usize>,
}

/// What a batch says about all its events.
pub(crate) struct Shared<'a> {
    sent_at: Result<Option<Micros>, Rejection>,
    context: Option<(Raw<'a>, Pairs<'a>)>,
}

impl<'a> Shared<'a> {
    /// For a call that comes alone.
    pub(crate) fn none() -> Self {
        Self { sent_at: Ok(None), context: None }
    }

    /// For events that were all sent at this time.
    pub(crate) fn sent_at(sent_at: Option<Micros>) -> Self {
        Self { sent_at: Ok(sent_at), context: None }
    }

    /// `None` when `context` is not an object of valid Unicode.
    pub(crate) fn of_batch(sent_at: Option<Raw<'a>>, context: Option<Raw<'a>>, stamps: &Stamps<'_>) -> Option<Self> {
        let sent_at = if stamps.corrects_skew() { time("sentAt", sent_at) } else { Ok(None) };
        let context = match context {
            Some(context) => Some((context, serde_json::from_str(context.as_str()).ok()?)),
            None => None,
        };
        Some(Self { sent_at, context })
    }
}

impl Records<'_> {
    /// Adds one element of a batch: to `actions`, or to `dead-letters`.
    pub(crate) fn add(&mut self, event: &str, shared: &Shared<'_>) {
        if let Err(rejection) = self.parse_and_accept(event, shared) {
            self.reject(event, &rejection);
        }
    }

    /// Adds one event of PostHog's, already read: to `actions`, or to `dead-letters`.
    pub(crate) fn add_captured(
        &mut self,
        event: &str,
        read: Result<Captured<'_>, Rejection>,
        sdk: &Sdk,
        shared: &Shared<'_>,
    ) {
        let done = self.check_shape(event, 0).and_then(|()| {
            let mut scratch = posthog::Scratch::default();
            let call = read?.call(sdk, self.stamps.received, &mut scratch)?;
            let shared = if call.is_on_our_clock { &Shared::none() } else { shared };
            self.accept(call.kind, &call.fields, shared)
        });
        if let Err(rejection) = done {
            self.reject(event, &rejection);
        }
    }

    /// Adds one CloudEvent in its JSON format, already read: to `actions`, or to `dead-letters`.
    pub(crate) fn add_cloud_event(&mut self, event: &str, read: Result<Pairs<'_>, Rejection>) {
        let done = self.check_shape(event, 0).and_then(|()| {
            let mut scratch = cloudevents::Scratch::default();
            let fields = cloudevents::fields(&read?, self.bounds.depth_max, &mut scratch)?;
            self.accept(Kind::Track, &fields, &Shared::none())
        });
        if let Err(rejection) = done {
            self.reject(event, &rejection);
        }
    }

    /// Adds a call that came alone, already parsed.
    pub(crate) fn add_single(&mut self, kind: Kind, fields: &Fields<'_>, event: &str) {
        let done = self.check_shape(event, 0).and_then(|()| self.accept(kind, fields, &Shared::none()));
        if let Err(rejection) = done {
            self.reject(event, &rejection);
        }
    }

    /// How many events were accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.pending.len() - self.rejected.len()
    }

    /// The records as slices of the one buffer, why others were rejected, and the verdicts.
    pub(crate) fn into_parts(self) -> (Vec<Append>, Vec<Reason>, Option<Verdicts>) {
        let buffer = Bytes::from(self.buffer);
        let append =
            |p: Pending| Append { to: p.to, time: p.time, key: buffer.slice(p.key), value: buffer.slice(p.value) };
        (self.pending.into_iter().map(append).collect(), self.rejected, self.verdicts)
    }

    fn parse_and_accept(&mut self, event: &str, shared: &Shared<'_>) -> Result<(), Rejection> {
        check_object(event)?;
        self.check_shape(event, shared.context.as_ref().map_or(0, |(context, _)| context.as_str().len()))?;
        let fields: Fields<'_> = serde_json::from_str(event)
            .map_err(|e| Rejection::new(Reason::InvalidJson, format!("the event cannot be read: {e}")))?;
        let kind = kind(fields.kind)?;
        self.accept(kind, &fields, shared)
    }

    /// Bounds that hold whatever the event is. `merged_bytes` is what its batch adds to it.
    fn check_shape(&self, event: &str, merged_bytes: usize) -> Result<(), Rejection> {
        let Bounds { event_bytes_max, depth_max, .. } = self.bounds;
        if event.len().saturating_add(merged_bytes) > event_bytes_max {
            let detail = format!("an event must be at most {event_bytes_max} bytes, the context of its batch included");
            return Err(Rejection::new(Reason::EventTooLarge, detail));
        }
        check_shape(event, depth_max)
    }

    fn accept(&mut self, kind: Kind, fields: &Fields<'_>, shared: &Shared<'_>) -> Result<(), Rejection> {
        let ids = Ids::read(kind, fields)?;
        let name = name(kind, fields)?;
        let folded = if kind == Kind::Track { fold_name(&name) } else { Cow::Borrowed(kind.as_str()) };
        if folded.is_empty() {
            return Err(Rejection::new(Reason::InvalidEvent, "event must hold a letter or a digit"));
        }
        let properties = object("properties", fields.properties)?;
        let traits = object("traits", fields.traits)?;
        let context = object("context", fields.context)?;
        let action_kind = if kind == Kind::Track { ActionKind::from_folded(&folded) } else { ActionKind::Custom };
        let typed: Option<Typed<'_>> = match action_kind {
            ActionKind::Custom => None,
            known => Some(typed(known, properties)?),
        };
        let original = time("timestamp", fields.original_timestamp.or(fields.timestamp))?;
        let sent_at = self.sent_at(fields, shared)?;

        let properties = readable(page_properties(kind, fields, properties)?);
        let traits = readable(Cow::Borrowed(traits.map_or("", Raw::as_str)));
        let violation = self.plans.check(kind, &folded, &properties)?;
        self.violations += u32::from(!violation.is_empty());
        let context = merged("context", context, shared.context.as_ref().map(|(raw, pairs)| (raw.as_str(), pairs)))?;
        let context = readable(context);
        let minted = if ids.message.is_empty() { self.mint() } else { String::new() };
        let (event_time_us, log_time) = self.stamps.stamp(original, sent_at)?;
        let envelope = EnvelopeRef {
            message_id: if ids.message.is_empty() { &minted } else { &ids.message },
            minted_id: ids.message.is_empty() && self.door.is_none(),
            source: self.source,
            kind: Some(kind),
            event: &folded,
            user_id: &ids.user,
            anonymous_id: &ids.anonymous,
            event_time_us,
            received_us: self.stamps.received,
            action: typed.as_ref().map(|typed| (action_kind, typed)),
            group_id: &ids.group,
            previous_id: &ids.previous,
            robot: is_robot(&context, &properties, self.from_crawler),
            violation: &violation,
            name: if kind == Kind::Track && folded != name { &name } else { "" },
            properties: &properties,
            traits: &traits,
            context: &context,
        };
        let key: &str = if ids.user.is_empty() { &ids.anonymous } else { &ids.user };
        let to = TopicPartition::new(Topic::Actions, partition_of(key.as_bytes(), self.partitions));
        self.push(to, log_time, key, |buffer| envelope.write(buffer));
        if let Some(verdicts) = &mut self.verdicts {
            verdicts.kept(&ids.message);
        }
        Ok(())
    }

    fn reject(&mut self, event: &str, rejection: &Rejection) {
        let payload = &event[..event.floor_char_boundary(self.bounds.event_bytes_max)];
        let log_time = self.stamps.now().unwrap_or(LogTime(self.stamps.received));
        let source = self.source;
        let id = if self.door.is_some() { self.mint() } else { String::new() };
        let letter = DeadLetterRef {
            id: &id,
            reason: rejection.reason.as_str(),
            detail: &rejection.detail,
            source,
            payload,
            truncated: payload.len() < event.len(),
            log_time_us: log_time.0,
            door: self.call.name(),
        };
        let to = TopicPartition::new(Topic::DeadLetters, 0);
        self.push(to, log_time, source, |buffer| letter.write(buffer));
        self.rejected.push(rejection.reason);
        if let Some(verdicts) = &mut self.verdicts {
            verdicts.refused(event, rejection);
        }
    }

    fn push(&mut self, to: TopicPartition, time: LogTime, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let key_start = self.buffer.len();
        self.buffer.extend_from_slice(key.as_bytes());
        let value_start = self.buffer.len();
        write(&mut self.buffer);
        self.pending.push(Pending { to, time, key: key_start..value_start, value: value_start..self.buffer.len() });
    }

    fn sent_at(&self, fields: &Fields<'_>, shared: &Shared<'_>) -> Result<Option<Micros>, Rejection> {
        match fields.sent_at {
            Some(_) if self.stamps.corrects_skew() => time("sentAt", fields.sent_at),
            _ => shared.sent_at.clone(),
        }
    }

    /// An id for an event that came without. Where a record is appended once it is marked as minted and never taken for a
    /// duplicate, so that it need not be unique beyond doubt, nor remembered. Where a record may be repeated it is an id as
    /// a client's: no other process has the name of this door, and no other event here this number.
    fn mint(&self) -> String {
        let mut id = String::with_capacity(64);
        let (door, dash) = self.door.map_or(("", ""), |door| (door, "-"));
        // Writing to a string cannot fail.
        let nth = self.minted.fetch_add(1, Ordering::Relaxed);
        _ = write!(id, "api-{door}{dash}{:x}-{nth:x}", self.stamps.received);
        id
    }
}

/// What a reader of the log need not be afraid of in some JSON.
pub(crate) fn check_shape(json: &str, depth_max: usize) -> Result<(), Rejection> {
    if is_deeper_than(json, depth_max) {
        return Err(Rejection::new(Reason::TooDeep, format!("an event may nest at most {depth_max} levels")));
    }
    if has_more_keys_than(json, KEYS_MAX) {
        return Err(Rejection::new(Reason::TooManyKeys, format!("an event may have at most {KEYS_MAX} keys")));
    }
    if has_longer_number_than(json, NUMBER_BYTES_MAX) {
        let detail = format!("a number may have at most {NUMBER_BYTES_MAX} characters: send a longer one as a text");
        return Err(Rejection::new(Reason::NumberTooLong, detail));
    }
    if has_number_beyond_doubles(json) {
        let detail = "a number may be at most about 1.8e308: send a larger one as a text";
        return Err(Rejection::new(Reason::NumberTooLarge, detail));
    }
    Ok(())
}

pub(crate) fn check_object(event: &str) -> Result<(), Rejection> {
    if event.starts_with('{') {
        return Ok(());
    }
    Err(Rejection::new(Reason::NotAnObject, "an event must be a JSON object"))
}

/// The ids of a call; empty when absent.
struct Ids<'a> {
    user: Cow<'a, str>,
    anonymous: Cow<'a, str>,
    message: Cow<'a, str>,
    group: Cow<'a, str>,
    previous: Cow<'a, str>,
}

impl<'a> Ids<'a> {
    fn read(kind: Kind, fields: &Fields<'a>) -> Result<Self, Rejection> {
        let needed =
            |field, raw, kinds: &[Kind]| if kinds.contains(&kind) { id(field, raw) } else { Ok(Cow::default()) };
        let ids = Self {
            user: id("userId", fields.user_id)?,
            anonymous: id("anonymousId", fields.anonymous_id)?,
            message: id("messageId", fields.message_id)?,
            group: needed("groupId", fields.group_id, &[Kind::Group])?,
            previous: needed("previousId", fields.previous_id, &[Kind::Alias])?,
        };
        let missing = match kind {
            Kind::Alias if ids.user.is_empty() => "alias needs userId",
            Kind::Alias if ids.previous.is_empty() => "alias needs previousId",
            _ if ids.user.is_empty() && ids.anonymous.is_empty() => "an event needs userId or anonymousId",
            Kind::Group if ids.group.is_empty() => "group needs groupId",
            _ => return Ok(ids),
        };
        Err(Rejection::new(Reason::MissingId, missing))
    }
}

fn id<'a>(field: &'static str, raw: Option<Raw<'a>>) -> Result<Cow<'a, str>, Rejection> {
    let Some(raw) = raw else { return Ok(Cow::default()) };
    let id = raw.id().ok_or_else(|| Rejection::wrong_type(field, "a string"))?;
    match check_id(&id) {
        Ok(()) => Ok(id),
        Err(_) if id.is_empty() => Ok(id),
        Err(why) => Err(Rejection::new(Reason::InvalidId, format!("{field} {why}"))),
    }
}

fn kind(raw: Option<Raw<'_>>) -> Result<Kind, Rejection> {
    let Some(raw) = raw else {
        return Err(Rejection::new(Reason::MissingType, "an event of a batch needs type"));
    };
    let name = raw.string().ok_or_else(|| Rejection::wrong_type("type", "a string"))?;
    let calls = [Kind::Track, Kind::Identify, Kind::Page, Kind::Screen, Kind::Group, Kind::Alias];
    calls.into_iter().find(|kind| kind.as_str() == name).ok_or_else(|| {
        Rejection::new(Reason::UnknownType, "type must be one of track, identify, page, screen, group and alias")
    })
}

/// The name of a `track` call as sent; empty for the other calls.
fn name<'a>(kind: Kind, fields: &Fields<'a>) -> Result<Cow<'a, str>, Rejection> {
    if kind != Kind::Track {
        return Ok(Cow::default());
    }
    let name = match fields.event {
        Some(raw) => raw.string().ok_or_else(|| Rejection::wrong_type("event", "a string of valid Unicode"))?,
        None => Cow::default(),
    };
    if name.is_empty() {
        return Err(Rejection::new(Reason::MissingEvent, "track needs event"));
    }
    if name.len() > EVENT_NAME_BYTES_MAX {
        let detail = format!("event must be at most {EVENT_NAME_BYTES_MAX} bytes");
        return Err(Rejection::new(Reason::InvalidEvent, detail));
    }
    Ok(name)
}

fn object<'a>(field: &'static str, raw: Option<Raw<'a>>) -> Result<Option<Raw<'a>>, Rejection> {
    match raw {
        Some(raw) if !raw.is_object() => Err(Rejection::wrong_type(field, "an object")),
        raw => Ok(raw),
    }
}

/// Segment sends the name and the category of a page beside its properties; here they are two of them.
fn page_properties<'a>(
    kind: Kind,
    fields: &Fields<'a>,
    properties: Option<Raw<'a>>,
) -> Result<Cow<'a, str>, Rejection> {
    let is_page = matches!(kind, Kind::Page | Kind::Screen);
    if !is_page || (fields.name.is_none() && fields.category.is_none()) {
        return Ok(Cow::Borrowed(properties.map_or("", Raw::as_str)));
    }
    let beside = Pairs(vec![(Cow::Borrowed("name"), fields.name), (Cow::Borrowed("category"), fields.category)]);
    merged("properties", properties.or(Some(Raw::EMPTY_OBJECT)), Some(("", &beside)))
}

/// `over` merged with what is `under` it, as JSON; as sent when one of them is absent.
fn merged<'a>(
    field: &'static str,
    over: Option<Raw<'a>>,
    under: Option<(&'a str, &Pairs<'_>)>,
) -> Result<Cow<'a, str>, Rejection> {
    match (over, under) {
        (None, None) => Ok(Cow::default()),
        (Some(over), None) => Ok(Cow::Borrowed(over.as_str())),
        (None, Some((under, _))) => Ok(Cow::Borrowed(under)),
        (Some(over), Some((_, pairs))) => merge(over.as_str(), pairs)
            .map(Cow::Owned)
            .ok_or_else(|| Rejection::new(Reason::InvalidJson, format!("{field} has a key that is not valid Unicode"))),
    }
}
