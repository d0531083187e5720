//! Keys of the catalog: a running server follows them, also when Postgres, which holds them, is away.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millrace_catalog::{Catalog as _, Document, Expect, SqliteCatalog, SqliteOptions};
use millrace_engines::postgres::Postgres;
use serde_json::{Value, json};

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

/// As a client is answered that repeats what it is told to repeat.
async fn answer(server: &Server, key: &str) -> u16 {
    let call = batch(&[track("u", "Post Viewed", json!({ "post_id": "p" }))]);
    repeated(|| async { server.post("/v1/batch", key, call.clone(), false).await.0 }).await
}

async fn read(server: &Server, path: &str, token: &str) -> u16 {
    repeated(|| async { server.get_as(path, token).await.0 }).await
}

/// Whether a key is known may take a moment to tell on a busy machine.
async fn repeated<F: Future<Output = u16>>(ask: impl Fn() -> F) -> u16 {
    let begun = Instant::now();
    loop {
        let status = ask().await;
        if status != 503 {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "it is never told");
    }
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
    assert!(web.len() == 55 && web.starts_with("mr_wk_"), "{web}");
    until(&server, "anything", 401).await;
    until(&server, &web, 200).await;
    let twice = millrace(&["keys", "add", "web", "--data-dir"]).arg(&data).output().unwrap();
    assert_eq!(twice.status.code(), Some(2));
    keys(&["revoke", "web"], &data, &[]);
    until(&server, &web, 401).await;
    assert_eq!(answer(&server, "anything").await, 401, "a revoked key does not open the door to all");
    let listed = keys(&["list"], &data, &[]);
    let line = listed.lines().nth(1).unwrap();
    assert!(line.starts_with("revoked") && line.ends_with("web") && !listed.contains(&web), "{listed}");
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
    let before = keys(&["add", "web"], &data, &at);
    let server = Server::start_on(&door, "wall", free_port(), &at).await;
    assert_eq!((answer(&server, &before).await, answer(&server, "another-key").await), (200, 401));
    let web = keys(&["rotate", "web", "--overlap", "8s"], &data, &at);
    until(&server, &web, 200).await;
    assert_eq!(answer(&server, &before).await, 200, "it is not over yet");
    postgres.kill();
    until(&server, &before, 401).await;
    assert_eq!((answer(&server, &web).await, answer(&server, "another-key").await), (200, 401), "without Postgres");
    assert_eq!(server.get("/v1/feeds/home?viewer=u").await.0, 200, "without Postgres");
    server.stop();
    let server = Server::start_on(&door, "wall", free_port(), &at).await;
    assert_eq!((answer(&server, &web).await, answer(&server, "another-key").await), (200, 401), "from the copy");
    assert_eq!(answer(&server, &before).await, 401, "by the clock of this machine");
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

/// The names of `keys list`, with what is known of them.
fn listed(data: &Path) -> Vec<Value> {
    keys(&["list", "--json"], data, &[]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A client that sends without a pause, each event once, with the key that it has.
struct Sender {
    key: Mutex<String>,
    acknowledged: Mutex<Vec<String>>,
    refused: Mutex<Vec<u16>>,
    is_done: AtomicBool,
}

impl Sender {
    async fn run(self: Arc<Self>, server: Arc<Server>) {
        for n in 0.. {
            if self.is_done.load(Ordering::Relaxed) {
                return;
            }
            let (id, key) = (format!("m-{n}"), self.key.lock().unwrap().clone());
            let (status, ..) = server.post("/v1/batch", &key, sent(&id), false).await;
            if status == 200 {
                self.acknowledged.lock().unwrap().push(id);
            } else {
                self.refused.lock().unwrap().push(status);
            }
        }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Waits until so many more are acknowledged.
    async fn sends(&self, more: usize) {
        let (begun, before) = (Instant::now(), self.count());
        while self.count() < before + more {
            assert!(begun.elapsed() < PATIENCE, "nothing is acknowledged: {:?}", self.refused.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn sent(id: &str) -> Vec<u8> {
    let mut call = track("u", "basket_filled", json!({}));
    call["messageId"] = json!(id);
    batch(&[call])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_loses_no_event_and_counts_none_twice() {
    const SOME: usize = 30;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let old = keys(&["create", "web"], &data, &[]);
    let server = Arc::new(Server::start(&data, "wall").await);
    let sender = Arc::new(Sender {
        key: Mutex::new(old.clone()),
        acknowledged: Mutex::default(),
        refused: Mutex::default(),
        is_done: AtomicBool::new(false),
    });
    let client = tokio::spawn(sender.clone().run(server.clone()));
    sender.sends(SOME).await;
    let new = keys(&["rotate", "web", "--overlap", "8s"], &data, &[]);
    assert!(new != old && new.starts_with("mr_wk_"), "{new}");
    // A door that does not know it yet looks for it before it refuses it.
    assert_eq!(answer(&server, &new).await, 200);
    // The client knows nothing of it for a while.
    sender.sends(SOME).await;
    sender.key.lock().unwrap().clone_from(&new);
    sender.sends(SOME).await;
    // What was sent before the rotation is sent again after it, as by a client that missed the answer.
    assert_eq!(server.post("/v1/batch", &new, sent("m-0"), false).await.0, 200);
    until(&server, &old, 401).await;
    sender.sends(SOME).await;
    sender.is_done.store(true, Ordering::Relaxed);
    client.await.unwrap();
    assert_eq!(*sender.refused.lock().unwrap(), [] as [u16; 0]);

    server.caught_up().await;
    let acknowledged: BTreeSet<String> = sender.acknowledged.lock().unwrap().iter().cloned().collect();
    let actions = server.records("actions").await;
    let baskets = actions.iter().filter(|action| action["event"] == "basket_filled");
    let kept: BTreeSet<String> = baskets.clone().map(|b| b["message_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kept, acknowledged, "each is in the log");
    assert!(baskets.clone().all(|basket| basket["source"] == "web"), "all are of one source");
    assert_eq!(baskets.count(), acknowledged.len() + 1, "and one was sent twice");
    let (_, answer) = server.get("/v1/queries/events_by_name").await;
    let row = answer["rows"].as_array().unwrap().iter().find(|row| row[0] == "basket_filled").cloned();
    assert_eq!(row.map(|row| row[1].clone()), Some(json!(acknowledged.len())), "{answer}");
    Arc::into_inner(server).unwrap().stop();

    let [web] = &listed(&data)[..] else { panic!("there is one name") };
    assert!(web["state"] == "active" && web["rotated_at"].is_string(), "{web}");
    assert!(web["last_used_at"].as_str() >= web["rotated_at"].as_str(), "{web}");
    assert_eq!(web["old"], json!([]), "it is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_of_each_key_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let old = keys(&["create", "web"], &data, &[]);
    keys(&["create", "unused"], &data, &[]);
    let new = keys(&["rotate", "web"], &data, &[]);
    assert_ne!(old, new);
    let server = Server::start(&data, "wall").await;
    assert_eq!(answer(&server, &old).await, 200, "the old key is taken for a day");
    server.stop();
    let names = listed(&data);
    let [unused, web] = &names[..] else { panic!("there are two names: {names:?}") };
    assert_eq!((&unused["last_used_at"], &web["last_used_at"]), (&Value::Null, &Value::Null), "{names:?}");
    assert!(web["old"][0]["last_used_at"].is_string() && web["old"][0]["taken_until"].is_string(), "{web}");
    assert_eq!(web["old"][0]["id"].as_str(), Some(&old[..12]));
    let server = Server::start(&data, "wall").await;
    assert_eq!(answer(&server, &new).await, 200);
    server.stop();
    assert!(listed(&data)[1]["last_used_at"].is_string());
}

async fn until_read(server: &Server, token: &str, status: u16) {
    let begun = Instant::now();
    while server.get_as("/v1/status", token).await.0 != status {
        assert!(begun.elapsed() < PATIENCE, "not answered with {status} in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_key_reads_what_its_scopes_say_on_a_running_server() {
    const FEED: &str = "/v1/feeds/home?viewer=u";
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data, "wall").await;
    assert_eq!(server.get(FEED).await.0, 200, "there is no key that reads yet, and this is the loopback");
    let app = keys(&["create", "app", "--kind", "secret", "--scope", "feeds:read"], &data, &[]);
    assert!(app.len() == 55 && app.starts_with("mr_sk_"), "{app}");
    until_read(&server, "", 401).await;
    assert_eq!(server.get_as(FEED, &app).await.0, 200);
    let (status, body) = server.get_as("/v1/status", &app).await;
    assert!(status == 403 && body.contains("insufficient_scope") && body.contains("status:read"), "{status} {body}");
    assert_eq!(server.get_as("/v1/log/actions", &app).await.0, 403);
    assert_eq!(answer(&server, "anything").await, 200, "no key has closed the door for events");
    assert_eq!(answer(&server, &app).await, 403, "and this one may not go in there");
    let (status, body) = server.get_as(FEED, &app[..50]).await;
    assert!(status == 401 && body.contains("its checksum is wrong"), "{status} {body}");
    let boss = keys(&["create", "boss", "--kind", "secret", "--scope", "admin"], &data, &[]);
    for path in [FEED, "/v1/status", "/v1/queries", "/v1/log/actions"] {
        assert_eq!(read(&server, path, &boss).await, 200, "{path}");
    }
    keys(&["revoke", "boss"], &data, &[]);
    until_read(&server, &boss, 401).await;
    assert_eq!(answer(&server, &boss).await, 401, "nor does it send any more");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_an_earlier_version_kept_in_clear_is_taken_and_hashed() {
    const CLEAR: &str = "a-key-of-an-earlier-version";
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let catalog = SqliteCatalog::open(&data.join("catalog.db"), SqliteOptions::default()).await.unwrap();
    let text = json!({"name": "web", "key": CLEAR, "created_at_ms": 1_767_225_600_000_i64, "revoked": false});
    let document = Document::parse(&text.to_string()).unwrap();
    catalog.put("write-keys", "web", &document, Expect::Absent).await.unwrap();
    catalog.close().await;
    let server = Server::start(&data, "wall").await;
    assert_eq!((answer(&server, CLEAR).await, answer(&server, "another-key").await), (200, 401));
    assert_eq!(listed(&data)[0]["created_at"], "2026-01-01T00:00:00Z");
    let output = told(&["create", "app"], &data, None);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("1 key(s) that an earlier version kept in clear"), "{said}");
    let app = String::from_utf8(output.stdout).unwrap();
    until(&server, app.trim(), 200).await;
    assert_eq!((answer(&server, CLEAR).await, answer(&server, "another-key").await), (200, 401));
    server.stop();
    assert_eq!(holding(&data, CLEAR), [] as [String; 0]);
    assert_eq!(listed(&data)[1]["created_at"], "2026-01-01T00:00:00Z");
}

/// What the command says, with something on its standard input.
fn told(args: &[&str], data: &Path, input: Option<&str>) -> Output {
    let mut command = millrace(&["keys"]);
    command.args(args).arg("--data-dir").arg(data).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may not ask for any.
    drop(stdin.write_all(input.unwrap_or_default().as_bytes()));
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// The files below a folder that hold this text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if std::fs::read(&path).unwrap().windows(text.len()).any(|part| part == text.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_written_or_said_holds_a_secret() {
    const GIVEN: &str = "a-key-that-somebody-has-chosen";
    const CONFIGURED: &str = "a-key-of-the-configuration";
    const TOKEN: &str = "the-token-of-all-who-read";
    let folder = tempfile::tempdir().unwrap();
    let (data, output) = (folder.path().join("data"), folder.path().join("output"));
    let mut said = Vec::new();
    let mut make = |args: &[&str], input: Option<&str>| {
        let output = told(args, &data, input);
        assert!(output.status.success(), "keys {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        said.extend(output.stderr);
        String::from_utf8(output.stdout).unwrap()
    };
    let first = make(&["create", "web"], None);
    let second = make(&["rotate", "web"], None);
    let secret = make(&["create", "app", "--kind", "secret", "--scope", "feeds:read"], None);
    let given = make(&["create", "old", "--key", "-"], Some(&format!("{GIVEN}\n")));
    assert_eq!(given, "", "who brings a key knows it");
    for (args, input) in [
        (vec!["create", "other", "--key", "a-key-that-somebody-has-typed"], None),
        (vec!["create", "other", "--key", "-"], Some(GIVEN)),
        (vec!["rotate", "old", "--key", "-"], Some(GIVEN)),
        (vec!["create", "other", "--key", "-"], Some(&first[..40])),
        (vec!["create", "other", "--key", "-"], Some(secret.trim())),
        (vec!["create", "other", "--kind", "secret", "--scope", "admin", "--key", "-"], Some("another-one-of-mine")),
        (vec!["create", "other", "--kind", "secret"], None),
        (vec!["create", "other", "--scope", "feeds:read"], None),
    ] {
        let output = told(&args, &data, input);
        assert_eq!(output.status.code(), Some(2), "keys {args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "keys {args:?}");
        said.extend(output.stderr);
    }

    let mut command = millrace(&["up", "--clock", "wall"]);
    command.env("MILLRACE_LOG", "debug").env("MILLRACE_WRITE_KEYS", format!("conf:{CONFIGURED}"));
    command.env("MILLRACE_API_TOKEN", TOKEN);
    let file = File::create(&output).unwrap();
    command.stdout(file.try_clone().unwrap()).stderr(file);
    let server = Server::start_as(command, &data, free_port()).await;
    let keys: Vec<&str> = [&first, &second].into_iter().map(|key| key.trim()).chain([GIVEN, CONFIGURED]).collect();
    for key in &keys {
        assert_eq!(answer(&server, key).await, 200);
        for wrong in [&key[..key.len() - 1], &format!("{key}x")] {
            let (status, _, body) = server.post("/v1/batch", wrong, sent("m"), false).await;
            assert_eq!(status, 401);
            said.extend(body.to_string().into_bytes());
        }
    }
    for token in keys.iter().copied().chain([secret.trim(), TOKEN, &server.admin_token()]) {
        for path in ["/v1/feeds/home?viewer=u", "/v1/status", "/metrics", "/v1/log/actions"] {
            for token in [token, &token[1..]] {
                said.extend(server.get_as(path, token).await.1.into_bytes());
            }
        }
    }
    let admin_token = server.admin_token();
    let status = millrace(&["status", "--to", &server.url()]).env("MILLRACE_API_TOKEN", &TOKEN[1..]).output().unwrap();
    assert_eq!(status.status.code(), Some(2));
    said.extend([status.stdout, status.stderr].concat());
    server.stop();
    said.extend(told(&["list"], &data, None).stdout);
    said.extend(told(&["list", "--json"], &data, None).stdout);
    std::fs::write(folder.path().join("said"), said).unwrap();
    assert!(holding(folder.path(), "feeds:read").len() > 1, "what is said and kept is looked at");

    std::fs::remove_file(data.join("admin-token")).unwrap();
    // Of a key that was made the id shows the first twelve characters.
    let made = [&first, &second, &secret].into_iter().map(|key| &key.trim()[12..]);
    let others = [GIVEN, CONFIGURED, TOKEN, &admin_token, "a-key-that-somebody-has-typed", "another-one-of-mine"];
    for hidden in made.chain(others) {
        assert_eq!(holding(folder.path(), hidden), [] as [String; 0], "{hidden}");
    }
}
