//! Each job over the toy seams: records in, the present out.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_events::{
    Action, ActionKind, DeadLetter, Envelope, Kind, LogTime, Topic, TopicPartition, Window, partition_of,
};
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::views::{
    self, EngagementRecord, PostRecord, SeenRecord, SourceCounts, TrendKind, TrendsRecord, UserRecord, WindowCounts,
};
use millrace_feature_store::{OnlineStore, RecordKey};
use millrace_log::toy::ToyLog;
use millrace_log::{Append, EventLog};
use proptest::prelude::*;
use prost::Message;

use super::stage_of;
use crate::runner::{Board, Gate, Seams, Stop, Timer, Worker, WorkerOptions};
use crate::state::toy::ToyStateStore;

const PARTITIONS: u32 = 2;
const MINUTE: i64 = 60_000_000;

struct NoTimer;

#[async_trait]
impl Timer for NoTimer {
    async fn pause(&self, _duration: Duration) {}
}

/// A log, its jobs and what they lead to.
pub(super) struct Bench {
    log: ToyLog,
    online: ToyStore,
    states: ToyStateStore,
    board: Board,
    options: WorkerOptions,
    now: i64,
    sent: u32,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self {
            log: ToyLog::new(PARTITIONS),
            online: ToyStore::new(),
            states: ToyStateStore::new(),
            board: Board::new(),
            options: WorkerOptions::default(),
            now: 1_000 * MINUTE,
            sent: 0,
        }
    }

    pub(super) fn event(&mut self, actor: &str, kind: ActionKind, post: &str, target: &str) -> Envelope {
        self.sent += 1;
        let action =
            Action { kind: kind as i32, post_id: post.to_owned(), target_id: target.to_owned(), ..Action::default() };
        Envelope {
            message_id: format!("m{}", self.sent),
            source: "test".to_owned(),
            kind: Kind::Track as i32,
            event: kind.as_str().to_owned(),
            user_id: actor.to_owned(),
            event_time_us: self.now,
            action: Some(action),
            ..Envelope::default()
        }
    }

    pub(super) async fn send(&mut self, envelope: &Envelope) {
        let key = envelope.key().to_owned();
        let to = TopicPartition::new(Topic::Actions, partition_of(key.as_bytes(), PARTITIONS));
        let value = envelope.encode_to_vec().into();
        self.log.append(vec![Append { to, time: LogTime(self.now), key: key.into(), value }]).await.unwrap();
    }

    /// Tells every partition the time.
    pub(super) async fn tick(&self) {
        for partition in 0..PARTITIONS {
            let to = TopicPartition::new(Topic::Actions, partition);
            let value = Envelope::tick().encode_to_vec().into();
            self.log.append(vec![Append { to, time: LogTime(self.now), key: Bytes::new(), value }]).await.unwrap();
        }
    }

    pub(super) async fn act(&mut self, actor: &str, kind: ActionKind, post: &str, target: &str) {
        let envelope = self.event(actor, kind, post, target);
        self.send(&envelope).await;
    }

    /// What came in by source, as the board says, over all partitions that saw one.
    pub(super) fn sources(&self) -> Vec<SourceCounts> {
        let of = |partition| self.board.get(TopicPartition::new(Topic::Actions, partition)).unwrap_or_default().sources;
        (0..PARTITIONS).flat_map(of).collect()
    }

    /// The same as it stands online.
    pub(super) async fn online_sources(&self) -> Vec<SourceCounts> {
        let mut found = Vec::new();
        for partition in 0..PARTITIONS {
            let key = views::progress_key(TopicPartition::new(Topic::Actions, partition));
            found.extend(self.record::<views::ProgressRecord>(key).await.unwrap_or_default().sources);
        }
        found
    }

    /// Applies everything in the log.
    pub(super) async fn settle(&self) {
        for topic in [Topic::Actions, Topic::UserEvents, Topic::ReactionEvents, Topic::TagEvents] {
            for partition in 0..PARTITIONS {
                let of = TopicPartition::new(topic, partition);
                let seams = Seams {
                    log: Arc::new(self.log.clone()),
                    online: Arc::new(self.online.clone()),
                    states: Arc::new(self.states.clone()),
                    timer: Arc::new(NoTimer),
                    gate: Gate::default(),
                    archived: Default::default(),
                };
                let stage = stage_of(topic, 1, PARTITIONS).unwrap();
                let worker = Worker::new(of, 1, stage, seams, self.options.clone(), self.board.clone());
                worker.run_until(self.log.bounds(of).await.unwrap().end).await.unwrap();
            }
        }
    }

    pub(super) async fn record<M: Message + Default>(&self, key: RecordKey) -> Option<M> {
        let found = self.online.get(&[key]).await.unwrap().remove(0);
        found.map(|value| M::decode(value).unwrap())
    }

    pub(super) async fn totals(&self, post: &str) -> EngagementRecord {
        self.record(views::record(views::ENGAGEMENT, post)).await.unwrap_or_default()
    }

    async fn list(&self, view: u8, id: &str) -> Vec<String> {
        let head = self.online.heads(&[views::list(view, id)], 100).await.unwrap().remove(0);
        head.into_iter().map(|item| String::from_utf8(item.member.to_vec()).unwrap()).collect()
    }

    fn dead(&self) -> Vec<String> {
        let records = self.log.records(TopicPartition::new(Topic::DeadLetters, 0));
        records.into_iter().map(|r| DeadLetter::decode(r.value).unwrap().reason).collect()
    }

    fn count(&self, of: TopicPartition, name: &str) -> u64 {
        let counts = self.board.get(of).unwrap().counts;
        counts.into_iter().find(|(n, _)| *n == name).unwrap().1
    }

    /// The values in a topic, in the order of its partitions.
    pub(super) fn published(&self, topic: Topic) -> Vec<Bytes> {
        let of = |partition| self.log.records(TopicPartition::new(topic, partition)).into_iter();
        (0..PARTITIONS).flat_map(of).map(|record| record.value).collect()
    }

    /// The newest posts, by the lists of the partitions.
    pub(super) async fn fresh(&self) -> Vec<String> {
        let lists: Vec<_> = (0..PARTITIONS).map(views::fresh_key).collect();
        let heads = self.online.heads(&lists, 100).await.unwrap();
        heads.into_iter().flatten().map(|item| String::from_utf8(item.member.to_vec()).unwrap()).collect()
    }

    /// The posts that rise within an hour.
    pub(super) async fn rising(&self) -> Vec<String> {
        let mut rising = Vec::new();
        for partition in 0..PARTITIONS {
            let key = views::trends_key(TrendKind::Posts, Window::Hour, partition);
            let listed: TrendsRecord = self.record(key).await.unwrap_or_default();
            rising.extend(listed.items.into_iter().map(|item| item.id));
        }
        rising
    }
}

