//! The same events on Kafka, Redis and ClickHouse as in a data directory: the same present, the same answers, also when the
//! server is killed, when Redis forgets everything, and when an engine is away for a while.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use millrace_engines::clickhouse::ClickHouse;
use millrace_engines::kafka::Kafka;
use millrace_engines::redis::{self, Redis};
use millrace_engines::skip;
use serde_json::Value;

use super::support::{Server, free_port, millrace, verify};

const EVENTS: &str = "8000";
const KILLS: u32 = 5;
/// Far above what a loaded machine needs to fill Redis again from so few events.
const FILLED_WITHIN: Duration = Duration::from_secs(120);
/// What both sides are asked.
const QUERIES: [&str; 4] = ["events_by_name", "events_by_hour", "top_posts", "active_users"];

struct Engines {
    kafka: Kafka,
    redis: Redis,
    clickhouse: ClickHouse,
}

impl Engines {
    /// `None`, said aloud, when one of them cannot be had.
    fn start() -> Option<Self> {
        let kafka = Kafka::start(1, "")?;
        let redis = Redis::start();
        if redis.is_none() {
            skip("Redis", redis::CURE);
        }
        Some(Self { kafka, redis: redis?, clickhouse: ClickHouse::start()? })
    }

    fn arguments(&self) -> Vec<String> {
        let kafka = format!("kafka://{}/it?replication=1&min_insync=1", self.kafka.brokers());
        let clickhouse = self.clickhouse.url().replacen("http://", "clickhouse://", 1);
        ["--log", &kafka, "--online", &self.redis.url(), "--warehouse", &clickhouse].map(str::to_owned).into()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_show_what_a_data_directory_shows() {
    let Some(engines) = Engines::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("events.ndjson");
    let simulated = ["simulate", "--seed", "7", "--users", "200", "--duplicates", "0.05", "--events", EVENTS, "--out"];
    assert!(millrace(&simulated).arg(&input).status().unwrap().success());

    let calm = folder.path().join("calm");
    let server = Server::start(&calm, "replay").await;
    assert!(millrace(&["import", "segment", "--wait", "--to", &server.url()]).arg(&input).status().unwrap().success());
    server.at_rest().await;
    let answers = ask(&server).await;
    server.stop();
    let expected = verify(&calm);

    let data = folder.path().join("engines");
    let arguments = engines.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let port = free_port();
    let mut server = Server::start_on(&data, "replay", port, &arguments).await;
    let mut import =
        millrace(&["import", "segment", "--wait", "--rate", "1000", "--batch", "40", "--to", &server.url()])
            .arg(&input)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.kill();
        server = Server::start_on(&data, "replay", port, &arguments).await;
    }
    let status = tokio::task::spawn_blocking(move || import.wait()).await.unwrap().unwrap();
    assert!(status.success(), "the import ended with {status}");
    server.at_rest().await;
    filled(&server, &data, &expected).await;
    assert_eq!(ask(&server).await, answers, "after kills");

    engines.redis.command(&["FLUSHALL"]);
    filled(&server, &data, &expected).await;
    server.stop();
    doctor_tells(&arguments, &engines);
}

/// What is wrong with these engines is named with its cure: topics with one copy, a password that nobody has.
fn doctor_tells(arguments: &[&str], engines: &Engines) {
    let findings = doctor(arguments);
    let single = findings.iter().find(|finding| finding["what"].as_str().unwrap().contains("replica"));
    let single = single.unwrap_or_else(|| panic!("one copy is not told: {findings:#?}"));
    assert!(single["level"] == "warning" && single["cure"].is_string(), "{single}");
    assert!(findings.iter().all(|finding| finding["level"] != "fault"), "{findings:#?}");

    let (_, host) = engines.clickhouse.url().rsplit_once('@').unwrap();
    let wrong = format!("clickhouse://nobody:secret-word@{host}");
    let findings = doctor(&["--online", "redis://127.0.0.1:1", "--warehouse", &wrong]);
    for store in ["online", "warehouse"] {
        let faults = findings.iter().filter(|finding| finding["store"] == store && finding["level"] == "fault");
        assert!(faults.clone().count() > 0 && faults.clone().all(|fault| fault["cure"].is_string()), "{findings:#?}");
    }
    assert!(!format!("{findings:?}").contains("secret-word"), "a password is told: {findings:#?}");
}

fn doctor(arguments: &[&str]) -> Vec<Value> {
    let output = millrace(&["doctor", "--json"]).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until everything is as expected: Redis is filled from the log while the server runs.
async fn filled(server: &Server, data: &Path, expected: &str) {
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

async fn ask(server: &Server) -> Vec<Value> {
    let mut answers = Vec::new();
    for name in QUERIES {
        let (status, answer) = server.get(&format!("/v1/queries/{name}")).await;
        assert_eq!(status, 200, "{name}: {answer}");
        answers.push(answer["rows"].clone());
    }
    answers
}
