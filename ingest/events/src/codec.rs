//! The wire form of what is in the log. `proto/millrace.proto` says the same for other languages; a test holds them equal.

use bytes::Bytes;
use prost::Message;

use crate::action::ActionKind;

/// Which Segment call an event came in as, or a tick of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    /// Not set.
    Unspecified = 0,
    /// Somebody did something.
    Track = 1,
    /// Who an actor is.
    Identify = 2,
    /// A page was looked at.
    Page = 3,
    /// A screen was looked at.
    Screen = 4,
    /// An actor belongs to a group.
    Group = 5,
    /// Two ids are one person.
    Alias = 6,
    /// No event: the clock of an idle partition. It carries nothing else.
    Tick = 7,
}

impl Kind {
    /// The name in JSON, as in Segment's `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Unspecified => "unspecified",
            Kind::Track => "track",
            Kind::Identify => "identify",
            Kind::Page => "page",
            Kind::Screen => "screen",
            Kind::Group => "group",
            Kind::Alias => "alias",
            Kind::Tick => "tick",
        }
    }
}

/// One accepted event, as it stands in `actions`.
///
/// Structural fields (ids, action, times) stand apart from [`Personal`] ones, so that the latter can be encrypted under a
/// key per person while counts still replay.
#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    /// The client's id of the event: the dedup key together with the source and the actor.
    #[prost(string, tag = "1")]
    pub message_id: String,
    /// True when the server minted the id because the client sent none, and the event is never taken for a duplicate. A door
    /// that may append an event twice mints ids that count as a client's, and does not set this.
    #[prost(bool, tag = "2")]
    pub minted_id: bool,
    /// The name of the write key it came in with.
    #[prost(string, tag = "3")]
    pub source: String,
    /// Which call it was.
    #[prost(enumeration = "Kind", tag = "4")]
    pub kind: i32,
    /// The folded event name; for calls other than `track` the name of the call.
    #[prost(string, tag = "5")]
    pub event: String,
    /// As sent; empty when not sent.
    #[prost(string, tag = "6")]
    pub user_id: String,
    /// As sent; empty when not sent.
    #[prost(string, tag = "7")]
    pub anonymous_id: String,
    /// When it happened: the client's clock, corrected for skew, never later than log time. Microseconds.
    #[prost(sint64, tag = "8")]
    pub event_time_us: i64,
    /// When the collector received it. Microseconds.
    #[prost(sint64, tag = "9")]
    pub received_us: i64,
    /// The typed part of a known action.
    #[prost(message, optional, tag = "10")]
    pub action: Option<Action>,
    /// `groupId` of a group call.
    #[prost(string, tag = "11")]
    pub group_id: String,
    /// `previousId` of an alias call.
    #[prost(string, tag = "12")]
    pub previous_id: String,
    /// The door saw that no person did it: by the user agent, or because the client says so. Stage 1 marks by rate too, and
    /// what it decides is in [`Derived::robot`].
    #[prost(bool, tag = "13")]
    pub robot: bool,
    /// How the event departs from its tracking plan, which keeps and marks it: a place and a rule. Empty when it does not.
    #[prost(string, tag = "14")]
    pub violation: String,
    /// What may be about a person.
    #[prost(message, optional, tag = "20")]
    pub personal: Option<Personal>,
}

impl Envelope {
    /// The partition key: `userId`, else `anonymousId`, as sent.
    pub fn key(&self) -> &str {
        if self.user_id.is_empty() { &self.anonymous_id } else { &self.user_id }
    }

    /// The known action, or [`ActionKind::Custom`].
    pub fn action_kind(&self) -> ActionKind {
        self.action.as_ref().map_or(ActionKind::Custom, Action::kind)
    }

    /// A tick: the clock of an idle partition and nothing else.
    pub fn tick() -> Self {
        Self { kind: Kind::Tick as i32, ..Self::default() }
    }
}

/// The typed properties of a known action. Which are set follows from the action; the rest are empty.
#[derive(Clone, PartialEq, Message)]
pub struct Action {
    /// Which action.
    #[prost(enumeration = "ActionKind", tag = "1")]
    pub kind: i32,
    /// The post acted on.
    #[prost(string, tag = "2")]
    pub post_id: String,
    /// The user acted on.
    #[prost(string, tag = "3")]
    pub target_id: String,
    /// The tag acted on.
    #[prost(string, tag = "4")]
    pub tag: String,
    /// The slate in which the post was served.
    #[prost(string, tag = "5")]
    pub slate: String,
    /// Its position in that slate, from 0.
    #[prost(uint32, optional, tag = "6")]
    pub position: Option<u32>,
    /// How long the post was on screen, in milliseconds.
    #[prost(uint64, optional, tag = "7")]
    pub dwell_ms: Option<u64>,
    /// The id of the comment.
    #[prost(string, tag = "8")]
    pub comment_id: String,
}

