//! The archiver over a real log in memory, real jobs and a warehouse that fails when told to.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use async_trait::async_trait;
use bytes::Bytes;
use millrace_events::{Action, ActionKind, DeadLetter, Envelope, Kind, ServedCandidate, ServedSlate, partition_of};
use millrace_feature_store::online::toy::ToyStore;
use millrace_log::Append;
use millrace_log::toy::ToyLog;
use millrace_warehouse::toy::{Fault, ToyWarehouse};
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::jobs::stage_of;
use crate::runner::{Gate, Seams, Worker, WorkerOptions};
use crate::state::toy::ToyStateStore;

const PARTITIONS: u32 = 2;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

struct NoTimer;

#[async_trait]
impl Timer for NoTimer {
    async fn pause(&self, _duration: Duration) {
        tokio::task::yield_now().await;
    }
}

struct World {
    log: ToyLog,
    states: ToyStateStore,
    online: ToyStore,
    board: Board,
    archived: Archived,
    warehouse: ToyWarehouse,
    now: i64,
}

/// What stands in the archive: (partition, offset, index).
type Places = Vec<(i32, i64, i32)>;

impl World {
    fn new() -> Self {
        Self {
            log: ToyLog::new(PARTITIONS),
            states: ToyStateStore::new(),
            online: ToyStore::new(),
            board: Board::new(),
            archived: Archived::default(),
            warehouse: ToyWarehouse::new(),
            now: 100 * DAY,
        }
    }

    fn archiver(&self, options: ArchiveOptions) -> Archiver {
        let seams = ArchiveSeams {
            log: Arc::new(self.log.clone()),
            states: Arc::new(self.states.clone()),
            warehouse: Arc::new(self.warehouse.clone()),
            board: self.board.clone(),
            timer: Arc::new(NoTimer),
        };
        Archiver::new(seams, 1, options, self.archived.clone())
    }

    async fn append(&self, to: TopicPartition, value: Vec<u8>) {
        let record = Append { to, time: LogTime(self.now), key: Bytes::from_static(b"k"), value: value.into() };
        self.log.append(vec![record]).await.unwrap();
    }

    /// One view of `post` by `actor`, `ago` before now.
    async fn view(&self, actor: &str, post: &str, id: &str, ago: i64) {
        let action = Action { kind: ActionKind::PostViewed as i32, post_id: post.to_owned(), ..Action::default() };
        let envelope = Envelope {
            message_id: id.to_owned(),
            source: "test".to_owned(),
            kind: Kind::Track as i32,
            event: "post_viewed".to_owned(),
            user_id: actor.to_owned(),
            event_time_us: self.now - ago,
            action: Some(action),
            ..Envelope::default()
        };
        let to = TopicPartition::new(Topic::Actions, partition_of(actor.as_bytes(), PARTITIONS));
        let record = Append {
            to,
            time: LogTime(self.now),
            key: actor.to_owned().into(),
            value: envelope.encode_to_vec().into(),
        };
        self.log.append(vec![record]).await.unwrap();
    }

    /// What the archive says of every event: its id, and whether it is a robot's.
    fn marks(&self) -> BTreeMap<String, bool> {
        let mut marks = BTreeMap::new();
        for batch in self.warehouse.rows(Table::Events) {
            let ids = batch.column_by_name("message_id").unwrap().as_string::<i32>().clone();
            let robots = batch.column_by_name("robot").unwrap().as_boolean().clone();
            marks.extend(ids.iter().zip(robots.iter()).map(|(id, robot)| (id.unwrap().to_owned(), robot.unwrap())));
        }
        marks
    }

    /// Moves the time of every partition.
    async fn tick(&mut self, by: i64) {
        self.now += by;
        for of in partitions(Topic::Actions, PARTITIONS) {
            self.append(of, Envelope::tick().encode_to_vec()).await;
        }
    }

