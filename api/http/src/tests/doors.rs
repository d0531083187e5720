use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use futures::stream;
use millrace_collector::Call;
use millrace_events::{DeadLetter, Envelope, Topic, TopicPartition, decode};
use serde_json::{Value, json};

use super::harness::{Answer, BODY_BYTES_MAX, Harness};
use crate::ingest::{DOORS, path_of};

/// Posts with these headers, of which none is a key unless it stands there.
async fn post(harness: &Harness, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let request = headers.iter().fold(Request::post(path), |request, (name, value)| request.header(*name, *value));
    harness.send(request.body(body.into()).unwrap()).await
}

fn letters(harness: &Harness) -> Vec<DeadLetter> {
    let records = harness.log.records(TopicPartition::new(Topic::DeadLetters, 0));
    records.into_iter().map(|record| decode("a dead letter", record.value).unwrap()).collect()
}

fn envelopes(harness: &Harness) -> Vec<Envelope> {
    let records = (0..2).flat_map(|p| harness.log.records(TopicPartition::new(Topic::Actions, p)));
    records.map(|record| decode("an envelope", record.value).unwrap()).collect()
}

const BEARER: (&str, &str) = ("authorization", "Bearer wk");
const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json; charset=utf-8");
const BATCHED: (&str, &str) = ("content-type", "application/cloudevents-batch+json");

#[test]
fn every_call_has_a_path_that_leads_to_it() {
    for call in Call::ALL {
        let path = path_of(call);
        assert!(DOORS.iter().any(|(known, door)| *known == path && door.call() == Some(call)), "{path}");
    }
}

