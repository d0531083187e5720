use millrace_events::{Envelope, Kind};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::tests::Door;
use crate::{Accepted, Call, Judged, RefusalKind, Request, Verdict};

const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";
const BATCHED: &str = "application/cloudevents-batch+json";

fn request(content_type: Option<&str>, attributes: &[(&str, &str)], body: impl Into<bytes::Bytes>) -> Request {
    Request {
        key: Some("wk".to_owned()),
        content_type: content_type.map(str::to_owned),
        attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect(),
        body: body.into(),
        ..Request::default()
    }
}

fn send(door: &Door, request: Request) -> Result<Judged, Refusal> {
    door.judge(Call::CloudEvents, request)
}

/// The least that an event is.
fn event() -> Value {
    json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "Order Paid", "userid": "ann"})
}

fn with(name: &str, value: Value) -> Value {
    let mut event = event();
    event[name] = value;
    event
}

const LEAST: [(&str, &str); 5] =
    [("specversion", "1.0"), ("id", "1"), ("source", "/shop"), ("type", "Order Paid"), ("userid", "ann")];

/// What an event comes to that is accepted.
#[track_caller]
fn accepted(request: Request) -> Envelope {
    let door = Door::new();
    let judged = send(&door, request).unwrap();
    assert_eq!(judged.accepted, Accepted { accepted: 1, rejected: 0 }, "{:?}", door.letters());
    door.only()
}

#[track_caller]
fn structured(event: &Value) -> Envelope {
    accepted(request(Some(STRUCTURED), &[], event.to_string()))
}

fn properties(envelope: &Envelope) -> Value {
    let text = &envelope.personal.as_ref().unwrap().properties;
    if text.is_empty() { Value::Null } else { serde_json::from_slice(text).unwrap() }
}

fn context(envelope: &Envelope) -> Value {
    serde_json::from_slice(&envelope.personal.as_ref().unwrap().context).unwrap()
}

/// An event that is refused for `reason`, and kept as it was.
#[track_caller]
fn refused(event: &Value, reason: Reason) {
    let door = Door::new();
    let judged = send(&door, request(Some(STRUCTURED), &[], event.to_string())).unwrap();
    assert_eq!(judged.accepted, Accepted { accepted: 0, rejected: 1 }, "{event}");
    let verdict = judged.verdicts.into_values().next().unwrap();
    assert!(matches!(verdict, Verdict::Refused(why, _) if why == reason), "{event}: {verdict:?}");
    let letter = door.letters().remove(0);
    assert_eq!((letter.reason.as_str(), letter.door.as_str()), (reason.as_str(), "cloudevents"));
    assert_eq!(serde_json::from_slice::<Value>(&letter.payload).unwrap(), *event);
}

/// A request that is refused whole.
#[track_caller]
fn turned_away(request: Request, kind: RefusalKind, code: &str) {
    let door = Door::new();
    let refusal = send(&door, request).unwrap_err();
    assert_eq!((refusal.kind, refusal.code), (kind, code), "{}", refusal.message);
    assert!(door.envelopes().is_empty() && door.letters().is_empty());
}

#[test]
fn the_mode_is_found_in_the_order_of_the_specification() {
    let check = |content_type: Option<&str>, has_attributes, expected: Option<Mode>| {
        assert_eq!(Mode::of(content_type, has_attributes).ok(), expected, "{content_type:?}");
    };
    for both in [false, true] {
        check(Some(BATCHED), both, Some(Mode::Batched));
        check(Some("Application/CloudEvents-Batch+JSON ; charset=UTF-8"), both, Some(Mode::Batched));
        check(Some(STRUCTURED), both, Some(Mode::Structured));
        check(Some(" APPLICATION/cloudevents+Json"), both, Some(Mode::Structured));
        for unknown in ["+avro", "", "+xml", "-batch", "-batch+protobuf", "x+json"] {
            check(Some(&format!("application/cloudevents{unknown}")), both, None);
        }
    }
    for other in [None, Some("application/json"), Some(""), Some("application/cloudevent"), Some("é")] {
        check(other, true, Some(Mode::Binary));
        check(other, false, None);
    }
}

