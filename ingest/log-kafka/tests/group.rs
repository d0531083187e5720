//! Members of a consumer group on a real broker.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_events::{LogTime, Topic, TopicPartition};
use millrace_log::conformance::group::Harness;
use millrace_log::{Append, Assignment, EventLog, Member};
use millrace_log_kafka::{GroupOptions, KafkaLog, KafkaMember, KafkaOptions};

const PARTITIONS: u32 = 4;
/// Longer than anything here takes, on a slow machine.
const LONG: Duration = Duration::from_secs(60);

async fn log() -> Option<(KafkaOptions, Arc<KafkaLog>)> {
    let options = KafkaOptions { partitions: PARTITIONS, ..cluster::options()? };
    Some((options.clone(), KafkaLog::open(options).await.unwrap()))
}

fn group() -> GroupOptions {
    GroupOptions {
        topics: vec![Topic::Actions, Topic::UserEvents],
        // The shortest that brokers take: members hear of each other five times in it.
        session_timeout: Duration::from_secs(6),
        ..GroupOptions::default()
    }
}

fn all() -> BTreeSet<TopicPartition> {
    let of = |topic| (0..PARTITIONS).map(move |partition| TopicPartition::new(topic, partition));
    of(Topic::Actions).chain(of(Topic::UserEvents)).collect()
}

fn record_of(to: TopicPartition) -> Append {
    Append { to, time: LogTime(1), key: Bytes::new(), value: Bytes::from_static(b"v") }
}

/// Waits for an assignment like this, releasing what it does not hold on the way.
async fn until(member: &KafkaMember, wanted: impl Fn(&Assignment) -> bool) -> Assignment {
    let mut epoch = 0;
    let mut assignment = member.assignment();
    let reached = async {
        loop {
            let now = assignment.borrow_and_update().clone();
            assert!(now.epoch >= epoch, "the epoch rises with every change");
            epoch = now.epoch;
            if wanted(&now) {
                return now;
            }
            member.released(epoch);
            assignment.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONG, reached).await.expect("the group should share its partitions out")
}

fn set(assignment: &Assignment) -> BTreeSet<TopicPartition> {
    assignment.partitions.iter().copied().collect()
}

struct Cluster {
    log: Arc<KafkaLog>,
}

#[async_trait]
impl Harness for Cluster {
    fn partitions(&self) -> Vec<TopicPartition> {
        all().into_iter().collect()
    }

    async fn join(&self) -> Box<dyn Member> {
        Box::new(self.log.join(&group()).unwrap())
    }
}

millrace_log::group_conformance!({
    let Some((_, log)) = log().await else { return };
    Cluster { log }
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_closed_in_time_is_given_all_the_same() {
    let Some((_, log)) = log().await else { return };
    let first = log.join(&GroupOptions { release_timeout: Duration::from_secs(1), ..group() }).unwrap();
    until(&first, |now| set(now) == all()).await;
    let second = log.join(&group()).unwrap();
    until(&second, |now| now.partitions.len() == all().len() / 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_reads_nothing_and_its_offsets_are_reports() {
    let Some((_, log)) = log().await else { return };
    let of = TopicPartition::new(Topic::Actions, 1);
    log.append(vec![record_of(of); 10]).await.unwrap();
    let member = log.join(&group()).unwrap();
    until(&member, |now| set(now) == all()).await;
    member.report(of, 7);
    member.report(TopicPartition::new(Topic::Actions, 0), 0);
    // Leaving commits what was reported last.
    drop(member);
    let lag = log.lag(&group()).await.unwrap();
    assert_eq!(lag.get(&of), Some(&3));
    assert_eq!(lag.get(&TopicPartition::new(Topic::Actions, 0)), Some(&0));
    assert_eq!(lag.get(&TopicPartition::new(Topic::Actions, 2)), None, "nobody said anything of it");
    assert_eq!(log.read(of, 0, 1000).await.unwrap().len(), 10);
    // An answer holds for seconds, however many ask, and no longer.
    log.append(vec![record_of(of); 5]).await.unwrap();
    assert_eq!(log.lag(&group()).await.unwrap(), lag);
    let newer = async {
        while log.lag(&group()).await.unwrap().get(&of) != Some(&8) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(LONG, newer).await.expect("the lag is asked for again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_nothing_is_invalid() {
    let Some((_, log)) = log().await else { return };
    let nothing = log.join(&GroupOptions { topics: Vec::new(), ..group() });
    assert_eq!(nothing.map(|_| ()).unwrap_err().kind(), millrace_log::ErrorKind::Invalid);
}
