//! A full disk turns appends away, loses nothing, and is left without a restart. Needs root, for a small file system in memory.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says aloud when it is skipped"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_embedded::{Batch, Durability, Embedded, Options};
use millrace_events::{LogTime, Topic, TopicPartition};
use millrace_log::{Append, ErrorKind, EventLog, FjallLog, FjallLogOptions, Record};
use tempfile::TempDir;

const DISK: &str = "size=72m";
const BALLASTS: usize = 3;
/// Enough for the tables that were waiting to be written when the disk filled up.
const BALLAST_BYTES: usize = 16 * 1024 * 1024;
const VALUE_BYTES: usize = 20_000;
/// Only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

/// A small disk with some ballast to throw off.
struct SmallDisk {
    dir: TempDir,
}

impl SmallDisk {
    /// `None`, said aloud, where it cannot be made.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "millrace-test"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                eprintln!("SKIPPED: cannot mount a small disk: {}", String::from_utf8_lossy(&output.stderr).trim());
                return None;
            }
            Err(error) => {
                eprintln!("SKIPPED: cannot run mount: {error}");
                return None;
            }
        }
        let disk = Self { dir };
        for nth in 0..BALLASTS {
            fs::write(disk.ballast(nth), vec![0; BALLAST_BYTES]).unwrap();
        }
        Some(disk)
    }

    fn ballast(&self, nth: usize) -> PathBuf {
        self.dir.path().join(format!("ballast-{nth}"))
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("db")
    }

    fn free_some(&self, nth: usize) {
        fs::remove_file(self.ballast(nth)).unwrap();
    }

    /// Makes all ballast look like tables of which no version knows, as a failed flush leaves them.
    fn leave_some_behind(&self) {
        for nth in 0..BALLASTS {
            let left = format!("keyspaces/1/tables/{}", 1_000_000 + nth);
            fs::rename(self.ballast(nth), self.data().join(left)).unwrap();
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a test that failed may still hold files open.
        let unmounted = Command::new("umount").arg("-l").arg(self.dir.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the small disk should be unmounted");
    }
}

fn open(data: &Path) -> Arc<FjallLog> {
    let embedded = Embedded::open(data, Options::default()).unwrap();
    FjallLog::open(embedded, FjallLogOptions { partitions: 2, ..FjallLogOptions::default() }).unwrap()
}

fn of(nth: usize) -> TopicPartition {
    TopicPartition::new(Topic::Actions, u32::try_from(nth % 2).unwrap())
}

fn value(nth: usize) -> Bytes {
    let mut value = vec![u8::try_from(nth % 251).unwrap(); VALUE_BYTES];
    value[..8].copy_from_slice(&nth.to_be_bytes());
    Bytes::from(value)
}

fn append(nth: usize) -> Append {
    let time = LogTime(i64::try_from(nth).unwrap());
    Append { to: of(nth), time, key: Bytes::from_static(b"key"), value: value(nth) }
}

async fn read_all(log: &dyn EventLog, of: TopicPartition) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let piece = log.read(of, records.len() as u64, 1024 * 1024).await.unwrap();
        if piece.is_empty() {
            return records;
        }
        records.extend(piece);
    }
}

async fn check_acknowledged(log: &dyn EventLog, acknowledged: &[(usize, u64)]) {
    let records = [read_all(log, of(0)).await, read_all(log, of(1)).await];
    for (nth, offset) in acknowledged {
        let record = &records[nth % 2][usize::try_from(*offset).unwrap()];
        assert!(record.offset == *offset && record.value == value(*nth), "append {nth} is not at {offset}");
    }
}

/// Appends one after the other until one is turned away; the number that was.
async fn append_until_full(log: &FjallLog, mut nth: usize, acknowledged: &mut Vec<(usize, u64)>) -> usize {
    loop {
        match log.append(vec![append(nth)]).await {
            Ok(offsets) => acknowledged.push((nth, offsets[0])),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
                return nth;
            }
        }
        nth += 1;
    }
}

async fn append_with_patience(log: &FjallLog, nth: usize, acknowledged: &mut Vec<(usize, u64)>) {
    loop {
        match log.append(vec![append(nth)]).await {
            Ok(offsets) => return acknowledged.push((nth, offsets[0])),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Retry, "{error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_survived() {
    let Some(disk) = SmallDisk::mount() else { return };
    let run = async {
        let mut acknowledged = Vec::new();
        let log = open(&disk.data());
        let mut next = 0;
        for round in 0..BALLASTS {
            let refused = append_until_full(&log, next, &mut acknowledged).await;
            // Nobody hangs while it is full, and reading goes on.
            let crowd = (0..64).map(|n| {
                let log = log.clone();
                tokio::spawn(async move { log.append(vec![append(refused + 1 + n)]).await })
            });
            for call in futures::future::join_all(crowd).await {
                assert_eq!(call.unwrap().unwrap_err().kind(), ErrorKind::Retry);
            }
            assert!(!log.healthy());
            check_acknowledged(&*log, &acknowledged).await;
            disk.free_some(round);
            next = refused + 1000;
            for nth in next..next + 20 {
                append_with_patience(&log, nth, &mut acknowledged).await;
            }
            next += 20;
            assert!(log.healthy());
            check_acknowledged(&*log, &acknowledged).await;
        }
        assert!(acknowledged.len() > 500, "the disk took only {} appends", acknowledged.len());
        let bounds = [log.bounds(of(0)).await.unwrap(), log.bounds(of(1)).await.unwrap()];
        drop(log);
        let log = open(&disk.data());
        assert_eq!([log.bounds(of(0)).await.unwrap(), log.bounds(of(1)).await.unwrap()], bounds);
        check_acknowledged(&*log, &acknowledged).await;
        log.append(vec![append(1)]).await.unwrap();
    };
    tokio::time::timeout(PATIENCE, run).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_comes_back_when_somebody_else_met_the_full_disk() {
    somebody_else_fills_the_disk(|disk| disk.free_some(0)).await;
}

/// A flush that met the full disk may eat what is freed and leave it half written: then only opening again frees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_comes_back_from_a_disk_that_leftovers_fill() {
    somebody_else_fills_the_disk(SmallDisk::leave_some_behind).await;
}

async fn somebody_else_fills_the_disk(free: impl FnOnce(&SmallDisk)) {
    let Some(disk) = SmallDisk::mount() else { return };
    let run = async {
        let mut acknowledged = Vec::new();
        let embedded = Embedded::open(disk.data(), Options::default()).unwrap();
        let log = FjallLog::open(embedded.clone(), FjallLogOptions { partitions: 2, ..Default::default() }).unwrap();
        for nth in 0..20 {
            append_with_patience(&log, nth, &mut acknowledged).await;
        }
        let others = embedded.space("others").unwrap();
        for n in 0_u32.. {
            let mut writes = Batch::default();
            writes.put(&others, n.to_be_bytes().as_slice(), vec![1; 500_000]);
            if embedded.write(writes, Durability::Synced).is_err() {
                break;
            }
        }
        assert!(!log.healthy(), "known at once, before any append");
        free(&disk);
        while !log.healthy() {
            tokio::time::sleep(PAUSE).await;
        }
        let mut writes = Batch::default();
        writes.put(&others, "after", "all");
        embedded.write(writes, Durability::Synced).unwrap();
        assert_eq!(others.get("after").unwrap().unwrap(), "all");
        append_with_patience(&log, 20, &mut acknowledged).await;
        check_acknowledged(&*log, &acknowledged).await;
    };
    tokio::time::timeout(PATIENCE, run).await.unwrap();
}
