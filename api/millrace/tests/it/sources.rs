//! `/v1/ingest/status`: what became of what each source sent, after a restart too.

use std::path::Path;
use std::time::SystemTime;

use millrace_events::format_rfc3339;
use serde_json::{Value, json};

use super::support::{Server, batch, free_port, millrace, track};

async fn start(data: &Path) -> Server {
    Server::start_on(data, "wall", free_port(), &["--write-keys", "web:web-key-1,ios:ios-key-1"]).await
}

async fn send(server: &Server, key: &str, calls: &[Value]) {
    assert_eq!(server.post("/v1/batch", key, batch(calls), false).await.0, 200);
}

async fn told(server: &Server) -> Value {
    let (status, body) = server.get("/v1/ingest/status").await;
    assert_eq!(status, 200, "{body}");
    body
}

fn seen(viewer: &str, id: &str, at: &str) -> Value {
    let mut call = track(viewer, "Post Viewed", json!({ "post_id": "p" }));
    call["messageId"] = id.into();
    call["timestamp"] = at.into();
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_source_sent_is_counted_once_and_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = start(&data).await;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = format_rfc3339(i64::try_from(since.as_micros()).unwrap());
    let fresh: Vec<Value> = (0..5).map(|nth| seen("ann", &format!("m{nth}"), &now)).collect();
    send(&server, "web-key-1", &fresh).await;
    send(&server, "web-key-1", &fresh).await;
    let nobodys = json!({"type": "track", "event": "Post Viewed"});
    send(&server, "ios-key-1", &[seen("bob", "old", "2020-01-01T00:00:00Z"), nobodys]).await;
    assert_eq!(server.post("/v1/batch", "ios-key-1", b"{".to_vec(), false).await.0, 400);
    assert_eq!(server.post("/v1/batch", "stolen", batch(&fresh), false).await.0, 401);
    server.caught_up().await;

    let first = told(&server).await;
    let (web, ios) = (&first["sources"]["web"], &first["sources"]["ios"]);
    assert_eq!((&web["accepted"], &web["duplicates"], &web["late"]), (&json!(5), &json!(5), &json!(0)), "{first}");
    assert_eq!((&ios["accepted"], &ios["duplicates"], &ios["late"]), (&json!(1), &json!(0), &json!(1)), "{first}");
    assert_eq!((&web["door"]["requests"], &web["door"]["events"]), (&json!(2), &json!(10)), "{first}");
    assert_eq!(ios["door"]["rejected"], json!({"missing_id": 1}), "{first}");
    assert_eq!(ios["door"]["refused"], json!({"invalid_json": 1}), "{first}");
    assert_eq!(first["unattributed"], json!({"invalid_write_key": 1}), "{first}");
    assert!(web["last_seen"].as_str() >= Some(now.get(..10).unwrap()), "{first}");

    server.kill();
    let server = start(&data).await;
    send(&server, "web-key-1", &[seen("ann", "m0", &now), seen("ann", "m9", &now)]).await;
    server.caught_up().await;
    let again = told(&server).await;
    let web = &again["sources"]["web"];
    assert_eq!((&web["accepted"], &web["duplicates"]), (&json!(6), &json!(6)), "{again}");
    assert_eq!(web["door"]["events"], 2, "a door counts from its own start: {again}");
    let printed = millrace(&["status", "--sources", "--to", &server.url()]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.lines().any(|line| line.starts_with("web ") && line.contains(" 6 ")), "{printed}");
}
