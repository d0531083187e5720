//! The typed properties of the known actions.

use std::borrow::Cow;
use std::fmt;

use millrace_events::{ActionKind, check_id};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::bounds::{DWELL_MS_MAX, TAGS_MAX};
use crate::json::Raw;
use crate::refusal::{Reason, Rejection};

/// What a post may be.
const POST_KINDS: [&str; 4] = ["text", "image", "video", "link"];

macro_rules! props {
    ($($variant:ident = $name:literal $(| $camel:literal)?,)*) => {
        /// A property that some known action has. Clients of languages with camel case may send it so.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Prop {
            $($variant,)*
        }

        impl Prop {
            const COUNT: usize = [$($name,)*].len();

            const fn as_str(self) -> &'static str {
                match self {
                    $(Prop::$variant => $name,)*
                }
            }

            fn of(key: &str) -> Option<Prop> {
                match key {
                    $($name $(| $camel)? => Some(Prop::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

props! {
    PostId = "post_id" | "postId",
    TargetId = "target_id" | "targetId",
    Tag = "tag",
    Slate = "slate",
    Position = "position",
    DwellMs = "dwell_ms" | "dwellMs",
    CommentId = "comment_id" | "commentId",
    Text = "text",
    Tags = "tags",
    Lang = "lang",
    Kind = "kind",
    ReplyTo = "reply_to" | "replyTo",
    RepostOf = "repost_of" | "repostOf",
    Url = "url",
    Handle = "handle",
    Name = "name",
    Locale = "locale",
    Reason = "reason",
    Query = "query",
}

/// The property that an action cannot do without, and those it may have. `results` of a search is free.
const fn rules(kind: ActionKind) -> (Option<Prop>, &'static [Prop]) {
    use ActionKind as K;
    match kind {
        K::Custom => (None, &[]),
        K::UserRegistered => (None, &[Prop::Handle, Prop::Name, Prop::Locale]),
        K::UserFollowed | K::UserUnfollowed | K::UserBlocked | K::UserUnblocked | K::UserMuted | K::UserUnmuted => {
            (Some(Prop::TargetId), &[])
        }
        K::PostCreated | K::PostEdited => (
            Some(Prop::PostId),
            &[Prop::Text, Prop::Tags, Prop::Lang, Prop::Kind, Prop::ReplyTo, Prop::RepostOf, Prop::Url],
        ),
        K::PostDeleted => (Some(Prop::PostId), &[]),
        K::PostViewed => (Some(Prop::PostId), &[Prop::DwellMs, Prop::Slate, Prop::Position]),
        K::PostClicked | K::PostLiked | K::PostUnliked | K::PostShared | K::PostHidden | K::PostSaved => {
            (Some(Prop::PostId), &[Prop::Slate, Prop::Position])
        }
        K::PostCommented => (Some(Prop::PostId), &[Prop::CommentId, Prop::Text]),
        K::PostReported => (Some(Prop::PostId), &[Prop::Reason]),
        K::SearchPerformed => (Some(Prop::Query), &[]),
        K::TagFollowed | K::TagUnfollowed => (Some(Prop::Tag), &[]),
    }
}

/// The property in which a known action says what it is about, in both spellings; `None` where it needs none that is an id.
pub(crate) fn object_of(kind: ActionKind) -> Option<[&'static str; 2]> {
    match rules(kind).0? {
        Prop::PostId => Some(["post_id", "postId"]),
        Prop::TargetId => Some(["target_id", "targetId"]),
        Prop::Tag => Some(["tag", "tag"]),
        _ => None,
    }
}

/// The typed part of a known action; what the action does not have is empty.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Typed<'a> {
    pub(crate) post_id: Cow<'a, str>,
    pub(crate) target_id: Cow<'a, str>,
    pub(crate) tag: Cow<'a, str>,
    pub(crate) slate: Cow<'a, str>,
    pub(crate) position: Option<u32>,
    pub(crate) dwell_ms: Option<u64>,
    pub(crate) comment_id: Cow<'a, str>,
    pub(crate) content: Option<Content<'a>>,
}

/// What a post says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Content<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) tags: Vec<Cow<'a, str>>,
    pub(crate) lang: Cow<'a, str>,
    pub(crate) kind: Cow<'a, str>,
    pub(crate) reply_to: Cow<'a, str>,
    pub(crate) repost_of: Cow<'a, str>,
    pub(crate) url: Cow<'a, str>,
}

/// Checks the properties of a known action and takes out the typed ones. `properties` is a JSON object, or nothing.
pub(crate) fn typed<'a>(kind: ActionKind, properties: Option<Raw<'a>>) -> Result<Typed<'a>, Rejection> {
    let (required, optional) = rules(kind);
    let slots = Slots::read(required, optional, properties)?;
    if let Some(required) = required.filter(|&prop| slots.is_missing(prop)) {
        let detail = format!("{} needs properties.{}", kind.as_str(), required.as_str());
        return Err(Rejection::new(Reason::MissingProperty, detail));
    }
    // Known by the contract, so checked; not interpreted here, and kept in `properties` as sent.
    for prop in [Prop::Handle, Prop::Name, Prop::Locale, Prop::Reason, Prop::Query] {
        slots.text(prop)?;
    }
    let is_content = matches!(kind, ActionKind::PostCreated | ActionKind::PostEdited);
    let content = if is_content { Some(slots.content()?) } else { slots.text(Prop::Text).map(|_| None)? };
    Ok(Typed {
        post_id: slots.id(Prop::PostId)?,
        target_id: slots.id(Prop::TargetId)?,
        tag: slots.id(Prop::Tag)?,
        slate: slots.id(Prop::Slate)?,
        position: slots.integer(Prop::Position, u64::from(u32::MAX))?.and_then(|n| u32::try_from(n).ok()),
        dwell_ms: slots.integer(Prop::DwellMs, DWELL_MS_MAX)?,
        comment_id: slots.id(Prop::CommentId)?,
        content,
    })
}

/// The properties that an action knows, still as JSON; all others are passed over.
struct Slots<'a>([Option<Raw<'a>>; Prop::COUNT]);