#[tokio::test]
async fn reactions_are_counted_and_a_like_is_a_state() {
    let mut bench = Bench::new();
    use ActionKind::*;
    for (actor, kind) in [
        ("a", PostViewed),
        ("a", PostViewed),
        ("b", PostViewed),
        ("a", PostClicked),
        ("a", PostLiked),
        ("a", PostLiked),
        ("b", PostLiked),
        ("b", PostUnliked),
        ("c", PostUnliked),
        ("a", PostCommented),
        ("a", PostCommented),
        ("a", PostShared),
        ("a", PostSaved),
        ("a", PostHidden),
        ("a", PostReported),
    ] {
        bench.act(actor, kind, "p", "").await;
    }
    bench.settle().await;
    // Like the totals, but that a window tells likes from unlikes.
    let within = |window: Window| WindowCounts {
        window: window as u32,
        start_us: window.start_of(bench.now),
        views: 3,
        clicks: 1,
        likes: 2,
        unlikes: 1,
        comments: 2,
        shares: 1,
        saves: 1,
        hides: 1,
        reports: 1,
    };
    let expected = EngagementRecord {
        views: 3,
        unique_viewers: 2,
        clicks: 1,
        likes: 1,
        comments: 2,
        shares: 1,
        saves: 1,
        hides: 1,
        reports: 1,
        windows: Window::ALL.map(within).to_vec(),
    };
    assert_eq!(bench.totals("p").await, expected);
    let seen: SeenRecord = bench.record(views::seen_key("a", "p")).await.unwrap();
    assert!(seen.hidden);
}

