use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use millrace_events::Topic;

use super::harness::{Answer, Harness};
use crate::{LimitOptions, Peer};

const EVENT: &str = r#"{"type":"track","event":"x","userId":"ann"}"#;

fn batch(events: usize) -> String {
    format!(r#"{{"batch":[{}]}}"#, vec![EVENT; events].join(","))
}

fn keys(events: &str, requests: &str) -> LimitOptions {
    LimitOptions { key_events: events.parse().ok(), key_requests: requests.parse().ok(), ..LimitOptions::default() }
}

fn addresses(rate: &str) -> LimitOptions {
    LimitOptions {
        address_requests: rate.parse().ok(),
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        ..LimitOptions::default()
    }
}

async fn from(harness: &Harness, peer: &str, request: axum::http::request::Builder, body: &str) -> Answer {
    let mut request = request.header("authorization", "Basic d2s6").body(Body::from(body.to_owned())).unwrap();
    request.extensions_mut().insert(Peer(peer.parse().unwrap()));
    harness.send(request).await
}

#[tokio::test(start_paused = true)]
async fn a_key_that_sends_too_much_is_told_when_to_come_back_and_nothing_was_appended() {
    let harness = Harness::with_limits(keys("10/20", "1/3"));
    let answer = harness.post("/v1/batch", batch(5)).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, r#"{"success":true}"#));
    assert_eq!(answer.header("ratelimit-policy"), r#""key-requests";q=3;w=3, "key-events";q=20;w=2"#);
    assert_eq!(answer.header("ratelimit"), r#""key-requests";r=2;t=1, "key-events";r=15;t=1"#);

    // Larger than the whole bucket, and possible: the rest is a debt.
    assert_eq!(harness.post("/v1/batch", batch(100)).await.status, 200);
    assert_eq!(harness.records(Topic::Actions), 105);
    for body in [batch(1), "not even JSON: nothing was read".to_owned()] {
        let answer = harness.post("/v1/batch", body).await;
        answer.check_problem(429, "rate_limited");
        assert_eq!(answer.header("retry-after"), "9", "105 of 20, at 10 a second, and one more");
        assert_eq!(answer.header("ratelimit"), r#""key-requests";r=1;t=2, "key-events";r=0;t=11"#);
    }
    assert_eq!(harness.records(Topic::Actions) + harness.records(Topic::DeadLetters), 105);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(harness.post("/v1/batch", batch(1)).await.status, 200);
    assert_eq!(harness.records(Topic::Actions), 106);
}

#[tokio::test(start_paused = true)]
async fn a_key_in_the_body_and_a_bad_event_count_like_any_other() {
    let harness = Harness::with_limits(keys("1/3", ""));
    let send = async |events: &str| {
        let body = format!(r#"{{"writeKey":"wk","batch":[{events}]}}"#);
        harness.send(Request::post("/v1/batch").body(Body::from(body)).unwrap()).await
    };
    let answer = send(&format!(r#"17,{EVENT}"#)).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-millrace-rejected")), (200, "1"));
    assert_eq!(answer.header("ratelimit"), r#""key-events";r=1;t=2"#);
    assert_eq!(send(EVENT).await.status, 200);
    send(EVENT).await.check_problem(429, "rate_limited");
    assert_eq!((harness.records(Topic::Actions), harness.records(Topic::DeadLetters)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_asks_too_often_is_refused_and_the_next_one_is_not() {
    let harness = Harness::with_limits(addresses("1/2"));
    let ask = async |peer: &str| from(&harness, peer, Request::get("/v1/status"), "").await;
    let answer = ask("192.0.2.1").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("ratelimit-policy"), r#""address";q=2;w=2"#);
    assert_eq!(answer.header("ratelimit"), r#""address";r=1;t=1"#);
    let answer = from(&harness, "192.0.2.1", Request::post("/v1/track"), EVENT).await;
    assert_eq!(answer.status, 200);
    let answer = ask("192.0.2.1").await;
    answer.check_problem(429, "rate_limited");
    assert_eq!(answer.header("retry-after"), "1");
    let answer = from(&harness, "192.0.2.1", Request::post("/v1/track").header("origin", "https://a.example"), EVENT);
    let answer = answer.await;
    answer.check_problem(429, "rate_limited");
    assert_eq!(answer.header("access-control-expose-headers"), "retry-after, ratelimit-policy, ratelimit");
    assert_eq!(harness.records(Topic::Actions), 1, "what was refused is not in the log");
    assert_eq!(ask("192.0.2.2").await.status, 200);
    assert_eq!(from(&harness, "192.0.2.1", Request::get("/healthz"), "").await.status, 200, "a probe is never refused");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ask("192.0.2.1").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn behind_a_trusted_proxy_the_client_is_counted_and_nobody_can_pretend() {
    let harness = Harness::with_limits(addresses("1/1"));
    let ask = async |peer: &str, hops: &str| {
        let request = Request::get("/v1/status").header("x-forwarded-for", hops);
        from(&harness, peer, request, "").await.status.as_u16()
    };
    assert_eq!(ask("10.0.0.1", "198.51.100.1").await, 200);
    assert_eq!(ask("10.0.0.2", "198.51.100.1").await, 429, "through another proxy");
    assert_eq!(ask("10.0.0.1", "198.51.100.2").await, 200, "another client");
    assert_eq!(ask("10.0.0.1", "203.0.113.9, 198.51.100.2").await, 429, "what a client made up does not help");
    assert_eq!(ask("192.0.2.1", "203.0.113.1").await, 200);
    assert_eq!(ask("192.0.2.1", "203.0.113.2").await, 429, "nor without a proxy");
}

#[tokio::test]
async fn without_limits_an_answer_says_nothing_of_them() {
    let harness = Harness::new();
    let answer = from(&harness, "192.0.2.1", Request::post("/v1/track"), EVENT).await;
    assert_eq!((answer.status.as_u16(), answer.header("ratelimit"), answer.header("ratelimit-policy")), (200, "", ""));
}
