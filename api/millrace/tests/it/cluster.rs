//! Several processes share the work: workers that are killed, join late, or sleep at the wrong moment and wake up when others
//! have taken over, while clients send.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millrace_engines::fleet::Fleet;
use serde_json::Value;

use super::load::Load;
use super::support::{Server, free_port, millrace, on_engines};

/// Where a worker falls asleep, to be a zombie when it wakes, and
/// after it was passed so often.
const POINTS: [(&str, u32); 8] = [
    ("runner-applied", 30),
    ("runner-published", 30),
    ("runner-online", 30),
    ("runner-committing", 6),
    ("runner-committed", 6),
    ("archive-cut", 3),
    ("warehouse-stored", 3),
    ("archive-committed", 3),
];
/// Far above the time after which a group gives the partitions of a silent member away, and that a state needs to open.
const PATIENCE: Duration = Duration::from_secs(120);

/// A worker, perhaps with a point where it falls asleep; killed when dropped.
struct Worker(Child);

impl Worker {
    fn start(data: &Path, arguments: &[&str], plan: Option<&str>) -> Self {
        let log = std::fs::File::create(data.with_extension("log")).unwrap();
        let mut command = millrace(&["up", "--roles", "pipelines", "--listen"]);
        command.arg(format!("127.0.0.1:{}", free_port())).arg("--data-dir").arg(data).args(arguments);
        if let Some(plan) = plan {
            command.env("FAILPOINTS", plan);
        }
        Self(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn is_asleep(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // The state follows the name, which stands in brackets.
        stat.rsplit_once(')').unwrap().1.trim_start().starts_with('T')
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} $0");
        assert!(Command::new("sh").args(["-c", &kill, &self.0.id().to_string()]).status().unwrap().success());
    }

    /// Leaves the group as it should.
    fn stop(mut self) {
        self.signal("TERM");
        let status = self.0.wait().unwrap();
        assert!(status.success(), "a worker that was told to stop ended with {status}");
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Already gone when it was killed.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_die_join_and_sleep_lose_and_double_nothing() {
    let Some(engines) = Fleet::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let arguments = on_engines(&engines);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let data = |name: &str| folder.path().join(name);
    let port = free_port();
    let doors = [&arguments[..], &["--roles", "collector,api"]].concat();
    let door = Server::start_on(&data("door"), "wall", port, &doors).await;
    let load = Load::start(port, folder.path());

    let first = Worker::start(&data("first"), &arguments, None);
    let mut second = Worker::start(&data("second"), &arguments, None);
    progress(&door, "two workers").await;
    let begun = Instant::now();
    drop(first);
    progress(&door, "one worker killed").await;
    println!("taken over {:.1} s after a kill", begun.elapsed().as_secs_f64());
    let mut third = Worker::start(&data("third"), &arguments, None);
    progress(&door, "a third one joined").await;

    for (point, passes) in POINTS {
        let plan = format!("{point}={passes}*off->1*return(stop)");
        let mut zombie = Worker::start(&data(point), &arguments, Some(&plan));
        until(|| zombie.is_asleep() || !zombie.is_alive(), point).await;
        assert!(zombie.is_alive(), "{point}: the worker ended before it slept");
        // It had partitions: until they are given away nobody goes on with them.
        progress(&door, &format!("asleep at {point}")).await;
        zombie.signal("CONT");
        progress(&door, &format!("woken at {point}")).await;
        assert!(zombie.is_alive(), "{point}: a zombie ended by itself");
        zombie.stop();
        progress(&door, &format!("stopped after {point}")).await;
    }
    assert!(second.is_alive() && third.is_alive(), "a worker ended by itself");
    let ledger = load.finish().await;
    progress(&door, "at rest").await;
    ledger.archived(&door).await;
    ledger.check(&door).await;
    door.stop();
    drop((second, third));

    let output = millrace(&["verify", "--json", "--data-dir"]).arg(data("door")).args(&arguments).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report} {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until everything that is in the log now is applied, whoever does it.
async fn progress(door: &Server, when: &str) {
    let begun = Instant::now();
    // What was sent before is applied already, or nearly: what is sent now is what somebody must go on with.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let wanted = loop {
        let (_, status) = door.get("/v1/status").await;
        let wanted = status["jobs"].as_object().unwrap().clone();
        assert!(!wanted.is_empty(), "a door does not know of any job: {status}");
        // On a busy machine the log does not always tell in time how far it goes, and after one such topic tells no other.
        let topics = status["log"].as_object().unwrap();
        if topics.values().all(|partitions| partitions.as_object().is_some_and(|ends| !ends.is_empty())) {
            break wanted;
        }
        assert!(begun.elapsed() < PATIENCE, "{when}: the log does not tell how far it goes: {status}");
    };
    loop {
        let (_, status) = door.get("/v1/status").await;
        let is_applied = |job: &str, partition: &str, end: &Value| {
            let at = &status["jobs"][job][partition];
            let (known, lag) = (at["end"].as_u64().unwrap_or(0), at["lag"].as_u64().unwrap_or(u64::MAX));
            known.saturating_sub(lag) >= end.as_u64().unwrap()
        };
        let is_done = wanted.iter().all(|(job, partitions)| {
            let mut partitions = partitions.as_object().unwrap().iter();
            partitions.all(|(partition, at)| is_applied(job, partition, &at["end"]))
        });
        if is_done {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{when}: not applied in time: {}", status["jobs"]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn until(mut is_so: impl FnMut() -> bool, what: &str) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
