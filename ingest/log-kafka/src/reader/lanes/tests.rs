use millrace_events::{LogTime, Topic};
use millrace_log::{Append, EventLog};

use super::*;
use crate::{KafkaLog, cluster};

const OF: TopicPartition = TopicPartition::new(Topic::Actions, 0);
/// Longer than anything here takes, on a slow machine.
const LONG: Duration = Duration::from_secs(60);

/// Lanes over an empty log.
async fn lanes() -> Option<(Arc<KafkaLog>, Arc<Lanes>)> {
    let options = cluster::options()?;
    let log = KafkaLog::open(options.clone()).await.expect("the broker should take topics");
    Some((log, Arc::new(Lanes::new(options))))
}

async fn open(lanes: &Arc<Lanes>, at: Offset, what_for: Use) -> InUse {
    let lanes = lanes.clone();
    let opened = tokio::task::spawn_blocking(move || lanes.open(OF, at, what_for)).await;
    opened.expect("it should not panic").expect("a lane should open")
}

/// At `end`, where the lane stands at once and again when it has fetched.
async fn hears_again(log: &KafkaLog, lanes: &Arc<Lanes>, end: Offset) {
    let held = open(lanes, end, Use::Wait).await;
    let lane = held.lane.clone();
    // What making room for another does, while one call still holds it.
    unassign(OF, &lane);
    assert!(matches!(held.has(end), Err(Stopped::Moved)));
    let again = open(lanes, end, Use::Wait).await;
    drop((held, lane));
    let mut arrivals = again.arrivals();
    arrivals.borrow_and_update();
    let record = Append { to: OF, time: LogTime(1), key: Bytes::new(), value: Bytes::from_static(b"v") };
    log.append(vec![record]).await.expect("the broker should take a record");
    let heard = async {
        while !again.has(end).expect("nobody moves it") {
            arrivals.changed().await.expect("the lane is there");
        }
    };
    tokio::time::timeout(LONG, heard).await.expect("it should hear of the record");
    assert!(again.take(&mut Taken::new(end, 1_000), end + 1).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_was_closed_under_somebody_hears_again_when_it_is_opened_anew() {
    let Some((log, lanes)) = lanes().await else { return };
    for offset in 0..2 {
        hears_again(&log, &lanes, offset).await;
    }
    assert_eq!(lanes.lock()[&OF].len(), 1);
    let again = open(&lanes, 2, Use::Wait).await;
    // After closing nobody opens anything, and whoever holds a lane is sent away.
    let (closing, closed) = (lanes.clone(), lanes.clone());
    tokio::task::spawn_blocking(move || closing.close()).await.expect("it should not panic");
    assert!(matches!(again.has(2), Err(Stopped::Moved)));
    let opened = tokio::task::spawn_blocking(move || closed.open(OF, 0, Use::Read).map(|_| ())).await;
    let error = opened.expect("it should not panic").expect_err("the lanes are closed");
    assert!(error.kind() == ErrorKind::Retry && error.to_string().contains("closed"), "{error}");
    assert!(lanes.consumers.lock().expect("nobody panicked").clients.is_empty());
}
