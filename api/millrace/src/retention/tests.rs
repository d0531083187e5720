use std::sync::Arc;

use bytes::Bytes;
use millrace_embedded::{Embedded, Options};
use millrace_log::{Append, FjallLog, FjallLogOptions, ReplayClock};

use super::*;

const DAY: i64 = 24 * 3_600 * 1_000_000;

/// Ten records a day apart, the newest now; what is left after a trim that may not pass `needed_from`.
async fn left(retention: Retention, topic: Topic, needed_from: Offset) -> Offset {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(dir.path(), Options::default()).unwrap();
    let log = FjallLog::open(embedded, FjallLogOptions { partitions: 1, ..FjallLogOptions::default() }).unwrap();
    let of = TopicPartition::new(topic, 0);
    for day in 0..10 {
        let record = Append { to: of, time: LogTime(day * DAY), key: Bytes::new(), value: Bytes::from_static(b"x") };
        log.append(vec![record]).await.unwrap();
    }
    let clock = Arc::new(ReplayClock::new(LogTime(9 * DAY)));
    let trimmer = Trimmer {
        log: log.clone(),
        clock,
        needed_from: Box::new(move |_| needed_from),
        retention: Box::new(move || retention),
    };
    let found = trimmer.find(of, LogTime(4 * DAY)).await.unwrap();
    assert_eq!(found, 4, "the first record that is not older");
    trimmer.trim().await.unwrap();
    log.bounds(of).await.unwrap().start
}

const KEEP: Retention = Retention { log_days: None, slate_days: 3.5 };
const DROP: Retention = Retention { log_days: Some(2.0), slate_days: 100.0 };

#[tokio::test]
async fn what_is_older_is_dropped_when_nobody_needs_it_and_only_then() {
    assert_eq!(left(KEEP, Topic::Actions, 10).await, 0, "nothing was asked to be dropped");
    assert_eq!(left(KEEP, Topic::ServedSlates, 10).await, 6, "slates have a retention of their own");
    assert_eq!(left(DROP, Topic::ServedSlates, 10).await, 0);
    assert_eq!(left(DROP, Topic::Actions, 10).await, 7);
    assert_eq!(left(DROP, Topic::Actions, 3).await, 3, "a job or the archive has yet to read it");
    assert_eq!(left(DROP, Topic::Actions, 0).await, 0);
}