    /// Applies everything in the log.
    async fn settle(&self) {
        for topic in [Topic::Actions, Topic::UserEvents, Topic::ReactionEvents, Topic::TagEvents] {
            for of in partitions(topic, PARTITIONS) {
                let seams = Seams {
                    log: Arc::new(self.log.clone()),
                    online: Arc::new(self.online.clone()),
                    states: Arc::new(self.states.clone()),
                    timer: Arc::new(NoTimer),
                    gate: Gate::default(),
                    archived: self.archived.clone(),
                };
                let stage = stage_of(topic, 1, PARTITIONS).unwrap();
                let worker = Worker::new(of, 1, stage, seams, WorkerOptions::default(), self.board.clone());
                worker.run_until(self.log.bounds(of).await.unwrap().end).await.unwrap();
                // What a running worker would say after the commit.
                let end = self.log.bounds(of).await.unwrap().end;
                self.board.update(of, |status| (status.committed, status.applied) = (end, end));
            }
        }
    }

    /// Archives until there is nothing left to do.
    async fn archive(&self, archiver: &Archiver) {
        archiver.resume().await.unwrap();
        while archiver.round().await.unwrap() {}
    }

    fn places(&self, table: Table) -> Places {
        let mut places = Places::new();
        for batch in self.warehouse.rows(table) {
            let partitions = batch.column_by_name("partition").unwrap().as_primitive::<Int32Type>().clone();
            let offsets = batch.column_by_name("offset").unwrap().as_primitive::<Int64Type>().clone();
            let index = batch.column_by_name("index").map(|c| c.as_primitive::<Int32Type>().clone());
            for row in 0..batch.num_rows() {
                let index = index.as_ref().map_or(0, |index| index.value(row));
                places.push((partitions.value(row), offsets.value(row), index));
            }
        }
        places.sort_unstable();
        places
    }

    fn texts(&self, table: Table, column: &str) -> Vec<String> {
        let column = |batch: &arrow_array::RecordBatch| {
            let column = batch.column_by_name(column).unwrap().as_string::<i32>().clone();
            column.iter().map(|text| text.unwrap_or("-").to_owned()).collect::<Vec<_>>()
        };
        let mut texts: Vec<String> = self.warehouse.rows(table).iter().flat_map(column).collect();
        texts.sort_unstable();
        texts
    }

    /// Keys of the state that wait for the warehouse.
    fn waiting(&self, topic: Topic) -> usize {
        let tables = [left_out_table(), robots_table(), rows_table()];
        let waits = |key: &Bytes| tables.iter().any(|table| key.starts_with(table.as_bytes()));
        partitions(topic, PARTITIONS)
            .map(|of| self.states.values(of).iter().filter(|(key, _)| waits(key)).count())
            .sum()
    }
}

#[tokio::test]
async fn each_action_is_a_row_once_and_duplicates_and_ticks_are_none() {
    let mut world = World::new();
    let archiver = world.archiver(ArchiveOptions::default());
    for round in 0..3 {
        for event in 0..20 {
            world.view(&format!("u{}", event % 5), "p", &format!("m{round}-{event}"), SECOND).await;
            // The same again, and one of the first round.
            world.view(&format!("u{}", event % 5), "p", &format!("m{round}-{event}"), SECOND).await;
            world.view(&format!("u{}", event % 5), "p", &format!("m0-{event}"), SECOND).await;
        }
        world.tick(SECOND).await;
        world.settle().await;
        world.archive(&archiver).await;
    }
    let mut expected: Vec<String> = (0..3).flat_map(|r| (0..20).map(move |e| format!("m{r}-{e}"))).collect();
    expected.sort_unstable();
    assert_eq!(world.texts(Table::Events, "message_id"), expected);
    assert_eq!(archiver.report().await.lag, 0);
    assert!(world.waiting(Topic::Actions) > 0, "they are swept with the next commit of the job");
    world.tick(SECOND).await;
    world.settle().await;
    assert_eq!(world.waiting(Topic::Actions), 0);
}

