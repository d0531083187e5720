//! The wire form: the published `.proto` and the Rust types are one, and what was written once can be read for ever.

use millrace_events::{
    Action, ActionKind, DeadLetter, Derived, Envelope, Kind, Link, Personal, Position, PostContent, ServedCandidate,
    ServedSlate, SlateSource, format_rfc3339, parse_rfc3339,
};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};

fn pool() -> DescriptorPool {
    let files = protox::compile(["millrace.proto"], ["proto"]).expect("the published .proto compiles");
    DescriptorPool::from_file_descriptor_set(files).expect("the published .proto is complete")
}

fn content() -> PostContent {
    PostContent {
        text: "hello".to_owned(),
        tags: vec!["a".to_owned(), "b".to_owned()],
        lang: "en".to_owned(),
        kind: "text".to_owned(),
        reply_to: "p0".to_owned(),
        repost_of: "p9".to_owned(),
        url: "https://example.org/".to_owned(),
    }
}

fn envelope() -> Envelope {
    Envelope {
        message_id: "m1".to_owned(),
        minted_id: true,
        source: "web".to_owned(),
        kind: Kind::Track as i32,
        event: "post_created".to_owned(),
        user_id: "ada".to_owned(),
        anonymous_id: "anon".to_owned(),
        event_time_us: 1_700_000_000_000_000,
        received_us: 1_700_000_000_000_001,
        action: Some(Action {
            kind: ActionKind::PostCreated as i32,
            post_id: "p1".to_owned(),
            target_id: "bob".to_owned(),
            tag: "t".to_owned(),
            slate: "s".to_owned(),
            position: Some(0),
            dwell_ms: Some(12),
            comment_id: "c".to_owned(),
        }),
        group_id: "g".to_owned(),
        previous_id: "before".to_owned(),
        robot: true,
        violation: "/post_id: maxLength".to_owned(),
        personal: Some(Personal {
            name: "Post Created".to_owned(),
            properties: r#"{"post_id":"p1"}"#.into(),
            traits: "{}".into(),
            context: r#"{"ip":"127.0.0.1"}"#.into(),
            content: Some(content()),
        }),
    }
}

fn derived() -> Derived {
    Derived {
        position: Position { generation: 1, partition: 2, offset: 3, index: 4 },
        previous: Some(Position { generation: 1, partition: 2, offset: 1, index: 0 }),
        log_time_us: 1_700_000_000_000_002,
        late: true,
        tick: true,
        kind: ActionKind::TagUnfollowed as i32,
        actor: "ada".to_owned(),
        post_id: "p1".to_owned(),
        target_id: "bob".to_owned(),
        event_time_us: -5,
        dwell_ms: Some(7),
        content: Some(content()),
        robot: true,
        link: Some(link()),
    }
}

fn link() -> Link {
    Link { alias_id: "anon".to_owned(), person_id: "ada".to_owned() }
}

/// A link as stage 1 sends it: nothing of an action is in it.
fn linked() -> Derived {
    Derived {
        position: Position { generation: 1, partition: 2, offset: 3, index: 1 },
        previous: Some(Position { generation: 1, partition: 2, offset: 3, index: 0 }),
        log_time_us: 1_700_000_000_000_002,
        actor: "ada".to_owned(),
        event_time_us: 1_700_000_000_000_000,
        link: Some(link()),
        ..Derived::default()
    }
}

fn dead_letter() -> DeadLetter {
    DeadLetter {
        id: "actions-1-2-3-posts".to_owned(),
        reason: "not_the_author".to_owned(),
        detail: "only the author may".to_owned(),
        source: "web".to_owned(),
        by: "posts".to_owned(),
        payload: "{}".into(),
        truncated: true,
        log_time_us: 9,
        position: Some(Position { generation: 1, partition: 2, offset: 3, index: 0 }),
        door: "batch".to_owned(),
    }
}

fn served_slate() -> ServedSlate {
    let served = ServedCandidate {
        post_id: "p1".to_owned(),
        author_id: "bob".to_owned(),
        source: "trending".to_owned(),
        position: Some(20),
        score: Some(0.25),
        recency: Some(0.5),
        affinity: Some(0.0),
        engagement: Some(1.0),
        diversity: Some(0.7),
        filter: "seen".to_owned(),
    };
    ServedSlate {
        slate: "sl_1".to_owned(),
        viewer: "ada".to_owned(),
        as_of_us: Some(-7),
        model: "baseline".to_owned(),
        model_version: "2".to_owned(),
        first_position: 20,
        sample_rate: 0.125,
        candidates: vec![served.clone(), ServedCandidate { post_id: "p2".to_owned(), ..served }],
        sources: vec![SlateSource { name: "trending".to_owned(), candidates: 2, late: true }],
        left_out: 3,
    }
}

