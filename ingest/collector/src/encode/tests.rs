use millrace_events::{Action, DeadLetter, Envelope, Personal, PostContent, decode};
use prost::Message as _;

use super::*;

fn written(message: &impl Message) -> Vec<u8> {
    let mut buffer = Vec::new();
    message.write(&mut buffer);
    buffer
}

#[track_caller]
fn check(borrowed: &EnvelopeRef<'_>, owned: &Envelope) {
    let bytes = written(borrowed);
    assert_eq!(bytes, owned.encode_to_vec());
    assert_eq!(&decode::<Envelope>("envelope", bytes.into()).unwrap(), owned);
}

#[test]
fn an_envelope_is_the_same_as_the_contract_writes_it() {
    let typed = Typed {
        post_id: "p".into(),
        target_id: "t".into(),
        tag: "g".into(),
        slate: "s".into(),
        position: Some(0),
        dwell_ms: Some(u64::MAX),
        comment_id: "c".into(),
        content: Some(Content {
            text: "x".repeat(300).into(),
            tags: vec!["a".into(), "".into(), "b".into()],
            lang: "en".into(),
            kind: "link".into(),
            reply_to: "r".into(),
            repost_of: "o".into(),
            url: "u".into(),
        }),
    };
    let borrowed = EnvelopeRef {
        message_id: "m",
        minted_id: true,
        source: "web",
        kind: Some(Kind::Track),
        event: "post_created",
        user_id: "u1",
        anonymous_id: "a1",
        event_time_us: -5,
        received_us: 1_767_225_600_000_000,
        action: Some((ActionKind::PostCreated, &typed)),
        group_id: "group",
        previous_id: "previous",
        robot: true,
        violation: "/a: type",
        name: "Post Created",
        properties: r#"{"a":1}"#,
        traits: "{}",
        context: r#"{"ip":"::1"}"#,
    };
    let owned = Envelope {
        message_id: "m".into(),
        minted_id: true,
        source: "web".into(),
        kind: Kind::Track as i32,
        event: "post_created".into(),
        user_id: "u1".into(),
        anonymous_id: "a1".into(),
        event_time_us: -5,
        received_us: 1_767_225_600_000_000,
        action: Some(Action {
            kind: ActionKind::PostCreated as i32,
            post_id: "p".into(),
            target_id: "t".into(),
            tag: "g".into(),
            slate: "s".into(),
            position: Some(0),
            dwell_ms: Some(u64::MAX),
            comment_id: "c".into(),
        }),
        group_id: "group".into(),
        previous_id: "previous".into(),
        robot: true,
        violation: "/a: type".into(),
        personal: Some(Personal {
            name: "Post Created".into(),
            properties: r#"{"a":1}"#.into(),
            traits: "{}".into(),
            context: r#"{"ip":"::1"}"#.into(),
            content: Some(PostContent {
                text: "x".repeat(300),
                tags: vec!["a".into(), String::new(), "b".into()],
                lang: "en".into(),
                kind: "link".into(),
                reply_to: "r".into(),
                repost_of: "o".into(),
                url: "u".into(),
            }),
        }),
    };
    check(&borrowed, &owned);
}

#[test]
fn what_is_empty_is_left_out() {
    check(&EnvelopeRef::default(), &Envelope::default());
    check(&EnvelopeRef { kind: Some(Kind::Tick), ..EnvelopeRef::default() }, &Envelope::tick());
    let typed = Typed { content: Some(Content::default()), ..Typed::default() };
    let borrowed = EnvelopeRef { action: Some((ActionKind::PostEdited, &typed)), ..EnvelopeRef::default() };
    let owned = Envelope {
        action: Some(Action { kind: ActionKind::PostEdited as i32, ..Action::default() }),
        personal: Some(Personal { content: Some(PostContent::default()), ..Personal::default() }),
        ..Envelope::default()
    };
    check(&borrowed, &owned);
}

#[test]
fn a_dead_letter_is_the_same_as_the_contract_writes_it() {
    let borrowed = DeadLetterRef {
        id: "api-door-1-0",
        reason: "too_deep",
        detail: "an event may nest at most 32 levels",
        source: "web",
        payload: "[[",
        truncated: true,
        log_time_us: 7,
        door: "capture",
    };
    let owned = DeadLetter {
        id: "api-door-1-0".into(),
        reason: "too_deep".into(),
        detail: "an event may nest at most 32 levels".into(),
        source: "web".into(),
        by: "collector".into(),
        payload: "[[".into(),
        truncated: true,
        log_time_us: 7,
        position: None,
        door: "capture".into(),
    };
    assert_eq!(written(&borrowed), owned.encode_to_vec());
}
