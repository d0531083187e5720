//! The job over the toy state, against a recount.

use std::collections::BTreeMap;

use millrace_events::{ActionKind, Derived, LogTime, Topic, TopicPartition, Window};
use millrace_feature_store::OnlineWrite;
use millrace_feature_store::views::{TrendItem, TrendKind, TrendsRecord, trends_key};
use proptest::prelude::*;
use prost::Message;

use super::{COUNT_MIN, HOUR_S, SECOND_US, Trends, hour_of, past_hour, past_width_s, width_s};
use crate::job::{Advance, Input, Job, Writes};
use crate::jobs::tables;
use crate::operators::rate::rising;
use crate::state::toy::ToyStateStore;
use crate::state::{State, StateStore};

const OF: TopicPartition = TopicPartition::new(Topic::TagEvents, 3);
const SOURCES: usize = 2;
/// A generation must outlast the records between two commits: at most 18 steps of 4 records, each of which can count
/// twice.
const STEPS_MIN: u64 = 150;
/// Some day of 2017, not at a full hour.
const BEGIN_S: i64 = 1_503_792_000 + 1_234;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// One partition: records in, lists out.
struct Partition {
    job: Trends,
    store: ToyStateStore,
    state: State,
    writes: Writes,
    heard: [Option<i64>; SOURCES],
    offset: u64,
    lists: BTreeMap<Window, TrendsRecord>,
    since: Option<i64>,
    events: Vec<(String, i64)>,
}

impl Partition {
    fn new() -> Self {
        let store = ToyStateStore::new();
        let state = State::new(OF, block_on(store.open(OF)).unwrap());
        let job = Trends::new(TrendKind::Tags, STEPS_MIN);
        let lists = BTreeMap::new();
        let (writes, heard, events) = (Writes::default(), [None; SOURCES], Vec::new());
        Self { job, store, state, writes, heard, offset: 0, lists, since: None, events }
    }

    fn clock(&self) -> Option<LogTime> {
        self.heard.into_iter().min().flatten().map(LogTime)
    }

    /// What the stage does with a record of `source` at `time_us`: an event of `id` that happened at `event_us`, or a
    /// tick.
    fn record(&mut self, source: usize, time_us: i64, event: Option<(&str, i64)>) {
        let before = self.clock();
        let time_us = self.heard[source].map_or(time_us, |heard| heard.max(time_us));
        self.heard[source] = Some(time_us);
        self.offset += 1;
        self.writes.begin(1, OF.partition, self.offset, LogTime(time_us));
        if let Some((id, event_us)) = event {
            let record = Derived {
                kind: ActionKind::PostCreated as i32,
                event_time_us: event_us.min(time_us),
                log_time_us: time_us,
                ..Derived::default()
            };
            self.since.get_or_insert(time_us.div_euclid(SECOND_US));
            self.events.push((id.to_owned(), (record.event_time_us + SECOND_US - 1).div_euclid(SECOND_US)));
            self.job
                .apply(&Input { record: &record, key: id, clock: before }, &mut self.state, &mut self.writes)
                .unwrap();
        }
        if let Some(to) = self.clock().filter(|to| before != Some(*to)) {
            self.since.get_or_insert(to.0.div_euclid(SECOND_US));
            let advance = Advance { from: before, to, by_tick: event.is_none() };
            self.job.advance(advance, &mut self.state, &mut self.writes).unwrap();
        }
        for write in self.writes.take_online() {
            let OnlineWrite::Put { key, value, .. } = write else { panic!("{write:?}") };
            let mut windows = Window::ALL.into_iter();
            let window = windows.find(|w| trends_key(TrendKind::Tags, *w, OF.partition) == key).unwrap();
            self.lists.insert(window, TrendsRecord::decode(value).unwrap());
        }
    }

    fn tick(&mut self, time_us: i64) {
        (0..SOURCES).for_each(|source| self.record(source, time_us, None));
    }

    fn commit(&mut self) {
        block_on(self.state.commit(self.offset)).unwrap();
    }

    /// As after a crash right behind a commit.
    fn restart(&mut self) {
        self.commit();
        self.state = State::new(OF, block_on(self.store.open(OF)).unwrap());
    }

    fn list(&self, window: Window) -> Vec<TrendItem> {
        self.lists.get(&window).map(|record| record.items.clone()).unwrap_or_default()
    }

    /// What the list should be: from all events, one by one.
    fn recount(&self, window: Window) -> Vec<TrendItem> {
        let as_of = self.clock().unwrap().0.div_euclid(SECOND_US);
        let (width, start) = (width_s(window), as_of - width_s(window));
        let past_s = past_width_s(window, as_of, self.since.unwrap());
        let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (id, second) in &self.events {
            let (count, past) = counts.entry(id).or_default();
            *count += u64::from((start + 1..=as_of).contains(second));
            *past += u64::from(*second <= start && hour_of(*second) >= past_hour(window, as_of));
        }
        let cut = |value: f64| (value * 1e3).round() / 1e3;
        let item = |(id, (count, past)): (&str, (u64, u64))| TrendItem {
            id: id.to_owned(),
            count,
            baseline: if past_s > 0 { cut(past as f64 * width as f64 / past_s as f64) } else { 0.0 },
            score: cut(rising(count, past, width as f64, past_s as f64)),
        };
        let listed = counts.into_iter().filter(|(_, (count, _))| *count >= COUNT_MIN).map(item);
        let mut items: Vec<_> = listed.filter(|item| item.score > 0.0).collect();
        items.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.count.cmp(&a.count)).then(a.id.cmp(&b.id)));
        items
    }

    /// How many keys a table holds on disk.
    fn keys(&self, table: u8) -> usize {
        self.store.values(OF).iter().filter(|(key, _)| key[0] == table).count()
    }
}