/// What may be about a person: free text and free JSON.
#[derive(Clone, PartialEq, Message)]
pub struct Personal {
    /// The event name as sent, when folding changed it.
    #[prost(string, tag = "1")]
    pub name: String,
    /// `properties`, a JSON object as sent.
    #[prost(bytes = "bytes", tag = "2")]
    pub properties: Bytes,
    /// `traits`, a JSON object as sent.
    #[prost(bytes = "bytes", tag = "3")]
    pub traits: Bytes,
    /// `context`, a JSON object as sent, a batch's context merged in.
    #[prost(bytes = "bytes", tag = "4")]
    pub context: Bytes,
    /// What a post says.
    #[prost(message, optional, tag = "5")]
    pub content: Option<PostContent>,
}

/// What a post says, from `post_created` and `post_edited`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PostContent {
    /// Its text.
    #[prost(string, tag = "1")]
    pub text: String,
    /// Its tags.
    #[prost(string, repeated, tag = "2")]
    pub tags: Vec<String>,
    /// BCP 47 language.
    #[prost(string, tag = "3")]
    pub lang: String,
    /// text, image, video or link.
    #[prost(string, tag = "4")]
    pub kind: String,
    /// The post it answers.
    #[prost(string, tag = "5")]
    pub reply_to: String,
    /// The post it passes on.
    #[prost(string, tag = "6")]
    pub repost_of: String,
    /// A link.
    #[prost(string, tag = "7")]
    pub url: String,
}

/// Where a re-keyed record came from. Ordered: a consumer drops what is not above its mark.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Message)]
pub struct Position {
    /// What changes when order or code is no longer comparable.
    #[prost(uint32, tag = "1")]
    pub generation: u32,
    /// The partition of `actions`.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// The offset there.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// Which of the records derived from that one, from 0.
    #[prost(uint32, tag = "4")]
    pub index: u32,
}

/// One re-keyed record, as stage 1 writes it to `user-events` and `reaction-events`.
#[derive(Clone, PartialEq, Message)]
pub struct Derived {
    /// Where it came from.
    #[prost(message, required, tag = "1")]
    pub position: Position,
    /// The position that the same source partition sent to the same destination partition before; absent for the first.
    #[prost(message, optional, tag = "2")]
    pub previous: Option<Position>,
    /// The log time of the source record: it travels. Microseconds.
    #[prost(sint64, tag = "3")]
    pub log_time_us: i64,
    /// Decided once, by stage 1: log time − event time was above the allowed lateness.
    #[prost(bool, tag = "4")]
    pub late: bool,
    /// True for a tick: it advances the clock and carries nothing else.
    #[prost(bool, tag = "5")]
    pub tick: bool,
    /// Which action.
    #[prost(enumeration = "ActionKind", tag = "6")]
    pub kind: i32,
    /// Who did it.
    #[prost(string, tag = "7")]
    pub actor: String,
    /// The post acted on.
    #[prost(string, tag = "8")]
    pub post_id: String,
    /// The user acted on.
    #[prost(string, tag = "9")]
    pub target_id: String,
    /// When it happened. Microseconds.
    #[prost(sint64, tag = "10")]
    pub event_time_us: i64,
    /// How long the post was on screen, in milliseconds.
    #[prost(uint64, optional, tag = "11")]
    pub dwell_ms: Option<u64>,
    /// What the post says.
    #[prost(message, optional, tag = "12")]
    pub content: Option<PostContent>,
    /// Decided once, by stage 1: no person did it, by the door's mark or by the rate of its actor.
    #[prost(bool, tag = "13")]
    pub robot: bool,
    /// Set when the record is no action but says that two ids are one person. It has a field of its own and not a kind, so
    /// that no name a client may choose leads to it.
    #[prost(message, optional, tag = "14")]
    pub link: Option<Link>,
}

/// An id and the person it belongs to, as one `identify` or `alias` says. Stage 1 sends it to both of them.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Link {
    /// The id that was used before, or beside: an anonymous one, or a former user id.
    #[prost(string, tag = "1")]
    pub alias_id: String,
    /// Whose it is; never the same id.
    #[prost(string, tag = "2")]
    pub person_id: String,
}

