use std::io::Write as _;

use millrace_events::{ActionKind, Envelope};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::tests::Door;
use crate::{Accepted, Call, Request};

fn send(door: &Door, body: impl Into<Bytes>) -> Result<Accepted, Refusal> {
    door.request(Call::Capture, Request { body: body.into(), ..Request::default() })
}

/// What one event comes to, sent with the key beside it.
fn sent(mut event: serde_json::Value) -> Envelope {
    event["api_key"] = "wk".into();
    let door = Door::new();
    assert_eq!(send(&door, event.to_string()), Ok(Accepted { accepted: 1, rejected: 0 }), "{:?}", door.letters());
    door.only()
}

/// Traits and properties.
fn personal(envelope: &Envelope) -> (String, String) {
    let personal = envelope.personal.clone().unwrap_or_default();
    let text = |json: Bytes| String::from_utf8(json.to_vec()).unwrap();
    (text(personal.traits), text(personal.properties))
}

fn gzip(body: &str) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(body.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

const LIKED: &str =
    r#"{"event":"post_liked","distinct_id":"ann","uuid":"018f","properties":{"post_id":"p","token":"wk"}}"#;

#[test]
fn every_shape_of_a_body_holds_the_same_event() {
    let batch = |key: &str| format!(r#"{{"{key}":"wk","batch":[{LIKED}],"sent_at":"2026-01-01T12:00:00Z"}}"#);
    let base64 = STANDARD.encode(LIKED);
    let gzipped = STANDARD.encode(gzip(LIKED));
    let plain: String = percent_encoding::utf8_percent_encode(LIKED, percent_encoding::NON_ALPHANUMERIC).collect();
    let escaped = base64.replace('+', "%2B").replace('=', "%3D");
    let shapes: Vec<Vec<u8>> = vec![
        LIKED.into(),
        format!(" [{LIKED}]").into(),
        batch("api_key").into(),
        batch("token").into(),
        gzip(&batch("api_key")),
        format!("data={escaped}&ver=1").into(),
        format!("data={base64}").into(),
        format!("data={gzipped}").into(),
        gzip(&format!("data={gzipped}&compression=gzip-js")),
        format!("data={plain}&ver=1").into(),
        format!("data={LIKED}").into(),
    ];
    for shape in shapes {
        let door = Door::new();
        assert_eq!(send(&door, shape.clone()), Ok(Accepted { accepted: 1, rejected: 0 }), "{shape:?}");
        let envelope = door.only();
        assert_eq!((&envelope.message_id[..], &envelope.user_id[..], envelope.minted_id), ("018f", "ann", false));
        assert_eq!(envelope.action_kind(), ActionKind::PostLiked);
    }
}

#[test]
fn what_posthog_has_a_name_for_is_the_call_that_it_is() {
    let kinds = [
        ("$identify", Kind::Identify),
        ("$set", Kind::Identify),
        ("$create_alias", Kind::Alias),
        ("$merge_dangerously", Kind::Alias),
        ("$groupidentify", Kind::Group),
        ("$pageview", Kind::Page),
        ("$screen", Kind::Screen),
        ("$autocapture", Kind::Track),
        ("Order Paid", Kind::Track),
    ];
    for (event, kind) in kinds {
        let properties =
            json!({"alias": "old", "$group_key": "acme", "$group_set": {"size": 3}, "$screen_name": "Home"});
        let envelope = sent(json!({"event": event, "distinct_id": "ann", "properties": properties}));
        assert_eq!((envelope.kind(), &envelope.user_id[..]), (kind, "ann"), "{event}");
        assert_eq!(envelope.previous_id, if kind == Kind::Alias { "old" } else { "" }, "{event}");
        assert_eq!(envelope.group_id, if kind == Kind::Group { "acme" } else { "" }, "{event}");
        assert_eq!(personal(&envelope).0, if kind == Kind::Group { r#"{"size":3}"# } else { "" }, "{event}");
        assert_eq!(personal(&envelope).1.contains(r#""name":"Home""#), kind == Kind::Screen, "{event}");
    }
    assert_eq!(sent(json!({"$distinct_id": "ann", "$set": {"plan": "free"}})).kind(), Kind::Identify);
}

#[test]
fn who_did_it_is_anonymous_when_the_client_says_so() {
    let who = |event: &str, properties: serde_json::Value| {
        let envelope = sent(json!({"event": event, "distinct_id": "x", "properties": properties}));
        (envelope.user_id, envelope.anonymous_id)
    };
    let ids = |user: &str, anonymous: &str| (user.to_owned(), anonymous.to_owned());
    assert_eq!(who("e", json!({})), ids("x", ""));
    assert_eq!(who("e", json!({"$device_id": "d"})), ids("x", "d"));
    assert_eq!(who("e", json!({"$device_id": "x"})), ids("", "x"));
    assert_eq!(who("e", json!({"$process_person_profile": false})), ids("", "x"));
    assert_eq!(who("e", json!({"$process_person_profile": true})), ids("x", ""));
    assert_eq!(who("$identify", json!({"$anon_distinct_id": "a", "$device_id": "d"})), ids("x", "a"));
    assert_eq!(who("$set", json!({"$device_id": "d"})), ids("x", ""));
}

#[test]
fn traits_ids_and_times_are_found_where_they_may_be() {
    let identified = |event| personal(&sent(event)).0;
    assert_eq!(identified(json!({"event": "$identify", "distinct_id": "x", "$set": {"a": 1}})), r#"{"a":1}"#);
    assert_eq!(
        identified(json!({"event": "$identify", "distinct_id": "x", "properties": {"$set": {"a": 2}}})),
        r#"{"a":2}"#
    );
    assert_eq!(sent(json!({"event": "e", "properties": {"distinct_id": "inner"}})).user_id, "inner");
    assert_eq!(sent(json!({"event": "e", "distinct_id": 7})).user_id, "7");
    let inserted = sent(json!({"event": "e", "distinct_id": "x", "properties": {"$insert_id": "i-1"}}));
    assert_eq!((&inserted.message_id[..], inserted.minted_id), ("i-1", false));
    assert!(sent(json!({"event": "e", "distinct_id": "x"})).minted_id);

    // The client's clock is an hour behind: what happened ten minutes before it sent happened ten minutes ago.
    let door = Door::new();
    let event = r#"{"event":"e","distinct_id":"x","timestamp":"2026-01-01T10:50:00+00:00"}"#;
    let body = format!(r#"{{"api_key":"wk","batch":[{event}],"sent_at":"2026-01-01T11:00:00Z"}}"#);
    send(&door, body).unwrap();
    assert_eq!(millrace_events::format_rfc3339(door.only().event_time_us), "2026-01-01T11:50:00Z");
}

/// When an event happened, of a request that says when it was sent.
fn happened(event: serde_json::Value, sent_at: Option<&str>) -> String {
    let door = Door::new();
    let body = json!({"api_key": "wk", "batch": [event]}).to_string();
    let sent_at_us = sent_at.map(|time| millrace_events::parse_rfc3339(time).unwrap());
    door.request(Call::Capture, Request { body: body.into(), sent_at_us, ..Request::default() }).unwrap();
    format_rfc3339(door.only().event_time_us)
}

#[test]
fn an_event_without_a_time_happened_that_long_ago() {
    let at = |more: serde_json::Value, sent_at| {
        let mut event = json!({"event": "e", "distinct_id": "x"});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        happened(event, sent_at)
    };
    assert_eq!(at(json!({}), None), "2026-01-01T12:00:00Z");
    assert_eq!(at(json!({"offset": 90_000}), None), "2026-01-01T11:58:30Z");
    assert_eq!(at(json!({"offset": 0}), None), "2026-01-01T12:00:00Z");
    assert_eq!(at(json!({"offset": 90_000}), Some("2026-01-01T11:00:00Z")), "2026-01-01T11:58:30Z", "by our clock");
    let timed = json!({"timestamp": "2026-01-01T10:50:00Z", "offset": 90_000});
    assert_eq!(at(timed.clone(), None), "2026-01-01T10:50:00Z");
    assert_eq!(at(timed, Some("2026-01-01T11:00:00Z")), "2026-01-01T11:50:00Z", "an hour behind");
    for wrong in [json!(-1), json!(1.5), json!("1"), json!(OFFSET_MS_MAX + 1)] {
        let door = Door::new();
        let event = json!({"api_key": "wk", "event": "e", "distinct_id": "x", "offset": wrong});
        assert_eq!(send(&door, event.to_string()), Ok(Accepted { accepted: 0, rejected: 1 }));
        assert_eq!(door.letters()[0].reason, "wrong_type");
    }
}

/// What one event of the newer protocol comes to.
fn analysed(event: serde_json::Value, sdk: Option<&str>) -> Envelope {
    let door = Door::new();
    let request = Request {
        authorization: Some("Bearer wk".to_owned()),
        sdk: sdk.map(str::to_owned),
        sent_at_us: Some(millrace_events::parse_rfc3339("2026-01-01T11:00:00Z").unwrap()),
        body: json!({"batch": [event]}).to_string().into(),
        ..Request::default()
    };
    let judged = door.judge(Call::Analytics, request).unwrap();
    assert_eq!(judged.accepted, Accepted { accepted: 1, rejected: 0 }, "{:?}", door.letters());
    assert_eq!(judged.verdicts.into_iter().collect::<Vec<_>>(), [("u".to_owned(), crate::Verdict::Kept)]);
    door.only()
}

#[test]
fn what_the_newer_protocol_has_beside_the_properties_goes_back() {
    let long = "x".repeat(201);
    let event = |more: serde_json::Value| {
        let mut event = json!({"event": "e", "uuid": "u", "distinct_id": "x", "options": {}, "properties": {"a": 1}});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let properties = |more, sdk| {
        let text = personal(&analysed(event(more), sdk)).1;
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    assert_eq!(properties(json!({}), None), json!({"a": 1}));
    assert_eq!(
        properties(json!({"session_id": "s", "window_id": "w"}), Some("posthog-go/1.2")),
        json!({"a": 1, "$lib": "posthog-go", "$lib_version": "1.2", "$session_id": "s", "$window_id": "w"})
    );
    let options =
        json!({"cookieless_mode": true, "product_tour_id": "t", "unknown": 1, "process_person_profile": null});
    assert_eq!(
        properties(json!({"options": options}), None),
        json!({"a": 1, "$cookieless_mode": true, "$product_tour_id": "t"})
    );
    let own = json!({"properties": {"$lib": "own", "$session_id": "own"}, "session_id": "s"});
    assert_eq!(properties(own, Some("x")), json!({"$lib": "own", "$session_id": "own"}), "what is there stays");
    assert_eq!(properties(json!({"properties": null}), Some(" named ")), json!({"$lib": "named"}));
    for none in ["", " ", long.as_str()] {
        assert_eq!(properties(json!({}), Some(none)), json!({"a": 1}));
    }
    assert_eq!(properties(json!({}), Some("a\"b/c\"")), json!({"a": 1, "$lib": "a\"b", "$lib_version": "c\""}));

    let who = |options: serde_json::Value| analysed(event(json!({"options": options})), None).user_id;
    assert_eq!(who(json!({"process_person_profile": false})), "");
    assert_eq!(who(json!({"process_person_profile": true})), "x");
    assert_eq!(who(json!("not an object")), "x");

    let at = |options: serde_json::Value| {
        let event = event(json!({"options": options, "timestamp": "2026-01-01T10:50:00Z"}));
        format_rfc3339(analysed(event, None).event_time_us)
    };
    assert_eq!(at(json!({})), "2026-01-01T11:50:00Z");
    assert_eq!(at(json!({"disable_skew_correction": true})), "2026-01-01T10:50:00Z");
}

#[test]
fn the_newer_protocol_answers_for_each_event() {
    let door = Door::new();
    let events = json!([
        {"event": "e", "uuid": "u-1", "distinct_id": "x"},
        {"event": "e", "uuid": "u-2"},
        {"event": "e", "distinct_id": "x", "properties": {"$insert_id": "i"}},
        {"event": "e", "distinct_id": "x"},
        {"event": "e", "uuid": "u-1", "distinct_id": "x", "properties": []},
        "text",
    ]);
    let body = json!({"api_key": "wk", "batch": events}).to_string();
    let judged = door.judge(Call::Analytics, Request { body: body.into(), ..Request::default() }).unwrap();
    assert_eq!(judged.accepted, Accepted { accepted: 3, rejected: 3 });
    let told: Vec<(String, &str)> = judged
        .verdicts
        .into_iter()
        .map(|(id, verdict)| match verdict {
            crate::Verdict::Kept => (id, "kept"),
            crate::Verdict::Noted(_) => (id, "noted"),
            crate::Verdict::Refused(reason, _) => (id, reason.as_str()),
        })
        .collect();
    let expected =
        [("#3", "kept"), ("#5", "not_an_object"), ("i", "kept"), ("u-1", "wrong_type"), ("u-2", "missing_id")];
    assert_eq!(told, expected.map(|(id, told)| (id.to_owned(), told)));

    let refused = |body: &str| {
        let request = Request { key: Some("wk".to_owned()), body: body.to_owned().into(), ..Request::default() };
        Door::new().judge(Call::Analytics, request).unwrap_err().code
    };
    assert_eq!(refused("[]"), "invalid_batch");
    assert_eq!(refused("{}"), "invalid_batch");
    assert_eq!(refused(r#"{"batch":{}}"#), "invalid_batch");
    assert_eq!(refused(r#"{"batch":[}"#), "invalid_json");
    assert_eq!(refused(&format!(r#"{{"batch":[{}]}}"#, ["{}"; 2_501].join(","))), "too_many_events");
}

#[test]
fn an_event_that_is_too_large_still_names_the_key_of_its_request() {
    let door = Door::new();
    let event = json!({"event": "e", "distinct_id": "x", "token": "wk", "pad": "x".repeat(crate::EVENT_BYTES_MAX)});
    assert_eq!(send(&door, event.to_string()), Ok(Accepted { accepted: 0, rejected: 1 }));
    assert_eq!(door.letters()[0].reason, "event_too_large");
}

#[test]
fn a_bad_event_goes_to_the_dead_letters_and_its_batch_is_kept() {
    let door = Door::new();
    let bad = [
        (r#"{"event":"e"}"#, "missing_id"),
        (r#"{"distinct_id":"x"}"#, "missing_event"),
        (r#"{"event":7,"distinct_id":"x"}"#, "wrong_type"),
        (r#"{"event":"e","distinct_id":"x","properties":[]}"#, "wrong_type"),
        (r#"{"event":"$create_alias","distinct_id":"x"}"#, "missing_id"),
        (r#"{"event":"e","distinct_id":"x","timestamp":"yesterday"}"#, "invalid_timestamp"),
        ("7", "not_an_object"),
    ];
    let events: Vec<_> = bad.iter().map(|(event, _)| *event).chain([LIKED]).collect();
    let body = format!(r#"{{"api_key":"wk","batch":[{}]}}"#, events.join(","));
    assert_eq!(send(&door, body), Ok(Accepted { accepted: 1, rejected: 7 }));
    let reasons: Vec<_> = door.letters().into_iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, bad.map(|(_, reason)| reason));
}

#[test]
fn what_cannot_be_taken_says_why() {
    let refused = |body: &str| send(&Door::new(), body.to_owned()).unwrap_err().code;
    assert_eq!(refused(r#"{"event":"e","distinct_id":"x"}"#), "missing_write_key");
    assert_eq!(refused(r#"{"api_key":"wrong","event":"e","distinct_id":"x"}"#), "invalid_write_key");
    assert_eq!(refused(r#"[{"token":"wk","event":"e"},{"token":"other","event":"e"}]"#), "invalid_write_key");
    assert_eq!(refused("data=%%%"), "invalid_encoding");
    assert_eq!(refused("data="), "empty_body");
    assert_eq!(refused("{"), "invalid_json");
    assert_eq!(refused("7"), "not_an_object");
    assert_eq!(refused(r#"{"api_key":"wk","batch":{}}"#), "not_an_object");
    let many = format!(r#"{{"token":"wk","batch":[{}]}}"#, ["{}"; 2_501].join(","));
    assert_eq!(refused(&many), "too_many_events");
}

proptest! {
    #[test]
    fn nothing_that_is_sent_is_lost_in_silence(body in r#"(data=)?[\[{"}\],:a-z$ 0-9]{0,80}"#) {
        let door = Door::new();
        if let Ok(Accepted { accepted, rejected }) = send(&door, body) {
            prop_assert_eq!(door.envelopes().len(), accepted as usize);
            prop_assert_eq!(door.letters().len(), rejected as usize);
        }
    }
}