#[derive(Clone, Debug)]
struct Step {
    source: usize,
    id: usize,
    /// How far the clock of the source goes on, seconds.
    ahead_s: i64,
    /// How old the event is, microseconds.
    age_us: i64,
    times: usize,
    tick: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let ahead = prop_oneof![
        12 => 0..3_i64,
        4 => 0..400_i64,
        2 => 0..2 * HOUR_S,
        1 => 0..40 * HOUR_S,
        1 => 0..300 * HOUR_S,
    ];
    let age = prop_oneof![3 => 0..2_000_000_i64, 1 => 0..300 * SECOND_US];
    (0..SOURCES, 0..5_usize, ahead, age, 1..5_usize, prop::bool::weighted(0.1))
        .prop_map(|(source, id, ahead_s, age_us, times, tick)| Step { source, id, ahead_s, age_us, times, tick })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// At rest, lists are those of a recount: however far the sources are apart, in whatever order events come within
    /// the lateness, and wherever commits and restarts fall; and what nobody asks for any more goes away.
    #[test]
    fn lists_at_rest_are_those_of_a_recount(
        steps in prop::collection::vec(step(), 1..250),
        commit_every in 1..18_usize,
        rest_s in prop_oneof![0..10_i64, 0..400_i64, 0..90_000_i64],
    ) {
        let mut partition = Partition::new();
        let mut times = [BEGIN_S * SECOND_US; SOURCES];
        for (nth, step) in steps.iter().enumerate() {
            let time = &mut times[step.source];
            *time += step.ahead_s * SECOND_US + 1;
            let id = format!("t{}", step.id);
            let event = (!step.tick).then_some((id.as_str(), *time - step.age_us));
            for _ in 0..step.times {
                partition.record(step.source, *time, event);
            }
            match nth % commit_every {
                0 if nth % 3 == 0 => partition.restart(),
                0 => partition.commit(),
                _ => {}
            }
        }
        let end = times.into_iter().max().unwrap();
        for at in [end + 1, end + 1 + rest_s * SECOND_US] {
            partition.tick(at);
            for window in Window::ALL {
                prop_assert_eq!(partition.list(window), partition.recount(window), "{} at {}", window, at);
            }
        }
        // The past goes a generation at a time.
        for days in (10..80).step_by(10) {
            // What is counted are seconds entered.
            for second in 0..=STEPS_MIN as i64 {
                partition.tick(end + (rest_s + days * 24 * HOUR_S + second) * SECOND_US);
            }
            partition.commit();
        }
        for table in [tables::TRENDS_HISTORIES, tables::TRENDS_SECONDS] {
            prop_assert_eq!(partition.keys(table), 0, "table {}", table);
        }
        prop_assert!(Window::ALL.into_iter().all(|window| partition.list(window).is_empty()));
    }
}

#[test]
fn a_small_burst_is_listed_before_a_constant_giant() {
    let mut partition = Partition::new();
    let mut at = BEGIN_S * SECOND_US;
    // Two hours of a giant, ten a second, and of something small, every five minutes.
    for second in 0..2 * HOUR_S {
        (0..10).for_each(|source| partition.record(source % SOURCES, at, Some(("giant", at))));
        if second % 300 == 0 {
            partition.record(0, at, Some(("small", at)));
        }
        at += SECOND_US;
    }
    partition.tick(at);
    assert!(partition.list(Window::FiveMinutes).is_empty(), "{:?}", partition.list(Window::FiveMinutes));
    // Twenty times its rate, for five minutes.
    (0..20).for_each(|_| partition.record(0, at, Some(("small", at))));
    partition.tick(at + SECOND_US);
    let listed = partition.list(Window::FiveMinutes);
    assert_eq!(listed.iter().map(|item| (item.id.as_str(), item.count)).collect::<Vec<_>>(), [("small", 20)]);
    assert_eq!(partition.recount(Window::FiveMinutes), listed);
    assert!(listed[0].score > 6.0, "{listed:?}");
}

#[test]
fn late_events_and_other_actions_do_not_count() {
    let posts = Trends::posts();
    let mut state = State::new(OF, block_on(ToyStateStore::new().open(OF)).unwrap());
    let mut writes = Writes::default();
    let at = BEGIN_S * SECOND_US;
    use ActionKind::*;
    for (kind, late) in
        [(PostLiked, false), (PostViewed, false), (PostUnliked, false), (PostShared, true), (PostSaved, false)]
    {
        let record = Derived { kind: kind as i32, late, event_time_us: at, log_time_us: at, ..Derived::default() };
        for _ in 0..COUNT_MIN {
            posts
                .apply(&Input { record: &record, key: "p", clock: Some(LogTime(at)) }, &mut state, &mut writes)
                .unwrap();
        }
    }
    posts.advance(Advance { from: None, to: LogTime(at), by_tick: true }, &mut state, &mut writes).unwrap();
    let lists = writes.take_online().into_iter().map(|write| match write {
        OnlineWrite::Put { value, .. } => TrendsRecord::decode(value).unwrap(),
        other => panic!("{other:?}"),
    });
    assert!(lists.into_iter().all(|list| list.items[0].count == 2 * COUNT_MIN && list.items.len() == 1));
}