#[test]
fn every_attribute_has_its_place() {
    let event = json!({
        "specversion": "1.0", "id": "A-1", "source": "https://shop.example/orders#2", "type": "com.example.Order.Paid",
        "subject": "order/7", "time": "2026-01-01T11:00:00.5Z", "datacontenttype": "application/json",
        "dataschema": "https://shop.example/schema", "userid": "ann", "anonymousid": "dev-1", "traceparent": "00-1",
        "sampled": true, "n": 3, "nothing": null, "data": {"total": 12.50}
    });
    let envelope = structured(&event);
    assert_eq!(envelope.kind(), Kind::Track);
    assert_eq!(envelope.event, "com_example_order_paid");
    assert_eq!((&envelope.message_id[..], envelope.minted_id), ("https://shop.example/orders#2 A-1", false));
    assert_eq!((&envelope.user_id[..], &envelope.anonymous_id[..]), ("ann", "dev-1"));
    assert_eq!(millrace_events::format_rfc3339(envelope.event_time_us), "2026-01-01T11:00:00.5Z");
    assert_eq!(properties(&envelope), json!({"total": 12.50}));
    assert_eq!(
        context(&envelope),
        json!({
            "id": "A-1", "source": "https://shop.example/orders#2", "subject": "order/7", "traceparent": "00-1",
            "datacontenttype": "application/json", "dataschema": "https://shop.example/schema", "sampled": true, "n": 3
        })
    );
}

#[test]
fn who_did_it_stands_in_an_extension_or_in_the_data() {
    let who = |event: &Value| {
        let envelope = structured(event);
        (envelope.user_id, envelope.anonymous_id)
    };
    let ids = |user: &str, anonymous: &str| (user.to_owned(), anonymous.to_owned());
    assert_eq!(who(&event()), ids("ann", ""));
    assert_eq!(who(&with("userid", json!(7))), ids("7", ""));
    assert_eq!(who(&with("data", json!({"userId": "bob", "anonymousId": "x"}))), ids("ann", "x"));
    let mut from_data = with("data", json!({"userId": "bob"}));
    from_data.as_object_mut().unwrap().remove("userid");
    assert_eq!(who(&from_data), ids("bob", ""));
    let mut nobody = event();
    nobody.as_object_mut().unwrap().remove("userid");
    refused(&nobody, Reason::MissingId);
    refused(&with("userid", json!(true)), Reason::WrongType);
}

#[test]
fn data_become_properties() {
    let of = |data: Value| properties(&structured(&with("data", data)));
    assert_eq!(of(json!({"a": {"b": [1]}})), json!({"a": {"b": [1]}}));
    assert_eq!(of(json!({})), json!({}));
    assert_eq!(of(json!("text")), json!({"data": "text"}));
    assert_eq!(of(json!([1, 2])), json!({"data": [1, 2]}));
    assert_eq!(of(json!(7)), json!({"data": 7}));
    assert_eq!(of(json!(null)), Value::Null);

    let packed = |content_type: Option<&str>, data: &[u8]| {
        let mut event = with("data_base64", json!(STANDARD.encode(data)));
        event["datacontenttype"] = json!(content_type);
        properties(&structured(&event))
    };
    let object = br#" {"userId":"bob","total":1} "#;
    assert_eq!(packed(None, object), json!({"userId": "bob", "total": 1}));
    assert_eq!(packed(Some("application/vnd.shop+json"), object), json!({"userId": "bob", "total": 1}));
    assert_eq!(packed(Some("application/octet-stream"), object), json!({"data_base64": STANDARD.encode(object)}));
    for other in [&b"\xff\xfe"[..], b"{", b"[1]", b""] {
        assert_eq!(packed(None, other), json!({"data_base64": STANDARD.encode(other)}));
    }
}

