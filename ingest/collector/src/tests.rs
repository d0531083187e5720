use std::collections::BTreeSet;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};

use async_trait::async_trait;
use base64::Engine as _;
use millrace_events::{ActionKind, DeadLetter, Envelope, Micros, check_id, decode, parse_rfc3339, partition_of};
use millrace_log::toy::ToyLog;
use millrace_log::{Record, ReplayClock};
use proptest::prelude::*;
use tokio::sync::Semaphore;

use super::*;
use crate::lookup::LOOKS_MAX;

const NOW: &str = "2026-01-01T12:00:00Z";

/// A wall that stands still until it is moved.
struct Wall(AtomicI64);

impl Clock for Wall {
    fn stamp(&self, _event_time: Micros) -> LogTime {
        self.now()
    }

    fn now(&self) -> LogTime {
        LogTime(self.0.load(Ordering::Relaxed))
    }
}

/// A collector before a log in memory.
pub(crate) struct Door {
    collector: Collector,
    log: ToyLog,
    runtime: tokio::runtime::Runtime,
}

impl Door {
    pub(crate) fn new() -> Self {
        Self::with(Arc::new(Wall(AtomicI64::new(micros(NOW)))), Bounds::default())
    }

    fn with(clock: Arc<dyn Clock>, bounds: Bounds) -> Self {
        let log = ToyLog::new(4);
        let options = CollectorOptions { keys: vec![Key::write("web", "wk")], accept_any_key: false, bounds };
        let collector = Collector::new(Arc::new(log.clone()), clock, options);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { collector, log, runtime }
    }

    /// Takes these tracking plans.
    pub(crate) fn plan(&self, plans: Vec<Plan>) {
        self.collector.set_plans(plans);
    }

    pub(crate) fn counters(&self) -> CollectorCounters {
        self.collector.counters()
    }

    pub(crate) fn send(&self, call: Call, body: impl Into<Bytes>) -> Result<Accepted, Refusal> {
        let key = base64::engine::general_purpose::STANDARD.encode("wk:");
        let request = Request { authorization: Some(format!("Basic {key}")), body: body.into(), ..Request::default() };
        self.request(call, request)
    }

    pub(crate) fn request(&self, call: Call, request: Request) -> Result<Accepted, Refusal> {
        self.runtime.block_on(self.collector.collect(call, request))
    }

    pub(crate) fn judge(&self, call: Call, request: Request) -> Result<Judged, Refusal> {
        self.runtime.block_on(self.collector.judge(call, request))
    }

    fn records(&self, topic: Topic) -> Vec<(u32, Record)> {
        let partitions = 0..topic.partitions(4);
        let of = |p| self.log.records(TopicPartition::new(topic, p)).into_iter().map(move |record| (p, record));
        partitions.flat_map(of).collect()
    }

    /// What is in `actions`, in the order of their message ids.
    pub(crate) fn envelopes(&self) -> Vec<Envelope> {
        let decoded = |(_, record): (u32, Record)| decode::<Envelope>("envelope", record.value).unwrap();
        let mut envelopes: Vec<Envelope> = self.records(Topic::Actions).into_iter().map(decoded).collect();
        envelopes.sort_by(|a, b| a.message_id.cmp(&b.message_id));
        envelopes
    }

    pub(crate) fn only(&self) -> Envelope {
        let mut envelopes = self.envelopes();
        assert_eq!(envelopes.len(), 1, "{:?}", self.letters());
        envelopes.remove(0)
    }

    /// How many ticks each partition has.
    fn ticks(&self) -> [u32; 4] {
        let mut ticks = [0; 4];
        for (partition, record) in self.records(Topic::Actions) {
            let envelope: Envelope = decode("envelope", record.value).unwrap();
            ticks[partition as usize] += u32::from(envelope == Envelope::tick());
        }
        ticks
    }

    pub(crate) fn letters(&self) -> Vec<DeadLetter> {
        let decoded = |(_, record): (u32, Record)| decode::<DeadLetter>("dead letter", record.value).unwrap();
        self.records(Topic::DeadLetters).into_iter().map(decoded).collect()
    }
}

fn micros(time: &str) -> Micros {
    parse_rfc3339(time).unwrap()
}

