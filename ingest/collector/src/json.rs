//! The parts of a request, still as the JSON that was sent.
//!
//! A request is parsed only as far as it is needed: a batch into the texts of its events, an event into the texts of its
//! fields, the properties of a known action into theirs. What is only stored (`properties`, `context`) is never built up.
//! A field of the wrong type is therefore found by the one who uses it and costs one event, not the batch.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use memchr::memchr;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// One JSON value as sent, valid and without white space around it. Never `null`: that counts as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    pub(crate) const EMPTY_OBJECT: Raw<'static> = Raw("{}");

    /// JSON that this crate has written itself.
    pub(crate) fn written(json: &'a str) -> Self {
        Raw(json)
    }

    /// The JSON text.
    pub(crate) fn as_str(self) -> &'a str {
        self.0
    }

    /// The string it is, if it is one and valid Unicode.
    pub(crate) fn string(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if !inner.as_bytes().contains(&b'\\') {
            return Some(Cow::Borrowed(inner));
        }
        serde_json::from_str(self.0).ok().map(Cow::Owned)
    }

    /// The string it is. Half a surrogate pair, which clients leave when they cut a text within an emoji, becomes U+FFFD.
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        let lossy = || self.0.starts_with('"').then(|| serde_json::from_str::<Lossy>(self.0).ok()).flatten();
        self.string().or_else(|| lossy().map(|Lossy(text)| Cow::Owned(text)))
    }

    /// The string it is, or the digits of the number it is: some clients send ids as numbers.
    pub(crate) fn id(self) -> Option<Cow<'a, str>> {
        if self.0.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return Some(Cow::Borrowed(self.0));
        }
        self.string()
    }

    /// The whole number it is, from 0 to `max`. `3.0` is 3: some languages know only floats.
    pub(crate) fn integer(self, max: u64) -> Option<u64> {
        if let Ok(integer) = self.0.parse::<u64>() {
            return (integer <= max).then_some(integer);
        }
        if !self.0.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        /// Above this a float no longer tells neighbouring integers apart.
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        let float = self.0.parse::<f64>().ok().filter(|f| f.fract() == 0.0 && (0.0..=EXACT_MAX).contains(f))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number from 0 to 2^53")]
        let integer = float as u64;
        (integer <= max).then_some(integer)
    }

    /// True for an object.
    pub(crate) fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    /// The elements of a list; `None` when it is none.
    pub(crate) fn list(self) -> Option<Vec<Option<Raw<'a>>>> {
        serde_json::from_str(self.0).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'a RawValue>::deserialize(deserializer).map(|raw| Raw(raw.get()))
    }
}

/// A string that need not be valid Unicode.
struct Lossy(String);

impl<'de> Deserialize<'de> for Lossy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(LossyVisitor)
    }
}

struct LossyVisitor;

impl Visitor<'_> for LossyVisitor {
    type Value = Lossy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, text: &[u8]) -> Result<Lossy, E> {
        Ok(Lossy(String::from_utf8_lossy(text).into_owned()))
    }
}

/// The fields of one call that are looked at, and of a batch those around it. A field sent twice counts as sent last.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    pub(crate) kind: Option<Raw<'a>>,
    pub(crate) event: Option<Raw<'a>>,
    pub(crate) user_id: Option<Raw<'a>>,
    pub(crate) anonymous_id: Option<Raw<'a>>,
    pub(crate) message_id: Option<Raw<'a>>,
    pub(crate) group_id: Option<Raw<'a>>,
    pub(crate) previous_id: Option<Raw<'a>>,
    pub(crate) timestamp: Option<Raw<'a>>,
    pub(crate) original_timestamp: Option<Raw<'a>>,
    pub(crate) sent_at: Option<Raw<'a>>,
    pub(crate) properties: Option<Raw<'a>>,
    pub(crate) traits: Option<Raw<'a>>,
    pub(crate) context: Option<Raw<'a>>,
    pub(crate) name: Option<Raw<'a>>,
    pub(crate) category: Option<Raw<'a>>,
    pub(crate) write_key: Option<Raw<'a>>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum FieldName {
    Type,
    Event,
    UserId,
    AnonymousId,
    MessageId,
    GroupId,
    PreviousId,
    Timestamp,
    OriginalTimestamp,
    SentAt,
    Properties,
    Traits,
    Context,
    Name,
    Category,
    WriteKey,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key()? {
            let slot = match name {
                FieldName::Type => &mut fields.kind,
                FieldName::Event => &mut fields.event,
                FieldName::UserId => &mut fields.user_id,
                FieldName::AnonymousId => &mut fields.anonymous_id,
                FieldName::MessageId => &mut fields.message_id,
                FieldName::GroupId => &mut fields.group_id,
                FieldName::PreviousId => &mut fields.previous_id,
                FieldName::Timestamp => &mut fields.timestamp,
                FieldName::OriginalTimestamp => &mut fields.original_timestamp,
                FieldName::SentAt => &mut fields.sent_at,
                FieldName::Properties => &mut fields.properties,
                FieldName::Traits => &mut fields.traits,
                FieldName::Context => &mut fields.context,
                FieldName::Name => &mut fields.name,
                FieldName::Category => &mut fields.category,
                FieldName::WriteKey => &mut fields.write_key,
                FieldName::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *slot = map.next_value()?;
        }
        Ok(fields)
    }
}