#[test]
fn the_subject_is_what_a_known_action_is_about() {
    let liked = |data: Value| {
        let mut event = with("type", json!("post_liked"));
        event["subject"] = json!("p-1");
        event["data"] = data;
        structured(&event).action.unwrap().post_id
    };
    assert_eq!(liked(json!({})), "p-1");
    assert_eq!(liked(json!(null)), "p-1");
    assert_eq!(liked(json!({"position": 2})), "p-1");
    assert_eq!(liked(json!({"post_id": "p-2"})), "p-2");
    assert_eq!(liked(json!({"postId": "p-3"})), "p-3");
    let mut followed = with("type", json!("tag_followed"));
    followed["subject"] = json!("rust");
    assert_eq!(structured(&followed).action.unwrap().tag, "rust");
    refused(&with("type", json!("post_liked")), Reason::MissingProperty);
    assert_eq!(properties(&structured(&with("subject", json!("order/7")))), Value::Null, "of a custom event nothing");
}

#[test]
fn a_message_id_carries_source_and_id() {
    let id = |source: &str, id: &str| message_id(source, id);
    assert_eq!(id("/a", "1"), "/a 1");
    let long = "x".repeat(200);
    // Whatever looks alike when put together.
    let pairs = [
        ("/a", "b c"),
        ("/a b", "c"),
        ("/a%20b", "c"),
        ("a", "bc"),
        ("ab", "c"),
        (&long, "1"),
        (&long, "11"),
        ("x", &long),
    ];
    let ids: std::collections::HashSet<String> = pairs.iter().map(|(source, of)| id(source, of)).collect();
    assert_eq!(ids.len(), pairs.len(), "{ids:?}");
    for made in ids {
        assert!(millrace_events::check_id(&made).is_ok(), "{made}");
    }
    let fits = |n: usize| id("/a", &"x".repeat(n)).starts_with("/a ");
    assert!(fits(ID_BYTES_MAX - 3) && !fits(ID_BYTES_MAX - 2));
}

#[test]
fn what_is_no_cloud_event_is_refused_and_kept() {
    for name in ["id", "source", "type", "specversion"] {
        for (value, reason) in [
            (Value::Null, Reason::MissingAttribute),
            (json!(""), Reason::InvalidAttribute),
            (json!(7), Reason::InvalidAttribute),
            (json!({}), Reason::InvalidAttribute),
        ] {
            refused(&with(name, value), reason);
        }
    }
    refused(&with("specversion", json!("0.3")), Reason::InvalidAttribute);
    refused(&with("time", json!("yesterday")), Reason::InvalidTimestamp);
    refused(&with("time", json!(1_767_225_600)), Reason::InvalidTimestamp);
    refused(&with("type", json!("!?")), Reason::InvalidEvent);
    refused(&with("type", json!("x".repeat(201))), Reason::InvalidEvent);
    refused(&with("userid", json!("x".repeat(201))), Reason::InvalidId);
    refused(&with("id", json!("a\nb")), Reason::InvalidId);
    refused(&with("data_base64", json!("***")), Reason::InvalidAttribute);
    refused(&with("data_base64", json!(7)), Reason::InvalidAttribute);
    let mut both = with("data", json!(1));
    both["data_base64"] = json!("AAA=");
    refused(&both, Reason::InvalidAttribute);
    let deep = |n: usize| serde_json::from_str::<Value>(&format!("{}{}", "[".repeat(n), "]".repeat(n))).unwrap();
    refused(&with("data", deep(32)), Reason::TooDeep);
    structured(&with("data", deep(31)));
    let packed = |n: usize| with("data_base64", json!(STANDARD.encode(json!({"a": deep(n)}).to_string())));
    refused(&packed(31), Reason::TooDeep);
    structured(&packed(30));
}

