//! CloudEvents 1.0: from the three ways in which HTTP carries one, by their JSON format, to a `track` call.
//!
//! An event in binary mode is first written in the JSON format, so that there is one reader, and so that a dead letter is an
//! event that can be sent again, whichever way it came.
//!
//! | attribute | becomes |
//! |---|---|
//! | `source` and `id` | the message id: `source`, a space, `id`; a hash of both when that is too long or ambiguous |
//! | `type` | the event's name |
//! | `time` | the timestamp |
//! | `userid`, `anonymousid`, else `userId`, `anonymousId` in the data | who did it |
//! | `data` that is an object | properties |
//! | other `data`, `data_base64` | a property of that name |
//! | `subject` | what a known action is about, when the data does not say |
//! | all but `specversion`, `type`, `time`, ids of persons and data | the same name in the context |

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millrace_events::{ActionKind, ID_BYTES_MAX, fold_name};
use percent_encoding::percent_decode;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use crate::body::is_deeper_than;
use crate::event::check_object;
use crate::json::{Fields, Pairs, Raw, merge, pick};
use crate::properties::object_of;
use crate::refusal::{Code, Reason, Refusal, Rejection};
use crate::time::time;

/// The version that is spoken here.
const VERSION: &str = "1.0";

/// How a request carries its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A list of them is the body.
    Batched,
    /// One of them is the body.
    Structured,
    /// The body is the data of one, whose attributes are headers.
    Binary,
}

impl Mode {
    /// The mode of a request, in the order in which the specification has it found out.
    pub(crate) fn of(content_type: Option<&str>, has_attributes: bool) -> Result<Mode, Refusal> {
        const SINGLE: &str = "application/cloudevents";
        const BATCH: &str = "application/cloudevents-batch";
        let media = media_type(content_type.unwrap_or_default());
        let formatted = |prefix: &str| {
            let (head, format) = media.split_at_checked(prefix.len())?;
            head.eq_ignore_ascii_case(prefix).then(|| format.eq_ignore_ascii_case("+json"))
        };
        match (formatted(BATCH), formatted(SINGLE)) {
            (Some(true), _) => Ok(Mode::Batched),
            (None, Some(true)) => Ok(Mode::Structured),
            (Some(false), _) | (None, Some(false)) => Err(unsupported(
                "the only format of CloudEvents that is read here is JSON: the content type ends in +json",
            )),
            (None, None) if has_attributes => Ok(Mode::Binary),
            (None, None) => Err(unsupported(
                "no CloudEvent: send application/cloudevents+json, application/cloudevents-batch+json, or headers ce-id, ce-source, ce-type and ce-specversion",
            )),
        }
    }
}

fn unsupported(message: &str) -> Refusal {
    Refusal::new(Code::UnsupportedMediaType, message)
}

/// The type without its parameters.
fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Whether data of this type is JSON: what says nothing may be.
pub(crate) fn may_be_json(content_type: Option<&str>) -> bool {
    content_type.is_none_or(|content_type| kind_of(content_type) == DataKind::Json)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DataKind {
    Json,
    Text,
    Bytes,
}

fn kind_of(content_type: &str) -> DataKind {
    let media = media_type(content_type).to_ascii_lowercase();
    let (kind, format) = media.split_once('/').unwrap_or((&media, ""));
    match format {
        _ if format == "json" || format.ends_with("+json") => DataKind::Json,
        _ if kind == "text" || format == "xml" || format.ends_with("+xml") => DataKind::Text,
        _ => DataKind::Bytes,
    }
}

/// The event of a request in binary mode, in the JSON format. `attributes` are the headers that begin with `ce-`, without
/// that; of two with one name the last counts.
pub(crate) fn to_json(
    attributes: &[(String, Vec<u8>)],
    content_type: Option<&str>,
    data: &[u8],
) -> Result<String, Refusal> {
    let mut by_name: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in attributes {
        // A header of another name is no attribute: it is for somebody on the way. The data are the body and nothing else.
        let is_attribute = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if is_attribute && name != "data" && name != "datacontenttype" {
            by_name.insert(name, attribute(name, value)?);
        }
    }
    let mut json = String::with_capacity(data.len() + data.len() / 2 + 64 * (by_name.len() + 1));
    let mut member = |name: &str, value: &str| {
        json.push(if json.is_empty() { '{' } else { ',' });
        // Writing to a string cannot fail.
        _ = write!(json, "\"{name}\":{value}");
    };
    for (name, value) in &by_name {
        member(name, &string(value));
    }
    if let Some(content_type) = content_type {
        member("datacontenttype", &string(content_type));
    }
    if let Some((name, value)) = data_of(content_type, data)? {
        member(name, &value);
    }
    if json.is_empty() {
        json.push('{');
    }
    json.push('}');
    Ok(json)
}

/// What a header says: percent-encoded UTF-8, once, within quotes perhaps.
fn attribute(name: &str, value: &[u8]) -> Result<String, Refusal> {
    let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    let unquoted = quoted.map_or(Cow::Borrowed(value), |value| Cow::Owned(unescaped(value)));
    let decoded: Vec<u8> = percent_decode(&unquoted).collect();
    String::from_utf8(decoded).map_err(|_| {
        let message = format!("the header ce-{name} is not UTF-8: encode it as UTF-8 and that with percent signs");
        Refusal::new(Code::InvalidAttribute, message)
    })
}

/// Without the backslashes that stand before others.
fn unescaped(value: &[u8]) -> Vec<u8> {
    let mut bytes = value.iter().copied();
    let mut plain = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte });
    }
    plain
}

