//! A door whose log is away keeps events on its own disk up to a bound, then refuses them, and brings them in afterwards: each
//! that was acknowledged counts once, with an id of its client's or without, also when the door is killed meanwhile.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use millrace_engines::kafka::Kafka;
use serde_json::json;

use super::support::{Server, batch, free_port, millrace, track, verify};

/// Filled by a few dozen events.
const SPOOL_BYTES: &str = "100000";
/// Far above how many that is.
const EVENTS_MAX: u64 = 1_000;

/// What a client saw.
#[derive(Default)]
struct Sent {
    acknowledged: u64,
    refused: u64,
}

/// Sends events without ids until one is refused, and one that becomes a dead letter first.
async fn fill(server: &Server, sent: &mut Sent) {
    let (status, ..) = server.post("/v1/batch", "dev", batch(&[json!(1)]), false).await;
    assert_eq!(status, 200);
    while sent.refused == 0 {
        let share = track("ada", "post_shared", json!({"post_id": "p", "pad": "x".repeat(2_000)}));
        let (status, retry_after, answer) = server.post("/v1/batch", "dev", batch(&[share]), false).await;
        match status {
            200 => sent.acknowledged += 1,
            503 => {
                sent.refused += 1;
                assert!(retry_after.unwrap().parse::<u32>().unwrap() >= 1, "{answer}");
            }
            other => panic!("a door without a log answered with {other}: {answer}"),
        }
        assert!(sent.acknowledged < EVENTS_MAX, "the spool does not fill up");
    }
    let (_, status) = server.get("/v1/status").await;
    assert_eq!(status["caught_up"], false, "{status}");
    // The dead letter too.
    assert!(status["spool"]["events"].as_u64().unwrap() > 10, "{status}");
    assert!(status["spool"]["oldest"].is_string(), "{status}");
}

/// Everything that was acknowledged is there once.
async fn check(server: &Server, sent: &Sent) {
    server.caught_up().await;
    let (_, engagement) = server.get("/v1/posts/p/engagement").await;
    let shares = engagement["totals"]["shares"].as_u64().unwrap();
    // Without an id nobody knows what came of a refused one: at most a disk that was too slow has it.
    let possible = sent.acknowledged..=sent.acknowledged + sent.refused;
    assert!(possible.contains(&shares), "{} acknowledged, {shares} counted", sent.acknowledged);
    let letters = server.records("dead-letters").await;
    let ids: BTreeSet<_> = letters.iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1, "{letters:?}");
    assert!(!ids.contains(""), "a letter that may be there twice has an id");
    let (_, status) = server.get("/v1/status").await;
    assert!(status["spool"].is_null(), "{status}");
}

/// Starts a door whose log seems to be as the failpoints say.
async fn start(data: &Path, arguments: &[&str], weather: &str) -> Server {
    let mut command = millrace(&["up"]);
    command.args(arguments).env("FAILPOINTS", weather).stdout(Stdio::null()).stderr(Stdio::null());
    Server::start_as(command, data, free_port()).await
}

fn is_empty(dir: &Path) -> bool {
    let mut files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    !files.any(|path| path.extension().is_some_and(|extension| extension == "spool"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_refuses_and_a_kill_loses_and_doubles_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (data, dir) = (folder.path().join("data"), folder.path().join("spool"));
    let text = dir.display().to_string();
    let arguments = ["--spool-dir", &text, "--spool-bytes", SPOOL_BYTES];
    let away = "spool-trying=return(refuse);spool-draining=return(refuse)";
    let server = start(&data, &arguments, away).await;
    let mut sent = Sent::default();
    fill(&server, &mut sent).await;
    assert_eq!(server.get("/readyz").await.0, 503, "a door that takes no events is not ready");
    server.kill();
    assert!(!is_empty(&dir));

    // A log that refuses most of the time: what it took before it refused is repeated.
    let rough = "spool-draining=70%return(refuse)";
    let server = start(&data, &arguments, rough).await;
    check(&server, &sent).await;
    assert!(is_empty(&dir));
    server.stop();
    verify(&data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_takes_events_while_kafka_is_away_and_they_survive_a_kill() {
    let Some(mut kafka) = Kafka::start(1, "") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (data, port) = (folder.path().join("data"), free_port());
    let log = format!("kafka://{}/spooled?replication=1&min_insync=1&append_timeout_ms=3000", kafka.brokers());
    let arguments = ["--log", &log, "--partitions", "2", "--spool-bytes", SPOOL_BYTES];
    let server = Server::start_on(&data, "wall", port, &arguments).await;
    let mut sent = Sent::default();
    server.send(&[track("ada", "post_created", json!({"post_id": "p", "text": "x"}))]).await;
    server.caught_up().await;

    kafka.kill(0);
    fill(&server, &mut sent).await;
    server.kill();
    assert!(!is_empty(&data.join("spool")));

    // Kafka is still away: a door that is started now takes events all the same, as it knows which log they are for.
    let roomy = ["--log", &log, "--partitions", "2", "--spool-bytes", "1000000"];
    let server = Server::start_on(&data, "wall", port, &roomy).await;
    for _ in 0..10 {
        let share = track("ada", "post_shared", json!({"post_id": "p"}));
        let (status, _, answer) = server.post("/v1/batch", "dev", batch(&[share]), false).await;
        assert_eq!(status, 200, "{answer}");
        sent.acknowledged += 1;
    }
    let (code, status) = server.get("/v1/status").await;
    assert!(code == 200 && status["caught_up"] == false, "{code} {status}");
    kafka.restart(&[0]);
    check(&server, &sent).await;
    assert!(is_empty(&data.join("spool")));
    server.stop();
}
