//! kill -9 at random during an import, then finish: nothing lost, nothing double, the present as without kills.
//!
//! `MILLRACE_CRASH_KILLS=N` kills more often; `MILLRACE_CRASH_SEED=S` repeats a run's delays.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::support::{Server, free_port, millrace, verify};

/// Events per kill: about what goes in while the server lives, so that kills fall all over the import.
const EVENTS_PER_KILL: u64 = 500;
/// Calls in one request. Each has one log time, and what is on time hangs on it.
const BATCH: usize = 40;

pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

/// XorShift64*: delays need no more.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_during_an_import_lose_and_double_nothing() {
    let kills = number("MILLRACE_CRASH_KILLS").unwrap_or(50);
    let mut random = Random(seed());
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("events.ndjson");
    let events = kills * EVENTS_PER_KILL;
    let made = millrace(&["simulate", "--seed", "5", "--users", "300", "--duplicates", "0.05"])
        .args(["--events", &events.to_string(), "--out"])
        .arg(&input)
        .status()
        .unwrap();
    assert!(made.success());
    let lines = std::fs::read_to_string(&input).unwrap();
    let sent: BTreeSet<String> = lines.lines().map(message_id).collect();

    // The first batch goes alone, so that the past begins at the same moment in every partition of both: trends divide by how
    // much of it is known.
    let (first, rest) = (folder.path().join("first.ndjson"), folder.path().join("rest.ndjson"));
    let (head, tail) = lines.split_at(lines.match_indices('\n').nth(BATCH - 1).unwrap().0 + 1);
    std::fs::write(&first, head).unwrap();
    std::fs::write(&rest, tail).unwrap();

    let calm = folder.path().join("calm");
    let server = Server::start(&calm, "replay").await;
    for part in [&first, &rest] {
        assert!(import(&server, part, &[]).status().unwrap().success());
        server.at_rest().await;
    }
    server.stop();
    let expected = verify(&calm);

    let rough = folder.path().join("rough");
    let port = free_port();
    let mut server = Server::start_on(&rough, "replay", port, &[]).await;
    assert!(import(&server, &first, &[]).status().unwrap().success());
    server.at_rest().await;
    let mut import = import(&server, &rest, &["--rate", "3000"]);
    let mut import = import.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let mut done = 0;
    while done < kills && import.try_wait().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(random.below(300))).await;
        server.kill();
        done += 1;
        server = Server::start_on(&rough, "replay", port, &[]).await;
        assert!(begun.elapsed() < Duration::from_secs(60 + 10 * kills), "after {done} kills the time is up");
    }
    let status = tokio::task::spawn_blocking(move || import.wait()).await.unwrap().unwrap();
    assert!(status.success(), "the import ended with {status}");
    println!("{done} kills in {:.1} s", begun.elapsed().as_secs_f64());
    assert!(done * 10 >= kills * 8, "the import was over after only {done} kills: raise EVENTS_PER_KILL");

    let logged: Vec<String> = server
        .records("actions")
        .await
        .iter()
        .filter_map(|record| record["message_id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned))
        .collect();
    let logged: BTreeSet<String> = logged.into_iter().collect();
    assert_eq!(sent.difference(&logged).next(), None, "an event that was acknowledged is not in the log");
    assert_eq!(logged.difference(&sent).next(), None, "the log has an event that nobody sent");
    server.at_rest().await;
    server.kill();
    assert_eq!(verify(&rough), expected, "the present differs from that of a run without kills");
}

fn import(server: &Server, file: &Path, options: &[&str]) -> Command {
    let mut command = millrace(&["import", "segment", "--wait", "--to", &server.url()]);
    command.args(["--batch", &BATCH.to_string()]).args(options).arg(file);
    command
}

/// Where chance begins: told, so that it can be given again.
pub(crate) fn seed() -> u64 {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("MILLRACE_CRASH_SEED").unwrap_or(clock | 1);
    println!("MILLRACE_CRASH_SEED={seed}");
    seed
}

fn message_id(line: &str) -> String {
    let call: serde_json::Value = serde_json::from_str(line).unwrap();
    call["messageId"].as_str().unwrap().to_owned()
}
