//! A server of its own for each test, and a client for it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millrace_engines::fleet::Fleet;
pub(crate) use millrace_engines::free_port;
use serde_json::{Value, json};

/// The binary under test.
pub(crate) const MILLRACE: &str = env!("CARGO_BIN_EXE_millrace");

/// How long anything may take before the test fails; far above what it should.
const PATIENCE: Duration = Duration::from_secs(60);
/// Far above what a loaded machine needs to fill an online store again from the events of a test.
pub(crate) const FILLED_WITHIN: Duration = Duration::from_secs(120);
/// How often a feed may come too late in a row.
const SLOW_ANSWERS_MAX: u32 = 100;
/// What two sides are asked that must show the same.
const QUERIES: [&str; 4] = ["events_by_name", "events_by_hour", "top_posts", "active_users"];

/// A running `millrace up`; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    dir: PathBuf,
    http: reqwest::Client,
}

/// A `millrace` command without the variables of the machine it runs on.
pub(crate) fn millrace(args: &[&str]) -> Command {
    let mut command = Command::new(MILLRACE);
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MILLRACE_")) {
        command.env_remove(name);
    }
    command
}

impl Server {
    /// Starts on `dir` and waits until it is ready.
    pub(crate) async fn start(dir: &Path, clock: &str) -> Self {
        Self::start_on(dir, clock, free_port(), &[]).await
    }

    /// Starts on a port with further arguments.
    pub(crate) async fn start_on(dir: &Path, clock: &str, port: u16, args: &[&str]) -> Self {
        let mut command = millrace(&["up", "--clock", clock]);
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
        Self::start_as(command, dir, port).await
    }

