//! Windows of posts, from re-keyed records in to rows out, with commits and crashes anywhere.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_events::{ActionKind, Derived, LogTime, Micros, Position, Topic, TopicPartition, Window};
use millrace_feature_store::OnlineWrite;
use millrace_feature_store::views::{EngagementRecord, WindowCounts};
use millrace_log::Record;
use proptest::prelude::*;
use prost::Message;

use super::{CLOSE_ROWS_MAX, Change, Engagement, INLINE_WINDOWS_MAX, Totals, count_in, totals_key};
use crate::job::{ClosedWindow, Row, Stage, Writes};
use crate::jobs::{ALLOWED_LATENESS_US, DerivedStage};
use crate::state::toy::ToyStateStore;
use crate::state::{State, StateStore};

const OF: TopicPartition = TopicPartition::new(Topic::ReactionEvents, 0);
const SOURCES: u32 = 2;
const MINUTE: Micros = 60_000_000;
const BEGIN: Micros = 10_000 * MINUTE;
/// After every window that a test opens.
const END: Micros = 1 << 58;

const KINDS: [(ActionKind, Change); 4] = [
    (ActionKind::PostViewed, Change::View),
    (ActionKind::PostShared, Change::Share),
    (ActionKind::PostLiked, Change::Like),
    (ActionKind::PostUnliked, Change::Unlike),
];

/// The only rows that this job makes.
fn window(row: &Row) -> &ClosedWindow {
    match row {
        Row::EngagementWindow(window) => window,
        Row::Identity(linked) => panic!("a row of another job: {linked:?}"),
    }
}

/// What one source partition sends.
#[derive(Clone, Debug)]
struct Sent {
    source: u32,
    log_time: Micros,
    event_time: Micros,
    post: usize,
    actor: usize,
    kind: usize,
}

/// Re-keyed records of these, and of a last tick from every source, which closes everything.
fn records(sent: &[Sent]) -> Vec<Record> {
    let mut last: [Option<Position>; SOURCES as usize] = Default::default();
    let ends = (0..SOURCES).map(|source| (source, None));
    let all = sent.iter().map(|sent| (sent.source, Some(sent))).chain(ends);
    let record = |(offset, (source, sent)): (usize, (u32, Option<&Sent>))| {
        let position = Position { generation: 1, partition: source, offset: offset as u64, index: 0 };
        let previous = last[source as usize].replace(position);
        let log_time_us = sent.map_or(END, |sent| sent.log_time);
        let mut derived = Derived { position, previous, log_time_us, tick: sent.is_none(), ..Derived::default() };
        let mut key = String::new();
        if let Some(sent) = sent {
            derived.late = sent.log_time - sent.event_time > ALLOWED_LATENESS_US;
            derived.kind = KINDS[sent.kind].0 as i32;
            derived.event_time_us = sent.event_time;
            derived.actor = format!("u{}", sent.actor);
            key = format!("p{}", sent.post);
        }
        let value = Bytes::from(derived.encode_to_vec());
        Record { offset: offset as u64, time: LogTime(log_time_us), key: key.into(), value }
    };
    all.enumerate().map(record).collect()
}

/// What came out: rows by the offset of the record that led to them, and the records online.
#[derive(Debug, Default, PartialEq)]
struct Out {
    rows: BTreeMap<u64, Vec<Row>>,
    online: BTreeMap<String, EngagementRecord>,
}

impl Out {
    fn windows(&self) -> Vec<ClosedWindow> {
        self.rows.values().flatten().map(window).cloned().collect()
    }

