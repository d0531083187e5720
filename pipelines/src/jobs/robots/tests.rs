use millrace_events::{Action, Derived, Envelope, Kind, Topic, TopicPartition, decode};
use millrace_feature_store::views::{self, PostRecord};
use millrace_log::Record;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::job::{Stage, Writes};
use crate::jobs::tests::Bench;
use crate::jobs::{StageOne, StageOneOptions};
use crate::state::StateStore;
use crate::state::toy::ToyStateStore;

const OF: TopicPartition = TopicPartition::new(Topic::Actions, 0);
const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;

fn act(kind: ActionKind) -> Envelope {
    let action = Action { kind: kind as i32, post_id: "p".to_owned(), target_id: "t".to_owned(), ..Action::default() };
    Envelope {
        minted_id: true,
        kind: Kind::Track as i32,
        user_id: "u".to_owned(),
        action: Some(action),
        ..Envelope::default()
    }
}

fn call(kind: Kind) -> Envelope {
    Envelope { action: None, kind: kind as i32, ..act(ActionKind::Custom) }
}

/// What stage 1 has.
struct Here {
    store: ToyStateStore,
    state: State,
    offset: u64,
}

impl Here {
    async fn new() -> Self {
        let store = ToyStateStore::new();
        let state = State::new(OF, store.open(OF).await.unwrap());
        Self { store, state, offset: 0 }
    }

    /// Applies one record; whether it is a robot's, by what is published and by what the archive is told.
    fn apply(&mut self, envelope: &Envelope, at: i64, event_time_us: i64) -> bool {
        let stage = StageOne::new(StageOneOptions::new(1, 1));
        let value = Envelope { event_time_us, ..envelope.clone() }.encode_to_vec().into();
        let record = Record { offset: self.offset, time: LogTime(at), key: Default::default(), value };
        let mut writes = Writes::default();
        stage.apply(OF, record, &mut self.state, &mut writes).unwrap();
        let told = writes.robots == [self.offset] || envelope.robot;
        assert!(writes.robots.len() <= 1);
        for publish in writes.publish.iter().filter(|publish| !publish.record.tick) {
            assert_eq!(publish.record.robot, told, "what is published and what is archived are one");
        }
        self.offset += 1;
        told
    }

    async fn restart(&mut self) {
        self.state.commit(self.offset).await.unwrap();
        self.state = State::new(OF, self.store.open(OF).await.unwrap());
    }
}

/// The first of so many events that is marked, one every so many microseconds.
#[track_caller]
fn check(envelope: &Envelope, every_us: i64, expected: Option<usize>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut here = runtime.block_on(Here::new());
    let marked: Vec<bool> =
        (0..500).map(|nth| here.apply(envelope, HOUR + nth * every_us, HOUR + nth * every_us)).collect();
    let first = marked.iter().position(|marked| *marked);
    assert_eq!(first, expected, "{:?} every {every_us} us", envelope.action_kind());
    assert!(marked.iter().skip(first.unwrap_or(500)).all(|marked| *marked), "whoever is marked stays so for an hour");
}

#[test]
fn who_is_faster_than_people_or_does_not_tire_is_a_robot() {
    use ActionKind::{PostCommented, PostCreated, PostLiked, PostViewed, SearchPerformed, UserFollowed};
    for seen in [PostViewed, SearchPerformed] {
        check(&act(seen), 0, Some(120));
        check(&act(seen), SECOND / 4, Some(239));
        check(&act(seen), SECOND / 3, Some(357));
        check(&act(seen), SECOND / 2, None);
    }
    for deed in [PostLiked, PostCommented, PostCreated, UserFollowed] {
        check(&act(deed), 0, Some(120));
        check(&act(deed), 2 * SECOND, Some(138));
        check(&act(deed), 6 * SECOND, Some(199));
        check(&act(deed), 10 * SECOND, Some(358));
        check(&act(deed), 15 * SECOND, None);
    }
    check(&call(Kind::Page), 0, Some(120));
    check(&call(Kind::Screen), 0, Some(120));
}

#[test]
fn what_an_app_reports_by_itself_says_nothing_about_who_holds_it() {
    for kind in [Kind::Track, Kind::Identify, Kind::Group, Kind::Alias] {
        check(&call(kind), 0, None);
    }
}

