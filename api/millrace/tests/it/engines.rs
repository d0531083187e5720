//! The same events on Kafka, Redis, ClickHouse, S3 and Postgres as in a data directory: the same present, the same answers, also when the
//! server is killed, and when Redis forgets everything.

use std::process::Stdio;
use std::time::Duration;

use millrace_engines::fleet::Fleet;

use super::support::{Server, ask, filled, free_port, millrace, on_engines, verify};

const EVENTS: &str = "8000";
const KILLS: u32 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn engines_show_what_a_data_directory_shows() {
    let Some(engines) = Fleet::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("events.ndjson");
    let simulated = ["simulate", "--seed", "7", "--users", "200", "--duplicates", "0.05", "--events", EVENTS, "--out"];
    assert!(millrace(&simulated).arg(&input).status().unwrap().success());

    let calm = folder.path().join("calm");
    let server = Server::start(&calm, "replay").await;
    // In batches of the same size: a batch has one log time, and what was on time hangs on it.
    let mut import = millrace(&["import", "segment", "--wait", "--batch", "40", "--to", &server.url()]);
    assert!(import.arg(&input).status().unwrap().success());
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
}