#[tokio::test]
async fn a_retry_is_counted_once_but_an_id_is_only_known_within_its_source_and_actor() {
    let mut bench = Bench::new();
    let first = bench.event("a", ActionKind::PostShared, "p", "");
    let elsewhere = Envelope { source: "other".to_owned(), ..first.clone() };
    let somebody = Envelope { user_id: "b".to_owned(), ..first.clone() };
    let minted = Envelope { minted_id: true, ..first.clone() };
    for envelope in [&first, &first, &elsewhere, &somebody, &minted, &minted] {
        bench.send(envelope).await;
    }
    bench.settle().await;
    assert_eq!(bench.totals("p").await.shares, 5);
}

#[tokio::test]
async fn only_its_author_edits_or_deletes_a_post() {
    let mut bench = Bench::new();
    use ActionKind::*;
    for (actor, kind, post) in [
        ("a", PostEdited, "p"),
        ("a", PostCreated, "p"),
        ("b", PostCreated, "p"),
        ("b", PostEdited, "p"),
        ("b", PostDeleted, "p"),
        ("a", PostEdited, "p"),
        ("a", PostCreated, "q"),
        ("a", PostDeleted, "q"),
        ("a", PostEdited, "q"),
        ("a", PostDeleted, "q"),
        ("a", PostCreated, "q"),
    ] {
        bench.act(actor, kind, post, "").await;
        bench.settle().await;
    }
    let reasons = [
        "unknown_post",
        "post_exists",
        "not_the_author",
        "not_the_author",
        "post_deleted",
        "post_deleted",
        "post_exists",
    ];
    assert_eq!(bench.dead(), reasons);
    let p: PostRecord = bench.record(views::record(views::POST, "p")).await.unwrap();
    assert_eq!((p.author_id.as_str(), p.deleted, p.edited_at_us), ("a", false, bench.now));
    let q: PostRecord = bench.record(views::record(views::POST, "q")).await.unwrap();
    assert!(q.deleted && q.content.is_none());
    assert_eq!(bench.list(views::AUTHOR_POSTS, "a").await, ["p"]);
}

#[tokio::test]
async fn edges_are_kept_at_both_ends_and_a_block_does_not_undo_a_follow() {
    let mut bench = Bench::new();
    use ActionKind::*;
    for kind in [UserFollowed, UserFollowed, UserBlocked, UserMuted] {
        bench.act("a", kind, "", "b").await;
    }
    bench.act("a", UserFollowed, "", "a").await;
    bench.settle().await;
    for view in [views::FOLLOWING, views::BLOCKED, views::MUTED] {
        assert_eq!(bench.list(view, "a").await, ["b"]);
    }
    assert_eq!(bench.list(views::BLOCKED_BY, "b").await, ["a"]);
    assert!(bench.list(views::MUTED, "b").await.is_empty());
    let followers = |user: Option<UserRecord>| user.unwrap_or_default().followers;
    assert_eq!(followers(bench.record(views::record(views::USER, "b")).await), 1);
    assert_eq!(bench.dead(), ["self_target"]);
    for kind in [UserUnfollowed, UserUnfollowed, UserUnblocked, UserUnmuted] {
        bench.act("a", kind, "", "b").await;
    }
    bench.settle().await;
    for view in [views::FOLLOWING, views::BLOCKED, views::MUTED] {
        assert!(bench.list(view, "a").await.is_empty());
    }
    assert_eq!(followers(bench.record(views::record(views::USER, "b")).await), 0);
}

#[tokio::test]
async fn a_late_event_counts_and_is_counted_as_late() {
    let mut bench = Bench::new();
    let mut late = bench.event("a", ActionKind::PostShared, "p", "");
    late.event_time_us -= super::ALLOWED_LATENESS_US + 1;
    bench.send(&late).await;
    let mut on_time = bench.event("a", ActionKind::PostShared, "p", "");
    on_time.event_time_us -= super::ALLOWED_LATENESS_US;
    bench.send(&on_time).await;
    bench.settle().await;
    assert_eq!(bench.totals("p").await.shares, 2);
    let of = TopicPartition::new(Topic::Actions, partition_of(b"a", PARTITIONS));
    assert_eq!((bench.count(of, "accepted"), bench.count(of, "late")), (2, 1));
}