/// Encodes with our types, reads with the published schema: nothing unknown, every field set, and the same bytes back.
#[track_caller]
fn check<M: Message>(name: &str, message: &M) {
    let bytes = message.encode_to_vec();
    let descriptor = pool().get_message_by_name(&format!("millrace.v1.{name}")).expect("the message is published");
    let read = DynamicMessage::decode(descriptor, bytes.as_slice()).expect("the published schema reads it");
    assert_known_and_set(name, &read);
    assert_eq!(read.encode_to_vec(), bytes, "{name}: both write the same bytes");
}

/// Every field of the message is known to the published schema. At the top and in each of a repeated field every field is
/// set; a message within may leave some out.
fn assert_known_and_set(path: &str, message: &DynamicMessage) {
    for field in message.descriptor().fields() {
        assert!(message.has_field(&field), "{path}.{} is not set: the sample or a number differs", field.name());
    }
    assert_known(path, message);
}

fn assert_known(path: &str, message: &DynamicMessage) {
    assert_eq!(message.unknown_fields().count(), 0, "{path} has fields that the published schema does not know");
    for (field, value) in message.fields() {
        let path = format!("{path}.{}", field.name());
        match value {
            Value::Message(inner) => assert_known(&path, inner),
            Value::List(items) => {
                items.iter().filter_map(Value::as_message).for_each(|m| assert_known_and_set(&path, m))
            }
            _ => {}
        }
    }
}

#[test]
fn the_published_schema_and_the_types_are_one() {
    check("Envelope", &envelope());
    check("Derived", &derived());
    check("Link", &link());
    check("DeadLetter", &dead_letter());
    check("ServedSlate", &served_slate());
}

#[test]
fn the_published_actions_are_the_known_ones() {
    let published = pool().get_enum_by_name("millrace.v1.ActionKind").expect("the enum is published");
    for &kind in ActionKind::KNOWN {
        let name = format!("ACTION_KIND_{}", kind.as_str().to_uppercase());
        let value = published.get_value_by_name(&name).unwrap_or_else(|| panic!("{name} is not published"));
        assert_eq!(value.number(), kind as i32);
    }
    assert_eq!(published.values().count(), ActionKind::KNOWN.len() + 1);
}

/// What each version wrote, of which an earlier one lacks fields that a later one added. To publish a version: a folder of its
/// own below, and `MILLRACE_WRITE_FIXTURES=1 cargo test -p millrace-events`.
#[test]
fn every_published_version_still_decodes() {
    fn fixture<M: Message + Default + PartialEq + std::fmt::Debug>(name: &str, expected: &M) {
        let path = format!("fixtures/{name}.bin");
        if std::env::var_os("MILLRACE_WRITE_FIXTURES").is_some() {
            std::fs::write(&path, expected.encode_to_vec()).expect("the fixture can be written");
        }
        let bytes = std::fs::read(&path).expect("the fixture is there");
        let read = M::decode(bytes.as_slice()).expect("what was written once can be read for ever");
        assert_eq!(&read, expected);
    }
    fixture("v1/envelope", &Envelope { robot: false, violation: String::new(), ..envelope() });
    fixture("v1/derived", &Derived { robot: false, link: None, ..derived() });
    fixture("v1/dead_letter", &DeadLetter { door: String::new(), ..dead_letter() });
    fixture("v1/served_slate", &served_slate());
    fixture("v1/tick", &Envelope::tick());
    fixture("v2/envelope", &envelope());
    fixture("v2/derived", &Derived { link: None, ..derived() });
    fixture("v2/dead_letter", &dead_letter());
    fixture("v2/link", &linked());
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _envelope = Envelope::decode(bytes.as_slice());
        let _derived = Derived::decode(bytes.as_slice());
        let _letter = DeadLetter::decode(bytes.as_slice());
        let _slate = ServedSlate::decode(bytes.as_slice());
    }

    #[test]
    fn times_survive_their_text(micros in -62_135_596_800_000_000_i64..253_402_207_200_000_000) {
        prop_assert_eq!(parse_rfc3339(&format_rfc3339(micros)).ok(), Some(micros));
    }
}
