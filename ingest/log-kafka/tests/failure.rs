//! Brokers that die, hang and come back: three of one cluster, which the tests here share one after the other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "failure/members.rs"]
mod members;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millrace_engines::kafka::Kafka;
use millrace_events::{LogTime, Topic, TopicPartition};
use millrace_log::{Append, ErrorKind, EventLog, Offset, Record};
use millrace_log_kafka::{GroupOptions, KafkaLog, KafkaOptions};
use tokio::sync::{Mutex, MutexGuard};

const BROKERS: u32 = 3;
const APPENDERS: usize = 4;
const CALL_RECORDS: usize = 5;
/// A dead broker is noticed within three seconds instead of nine, a controller that hangs within two instead of thirty.
const QUICK: &str =
    "broker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\ncontroller.socket.timeout.ms=2000\n";
/// Longer than anything here takes, on a slow machine.
const LONG: Duration = Duration::from_secs(90);

/// The cluster; the first who asks starts it.
async fn cluster() -> Option<MutexGuard<'static, Option<Kafka>>> {
    static CLUSTER: Mutex<Option<Kafka>> = Mutex::const_new(None);
    let mut cluster = CLUSTER.lock().await;
    if cluster.is_none() {
        *cluster = Some(Kafka::start(BROKERS, QUICK)?);
    }
    Some(cluster)
}

fn options(kafka: &Kafka, name: &str) -> KafkaOptions {
    let prefix = format!("failure-{name}");
    KafkaOptions { brokers: kafka.brokers(), prefix, partitions: 3, ..KafkaOptions::default() }
}

async fn open(options: KafkaOptions) -> Arc<KafkaLog> {
    // A broker that has just come back may not take topics yet.
    let opened = async {
        loop {
            match KafkaLog::open(options.clone()).await {
                Ok(log) => return log,
                Err(error) if error.kind() == ErrorKind::Retry => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    tokio::time::timeout(LONG, opened).await.expect("the cluster should take topics")
}

fn record(to: TopicPartition, value: &str) -> Append {
    Append { to, time: LogTime(1), key: Bytes::new(), value: Bytes::copy_from_slice(value.as_bytes()) }
}

/// Appends without end, each attempt with values of its own, and keeps what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    appenders: Vec<tokio::task::JoinHandle<Told>>,
}

#[derive(Default)]
struct Told {
    /// Where a value is, as an acknowledgement said.
    at: Vec<(TopicPartition, Offset, String)>,
    retries: usize,
}

impl Load {
    fn start(log: &Arc<KafkaLog>) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let appender = |who: usize| {
            let (log, stop, acknowledged) = (log.clone(), stop.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let mut told = Told::default();
                for attempt in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let to = TopicPartition::new(Topic::Actions, u32::try_from(who % 3).unwrap());
                    let values: Vec<String> = (0..CALL_RECORDS).map(|n| format!("{who}/{attempt}/{n}")).collect();
                    match log.append(values.iter().map(|value| record(to, value)).collect()).await {
                        Ok(offsets) => {
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                            told.at.extend(offsets.iter().zip(values).map(|(offset, value)| (to, *offset, value)));
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Retry, "{error:?}");
                            told.retries += 1;
                        }
                    }
                }
                told
            })
        };
        let appenders = (0..APPENDERS).map(appender).collect();
        Self { stop, acknowledged, appenders }
    }

    /// Until so many more appends are acknowledged.
    async fn go_on(&self, more: usize) {
        let until = self.acknowledged.load(Ordering::Relaxed) + more;
        let reached = async {
            while self.acknowledged.load(Ordering::Relaxed) < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LONG, reached).await.expect("appends should go on");
    }

    async fn stop(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        for appender in self.appenders {
            let told = appender.await.unwrap();
            all.at.extend(told.at);
            all.retries += told.retries;
        }
        all
    }
}

async fn read_all(log: &KafkaLog, of: TopicPartition) -> Vec<Record> {
    let end = log.bounds(of).await.unwrap().end;
    let mut records: Vec<Record> = Vec::new();
    while (records.len() as u64) < end {
        records.extend(log.read(of, records.len() as u64, 1024 * 1024).await.unwrap());
    }
    records
}