#[tokio::test]
async fn what_stage_one_marks_as_a_robots_is_marked_in_the_archive_however_blocks_are_cut() {
    let mut world = World::new();
    // So many at once are a person's still, and every one after them is a robot's.
    const PERSONS: usize = 120;
    for event in 0..PERSONS + 30 {
        world.view("robot", "p", &format!("r{event:03}"), 0).await;
        world.view("ann", "p", &format!("a{}", event % 3), 0).await;
    }
    world.tick(SECOND).await;
    world.settle().await;
    let waiting = world.waiting(Topic::Actions);
    let archiver = world.archiver(ArchiveOptions { block_records_max: 7, ..ArchiveOptions::default() });
    world.archive(&archiver).await;
    let marks = world.marks();
    assert_eq!(marks.len(), PERSONS + 30 + 3);
    for (id, robot) in marks {
        assert_eq!(robot, id.as_str() >= format!("r{PERSONS:03}").as_str(), "{id}");
    }
    assert!(waiting >= 30, "the marks wait in the state, as what was left out does");
    world.tick(SECOND).await;
    world.settle().await;
    assert_eq!(world.waiting(Topic::Actions), 0);
}

#[tokio::test]
async fn closed_windows_wait_in_the_state_until_they_are_rows() {
    let mut world = World::new();
    let archiver = world.archiver(ArchiveOptions::default());
    for event in 0..10 {
        world.view("u", &format!("p{event}"), &format!("m{event}"), 0).await;
    }
    world.tick(SECOND).await;
    world.settle().await;
    world.archive(&archiver).await;
    assert!(world.warehouse.rows(Table::EngagementWindows).is_empty(), "no window has closed");
    world.tick(2 * DAY).await;
    world.settle().await;
    assert!(world.waiting(Topic::ReactionEvents) > 0);
    world.archive(&archiver).await;
    assert_eq!(world.texts(Table::EngagementWindows, "window").len(), 30, "three windows for each of ten posts");
    world.tick(SECOND).await;
    world.settle().await;
    assert_eq!(world.waiting(Topic::ReactionEvents), 0);
    world.archive(&archiver).await;
    assert_eq!(world.texts(Table::EngagementWindows, "window").len(), 30, "and once");
}

#[tokio::test]
async fn slates_and_dead_letters_are_rows_where_actions_are_worked_on() {
    let world = World::new();
    let candidate = |post: &str, filter: &str| ServedCandidate {
        post_id: post.to_owned(),
        filter: filter.to_owned(),
        ..ServedCandidate::default()
    };
    let slate = ServedSlate {
        slate: "s".to_owned(),
        candidates: vec![candidate("a", ""), candidate("b", "seen")],
        ..ServedSlate::default()
    };
    world.append(TopicPartition::new(Topic::ServedSlates, 1), slate.encode_to_vec()).await;
    let named = DeadLetter { id: "x-1".to_owned(), ..DeadLetter::default() };
    for letter in [named, DeadLetter::default()] {
        world.append(TopicPartition::new(Topic::DeadLetters, 0), letter.encode_to_vec()).await;
    }
    let archiver = world.archiver(ArchiveOptions::default());
    world.archive(&archiver).await;
    assert!(world.texts(Table::ServedSlates, "filter").is_empty(), "another process works on the actions");
    world.settle().await;
    world.archive(&archiver).await;
    assert_eq!(world.places(Table::ServedSlates), [(1, 0, 0), (1, 0, 1)]);
    assert_eq!(world.texts(Table::ServedSlates, "filter"), ["-", "seen"]);
    assert_eq!(world.texts(Table::DeadLetters, "id"), ["dead-letters-0-1", "x-1"]);
}

#[tokio::test]
async fn a_commit_touches_no_more_dates_than_it_may_and_nothing_is_lost() {
    let world = World::new();
    for event in 0..50 {
        world.view("u", "p", &format!("m{event}"), event * DAY).await;
    }
    world.settle().await;
    world.archive(&world.archiver(ArchiveOptions { dates_max: 7, ..ArchiveOptions::default() })).await;
    assert_eq!(world.texts(Table::Events, "message_id").len(), 50);
    assert_eq!(world.warehouse.commits(), 50_u64.div_ceil(7));
}

#[tokio::test]
async fn a_time_that_no_engine_can_show_keeps_nothing_out() {
    let world = World::new();
    for (id, ago) in [("first", i64::MIN / 2), ("last", i64::MAX / 2), ("now", 0)] {
        world.view("u", "p", id, ago).await;
    }
    world.settle().await;
    world.archive(&world.archiver(ArchiveOptions::default())).await;
    assert_eq!(world.texts(Table::Events, "message_id"), ["first", "last", "now"]);
    let dates = |batch: &arrow_array::RecordBatch| {
        let dates = batch.column_by_name("event_date").unwrap();
        dates.as_primitive::<arrow_array::types::Date32Type>().values().to_vec()
    };
    let mut dates: Vec<i32> = world.warehouse.rows(Table::Events).iter().flat_map(dates).collect();
    dates.sort_unstable();
    assert_eq!(dates, [-25_567, 100, 106_650], "1900-01-01, now and 2261-12-31");
}

