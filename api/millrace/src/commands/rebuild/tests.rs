use bytes::Bytes;
use millrace_events::{LogTime, Topic};
use millrace_log::Append;

use super::*;

#[tokio::test]
async fn a_trimmed_log_is_refused_before_anything_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(dir.path(), Options::default()).unwrap();
    let log = FjallLog::open(embedded.clone(), FjallLogOptions { partitions: 1, ..Default::default() }).unwrap();
    let of = TopicPartition::new(Topic::UserEvents, 0);
    for number in 0..3 {
        let append = Append { to: of, time: LogTime(number), key: Bytes::new(), value: Bytes::from_static(b"x") };
        log.append(vec![append]).await.unwrap();
    }
    assert_eq!(committed(&embedded, &log).await.unwrap().get(&of), Some(&0));
    log.trim(of, 2).await.unwrap();
    let error = committed(&embedded, &log).await.err().unwrap().to_string();
    assert!(error.contains("user-events/0 begins at 2") && error.contains("millrace restore"), "{error}");
}