/// The data of an event as a member of its JSON.
///
/// The SDK for JavaScript calls all data JSON, texts and bytes too, unless it is told otherwise: what is called JSON and is
/// none is taken for one of these, but for what begins like an object or a list, which is JSON that was damaged.
fn data_of(content_type: Option<&str>, data: &[u8]) -> Result<Option<(&'static str, String)>, Refusal> {
    if data.is_empty() {
        return Ok(None);
    }
    let kind = content_type.map(kind_of);
    let text = str::from_utf8(data).ok();
    if let (None | Some(DataKind::Json), Some(text)) = (kind, text) {
        let text = text.trim_ascii();
        match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => return Ok(Some(("data", text.to_owned()))),
            Err(error) if kind.is_some() && text.starts_with(['{', '[']) => {
                return Err(Refusal::new(Code::InvalidJson, format!("the body is not valid JSON: {error}")));
            }
            Err(_) => {}
        }
    }
    let is_binary = |c: char| c.is_control() && !c.is_ascii_whitespace();
    Ok(Some(match text {
        Some(text) if kind == Some(DataKind::Text) => ("data", string(text)),
        Some(text) if kind == Some(DataKind::Json) && !text.contains(is_binary) => ("data", string(text)),
        _ => ("data_base64", string(&STANDARD.encode(data))),
    }))
}

/// A JSON string.
fn string(text: &str) -> String {
    // A string always serialises.
    serde_json::to_string(text).unwrap_or_default()
}

/// Texts that an event has only after it was translated.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    message_id: String,
    properties: String,
    context: String,
}

/// The members of an event of a batch.
pub(crate) fn read(event: &str) -> Result<Pairs<'_>, Rejection> {
    check_object(event)?;
    serde_json::from_str(event).map_err(|e| unreadable(&e))
}

/// The `track` call that an event is. `depth_max` holds for data that was packed, too.
pub(crate) fn fields<'s>(
    event: &Pairs<'s>,
    depth_max: usize,
    scratch: &'s mut Scratch,
) -> Result<Fields<'s>, Rejection> {
    let attributes = Attributes::of(event, &mut scratch.context);
    let Attributes { kind, time: at, .. } = attributes;
    let version = attributes.required("specversion", attributes.version)?;
    if version != VERSION {
        return Err(invalid("specversion must be 1.0"));
    }
    let id = attributes.required("id", attributes.id)?;
    let source = attributes.required("source", attributes.source)?;
    let name = attributes.required("type", kind)?;
    // A clearer word than that its timestamp, which it does not have, is wrong.
    time("time", at)?;
    scratch.message_id = string(&message_id(&source, &id));
    let action = attributes.subject.map_or(ActionKind::Custom, |_| ActionKind::from_folded(&fold_name(&name)));
    let properties = attributes.properties(action, depth_max, &mut scratch.properties)?;
    let [user, anonymous] = match properties {
        Some(data) => pick(data.as_str(), &["userId", "anonymousId"]).map_err(|e| unreadable(&e))?,
        None => [None, None],
    };
    Ok(Fields {
        event: kind,
        message_id: Some(Raw::written(&scratch.message_id)),
        user_id: attributes.user.or(user),
        anonymous_id: attributes.anonymous.or(anonymous),
        timestamp: at,
        properties,
        context: Some(Raw::written(&scratch.context)),
        ..Fields::default()
    })
}

/// The attributes that are looked at. Of two with one name the last counts.
#[derive(Debug, Default)]
struct Attributes<'a> {
    version: Option<Raw<'a>>,
    id: Option<Raw<'a>>,
    source: Option<Raw<'a>>,
    kind: Option<Raw<'a>>,
    subject: Option<Raw<'a>>,
    time: Option<Raw<'a>>,
    content_type: Option<Raw<'a>>,
    data: Option<Raw<'a>>,
    data_base64: Option<Raw<'a>>,
    user: Option<Raw<'a>>,
    anonymous: Option<Raw<'a>>,
}