#[tokio::test]
async fn a_warehouse_that_is_not_of_one_piece_with_the_log_is_refused() {
    let mut world = World::new();
    let archiver = world.archiver(ArchiveOptions::default());
    for round in 0..2 {
        world.view("u", "p", "m", 0).await;
        world.tick(SECOND * (round + 1)).await;
        world.settle().await;
        world.archive(&archiver).await;
    }
    // What is archived has been swept: a warehouse that has lost it cannot be filled again from what is left.
    let whole = std::mem::replace(&mut world.warehouse, ToyWarehouse::new());
    let refused = world.archiver(ArchiveOptions::default()).catch_up().await.unwrap_err().to_string();
    assert!(refused.contains("rebuild warehouse"), "{refused}");
    // And a log that has lost what is archived already.
    world.warehouse = whole;
    world.log = ToyLog::new(PARTITIONS);
    let refused = world.archiver(ArchiveOptions::default()).catch_up().await.unwrap_err().to_string();
    assert!(refused.contains("the log ends at 0"), "{refused}");
}

#[tokio::test]
async fn a_long_stretch_without_rows_is_recorded_all_the_same() {
    let mut world = World::new();
    let options = ArchiveOptions { empty_records_max: 5, ..ArchiveOptions::default() };
    let archiver = world.archiver(options);
    let of = TopicPartition::new(Topic::Actions, 0);
    for tick in 1..=12 {
        world.tick(SECOND).await;
        world.settle().await;
        if tick == 1 {
            world.archive(&archiver).await
        } else {
            while archiver.round().await.unwrap() {}
        }
        assert_eq!(world.archived.get(of), tick / 5 * 5);
    }
    assert_eq!(archiver.report().await.lag, 0);
    assert_eq!(archiver.report().await.as_of, Some(LogTime(world.now)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever fails, and whoever takes over: every row once, and the archive ends where the log does.
    #[test]
    fn failures_and_rivals_change_nothing(
        steps in prop::collection::vec((0_u8..6, 0_u8..8), 1..60),
        records in 1_usize..20,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            let options = ArchiveOptions { block_records_max: records, ..ArchiveOptions::default() };
            let mut archivers = [world.archiver(options.clone()), world.archiver(options.clone())];
            for archiver in &archivers {
                archiver.resume().await.unwrap();
            }
            let mut sent = BTreeMap::new();
            for (nth, (step, who)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => {
                        let id = format!("m{}", nth / 2);
                        world.view(&format!("u{who}"), "p", &id, 0).await;
                        sent.insert((who, id), ());
                    }
                    2 => world.tick(DAY).await,
                    3 => world.settle().await,
                    4 => world.warehouse.fail_next(if who % 2 == 0 { Fault::Refused } else { Fault::Unanswered }),
                    _ => {
                        let at = usize::from(who % 2);
                        if who > 5 {
                            archivers[at] = world.archiver(options.clone());
                        }
                        // A rival or a failure refuses it; it then asks where the warehouse stands.
                        if archivers[at].round().await.is_err() || who > 5 {
                            archivers[at].resume().await.unwrap();
                        }
                    }
                }
            }
            world.settle().await;
            world.warehouse.fail_next(Fault::None);
            let last = world.archiver(options);
            world.archive(&last).await;
            let ids: Vec<String> = sent.into_keys().map(|(_, id)| id).collect();
            let mut ids = ids;
            ids.sort_unstable();
            prop_assert_eq!(world.texts(Table::Events, "message_id"), ids);
            let mut windows = world.places(Table::EngagementWindows);
            let count = windows.len();
            windows.dedup();
            prop_assert_eq!(windows.len(), count, "no window twice");
            prop_assert_eq!(last.report().await.lag, 0);
            Ok(())
        })?;
    }
}
