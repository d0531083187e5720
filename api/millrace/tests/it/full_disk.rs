//! A disk that fills up: 503 with `Retry-After`, reads go on, and it comes back by itself when there is space again.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{Server, batch, track, verify};

/// A small file system of its own; unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazy, so that a file that is still open does not keep the mount.
        let _unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_answered_with_503_and_left_behind() {
    let Some(disk) = Tmpfs::mount() else {
        println!("SKIPPED: mounting a small file system needs root");
        return;
    };
    let mut server = Server::start(disk.path(), "wall").await;
    let share =
        |n: usize| batch(&[track("ada", "post_shared", json!({"post_id": "p", "pad": "x".repeat(20_000), "n": n}))]);
    let mut acknowledged = 0;
    let ballast = disk.path().join("ballast");
    let mut refused = None;
    // Another program fills the disk while events come in.
    std::fs::write(&ballast, vec![b'x'; 24 * 1024 * 1024]).unwrap();
    let begun = Instant::now();
    while refused.is_none() {
        let (status, retry_after, answer) = server.post("/v1/batch", "dev", share(acknowledged), false).await;
        match status {
            200 => acknowledged += 1,
            503 => refused = Some((retry_after, answer)),
            other => panic!("a full disk was answered with {other}: {answer}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "the disk did not fill up");
    }
    let (retry_after, answer) = refused.unwrap();
    assert!(retry_after.unwrap().parse::<u32>().unwrap() >= 1);
    assert_eq!(answer["status"], 503);
    let (status, _) = server.get("/readyz").await;
    assert_eq!(status, 503, "a server that cannot take events is not ready");
    assert_eq!(server.get("/healthz").await.0, 200);
    assert!(server.is_alive());
    std::fs::remove_file(&ballast).unwrap();
    let begun = Instant::now();
    loop {
        let (status, ..) = server.post("/v1/batch", "dev", share(acknowledged), false).await;
        if status == 200 {
            acknowledged += 1;
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the server did not come back when space did");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.caught_up().await;
    let shares = server.get("/v1/posts/p/engagement").await.1["totals"]["shares"].as_u64().unwrap() as usize;
    // A refused request may have reached the disk; these had no message id, so it would count. At most one was in doubt
    // at the moment the disk filled up.
    assert!((acknowledged..=acknowledged + 1).contains(&shares), "{acknowledged} acknowledged, {shares} counted");
    server.kill();
    let server = Server::start(disk.path(), "wall").await;
    server.caught_up().await;
    let again = server.get("/v1/posts/p/engagement").await.1["totals"]["shares"].as_u64().unwrap() as usize;
    assert_eq!(again, shares, "what was acknowledged survives a kill");
    server.stop();
    verify(disk.path());
}
