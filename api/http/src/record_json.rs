//! Records of the log as JSON, one line each: for `tail`, for `dlq` and for the administrator's route.
//!
//! Empty fields are left out. What clients sent as JSON is embedded as it came.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use millrace_events::{
    Action, ActionKind, DeadLetter, Derived, Envelope, Kind, Link, Position, PostContent, ServedCandidate, ServedSlate,
    SlateSource, Topic, TopicPartition, decode, format_rfc3339,
};
use millrace_log::Record;
use serde::Serialize;
use serde_json::value::RawValue;

/// One record of the partition `of`, as a line of JSON without its end.
pub fn record_json(of: TopicPartition, record: &Record) -> String {
    let mut line = Vec::new();
    write_record(of, record, &mut line);
    String::from_utf8(line).unwrap_or_default()
}

/// Writes one record to `out`, without the end of the line. What cannot be decoded is written as it is, in Base64.
pub(crate) fn write_record(of: TopicPartition, record: &Record, out: &mut Vec<u8>) {
    let value = record.value.clone();
    let body = match of.topic {
        Topic::Actions => decode("an action", value).map(|e| Body::Action(Box::new(action_line(e)))),
        Topic::UserEvents | Topic::ReactionEvents | Topic::TagEvents => {
            decode("a derived record", value).map(|d| Body::Derived(Box::new(derived_line(d))))
        }
        Topic::DeadLetters => decode("a dead letter", value).map(|d| Body::DeadLetter(dead_letter_line(d))),
        Topic::ServedSlates => decode("a served slate", value).map(|s| Body::Slate(Box::new(slate_line(s)))),
    };
    let body = body
        .unwrap_or_else(|e| Body::Unreadable { error: e.to_string(), value_base64: STANDARD.encode(&record.value) });
    let line = Line {
        topic: of.topic.as_str(),
        partition: of.partition,
        offset: record.offset,
        log_time: format_rfc3339(record.time.0),
        key: String::from_utf8_lossy(&record.key).into_owned(),
        body,
    };
    let before = out.len();
    // Writing to memory cannot fail, and every map key is a string; half a line would be worse than none all the same.
    if serde_json::to_writer(&mut *out, &line).is_err() {
        out.truncate(before);
    }
}

