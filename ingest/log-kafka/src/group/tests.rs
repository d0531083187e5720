use rdkafka::types::RDKafkaErrorCode as Code;

use super::*;
use crate::{KafkaLog, cluster};

const ZERO: TopicPartition = TopicPartition::new(Topic::Actions, 0);
const ONE: TopicPartition = TopicPartition::new(Topic::Actions, 1);
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(600);

fn shared(release_timeout: Duration) -> Arc<Shared> {
    let group = GroupOptions { release_timeout, ..GroupOptions::default() };
    Shared::new(&KafkaOptions::default(), &group).0
}

fn given(shared: &Shared, partitions: &[TopicPartition]) -> Assignment {
    shared.given(&partitions.iter().copied().collect(), Ok(()));
    shared.assignment.borrow().clone()
}

#[test]
fn what_the_client_was_not_given_is_not_in_an_assignment() {
    let shared = shared(LONG);
    let before = given(&shared, &[ZERO]);
    shared.given(&BTreeSet::from([ONE]), Err(KafkaError::Subscription(Code::State.to_string())));
    assert_eq!(*shared.assignment.borrow(), before);
    assert!(shared.failed.load(Ordering::Relaxed), "the member joins anew");
}

#[test]
fn what_is_taken_waits_for_its_release() {
    let shared = shared(LONG);
    let before = given(&shared, &[ZERO, ONE]);
    shared.released(before.epoch);
    let taking = {
        let shared = shared.clone();
        thread::spawn(move || shared.taken(&BTreeSet::from([ONE]), false))
    };
    let now = loop {
        let now = shared.assignment.borrow().clone();
        if now.epoch > before.epoch {
            break now;
        }
        thread::yield_now();
    };
    assert_eq!(now.partitions, [ZERO]);
    shared.released(u64::MAX);
    shared.released(before.epoch);
    assert!(!taking.is_finished());
    shared.released(now.epoch);
    taking.join().expect("it should not panic");
}

#[test]
fn what_is_lost_waits_for_nobody() {
    let shared = shared(LONG);
    given(&shared, &[ZERO]);
    shared.taken(&BTreeSet::from([ZERO]), true);
    assert!(shared.assignment.borrow().partitions.is_empty());
}

/// The bell rings while the one who waits has looked and does not sleep yet, or it is the same as never.
#[test]
fn whoever_leaves_is_waited_for_no_longer() {
    for _ in 0..2_000 {
        let shared = shared(LONG);
        given(&shared, &[ZERO]);
        let taking = {
            let shared = shared.clone();
            thread::spawn(move || shared.taken(&BTreeSet::from([ZERO]), false))
        };
        shared.leave();
        taking.join().expect("it should not panic");
    }
}

#[test]
fn an_assignment_that_stays_the_same_is_not_told_again() {
    let shared = shared(LONG);
    let before = given(&shared, &[ZERO]);
    let mut told = shared.assignment.subscribe();
    assert_eq!(given(&shared, &[ZERO]), before);
    assert!(told.has_changed().is_ok_and(|changed| !changed));
    assert_eq!(told.borrow_and_update().epoch, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_client_fails_joins_anew() {
    let Some(options) = cluster::options() else { return };
    let log = KafkaLog::open(options).await.expect("the broker should take topics");
    let group = GroupOptions { topics: vec![Topic::Actions], ..GroupOptions::default() };
    let member = log.join(&group).expect("the options are fine");
    let mut assignment = member.assignment();
    let mut epoch = 0;
    for (count, fails) in [(2, true), (0, false), (2, false)] {
        let told =
            tokio::time::timeout(LONG, assignment.wait_for(|now| now.partitions.len() == count && now.epoch > 0));
        let now = told.await.expect("the group should share its partitions out").expect("it has not left").clone();
        assert!(now.epoch > epoch);
        epoch = now.epoch;
        member.released(epoch);
        if fails {
            member.shared.fail(&KafkaError::Canceled);
        }
    }
}
