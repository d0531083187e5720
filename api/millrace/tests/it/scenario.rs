//! A small life, over HTTP.

use serde_json::{Value, json};

use super::support::{Server, track, verify};

#[tokio::test(flavor = "multi_thread")]
async fn an_action_becomes_counters_and_a_feed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "wall").await;
    server
        .send(&[
            track("ada", "User Followed", json!({"target_id": "bob"})),
            track("bob", "postCreated", json!({"post_id": "p1", "text": "hello", "tags": ["a"]})),
            track("ada", "post_viewed", json!({"post_id": "p0"})),
            track("eve", "Post Liked", json!({"post_id": "p1"})),
            track("eve", "Post Liked", json!({"post_id": "p1"})),
        ])
        .await;
    server.caught_up().await;
    assert_eq!(server.feed("ada").await, ["p1"]);
    let (_, engagement) = server.get("/v1/posts/p1/engagement").await;
    assert_eq!((&engagement["totals"]["likes"], &engagement["author_id"]), (&json!(1), &json!("bob")));
    let (_, unknown) = server.get("/v1/posts/nobody-knows/engagement").await;
    assert_eq!((&unknown["totals"]["likes"], &unknown["author_id"]), (&json!(0), &Value::Null));
    let (status, post) = server.get("/v1/posts/p1/").await;
    assert_eq!((status, &post["text"], &post["tags"]), (200, &json!("hello"), &json!(["a"])));
    let (_, author) = server.get("/v1/feeds/author/bob").await;
    assert_eq!(author["items"][0]["post_id"], "p1");
    server.stop();
    verify(dir.path());
}

/// What must be gone from the very next answer once the action has been applied.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_seen_is_gone_from_the_next_answer() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "wall").await;
    let others = ["deleter", "blocked", "blocker", "muted", "unfollowed", "stays"];
    let mut calls = vec![track("me", "post_created", json!({"post_id": "mine"}))];
    for author in others {
        calls.push(track("me", "user_followed", json!({"target_id": author})));
        calls.push(track(author, "post_created", json!({"post_id": format!("p-{author}")})));
    }
    calls.push(track("stays", "post_created", json!({"post_id": "seen"})));
    calls.push(track("stays", "post_created", json!({"post_id": "hidden"})));
    server.send(&calls).await;
    server.caught_up().await;
    assert_eq!(server.feed("me").await.len(), others.len() + 2);
    let steps = [
        (track("deleter", "post_deleted", json!({"post_id": "p-deleter"})), "p-deleter"),
        (track("me", "user_blocked", json!({"target_id": "blocked"})), "p-blocked"),
        (track("blocker", "user_blocked", json!({"target_id": "me"})), "p-blocker"),
        (track("me", "user_muted", json!({"target_id": "muted"})), "p-muted"),
        (track("me", "post_viewed", json!({"post_id": "seen"})), "seen"),
        (track("me", "post_hidden", json!({"post_id": "hidden"})), "hidden"),
    ];
    for (step, gone) in steps {
        server.send(&[step]).await;
        server.caught_up().await;
        let feed = server.feed("me").await;
        assert!(!feed.contains(&gone.to_owned()), "{gone} is still there: {feed:?}");
    }
    // Whom one no longer follows is a stranger, whose newest posts anybody may see.
    server.send(&[track("me", "user_unfollowed", json!({"target_id": "unfollowed"}))]).await;
    server.caught_up().await;
    assert_eq!(server.followed_feed("me").await, ["p-stays"]);
    assert_eq!(server.feed("me").await, ["p-stays", "p-unfollowed"]);
    // A block only hides while it lasts, and does not undo the follow.
    server.send(&[track("me", "user_unblocked", json!({"target_id": "blocked"}))]).await;
    server.caught_up().await;
    assert_eq!(server.followed_feed("me").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_a_restart_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut call = track("ada", "post_shared", json!({"post_id": "p"}));
    call["messageId"] = json!("m1");
    for _ in 0..3 {
        let server = Server::start(dir.path(), "wall").await;
        server.send(&[call.clone(), call.clone()]).await;
        server.caught_up().await;
        let (_, engagement) = server.get("/v1/posts/p/engagement").await;
        assert_eq!(engagement["totals"]["shares"], 1);
        server.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_edits_are_dead_letters_and_the_rest_of_a_batch_counts() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "wall").await;
    server
        .send(&[
            track("bob", "post_created", json!({"post_id": "p"})),
            track("bob", "post_liked", json!({})),
            track("bob", "post_shared", json!({"post_id": "p"})),
        ])
        .await;
    server.caught_up().await;
    server.send(&[track("eve", "post_edited", json!({"post_id": "p", "text": "mine now"}))]).await;
    server.caught_up().await;
    let reasons: Vec<Value> = server.records("dead-letters").await.iter().map(|r| r["reason"].clone()).collect();
    assert_eq!(reasons, [json!("missing_property"), json!("not_the_author")]);
    let (_, engagement) = server.get("/v1/posts/p/engagement").await;
    assert_eq!(engagement["totals"]["shares"], 1);
}