/// Every acknowledged record is where it was told, once, and of every attempt a prefix is there, in order.
async fn check(log: &KafkaLog, told: &Told) {
    let mut places: HashMap<String, Vec<(TopicPartition, Offset)>> = HashMap::new();
    let mut progress: HashMap<(TopicPartition, String), usize> = HashMap::new();
    for partition in 0..3 {
        let of = TopicPartition::new(Topic::Actions, partition);
        for (nth, record) in read_all(log, of).await.into_iter().enumerate() {
            assert_eq!(record.offset, nth as u64, "offsets are dense");
            let value = String::from_utf8(record.value.to_vec()).unwrap();
            let (attempt, n) = value.rsplit_once('/').unwrap();
            let next = progress.entry((of, attempt.to_owned())).or_default();
            assert_eq!(n.parse::<usize>().unwrap(), *next, "{value}: a prefix of each attempt, in order");
            *next += 1;
            places.entry(value).or_default().push((of, record.offset));
        }
    }
    for (of, offset, value) in &told.at {
        assert_eq!(places.get(value), Some(&vec![(*of, *offset)]), "{value} once, where it was told");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_loses_nothing_acknowledged() {
    let Some(mut cluster) = cluster().await else { return };
    let kafka = cluster.as_mut().unwrap();
    let log = open(options(kafka, "killed")).await;
    let load = Load::start(&log);
    for nth in 0..BROKERS as usize {
        load.go_on(50).await;
        kafka.kill(nth);
        load.go_on(50).await;
        kafka.restart(&[nth]);
    }
    let told = load.stop().await;
    assert_eq!(told.retries, 0, "an election is outlasted");
    check(&log, &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_broker_loses_nothing_acknowledged() {
    let Some(mut cluster) = cluster().await else { return };
    let kafka = cluster.as_mut().unwrap();
    let patient = open(options(kafka, "patient")).await;
    // Appends to what a hanging broker leads are given up, and what was in its socket comes late.
    let hasty = KafkaOptions { append_timeout: Duration::from_secs(2), ..options(kafka, "hasty") };
    let hasty = open(hasty).await;
    let loads = [Load::start(&patient), Load::start(&hasty)];
    for nth in 0..BROKERS as usize {
        kafka.suspend(nth);
        for load in &loads {
            load.go_on(20).await;
        }
        kafka.resume(nth);
        for load in &loads {
            load.go_on(20).await;
        }
    }
    let [of_patient, of_hasty] = loads.map(Load::stop);
    let (of_patient, of_hasty) = (of_patient.await, of_hasty.await);
    assert_eq!(of_patient.retries, 0, "an election is outlasted");
    assert!(of_hasty.retries > 0, "two seconds do not outlast it");
    check(&patient, &of_patient).await;
    check(&hasty, &of_hasty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_brokers_everything_is_told_to_retry_and_with_them_it_works_again() {
    let Some(mut cluster) = cluster().await else { return };
    let kafka = cluster.as_mut().unwrap();
    let of = TopicPartition::new(Topic::Actions, 0);
    let timeout = Duration::from_secs(2);
    let log = open(KafkaOptions { append_timeout: timeout, request_timeout: timeout, ..options(kafka, "away") }).await;
    let mut acknowledged = log.append(vec![record(of, "before")]).await.unwrap().len();
    let waiter = {
        let log = log.clone();
        tokio::spawn(async move { log.wait(of, 1).await })
    };
    (0..BROKERS as usize).for_each(|nth| kafka.kill(nth));
    for attempt in 0..3 {
        let answer = tokio::time::timeout(timeout * 4, log.append(vec![record(of, &format!("away {attempt}"))])).await;
        let error = answer.expect("an append should be answered within its bound").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Retry, "{error:?}");
        assert!(!log.healthy(), "no producer until the next append");
    }
    let answer = tokio::time::timeout(timeout * 4, log.read(of, 1, 1024)).await.expect("and a read");
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Retry);
    let answer = tokio::time::timeout(timeout * 4, log.bounds(of)).await.expect("and a question");
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Retry);
    assert!(
        tokio::time::timeout(timeout * 8, waiter).await.is_ok_and(|waited| waited.unwrap().is_err()),
        "and a waiter, when it asks again"
    );
    let answer = tokio::time::timeout(timeout * 4, log.lag(&GroupOptions::default())).await.expect("and the lag");
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Retry);
    let opened = KafkaLog::open(KafkaOptions { request_timeout: timeout, ..options(kafka, "away") }).await;
    assert_eq!(opened.map(|_| ()).unwrap_err().kind(), ErrorKind::Retry);
    kafka.restart(&[0, 1, 2]);
    let works_again = async {
        while let Err(error) = log.append(vec![record(of, "after")]).await {
            assert_eq!(error.kind(), ErrorKind::Retry, "{error:?}");
        }
    };
    tokio::time::timeout(LONG, works_again).await.expect("the log should work again");
    acknowledged += 1;
    assert!(log.healthy());
    let values: Vec<_> = read_all(&log, of).await.into_iter().map(|record| record.value).collect();
    assert!(values.len() >= acknowledged && values[0] == "before" && values[values.len() - 1] == "after", "{values:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_opened_without_brokers_works_once_they_answer_and_only_if_they_are_the_right_ones() {
    let Some(mut cluster) = cluster().await else { return };
    let kafka = cluster.as_mut().unwrap();
    let of = TopicPartition::new(Topic::Actions, 0);
    let options = KafkaOptions { request_timeout: Duration::from_secs(2), ..options(kafka, "unanswered") };
    let name = open(options.clone()).await.identity().await.unwrap();
    let open_as = |name: &str, partitions| {
        let options = KafkaOptions { partitions, ..options.clone() };
        KafkaLog::open_unanswered(options, name.to_owned()).unwrap()
    };
    (0..BROKERS as usize).for_each(|nth| kafka.kill(nth));
    let right = open_as(&name, 3);
    let others = [open_as("kafka another/failure-unanswered", 3), open_as(&name, 5)];
    for log in others.iter().chain([&right]) {
        assert_eq!(log.append(vec![record(of, "early")]).await.unwrap_err().kind(), ErrorKind::Retry);
        assert_eq!(log.read(of, 0, 1000).await.unwrap_err().kind(), ErrorKind::Retry);
        assert_eq!(log.wait(of, 0).await.unwrap_err().kind(), ErrorKind::Retry);
        assert_eq!(log.bounds(of).await.unwrap_err().kind(), ErrorKind::Retry);
        assert!(!log.healthy());
    }
    kafka.restart(&[0, 1, 2]);
    until_health(&right, true).await;
    assert_eq!(right.refusal(), None);
    right.append(vec![record(of, "late")]).await.unwrap();
    for log in &others {
        let refused = async {
            loop {
                match log.append(vec![record(of, "wrong")]).await {
                    Err(error) if error.kind() == ErrorKind::Retry => {
                        tokio::time::sleep(Duration::from_millis(20)).await
                    }
                    answered => return answered,
                }
            }
        };
        let refused = tokio::time::timeout(LONG, refused).await.expect("the cluster should say what it is");
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(log.read(of, 0, 1000).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert!(!log.healthy() && log.refusal().is_some());
    }
    let values: Vec<_> = read_all(&right, of).await.into_iter().map(|record| record.value).collect();
    assert_eq!(values, ["late"]);
}

async fn until_health(log: &KafkaLog, well: bool) {
    let reached = async {
        while log.healthy() != well {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let what = if well { "well" } else { "unhealthy" };
    tokio::time::timeout(LONG, reached).await.unwrap_or_else(|_| panic!("the log should be {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_before_an_append_fails_and_without_any() {
    let Some(mut cluster) = cluster().await else { return };
    let kafka = cluster.as_mut().unwrap();
    let of = TopicPartition::new(Topic::Actions, 0);
    // No append is given up while this test runs.
    let log = open(KafkaOptions { append_timeout: LONG * 2, ..options(kafka, "health") }).await;
    log.append(vec![record(of, "before")]).await.unwrap();
    assert!(log.healthy());
    (0..BROKERS as usize).for_each(|nth| kafka.suspend(nth));
    let appending = tokio::spawn({
        let log = log.clone();
        async move { log.append(vec![record(of, "meanwhile")]).await }
    });
    until_health(&log, false).await;
    assert!(!appending.is_finished());
    (0..BROKERS as usize).for_each(|nth| kafka.resume(nth));
    until_health(&log, true).await;
    assert_eq!(appending.await.unwrap().unwrap(), [1]);
    // Nobody appends, and the client alone notices.
    (0..BROKERS as usize).for_each(|nth| kafka.kill(nth));
    until_health(&log, false).await;
    kafka.restart(&[0, 1, 2]);
    until_health(&log, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_does_not_wait_for_a_cluster_that_hangs() {
    /// What the documentation says, and a little.
    const CLOSE_MAX: Duration = Duration::from_millis(5_500);
    let Some(cluster) = cluster().await else { return };
    let kafka = cluster.as_ref().unwrap();
    let of = TopicPartition::new(Topic::Actions, 0);
    let log = open(options(kafka, "closing")).await;
    log.append(vec![record(of, "before")]).await.unwrap();
    assert_eq!(log.read(of, 0, 1000).await.unwrap().len(), 1);
    let member = log.join(&GroupOptions::default()).unwrap();
    let waiting = tokio::spawn({
        let log = log.clone();
        async move { log.wait(of, 1).await }
    });
    (0..BROKERS as usize).for_each(|nth| kafka.suspend(nth));
    let appending = tokio::spawn({
        let log = log.clone();
        async move { log.append(vec![record(of, "meanwhile")]).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let bounded = |what: &'static str, call: Box<dyn FnOnce() + Send>| async move {
        tokio::time::timeout(CLOSE_MAX, tokio::task::spawn_blocking(call)).await.expect(what).unwrap();
    };
    bounded("a member should leave in time", Box::new(move || drop(member))).await;
    let closing = log.clone();
    bounded("the log should close in time", Box::new(move || closing.close())).await;
    let answer = tokio::time::timeout(LONG, appending).await.expect("what was taken is answered").unwrap();
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Retry);
    let waited = tokio::time::timeout(LONG, waiting).await.expect("whoever waits is sent away").unwrap();
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::Retry);
    bounded("the log should end in time", Box::new(move || drop(log))).await;
    (0..BROKERS as usize).for_each(|nth| kafka.resume(nth));
}