#[tokio::test]
async fn what_is_late_does_not_count_and_is_marked_with_the_rest() {
    let mut here = Here::new().await;
    let liked = act(ActionKind::PostLiked);
    for _ in 0..500 {
        assert!(!here.apply(&liked, 2 * HOUR, HOUR));
    }
    for nth in 0..200 {
        assert_eq!(here.apply(&liked, 2 * HOUR, 2 * HOUR), nth >= 120);
    }
    assert!(here.apply(&liked, 2 * HOUR, HOUR));
    assert!(here.apply(&call(Kind::Track), 2 * HOUR, 2 * HOUR), "so is what counts towards nothing");
}

#[tokio::test]
async fn a_robot_is_one_for_an_hour_and_nobody_else_is() {
    let mut here = Here::new().await;
    let liked = act(ActionKind::PostLiked);
    let robot: Vec<bool> = (0..121).map(|_| here.apply(&liked, HOUR, HOUR)).collect();
    assert_eq!(robot[119..], [false, true]);
    assert!(!here.apply(&Envelope { user_id: "other".to_owned(), ..liked.clone() }, HOUR, HOUR));
    here.restart().await;
    assert!(here.apply(&liked, HOUR + ROBOT_FOR_US - 1, HOUR + ROBOT_FOR_US - 1));
    assert!(!here.apply(&liked, HOUR + ROBOT_FOR_US, HOUR + ROBOT_FOR_US));
}

#[tokio::test]
async fn the_mark_of_the_door_holds_for_its_event_alone() {
    let mut here = Here::new().await;
    let liked = act(ActionKind::PostLiked);
    let marked = Envelope { robot: true, ..liked.clone() };
    for _ in 0..500 {
        assert!(here.apply(&marked, HOUR, HOUR));
    }
    assert!(!here.apply(&liked, HOUR, HOUR));
}

proptest! {
    /// Where a batch is cut, and where the process dies after a commit, cannot be seen.
    #[test]
    fn a_restart_decides_the_same(
        acts in prop::collection::vec((0..3_u8, 0..4_000_000_i64, any::<bool>()), 300..900),
        every in 1..200_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let run = |every: usize| {
            runtime.block_on(async {
                let (mut here, mut now, mut marked) = (Here::new().await, HOUR, Vec::new());
                for (nth, (user, step, is_deed)) in acts.iter().enumerate() {
                    now += step;
                    let kind = if *is_deed { ActionKind::PostLiked } else { ActionKind::PostViewed };
                    let envelope = Envelope { user_id: format!("u{user}"), ..act(kind) };
                    marked.push(here.apply(&envelope, now, now));
                    if nth % every == every - 1 {
                        here.restart().await;
                    }
                }
                marked
            })
        };
        prop_assert_eq!(run(usize::MAX), run(every));
    }
}

#[tokio::test]
async fn robots_count_in_totals_and_neither_trend_nor_fill_the_newest_posts() {
    let mut bench = Bench::new();
    use ActionKind::{PostCreated, PostLiked};
    // Its first 120 deeds are taken for those of a person.
    for nth in 0..120 {
        bench.act("robot", PostLiked, &format!("liked-{nth}"), "").await;
    }
    for post in ["by-robot", "also-by-robot"] {
        bench.act("robot", PostCreated, post, "").await;
    }
    bench.act("ann", PostCreated, "by-ann", "").await;
    for nth in 0..5 {
        bench.act(&format!("fan-{nth}"), PostLiked, "by-ann", "").await;
        let mut marked = bench.event(&format!("crawler-{nth}"), PostLiked, "by-robot", "");
        marked.robot = true;
        bench.send(&marked).await;
    }
    bench.tick().await;
    bench.settle().await;
    assert_eq!((bench.totals("by-ann").await.likes, bench.totals("by-robot").await.likes), (5, 5));
    let robots = |post: Option<PostRecord>| post.unwrap().robot;
    assert!(robots(bench.record(views::record(views::POST, "by-robot")).await));
    assert!(!robots(bench.record(views::record(views::POST, "by-ann")).await));
    assert_eq!(bench.fresh().await, ["by-ann"]);
    assert_eq!(bench.rising().await, ["by-ann"]);
    // What stage 1 decided travels with the records.
    let sent = bench.published(Topic::ReactionEvents).into_iter();
    let mut marked: Vec<String> = sent
        .map(|value| decode::<Derived>("a record", value).unwrap())
        .filter(|derived| derived.robot && derived.actor == "robot")
        .map(|derived| derived.post_id)
        .collect();
    marked.sort_unstable();
    assert_eq!(marked, ["also-by-robot", "by-robot"]);
}
