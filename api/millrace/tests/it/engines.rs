//! The same events on Kafka, Redis, ClickHouse, S3 and Postgres as in a data directory: the same present, the same answers, also when the
//! server is killed, when Redis forgets everything, and when an engine is away for a while.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use millrace_engines::fleet::Fleet;
use serde_json::Value;

use super::support::{Server, free_port, millrace, on_engines, verify};

const EVENTS: &str = "8000";
const KILLS: u32 = 5;
/// Far above what a loaded machine needs to fill Redis again from so few events.
const FILLED_WITHIN: Duration = Duration::from_secs(120);
/// What both sides are asked.
const QUERIES: [&str; 4] = ["events_by_name", "events_by_hour", "top_posts", "active_users"];

#[tokio::test(flavor = "multi_thread")]
async fn engines_show_what_a_data_directory_shows() {
    let Some(engines) = Fleet::start() else { return };
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
    let arguments = on_engines(&engines);
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
fn doctor_tells(arguments: &[&str], engines: &Fleet) {
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

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_away_stops_only_what_needs_it() {
    let Some(mut engines) = Fleet::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("first");
    let arguments = on_engines(&engines);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Server::start_on(&data, "wall", free_port(), &arguments).await;
    let mut sent = 0;
    for _ in 0..20 {
        assert_eq!(post(&server, &mut sent).await, 200);
    }
    server.caught_up().await;

    engines.clickhouse.kill();
    assert_eq!(post(&server, &mut sent).await, 200, "without ClickHouse");
    assert_eq!((feed(&server).await, query(&server).await), (200, 503), "without ClickHouse");
    engines.clickhouse.restart();
    server.caught_up().await;
    assert_eq!(query(&server).await, 200);

    engines.redis.kill();
    assert_eq!(post(&server, &mut sent).await, 200, "without Redis");
    assert_eq!((feed(&server).await, query(&server).await), (503, 200), "without Redis");
    engines.redis.restart();
    server.caught_up().await;
    assert_eq!(feed(&server).await, 200);

    engines.minio.kill();
    engines.postgres.kill();
    for _ in 0..20 {
        assert_eq!(post(&server, &mut sent).await, 200, "without S3 and Postgres");
    }
    assert_eq!((feed(&server).await, query(&server).await), (200, 200), "without S3 and Postgres");
    // Longer than state waits for its next commit.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!((post(&server, &mut sent).await, feed(&server).await), (200, 200), "still without S3 and Postgres");
    engines.minio.restart();
    engines.postgres.restart();
    server.caught_up().await;

    engines.kafka.suspend(0);
    let unsure = sent;
    assert_eq!(post(&server, &mut sent).await, 503, "without Kafka");
    assert_eq!((feed(&server).await, query(&server).await), (200, 200), "without Kafka");
    engines.kafka.resume(0);
    let begun = Instant::now();
    loop {
        // The same event again, as a client does: it may have arrived all the same, and counts once.
        sent = unsure;
        if post(&server, &mut sent).await == 200 {
            break;
        }
        assert!(begun.elapsed() < FILLED_WITHIN, "Kafka is back and takes nothing");
    }

    let doors = [&arguments[..], &["--roles", "collector,api"]].concat();
    let door = Server::start_on(&folder.path().join("second"), "wall", free_port(), &doors).await;
    assert_eq!(post(&door, &mut sent).await, 200, "at a second door");
    assert_eq!(feed(&door).await, 200, "at a second door");
    door.stop();
    server.caught_up().await;
    let (_, answer) = server.get("/v1/queries/events_by_name").await;
    assert_eq!(answer["rows"], serde_json::json!([["post_created", sent]]), "each event counts once");
    let begun = Instant::now();
    while verify_live(&server, &data)["equal"] != true {
        assert!(begun.elapsed() < FILLED_WITHIN, "{}", verify_live(&server, &data));
    }
    server.stop();
}

/// Sends one more post; the status of the answer.
async fn post(server: &Server, sent: &mut u64) -> u16 {
    *sent += 1;
    let properties = serde_json::json!({ "post_id": format!("p{sent}"), "text": "x" });
    let call = serde_json::json!({
        "userId": format!("u{}", *sent % 9),
        "event": "Post Created",
        "messageId": format!("m{sent}"),
        "properties": properties,
    });
    server.post("/v1/track", "dev", call.to_string().into_bytes(), false).await.0
}

async fn feed(server: &Server) -> u16 {
    server.get("/v1/feeds/home?viewer=u1").await.0
}

async fn query(server: &Server) -> u16 {
    server.get("/v1/queries/events_by_name").await.0
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
