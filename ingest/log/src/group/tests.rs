use std::collections::BTreeSet;

use millrace_events::Topic;
use proptest::prelude::*;

use super::*;

fn partitions(count: u32) -> Vec<TopicPartition> {
    (0..count).map(|nth| TopicPartition::new(Topic::Actions, nth)).collect()
}

fn assigned(member: &mut Membership) -> Assignment {
    member.assignment().borrow_and_update().clone()
}

/// Every partition has exactly one member, no member has two more than another, and all know the same epoch.
fn check(group: &Group, members: &mut [Membership], count: u32) -> u64 {
    let all: Vec<Assignment> = members.iter_mut().map(assigned).collect();
    let shared_out: Vec<TopicPartition> = all.iter().flat_map(|one| one.partitions.clone()).collect();
    let once: BTreeSet<TopicPartition> = shared_out.iter().copied().collect();
    assert_eq!(shared_out.len(), count as usize, "no partition has two members");
    assert_eq!(once, partitions(count).into_iter().collect(), "no partition has none");
    let sizes: Vec<usize> = all.iter().map(|one| one.partitions.len()).collect();
    assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
    assert!(all.iter().all(|one| one.partitions.is_sorted()));
    let epochs: BTreeSet<u64> = all.iter().map(|one| one.epoch).collect();
    assert_eq!(epochs.len(), 1, "{epochs:?}");
    assert_eq!(group.inner.lock().unwrap().members.len(), members.len());
    all[0].epoch
}

#[test]
fn one_member_reads_everything() {
    let group = Group::new(partitions(4));
    let mut members = vec![group.join()];
    check(&group, &mut members, 4);
}

#[test]
fn more_members_than_partitions_leaves_some_idle() {
    let group = Group::new(partitions(2));
    let mut members: Vec<_> = (0..5).map(|_| group.join()).collect();
    check(&group, &mut members, 2);
}

#[test]
fn a_group_that_was_left_by_all_goes_on_under_a_larger_epoch() {
    let group = Group::new(partitions(3));
    let mut first = vec![group.join()];
    let before = check(&group, &mut first, 3);
    drop(first);
    let mut second = vec![group.join()];
    assert!(check(&group, &mut second, 3) > before);
}

#[tokio::test]
async fn members_hear_of_each_change() {
    let group = Group::new(partitions(4));
    let mut first = group.join();
    assert_eq!(assigned(&mut first).partitions.len(), 4);
    let second = group.join();
    first.assignment().changed().await.unwrap();
    assert_eq!(assigned(&mut first).partitions.len(), 2);
    drop(second);
    first.assignment().changed().await.unwrap();
    assert_eq!(assigned(&mut first).partitions.len(), 4);
}

#[test]
fn reported_offsets_are_told() {
    let group = Group::new(partitions(2));
    let [zero, one] = [0, 1].map(|nth| TopicPartition::new(Topic::Actions, nth));
    group.report(zero, 5);
    group.report(one, 1);
    group.clone().report(zero, 9);
    assert_eq!(group.reported(), HashMap::from([(zero, 9), (one, 1)]));
}

proptest! {
    /// True joins, false lets one of those there leave.
    #[test]
    fn any_coming_and_going_shares_everything_out(
        count in 0..20_u32,
        changes in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..40),
    ) {
        let group = Group::new(partitions(count));
        let mut members = Vec::new();
        let mut epoch = 0;
        for (joins, who) in changes {
            if joins || members.is_empty() {
                members.push(group.join());
            } else {
                drop(members.remove(who.index(members.len())));
            }
            if !members.is_empty() {
                let now = check(&group, &mut members, count);
                prop_assert!(now > epoch, "the epoch rises with every change");
                epoch = now;
            }
        }
    }
}
