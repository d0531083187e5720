//! Engines that are away for a while, one after the other, while events come in: meanwhile people see what the README says, and
//! afterwards everything is as if nothing had been.
//!
//! `MILLRACE_ABSENCE_SECONDS=N` is how long each is away.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use millrace_engines::fleet::Fleet;

use super::crash::number;
use super::support::{FILLED_WITHIN, Server, ask, filled, free_port, millrace, verify};

/// How long each is away unless said otherwise.
const SECONDS: u64 = 3;
/// Events that are sent during each absence, before some of them are sent again.
const EVENTS_EACH: usize = 500;
/// Events in one request.
const BATCH: usize = 20;
/// The only key that the door takes.
const KEY: &str = "the-key-of-absences";
/// Far above how long a door waits for a leader to be elected, and an import pauses before it repeats a request.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at all doors.
const PAUSE: Duration = Duration::from_millis(250);

/// One engine, or a part of it, that is away for a while, and what people see meanwhile.
struct Absence {
    who: &'static str,
    goes: fn(&mut Fleet),
    comes: fn(&mut Fleet),
    /// How many times as long as the others it is away.
    lasts: u32,
    feeds: Seen,
    queries: Seen,
    keys_change: bool,
}

/// How a door answers while an engine is away.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Answers,
    /// With 503 and `Retry-After`.
    Refuses,
}

const NOTHING_MISSING: Absence = Absence {
    who: "",
    goes: |_| {},
    comes: |_| {},
    lasts: 1,
    feeds: Seen::Answers,
    queries: Seen::Answers,
    keys_change: true,
};

const ABSENCES: [Absence; 9] = [
    Absence {
        who: "one of three brokers, told to stop",
        goes: |fleet| fleet.kafka.stop(0),
        comes: |fleet| fleet.kafka.restart(&[0]),
        ..NOTHING_MISSING
    },
    Absence {
        who: "one of three brokers, killed",
        goes: |fleet| fleet.kafka.kill(1),
        comes: |fleet| fleet.kafka.restart(&[1]),
        ..NOTHING_MISSING
    },
    Absence {
        who: "every broker, killed",
        goes: |fleet| (0..fleet.kafka.size()).for_each(|nth| fleet.kafka.kill(nth)),
        comes: |fleet| fleet.kafka.restart(&[0, 1, 2]),
        ..NOTHING_MISSING
    },
    Absence {
        who: "every broker, hanging",
        goes: |fleet| (0..fleet.kafka.size()).for_each(|nth| fleet.kafka.suspend(nth)),
        comes: |fleet| (0..fleet.kafka.size()).for_each(|nth| fleet.kafka.resume(nth)),
        ..NOTHING_MISSING
    },
    Absence { who: "what Redis holds", goes: |fleet| drop(fleet.redis.command(&["FLUSHALL"])), ..NOTHING_MISSING },
    Absence {
        who: "Redis",
        goes: |fleet| fleet.redis.kill(),
        comes: |fleet| fleet.redis.restart(),
        feeds: Seen::Refuses,
        ..NOTHING_MISSING
    },
    Absence {
        who: "ClickHouse",
        goes: |fleet| fleet.clickhouse.kill(),
        comes: |fleet| fleet.clickhouse.restart(),
        lasts: 2,
        queries: Seen::Refuses,
        ..NOTHING_MISSING
    },
    Absence {
        who: "Postgres",
        goes: |fleet| fleet.postgres.kill(),
        comes: |fleet| fleet.postgres.restart(),
        keys_change: false,
        ..NOTHING_MISSING
    },
    Absence { who: "S3", goes: |fleet| fleet.minio.kill(), comes: |fleet| fleet.minio.restart(), ..NOTHING_MISSING },
];

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_away_stops_only_what_needs_it_and_leaves_no_trace() {
    let Some(mut fleet) = Fleet::start_with_brokers(3) else { return };
    let seconds = Duration::from_secs(number("MILLRACE_ABSENCE_SECONDS").unwrap_or(SECONDS).max(1));
    let folder = tempfile::tempdir().unwrap();
    let parts = parts(folder.path(), 1 + ABSENCES.len());

    let calm = folder.path().join("calm");
    let key = format!("web:{KEY}");
    let server = Server::start_on(&calm, "replay", free_port(), &["--write-keys", &key]).await;
    for part in &parts {
        Import::start(&server, part, None).ends().await;
    }
    server.at_rest().await;
    let answers = ask(&server).await;
    server.stop();
    let expected = verify(&calm);

    let scene = Scene::start(&fleet, folder.path()).await;
    let (first, parts) = parts.split_first().unwrap();
    Import::start(&scene.server, first, None).ends().await;
    for (absence, part) in ABSENCES.iter().zip(parts) {
        scene.play(&mut fleet, absence, part, first, seconds).await;
    }
    scene.server.at_rest().await;
    filled(&scene.server, &scene.data, &expected).await;
    assert_eq!(ask(&scene.server).await, answers, "after all absences");
    scene.server.stop();
}

