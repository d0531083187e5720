use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use millrace_collector::Scope;

use super::harness::{ADMIN_TOKEN, API_TOKEN, Harness};
use crate::ingest;
use crate::routes::GUARDED;

/// Every documented path that is read, with something in its placeholders.
fn documented() -> Vec<String> {
    let document: serde_json::Value = serde_json::from_str(crate::openapi_json()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let read = paths.iter().filter(|(_, item)| item.get("get").is_some_and(|get| get["tags"] != json!(["ingest"])));
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
    for (path, door) in ingest::DOORS {
        assert!(document["paths"][path]["post"].is_object(), "{path}");
        assert_eq!(document["paths"][path]["get"].is_object(), door.takes_get(), "{path}");
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
        let answer = harness.get_as(&path, &format!("bearer {ADMIN_TOKEN}")).await;
        assert!(answer.status != 401 && answer.status != 403, "{path}");
        let answer = harness.get_as(&path, &format!("bearer {API_TOKEN}")).await;
        assert!(answer.status != 401 && (answer.status == 403) == is_admin, "{path}: {}", answer.status);
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

/// What a path of the document is asked as.
fn filled(path: &str) -> String {
    documented().into_iter().find(|asked| is_of(path, asked)).unwrap_or_else(|| panic!("{path} is not documented"))
}

/// Whether a path with its placeholders filled is this one.
fn is_of(path: &str, asked: &str) -> bool {
    let asked = asked.split('?').next().unwrap_or_default();
    let (path, asked): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), asked.split('/').collect());
    path.len() == asked.len() && path.iter().zip(&asked).all(|(known, part)| known == part || known.starts_with('{'))
}

#[tokio::test]
async fn a_secret_key_does_what_its_scopes_say_and_the_document_says_which() {
    let harness = Harness::with_token(Some(API_TOKEN));
    let document: serde_json::Value = serde_json::from_str(crate::openapi_json()).unwrap();
    for route in GUARDED {
        let asked = filled(route.path);
        for scope in Scope::ALL {
            let answer = harness.get_as(&asked, &format!("Bearer secret-{scope}")).await;
            if scope == route.scope || scope == Scope::Admin {
                assert!(answer.status != 401 && answer.status != 403, "{scope} for {asked}: {}", answer.body);
                continue;
            }
            answer.check_problem(403, "insufficient_scope");
            let lacks = route.scope.as_str();
            assert!(answer.json()["detail"].as_str().unwrap().contains(lacks), "{}", answer.body);
            let challenge = format!(r#"Bearer error="insufficient_scope", scope="{lacks}""#);
            assert_eq!(answer.header("www-authenticate"), challenge);
        }
        harness.get_as(&asked, "Bearer wk").await.check_problem(403, "insufficient_scope");
        for operation in document["paths"][route.path].as_object().unwrap().values() {
            let needs = operation["security"].as_array().unwrap().iter().find_map(|one| one.get("secret_key"));
            assert_eq!(needs, Some(&serde_json::json!([route.scope.as_str()])), "{}", route.path);
            assert!(operation["description"].as_str().unwrap().contains(route.scope.as_str()), "{}", route.path);
        }
    }
    let open = ["/healthz", "/readyz"];
    let mut guarded = documented();
    guarded.retain(|asked| !open.iter().any(|path| is_of(path, asked)));
    assert_eq!(guarded.len(), GUARDED.len(), "every path but those of health asks for a scope");
}

#[tokio::test]
async fn a_key_that_cannot_be_is_told_so_and_not_repeated() {
    let harness = Harness::with_token(Some(API_TOKEN));
    let answer = harness.get_as("/v1/status", "Bearer mr_sk_0123456789_abcde").await;
    answer.check_problem(401, "invalid_token");
    assert!(answer.body.contains("its checksum is wrong") && !answer.body.contains("0123456789"), "{}", answer.body);
    assert_eq!(answer.header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn events_are_taken_with_a_secret_key_that_may_write() {
    let harness = Harness::new();
    let send = async |authorization: &str| {
        let event = Request::post("/v1/track").header("authorization", authorization);
        harness.send(event.body(Body::from(r#"{"event":"x","userId":"ann"}"#)).unwrap()).await
    };
    for scope in Scope::ALL {
        let answer = send(&format!("Bearer secret-{scope}")).await;
        if matches!(scope, Scope::EventsWrite | Scope::Admin) {
            assert_eq!(answer.status, 200, "{scope}");
            continue;
        }
        answer.check_problem(403, "insufficient_scope");
        let challenge = r#"Bearer error="insufficient_scope", scope="events:write""#;
        assert_eq!(answer.header("www-authenticate"), challenge);
    }
    // `secret-events:write:` in Base64: what is before the first colon is the key, so one with a colon is none.
    send("Basic c2VjcmV0LWV2ZW50czp3cml0ZTo=").await.check_problem(401, "invalid_write_key");
}
