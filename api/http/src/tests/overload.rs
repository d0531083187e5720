use axum::http::StatusCode;
use futures::future::join_all;

use super::harness::{Harness, Mood};
use crate::READS_IN_FLIGHT_MAX;

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