/// A batch, its events still as text.
#[derive(Debug, Default)]
pub(crate) struct BatchBody<'a> {
    /// `None` when there is no `batch`.
    pub(crate) events: Option<Vec<&'a str>>,
    pub(crate) write_key: Option<Raw<'a>>,
    pub(crate) sent_at: Option<Raw<'a>>,
    pub(crate) context: Option<Raw<'a>>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum BatchFieldName {
    Batch,
    WriteKey,
    SentAt,
    Context,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for BatchBody<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BatchVisitor)
    }
}

struct BatchVisitor;

impl<'de> Visitor<'de> for BatchVisitor {
    type Value = BatchBody<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list `batch`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BatchBody<'de>, A::Error> {
        let mut body = BatchBody::default();
        while let Some(name) = map.next_key()? {
            match name {
                BatchFieldName::Batch => body.events = map.next_value::<Option<Events<'de>>>()?.map(|events| events.0),
                BatchFieldName::WriteKey => body.write_key = map.next_value()?,
                BatchFieldName::SentAt => body.sent_at = map.next_value()?,
                BatchFieldName::Context => body.context = map.next_value()?,
                BatchFieldName::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(body)
    }
}

/// The elements of a list, still as text.
pub(crate) struct Events<'a>(pub(crate) Vec<&'a str>);

impl<'de: 'a, 'a> Deserialize<'de> for Events<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EventsVisitor)
    }
}

struct EventsVisitor;

impl<'de> Visitor<'de> for EventsVisitor {
    type Value = Events<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Events<'de>, A::Error> {
        /// What SDKs send at most, so that growing is rare.
        const USUAL: usize = 128;
        let mut events = Vec::with_capacity(USUAL);
        while let Some(event) = seq.next_element::<&RawValue>()? {
            events.push(event.get());
        }
        Ok(Events(events))
    }
}

/// The values of the named fields of an object, in the order of the names. A field sent twice counts as sent last.
pub(crate) fn pick<'a, const N: usize>(json: &'a str, names: &[&str; N]) -> serde_json::Result<[Option<Raw<'a>>; N]> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let picked = deserializer.deserialize_map(PickVisitor(names))?;
    deserializer.end()?;
    Ok(picked)
}

struct PickVisitor<'n, const N: usize>(&'n [&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for PickVisitor<'_, N> {
    type Value = [Option<Raw<'de>>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut picked = [None; N];
        while let Some(nth) = map.next_key_seed(Nth(self.0))? {
            match nth {
                Some(nth) => picked[nth] = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(picked)
    }
}

/// Reads a name as its place among these.
struct Nth<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Nth<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Nth<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| *known == name))
    }
}

/// The keys and values of an object, to be merged with another.
#[derive(Debug, Default)]
pub(crate) struct Pairs<'a>(pub(crate) Vec<(Cow<'a, str>, Option<Raw<'a>>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            pairs.push((Cow::Owned(key), map.next_value()?));
        }
        Ok(Pairs(pairs))
    }
}

/// `over` with those of the pairs of `under` whose keys it does not have; only the top level is merged. `None` when
/// `over` has a key that is no valid text.
pub(crate) fn merge(over: &str, under: &Pairs<'_>) -> Option<String> {
    let own: Pairs<'_> = serde_json::from_str(over).ok()?;
    // A set, because the number of keys on either side is the client's choice.
    let own: HashSet<&str> = own.0.iter().map(|(key, _)| key.as_ref()).collect();
    let mut merged = over.trim_end().strip_suffix('}')?.trim_end().to_owned();
    for (key, value) in &under.0 {
        let Some(value) = value.filter(|_| !own.contains(key.as_ref())) else { continue };
        if !merged.ends_with('{') {
            merged.push(',');
        }
        merged.push_str(&serde_json::to_string(key).ok()?);
        merged.push(':');
        merged.push_str(value.as_str());
    }
    merged.push('}');
    Some(merged)
}

/// The same JSON with U+FFFD for each half of a surrogate pair that stands alone. JSON allows it, and clients leave it when they
/// cut a text within an emoji; many who read the log would refuse all of it.
pub(crate) fn readable(json: Cow<'_, str>) -> Cow<'_, str> {
    const REPLACEMENT: &str = "\\ufffd";
    let (mut mended, mut at) = (None::<String>, 0);
    while let Some(found) = json.as_bytes().get(at..).and_then(|rest| memchr(b'\\', rest)) {
        let escape = at + found;
        at = escape
            + match (surrogate(&json, escape), surrogate(&json, escape + REPLACEMENT.len())) {
                // What is escaped here is one byte, and the digits after a `u` hold no backslash.
                (None, _) => 2,
                (Some(Half::High), Some(Half::Low)) => 2 * REPLACEMENT.len(),
                (Some(_), _) => {
                    let mended = mended.get_or_insert_with(|| json.clone().into_owned());
                    mended.replace_range(escape..escape + REPLACEMENT.len(), REPLACEMENT);
                    REPLACEMENT.len()
                }
            };
    }
    mended.map_or(json, Cow::Owned)
}

enum Half {
    High,
    Low,
}

/// The half of a pair that is escaped here, as `\uXXXX`.
fn surrogate(json: &str, at: usize) -> Option<Half> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xD800..=0xDBFF => Some(Half::High),
        0xDC00..=0xDFFF => Some(Half::Low),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
