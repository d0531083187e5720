//! Backup, wipe, restore; rebuild; and kill -9 in the middle of each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Server, millrace, track, verify};

const BATCHES: usize = 240;
const BATCH_EVENTS: usize = 25;
const POSTS: usize = 7;

/// How often something that was too quick to be killed is tried again.
const TRIES: usize = 20;

fn event(number: usize) -> Value {
    let properties = json!({"post_id": format!("p{}", number % POSTS)});
    let mut call = track(&format!("u{}", number % 31), "post_shared", properties);
    call["messageId"] = json!(format!("m{number}"));
    call
}

fn calls(batch: usize) -> Vec<Value> {
    (batch * BATCH_EVENTS..(batch + 1) * BATCH_EVENTS).map(event).collect()
}

/// Shares by post, as shown.
async fn shares(server: &Server) -> Vec<u64> {
    let mut shares = Vec::new();
    for post in 0..POSTS {
        let (_, engagement) = server.get(&format!("/v1/posts/p{post}/engagement")).await;
        shares.push(engagement["totals"]["shares"].as_u64().unwrap());
    }
    shares
}

fn expected_shares(numbers: impl Iterator<Item = usize>) -> Vec<u64> {
    let mut shares = vec![0; POSTS];
    numbers.for_each(|number| shares[number % POSTS] += 1);
    shares
}

