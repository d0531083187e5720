//! The server ends at each named point between one write and the next, again and again, while clients send.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::crash::{Random, number, seed};
use super::load::Load;
use super::support::{Server, free_port, millrace, verify};

/// How often it ends at each point, unless `MILLRACE_CRASH_TIMES` says otherwise.
const TIMES: u64 = 20;
/// A life passes a point less often than this before it ends there; where it comes by once a second, less often than that.
const PASSES: u64 = 12;
const SELDOM_PASSES: u64 = 3;
/// How long a life may last.
const LIFE: Duration = Duration::from_secs(90);
const SIGABRT: i32 = 6;
/// How many directories see ends at the same time.
const FAMILIES: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn an_end_between_any_two_writes_loses_and_doubles_nothing() {
    let times = number("MILLRACE_CRASH_TIMES").unwrap_or(TIMES);
    let mut random = Random(seed());
    // Several directories at the same time: a life mostly waits. Slow points are neighbours.
    let families = (0..FAMILIES).map(|nth| {
        // Nobody comes by those of a spool while the log is well: `spool` is where they are.
        let points = millrace_failpoints::NAMES.iter().copied().filter(|point| !point.starts_with("spool"));
        let points: Vec<_> = points.skip(nth).step_by(FAMILIES).collect();
        let random = Random(random.below(u64::MAX) | 1);
        tokio::spawn(async move { lives(&points, times, random).await })
    });
    for family in families.collect::<Vec<_>>() {
        family.await.unwrap();
    }
}

async fn lives(points: &[&str], times: u64, mut random: Random) {
    let folder = tempfile::tempdir().unwrap();
    let (data, port) = (folder.path().join("data"), free_port());
    let load = Load::start(port, folder.path());
    let begun = Instant::now();
    for _ in 0..times {
        for point in points {
            let is_often = point.starts_with("collector") || point.starts_with("runner");
            let passes = random.below(if is_often { PASSES } else { SELDOM_PASSES });
            let plan = format!("{point}={passes}*off->1*return(abort)");
            let Doomed(server) = &mut doomed(&data, port, &plan);
            let died = Instant::now() + LIFE;
            let status = loop {
                if let Some(status) = server.try_wait().unwrap() {
                    break status;
                }
                assert!(Instant::now() < died, "nothing came to {plan}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            };
            assert_eq!(status.signal(), Some(SIGABRT), "{plan} ended with {status}");
        }
    }
    println!("{} ends at {points:?} in {:.0} s", times * points.len() as u64, begun.elapsed().as_secs_f64());
    let server = Server::start_on(&data, "wall", port, &[]).await;
    let ledger = load.finish().await;
    server.caught_up().await;
    ledger.check(&server).await;
    server.stop();
    verify(&data);
}

/// Killed when dropped, should it not have ended by itself.
struct Doomed(Child);

impl Drop for Doomed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A server that ends at a point.
fn doomed(data: &Path, port: u16, plan: &str) -> Doomed {
    let child = millrace(&["up", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
        .arg(data)
        .env("FAILPOINTS", plan)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Doomed(child.unwrap())
}