fn batch_of(events: &[&str]) -> String {
    format!(r#"{{"batch":[{}]}}"#, events.join(","))
}

/// One event in a batch between two good ones: they are kept, and it is refused for `reason`, or kept too.
#[track_caller]
fn check(event: &str, reason: Option<Reason>) {
    let door = Door::new();
    let good = r#"{"type":"identify","userId":"good"}"#;
    let answer = door.send(Call::Batch, batch_of(&[good, event, good]));
    let rejected = u32::from(reason.is_some());
    let reasons: Vec<String> = door.letters().into_iter().map(|letter| letter.reason).collect();
    assert_eq!(answer, Ok(Accepted { accepted: 3 - rejected, rejected }), "{event}: {reasons:?}");
    assert_eq!(reasons, reason.map(|reason| reason.as_str().to_owned()).into_iter().collect::<Vec<_>>(), "{event}");
    let counted = door.collector.counters().rejected.into_iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>();
    assert_eq!(counted, reason.map(|reason| (reason.as_str(), 1)).into_iter().collect::<Vec<_>>());
}

/// A whole request that is refused.
#[track_caller]
fn refused(call: Call, body: impl Into<Bytes>, kind: RefusalKind, code: &str) {
    let door = Door::new();
    let refusal = door.send(call, body).unwrap_err();
    assert_eq!((refusal.kind, refusal.code), (kind, code), "{}", refusal.message);
    assert!(door.envelopes().is_empty() && door.letters().is_empty());
    assert_eq!(door.collector.counters().refused.into_iter().find(|(_, n)| *n > 0), Some((refusal.code, 1)));
}

#[test]
fn good_events_of_every_call_are_kept() {
    for event in [
        r#"{"type":"track","event":"Signed Up","userId":"u"}"#,
        r#"{"type":"track","event":"post_liked","anonymousId":"a","properties":{"post_id":"p"}}"#,
        r#"{"type":"track","event":"Post Liked","userId":"u","properties":{"postId":7}}"#,
        r#"{"type":"identify","userId":"u","traits":{"name":"U"}}"#,
        r#"{"type":"page","anonymousId":"a","name":"Home","category":null}"#,
        r#"{"type":"screen","userId":12}"#,
        r#"{"type":"group","userId":"u","groupId":"g"}"#,
        r#"{"type":"alias","userId":"u","previousId":"a"}"#,
        // As `segment-analytics-python` sends it.
        r#"{"integrations":{},"anonymousId":null,"properties":{},"timestamp":"2026-01-01T11:59:59.123456+00:00","context":{"library":{"name":"analytics-python","version":"2.4.0"}},"userId":"u","type":"track","event":"x","messageId":"5b4b","sentAt":null}"#,
        r#"{"type":"track","event":"x","userId":"u","properties":null,"traits":null,"context":null,"messageId":null,"timestamp":null}"#,
        r#" {"type":"track" , "event":"x\u0020y","userId":"u"} "#,
    ] {
        check(event, None);
    }
}

#[test]
fn a_bad_event_is_refused_alone() {
    let long = "x".repeat(201);
    let deep =
        |n: usize| format!(r#"{{"type":"identify","userId":"u","traits":{{"a":{}{}}}}}"#, "[".repeat(n), "]".repeat(n));
    let padded = |n: usize| format!(r#"{{"type":"identify","userId":"u","pad":"{}"}}"#, "x".repeat(n));
    for (event, reason) in [
        ("1", Reason::NotAnObject),
        ("null", Reason::NotAnObject),
        ("[]", Reason::NotAnObject),
        (r#""text""#, Reason::NotAnObject),
        ("{}", Reason::MissingType),
        (r#"{"\ud83d":1,"type":"identify","userId":"u"}"#, Reason::InvalidJson),
        (r#"{"type":null,"userId":"u"}"#, Reason::MissingType),
        (r#"{"type":"tick","userId":"u"}"#, Reason::UnknownType),
        (r#"{"type":"Track","userId":"u","event":"x"}"#, Reason::UnknownType),
        (r#"{"type":3,"userId":"u"}"#, Reason::WrongType),
        (r#"{"type":"track","userId":"u"}"#, Reason::MissingEvent),
        (r#"{"type":"track","userId":"u","event":""}"#, Reason::MissingEvent),
        (r#"{"type":"track","userId":"u","event":"!?"}"#, Reason::InvalidEvent),
        (&format!(r#"{{"type":"track","userId":"u","event":"{long}"}}"#), Reason::InvalidEvent),
        (r#"{"type":"track","userId":"u","event":7}"#, Reason::WrongType),
        (r#"{"type":"track","event":"x"}"#, Reason::MissingId),
        (r#"{"type":"track","event":"x","userId":"","anonymousId":null}"#, Reason::MissingId),
        (r#"{"type":"group","userId":"u"}"#, Reason::MissingId),
        (r#"{"type":"group","groupId":"g"}"#, Reason::MissingId),
        (r#"{"type":"alias","userId":"u"}"#, Reason::MissingId),
        (r#"{"type":"alias","previousId":"a","anonymousId":"a"}"#, Reason::MissingId),
        (&format!(r#"{{"type":"identify","userId":"{long}"}}"#), Reason::InvalidId),
        (&format!(r#"{{"type":"identify","userId":"u","messageId":"{long}"}}"#), Reason::InvalidId),
        (r#"{"type":"identify","userId":"a\nb"}"#, Reason::InvalidId),
        (r#"{"type":"identify","userId":true}"#, Reason::WrongType),
        (r#"{"type":"identify","userId":{"a":1}}"#, Reason::WrongType),
        (r#"{"type":"identify","userId":"u","messageId":[]}"#, Reason::WrongType),
        (r#"{"type":"identify","userId":"u","traits":[]}"#, Reason::WrongType),
        (r#"{"type":"identify","userId":"u","properties":"x"}"#, Reason::WrongType),
        (r#"{"type":"identify","userId":"u","context":1}"#, Reason::WrongType),
        (r#"{"type":"track","event":"post_liked","userId":"u"}"#, Reason::MissingProperty),
        (r#"{"type":"track","event":"Post Liked","userId":"u","properties":{"post_id":[]}}"#, Reason::WrongType),
        (
            r#"{"type":"track","event":"post_viewed","userId":"u","properties":{"post_id":"p","dwell_ms":"x"}}"#,
            Reason::WrongType,
        ),
        (
            r#"{"type":"track","event":"post_created","userId":"u","properties":{"post_id":"p","tags":5}}"#,
            Reason::WrongType,
        ),
        (r#"{"type":"identify","userId":"u","timestamp":"yesterday"}"#, Reason::InvalidTimestamp),
        (r#"{"type":"identify","userId":"u","timestamp":"2026-01-01T00:00:00"}"#, Reason::InvalidTimestamp),
        (
            r#"{"type":"identify","userId":"u","originalTimestamp":1767225600,"timestamp":"2026-01-01T00:00:00Z"}"#,
            Reason::InvalidTimestamp,
        ),
        (r#"{"type":"identify","userId":"u","sentAt":"soon"}"#, Reason::InvalidTimestamp),
        (&deep(31), Reason::TooDeep),
        (&deep(50_000), Reason::EventTooLarge),
        (&padded(EVENT_BYTES_MAX), Reason::EventTooLarge),
    ] {
        check(event, Some(reason));
    }
    check(&deep(30), None);
    check(&padded(EVENT_BYTES_MAX - padded(0).len()), None);
    let tags = vec!["\"t\""; TAGS_MAX + 1].join(",");
    let event = format!(
        r#"{{"type":"track","event":"post_created","userId":"u","properties":{{"post_id":"p","tags":[{tags}]}}}}"#
    );
    check(&event, Some(Reason::TooManyTags));
}

#[test]
fn keys_and_digits_have_bounds_too() {
    let keys = |n: usize| (0..n).map(|n| format!(r#""k{n}":{n}"#)).collect::<Vec<_>>().join(",");
    // `type`, `userId` and `traits` are three of them.
    let event = |n: usize| format!(r#"{{"type":"identify","userId":"u","traits":{{{}}}}}"#, keys(n));
    check(&event(KEYS_MAX - 3), None);
    check(&event(KEYS_MAX - 2), Some(Reason::TooManyKeys));
    let event = |n: usize| format!(r#"{{"type":"identify","userId":"u","traits":{{"n":{}}}}}"#, "7".repeat(n));
    check(&event(NUMBER_BYTES_MAX), None);
    check(&event(NUMBER_BYTES_MAX + 1), Some(Reason::NumberTooLong));
    check(r#"{"type":"identify","userId":"u","traits":{"n":1e308}}"#, None);
    check(r#"{"type":"identify","userId":"u","traits":{"n":1e309}}"#, Some(Reason::NumberTooLarge));
    // What a batch adds to its events is bounded in the same way, before it is added.
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for context in [format!(r#"{{"x":{}}}"#, deep(DEPTH_MAX)), format!("{{{}}}", keys(KEYS_MAX + 1))] {
        let body = format!(r#"{{"batch":[],"context":{context}}}"#);
        refused(Call::Batch, body, RefusalKind::Malformed, "invalid_batch");
    }
}

#[test]
fn deep_nesting_that_fits_one_event_costs_only_that_event() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    check(&deep, Some(Reason::NotAnObject));
    check(&format!(r#"{{"type":"identify","userId":"u","x":{deep}}}"#), Some(Reason::TooDeep));
    check(&format!(r#"{{"type":"identify","userId":{deep}}}"#), Some(Reason::TooDeep));
}

#[test]
fn requests_that_cannot_be_read_are_refused_whole() {
    use RefusalKind::{Malformed, TooLarge};
    refused(Call::Track, "", Malformed, "empty_body");
    refused(Call::Batch, " \n", Malformed, "empty_body");
    refused(Call::Track, "{", Malformed, "invalid_json");
    refused(Call::Track, "{}x", Malformed, "invalid_json");
    refused(Call::Track, "[1]", Malformed, "not_an_object");
    refused(Call::Batch, "[1]", Malformed, "invalid_batch");
    refused(Call::Batch, "{}", Malformed, "invalid_batch");
    refused(Call::Batch, r#"{"batch":null}"#, Malformed, "invalid_batch");
    refused(Call::Batch, r#"{"batch":{}}"#, Malformed, "invalid_batch");
    refused(Call::Batch, r#"{"batch":[],"context":7}"#, Malformed, "invalid_batch");
    refused(Call::Batch, r#"{"batch":[{"type":"identify","userId":"u"},{]}"#, Malformed, "invalid_json");
    refused(Call::Batch, "[".repeat(100_000), Malformed, "invalid_batch");
    refused(Call::Batch, format!(r#"{{"batch":{}"#, "[".repeat(100_000)), Malformed, "invalid_json");
    refused(Call::Track, format!(r#"{{"a":{}"#, "[".repeat(30_000)), Malformed, "invalid_json");
    refused(Call::Track, Bytes::from_static(b"{\"a\":\"\xff\"}"), Malformed, "invalid_utf8");
    refused(Call::Track, Bytes::from_static(b"\x1f\x8bxyz"), Malformed, "invalid_encoding");
    refused(Call::Track, format!(r#"{{"a":"{}"}}"#, "x".repeat(EVENT_BYTES_MAX)), TooLarge, "event_too_large");
    refused(
        Call::Batch,
        format!(r#"{{"batch":[],"a":"{}"}}"#, "x".repeat(BATCH_BYTES_MAX)),
        TooLarge,
        "batch_too_large",
    );
    refused(Call::Batch, " ".repeat(BODY_BYTES_MAX + 1), TooLarge, "body_too_large");
    refused(Call::Batch, batch_of(&vec!["1"; EVENTS_PER_BATCH_MAX + 1]), TooLarge, "too_many_events");
    let context = format!(r#""context":{{"a":"{}"}}"#, "x".repeat(10_000));
    let small = r#"{"type":"identify","userId":"u"}"#;
    let spread = format!(r#"{{"batch":[{}],{context}}}"#, vec![small; 500].join(","));
    refused(Call::Batch, spread, TooLarge, "batch_too_large");
}

#[test]
fn an_invalid_body_says_where() {
    let refusal = Door::new().send(Call::Track, "{\"a\":1,\n \"b\":}").unwrap_err();
    assert!(refusal.message.contains("line 2 column 6"), "{}", refusal.message);
}

#[test]
fn a_refusal_does_not_quote_the_body() {
    for call in [Call::Track, Call::Batch] {
        let refusal = Door::new().send(call, format!("\"{}\"", "x".repeat(20_000))).unwrap_err();
        assert!(refusal.message.len() < 200, "{}", refusal.message);
    }
}

#[test]
fn contexts_with_many_keys_are_merged() {
    let keys = |prefix: char| (0..KEYS_MAX - 10).map(|n| format!("\"{prefix}{n}\":1")).collect::<Vec<_>>().join(",");
    let event = format!(r#"{{"type":"identify","userId":"u","context":{{{}}}}}"#, keys('a'));
    let door = Door::new();
    let body = format!(r#"{{"context":{{{}}},"batch":[{}]}}"#, keys('b'), vec![event; 30].join(","));
    assert_eq!(door.send(Call::Batch, body), Ok(Accepted { accepted: 30, rejected: 0 }));
    let context = door.envelopes().remove(0).personal.unwrap().context;
    let merged: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&context).unwrap();
    assert_eq!(merged.len(), 2 * (KEYS_MAX - 10));
}

#[test]
fn an_empty_batch_is_accepted() {
    let door = Door::new();
    assert_eq!(door.send(Call::Batch, r#"{"batch":[]}"#), Ok(Accepted { accepted: 0, rejected: 0 }));
}

#[test]
fn the_most_events_and_the_largest_batch_are_accepted() {
    let door = Door::new();
    let small = r#"{"type":"identify","userId":"u"}"#;
    let answer = door.send(Call::Batch, batch_of(&vec![small; EVENTS_PER_BATCH_MAX])).unwrap();
    assert_eq!(answer.accepted as usize, EVENTS_PER_BATCH_MAX);
    let body = batch_of(&[small]);
    let padded = format!("{body}{}", " ".repeat(BATCH_BYTES_MAX - body.len()));
    assert_eq!(door.send(Call::Batch, padded), Ok(Accepted { accepted: 1, rejected: 0 }));
}

#[test]
fn the_whole_of_an_event_reaches_the_log() {
    let door = Door::new();
    let event = r#"{"type":"track","event":"Post Viewed","userId":"u","anonymousId":"a","messageId":"m","timestamp":"2026-01-01T11:00:00Z",
        "properties":{"post_id":"p", "dwell_ms":1500,"slate":"s","position":2,"x":{"y":[1]}},"context":{"ip":"::1"},"traits":{"t":1}}"#;
    door.send(Call::Batch, batch_of(&[event])).unwrap();
    let envelope = door.only();
    let action = envelope.action.clone().unwrap();
    assert_eq!(envelope.action_kind(), ActionKind::PostViewed);
    assert_eq!((action.post_id.as_str(), action.slate.as_str()), ("p", "s"));
    assert_eq!((action.dwell_ms, action.position), (Some(1500), Some(2)));
    assert_eq!((envelope.event.as_str(), envelope.source.as_str()), ("post_viewed", "web"));
    assert_eq!((envelope.user_id.as_str(), envelope.anonymous_id.as_str()), ("u", "a"));
    assert_eq!((envelope.message_id.as_str(), envelope.minted_id), ("m", false));
    assert_eq!(envelope.event_time_us, micros("2026-01-01T11:00:00Z"));
    assert_eq!(envelope.received_us, micros(NOW));
    let personal = envelope.personal.unwrap();
    assert_eq!(personal.name, "Post Viewed");
    assert_eq!(personal.properties, r#"{"post_id":"p", "dwell_ms":1500,"slate":"s","position":2,"x":{"y":[1]}}"#);
    assert_eq!((personal.context.as_ref(), personal.traits.as_ref()), (&br#"{"ip":"::1"}"#[..], &br#"{"t":1}"#[..]));
    let (partition, record) = door.records(Topic::Actions).remove(0);
    assert_eq!((record.key.as_ref(), partition), (&b"u"[..], partition_of(b"u", 4)));
    assert_eq!(record.time, LogTime(micros(NOW)));
}

#[test]
fn a_single_call_is_what_its_path_says() {
    let calls = [
        ("track", Kind::Track),
        ("i", Kind::Identify),
        ("page", Kind::Page),
        ("s", Kind::Screen),
        ("group", Kind::Group),
        ("a", Kind::Alias),
    ];
    for (path, kind) in calls {
        let door = Door::new();
        let body = r#"{"type":"other","event":"x","userId":"u","groupId":"g","previousId":"v"}"#;
        let answer = door.send(Call::from_path(path).unwrap(), body);
        assert_eq!(answer, Ok(Accepted { accepted: 1, rejected: 0 }));
        let envelope = door.only();
        assert_eq!(envelope.kind, kind as i32);
        assert_eq!(envelope.event, if kind == Kind::Track { "x" } else { kind.as_str() });
        assert_eq!(envelope.group_id, if kind == Kind::Group { "g" } else { "" });
        assert_eq!(envelope.previous_id, if kind == Kind::Alias { "v" } else { "" });
    }
    assert_eq!(Call::from_path("nothing"), None);
}

#[test]
fn a_bad_single_call_is_a_dead_letter() {
    let door = Door::new();
    let answer = door.send(Call::Track, r#" {"event":"post_liked","userId":"u"} "#);
    assert_eq!(answer, Ok(Accepted { accepted: 0, rejected: 1 }));
    let letter = door.letters().remove(0);
    assert_eq!(
        (letter.reason.as_str(), letter.by.as_str(), letter.source.as_str()),
        ("missing_property", "collector", "web")
    );
    assert_eq!(letter.payload, r#"{"event":"post_liked","userId":"u"}"#);
    assert_eq!(letter.detail, "post_liked needs properties.post_id");
    assert_eq!((letter.truncated, letter.log_time_us), (false, micros(NOW)));
}

#[test]
fn a_dead_letter_is_cut_at_the_bound_of_an_event() {
    let door = Door::new();
    let event = format!(r#"{{"type":"identify","userId":"u","a":"x{}"}}"#, "ü".repeat(EVENT_BYTES_MAX));
    door.send(Call::Batch, batch_of(&[&event])).unwrap();
    let letter = door.letters().remove(0);
    assert!(letter.truncated);
    assert!((EVENT_BYTES_MAX - 1..=EVENT_BYTES_MAX).contains(&letter.payload.len()));
    assert!(event.starts_with(std::str::from_utf8(&letter.payload).unwrap()));
}

#[test]
fn a_key_may_come_in_the_body() {
    let door = Door::new();
    let plain = |body: &str| Request { body: Bytes::copy_from_slice(body.as_bytes()), ..Request::default() };
    let single = door.request(Call::Identify, plain(r#"{"userId":"u","writeKey":"wk"}"#));
    assert_eq!(single, Ok(Accepted { accepted: 1, rejected: 0 }));
    let batch = door.request(Call::Batch, plain(r#"{"batch":[{"type":"identify","userId":"u"}],"writeKey":"wk"}"#));
    assert_eq!(batch, Ok(Accepted { accepted: 1, rejected: 0 }));
    let bearer = Request { authorization: Some("Bearer x".to_owned()), ..plain(r#"{"userId":"u","writeKey":"wk"}"#) };
    assert!(door.request(Call::Identify, bearer).is_ok());
    for (body, code) in [
        (r#"{"batch":[],"writeKey":"other"}"#, "invalid_write_key"),
        (r#"{"batch":[]}"#, "missing_write_key"),
        (r#"{"batch":[],"writeKey":5}"#, "missing_write_key"),
    ] {
        let refusal = door.request(Call::Batch, plain(body)).unwrap_err();
        assert_eq!((refusal.kind, refusal.code), (RefusalKind::Unauthorized, code));
    }
}

#[test]
fn a_wrong_key_is_refused_before_the_body_is_looked_at() {
    let request = Request { authorization: Some("Basic bm8=".to_owned()), body: "{".into(), ..Request::default() };
    assert_eq!(Door::new().request(Call::Batch, request).unwrap_err().code, "invalid_write_key");
}

#[test]
fn what_a_batch_says_is_merged_under_its_events() {
    let door = Door::new();
    let body = r#"{"context":{"app":"a","ip":"1"},"sentAt":"2026-01-01T13:00:00Z","timestamp":"1999-01-01T00:00:00Z","batch":[
        {"type":"identify","userId":"u","messageId":"1"},
        {"type":"identify","userId":"u","messageId":"2","context":{"ip":"2"},"timestamp":"2026-01-01T12:59:50Z"},
        {"type":"identify","userId":"u","messageId":"3","timestamp":"2026-01-01T11:00:00Z","sentAt":"2026-01-01T12:00:01Z"}]}"#;
    door.send(Call::Batch, body).unwrap();
    let envelopes = door.envelopes();
    let contexts: Vec<_> = envelopes.iter().map(|e| e.personal.as_ref().unwrap().context.clone()).collect();
    assert_eq!(contexts, [r#"{"app":"a","ip":"1"}"#, r#"{"ip":"2","app":"a"}"#, r#"{"app":"a","ip":"1"}"#]);
    let times: Vec<_> = envelopes.iter().map(|e| e.event_time_us).collect();
    assert_eq!(times, [micros(NOW), micros("2026-01-01T11:59:50Z"), micros("2026-01-01T11:00:00Z")]);
}

#[test]
fn a_batch_that_was_sent_at_no_time_costs_the_events_that_need_it() {
    let door = Door::new();
    let body = r#"{"sentAt":"soon","batch":[{"type":"identify","userId":"u"},
        {"type":"identify","userId":"u","sentAt":"2026-01-01T12:00:00Z"}]}"#;
    assert_eq!(door.send(Call::Batch, body), Ok(Accepted { accepted: 1, rejected: 1 }));
    assert_eq!(door.letters()[0].reason, "invalid_timestamp");
}

#[test]
fn a_page_keeps_its_name_and_category() {
    let door = Door::new();
    door.send(Call::Page, r#"{"userId":"u","name":"Home","category":"Docs","properties":{"category":"x"}}"#).unwrap();
    assert_eq!(door.only().personal.unwrap().properties, r#"{"category":"x","name":"Home"}"#);
    let door = Door::new();
    door.send(Call::Screen, r#"{"userId":"u","name":"Home"}"#).unwrap();
    assert_eq!(door.only().personal.unwrap().properties, r#"{"name":"Home"}"#);
}

#[test]
fn an_event_without_an_id_gets_one_of_its_own() {
    let door = Door::new();
    let event = r#"{"type":"identify","userId":"u","messageId":""}"#;
    door.send(Call::Batch, batch_of(&[event, event])).unwrap();
    door.send(Call::Identify, event).unwrap();
    let envelopes = door.envelopes();
    assert!(envelopes.iter().all(|e| e.minted_id && e.message_id.starts_with("api-")));
    assert!(envelopes.windows(2).all(|pair| pair[0].message_id != pair[1].message_id));
}

#[test]
fn a_door_whose_records_may_be_repeated_mints_ids_that_count() {
    let mut ids = BTreeSet::new();
    for name in ["one", "two"] {
        let mut door = Door::new();
        door.collector = door.collector.named(name.to_owned());
        door.send(Call::Identify, r#"{"userId":"u"}"#).unwrap();
        door.send(Call::Identify, r#"{"userId":"u"}"#).unwrap();
        door.send(Call::Batch, batch_of(&["1", "1"])).unwrap();
        let envelopes = door.envelopes();
        assert!(envelopes.iter().all(|e| !e.minted_id && check_id(&e.message_id).is_ok()));
        ids.extend(envelopes.into_iter().map(|e| e.message_id));
        ids.extend(door.letters().into_iter().map(|letter| letter.id));
    }
    assert_eq!(ids.len(), 8, "the same moment, and no id twice: {ids:?}");
    let door = Door::new();
    door.send(Call::Batch, batch_of(&["1"])).unwrap();
    assert_eq!(door.letters()[0].id, "", "its place is its id");
}

#[test]
fn a_replay_is_stamped_event_by_event() {
    let door = Door::with(Arc::new(ReplayClock::new(LogTime::MIN)), Bounds::default());
    door.runtime.block_on(door.collector.tick_idle()).unwrap();
    assert!(door.records(Topic::Actions).is_empty(), "a replay without events has no time");
    let event =
        |id: u32, time: &str| format!(r#"{{"type":"identify","userId":"u","messageId":"{id}","timestamp":"{time}"}}"#);
    let events = [event(1, "2015-01-01T00:00:05Z"), event(2, "2015-01-01T00:00:01Z"), event(3, "2015-01-01T00:00:09Z")];
    let body = format!(r#"{{"batch":[{}],"sentAt":"not a time"}}"#, events.join(","));
    assert_eq!(door.send(Call::Batch, body), Ok(Accepted { accepted: 3, rejected: 0 }));
    let times: Vec<_> = door.records(Topic::Actions).iter().map(|(_, record)| record.time).collect();
    let at = |time: &str| LogTime(micros(time));
    assert_eq!(times, [at("2015-01-01T00:00:05Z"), at("2015-01-01T00:00:05Z"), at("2015-01-01T00:00:09Z")]);
    assert_eq!(door.envelopes()[1].event_time_us, micros("2015-01-01T00:00:01Z"));
    door.runtime.block_on(door.collector.tick_idle()).unwrap();
    door.runtime.block_on(door.collector.tick_idle()).unwrap();
    assert!(door.records(Topic::Actions).iter().skip(3).all(|(_, record)| record.time <= at("2015-01-01T00:00:09Z")));
}

#[test]
fn a_replay_needs_times_that_it_can_believe() {
    let door = Door::with(Arc::new(ReplayClock::new(LogTime::MIN)), Bounds::default());
    let event = |id: u32, times: &str| format!(r#"{{"type":"identify","userId":"u","messageId":"{id}"{times}}}"#);
    let events = [
        event(1, ""),
        event(2, r#","timestamp":"9000-01-01T00:00:00Z""#),
        event(3, r#","timestamp":"2015-01-01T00:00:05Z""#),
        event(4, ""),
        event(5, r#","originalTimestamp":"9000-01-01T00:00:00Z","timestamp":"2015-01-01T00:00:05Z""#),
    ];
    let answer = door.send(Call::Batch, batch_of(&events.each_ref().map(String::as_str)));
    assert_eq!(answer, Ok(Accepted { accepted: 2, rejected: 3 }));
    let letters = door.letters();
    let reasons: Vec<&str> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["missing_timestamp", "invalid_timestamp", "invalid_timestamp"]);
    assert!(letters[0].detail.contains("a replay needs timestamps"), "{}", letters[0].detail);
    assert!(letters[1].detail.contains("lies in the future"), "{}", letters[1].detail);
    let time = LogTime(micros("2015-01-01T00:00:05Z"));
    assert!(door.records(Topic::Actions).iter().all(|(_, record)| record.time == time));
}

#[test]
fn partitions_that_do_not_tell_the_time_themselves_tick() {
    let wall = Arc::new(Wall(AtomicI64::new(micros(NOW))));
    let door = Door::with(wall.clone(), Bounds::default());
    let busy = partition_of(b"u", 4) as usize;
    let mut expected = [0; 4];
    // How long after the last round, how many events came, and whether their partition and the others tick then.
    for (wait_us, events, ticks, others) in [
        (1, 0, true, true),
        (1, 1, true, true),
        (1, 63, true, true),
        (1, 64, false, true),
        (1, 100, false, true),
        (1, 0, true, true),
        // Time stands still.
        (0, 0, false, false),
        (0, 1, true, false),
        (0, 0, false, false),
        (0, 64, false, false),
        (0, 0, true, false),
        (0, 0, false, false),
        (1, 0, true, true),
    ] {
        wall.0.fetch_add(wait_us, Ordering::Relaxed);
        if events > 0 {
            door.send(Call::Batch, batch_of(&vec![r#"{"type":"identify","userId":"u"}"#; events])).unwrap();
        }
        door.runtime.block_on(door.collector.tick_idle()).unwrap();
        for (partition, count) in expected.iter_mut().enumerate() {
            *count += u32::from(if partition == busy { ticks } else { others });
        }
        assert_eq!(door.ticks(), expected, "{events} events {wait_us} after the last round");
    }
    assert_eq!(door.collector.counters().ticks, u64::from(expected.iter().sum::<u32>()));
}

#[test]
fn a_log_that_cannot_take_it_is_no_fault_of_the_client() {
    let door = Door::new();
    door.log.fail_next(1);
    let refusal = door.send(Call::Identify, r#"{"userId":"u"}"#).unwrap_err();
    assert_eq!((refusal.kind, refusal.code, refusal.retry_after_s), (RefusalKind::Unavailable, "unavailable", Some(1)));
    assert_eq!(door.collector.counters().accepted, 0);
    assert!(door.send(Call::Identify, r#"{"userId":"u"}"#).is_ok());
    door.log.fail_next(1);
    assert!(door.runtime.block_on(door.collector.tick_idle()).is_err());
    let before = door.ticks();
    assert!(door.runtime.block_on(door.collector.tick_idle()).is_ok());
    assert_eq!(door.ticks(), before.map(|ticks| ticks + 1), "a tick that failed is due again, at the same time too");
}

#[test]
fn a_log_that_is_away_is_not_waited_for() {
    let door = Door::new();
    door.log.set_healthy(false);
    let refusal = door.send(Call::Identify, r#"{"userId":"u"}"#).unwrap_err();
    assert_eq!((refusal.kind, refusal.code, refusal.retry_after_s), (RefusalKind::Unavailable, "unavailable", Some(1)));
    let wrong = door.send(Call::Identify, "{").unwrap_err();
    assert_eq!(wrong.kind, RefusalKind::Malformed, "what can never be taken is told all the same");
    door.log.set_healthy(true);
    assert!(door.send(Call::Identify, r#"{"userId":"u"}"#).is_ok());
    let held: usize = (0..4).map(|p| door.log.records(TopicPartition::new(Topic::Actions, p)).len()).sum();
    assert_eq!(held, 1, "the log was not asked while it was away");
}

#[test]
fn no_answer_comes_before_the_log_has_it() {
    let log = ToyLog::manual(4);
    let wall = Arc::new(Wall(AtomicI64::new(micros(NOW))));
    let options = CollectorOptions { accept_any_key: true, ..CollectorOptions::default() };
    let collector = Collector::new(Arc::new(log.clone()), wall, options);
    let body = Bytes::from_static(br#"{"batch":[{"type":"identify","userId":"u"},7],"writeKey":"any"}"#);
    let request = Request { body, ..Request::default() };
    let mut answer = Box::pin(collector.collect(Call::Batch, request));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        let durable = log.records(TopicPartition::new(Topic::Actions, partition_of(b"u", 4))).len()
            + log.records(TopicPartition::new(Topic::DeadLetters, 0)).len();
        match answer.as_mut().poll(&mut context) {
            std::task::Poll::Ready(answer) => {
                assert_eq!((durable, answer), (2, Ok(Accepted { accepted: 1, rejected: 1 })));
                return;
            }
            std::task::Poll::Pending => assert!(log.step(|_| 0)),
        }
    }
}

#[test]
fn counters_add_up() {
    let door = Door::new();
    let body = batch_of(&[r#"{"type":"identify","userId":"u"}"#, "1", "2"]);
    door.send(Call::Batch, body.clone()).unwrap();
    door.send(Call::Batch, body.clone()).unwrap();
    let counters = door.collector.counters();
    assert_eq!((counters.requests, counters.accepted, counters.bytes), (2, 2, 2 * body.len() as u64));
    assert_eq!(counters.rejected.iter().find(|(reason, _)| *reason == "not_an_object"), Some(&("not_an_object", 4)));
}

/// Any JSON, with names that the door knows among its keys.
fn json() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "type",
        "event",
        "userId",
        "anonymousId",
        "messageId",
        "timestamp",
        "sentAt",
        "properties",
        "context",
        "traits",
        "batch",
        "writeKey",
        "post_id",
        "postId",
        "tags",
        "dwell_ms",
        "position",
        "target_id",
        "kind",
        "name",
        "x",
    ]);
    let texts = prop::sample::select(vec![
        "track",
        "identify",
        "page",
        "alias",
        "post_liked",
        "post_created",
        "Post Viewed",
        "user_followed",
        "2026-01-01T00:00:00Z",
        "u",
        "wk",
    ]);
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("JSON has no infinity", |f| f.is_finite()).prop_map(|f| format!("{f:?}")),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\ud83d""#.to_owned()),
        texts.clone().prop_map(|text| format!("\"{text}\"")),
        texts.prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((names.clone(), inner), 0..8).prop_map(|pairs| {
                let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", pairs.join(", "))
            }),
        ]
    })
}

/// Keys that are made after a door was opened, and how often somebody looked for them.
struct Made {
    door: Weak<Collector>,
    keys: Mutex<Vec<Key>>,
    looks: AtomicUsize,
    /// Taken by a look, and given back by nobody.
    may_look: Semaphore,
    answers: AtomicBool,
}

impl Made {
    fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }

    fn make(&self, name: &str, key: &str) {
        self.keys.lock().unwrap().push(Key::write(name, key));
    }
}

#[async_trait]
impl LatestKeys for Made {
    async fn update(&self) -> bool {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.may_look.acquire().await.unwrap().forget();
        self.door.upgrade().unwrap().set_keys(self.keys.lock().unwrap().clone(), false);
        self.answers.load(Ordering::SeqCst)
    }
}

/// A door that knows the key `wk` and looks for others as often as is allowed.
fn looking(looks: usize) -> (Arc<Collector>, Arc<Made>) {
    let clock = Arc::new(Wall(AtomicI64::new(micros(NOW))));
    let keys = vec![Key::write("web", "wk")];
    let options = CollectorOptions { keys: keys.clone(), ..CollectorOptions::default() };
    let door = Arc::new(Collector::new(Arc::new(ToyLog::new(4)), clock, options));
    let made = Arc::new(Made {
        door: Arc::downgrade(&door),
        keys: Mutex::new(keys),
        looks: AtomicUsize::new(0),
        may_look: Semaphore::new(looks),
        answers: AtomicBool::new(true),
    });
    door.look_for_keys_in(made.clone());
    (door, made)
}

fn with_key(key: &str) -> Request {
    let body = format!(r#"{{"writeKey":"{key}","userId":"ada","event":"x"}}"#);
    Request { body: body.into(), ..Request::default() }
}

/// Lets everything through, and counts.
#[derive(Default)]
struct Counting {
    admitted: AtomicUsize,
}

impl Gate for Counting {
    fn knock(&self, _source: &str) -> Result<(), Refusal> {
        Ok(())
    }

    fn admit(&self, _source: &str, events: u32) -> Result<(), Refusal> {
        self.admitted.fetch_add(events as usize, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn a_key_that_is_not_known_is_looked_for_before_it_is_refused() {
    let (door, made) = looking(1_000);
    let track = async |key| door.collect(Call::Track, with_key(key)).await.map(|accepted| accepted.accepted);
    assert_eq!(track("wk").await.unwrap(), 1);
    assert_eq!(made.looks(), 0, "a key that is known costs no look");
    made.make("app", "wk-new");
    let gate = Counting::default();
    let judged = door.judge_through(Call::Track, with_key("wk-new"), &gate).await.unwrap();
    assert_eq!((judged.accepted.accepted, made.looks()), (1, 1));
    assert_eq!(gate.admitted.load(Ordering::SeqCst), 1, "once, though it was looked at twice");
    assert_eq!(track("wk-new").await.unwrap(), 1);
    assert_eq!(made.looks(), 1, "what was found is kept");
    assert_eq!(track("wk-other").await.unwrap_err().code, "invalid_write_key");
    assert_eq!(track("wk-other").await.unwrap_err().code, "invalid_write_key");
    assert_eq!(made.looks(), 2, "what was not there a moment ago is not looked for again");
    assert_eq!(track("").await.unwrap_err().code, "missing_write_key");
    assert_eq!(track("mr_wk_short").await.unwrap_err().code, "invalid_write_key");
    assert_eq!(made.looks(), 2, "nor is what can never be found");
    let counted = door.counters_by_source();
    let counted: Vec<(&str, u64)> =
        counted.iter().map(|(source, of)| (source.as_str(), of.counters.requests)).collect();
    assert_eq!(counted, [("app", 2), ("web", 1)], "each request once, and by the source that it turned out to be of");
}

#[tokio::test]
async fn whoever_asks_for_a_key_finds_one_that_was_just_made() {
    let (door, made) = looking(1_000);
    made.make("app", "wk-1");
    assert!(door.knows("wk-1").await.unwrap() && !door.knows("wk-x").await.unwrap());
    made.make("app", "wk-2");
    assert_eq!(door.allow("wk-2", Scope::EventsWrite).await.as_deref(), Ok("app"));
    assert_eq!(door.allow("wk-2", Scope::Admin).await, Err(Denied::Lacks(Scope::Admin)));
    assert_eq!(door.allow("wk-y", Scope::EventsWrite).await, Err(Denied::Unknown));
    made.make("app", "wk-3");
    let bearer =
        Request { authorization: Some("Bearer wk-3".to_owned()), body: with_key("").body, ..Request::default() };
    assert_eq!(door.collect(Call::Track, bearer).await.unwrap().accepted, 1);
    assert_eq!(made.looks(), 5);
}

#[tokio::test]
async fn where_nobody_can_tell_soon_whether_a_key_is_known_it_is_not_refused_for_good() {
    let (door, made) = looking(0);
    let guess = |nth: usize| with_key(&format!("guess-{nth}"));
    let waiting: Vec<_> = (0..LOOKS_MAX)
        .map(|nth| {
            let door = door.clone();
            tokio::spawn(async move { door.collect(Call::Track, guess(nth)).await })
        })
        .collect();
    while made.looks() < LOOKS_MAX {
        tokio::task::yield_now().await;
    }
    let refused = door.collect(Call::Track, guess(LOOKS_MAX)).await.unwrap_err();
    assert!(refused.code == "unavailable" && refused.retry_after_s.is_some(), "{refused:?}");
    assert_eq!(made.looks(), LOOKS_MAX, "the rest does not wait");
    assert_eq!(door.collect(Call::Track, with_key("wk")).await.unwrap().accepted, 1, "nor does who has a key");
    made.may_look.add_permits(LOOKS_MAX);
    for one in waiting {
        assert_eq!(one.await.unwrap().unwrap_err().code, "invalid_write_key");
    }
    made.answers.store(false, Ordering::SeqCst);
    made.may_look.add_permits(3);
    assert_eq!(door.collect(Call::Track, with_key("late")).await.unwrap_err().code, "unavailable");
    assert_eq!(door.allow("late", Scope::EventsWrite).await, Err(Denied::Undecided));
    assert_eq!(door.knows("late").await.unwrap_err().code, "unavailable");
}

#[test]
fn only_a_write_key_is_known() {
    let door = Door::new();
    let knows = |key| door.runtime.block_on(door.collector.knows(key)).unwrap();
    assert!(knows("wk"));
    for unknown in ["", "w", "wkk", "wk "] {
        assert!(!knows(unknown), "{unknown:?}");
    }
}

#[test]
fn every_call_has_a_name_of_its_own_and_its_letters_carry_it() {
    let names: std::collections::HashSet<&str> = Call::ALL.iter().map(|call| call.name()).collect();
    assert_eq!(names.len(), Call::ALL.len());
    for call in [Call::Track, Call::Alias] {
        let door = Door::new();
        assert_eq!(door.send(call, "{}"), Ok(Accepted { accepted: 0, rejected: 1 }));
        assert_eq!(door.letters()[0].door, call.name());
    }
    for call in [Call::Batch, Call::Events, Call::Capture, Call::Analytics] {
        let door = Door::new();
        assert_eq!(door.send(call, r#"{"batch":[{}]}"#), Ok(Accepted { accepted: 0, rejected: 1 }));
        assert_eq!(door.letters()[0].door, call.name());
    }
}

fn call() -> impl Strategy<Value = Call> {
    prop::sample::select(Call::ALL.to_vec())
}

proptest! {
    #[test]
    fn any_bytes_are_answered(call in call(), body in prop::collection::vec(any::<u8>(), 0..200), encoding in prop::option::of("gzip|deflate|br")) {
        let request = Request { authorization: Some("Basic d2s6".to_owned()), content_encoding: encoding, body: body.into(), ..Request::default() };
        if let Err(refusal) = Door::new().request(call, request) {
            prop_assert!(matches!(refusal.kind, RefusalKind::Malformed | RefusalKind::TooLarge | RefusalKind::Unsupported), "{refusal}");
        }
    }

    #[test]
    fn any_json_is_answered_and_every_event_is_somewhere(call in call(), events in prop::collection::vec(json(), 0..6)) {
        let door = Door::new();
        if let Err(refusal) = door.send(call, events.concat()) {
            prop_assert!(matches!(refusal.kind, RefusalKind::Malformed | RefusalKind::Unsupported), "{refusal}");
        }
        let before = door.envelopes().len() + door.letters().len();
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let answer = door.send(Call::Batch, batch_of(&events)).unwrap();
        prop_assert_eq!((answer.accepted + answer.rejected) as usize, events.len());
        prop_assert_eq!(door.envelopes().len() + door.letters().len() - before, events.len());
        for envelope in door.envelopes() {
            let personal = envelope.personal.unwrap_or_default();
            for json in [personal.properties, personal.traits, personal.context] {
                prop_assert!(json.is_empty() || serde_json::from_slice::<&serde_json::value::RawValue>(&json).is_ok());
            }
        }
    }

    #[test]
    fn a_retry_lands_in_the_same_partition(user in "[a-z]{0,3}", anonymous in "[a-z]{1,3}", wait_us in 0..10_000_000_i64) {
        let wall = Arc::new(Wall(AtomicI64::new(micros(NOW))));
        let door = Door::with(wall.clone(), Bounds::default());
        let event = format!(r#"{{"type":"identify","userId":"{user}","anonymousId":"{anonymous}","messageId":"m"}}"#);
        door.send(Call::Identify, event.clone()).unwrap();
        wall.0.fetch_add(wait_us, Ordering::Relaxed);
        door.send(Call::Identify, event).unwrap();
        let records = door.records(Topic::Actions);
        prop_assert_eq!(records.len(), 2);
        prop_assert_eq!(records[0].0, records[1].0);
        prop_assert_eq!(&records[0].1.key, &records[1].1.key);
    }
}
