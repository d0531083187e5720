//! A visitor becomes somebody.

use serde_json::{Value, json};

use super::support::{Server, track, verify};

/// What a visitor does who has not signed in: a client sends no user id.
fn visit(visitor: &str, event: &str, properties: Value) -> Value {
    let mut call = track(visitor, event, properties);
    let fields = call.as_object_mut().unwrap();
    fields.remove("userId");
    fields.insert("anonymousId".to_owned(), json!(visitor));
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_visitor_did_belongs_to_who_they_become() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "wall").await;
    let mut calls: Vec<Value> =
        (1..=4).map(|nth| track("bob", "post_created", json!({"post_id": format!("p{nth}")}))).collect();
    calls.push(visit("browser", "post_viewed", json!({"post_id": "p1"})));
    calls.push(visit("browser", "post_hidden", json!({"post_id": "p2"})));
    calls.push(visit("browser", "user_followed", json!({"target_id": "bob"})));
    calls.push(track("ada", "post_viewed", json!({"post_id": "p3"})));
    // Somebody else signs in on the same browser, later.
    calls.push(json!({"type": "identify", "userId": "ada", "anonymousId": "browser"}));
    server.send(&calls).await;
    server.caught_up().await;
    server.send(&[json!({"type": "identify", "userId": "eve", "anonymousId": "browser"})]).await;
    server.caught_up().await;

    for viewer in ["ada", "browser"] {
        assert_eq!(server.followed_feed(viewer).await, ["p4"], "{viewer}");
    }
    assert_eq!(server.feed("eve").await.len(), 4, "a second person gets nothing of it");
    let (_, person) = server.get("/v1/persons/browser").await;
    let ids: Vec<&Value> = person["ids"].as_array().unwrap().iter().map(|id| &id["id"]).collect();
    assert_eq!((&person["person_id"], ids), (&json!("ada"), vec![&json!("ada"), &json!("browser")]));

    // Bob, ada and eve: in the warehouse too the browser is ada.
    let (_, active) = server.get("/v1/queries/active_users?every=month").await;
    let users: u64 = active["rows"].as_array().unwrap().iter().map(|row| row[1].as_u64().unwrap()).sum();
    assert_eq!(users, 3, "{active}");
    let (_, did) = server.get("/v1/queries/events_of_person?id=ada").await;
    let names: Vec<&str> = did["rows"].as_array().unwrap().iter().map(|row| row[1].as_str().unwrap()).collect();
    assert_eq!(names.len(), 5, "{did}");
    assert!(names.contains(&"post_hidden"), "{did}");
    server.stop();
    verify(dir.path());
}