impl<'a> Attributes<'a> {
    /// Finds them among the members of an event, and writes into `context` what belongs there.
    fn of(Pairs(pairs): &Pairs<'a>, context: &mut String) -> Self {
        let mut attributes = Self::default();
        for (name, value) in pairs {
            let Some(slot) = attributes.slot(name) else { continue };
            *slot = *value;
        }
        let stays = |name: &str| {
            !matches!(name, "specversion" | "type" | "time" | "data" | "data_base64" | "userid" | "anonymousid")
        };
        for (name, value) in pairs {
            let Some(value) = value.filter(|_| stays(name)) else { continue };
            context.push(if context.is_empty() { '{' } else { ',' });
            context.push_str(&string(name));
            context.push(':');
            context.push_str(value.as_str());
        }
        context.push_str(if context.is_empty() { "{}" } else { "}" });
        attributes
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<Raw<'a>>> {
        Some(match name {
            "specversion" => &mut self.version,
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.kind,
            "subject" => &mut self.subject,
            "time" => &mut self.time,
            "datacontenttype" => &mut self.content_type,
            "data" => &mut self.data,
            "data_base64" => &mut self.data_base64,
            "userid" => &mut self.user,
            "anonymousid" => &mut self.anonymous,
            _ => return None,
        })
    }

    fn required(&self, name: &'static str, value: Option<Raw<'a>>) -> Result<Cow<'a, str>, Rejection> {
        let Some(value) = value else {
            return Err(Rejection::new(Reason::MissingAttribute, format!("a CloudEvent needs {name}")));
        };
        let text = value.string().filter(|text| !text.is_empty());
        text.ok_or_else(|| invalid(format!("{name} must be a string of valid Unicode that is not empty")))
    }

    /// Its data as an object.
    fn properties(
        &self,
        action: ActionKind,
        depth_max: usize,
        scratch: &'a mut String,
    ) -> Result<Option<Raw<'a>>, Rejection> {
        let object = match (self.data, self.data_base64) {
            (None, None) => None,
            (Some(_), Some(_)) => return Err(invalid("data and data_base64 exclude each other")),
            (Some(data), None) if data.is_object() => Some(Cow::Borrowed(data.as_str())),
            (Some(data), None) => Some(Cow::Owned(format!("{{\"data\":{}}}", data.as_str()))),
            (None, Some(packed)) => Some(Cow::Owned(self.unpacked(packed, depth_max)?)),
        };
        match (self.with_subject(action, object)?, scratch) {
            (None, _) => Ok(None),
            (Some(Cow::Borrowed(object)), _) => Ok(Some(Raw::written(object))),
            (Some(Cow::Owned(object)), scratch) => {
                *scratch = object;
                Ok(Some(Raw::written(scratch)))
            }
        }
    }

    /// Data that came in base 64: the object that it holds, if it is JSON, else itself under its name.
    fn unpacked(&self, packed: Raw<'a>, depth_max: usize) -> Result<String, Rejection> {
        let bytes = packed.string().and_then(|text| STANDARD.decode(text.as_bytes()).ok());
        let bytes = bytes.ok_or_else(|| invalid("data_base64 must be a string in base 64"))?;
        let content_type = self.content_type.and_then(Raw::string);
        let object = str::from_utf8(&bytes)
            .ok()
            .filter(|_| may_be_json(content_type.as_deref()))
            .map(str::trim_ascii)
            .filter(|text| text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok());
        let Some(object) = object else { return Ok(format!("{{\"data_base64\":{}}}", packed.as_str())) };
        // The event around it is one level, and its bound was checked while this was hidden.
        if is_deeper_than(object, depth_max.saturating_sub(1)) {
            return Err(Rejection::new(Reason::TooDeep, format!("an event may nest at most {depth_max} levels")));
        }
        Ok(object.to_owned())
    }

    /// The subject is what a known action is about, when the data does not name it.
    fn with_subject(
        &self,
        action: ActionKind,
        object: Option<Cow<'a, str>>,
    ) -> Result<Option<Cow<'a, str>>, Rejection> {
        let Some((subject, [name, other])) = self.subject.zip(object_of(action)) else { return Ok(object) };
        let data = object.as_deref().unwrap_or("{}");
        if pick(data, &[name, other]).map_err(|e| unreadable(&e))? != [None, None] {
            return Ok(object);
        }
        let merged = merge(data, &Pairs(vec![(Cow::Borrowed(name), Some(subject))]));
        let merged =
            merged.ok_or_else(|| Rejection::new(Reason::InvalidJson, "data has a key that is not valid Unicode"))?;
        Ok(Some(Cow::Owned(merged)))
    }
}

fn unreadable(error: &serde_json::Error) -> Rejection {
    Rejection::new(Reason::InvalidJson, format!("the event cannot be read: {error}"))
}

fn invalid(detail: impl Into<Cow<'static, str>>) -> Rejection {
    Rejection::new(Reason::InvalidAttribute, detail)
}

/// One id for what only the two together identify. A source is a reference to a URI and has no space in it, so that the first
/// space ends it; where it has one, or where both are too long for an id, a hash stands for them, and that has no space.
fn message_id(source: &str, id: &str) -> String {
    if !source.contains(' ') && source.len() + 1 + id.len() <= ID_BYTES_MAX {
        return format!("{source} {id}");
    }
    let length = (source.len() as u64).to_be_bytes();
    let hash = Sha256::new().chain_update(length).chain_update(source).chain_update(id).finalize();
    let mut text = String::from("sha256:");
    for byte in hash {
        // Writing to a string cannot fail.
        _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
