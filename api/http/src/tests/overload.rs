use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use futures::future::join_all;

use super::harness::{Harness, Mood};
use crate::{INGEST_IN_FLIGHT_MAX, READS_IN_FLIGHT_MAX};

#[tokio::test]
async fn a_panic_is_an_answer() {
    let harness = Harness::new();
    *harness.process.mood.lock().unwrap() = Mood::Broken;
    harness.get("/v1/status").await.check_problem(500, "internal_error");
    *harness.process.mood.lock().unwrap() = Mood::Fine;
    assert_eq!(harness.get("/v1/status").await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn too_many_at_once_are_told_to_come_back_and_nobody_waits_for_ever() {
    let harness = Harness::new();
    *harness.process.mood.lock().unwrap() = Mood::Stuck;
    let answers = join_all((0..READS_IN_FLIGHT_MAX + 3).map(|_| harness.get("/v1/status"))).await;
    let (shed, stuck): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.json()["code"] == "overloaded");
    assert_eq!((shed.len(), stuck.len()), (3, READS_IN_FLIGHT_MAX));
    shed.iter().for_each(|answer| answer.check_problem(503, "overloaded"));
    stuck.iter().for_each(|answer| answer.check_problem(503, "timed_out"));
    *harness.process.mood.lock().unwrap() = Mood::Fine;
    assert_eq!(harness.get("/v1/status").await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn with_no_place_left_a_body_is_not_even_read() {
    let harness = Harness::new();
    let held: Vec<_> = (0..INGEST_IN_FLIGHT_MAX).map(|_| harness.api.enter_ingest().unwrap()).collect();
    let (sender, body) = futures::channel::mpsc::unbounded::<Result<Bytes, std::io::Error>>();
    let request = Request::post("/v1/track").header("content-length", "9").body(Body::from_stream(body)).unwrap();
    // The body has not come and never will: the answer does not wait for it.
    harness.send(request).await.check_problem(503, "overloaded");
    let told = harness.get("/v1/ingest/status").await.json();
    assert_eq!(told["unattributed"], serde_json::json!({"overloaded": 1}));
    assert!(!sender.is_closed(), "what comes is thrown away beside the answer, so that the client reads why");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(sender.is_closed(), "but not for ever");
    drop(held);
    assert_eq!(harness.post("/v1/track", r#"{"event":"x","userId":"ann"}"#).await.status, StatusCode::OK);
}
