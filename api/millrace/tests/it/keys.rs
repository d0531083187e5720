//! Write keys of the catalog: a running server follows them, also when Postgres, which holds them, is away.

use std::path::Path;
use std::time::{Duration, Instant};

use millrace_engines::postgres::Postgres;
use serde_json::json;

use super::support::{Server, batch, free_port, millrace, track};

/// Far above the few seconds within which servers follow.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the command prints.
fn keys(args: &[&str], data: &Path, more: &[&str]) -> String {
    let output = millrace(&["keys"]).args(args).args(more).arg("--data-dir").arg(data).output().unwrap();
    assert!(output.status.success(), "keys {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A command needs none of the machine's certificates, for it speaks no TLS.
#[test]
fn a_machine_without_certificates_can_run_every_command() {
    let mut status = millrace(&["status", "--to", "http://127.0.0.1:9"]);
    let output = status.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent").output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!told.contains("CA") && told.contains("127.0.0.1:9"), "{told}");
}

async fn answer(server: &Server, key: &str) -> u16 {
    let call = track("u", "Post Viewed", json!({ "post_id": "p" }));
    server.post("/v1/batch", key, batch(&[call]), false).await.0
}

async fn until(server: &Server, key: &str, status: u16) {
    let begun = Instant::now();
    while answer(server, key).await != status {
        assert!(begun.elapsed() < PATIENCE, "not answered with {status} in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_follows_keys_that_are_added_and_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data, "wall").await;
    assert_eq!(answer(&server, "anything").await, 200, "there is no key yet, and this is the loopback");
    let web = keys(&["add", "web"], &data, &[]);
    assert_eq!(web.len(), 48, "{web}");
    until(&server, "anything", 401).await;
    until(&server, &web, 200).await;
    let twice = millrace(&["keys", "add", "web", "--data-dir"]).arg(&data).output().unwrap();
    assert_eq!(twice.status.code(), Some(2));
    keys(&["revoke", "web"], &data, &[]);
    until(&server, &web, 401).await;
    assert_eq!(answer(&server, "anything").await, 401, "a revoked key does not open the door to all");
    let listed = keys(&["list"], &data, &[]);
    assert!(listed.starts_with("revoked") && listed.ends_with("web") && !listed.contains(&web), "{listed}");
    server.stop();
    let server = Server::start(&data, "wall").await;
    assert_eq!(answer(&server, &web).await, 401, "after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_follows_settings() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data, "wall").await;
    let settings = |args: &[&str]| {
        let output = millrace(&["settings"]).args(args).arg("--data-dir").arg(&data).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let slates = async || {
        server.get("/v1/feeds/home?viewer=u").await;
        let (_, status) = server.get("/v1/status").await;
        let ends = status["log"]["served-slates"].as_object().unwrap().values();
        ends.map(|bounds| bounds["end"].as_u64().unwrap()).sum::<u64>()
    };
    let begun = Instant::now();
    while slates().await == 0 {
        assert!(begun.elapsed() < PATIENCE, "no feed was recorded");
    }
    assert_eq!(settings(&["set", "--set-slate-sample-rate", "2"]).0, Some(2), "more than all");
    assert_eq!(settings(&["set"]).0, Some(2), "nothing");
    let (code, told) = settings(&["set", "--set-slate-sample-rate", "0"]);
    assert_eq!((code, told.trim()), (Some(0), r#"{"slate_sample_rate":0.0}"#));
    // Followed when for a while none of many feeds is recorded any more.
    let begun = Instant::now();
    loop {
        let before = slates().await;
        for _ in 0..20 {
            slates().await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        if slates().await == before {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "feeds are still recorded");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_away_the_last_known_keys_are_taken() {
    let Some(mut postgres) = Postgres::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (data, door) = (folder.path().join("data"), folder.path().join("door"));
    let url = postgres.url().to_owned();
    let at = ["--catalog", &url];
    let web = keys(&["add", "web"], &data, &at);
    let server = Server::start_on(&door, "wall", free_port(), &at).await;
    assert_eq!((answer(&server, &web).await, answer(&server, "another-key").await), (200, 401));
    postgres.kill();
    assert_eq!((answer(&server, &web).await, answer(&server, "another-key").await), (200, 401), "without Postgres");
    assert_eq!(server.get("/v1/feeds/home?viewer=u").await.0, 200, "without Postgres");
    server.stop();
    let server = Server::start_on(&door, "wall", free_port(), &at).await;
    assert_eq!((answer(&server, &web).await, answer(&server, "another-key").await), (200, 401), "from the copy");
    postgres.restart();
    keys(&["revoke", "web"], &data, &at);
    until(&server, &web, 401).await;
    server.stop();
    let output = millrace(&["doctor", "--json", "--catalog", &url]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("\"store\":\"catalog\"") && !told.contains("\"level\":\"fault\""), "{told}");
    let (_, host) = url.rsplit_once('@').unwrap();
    let wrong = format!("postgres://nobody:secret-word@{host}");
    let output = millrace(&["doctor", "--json", "--catalog", &wrong]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let fault =
        told.lines().find(|line| line.contains("\"store\":\"catalog\"") && line.contains("\"level\":\"fault\""));
    assert!(fault.is_some_and(|fault| fault.contains("\"cure\"")), "{told}");
    assert!(!told.contains("secret-word"), "{told}");
}