#[derive(Serialize)]
struct Line {
    topic: &'static str,
    partition: u32,
    offset: u64,
    log_time: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    key: String,
    #[serde(flatten)]
    body: Body,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body {
    Action(Box<ActionLine>),
    Derived(Box<DerivedLine>),
    DeadLetter(DeadLetterLine),
    Slate(Box<SlateLine>),
    Unreadable { error: String, value_base64: String },
}

#[derive(Serialize)]
struct SlateLine {
    slate: String,
    viewer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<String>,
    model: String,
    model_version: String,
    first_position: u32,
    sample_rate: f64,
    candidates: Vec<CandidateLine>,
    sources: Vec<SourceLine>,
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u32,
}

#[derive(Serialize)]
struct CandidateLine {
    post_id: String,
    author_id: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    filter: String,
}

#[derive(Serialize)]
struct SourceLine {
    name: String,
    candidates: u32,
    late: bool,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn slate_line(slate: ServedSlate) -> SlateLine {
    let candidate = |c: ServedCandidate| CandidateLine {
        post_id: c.post_id,
        author_id: c.author_id,
        source: c.source,
        position: c.position,
        score: c.score,
        filter: c.filter,
    };
    let source = |s: SlateSource| SourceLine { name: s.name, candidates: s.candidates, late: s.late };
    SlateLine {
        slate: slate.slate,
        viewer: slate.viewer,
        as_of: slate.as_of_us.map(format_rfc3339),
        model: slate.model,
        model_version: slate.model_version,
        first_position: slate.first_position,
        sample_rate: slate.sample_rate,
        candidates: slate.candidates.into_iter().map(candidate).collect(),
        sources: slate.sources.into_iter().map(source).collect(),
        left_out: slate.left_out,
    }
}

/// JSON that somebody sent.
#[derive(Serialize)]
#[serde(untagged)]
enum Sent {
    Json(Box<RawValue>),
    /// Not JSON after all, or cut off.
    Text(String),
}

fn sent(bytes: &Bytes) -> Option<Sent> {
    if bytes.is_empty() {
        return None;
    }
    // A line is a record, so breaks between tokens go; inside of JSON strings they cannot stand.
    let text = String::from_utf8_lossy(bytes).replace(['\n', '\r'], " ");
    if nesting(&text) > NESTING_MAX || has_broken_escapes(&text) {
        return Some(Sent::Text(text));
    }
    Some(
        RawValue::from_string(text)
            .map_or_else(|_| Sent::Text(String::from_utf8_lossy(bytes).into_owned()), Sent::Json),
    )
}

/// True for half of a surrogate pair, which is JSON by its grammar and no text to any reader.
fn has_broken_escapes(text: &str) -> bool {
    text.contains("\\u") && serde_json::from_str::<serde_json::Value>(text).is_err()
}

/// What is nested deeper than this is written as text: most parsers give up at 128 levels, and a line holds a few itself.
const NESTING_MAX: usize = 64;

/// At least how deep the JSON in `text` is nested; brackets inside of strings count too, which only errs to the safe side.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[derive(Serialize)]
struct ActionLine {
    r#type: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    event: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message_id: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    minted_id: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    source: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    anonymous_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<TypedLine>,
    #[serde(skip_serializing_if = "String::is_empty")]
    group_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    previous_id: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    robot: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    violation: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<ContentLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Sent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traits: Option<Sent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Sent>,
}

fn action_line(envelope: Envelope) -> ActionLine {
    let kind = Kind::try_from(envelope.kind).unwrap_or(Kind::Unspecified);
    // A tick carries no times of its own.
    let time = |us| (kind != Kind::Tick).then(|| format_rfc3339(us));
    let personal = envelope.personal.unwrap_or_default();
    ActionLine {
        r#type: kind.as_str(),
        event: envelope.event,
        message_id: envelope.message_id,
        minted_id: envelope.minted_id,
        source: envelope.source,
        user_id: envelope.user_id,
        anonymous_id: envelope.anonymous_id,
        event_time: time(envelope.event_time_us),
        received_at: time(envelope.received_us),
        action: envelope.action.map(typed_line),
        group_id: envelope.group_id,
        previous_id: envelope.previous_id,
        robot: envelope.robot,
        violation: envelope.violation,
        name: personal.name,
        content: personal.content.map(content_line),
        properties: sent(&personal.properties),
        traits: sent(&personal.traits),
        context: sent(&personal.context),
    }
}

#[derive(Serialize)]
struct TypedLine {
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    post_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    target_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tag: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    slate: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dwell_ms: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment_id: String,
}

fn typed_line(action: Action) -> TypedLine {
    let kind = action.kind().as_str();
    let Action { post_id, target_id, tag, slate, position, dwell_ms, comment_id, .. } = action;
    TypedLine { kind, post_id, target_id, tag, slate, position, dwell_ms, comment_id }
}

#[derive(Serialize)]
struct ContentLine {
    text: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reply_to: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    repost_of: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
}

fn content_line(content: PostContent) -> ContentLine {
    let PostContent { text, tags, lang, kind, reply_to, repost_of, url } = content;
    ContentLine { text, tags, lang, kind, reply_to, repost_of, url }
}

#[derive(Serialize)]
struct PositionLine {
    generation: u32,
    partition: u32,
    offset: u64,
    index: u32,
}

impl From<Position> for PositionLine {
    fn from(position: Position) -> Self {
        let Position { generation, partition, offset, index } = position;
        Self { generation, partition, offset, index }
    }
}

#[derive(Serialize)]
struct DerivedLine {
    position: PositionLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<PositionLine>,
    source_log_time: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tick: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    late: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    robot: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    action: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    actor: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    post_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    target_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dwell_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<ContentLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<LinkLine>,
}

#[derive(Serialize)]
struct LinkLine {
    alias_id: String,
    person_id: String,
}

fn derived_line(derived: Derived) -> DerivedLine {
    DerivedLine {
        position: derived.position.into(),
        previous: derived.previous.map(PositionLine::from),
        source_log_time: format_rfc3339(derived.log_time_us),
        tick: derived.tick,
        late: derived.late,
        robot: derived.robot,
        action: ActionKind::try_from(derived.kind).unwrap_or(ActionKind::Custom).as_str(),
        actor: derived.actor,
        post_id: derived.post_id,
        target_id: derived.target_id,
        event_time: (!derived.tick).then(|| format_rfc3339(derived.event_time_us)),
        dwell_ms: derived.dwell_ms,
        content: derived.content.map(content_line),
        link: derived.link.map(|Link { alias_id, person_id }| LinkLine { alias_id, person_id }),
    }
}

#[derive(Serialize)]
struct DeadLetterLine {
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    reason: String,
    detail: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    source: String,
    by: String,
    /// Which call it came in by.
    #[serde(skip_serializing_if = "String::is_empty")]
    door: String,
    /// JSON as a client sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Sent>,
    /// A record that a job could not apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<PositionLine>,
}

fn dead_letter_line(letter: DeadLetter) -> DeadLetterLine {
    let is_text = str::from_utf8(&letter.payload).is_ok_and(|text| !text.contains('\0'));
    DeadLetterLine {
        id: letter.id,
        reason: letter.reason,
        detail: letter.detail,
        source: letter.source,
        by: letter.by,
        door: letter.door,
        payload: is_text.then(|| sent(&letter.payload)).flatten(),
        payload_base64: (!is_text).then(|| STANDARD.encode(&letter.payload)),
        truncated: letter.truncated,
        position: letter.position.map(PositionLine::from),
    }
}
