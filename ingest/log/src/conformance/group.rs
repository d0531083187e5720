//! The laws of [`Member`], one function each, for any group.
//!
//! A group implements [`Harness`] and stamps every law as a test with [`group_conformance!`](crate::group_conformance). A law
//! panics where a group breaks it. What must never happen is watched for [`QUIET`]; what must happen is waited for without
//! end, which is for the test runner to notice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use millrace_events::TopicPartition;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::{Assignment, Member};

/// How long a law watches for what must not happen: longer than a partition that may move takes to.
pub const QUIET: Duration = Duration::from_secs(2);

/// How a law gets members of one group that nobody else is in.
#[async_trait]
pub trait Harness: Send + Sync {
    /// What the group shares out: four partitions or more.
    fn partitions(&self) -> Vec<TopicPartition>;

    /// One more member. An owner that hangs is waited for longer than [`QUIET`].
    async fn join(&self) -> Box<dyn Member>;
}

/// Stamps every law as a test. The argument makes a [`Harness`](crate::conformance::group::Harness); it is evaluated once per
/// law.
#[macro_export]
macro_rules! group_conformance {
    ($harness:expr) => {
        $crate::group_conformance! { @laws $harness;
            one_member_has_everything
            what_moves_is_given_only_after_it_was_released
            a_release_of_another_epoch_frees_nothing
            what_a_member_leaves_is_given_to_the_others
            what_was_taken_comes_back_when_nobody_else_is_left
            any_coming_and_going_opens_nothing_twice
        }
    };
    (@laws $harness:expr; $($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                $crate::conformance::group::$law(&$harness).await;
            }
        )*
    };
}

fn set(assignment: &Assignment) -> BTreeSet<TopicPartition> {
    assignment.partitions.iter().copied().collect()
}

fn all(harness: &dyn Harness) -> BTreeSet<TopicPartition> {
    harness.partitions().into_iter().collect()
}

/// Waits for an assignment like this and releases none on the way; the epoch rises with each.
async fn until(member: &dyn Member, wanted: impl Fn(&BTreeSet<TopicPartition>) -> bool) -> Assignment {
    let mut assignment = member.assignment();
    let mut before = assignment.borrow_and_update().clone();
    while !wanted(&set(&before)) {
        assignment.changed().await.expect("a member that has not left hears of changes");
        let now = assignment.borrow_and_update().clone();
        assert!(now.epoch > before.epoch, "the epoch rises with each assignment: {} after {}", now.epoch, before.epoch);
        before = now;
    }
    before
}

/// Two members, of whom the first has been told what to close and the second has nothing yet.
async fn moving(harness: &dyn Harness) -> (Box<dyn Member>, Box<dyn Member>, Assignment, Assignment) {
    let all = all(harness);
    let first = harness.join().await;
    let before = until(&*first, |now| *now == all).await;
    first.released(before.epoch);
    let second = harness.join().await;
    let kept = until(&*first, |now| now.len() <= all.len().div_ceil(2)).await;
    (first, second, before, kept)
}

/// Fails when a partition is given to this member before long.
async fn has_nothing(member: &dyn Member) {
    let given = tokio::time::timeout(QUIET, until(member, |now| !now.is_empty())).await;
    assert!(given.is_err(), "{:?} was given before its owner released it", given.map(|given| given.partitions));
}

/// Law 1 for one.
pub async fn one_member_has_everything(harness: &dyn Harness) {
    let member = harness.join().await;
    let all = all(harness);
    let assignment = until(&*member, |now| *now == all).await;
    assert!(assignment.partitions.is_sorted() && assignment.epoch > 0);
    assert_eq!(*member.assignment().borrow(), assignment, "whoever asks later is told the same");
}

/// Laws 2 and 3: the next member has nothing of it before, all of it afterwards, and what stays is never taken.
pub async fn what_moves_is_given_only_after_it_was_released(harness: &dyn Harness) {
    let (first, second, _, kept) = moving(harness).await;
    let moved = &all(harness) - &set(&kept);
    has_nothing(&*second).await;
    let mut of_first = first.assignment();
    of_first.mark_unchanged();
    first.released(kept.epoch);
    let given = until(&*second, |now| !now.is_empty()).await;
    assert_eq!(set(&given), moved);
    assert_eq!(set(&of_first.borrow()), set(&kept), "what stays is not taken");
}

/// Law 2: one that is older, or that there never was, says nothing of what is open now.
pub async fn a_release_of_another_epoch_frees_nothing(harness: &dyn Harness) {
    let (first, second, before, kept) = moving(harness).await;
    first.released(before.epoch);
    first.released(kept.epoch + 1_000);
    first.released(u64::MAX);
    has_nothing(&*second).await;
    first.released(kept.epoch);
    until(&*second, |now| !now.is_empty()).await;
}