#[test]
fn a_request_that_cannot_be_read_is_turned_away() {
    use RefusalKind::{Malformed, TooLarge, Unauthorized, Unsupported};
    let ask = |content_type: &str, body: &str| request(Some(content_type), &[], body.to_owned());
    turned_away(ask("application/json", "{}"), Unsupported, "unsupported_media_type");
    turned_away(ask("application/cloudevents+avro", "{}"), Unsupported, "unsupported_media_type");
    turned_away(ask(STRUCTURED, ""), Malformed, "empty_body");
    turned_away(ask(STRUCTURED, "{"), Malformed, "invalid_json");
    turned_away(ask(STRUCTURED, "[]"), Malformed, "not_an_object");
    turned_away(ask(STRUCTURED, &event().to_string().repeat(2)), Malformed, "invalid_json");
    turned_away(ask(BATCHED, "{}"), Malformed, "invalid_batch");
    turned_away(ask(BATCHED, "[{]"), Malformed, "invalid_json");
    turned_away(ask(BATCHED, ""), Malformed, "empty_body");
    turned_away(ask(BATCHED, &format!("[{}]", ["1"; 2_501].join(","))), TooLarge, "too_many_events");
    turned_away(ask(STRUCTURED, &" ".repeat(crate::EVENT_BYTES_MAX + 1)), TooLarge, "event_too_large");
    turned_away(request(Some("application/json"), &LEAST, "{"), Malformed, "invalid_json");
    turned_away(request(Some("application/json"), &LEAST, " [1,"), Malformed, "invalid_json");
    turned_away(request(None, &[("id", "%ff")], ""), Malformed, "invalid_attribute");
    let no_key = Request { key: None, ..ask(STRUCTURED, &event().to_string()) };
    turned_away(no_key, Unauthorized, "missing_write_key");
    let bearer = |key: &str| Request {
        key: None,
        authorization: Some(format!("Bearer {key}")),
        ..ask(STRUCTURED, &event().to_string())
    };
    turned_away(bearer("other"), Unauthorized, "invalid_write_key");
    accepted(bearer("wk"));
}

#[test]
fn a_batch_keeps_what_is_good() {
    let door = Door::new();
    let batch = |events: &[Value]| request(Some(BATCHED), &[], Value::from(events.to_vec()).to_string());
    let judged = send(&door, batch(&[event(), json!(7), with("id", Value::Null), with("id", json!("2"))])).unwrap();
    assert_eq!(judged.accepted, Accepted { accepted: 2, rejected: 2 });
    assert!(judged.verdicts.is_empty());
    let reasons: Vec<_> = door.letters().into_iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, ["not_an_object", "missing_attribute"]);
    assert_eq!(send(&Door::new(), batch(&[])).unwrap().accepted, Accepted { accepted: 0, rejected: 0 });
}

#[test]
fn headers_and_a_body_are_the_same_event() {
    let data = json!({"total": 1});
    let mut whole = with("data", data.clone());
    whole["datacontenttype"] = json!("application/json");
    let binary = |content_type: Option<&str>, more: &[(&str, &str)], body: &[u8]| {
        accepted(request(content_type, &[&LEAST[..], more].concat(), body.to_vec()))
    };
    let json_body = data.to_string();
    let same = |envelope: Envelope| (context(&envelope), Envelope { personal: None, ..envelope });
    let sent = binary(Some("application/json"), &[], json_body.as_bytes());
    assert_eq!(properties(&sent), data);
    assert_eq!(same(sent), same(structured(&whole)));

    let of = |content_type, body: &[u8]| properties(&binary(content_type, &[], body));
    assert_eq!(of(Some("application/json"), b" {\"a\":1} "), json!({"a": 1}));
    assert_eq!(of(Some("application/vnd.x+JSON; charset=utf-8"), b"[1]"), json!({"data": [1]}));
    assert_eq!(of(None, b"{\"a\":1}"), json!({"a": 1}));
    assert_eq!(of(None, b"plain"), json!({"data_base64": STANDARD.encode("plain")}));
    assert_eq!(of(None, b"{"), json!({"data_base64": "ew=="}));
    assert_eq!(of(Some("application/json"), b"a text\n"), json!({"data": "a text\n"}), "as JavaScript sends texts");
    assert_eq!(of(Some("application/json"), &[1, 2, 3]), json!({"data_base64": "AQID"}), "and bytes");
    assert_eq!(of(Some("application/json"), b"\"\xff\""), json!({"data_base64": "Iv8i"}));
    assert_eq!(of(Some("text/plain"), b"a \"b\""), json!({"data": "a \"b\""}));
    assert_eq!(of(Some("application/xml"), b"<a/>"), json!({"data": "<a/>"}));
    assert_eq!(of(Some("text/plain"), b"\xff"), json!({"data_base64": "/w=="}));
    assert_eq!(of(Some("application/octet-stream"), b"{}"), json!({"data_base64": "e30="}));
    assert_eq!(of(Some("application/gzip"), b"\x1f\x8bx"), json!({"data_base64": "H4t4"}), "data are not unpacked");
    assert_eq!(of(Some("application/json"), b""), Value::Null);

    let context_of = |more: &[(&str, &str)]| context(&binary(None, more, b""));
    let value = |sent: &str| context_of(&[("extension", sent)])["extension"].clone();
    assert_eq!(value("Euro%20%E2%82%AC%20%F0%9F%98%80"), "Euro € 😀");
    assert_eq!(value("%2525"), "%25", "decoded once");
    assert_eq!(value("100%"), "100%");
    assert_eq!(value("\"a \\\"b\\\"\""), "a \"b\"");
    assert_eq!(value("ü"), "ü");
    assert_eq!(value("a\",\"userid\":\"eve"), "a\",\"userid\":\"eve", "a header cannot add a member");
    let ignored =
        context_of(&[("data", "1"), ("datacontenttype", "x/y"), ("some-header", "1"), ("", "1"), ("a\"b", "1")]);
    assert_eq!(ignored, json!({"id": "1", "source": "/shop"}));
    assert_eq!(context_of(&[("id", "2")])["id"], "2", "the last of two counts");
}

