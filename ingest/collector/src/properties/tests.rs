use ActionKind as K;

use super::*;

fn read(kind: ActionKind, properties: &str) -> Result<Typed<'_>, Rejection> {
    typed(kind, Some(serde_json::from_str(properties).unwrap()))
}

#[track_caller]
fn check(kind: ActionKind, properties: &str, expected: &Typed<'_>) {
    assert_eq!(&read(kind, properties).unwrap(), expected);
}

#[track_caller]
fn refused(kind: ActionKind, properties: &str, reason: Reason, detail: &str) {
    let rejection = read(kind, properties).unwrap_err();
    assert_eq!(rejection.reason, reason, "{rejection:?}");
    assert!(rejection.detail.contains(detail), "{rejection:?}");
}

fn post(post_id: &str) -> Typed<'_> {
    Typed { post_id: post_id.into(), ..Typed::default() }
}

#[test]
fn properties_become_typed() {
    check(K::PostLiked, r#"{"post_id":"p"}"#, &post("p"));
    check(K::PostDeleted, r#"{"post_id":"p","slate":7}"#, &post("p"));
    check(K::PostLiked, r#"{"post_id":"p","slate":null,"position":null,"color":"red"}"#, &post("p"));
    check(
        K::PostViewed,
        r#"{"post_id":"p","slate":"s","position":3,"dwell_ms":1200.0}"#,
        &Typed { slate: "s".into(), position: Some(3), dwell_ms: Some(1200), ..post("p") },
    );
    check(
        K::PostCommented,
        r#"{"post_id":"p","comment_id":9,"text":"hi"}"#,
        &Typed { comment_id: "9".into(), ..post("p") },
    );
    check(K::PostReported, r#"{"post_id":"p","reason":"spam"}"#, &post("p"));
    check(K::UserFollowed, r#"{"target_id":42}"#, &Typed { target_id: "42".into(), ..Typed::default() });
    check(K::TagFollowed, r#"{"tag":"rust"}"#, &Typed { tag: "rust".into(), ..Typed::default() });
    check(K::SearchPerformed, r#"{"query":"","results":3}"#, &Typed::default());
    check(K::UserRegistered, r#"{"handle":"h","name":"n","locale":"de"}"#, &Typed::default());
}

#[test]
fn a_post_has_content() {
    check(K::PostEdited, r#"{"post_id":"p"}"#, &Typed { content: Some(Content::default()), ..post("p") });
    let content = Content {
        text: "a\nb".into(),
        tags: vec!["x".into(), "7".into()],
        lang: "en".into(),
        kind: "image".into(),
        reply_to: "1".into(),
        repost_of: "o".into(),
        url: "https://example.org/".into(),
    };
    check(
        K::PostCreated,
        r#"{"post_id":"p","text":"a\nb","tags":["x",null,"",7],"lang":"en","kind":"image","reply_to":1,"repost_of":"o","url":"https://example.org/"}"#,
        &Typed { content: Some(content), ..post("p") },
    );
}

#[test]
fn camel_case_will_do_and_the_contract_wins() {
    check(K::PostLiked, r#"{"postId":"p"}"#, &post("p"));
    check(K::PostLiked, r#"{"postId":"q","post_id":"p"}"#, &post("p"));
    check(K::PostLiked, r#"{"post_id":"p","postId":"q"}"#, &post("p"));
    check(K::PostViewed, r#"{"postId":1,"dwellMs":5}"#, &Typed { dwell_ms: Some(5), ..post("1") });
    check(K::UserMuted, r#"{"targetId":"t"}"#, &Typed { target_id: "t".into(), ..Typed::default() });
}

#[test]
fn every_known_action_refuses_what_its_contract_does() {
    for &kind in K::KNOWN {
        let (required, optional) = rules(kind);
        if let Some(required) = required {
            let nothing = typed(kind, None).unwrap_err();
            assert_eq!(nothing.reason, Reason::MissingProperty, "{kind:?}");
            refused(kind, "{}", Reason::MissingProperty, required.as_str());
            refused(kind, &format!(r#"{{"{}":null}}"#, required.as_str()), Reason::MissingProperty, required.as_str());
            refused(kind, &format!(r#"{{"{}":true}}"#, required.as_str()), Reason::WrongType, required.as_str());
        }
        for prop in optional {
            let required = required.map_or(String::new(), |r| format!(r#""{}":"x","#, r.as_str()));
            let wrong = format!(r#"{{{required}"{}":{{"a":1}}}}"#, prop.as_str());
            refused(kind, &wrong, Reason::WrongType, prop.as_str());
        }
    }
}

#[test]
fn wrong_values_are_refused() {
    let liked = |rest: &str| format!(r#"{{"post_id":"p",{rest}}}"#);
    refused(K::PostLiked, r#"{"post_id":""}"#, Reason::MissingProperty, "post_id");
    refused(K::PostLiked, &format!(r#"{{"post_id":"{}"}}"#, "x".repeat(201)), Reason::InvalidId, "200 bytes");
    refused(K::PostLiked, r#"{"post_id":"a\u0000b"}"#, Reason::InvalidId, "control");
    for position in ["-1", "1.5", "\"3\"", "4294967296", "1e400"] {
        refused(K::PostLiked, &liked(&format!("\"position\":{position}")), Reason::WrongType, "position");
    }
    for dwell in ["\"x\"", "-5", "2592000001", "[]"] {
        refused(K::PostViewed, &liked(&format!("\"dwell_ms\":{dwell}")), Reason::WrongType, "dwell_ms");
    }
    for tags in ["5", "\"a\"", "[[]]", "[{}]", "[true]", "{}"] {
        refused(K::PostCreated, &liked(&format!("\"tags\":{tags}")), Reason::WrongType, "tags");
    }
    refused(K::PostCreated, &liked(r#""kind":"hologram""#), Reason::WrongType, "kind");
    refused(K::PostCreated, &liked(r#""reply_to":"\ud83d""#), Reason::WrongType, "reply_to");
    assert!(read(K::PostCreated, &liked(r#""text":"\ud83d""#)).is_ok(), "a text cut within an emoji is still a text");
    refused(K::PostCreated, &liked(r#""\ud83d":1"#), Reason::InvalidJson, "properties");
    let tags = vec!["\"t\""; TAGS_MAX + 1].join(",");
    refused(K::PostCreated, &liked(&format!("\"tags\":[{tags}]")), Reason::TooManyTags, "100");
    refused(K::PostCreated, &liked(&format!("\"tags\":[\"{}\"]", "t".repeat(201))), Reason::InvalidId, "tags");
}