    /// Without what says when and in which order windows closed.
    fn counts(&self) -> BTreeMap<(String, u32, Micros), WindowCounts> {
        let windows = self.windows();
        let counts: BTreeMap<_, _> =
            windows.iter().map(|w| ((w.post_id.clone(), w.counts.window, w.counts.start_us), w.counts)).collect();
        assert_eq!(counts.len(), windows.len(), "a window closes once");
        counts
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open(store: &ToyStateStore) -> State {
    State::new(OF, block_on(store.open(OF)).unwrap())
}

/// Runs the job: `commit` and `crash` say after which records.
fn run(records: &[Record], commit: impl Fn(usize) -> bool, crash: impl Fn(usize) -> bool) -> Out {
    let stage = DerivedStage::new(1, SOURCES, vec![Box::new(Engagement)]);
    let store = ToyStateStore::new();
    let (mut state, mut out) = (open(&store), Out::default());
    let (mut next, mut steps) = (0, 0);
    while let Some(record) = records.get(next) {
        let mut writes = Writes::default();
        stage.apply(OF, record.clone(), &mut state, &mut writes).unwrap();
        let rows: Vec<Row> = writes.rows.drain(..).map(|(_, row)| row).collect();
        if let Some(before) = out.rows.insert(record.offset, rows.clone()) {
            assert_eq!(before, rows, "after a restart the record leads to what it led to before");
        }
        writes.settle(|key| stage.value(key, &mut state)).unwrap();
        for write in writes.take_online() {
            let OnlineWrite::Put { key, value, .. } = write else { panic!("engagement only puts") };
            let post = String::from_utf8(key.entity.to_vec()).unwrap();
            out.online.insert(post, EngagementRecord::decode(value).unwrap());
        }
        next += 1;
        steps += 1;
        if commit(steps) {
            block_on(state.commit(next as u64)).unwrap();
        }
        if crash(steps) {
            state = open(&store);
            next = state.offset() as usize;
        }
    }
    out
}

fn whole(records: &[Record]) -> Out {
    run(records, |_| false, |_| false)
}

/// The counts of every window, in the plainest way.
fn expected(sent: &[Sent]) -> BTreeMap<(String, u32, Micros), WindowCounts> {
    let mut likes = std::collections::BTreeSet::new();
    let mut windows: BTreeMap<_, WindowCounts> = BTreeMap::new();
    for sent in sent {
        let change = KINDS[sent.kind].1;
        let takes_effect = match change {
            Change::Like => likes.insert((sent.post, sent.actor)),
            Change::Unlike => likes.remove(&(sent.post, sent.actor)),
            _ => true,
        };
        if !takes_effect || sent.log_time - sent.event_time > ALLOWED_LATENESS_US {
            continue;
        }
        for window in Window::ALL {
            let start_us = sent.event_time.div_euclid(window.width_us()) * window.width_us();
            let at = (format!("p{}", sent.post), window as u32, start_us);
            let counts = windows.entry(at).or_default();
            counts.window = window as u32;
            counts.start_us = start_us;
            count_in(counts, change);
        }
    }
    windows
}

/// What is published of these windows: of each width the latest, and the one directly before it.
fn latest(windows: &BTreeMap<(String, u32, Micros), WindowCounts>, post: &str) -> Vec<WindowCounts> {
    let mut kept = Vec::new();
    for window in Window::ALL {
        let of_width: Vec<_> = windows
            .iter()
            .filter(|((p, w, _), _)| p == post && *w == window as u32)
            .map(|(_, counts)| *counts)
            .collect();
        let Some(last) = of_width.last() else { continue };
        kept.extend(of_width.iter().filter(|counts| counts.start_us >= last.start_us - window.width_us()));
    }
    kept
}

/// Records of two sources, each with a clock of its own, up to hours apart; some are late.
fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let step = prop_oneof![8 => 0..MINUTE, 2 => 0..40 * MINUTE, 1 => 0..600 * MINUTE];
    let behind = prop_oneof![6 => 0..ALLOWED_LATENESS_US, 1 => ALLOWED_LATENESS_US - 1..ALLOWED_LATENESS_US + 2, 1 => 0..90 * MINUTE];
    let one = (0..7_u32, step, behind, 0..3_usize, 0..3_usize, 0..KINDS.len());
    prop::collection::vec(one, 1..120).prop_map(|drawn| {
        let mut clocks = [BEGIN; SOURCES as usize];
        let sent = drawn.into_iter().map(|(source, step, behind, post, actor, kind)| {
            // The first source sends most of them, so that the second holds the clock back.
            let source = u32::from(source == 0);
            let clock = &mut clocks[source as usize];
            *clock += step;
            Sent { source, log_time: *clock, event_time: *clock - behind, post, actor, kind }
        });
        sent.collect()
    })
}

proptest! {
    /// Every reaction on time is in exactly one window of each width, a late one in none, and both are in the totals.
    #[test]
    fn windows_tile_time(sent in sent()) {
        let out = whole(&records(&sent));
        let expected = expected(&sent);
        prop_assert_eq!(&out.counts(), &expected);
        for (post, record) in &out.online {
            prop_assert_eq!(&record.windows, &latest(&expected, post));
            let shares = sent.iter().filter(|s| format!("p{}", s.post) == *post && KINDS[s.kind].1 == Change::Share);
            prop_assert_eq!(record.shares, shares.count() as u64);
        }
    }

    /// Wherever state commits and the process dies, every record leads to the same rows and the same present.
    #[test]
    fn commits_and_crashes_do_not_show(sent in sent(), commit in 1..20_usize, crash in 1..60_usize) {
        let records = records(&sent);
        // It must get on between two crashes.
        let crash = crash.max(commit + 1);
        prop_assert_eq!(run(&records, |n| n.is_multiple_of(commit), |n| n.is_multiple_of(crash)), whole(&records));
    }

    /// What is published again after a crash of the source is dropped.
    #[test]
    fn duplicates_change_nothing(sent in sent(), again in prop::collection::vec(0..200_usize, 0..20)) {
        let records = records(&sent);
        let mut twice: Vec<Record> = Vec::new();
        for (n, record) in records.iter().enumerate() {
            twice.push(record.clone());
            twice.extend(again.iter().filter_map(|at| records.get(*at)).filter(|r| r.offset < n as u64).cloned());
        }
        for (offset, record) in twice.iter_mut().enumerate() {
            record.offset = offset as u64;
        }
        let (once, twice) = (whole(&records), whole(&twice));
        prop_assert_eq!(twice.windows(), once.windows());
        prop_assert_eq!(twice.online, once.online);
    }

    /// However reactions on time overtake each other, the windows and the present are the same.
    #[test]
    fn order_within_lateness_changes_nothing(
        drawn in prop::collection::vec((0..30 * MINUTE, 0..3_usize, 0..3_usize, 0..2_usize), 1..100),
        delays in prop::collection::vec((0..=ALLOWED_LATENESS_US, 0..=ALLOWED_LATENESS_US, 0..SOURCES), 100),
    ) {
        let mut event_time = BEGIN;
        let events: Vec<Sent> = drawn.into_iter().map(|(step, post, actor, kind)| {
            event_time += step;
            Sent { source: 0, log_time: event_time, event_time, post, actor, kind }
        }).collect();
        let arrive = |delay: &dyn Fn(usize) -> (i64, u32)| {
            let mut sent = events.clone();
            for (n, sent) in sent.iter_mut().enumerate() {
                let (delay, source) = delay(n);
                sent.log_time += delay;
                sent.source = source;
            }
            sent.sort_by_key(|sent| sent.log_time);
            whole(&records(&sent))
        };
        let first = arrive(&|n| (delays[n].0, delays[n].2));
        let second = arrive(&|n| (delays[n].1, 0));
        prop_assert_eq!(first.counts(), second.counts());
        prop_assert_eq!(first.counts(), expected(&events));
        prop_assert_eq!(first.online, second.online);
    }
}

fn view(source: u32, at: Micros, post: usize) -> Sent {
    Sent { source, log_time: at, event_time: at, post, actor: 0, kind: 0 }
}

#[test]
fn a_window_closes_when_the_clock_has_passed_its_end_by_the_lateness() {
    let five = Window::FiveMinutes.width_us();
    let close = BEGIN + five + ALLOWED_LATENESS_US;
    let sent = [view(0, BEGIN, 0), view(1, close - 1, 1), view(0, close - 1, 2), view(1, close, 1), view(0, close, 2)];
    let out = whole(&records(&sent));
    let at = |offset: u64| {
        let rows = out.rows[&offset].iter().map(window).map(|w| (w.post_id.as_str(), w.counts.start_us, w.closed_at));
        rows.collect::<Vec<_>>()
    };
    assert_eq!(at(2), []);
    assert_eq!(at(3), [], "the other source may still send something for it");
    assert_eq!(at(4), [("p0", BEGIN, LogTime(close))]);
}

#[test]
fn a_large_closing_takes_several_steps_of_the_clock() {
    let posts = CLOSE_ROWS_MAX + 100;
    let mut sent: Vec<Sent> = (0..posts).map(|post| view(0, BEGIN, post)).collect();
    sent.push(view(1, BEGIN, 0));
    let close = BEGIN + Window::FiveMinutes.width_us() + ALLOWED_LATENESS_US;
    for step in 0..2 {
        sent.push(view(0, close + step, 0));
        sent.push(view(1, close + step, 0));
    }
    let out = whole(&records(&sent));
    let rows: Vec<usize> = out.rows.values().map(Vec::len).filter(|rows| *rows > 0).collect();
    assert_eq!(rows[..2], [CLOSE_ROWS_MAX, 100]);
    let first = out.windows().into_iter().take(posts).map(|window| window.post_id);
    assert!(first.eq((0..posts).map(|post| format!("p{post}"))), "in the order in which posts were first touched");
}

#[test]
fn a_source_far_behind_does_not_let_the_value_of_a_post_grow() {
    const WINDOWS: i64 = 100;
    let width = Window::FiveMinutes.width_us();
    let forth = (0..WINDOWS).map(|n| view(0, BEGIN + n * width, 0));
    // Back into windows that have moved out of the value, and into some that were not there before. A source cannot send
    // this: it would call it late. But its windows are open, so the operator must get it right.
    let back =
        (-WINDOWS..WINDOWS).rev().map(|n| Sent { log_time: BEGIN + WINDOWS * width, ..view(0, BEGIN + n * width, 0) });
    let sent: Vec<Sent> = forth.chain(back).collect();
    let mut all = records(&sent);
    for record in &mut all {
        let derived = Derived { late: false, ..Derived::decode(record.value.clone()).unwrap() };
        record.value = derived.encode_to_vec().into();
    }
    let stage = DerivedStage::new(1, SOURCES, vec![Box::new(Engagement)]);
    let mut state = open(&ToyStateStore::new());
    let mut windows = BTreeMap::new();
    for record in all {
        let mut writes = Writes::default();
        stage.apply(OF, record, &mut state, &mut writes).unwrap();
        let totals = state.get::<Totals>(&totals_key(b"p0")).unwrap().unwrap();
        assert!(totals.of_width(Window::FiveMinutes).len() <= INLINE_WINDOWS_MAX);
        let closed = writes.rows.into_iter().map(|(_, row)| window(&row).counts);
        windows.extend(closed.filter(|c| c.window == Window::FiveMinutes as u32).map(|c| (c.start_us, c.views)));
    }
    let expected = (-WINDOWS..WINDOWS).map(|n| (BEGIN + n * width, if n < 0 { 1 } else { 2 }));
    assert_eq!(windows, expected.collect());
}
