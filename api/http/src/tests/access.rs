use axum::body::Body;
use axum::http::Request;

use super::harness::{ADMIN_TOKEN, API_TOKEN, Harness};
use crate::ingest;

/// Every documented path that is read, with something in its placeholders.
fn documented() -> Vec<String> {
    let document: serde_json::Value = serde_json::from_str(crate::openapi_json()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let read = paths.iter().filter(|(_, item)| item.get("get").is_some());
    let filled = |path: &str| {
        path.replace("{topic}", "actions")
            .replace("{post_id}", "p")
            .replace("{author_id}", "a")
            .replace("{name}", "events_by_name")
            .replace("{id}", "ann")
            + "?viewer=ann"
    };
    read.map(|(path, _)| filled(path)).collect()
}

#[tokio::test]
async fn the_document_is_openapi_3_1_and_every_path_in_it_is_there() {
    let harness = Harness::new();
    let document = harness.get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in documented() {
        let answer = harness.get_as(&path, &format!("Bearer {ADMIN_TOKEN}")).await;
        assert!(!answer.body.contains(r#""code":"not_found""#) && answer.status != 405, "{path}");
    }
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    for response in operations.flat_map(|operation| operation["responses"].as_object().unwrap().values()) {
        assert!(response["description"].is_string(), "{response}");
    }
    for (path, _) in ingest::DOORS {
        assert!(document["paths"][path]["post"].is_object(), "{path}");
    }
}

#[tokio::test]
async fn readers_need_the_token_when_there_is_one() {
    let harness = Harness::with_token(Some(API_TOKEN));
    for path in documented() {
        if path.starts_with("/healthz") || path.starts_with("/readyz") {
            assert_eq!(harness.get(&path).await.status, 200, "{path}");
            continue;
        }
        harness.get(&path).await.check_problem(401, "missing_token");
        for wrong in ["Bearer", "Bearer ", "Bearer reader-tokem", "Bearer reader-token2", "Basic reader-token", "x"] {
            harness.get_as(&path, wrong).await.check_problem(401, "invalid_token");
        }
        let is_admin = ["/v1/log/", "/v1/admin/"].iter().any(|prefix| path.starts_with(prefix));
        let token = if is_admin { ADMIN_TOKEN } else { API_TOKEN };
        let answer = harness.get_as(&path, &format!("bearer {token}")).await;
        assert!(answer.status != 401, "{path}");
    }
    let event = Request::post("/v1/track").header("authorization", "Basic d2s6");
    let event = event.body(Body::from(r#"{"event":"x","userId":"ann"}"#)).unwrap();
    assert_eq!(harness.send(event).await.status, 200, "events need no token but a write key");
}

#[tokio::test]
async fn the_log_is_for_the_administrator_always() {
    let harness = Harness::new();
    harness.get("/v1/log/actions").await.check_problem(401, "missing_token");
    harness.get_as("/v1/log/actions", "Bearer ").await.check_problem(401, "invalid_token");
    assert_eq!(harness.get_as("/v1/log/actions", &format!("Bearer {ADMIN_TOKEN}")).await.status, 200);
}