#[test]
fn a_binary_event_is_kept_as_one_that_can_be_sent_again() {
    let door = Door::new();
    let attributes: Vec<_> = LEAST.into_iter().filter(|(name, _)| *name != "userid").collect();
    send(&door, request(Some("application/json"), &attributes, r#"{"total":1}"#)).unwrap();
    let letter = door.letters().remove(0);
    let kept: Value = serde_json::from_slice(&letter.payload).unwrap();
    assert_eq!(kept["data"], json!({"total": 1}));
    let mut cured = kept;
    cured["userid"] = json!("ann");
    assert_eq!(structured(&cured).user_id, "ann");
}

proptest! {
    #[test]
    fn whatever_headers_say_is_one_event_or_a_refusal(
        attributes in prop::collection::vec(("[a-z0-9\"_-]{0,8}|id|source|type|specversion|time|userid", prop::collection::vec(any::<u8>(), 0..12)), 1..8),
        content_type in prop::option::of("[a-z/+;=-]{0,30}|application/json|text/plain"),
        body in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let door = Door::new();
        let attributes = attributes.into_iter().collect();
        let asked = Request { key: Some("wk".to_owned()), content_type, attributes, body: body.into(), ..Request::default() };
        match send(&door, asked) {
            Ok(Judged { accepted, .. }) => {
                prop_assert_eq!(accepted.accepted + accepted.rejected, 1);
                for letter in door.letters() {
                    prop_assert!(serde_json::from_slice::<Value>(&letter.payload).unwrap().is_object());
                }
            }
            Err(refusal) => prop_assert!(matches!(refusal.kind, RefusalKind::Malformed), "{}", refusal),
        }
    }

    #[test]
    fn whatever_an_event_says_is_answered(body in r#"[\[{"}\],:a-z0-9.]{0,60}"#, batched in any::<bool>()) {
        let door = Door::new();
        let content_type = if batched { BATCHED } else { STRUCTURED };
        if let Ok(judged) = send(&door, request(Some(content_type), &[], body)) {
            prop_assert_eq!(door.envelopes().len(), judged.accepted.accepted as usize);
            prop_assert_eq!(door.letters().len(), judged.accepted.rejected as usize);
        }
    }

    #[test]
    fn no_two_events_share_a_message_id(one in ("[a b%20]{1,6}", "[a b%20]{1,6}"), other in ("[a b%20]{1,6}", "[a b%20]{1,6}")) {
        prop_assert_eq!(one == other, message_id(&one.0, &one.1) == message_id(&other.0, &other.1));
    }
}