/// Waits until the jobs have applied everything. The archive may follow: ticks go on, so it is hardly ever at the end.
async fn applied(server: &Server) {
    let begun = Instant::now();
    loop {
        let (_, status) = server.get("/v1/status").await;
        let jobs = status["jobs"].as_object().unwrap().values().flat_map(|job| job.as_object().unwrap().values());
        if jobs.map(|partition| partition["lag"].as_u64().unwrap()).sum::<u64>() == 0 {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "not applied in time: {status}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn run(args: &[&str], path: &Path, dir: &Path) -> Output {
    millrace(args).arg(path).arg("--data-dir").arg(dir).output().unwrap()
}

/// Runs to success; what it said.
fn succeed(args: &[&str], path: &Path, dir: &Path) -> String {
    let output = run(args, path, dir);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs to this exit code; what it complained about.
fn refused(args: &[&str], path: &Path, dir: &Path, code: i32) -> String {
    let output = run(args, path, dir);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    said
}

/// Starts a command, kills it as soon as `begun` is there, and tells whether `finished` was not.
fn kill_within(args: &[&str], path: Option<&Path>, dir: &Path, begun: &Path, is_finished: &dyn Fn() -> bool) -> bool {
    let mut command = millrace(args);
    let mut child =
        command.args(path).arg("--data-dir").arg(dir).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !begun.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(begun.exists(), "{args:?} ended before it made {}", begun.display());
    !is_finished()
}

/// A small population's life in `dir`, and the content hash that it leads to.
async fn populated(folder: &Path, dir: &Path, events: u64) -> String {
    let input = folder.join("events.ndjson");
    let made = millrace(&["simulate", "--seed", "11", "--users", "150", "--events", &events.to_string(), "--out"])
        .arg(&input)
        .status()
        .unwrap();
    assert!(made.success());
    let server = Server::start(dir, "replay").await;
    let imported = millrace(&["import", "segment", "--wait", "--to", &server.url()]).arg(&input).status().unwrap();
    assert!(imported.success());
    server.at_rest().await;
    server.stop();
    verify(dir)
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_under_load_is_one_moment_and_life_goes_on_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, dest) = (folder.path().join("data"), folder.path().join("backup"));
    let server = Arc::new(Server::start(&dir, "wall").await);
    let acknowledged: Arc<Mutex<BTreeSet<usize>>> = Arc::default();
    let allowed = Arc::new(AtomicUsize::new(BATCHES / 2));
    let sending = tokio::spawn({
        let (server, acknowledged, allowed) = (server.clone(), acknowledged.clone(), allowed.clone());
        async move {
            for number in 0..BATCHES {
                // Parts of it wait until the backup has begun, and until its moment has passed.
                while number >= allowed.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                server.send(&calls(number)).await;
                acknowledged.lock().unwrap().insert(number);
            }
        }
    });
    while acknowledged.lock().unwrap().len() < BATCHES / 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = acknowledged.lock().unwrap().clone();
    let backup = tokio::task::spawn_blocking({
        let (dir, dest, url) = (dir.clone(), dest.clone(), server.url());
        move || succeed(&["backup", "--json", "--to", &url], &dest, &dir)
    });
    allowed.store(BATCHES * 3 / 4, Ordering::Relaxed);
    while !dest.join("db").exists() && !backup.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    allowed.store(BATCHES, Ordering::Relaxed);
    let report: Value = serde_json::from_str(&backup.await.unwrap()).unwrap();
    assert!(report["records"].as_u64().unwrap() > 0 && report["bytes"].as_u64().unwrap() > 0, "{report}");
    sending.await.unwrap();
    Arc::try_unwrap(server).ok().unwrap().kill();
    std::fs::remove_dir_all(&dir).unwrap();

    succeed(&["restore"], &dest, &dir);
    verify(&dir);
    let manifest: Value = serde_json::from_slice(&std::fs::read(dest.join("MANIFEST.json")).unwrap()).unwrap();
    let server = Server::start(&dir, "wall").await;
    applied(&server).await;
    let records = server.records("actions").await;
    let logged = records.iter().filter_map(|record| record["message_id"].as_str()?.strip_prefix('m')?.parse().ok());
    let logged: BTreeSet<usize> = logged.collect();
    let sent_before = before.iter().flat_map(|batch| batch * BATCH_EVENTS..(batch + 1) * BATCH_EVENTS);
    assert_eq!(sent_before.filter(|number| !logged.contains(number)).count(), 0, "acknowledged events are gone");
    assert!(logged.len() < BATCHES * BATCH_EVENTS, "nothing was sent after the backup: the test tests nothing");
    assert_eq!(shares(&server).await, expected_shares(logged.iter().copied()));
    // The manifest says of each partition what the restored log then held; what came since are ticks.
    let held: BTreeMap<&String, u64> =
        manifest["offsets"].as_object().unwrap().iter().map(|(of, at)| (of, at["end"].as_u64().unwrap())).collect();
    for record in records.iter().filter(|record| record["message_id"].as_str().is_some_and(|id| id.starts_with('m'))) {
        let of = format!("actions/{}", record["partition"]);
        let end = held.iter().find(|(name, _)| ***name == of).unwrap_or_else(|| panic!("no {of} in {held:?}")).1;
        assert!(record["offset"].as_u64().unwrap() < *end, "{record} is not below {end}");
    }

    for number in 0..BATCHES {
        server.send(&calls(number)).await;
    }
    applied(&server).await;
    assert_eq!(shares(&server).await, expected_shares(0..BATCHES * BATCH_EVENTS));
    server.stop();
    verify(&dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_names_the_place_and_only_where_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, root) = (folder.path().join("data"), folder.path().join("root"));
    std::fs::create_dir(&root).unwrap();
    let port = super::support::free_port();
    let server = Server::start_on(&dir, "wall", port, &["--backup-dir", root.to_str().unwrap()]).await;
    let to = |dest: &Path, code| refused(&["backup", "--to", &server.url()], dest, &dir, code);
    assert!(to(&folder.path().join("elsewhere"), 2).contains("go below"));
    assert!(to(&dir.join("inside"), 2).contains("inside of the data directory"));
    assert!(to(Path::new("relative"), 2).contains("not absolute"));
    std::fs::create_dir_all(root.join("full/x")).unwrap();
    assert!(to(&root.join("full"), 2).contains("not an empty directory"));
    let stranger = ["backup", "--admin-token", "not-the-admin-token", "--to", &server.url()];
    assert!(refused(&stranger, &root.join("stolen"), &dir, 2).contains("401"));
    assert!(!root.join("stolen").exists());
    succeed(&["backup", "--to", &server.url()], &root.join("good"), &dir);
    assert!(root.join("good/MANIFEST.json").exists());
    // The server has the database open.
    assert!(refused(&["backup"], &root.join("offline"), &dir, 2).contains("another process"));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_before_anything_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, dest, again) = (folder.path().join("data"), folder.path().join("backup"), folder.path().join("again"));
    let hash = populated(folder.path(), &dir, 2_000).await;
    succeed(&["backup"], &dest, &dir);
    assert!(refused(&["backup"], &dest, &dir, 2).contains("not an empty directory"));
    assert!(refused(&["restore"], &dest, &dir, 2).contains("not empty"));
    let files = files_below(&dest);
    let in_warehouse = files.iter().filter(|file| file.starts_with(dest.join("warehouse"))).count();
    assert!(in_warehouse > 0, "the warehouse is not in the backup: {files:?}");
    let largest = files.iter().max_by_key(|file| std::fs::metadata(file).unwrap().len()).unwrap();
    let parquet = files.iter().find(|file| file.extension().is_some_and(|e| e == "parquet")).unwrap();
    for file in [largest, parquet] {
        let good = std::fs::read(file).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 0x20;
        // Written anew: the file may be a link to one that is in use.
        std::fs::remove_file(file).unwrap();
        std::fs::write(file, bad).unwrap();
        let said = refused(&["restore"], &dest, &again, 1);
        assert!(said.contains("damaged") && said.contains(file.file_name().unwrap().to_str().unwrap()), "{said}");
        std::fs::remove_file(file).unwrap();
        assert!(refused(&["restore"], &dest, &again, 1).contains("cannot read"));
        std::fs::write(file, good).unwrap();
    }
    assert!(!again.exists());
    succeed(&["restore"], &dest, &again);
    assert_eq!(verify(&again), hash);
    // And the original is as it was.
    assert_eq!(verify(&dir), hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_killed_half_way_is_refused_and_can_be_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let hash = populated(folder.path(), &dir, 12_000).await;

    let mut killed = None;
    for attempt in 0..TRIES {
        let dest = folder.path().join(format!("killed-{attempt}"));
        let is_finished = || dest.join("MANIFEST.json").exists();
        if kill_within(&["backup"], Some(&dest), &dir, &dest.join("db"), &is_finished) {
            killed = Some(dest);
            break;
        }
    }
    let killed = killed.expect("no backup could be killed in the middle");
    let again = folder.path().join("again");
    assert!(refused(&["restore"], &killed, &again, 1).contains("not a complete backup"));
    assert!(!again.exists());
    let dest = folder.path().join("backup");
    succeed(&["backup"], &dest, &dir);
    assert!(!dir.join("backup-links").exists(), "links were left behind");

    let mut killed = false;
    for _ in 0..TRIES {
        let is_finished = || !again.join("UNFINISHED").exists();
        if kill_within(&["restore"], Some(&dest), &again, &again.join("db"), &is_finished) {
            killed = true;
            break;
        }
        std::fs::remove_dir_all(&again).unwrap();
    }
    assert!(killed, "no restore could be killed in the middle");
    let up = millrace(&["up", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&again).output().unwrap();
    let said = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(up.status.code() == Some(2) && said.contains("delete it and run `millrace restore` again"), "{said}");
    assert!(refused(&["restore"], &dest, &again, 2).contains("did not finish"));
    std::fs::remove_dir_all(&again).unwrap();
    succeed(&["restore"], &dest, &again);
    assert_eq!(verify(&again), hash);
}

/// What a viewer and an author see, with the time up to which it is complete.
async fn seen(server: &Server, posts: &BTreeSet<String>) -> Vec<Value> {
    let mut seen = Vec::new();
    for viewer in 0..40 {
        let (status, feed) = server.get(&format!("/v1/feeds/home?viewer=u{viewer}&limit=20")).await;
        assert_eq!(status, 200, "{feed}");
        let items = feed["items"].as_array().unwrap().iter().map(|item| item["post_id"].clone());
        seen.push(json!({"as_of": feed["as_of"], "items": items.collect::<Vec<_>>()}));
    }
    for post in posts {
        seen.push(server.get(&format!("/v1/posts/{post}/engagement")).await.1["totals"].clone());
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_online_store_shows_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let hash = populated(folder.path(), &dir, 12_000).await;
    let server = Server::start(&dir, "replay").await;
    server.caught_up().await;
    let posts = server.records("reaction-events").await;
    let posts: BTreeSet<String> =
        posts.iter().filter_map(|record| record["key"].as_str()).take(400).map(str::to_owned).collect();
    let before = seen(&server, &posts).await;
    let has_items = before.iter().any(|feed| feed["items"].as_array().is_some_and(|items| !items.is_empty()));
    let has_totals = before.iter().any(|totals| totals["likes"].as_u64().is_some_and(|likes| likes > 0));
    assert!(has_items && has_totals, "there is nothing to compare: {before:?}");
    server.stop();

    // Killed while it replays, when what was there is gone.
    let scratch = dir.join("rebuild-scratch");
    let mut killed = false;
    for _ in 0..TRIES {
        let is_finished = || !dir.join("UNFINISHED").exists();
        if kill_within(&["rebuild", "online"], None, &dir, &scratch, &is_finished) {
            killed = true;
            break;
        }
    }
    assert!(killed, "no rebuild could be killed in the middle");
    let up = millrace(&["up", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&dir).output().unwrap();
    let said = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(up.status.code() == Some(2) && said.contains("run `millrace rebuild online` on it again"), "{said}");

    let rebuilt = millrace(&["rebuild", "online", "--data-dir"]).arg(&dir).output().unwrap();
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert!(!scratch.exists(), "the replay's state was left behind");
    let server = Server::start(&dir, "replay").await;
    server.caught_up().await;
    assert_eq!(seen(&server, &posts).await, before);
    server.stop();
    assert_eq!(verify(&dir), hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_warehouse_is_noticed_and_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    // Twice, so that there are duplicates that only the job's state knows of, and which the archive has let go of since.
    let hash = populated(folder.path(), &dir, 6_000).await;
    assert_eq!(populated(folder.path(), &dir, 6_000).await, hash);

    std::fs::remove_dir_all(dir.join("warehouse")).unwrap();
    let server = Server::start(&dir, "replay").await;
    let mut error = Value::Null;
    for _ in 0..200 {
        error = server.get("/v1/status").await.1["warehouse"]["error"].clone();
        if !error.is_null() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(error.as_str().is_some_and(|error| error.contains("rebuild warehouse")), "{error}");
    let feed = server.get("/v1/feeds/home?viewer=u1").await;
    assert_eq!(feed.0, 200, "feeds go on: {}", feed.1);
    server.stop();

    let rebuilt = millrace(&["rebuild", "warehouse", "--data-dir"]).arg(&dir).output().unwrap();
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    assert_eq!(verify(&dir), hash);
}