/// The same population as files that follow each other.
fn parts(folder: &Path, count: usize) -> Vec<std::path::PathBuf> {
    let input = folder.join("events.ndjson");
    let events = (count * EVENTS_EACH).to_string();
    let simulated =
        ["simulate", "--seed", "11", "--users", "150", "--duplicates", "0.05", "--events", &events, "--out"];
    assert!(millrace(&simulated).arg(&input).status().unwrap().success());
    let text = std::fs::read_to_string(&input).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let size = lines.len().div_ceil(count);
    let written = lines.chunks(size).enumerate().map(|(nth, lines)| {
        let path = folder.join(format!("part-{nth}.ndjson"));
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        path
    });
    written.collect()
}

/// A client that sends a file, repeats what is not taken, and is done when all of it was acknowledged. Killed when dropped.
struct Import(Child);

impl Import {
    /// Spread over this time, or as fast as it goes.
    fn start(server: &Server, part: &Path, over: Option<Duration>) -> Self {
        let mut command = millrace(&["import", "segment", "--write-key", KEY, "--to", &server.url()]);
        command.args(["--batch", &BATCH.to_string(), "--give-up-after", "600"]).arg(part);
        if let Some(over) = over {
            let events = std::fs::read_to_string(part).unwrap().lines().count() as u64;
            command.args(["--rate", &events.div_ceil(over.as_secs()).to_string()]);
        }
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// True when everything was acknowledged.
    fn is_done(&mut self) -> bool {
        let ended = self.0.try_wait().unwrap();
        ended.inspect(|status| assert!(status.success(), "an import ended with {status}")).is_some()
    }

    async fn ends(mut self) {
        let begun = Instant::now();
        while !self.is_done() {
            assert!(begun.elapsed() < FILLED_WITHIN, "an import is not taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        // Already gone when it was done.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A server with every store on an engine.
struct Scene {
    server: Server,
    data: std::path::PathBuf,
    catalog: String,
}

impl Scene {
    async fn start(fleet: &Fleet, folder: &Path) -> Self {
        let data = folder.join("engines");
        let [.., (_, catalog)] = fleet.stores();
        let mut add = millrace(&["keys", "add", "web", "--catalog", &catalog, "--data-dir"]);
        assert!(add.arg(&data).env("MILLRACE_NEW_KEY", KEY).status().unwrap().success());
        // Brokers that hang are told from a slow network a little sooner, and the death of one here is still outlasted.
        let patient = |store, url| if store == "log" { format!("{url}&append_timeout_ms=8000") } else { url };
        let arguments: Vec<String> =
            fleet.stores().into_iter().flat_map(|(store, url)| [format!("--{store}"), patient(store, url)]).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let server = Server::start_on(&data, "replay", free_port(), &arguments).await;
        Self { server, data, catalog }
    }

    async fn play(&self, fleet: &mut Fleet, absence: &Absence, part: &Path, known: &Path, seconds: Duration) {
        let (who, lasts) = (absence.who, seconds * absence.lasts);
        let begun = Instant::now();
        let mut import = Import::start(&self.server, part, Some(lasts));
        (absence.goes)(fleet);
        let gone = Instant::now();
        self.changes_a_key(absence);
        let mut looks = 0;
        // Events are taken while it is away: the client is done before anything comes back.
        while gone.elapsed() < lasts || !import.is_done() {
            assert!(gone.elapsed() < lasts + PATIENCE, "without {who}: an import is not taken");
            self.look(absence, known).await;
            looks += 1;
            tokio::time::sleep(PAUSE).await;
        }
        (absence.comes)(fleet);
        let back = Instant::now();
        import.ends().await;
        let acknowledged = back.elapsed();
        self.is_back(who).await;
        println!(
            "without {who}: gone after {:.1} s, away for {:.1} s, {looks} looks, all acknowledged {:.1} s and all back {:.1} s later",
            (gone - begun).as_secs_f64(),
            (back - gone).as_secs_f64(),
            acknowledged.as_secs_f64(),
            back.elapsed().as_secs_f64()
        );
    }

    /// Every door answers as it should without this engine.
    async fn look(&self, absence: &Absence, known: &Path) {
        let who = absence.who;
        for path in ["/v1/feeds/home?viewer=u11", "/v1/trends/posts?window=24h"] {
            self.answers(path, absence.feeds, who).await;
        }
        self.answers("/v1/queries/events_by_name", absence.queries, who).await;
        self.answers("/v1/status", Seen::Answers, who).await;

        // An event that is there already: whether it is taken or not changes nothing.
        let text = std::fs::read_to_string(known).unwrap();
        let body = format!("{{\"batch\":[{}]}}", text.lines().next().unwrap()).into_bytes();
        let (status, retry_after, answer) = self.server.post("/v1/batch", KEY, body.clone(), false).await;
        // What the log does not take the door keeps.
        assert_eq!(status, 200, "without {who}: an event was answered with {retry_after:?}: {answer}");
        let (status, retry_after, _) = self.server.post("/v1/batch", "another-key", body, false).await;
        // Until the catalog is known to be away, nobody can tell what was made there a moment ago.
        let is_undecided = !absence.keys_change && status == 503 && retry_after.is_some();
        assert!(status == 401 || is_undecided, "without {who}: a key that is none was answered with {status}");
    }

    async fn answers(&self, path: &str, seen: Seen, who: &str) {
        let (status, retry_after) = self.server.look(path).await;
        let found = match (status, retry_after) {
            (200, _) => Seen::Answers,
            (503, Some(_)) => Seen::Refuses,
            (status, retry_after) => panic!("without {who}: {path} was answered with {status}, {retry_after:?}"),
        };
        assert_eq!(found, seen, "without {who}: {path}");
    }

    /// Adds and revokes a key, or is told that this cannot be now.
    fn changes_a_key(&self, absence: &Absence) {
        for action in ["add", "revoke"] {
            let mut command = millrace(&["keys", action, absence.who, "--catalog", &self.catalog, "--data-dir"]);
            let output = command.arg(&self.data).output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), absence.keys_change, "without {}: keys {action}: {told}", absence.who);
            assert!(absence.keys_change || told.contains("catalog"), "without {}: keys {action}: {told}", absence.who);
        }
    }

    /// Everything is applied and archived, and every door answers.
    async fn is_back(&self, who: &str) {
        self.server.caught_up().await;
        for path in ["/v1/feeds/home?viewer=u11", "/v1/queries/events_by_name"] {
            let begun = Instant::now();
            while self.server.look(path).await.0 != 200 {
                assert!(begun.elapsed() < FILLED_WITHIN, "after {who} was away, {path} does not answer");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
