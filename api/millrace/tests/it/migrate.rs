//! From a data directory to engines, and back into another directory.

use std::path::Path;

use millrace_engines::fleet::Fleet;

use super::support::{Server, free_port, millrace, verify};

const EVENTS: &str = "3000";

fn config(path: &Path, data: &Path, arguments: &[String]) {
    let stores = arguments.chunks(2).map(|pair| format!("{} = {:?}\n", pair[0].trim_start_matches("--"), pair[1]));
    let text = format!("data_dir = {:?}\nclock = \"replay\"\n{}", data, stores.collect::<String>());
    std::fs::write(path, text).unwrap();
}

fn migrate(from: &Path, to: &Path) -> (Option<i32>, String) {
    let output = millrace(&["migrate", "--from"]).arg(from).arg("--to").arg(to).output().unwrap();
    let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code(), told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_moves_to_engines_and_back_and_shows_the_same() {
    let Some(fleet) = Fleet::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let input = at("events.ndjson");
    let simulated = ["simulate", "--seed", "9", "--users", "100", "--duplicates", "0.05", "--events", EVENTS, "--out"];
    assert!(millrace(&simulated).arg(&input).status().unwrap().success());
    let server = Server::start(&at("old"), "replay").await;
    assert!(millrace(&["import", "segment", "--wait", "--to", &server.url()]).arg(&input).status().unwrap().success());
    server.at_rest().await;
    let (_, expected) = server.get("/v1/queries/events_by_name").await;
    server.stop();
    let mut add = millrace(&["keys", "add", "web", "--data-dir"]);
    assert!(add.arg(at("old")).env("MILLRACE_NEW_KEY", "a-key-of-old").status().unwrap().success());
    let hash = verify(&at("old"));

    config(&at("old.toml"), &at("old"), &[]);
    // The other tests have ClickHouse.
    let stores = fleet.stores_with_delta().into_iter();
    let engines: Vec<String> = stores.flat_map(|(store, url)| [format!("--{store}"), url]).collect();
    config(&at("engines.toml"), &at("scratch"), &engines);
    config(&at("back.toml"), &at("back"), &[]);
    let (code, told) = migrate(&at("old.toml"), &at("engines.toml"));
    assert!(code == Some(0) && told.contains(&hash), "{code:?} {told}");
    // Again: nothing is left to copy.
    let (code, told) = migrate(&at("old.toml"), &at("engines.toml"));
    assert!(code == Some(0) && told.contains("actions: 0 records copied"), "{code:?} {told}");
    let engines: Vec<&str> = engines.iter().map(String::as_str).collect();
    let server = Server::start_on(&at("scratch"), "replay", free_port(), &engines).await;
    server.at_rest().await;
    assert_eq!(server.get("/v1/queries/events_by_name").await.1["rows"], expected["rows"], "on S3");
    server.stop();
    let (code, told) = migrate(&at("engines.toml"), &at("back.toml"));
    assert!(code == Some(0) && told.contains(&hash), "{code:?} {told}");

    let server = Server::start(&at("back"), "replay").await;
    assert_eq!(server.get("/v1/queries/events_by_name").await.1["rows"], expected["rows"]);
    assert_eq!(server.post("/v1/batch", "a-key-of-old", br#"{"batch":[]}"#.to_vec(), false).await.0, 200);
    assert_eq!(server.post("/v1/batch", "another-key", br#"{"batch":[]}"#.to_vec(), false).await.0, 401);
    server.stop();

    // What holds something else is left alone.
    let other = Server::start(&at("other"), "replay").await;
    other.send(&[super::support::track("u", "Post Viewed", serde_json::json!({ "post_id": "p" }))]).await;
    other.caught_up().await;
    other.stop();
    config(&at("other.toml"), &at("other"), &[]);
    let (code, told) = migrate(&at("old.toml"), &at("other.toml"));
    assert!(code == Some(2) && told.contains("take a new one"), "{code:?} {told}");
}
