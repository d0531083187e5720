use bytes::Bytes;
use millrace_events::{LogTime, Position, TopicPartition};
use prost::Message;
use rdkafka::message::Headers;

use super::*;
use crate::wire::TIME_HEADER;

fn record(topic: Topic, value: Vec<u8>) -> Append {
    Append { to: TopicPartition::new(topic, 0), time: LogTime(2_000_000), key: Bytes::new(), value: value.into() }
}

#[track_caller]
fn check(topic: Topic, value: &impl Message, [id, source, kind, time]: [&str; 4]) {
    let headers = cloud_event_headers()(&record(topic, value.encode_to_vec()));
    let expected = [
        ("content-type", "application/protobuf"),
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", source),
        ("ce_type", kind),
        ("ce_time", time),
    ];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(headers, expected);
}

#[test]
fn an_action_is_what_was_sent() {
    let envelope = Envelope {
        message_id: "m-1".to_owned(),
        source: "my web".to_owned(),
        kind: Kind::Track as i32,
        event: "post_liked".to_owned(),
        event_time_us: 1_000_000,
        ..Envelope::default()
    };
    check(Topic::Actions, &envelope, ["m-1", "my%20web", "post_liked", "1970-01-01T00:00:01Z"]);
    check(Topic::Actions, &Envelope::tick(), ["tick-0-2000000", "/millrace/actions", "tick", "1970-01-01T00:00:02Z"]);
}

#[test]
fn a_derived_record_is_named_by_its_position() {
    let mut derived = Derived {
        position: Position { generation: 3, partition: 1, offset: 70, index: 2 },
        log_time_us: 2_000_000,
        kind: ActionKind::PostLiked as i32,
        event_time_us: 1_000_000,
        ..Derived::default()
    };
    check(
        Topic::ReactionEvents,
        &derived,
        ["3-1-70-2", "/millrace/reaction-events", "post_liked", "1970-01-01T00:00:01Z"],
    );
    derived.tick = true;
    check(Topic::UserEvents, &derived, ["3-1-70-2", "/millrace/user-events", "tick", "1970-01-01T00:00:02Z"]);
}

#[test]
fn a_dead_letter_has_an_id_in_any_case() {
    let named = DeadLetter { id: "d-1".to_owned(), log_time_us: 2_000_000, ..DeadLetter::default() };
    check(Topic::DeadLetters, &named, ["d-1", "/millrace/dead-letters", "dead_letter", "1970-01-01T00:00:02Z"]);
    let id_of = |reason: &str| {
        let letter = DeadLetter { reason: reason.to_owned(), ..DeadLetter::default() };
        cloud_event_headers()(&record(Topic::DeadLetters, letter.encode_to_vec()))[2].1.clone()
    };
    assert_eq!(id_of("a"), id_of("a"));
    assert_ne!(id_of("a"), id_of("b"));
}

#[test]
fn what_is_no_event_has_no_attributes() {
    assert_eq!(cloud_event_headers()(&record(Topic::Actions, b"\xff\xff".to_vec())), []);
}

#[test]
fn the_log_time_comes_first_and_alone_when_the_rest_is_too_much() {
    let count = |bytes: usize| {
        let more: HeadersOf = Arc::new(move |_| vec![("x", "v".repeat(bytes))]);
        let headers = all_of(&record(Topic::Actions, Vec::new()), Some(&more));
        let first = headers.as_borrowed().get(0);
        assert_eq!((first.key, first.value), (TIME_HEADER, Some(&2_000_000_i64.to_be_bytes()[..])));
        headers.as_borrowed().count()
    };
    assert_eq!((count(10), count(HEADERS_BYTES_MAX)), (2, 1));
}