#[tokio::test]
async fn our_own_batch_says_what_became_of_each_event() {
    let harness = Harness::new();
    let batch = json!({"batch": [
        {"type": "track", "event": "a", "userId": "ann", "messageId": "m-1"},
        {"type": "track", "userId": "ann", "messageId": "m-2"},
        {"type": "track", "event": "a", "userId": "ann"},
        7,
        {"type": "track", "event": "a", "userId": "ann", "messageId": "m-1"},
    ], "context": {"app": "x"}, "sentAt": "2026-01-01T00:00:00Z"});
    let answer = post(&harness, "/v1/events", &[BEARER], batch.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-millrace-rejected")), (200, "2"));
    let results = answer.json()["results"].clone();
    assert_eq!(results["#2"], json!({"result": "ok"}));
    assert_eq!(results["m-1"]["result"], "warning");
    assert_eq!(results["m-2"], json!({"result": "drop", "code": "missing_event", "details": "track needs event"}));
    assert_eq!(results["#3"]["code"], "not_an_object");
    assert_eq!(results.as_object().unwrap().len(), 4);
    assert_eq!(letters(&harness).iter().map(|letter| letter.door.as_str()).collect::<Vec<_>>(), ["events"; 2]);
    assert_eq!(harness.records(Topic::Actions), 3);
}

#[tokio::test]
async fn our_own_batch_takes_a_key_in_a_header_or_in_the_body() {
    let harness = Harness::new();
    let empty = r#"{"batch":[]}"#;
    for (headers, body) in [
        (&[BEARER][..], empty),
        (&[("authorization", "bearer  wk ")], empty),
        (&[("authorization", "Basic d2s6")], empty),
        (&[], r#"{"batch":[],"writeKey":"wk"}"#),
    ] {
        let answer = post(&harness, "/v1/events/", headers, body).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, r#"{"results":{}}"#), "{headers:?}");
    }
    post(&harness, "/v1/events", &[], empty).await.check_problem(401, "missing_write_key");
    post(&harness, "/v1/events", &[("authorization", "Bearer other")], empty)
        .await
        .check_problem(401, "invalid_write_key");
    post(&harness, "/v1/events", &[BEARER], "[]").await.check_problem(400, "invalid_batch");
    post(&harness, "/v1/events", &[BEARER], vec![b' '; BODY_BYTES_MAX + 1]).await.check_problem(413, "body_too_large");
}

#[tokio::test]
async fn what_the_log_cannot_take_is_sent_again_whole() {
    let harness = Harness::new();
    let event = json!({"batch": [{"type": "track", "event": "a", "userId": "ann", "messageId": "m", "uuid": "m", "distinct_id": "ann"}]});
    for path in ["/v1/events", "/i/v1/analytics/events"] {
        harness.log.fail_next(1);
        post(&harness, path, &[BEARER], event.to_string()).await.check_problem(503, "unavailable");
        let answer = post(&harness, path, &[BEARER], event.to_string()).await;
        assert_eq!(answer.json()["results"], json!({"m": {"result": "ok"}}), "{path}");
    }
}

/// As posthog-python sends in its newer mode.
#[tokio::test]
async fn the_newer_protocol_of_posthog_is_answered_event_by_event() {
    let harness = Harness::new();
    let headers = [
        BEARER,
        ("content-type", "application/json"),
        ("posthog-sdk-info", "posthog-python/7.91.1"),
        ("posthog-attempt", "1"),
        ("posthog-request-id", "5b1c"),
        ("posthog-request-timestamp", "2025-12-31T23:00:00+00:00"),
    ];
    let event = |uuid: &str, name: &str| {
        json!({"event": name, "uuid": uuid, "distinct_id": "ann", "timestamp": "2025-12-31T22:59:00+00:00",
            "options": {"process_person_profile": true}, "properties": {"$set": {"plan": "free"}}, "session_id": "s-1"})
    };
    let batch = json!({"created_at": "2025-12-31T23:00:00+00:00", "batch": [event("u-1", "Paid"), event("u-2", "")]});
    let answer = post(&harness, "/i/v1/analytics/events", &headers, batch.to_string()).await;
    assert_eq!(answer.status, 200);
    let results = answer.json()["results"].clone();
    assert_eq!((&results["u-1"], &results["u-2"]["result"]), (&json!({"result": "ok"}), &json!("drop")));
    let envelope = envelopes(&harness).remove(0);
    assert_eq!((&envelope.message_id[..], &envelope.user_id[..], &envelope.event[..]), ("u-1", "ann", "paid"));
    // A minute before it was sent by a clock that is an hour behind.
    assert_eq!(millrace_events::format_rfc3339(envelope.event_time_us), "2025-12-31T23:59:00Z");
    let properties: Value = serde_json::from_slice(&envelope.personal.unwrap().properties).unwrap();
    assert_eq!(
        properties,
        json!({"$set": {"plan": "free"}, "$lib": "posthog-python", "$lib_version": "7.91.1", "$session_id": "s-1",
            "$process_person_profile": true})
    );
    assert_eq!(letters(&harness)[0].door, "analytics");
    post(&harness, "/i/v1/analytics/events", &headers, "{}").await.check_problem(400, "invalid_batch");
    let answer = post(&harness, "/i/v1/analytics/events", &headers[1..], batch.to_string()).await;
    answer.check_problem(401, "missing_write_key");
}

#[tokio::test]
async fn a_cloud_event_is_taken_in_each_of_its_modes() {
    let harness = Harness::new();
    let event = json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "paid", "userid": "ann",
        "data": {"total": 1}});
    // As the SDK for JavaScript sends: in pieces, without a length.
    let text = event.to_string();
    let pieces: Vec<_> =
        text.as_bytes().chunks(9).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    let chunked = Body::from_stream(stream::iter(pieces));
    let answer = post(&harness, "/v1/cloudevents?write_key=wk", &[STRUCTURED], chunked).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, r#"{"success":true}"#));
    let list = json!([event, event]).to_string();
    assert_eq!(post(&harness, "/cloudevents", &[BEARER, BATCHED], list).await.status, 200);
    let attributes = [
        BEARER,
        ("Content-Type", "application/json; charset=utf-8"),
        ("CE-SpecVersion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/shop"),
        ("ce-type", "paid"),
        ("ce-userid", "%61nn"),
    ];
    assert_eq!(post(&harness, "/v1/cloudevents/", &attributes, r#"{"total":1}"#).await.status, 200);
    let envelopes = envelopes(&harness);
    assert_eq!(envelopes.len(), 4);
    for envelope in envelopes {
        assert_eq!((&envelope.message_id[..], &envelope.user_id[..], &envelope.event[..]), ("/shop 1", "ann", "paid"));
        assert_eq!(envelope.personal.unwrap().properties, r#"{"total":1}"#);
    }
}

#[tokio::test]
async fn what_is_no_cloud_event_says_why() {
    let harness = Harness::new();
    let path = "/v1/cloudevents";
    let plain = ("content-type", "application/json");
    post(&harness, path, &[BEARER, plain], "{}").await.check_problem(415, "unsupported_media_type");
    let avro = ("content-type", "application/cloudevents+avro");
    post(&harness, path, &[BEARER, avro], "{}").await.check_problem(415, "unsupported_media_type");
    post(&harness, path, &[BEARER, STRUCTURED], "{").await.check_problem(400, "invalid_json");
    post(&harness, path, &[BEARER, STRUCTURED], "{}").await.check_problem(400, "missing_attribute");
    post(&harness, path, &[BEARER, plain, ("ce-id", "1")], "{}").await.check_problem(400, "missing_attribute");
    post(&harness, path, &[BEARER, STRUCTURED], vec![b' '; 40_000]).await.check_problem(413, "event_too_large");
    post(&harness, path, &[STRUCTURED], "{}").await.check_problem(401, "missing_write_key");
    let doors: Vec<String> = letters(&harness).into_iter().map(|letter| letter.door).collect();
    assert_eq!(doors, ["cloudevents"; 2], "an event that could be read is kept");

    let answer = post(&harness, path, &[BEARER, BATCHED], "[]").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-millrace-rejected")), (200, ""));
    let answer = post(&harness, path, &[BEARER, BATCHED], "[{},7]").await;
    assert_eq!((answer.status.as_u16(), answer.header("x-millrace-rejected")), (200, "2"));
    harness.log.fail_next(1);
    post(&harness, path, &[BEARER, BATCHED], "[{}]").await.check_problem(503, "unavailable");
    let answer = harness.get(path).await;
    answer.check_problem(405, "method_not_allowed");
}

#[tokio::test]
async fn who_delivers_cloud_events_may_ask_first() {
    let harness = Harness::new();
    let ask = |headers: &[(&str, &str)]| {
        let request =
            headers.iter().fold(Request::options("/v1/cloudevents"), |r, (name, value)| r.header(*name, *value));
        request.body(Body::empty()).unwrap()
    };
    let answer =
        harness.send(ask(&[("webhook-request-origin", "sender.example"), ("webhook-request-rate", "120")])).await;
    assert_eq!(answer.status, 204);
    assert_eq!((answer.header("webhook-allowed-origin"), answer.header("webhook-allowed-rate")), ("*", "*"));
    assert_eq!(answer.header("allow"), "POST, OPTIONS");
    let browser = harness.send(ask(&[("origin", "https://shop.example")])).await;
    assert_eq!((browser.status.as_u16(), browser.header("webhook-allowed-origin")), (204, ""));
    assert_eq!(browser.header("access-control-allow-origin"), "https://shop.example");
}

#[tokio::test]
async fn without_keys_a_cloud_event_needs_none() {
    let harness = Harness::for_anybody();
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"paid","userid":"ann"}"#;
    assert_eq!(post(&harness, "/v1/cloudevents", &[STRUCTURED], event).await.status, 200);
    assert_eq!(
        post(&harness, "/v1/cloudevents", &[STRUCTURED, ("authorization", "Bearer any")], event).await.status,
        200
    );
    assert!(envelopes(&harness).iter().all(|envelope| envelope.source == millrace_collector::DEV_SOURCE));
    let track = post(&harness, "/v1/track", &[], r#"{"event":"a","userId":"ann"}"#).await;
    track.check_problem(401, "missing_write_key");
}

#[tokio::test]
async fn analytics_js_is_told_to_come_back_here() {
    let harness = Harness::new();
    let ask = |path: &str, headers: &[(&str, &str)]| {
        let request = headers.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
        request.body(Body::empty()).unwrap()
    };
    let path = "/v1/projects/wk/settings";
    let page = ("origin", "https://shop.example");
    let answer = harness.send(ask(path, &[("host", "events.example:8080"), page])).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example");
    assert_eq!(answer.header("cache-control"), "private, max-age=60");
    let settings = answer.json();
    let segment = &settings["integrations"]["Segment.io"];
    assert_eq!((&segment["apiKey"], &segment["apiHost"]), (&json!("wk"), &json!("events.example:8080/v1")));
    assert_eq!(segment["protocol"], "http");
    assert_eq!(settings["integrations"].as_object().unwrap().len(), 1, "a second one would be loaded from elsewhere");

    let behind = [("host", "events.example"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "evil.example")];
    let answer = harness.send(ask("/v1/projects/%77k/settings/", &behind)).await;
    let segment = &answer.json()["integrations"]["Segment.io"];
    assert_eq!((&segment["apiHost"], &segment["protocol"]), (&json!("events.example/v1"), &json!("https")));

    for unknown in ["/v1/projects/other/settings", "/v1/projects/%ff/settings"] {
        let answer = harness.send(ask(unknown, &[("host", "a"), page])).await;
        answer.check_problem(404, "unknown_write_key");
        assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example");
    }
    harness.send(ask(path, &[])).await.check_problem(400, "invalid_host");
    harness.send(ask(path, &[("host", "evil.example/x")])).await.check_problem(400, "invalid_host");
    let posted = Request::post(path).body(Body::empty()).unwrap();
    let answer = harness.send(posted).await;
    answer.check_problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "GET, OPTIONS");
    let asked = Request::options(path).header("origin", "https://shop.example").body(Body::empty()).unwrap();
    assert_eq!(harness.send(asked).await.status, 204);
    let dev = Harness::for_anybody().send(ask("/v1/projects/anything/settings", &[("host", "127.0.0.1:1")])).await;
    assert_eq!(dev.json()["integrations"]["Segment.io"]["apiKey"], "anything");
}

#[tokio::test]
async fn posthog_in_a_browser_is_told_what_it_may_do() {
    let harness = Harness::new();
    let ask = |path: &str| Request::get(path).header("origin", "https://shop.example").body(Body::empty()).unwrap();
    let answer = harness.send(ask("/array/wk/config?ip=0&_=1767225600000&ver=1.435.0")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example");
    let config = answer.json();
    assert_eq!((&config["autocapture_opt_out"], &config["hasFeatureFlags"]), (&json!(false), &json!(false)));
    assert_eq!(config["supportedCompression"], json!(["gzip", "gzip-js"]));
    assert!(config.get("surveys").is_none(), "posthog-js 1.449 fetches a script when it is told of none");
    let answer = harness.send(ask("/array/%77k/config.js")).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "text/javascript"));
    let script =
        answer.body.strip_prefix("window._POSTHOG_REMOTE_CONFIG = Object.assign(window._POSTHOG_REMOTE_CONFIG || {}, ");
    let left: serde_json::Value = serde_json::from_str(script.unwrap().trim_end().strip_suffix(')').unwrap()).unwrap();
    assert_eq!(left["wk"]["config"], config);
    for unknown in ["/array/other/config", "/array/other/config.js"] {
        harness.send(ask(unknown)).await.check_problem(404, "unknown_write_key");
    }
    let posted = Request::post("/array/wk/config").body(Body::empty()).unwrap();
    harness.send(posted).await.check_problem(405, "method_not_allowed");
}

#[tokio::test]
async fn posthog_may_send_in_the_query() {
    let harness = Harness::new();
    let event = r#"{"event":"paid","distinct_id":"ann","uuid":"u","properties":{}}"#;
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, event);
    let escaped = "%7B%22event%22%3A%22paid%22%2C%22distinct_id%22%3A%22ann%22%2C%22uuid%22%3A%22u%22%7D";
    for path in [
        format!("/e/?data={}&token=wk&ver=1", base64.replace('=', "%3D").replace('+', "%2B")),
        format!("/capture?ip=1&compression=base64&api_key=wk&data={base64}"),
        format!("/i/v0/e/?_=1767225600000&token=wk&data={escaped}"),
    ] {
        let answer = harness.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, r#"{"status":1}"#), "{path}");
    }
    let envelopes = envelopes(&harness);
    assert_eq!(envelopes.len(), 3);
    assert!(envelopes.iter().all(|e| (&e.event[..], &e.user_id[..], &e.message_id[..]) == ("paid", "ann", "u")));

    harness.get(&format!("/e?data={base64}")).await.check_problem(401, "missing_write_key");
    harness.get(&format!("/e?data={base64}&token=other")).await.check_problem(401, "invalid_write_key");
    harness.get("/e?token=wk").await.check_problem(400, "empty_body");
    harness.get("/e?token=wk&data=***").await.check_problem(400, "invalid_encoding");
    assert_eq!(harness.get("/s/?token=wk").await.status, 200);
    let answer = post(&harness, "/e?token=wk", &[], event).await;
    assert_eq!(answer.status, 200, "a key may stand in the query of a POST, too");
    let answer = harness.send(Request::put("/e").body(Body::empty()).unwrap()).await;
    answer.check_problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "GET, POST, OPTIONS");
}
