//! Members of a consumer group on a real broker.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millrace_events::{LogTime, Topic, TopicPartition};
use millrace_log::{Append, Assignment, EventLog};
use millrace_log_kafka::{GroupOptions, KafkaLog, KafkaMember, KafkaOptions};

const PARTITIONS: u32 = 4;
/// Longer than anything here takes, on a slow machine.
const LONG: Duration = Duration::from_secs(60);

async fn log() -> Option<(KafkaOptions, Arc<KafkaLog>)> {
    let options = KafkaOptions { partitions: PARTITIONS, ..cluster::options()? };
    Some((options.clone(), KafkaLog::open(options).await.unwrap()))
}

fn group() -> GroupOptions {
    GroupOptions { topics: vec![Topic::Actions, Topic::UserEvents], ..GroupOptions::default() }
}

fn all() -> BTreeSet<TopicPartition> {
    let of = |topic| (0..PARTITIONS).map(move |partition| TopicPartition::new(topic, partition));
    of(Topic::Actions).chain(of(Topic::UserEvents)).collect()
}

/// Waits for an assignment like this, releasing what it does not hold on the way.
async fn until(member: &mut KafkaMember, wanted: impl Fn(&Assignment) -> bool) -> Assignment {
    let mut epoch = 0;
    let reached = async {
        loop {
            let now = member.assignment().borrow_and_update().clone();
            assert!(now.epoch >= epoch, "the epoch rises with every change");
            epoch = now.epoch;
            if wanted(&now) {
                return now;
            }
            member.released(epoch);
            member.assignment().changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONG, reached).await.expect("the group should share its partitions out")
}

fn set(assignment: &Assignment) -> BTreeSet<TopicPartition> {
    assignment.partitions.iter().copied().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_has_everything() {
    let Some((_, log)) = log().await else { return };
    let mut member = log.join(&group()).unwrap();
    let has = until(&mut member, |now| !now.partitions.is_empty()).await;
    assert_eq!(set(&has), all());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_moves_is_closed_before_it_is_given_and_the_rest_stays() {
    let Some((_, log)) = log().await else { return };
    let mut first = log.join(&group()).unwrap();
    until(&mut first, |now| set(now) == all()).await;
    let mut second = log.join(&group()).unwrap();
    // The first is told what to close, and takes its time.
    let kept = until(&mut first, |now| now.partitions.len() == all().len() / 2).await;
    let early =
        tokio::time::timeout(Duration::from_secs(2), second.assignment().wait_for(|now| !now.partitions.is_empty()));
    assert!(early.await.is_err(), "nothing is given before it is closed");
    first.released(kept.epoch);
    let given = until(&mut second, |now| !now.partitions.is_empty()).await;
    assert_eq!(&set(&given) | &set(&kept), all());
    assert!(set(&given).is_disjoint(&set(&kept)));
    assert_eq!(set(&first.assignment().borrow()), set(&kept), "what stays never stopped");
    drop(second);
    until(&mut first, |now| set(now) == all()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_closed_in_time_is_given_all_the_same() {
    let Some((_, log)) = log().await else { return };
    let mut first = log.join(&GroupOptions { release_timeout: Duration::from_secs(1), ..group() }).unwrap();
    until(&mut first, |now| set(now) == all()).await;
    let mut second = log.join(&group()).unwrap();
    until(&mut second, |now| now.partitions.len() == all().len() / 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_reads_nothing_and_its_offsets_are_reports() {
    let Some((_, log)) = log().await else { return };
    let of = TopicPartition::new(Topic::Actions, 1);
    let record = Append { to: of, time: LogTime(1), key: Bytes::new(), value: Bytes::from_static(b"v") };
    log.append(vec![record; 10]).await.unwrap();
    let mut member = log.join(&group()).unwrap();
    until(&mut member, |now| set(now) == all()).await;
    member.report(of, 7);
    member.report(TopicPartition::new(Topic::Actions, 0), 0);
    // Leaving commits what was reported last.
    drop(member);
    let lag = log.lag(&group()).await.unwrap();
    assert_eq!(lag.get(&of), Some(&3));
    assert_eq!(lag.get(&TopicPartition::new(Topic::Actions, 0)), Some(&0));
    assert_eq!(lag.get(&TopicPartition::new(Topic::Actions, 2)), None, "nobody said anything of it");
    assert_eq!(log.read(of, 0, 1000).await.unwrap().len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_nothing_is_invalid() {
    let Some((_, log)) = log().await else { return };
    let nothing = log.join(&GroupOptions { topics: Vec::new(), ..group() });
    assert_eq!(nothing.map(|_| ()).unwrap_err().kind(), millrace_log::ErrorKind::Invalid);
}