impl<'a> Slots<'a> {
    fn read(required: Option<Prop>, optional: &[Prop], properties: Option<Raw<'a>>) -> Result<Self, Rejection> {
        let mut slots = Slots([None; Prop::COUNT]);
        let Some(properties) = properties else { return Ok(slots) };
        let all: Slots<'a> = serde_json::from_str(properties.as_str())
            .map_err(|e| Rejection::new(Reason::InvalidJson, format!("properties cannot be read: {e}")))?;
        for &prop in required.iter().chain(optional) {
            slots.0[prop as usize] = all.get(prop);
        }
        Ok(slots)
    }

    fn get(&self, prop: Prop) -> Option<Raw<'a>> {
        self.0[prop as usize]
    }

    fn is_missing(&self, prop: Prop) -> bool {
        let may_be_empty = prop == Prop::Query;
        self.get(prop).is_none_or(|raw| raw.as_str() == "\"\"" && !may_be_empty)
    }

    fn text(&self, prop: Prop) -> Result<Cow<'a, str>, Rejection> {
        let Some(raw) = self.get(prop) else { return Ok(Cow::default()) };
        raw.text().ok_or_else(|| wrong_type(prop, "a string"))
    }

    fn id(&self, prop: Prop) -> Result<Cow<'a, str>, Rejection> {
        let Some(raw) = self.get(prop) else { return Ok(Cow::default()) };
        let id = raw.id().ok_or_else(|| wrong_type(prop, "a string"))?;
        if id.is_empty() {
            return Ok(id);
        }
        checked(id, prop)
    }

    fn integer(&self, prop: Prop, max: u64) -> Result<Option<u64>, Rejection> {
        let Some(raw) = self.get(prop) else { return Ok(None) };
        let integer = raw.integer(max);
        integer.map(Some).ok_or_else(|| wrong_type(prop, &format!("a whole number from 0 to {max}")))
    }

    fn content(&self) -> Result<Content<'a>, Rejection> {
        let kind = self.text(Prop::Kind)?;
        if !kind.is_empty() && !POST_KINDS.contains(&kind.as_ref()) {
            return Err(wrong_type(Prop::Kind, "one of text, image, video and link"));
        }
        Ok(Content {
            text: self.text(Prop::Text)?,
            tags: self.tags()?,
            lang: self.text(Prop::Lang)?,
            kind,
            reply_to: self.id(Prop::ReplyTo)?,
            repost_of: self.id(Prop::RepostOf)?,
            url: self.text(Prop::Url)?,
        })
    }

    fn tags(&self) -> Result<Vec<Cow<'a, str>>, Rejection> {
        let Some(raw) = self.get(Prop::Tags) else { return Ok(Vec::new()) };
        let elements = raw.list().ok_or_else(|| wrong_type(Prop::Tags, "a list of strings"))?;
        let mut tags = Vec::with_capacity(elements.len().min(TAGS_MAX));
        for element in elements.into_iter().flatten() {
            let tag = element.id().ok_or_else(|| wrong_type(Prop::Tags, "a list of strings"))?;
            if tag.is_empty() {
                continue;
            }
            if tags.len() == TAGS_MAX {
                return Err(Rejection::new(Reason::TooManyTags, format!("a post may have {TAGS_MAX} tags")));
            }
            tags.push(checked(tag, Prop::Tags)?);
        }
        Ok(tags)
    }
}

fn wrong_type(prop: Prop, must_be: &str) -> Rejection {
    Rejection::wrong_type(format_args!("properties.{}", prop.as_str()), must_be)
}

fn checked(id: Cow<'_, str>, prop: Prop) -> Result<Cow<'_, str>, Rejection> {
    match check_id(&id) {
        Ok(()) => Ok(id),
        Err(why) => Err(Rejection::new(Reason::InvalidId, format!("properties.{} {why}", prop.as_str()))),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Slots<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SlotsVisitor)
    }
}

struct SlotsVisitor;

impl<'de> Visitor<'de> for SlotsVisitor {
    type Value = Slots<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Slots<'de>, A::Error> {
        let mut slots = Slots([None; Prop::COUNT]);
        while let Some(PropKey(key)) = map.next_key()? {
            match key {
                // The contract's own name wins over the other spelling, whichever comes first.
                Some((prop, true)) => slots.0[prop as usize] = map.next_value()?,
                Some((prop, false)) => {
                    let value = map.next_value()?;
                    slots.0[prop as usize] = slots.0[prop as usize].or(value);
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(slots)
    }
}

/// A known property, and whether it was spelled as in the contract.
struct PropKey(Option<(Prop, bool)>);

impl<'de> Deserialize<'de> for PropKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(PropKeyVisitor)
    }
}

struct PropKeyVisitor;

impl Visitor<'_> for PropKeyVisitor {
    type Value = PropKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a property")
    }

    fn visit_str<E>(self, key: &str) -> Result<PropKey, E> {
        Ok(PropKey(Prop::of(key).map(|prop| (prop, prop.as_str() == key))))
    }
}

#[cfg(test)]
mod tests;
