use std::collections::BTreeSet;

use millrace_events::Topic;
use proptest::prelude::*;

use super::*;

fn partitions(count: u32) -> Vec<TopicPartition> {
    (0..count).map(|nth| TopicPartition::new(Topic::Actions, nth)).collect()
}

/// Lets every member release what it was told to, until nothing changes any more.
fn settle(members: &[Membership]) -> Vec<Assignment> {
    let assigned = || members.iter().map(|member| member.assignment().borrow().clone()).collect::<Vec<_>>();
    loop {
        let before = assigned();
        for (member, assignment) in members.iter().zip(&before) {
            member.released(assignment.epoch);
        }
        if assigned() == before {
            return before;
        }
    }
}

/// Every partition has exactly one member, no member has two more than another.
fn check(group: &Group, members: &[Membership], count: u32) {
    let all = settle(members);
    let shared_out: Vec<TopicPartition> = all.iter().flat_map(|one| one.partitions.clone()).collect();
    let once: BTreeSet<TopicPartition> = shared_out.iter().copied().collect();
    assert_eq!(shared_out.len(), count as usize, "no partition has two members");
    assert_eq!(once, partitions(count).into_iter().collect(), "no partition has none");
    let sizes: Vec<usize> = all.iter().map(|one| one.partitions.len()).collect();
    assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
    assert!(all.iter().all(|one| one.partitions.is_sorted()));
    let inner = group.inner.lock().unwrap();
    assert!(inner.closing.is_empty(), "{:?}", inner.closing);
    assert_eq!(inner.members.len(), members.len());
}

#[test]
fn more_members_than_partitions_leaves_some_idle() {
    let group = Group::new(partitions(2));
    let members: Vec<_> = (0..5).map(|_| group.join()).collect();
    check(&group, &members, 2);
}

#[test]
fn a_partition_named_twice_is_one() {
    let group = Group::new([partitions(3), partitions(2)].concat());
    let members = [group.join(), group.join()];
    check(&group, &members, 3);
}

#[test]
fn a_group_that_was_left_by_all_goes_on_under_a_larger_epoch() {
    let group = Group::new(partitions(3));
    let first = [group.join()];
    let before = settle(&first)[0].epoch;
    drop(first);
    let second = [group.join()];
    check(&group, &second, 3);
    assert!(settle(&second)[0].epoch > before);
}

#[test]
fn only_as_much_moves_as_must() {
    let group = Group::new(partitions(7));
    let mut members = vec![group.join(), group.join(), group.join()];
    let before = settle(&members);
    members.push(group.join());
    let after = settle(&members);
    for (before, after) in before.iter().zip(&after) {
        assert!(after.partitions.iter().all(|of| before.partitions.contains(of)), "{before:?} became {after:?}");
    }
    assert_eq!(after[3].partitions.len(), 1);
}

#[test]
fn reported_offsets_are_told_by_owners_only() {
    let group = Group::new(partitions(2));
    let [zero, one] = [0, 1].map(|nth| TopicPartition::new(Topic::Actions, nth));
    let members = [group.join(), group.join()];
    settle(&members);
    members[0].report(zero, 5);
    members[0].report(zero, 9);
    members[1].report(one, 1);
    members[1].report(zero, 3);
    assert_eq!(group.reported(), HashMap::from([(zero, 9), (one, 1)]));
}

proptest! {
    /// True joins, false lets one of those there leave.
    #[test]
    fn any_coming_and_going_shares_everything_out(
        count in 0..20_u32,
        changes in prop::collection::vec((any::<bool>(), any::<bool>(), any::<prop::sample::Index>()), 1..40),
    ) {
        let group = Group::new(partitions(count));
        let mut members = Vec::new();
        for (joins, settles, who) in changes {
            if joins || members.is_empty() {
                members.push(group.join());
            } else {
                drop(members.remove(who.index(members.len())));
            }
            // Changes may come faster than members release.
            if settles && !members.is_empty() {
                check(&group, &members, count);
            }
        }
        if !members.is_empty() {
            check(&group, &members, count);
        }
    }
}