/// What could not be accepted or applied, as it stands in `dead-letters`.
#[derive(Clone, PartialEq, Message)]
pub struct DeadLetter {
    /// A stable id: the same refusal repeated after a crash has the same one. Empty when refused by a collector that appends
    /// once, where the offset in `dead-letters` is the id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// A stable code, such as `missing_property`.
    #[prost(string, tag = "2")]
    pub reason: String,
    /// One sentence that says what to do about it.
    #[prost(string, tag = "3")]
    pub detail: String,
    /// The name of the write key.
    #[prost(string, tag = "4")]
    pub source: String,
    /// Who refused it: `collector` or the name of a job.
    #[prost(string, tag = "5")]
    pub by: String,
    /// The offending record: the JSON of one call from the collector, a Protobuf record from a job. Cut at the event bound.
    #[prost(bytes = "bytes", tag = "6")]
    pub payload: Bytes,
    /// True when the payload was cut.
    #[prost(bool, tag = "7")]
    pub truncated: bool,
    /// Log time of the refusal. Microseconds.
    #[prost(sint64, tag = "8")]
    pub log_time_us: i64,
    /// Position of the offending record in the log, when it got that far.
    #[prost(message, optional, tag = "9")]
    pub position: Option<Position>,
    /// Which call of the collector it came in by: the payload has that call's form. Empty from a job, and from before this was
    /// kept.
    #[prost(string, tag = "10")]
    pub door: String,
}

/// What was served to a viewer, as it stands in `served-slates`: what training sees is what serving saw.
#[derive(Clone, PartialEq, Message)]
pub struct ServedSlate {
    /// The name of the ranked list; its pages share it.
    #[prost(string, tag = "1")]
    pub slate: String,
    /// For whom.
    #[prost(string, tag = "2")]
    pub viewer: String,
    /// The log time up to which what it was ranked from was complete. Microseconds; absent before anything was applied.
    #[prost(sint64, optional, tag = "3")]
    pub as_of_us: Option<i64>,
    /// What scored it.
    #[prost(string, tag = "4")]
    pub model: String,
    /// Its version.
    #[prost(string, tag = "5")]
    pub model_version: String,
    /// The place of the first item of this page in the whole list, from 0.
    #[prost(uint32, tag = "6")]
    pub first_position: u32,
    /// The share of slates that were recorded when this one was, above 0 to 1: each stands for 1 / rate.
    #[prost(double, tag = "7")]
    pub sample_rate: f64,
    /// Every candidate, served or not, served ones first.
    #[prost(message, repeated, tag = "8")]
    pub candidates: Vec<ServedCandidate>,
    /// What each source brought.
    #[prost(message, repeated, tag = "9")]
    pub sources: Vec<SlateSource>,
    /// How many candidates were left out here because the record would have been too large.
    #[prost(uint32, tag = "10")]
    pub left_out: u32,
}

/// One candidate of a served slate.
#[derive(Clone, PartialEq, Message)]
pub struct ServedCandidate {
    /// The post.
    #[prost(string, tag = "1")]
    pub post_id: String,
    /// Who wrote it.
    #[prost(string, tag = "2")]
    pub author_id: String,
    /// The source that brought it.
    #[prost(string, tag = "3")]
    pub source: String,
    /// Its place in the whole list; absent when it is not on this page.
    #[prost(uint32, optional, tag = "4")]
    pub position: Option<u32>,
    /// The blended score; absent when a filter removed it before it was scored.
    #[prost(double, optional, tag = "5")]
    pub score: Option<f64>,
    /// Parts of the score as used, each 0 to 1; absent with the score, and on later pages.
    #[prost(double, optional, tag = "6")]
    pub recency: Option<f64>,
    /// See `recency`.
    #[prost(double, optional, tag = "7")]
    pub affinity: Option<f64>,
    /// See `recency`.
    #[prost(double, optional, tag = "8")]
    pub engagement: Option<f64>,
    /// What author diversity multiplied the blended score with.
    #[prost(double, optional, tag = "9")]
    pub diversity: Option<f64>,
    /// The filter that removed it; empty when none did.
    #[prost(string, tag = "10")]
    pub filter: String,
}

/// What a source brought to a slate.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SlateSource {
    /// The source.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How many candidates.
    #[prost(uint32, tag = "2")]
    pub candidates: u32,
    /// True when it was left out because the time budget was spent.
    #[prost(bool, tag = "3")]
    pub late: bool,
}

/// Bytes in the log that are not the message they should be.
#[derive(Debug, thiserror::Error)]
#[error("cannot decode {what}")]
pub struct DecodeError {
    what: &'static str,
    #[source]
    source: prost::DecodeError,
}

/// Decodes one message; `what` names it in the error.
///
/// # Errors
/// When the bytes are not that message.
pub fn decode<M: Message + Default>(what: &'static str, bytes: Bytes) -> Result<M, DecodeError> {
    M::decode(bytes).map_err(|source| DecodeError { what, source })
}