    /// Starts this `up`, which is told neither where to listen nor where its data is.
    pub(crate) async fn start_as(mut command: Command, dir: &Path, port: u16) -> Self {
        let listen = format!("127.0.0.1:{port}");
        let child = command.args(["--listen", &listen, "--data-dir"]).arg(dir).spawn().unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let mut server = Self { child, port, dir: dir.to_path_buf(), http };
        let begun = Instant::now();
        loop {
            if server.try_get("/readyz").await.is_some_and(|(status, _)| status == 200) {
                return server;
            }
            assert!(server.child.try_wait().unwrap().is_none(), "the server ended before it was ready");
            assert!(begun.elapsed() < PATIENCE, "the server was not ready in time");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; must end with success within a few seconds.
    pub(crate) fn stop(mut self) {
        let begun = Instant::now();
        // The shell's own `kill`: the program of that name is not on every machine.
        let kill = Command::new("sh").args(["-c", "kill -TERM $0", &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "a server that was told to stop ended with {status}");
        assert!(begun.elapsed() < Duration::from_secs(10), "stopping took {:?}", begun.elapsed());
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Resident memory, bytes.
    pub(crate) fn resident(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    pub(crate) fn admin_token(&self) -> String {
        std::fs::read_to_string(self.dir.join("admin-token")).unwrap().trim().to_owned()
    }

    async fn try_get(&self, path: &str) -> Option<(u16, Vec<u8>)> {
        let answer = self.http.get(format!("{}{path}", self.url())).send().await.ok()?;
        Some((answer.status().as_u16(), answer.bytes().await.ok()?.to_vec()))
    }

    /// `GET path`: the status and the JSON.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        for _ in 0..SLOW_ANSWERS_MAX {
            let (status, body) = self.try_get(path).await.unwrap_or_else(|| panic!("no answer to GET {path}"));
            let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            if !is_slow(status, &body) {
                return (status, body);
            }
        }
        panic!("GET {path} stays too slow");
    }

    /// `GET path` with a token: the status and the body.
    pub(crate) async fn get_as(&self, path: &str, token: &str) -> (u16, String) {
        let answer = self.http.get(format!("{}{path}", self.url())).bearer_auth(token).send().await;
        let answer = answer.unwrap_or_else(|e| panic!("no answer to GET {path}: {e}"));
        (answer.status().as_u16(), answer.text().await.unwrap_or_default())
    }

    /// The status of the answer to `GET path`, and its `Retry-After`.
    pub(crate) async fn look(&self, path: &str) -> (u16, Option<String>) {
        for _ in 0..SLOW_ANSWERS_MAX {
            let answer = self.http.get(format!("{}{path}", self.url())).send().await;
            let answer = answer.unwrap_or_else(|e| panic!("no answer to GET {path}: {e}"));
            let retry_after = answer.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
            let (status, body) = (answer.status().as_u16(), answer.bytes().await.unwrap_or_default());
            if !is_slow(status, &serde_json::from_slice(&body).unwrap_or(Value::Null)) {
                return (status, retry_after);
            }
        }
        panic!("GET {path} stays too slow");
    }

    /// `POST path`: the status, `Retry-After`, and the JSON.
    pub(crate) async fn post(&self, path: &str, key: &str, body: Vec<u8>, gzip: bool) -> (u16, Option<String>, Value) {
        let mut request = self.http.post(format!("{}{path}", self.url())).basic_auth(key, Some("")).body(body);
        if gzip {
            request = request.header("content-encoding", "gzip");
        }
        let answer = request.send().await.unwrap_or_else(|e| panic!("no answer to POST {path}: {e}"));
        let retry_after = answer.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap_or_default();
        (status, retry_after, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Sends calls as one batch, which must be accepted.
    pub(crate) async fn send(&self, calls: &[Value]) {
        let (status, _, answer) = self.post("/v1/batch", "dev", batch(calls), false).await;
        assert_eq!((status, &answer), (200, &json!({"success": true})));
    }

    /// Waits until everything acknowledged is visible.
    pub(crate) async fn caught_up(&self) {
        let begun = Instant::now();
        while self.get("/v1/status").await.1["caught_up"] != true {
            assert!(begun.elapsed() < PATIENCE, "not caught up in time: {}", self.get("/v1/status").await.1);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// All records of a topic, as JSON.
    pub(crate) async fn records(&self, topic: &str) -> Vec<Value> {
        let (_, status) = self.get("/v1/status").await;
        let partitions = status["log"][topic].as_object().unwrap().clone();
        let mut records = Vec::new();
        for (partition, bounds) in partitions {
            let (mut from, end) = (bounds["start"].as_u64().unwrap(), bounds["end"].as_u64().unwrap());
            while from < end {
                let lines = self.page(topic, &partition, from).await;
                assert!(!lines.is_empty(), "{topic}/{partition} has no record at {from}, but ends at {end}");
                from += lines.len() as u64;
                records.extend(lines);
            }
        }
        records
    }

    /// Records of one partition from this offset on.
    async fn page(&self, topic: &str, partition: &str, from: u64) -> Vec<Value> {
        let url = format!("{}/v1/log/{topic}?partition={partition}&from={from}&limit=1000", self.url());
        let answer = self.http.get(url).bearer_auth(self.admin_token()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let text = answer.text().await.unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until in every partition of a replay the last event was followed by a tick with the newest time, and all of it
    /// is applied: only then does what is stored depend on nothing but the input.
    pub(crate) async fn at_rest(&self) {
        let begun = Instant::now();
        loop {
            let last = self.last_actions().await;
            let is_told = |action: &Value| action["message_id"].as_str().is_none_or(str::is_empty);
            if last.iter().all(|action| is_told(action) && action["log_time"] == last[0]["log_time"]) {
                return self.caught_up().await;
            }
            assert!(begun.elapsed() < PATIENCE, "not at rest in time: {last:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The newest record of each partition of `actions` that has one.
    async fn last_actions(&self) -> Vec<Value> {
        let (_, status) = self.get("/v1/status").await;
        let mut last = Vec::new();
        for (partition, bounds) in status["log"]["actions"].as_object().unwrap() {
            if let Some(newest) = bounds["end"].as_u64().unwrap().checked_sub(1) {
                last.extend(self.page("actions", partition, newest).await);
            }
        }
        last
    }

    /// The items of a viewer's feed: post ids, over all pages.
    pub(crate) async fn feed(&self, viewer: &str) -> Vec<String> {
        self.items(viewer).await.iter().map(|item| item["post_id"].as_str().unwrap().to_owned()).collect()
    }

    /// The items of a viewer's feed that are there because the viewer follows their author: post ids.
    pub(crate) async fn followed_feed(&self, viewer: &str) -> Vec<String> {
        let mut items = self.items(viewer).await;
        items.retain(|item| item["reason"] == "follows");
        items.iter().map(|item| item["post_id"].as_str().unwrap().to_owned()).collect()
    }

    async fn items(&self, viewer: &str) -> Vec<Value> {
        let mut posts = Vec::new();
        let mut cursor = String::new();
        loop {
            let (status, page) = self.get(&format!("/v1/feeds/home?viewer={viewer}&limit=50{cursor}")).await;
            assert_eq!(status, 200, "{page}");
            posts.extend_from_slice(page["items"].as_array().unwrap());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return posts,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone when it was stopped or killed.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What puts every store of a server on an engine. A log that is away is told of soon.
pub(crate) fn on_engines(fleet: &Fleet) -> Vec<String> {
    let soon = |store, url| if store == "log" { format!("{url}&append_timeout_ms=3000") } else { url };
    let is_on_s3 = std::env::var("MILLRACE_TEST_WAREHOUSE").is_ok_and(|scheme| scheme == "s3");
    let stores = if is_on_s3 { fleet.stores_with_delta() } else { fleet.stores() };
    stores.into_iter().flat_map(|(store, url)| [format!("--{store}"), soon(store, url)]).collect()
}

/// A busy machine leaves nothing of a feed in time, and says so: it is asked for again.
fn is_slow(status: u16, body: &Value) -> bool {
    status == 503 && body["code"] == "store_slow"
}

/// One `track` call.
pub(crate) fn track(user: &str, event: &str, properties: Value) -> Value {
    json!({"type": "track", "userId": user, "event": event, "properties": properties})
}

/// The body of a batch.
pub(crate) fn batch(calls: &[Value]) -> Vec<u8> {
    json!({ "batch": calls }).to_string().into_bytes()
}

/// Runs `millrace verify` on a data directory that no server has open; it must find nothing. Gives the content hash.
pub(crate) fn verify(dir: &Path) -> String {
    let output = millrace(&["verify", "--json", "--data-dir"]).arg(dir).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("verify said {:?}", String::from_utf8_lossy(&output.stderr)));
    assert!(output.status.success() && report["equal"] == true, "{report}");
    report["content_hash"].as_str().unwrap().to_owned()
}

/// Waits until everything is as expected: the online store is filled from the log while the server runs.
pub(crate) async fn filled(server: &Server, data: &Path, expected: &str) {
    let begun = Instant::now();
    loop {
        let report = verify_live(server, data);
        if report["equal"] == true && report["content_hash"] == expected {
            return;
        }
        assert!(begun.elapsed() < FILLED_WITHIN, "not as expected ({expected}) in time: {report}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn verify_live(server: &Server, data: &Path) -> Value {
    let output = millrace(&["verify", "--json", "--to", &server.url(), "--data-dir"]).arg(data).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// The rows of some queries.
pub(crate) async fn ask(server: &Server) -> Vec<Value> {
    let mut answers = Vec::new();
    for name in QUERIES {
        let (status, answer) = server.get(&format!("/v1/queries/{name}")).await;
        assert_eq!(status, 200, "{name}: {answer}");
        answers.push(answer["rows"].clone());
    }
    answers
}
