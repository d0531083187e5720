//! Why a whole request, or one event of it, was not accepted.

use std::borrow::Cow;
use std::fmt;

use crate::key::KeyHash;

macro_rules! codes {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// Every one of them, in the order of their numbers.
            $vis const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The stable code that clients and metrics see.
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $code,)*
                }
            }
        }
    };
}

codes! {
    /// Why one event went to `dead-letters` while the rest of its batch was kept.
    pub enum Reason {
        /// The element of the batch is not a JSON object.
        NotAnObject = "not_an_object",
        /// A text of the event is not valid JSON after all, such as half a surrogate pair.
        InvalidJson = "invalid_json",
        /// The event has no `type`.
        MissingType = "missing_type",
        /// Its `type` is none of the six calls.
        UnknownType = "unknown_type",
        /// A `track` call without `event`.
        MissingEvent = "missing_event",
        /// The event name is too long or holds no letter or digit.
        InvalidEvent = "invalid_event",
        /// Neither `userId` nor `anonymousId`, or an id that the call needs is not there.
        MissingId = "missing_id",
        /// An id is too long or holds control characters.
        InvalidId = "invalid_id",
        /// A known action lacks a property that it requires.
        MissingProperty = "missing_property",
        /// A field or a property is not of the type that it must be.
        WrongType = "wrong_type",
        /// A time that is not RFC 3339 with a zone, or in a replay one that lies in the future.
        InvalidTimestamp = "invalid_timestamp",
        /// No time on an event of a replay that has none of its own yet.
        MissingTimestamp = "missing_timestamp",
        /// The event nests too deeply.
        TooDeep = "too_deep",
        /// The event has too many keys.
        TooManyKeys = "too_many_keys",
        /// A number of the event is written with too many digits.
        NumberTooLong = "number_too_long",
        /// A number of the event is larger than any double.
        NumberTooLarge = "number_too_large",
        /// The event is too large.
        EventTooLarge = "event_too_large",
        /// The post has too many tags.
        TooManyTags = "too_many_tags",
        /// A CloudEvent without one of `id`, `source`, `type` and `specversion`.
        MissingAttribute = "missing_attribute",
        /// An attribute of a CloudEvent is not what it must be.
        InvalidAttribute = "invalid_attribute",
        /// The properties depart from the tracking plan of the event, which refuses that.
        PlanViolation = "plan_violation",
    }
}

codes! {
    /// Why a whole request was refused.
    pub(crate) enum Code {
        MissingWriteKey = "missing_write_key",
        InvalidWriteKey = "invalid_write_key",
        InsufficientScope = "insufficient_scope",
        EmptyBody = "empty_body",
        UnsupportedEncoding = "unsupported_encoding",
        InvalidEncoding = "invalid_encoding",
        InvalidUtf8 = "invalid_utf8",
        InvalidJson = "invalid_json",
        NotAnObject = "not_an_object",
        InvalidBatch = "invalid_batch",
        InvalidAttribute = "invalid_attribute",
        UnsupportedMediaType = "unsupported_media_type",
        BodyTooLarge = "body_too_large",
        BatchTooLarge = "batch_too_large",
        EventTooLarge = "event_too_large",
        TooManyEvents = "too_many_events",
        RateLimited = "rate_limited",
        Unavailable = "unavailable",
        /// Said by an edge, see [`crate::Collector::turned_away`]; so are the next two.
        Overloaded = "overloaded",
        BodyTimeout = "body_timeout",
        BodyUnreadable = "body_unreadable",
    }
}

/// How long a client should wait before it repeats what the log could not take, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// What the one who asked should do about a [`Refusal`]; the edge maps it to a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// Send a write key that exists.
    Unauthorized,
    /// Send a key that may send events: this one may do other things.
    Forbidden,
    /// Fix the request: it can never be accepted.
    Malformed,
    /// Send less at once.
    TooLarge,
    /// Send it in another form: the door does not know this one.
    Unsupported,
    /// Send less in the same time, and this request again later.
    Limited,
    /// Repeat the same request later.
    Unavailable,
}

/// A whole request that was not accepted; nothing of it is in the log, or, when [`RefusalKind::Unavailable`], it may be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// What to do about it.
    pub kind: RefusalKind,
    /// A stable code, such as `invalid_write_key`.
    pub code: &'static str,
    /// One sentence for a person.
    pub message: String,
    /// How long to wait before repeating the request, in whole seconds.
    pub retry_after_s: Option<u32>,
    /// The key that is not known, where that is why.
    pub(crate) unknown: Option<KeyHash>,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        let kind = kind_of(code);
        let retry_after_s = (kind == RefusalKind::Unavailable).then_some(RETRY_AFTER_S);
        Self { kind, code: code.as_str(), message: message.into(), retry_after_s, unknown: None }
    }

    /// Of one who has sent too much of late.
    pub fn limited(message: impl Into<String>, retry_after_s: u32) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(Code::RateLimited, message) }
    }
}

const fn kind_of(code: Code) -> RefusalKind {
    match code {
        Code::MissingWriteKey | Code::InvalidWriteKey => RefusalKind::Unauthorized,
        Code::InsufficientScope => RefusalKind::Forbidden,
        Code::BodyTooLarge | Code::BatchTooLarge | Code::EventTooLarge | Code::TooManyEvents => RefusalKind::TooLarge,
        Code::UnsupportedMediaType => RefusalKind::Unsupported,
        Code::RateLimited => RefusalKind::Limited,
        Code::Unavailable | Code::Overloaded | Code::BodyTimeout => RefusalKind::Unavailable,
        Code::EmptyBody
        | Code::BodyUnreadable
        | Code::UnsupportedEncoding
        | Code::InvalidEncoding
        | Code::InvalidUtf8
        | Code::InvalidJson
        | Code::NotAnObject
        | Code::InvalidBatch
        | Code::InvalidAttribute => RefusalKind::Malformed,
    }
}

/// One event that is not accepted, and why.
#[derive(Clone, Debug)]
pub(crate) struct Rejection {
    pub(crate) reason: Reason,
    pub(crate) detail: Cow<'static, str>,
}

impl Rejection {
    pub(crate) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(crate) fn wrong_type(field: impl fmt::Display, must_be: &str) -> Self {
        Self::new(Reason::WrongType, format!("{field} must be {must_be}"))
    }
}