/// Law 2: leaving releases, also what was not said to be.
pub async fn what_a_member_leaves_is_given_to_the_others(harness: &dyn Harness) {
    let (first, second, _, kept) = moving(harness).await;
    first.released(kept.epoch);
    let given = until(&*second, |now| !now.is_empty()).await;
    second.released(given.epoch);
    let mut left = first.assignment();
    drop(first);
    while left.changed().await.is_ok() {}
    let all = all(harness);
    let whole = until(&*second, |now| *now == all).await;
    second.released(whole.epoch);
}

/// Law 1: the first one closes what it was told to, and opens it again.
pub async fn what_was_taken_comes_back_when_nobody_else_is_left(harness: &dyn Harness) {
    let (first, second, _, kept) = moving(harness).await;
    // Leaving may wait until the first has answered.
    let leaving = tokio::task::spawn_blocking(move || drop(second));
    first.released(kept.epoch);
    leaving.await.expect("leaving should not panic");
    let all = all(harness);
    let whole = until(&*first, |now| *now == all).await;
    assert!(whole.epoch > kept.epoch);
}

/// All laws, with members that open, close and release as they should.
pub async fn any_coming_and_going_opens_nothing_twice(harness: &dyn Harness) {
    let open = Open::default();
    let mut workers: Vec<Worker> = Vec::new();
    // True joins, false lets the one leave that came first.
    for (nth, joins) in [true, true, true, false, true, false, false].into_iter().enumerate() {
        if joins {
            workers.push(Worker::start(nth, harness.join().await, &open));
        } else {
            workers.remove(0).leave().await;
        }
        shared_out(harness, &workers).await;
    }
    for worker in workers {
        worker.leave().await;
    }
}

/// Which member has a partition open.
type Open = Arc<Mutex<BTreeMap<TopicPartition, usize>>>;

/// A member that does what it is told, and where it is.
struct Worker {
    has: watch::Receiver<BTreeSet<TopicPartition>>,
    leave: oneshot::Sender<()>,
    work: JoinHandle<()>,
}

impl Worker {
    fn start(who: usize, member: Box<dyn Member>, open: &Open) -> Self {
        let (has, told) = watch::channel(BTreeSet::new());
        let (leave, mut left) = oneshot::channel();
        let open = open.clone();
        let work = tokio::spawn(async move {
            let mut assignment = member.assignment();
            let mut epoch = 0;
            loop {
                let now = assignment.borrow_and_update().clone();
                assert!(now.epoch >= epoch, "the epoch rises");
                epoch = now.epoch;
                // Closing takes a moment, in which nobody else may open.
                tokio::task::yield_now().await;
                become_owner_of(&open, who, &set(&now));
                has.send_replace(set(&now));
                member.released(now.epoch);
                tokio::select! {
                    _ = &mut left => break,
                    changed = assignment.changed() => changed.expect("it has not left"),
                }
            }
            become_owner_of(&open, who, &BTreeSet::new());
            let dropped = tokio::task::spawn_blocking(move || drop(member)).await;
            dropped.expect("leaving should not panic");
        });
        Self { has: told, leave, work }
    }

    async fn leave(self) {
        self.leave.send(()).expect("a worker goes on until it leaves");
        self.work.await.expect("a worker should not panic");
    }
}

fn become_owner_of(open: &Open, who: usize, wanted: &BTreeSet<TopicPartition>) {
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|of, owner| *owner != who || wanted.contains(of));
    for of in wanted {
        let owner = *open.entry(*of).or_insert(who);
        assert_eq!(owner, who, "{of} is given to {who} while {owner} has it open");
    }
}

/// Waits until the workers have every partition, each one of them, evenly.
async fn shared_out(harness: &dyn Harness, workers: &[Worker]) {
    let all = all(harness);
    let mut told: Vec<_> = workers.iter().map(|worker| worker.has.clone()).collect();
    loop {
        let has: Vec<BTreeSet<TopicPartition>> = told.iter_mut().map(|told| told.borrow_and_update().clone()).collect();
        let sizes: Vec<usize> = has.iter().map(BTreeSet::len).collect();
        let even = sizes.iter().max() <= sizes.iter().min().map(|min| min + 1).as_ref();
        if even && sizes.iter().sum::<usize>() == all.len() && has.into_iter().flatten().collect::<BTreeSet<_>>() == all
        {
            return;
        }
        let changes = told.iter_mut().map(|told| Box::pin(told.changed()));
        let (changed, ..) = futures::future::select_all(changes).await;
        changed.expect("a worker should not panic");
    }
}