#[tokio::test]
async fn garbage_in_the_log_becomes_a_dead_letter_and_the_partition_goes_on() {
    let mut bench = Bench::new();
    let to = TopicPartition::new(Topic::Actions, partition_of(b"a", PARTITIONS));
    let value = Bytes::from_static(b"\xff\xff\xff not a record");
    bench.log.append(vec![Append { to, time: LogTime(bench.now), key: Bytes::new(), value }]).await.unwrap();
    bench.act("a", ActionKind::PostShared, "p", "").await;
    bench.settle().await;
    assert_eq!(bench.dead(), ["undecodable"]);
    assert_eq!(bench.totals("p").await.shares, 1);
}

#[tokio::test]
async fn ticks_move_the_clock_of_every_partition() {
    let mut bench = Bench::new();
    bench.now += MINUTE;
    bench.tick().await;
    bench.settle().await;
    for topic in Topic::DERIVED {
        for partition in 0..PARTITIONS {
            let of = TopicPartition::new(topic, partition);
            assert_eq!(bench.board.get(of).unwrap().clock, Some(LogTime(bench.now)));
            let progress: views::ProgressRecord = bench.record(views::progress_key(of)).await.unwrap();
            assert_eq!(progress.clock_us, bench.now);
        }
    }
}

/// In a replay the time stands still while events that were held back come in.
#[tokio::test]
async fn what_comes_after_a_tick_is_followed_by_a_tick_of_the_same_time() {
    let mut bench = Bench::new();
    let list = views::trends_key(views::TrendKind::Posts, Window::FiveMinutes, partition_of(b"p", PARTITIONS));
    let mut likes = 0;
    for more in [4, 2, 1] {
        for _ in 0..more {
            likes += 1;
            bench.act(&format!("u{likes}"), ActionKind::PostLiked, "p", "").await;
        }
        bench.tick().await;
        bench.settle().await;
        let trends: views::TrendsRecord = bench.record(list.clone()).await.unwrap();
        assert_eq!(trends.items.iter().map(|item| item.count).collect::<Vec<_>>(), [likes]);
    }
}

#[tokio::test]
async fn a_commit_beyond_the_end_of_the_log_refuses_to_go_on() {
    let mut bench = Bench::new();
    bench.act("a", ActionKind::PostShared, "p", "").await;
    bench.settle().await;
    bench.log = ToyLog::new(PARTITIONS);
    let of = TopicPartition::new(Topic::Actions, partition_of(b"a", PARTITIONS));
    let seams = Seams {
        log: Arc::new(bench.log.clone()),
        online: Arc::new(bench.online.clone()),
        states: Arc::new(bench.states.clone()),
        timer: Arc::new(NoTimer),
        gate: Gate::default(),
        archived: Default::default(),
    };
    let worker = Worker::new(
        of,
        1,
        stage_of(Topic::Actions, 1, PARTITIONS).unwrap(),
        seams,
        bench.options.clone(),
        Board::new(),
    );
    let error = worker.run(&Stop::default()).await.unwrap_err();
    assert!(error.to_string().contains("restore the state from the same backup"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However reads, flushes and commits are cut, and however often an event is repeated, the present is the same.
    #[test]
    fn cuts_and_duplicates_change_nothing(
        events in prop::collection::vec((0..4_usize, 0..16_usize, 0..3_usize, 0..3_usize, 1..3_usize), 1..60),
        read_bytes in 1..4_000_usize,
        writes_max in 1..50_usize,
        commit_records in 1..40_u64,
    ) {
        let run = |options: WorkerOptions, repeat: bool| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut bench = Bench::new();
                bench.options = options;
                for &(actor, kind, post, target, times) in &events {
                    let kind = ActionKind::KNOWN[kind + 1];
                    let envelope = bench.event(&format!("u{actor}"), kind, &format!("p{post}"), &format!("u{target}"));
                    for _ in 0..if repeat { times } else { 1 } {
                        bench.send(&envelope).await;
                    }
                    bench.now += MINUTE / 7;
                }
                // Without, a duplicate could be what tells the time.
                bench.tick().await;
                bench.settle().await;
                bench.online.content()
            })
        };
        let whole = run(WorkerOptions::default(), false);
        let cut = WorkerOptions { read_bytes, writes_max, commit_records, commit_keys: 7, ..WorkerOptions::default() };
        prop_assert_eq!(&run(cut, false), &whole);
        prop_assert_eq!(&run(WorkerOptions::default(), true), &whole);
    }
}
