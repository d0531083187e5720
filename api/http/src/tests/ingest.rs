use std::io::Write as _;

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use futures::stream;
use millrace_events::Topic;

use super::harness::{Answer, BODY_BYTES_MAX, Harness};
use crate::ingest::DOORS;

const EVENT: &str =
    r#"{"event":"Post Liked","userId":"ann","previousId":"a","groupId":"g","properties":{"post_id":"p"}}"#;

/// What posthog-python sends.
const CAPTURED: &str = r#"{"api_key":"wk","batch":[{"event":"post_liked","distinct_id":"ann","uuid":"018f","properties":{"post_id":"p"}}]}"#;

const CLOUD_EVENT: &str =
    r#"{"specversion":"1.0","id":"1","source":"/s","type":"post_liked","userid":"ann","data":{"post_id":"p"}}"#;

#[tokio::test]
async fn every_door_answers_exactly_the_same_with_and_without_a_slash() {
    let harness = Harness::new();
    let mut taken = 0;
    for (door, _) in DOORS {
        for path in [(*door).to_owned(), format!("{door}/"), format!("{door}?x=1")] {
            let batch = format!(r#"{{"batch":[{EVENT}]}}"#).replace(r#"{"event""#, r#"{"type":"track","event""#);
            let (body, success) = match *door {
                "/v1/batch" | "/v1/b" | "/v1/import" => (batch, r#"{"success":true}"#),
                "/v1/events" => (batch, r##"{"results":{"#0":{"result":"ok"}}}"##),
                "/i/v1/analytics/events" => (CAPTURED.to_owned(), r#"{"results":{"018f":{"result":"ok"}}}"#),
                "/v1/cloudevents" | "/cloudevents" => (CLOUD_EVENT.to_owned(), r#"{"success":true}"#),
                door if door.starts_with("/v1/") => (EVENT.to_owned(), r#"{"success":true}"#),
                _ => (CAPTURED.to_owned(), r#"{"status":1}"#),
            };
            let request = Request::post(&path).header("authorization", "Basic d2s6");
            let request = request.header("content-type", "application/cloudevents+json");
            let answer = harness.send(request.body(Body::from(body)).unwrap()).await;
            assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, success), "{path}");
            assert_eq!(answer.header("content-type"), "application/json");
            taken += usize::from(!matches!(*door, "/v1/m" | "/s"));
        }
    }
    assert_eq!(harness.records(Topic::Actions), taken);
}

#[tokio::test]
async fn what_real_clients_send_is_taken() {
    let harness = Harness::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(EVENT.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    // The browser: text, the key in the body. RudderStack's Node SDK: gzip that says it is a form. CloudEvents: chunks.
    let with_key = EVENT.replacen('{', r#"{"writeKey":"wk","#, 1);
    let text = Request::post("/v1/t").header("content-type", "text/plain").body(Body::from(with_key)).unwrap();
    let form = Request::post("/v1/track")
        .header("authorization", "Basic d2s6")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("content-encoding", "gzip")
        .body(Body::from(gzip))
        .unwrap();
    let pieces = EVENT.as_bytes().chunks(7).map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece)));
    let chunks = Request::post("/v1/track").header("authorization", "Basic d2s6");
    let chunks = chunks.body(Body::from_stream(stream::iter(pieces))).unwrap();
    for request in [text, form, chunks] {
        let answer = harness.send(request).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, r#"{"success":true}"#));
    }
    assert_eq!(harness.records(Topic::Actions), 3);
}

#[tokio::test]
async fn what_posthog_finds_too_large_it_is_told_to_halve() {
    let harness = Harness::new();
    for body in [vec![b' '; BODY_BYTES_MAX + 1], format!("[{}]", ["{}"; 2_501].join(",")).into_bytes()] {
        assert_eq!(harness.post("/batch/", body.clone()).await.status, 413);
    }
    assert_eq!(harness.post("/v1/batch", vec![b' '; BODY_BYTES_MAX + 1]).await.status, 400);
    assert_eq!(harness.post("/batch/", "{").await.status, 400);
}

#[tokio::test]
async fn a_bad_event_goes_to_the_dead_letters_and_its_batch_is_kept() {
    let harness = Harness::new();
    let batch = r#"{"batch":[{"type":"track","event":"x","userId":"ann"},{"type":"track","userId":"ann"},7]}"#;
    assert_eq!(harness.post("/v1/batch", batch).await.status, 200);
    assert_eq!((harness.records(Topic::Actions), harness.records(Topic::DeadLetters)), (1, 2));
}

#[tokio::test]
async fn what_cannot_be_taken_says_why() {
    let harness = Harness::new();
    harness.post("/v1/track", "{").await.check_problem(400, "invalid_json");
    harness.post("/v1/track", "").await.check_problem(400, "empty_body");
    harness.post("/v1/batch", "{}").await.check_problem(400, "invalid_batch");
    harness.post("/v1/track", vec![0xff, 0xfe]).await.check_problem(400, "invalid_utf8");
    harness.post("/v1/track", vec![b' '; BODY_BYTES_MAX + 1]).await.check_problem(400, "body_too_large");
    let no_key = Request::post("/v1/track").body(Body::from(EVENT)).unwrap();
    harness.send(no_key).await.check_problem(401, "missing_write_key");
    let wrong_key = Request::post("/v1/track").header("authorization", "Bearer other").body(Body::from(EVENT)).unwrap();
    let answer = harness.send(wrong_key).await;
    assert_eq!(answer.status, 401);
    harness.log.fail_next(1);
    harness.post("/v1/track", EVENT).await.check_problem(503, "unavailable");
    assert_eq!(harness.post("/v1/track", EVENT).await.status, 200, "and the next one is fine");
}

fn endless(bytes: usize) -> Body {
    let piece = Bytes::from(vec![b' '; 16 * 1024]);
    let pieces = bytes / piece.len();
    Body::from_stream(stream::iter((0..pieces).map(move |_| Ok::<_, std::io::Error>(piece.clone()))))
}

#[tokio::test]
async fn an_oversize_body_is_read_to_its_end_and_refused() {
    let harness = Harness::new();
    let declared = |length: usize| Request::post("/v1/batch").header("content-length", length);
    let requests = [
        // Chunked; declared; declared and far too large to be read at all.
        Request::post("/v1/batch").body(endless(10 * BODY_BYTES_MAX)).unwrap(),
        declared(10 * BODY_BYTES_MAX).body(endless(10 * BODY_BYTES_MAX)).unwrap(),
        declared(usize::MAX).body(Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>())).unwrap(),
    ];
    for request in requests {
        harness.send(request).await.check_problem(400, "body_too_large");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let harness = Harness::new();
    let broken = [Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("reset"))];
    let request = Request::post("/v1/track").body(Body::from_stream(stream::iter(broken))).unwrap();
    harness.send(request).await.check_problem(400, "body_unreadable");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    let harness = Harness::new();
    let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let request = Request::post("/v1/track").body(body).unwrap();
    harness.send(request).await.check_problem(503, "body_timeout");
}

#[tokio::test]
async fn browsers_may_send_from_anywhere() {
    let harness = Harness::new();
    let ask = Request::options("/v1/t")
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,x-retry-count")
        .body(Body::empty())
        .unwrap();
    let answer = harness.send(ask).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example");
    assert_eq!(answer.header("access-control-allow-headers"), "authorization,x-retry-count");
    assert_eq!(answer.header("access-control-allow-methods"), "GET, POST, OPTIONS");
    assert_eq!(answer.header("access-control-max-age"), "7200");

    let send = Request::post("/v1/t").header("origin", "https://shop.example").header("authorization", "Basic d2s6");
    let answer: Answer = harness.send(send.body(Body::from(EVENT)).unwrap()).await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example");
    let refused = Request::post("/v1/t").header("origin", "https://shop.example").body(Body::from(EVENT)).unwrap();
    let answer = harness.send(refused).await;
    answer.check_problem(401, "missing_write_key");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://shop.example",
        "so that a browser sees the error"
    );
}

#[tokio::test]
async fn a_door_takes_post_only() {
    let harness = Harness::new();
    let answer = harness.get("/v1/track").await;
    answer.check_problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "POST, OPTIONS");
}
