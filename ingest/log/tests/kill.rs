//! A process that is killed while it appends loses nothing that it was told is durable.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use millrace_embedded::{Embedded, Options};
use millrace_events::{LogTime, Topic, TopicPartition};
use millrace_log::{Append, EventLog, FjallLog, FjallLogOptions};

const OF: TopicPartition = TopicPartition::new(Topic::Actions, 0);
/// Set for the child, which is this same program: where its log is.
const CHILD_DATA: &str = "MILLRACE_TEST_KILLED_DATA";
const KILLS: usize = 5;
const CALL_RECORDS: u64 = 7;

fn open(data: &Path) -> Arc<FjallLog> {
    FjallLog::open(Embedded::open(data, Options::default()).unwrap(), FjallLogOptions::default()).unwrap()
}

fn value(offset: u64) -> Bytes {
    Bytes::from(vec![u8::try_from(offset % 251).unwrap(); 500])
}

/// The child: appends for ever and prints the end that it was told.
#[tokio::test]
async fn child() {
    let Some(data) = env::var_os(CHILD_DATA) else { return };
    let log = open(Path::new(&data));
    let mut end = log.bounds(OF).await.unwrap().end;
    loop {
        let record = |offset| Append { to: OF, time: LogTime(1), key: Bytes::new(), value: value(offset) };
        let offsets = log.append((end..end + CALL_RECORDS).map(record).collect()).await.unwrap();
        assert_eq!(offsets[0], end);
        end += CALL_RECORDS;
        println!("end {end}");
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut next = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD_DATA, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = |line: std::io::Result<String>| line.unwrap().strip_prefix("end ")?.parse::<u64>().ok();
        let acknowledged = lines.filter_map(told).nth(3 + kill * 17).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let log = open(dir.path());
        let bounds = log.bounds(OF).await.unwrap();
        assert!(bounds.end >= acknowledged, "told {acknowledged}, found {}", bounds.end);
        assert_eq!(bounds.end % CALL_RECORDS, 0, "a commit is there whole or not at all");
        while next < bounds.end {
            let records = log.read(OF, next, 1024 * 1024).await.unwrap();
            for record in records {
                assert!(record.offset == next && record.value == value(next), "wrong record at {next}");
                next += 1;
            }
        }
    }
}
