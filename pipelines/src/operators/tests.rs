//! Operators on their own, over the toy state.

use std::collections::{BTreeMap, HashMap};

use millrace_events::{LogTime, Topic, TopicPartition};
use proptest::prelude::*;

use super::dedup::{Dedup, DedupBounds, message_identity};
use super::distinct::Distinct;
use super::due::{Due, DueAt};
use super::window::{Closed, TumblingCount};
use crate::state::toy::ToyStateStore;
use crate::state::{State, StateKey, StateStore, StateValue};

const OF: TopicPartition = TopicPartition::new(Topic::Actions, 0);

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open(store: &ToyStateStore) -> State {
    State::new(OF, block_on(store.open(OF)).unwrap())
}

proptest! {
    /// An id is known for as long as promised, by time and by count, across commits and restarts.
    #[test]
    fn ids_are_known_for_as_long_as_promised(
        ids in prop::collection::vec((0..300_u128, 0..40_i64), 1..3_000),
        commit_every in 1..200_usize,
    ) {
        let bounds = DedupBounds { keep_us: 700, keep_ids: 80 };
        let dedup = Dedup::new(1, 2, bounds);
        let store = ToyStateStore::new();
        let mut state = open(&store);
        // When each id was last taken for new: at what time, and after how many others.
        let mut known: HashMap<u128, (i64, u64)> = HashMap::new();
        let (mut now, mut taken) = (0, 0_u64);
        for (n, (id, step)) in ids.iter().enumerate() {
            now += step;
            let first = dedup.first_time(&mut state, *id, LogTime(now)).unwrap();
            if let Some((at, nth)) = known.get(id) {
                let promised = now - at <= bounds.keep_us || taken - nth <= bounds.keep_ids;
                prop_assert!(!(first && promised), "id {id} was forgotten after {} us and {} ids", now - at, taken - nth);
            } else {
                prop_assert!(first, "id {id} was never seen");
            }
            if first {
                taken += 1;
                known.insert(*id, (now, taken));
            }
            if n % commit_every == 0 {
                block_on(state.commit(n as u64)).unwrap();
            }
            if n % (commit_every * 3) == 0 {
                block_on(state.commit(n as u64)).unwrap();
                state = open(&store);
            }
        }
    }

    /// Windows tile time: every record on time is in exactly one closed window, and what a record closes is the same
    /// wherever state commits and the process dies.
    #[test]
    fn windows_tile_time(
        records in prop::collection::vec((0..3_usize, 0..50_i64, 0..20_i64), 1..200),
        commit in 1..20_usize,
        crash in 1..50_usize,
    ) {
        let count = TumblingCount { table: 1, width_us: 10, lateness_us: 50 };
        let mut clock = 0;
        let mut expected: BTreeMap<(i64, String), u64> = BTreeMap::new();
        let mut records: Vec<(String, i64, i64)> = records.into_iter().map(|(key, behind, step)| {
            clock += step;
            let (key, at) = (format!("k{key}"), clock - behind);
            *expected.entry((at.div_euclid(10) * 10, key.clone())).or_default() += 1;
            (key, at, clock)
        }).collect();
        records.push(("late".to_owned(), 0, i64::MAX));
        let run = |commit: usize, crash: usize| {
            let store = ToyStateStore::new();
            let mut state = open(&store);
            let mut closed = vec![Vec::new(); records.len()];
            let (mut next, mut steps) = (0, 0);
            while let Some((key, at, clock)) = records.get(next) {
                let added = count.add(&mut state, key, *at, Some(LogTime(*clock))).unwrap();
                assert_eq!(added, key != "late", "within the lateness nothing is refused");
                closed[next] = count.close(&mut state, LogTime(*clock)).unwrap();
                next += 1;
                steps += 1;
                if steps % commit == 0 {
                    block_on(state.commit(next as u64)).unwrap();
                }
                if steps % crash == 0 {
                    state = open(&store);
                    next = state.offset() as usize;
                }
            }
            closed
        };
        let closed = run(usize::MAX, usize::MAX);
        // It must get on between two crashes.
        prop_assert_eq!(&run(commit, crash.max(commit + 1)), &closed);
        let closed = closed.into_iter().flatten();
        let mut found = BTreeMap::new();
        for Closed { start_us, key, count } in closed {
            prop_assert_eq!(found.insert((start_us, key), count), None, "a window closes once");
        }
        prop_assert_eq!(found, expected);
    }

    /// Lists come out by time, each in the order of adding, once the clock has reached them, however little is taken at once.
    #[test]
    fn what_is_due_comes_out_in_order(
        pushed in prop::collection::vec((0..30_i64, 0..3_u8, 0..2_000_usize), 0..60),
        clock in 0..30_i64,
        limit in 1..10_usize,
        commit in 1..20_usize,
    ) {
        let due = Due::new(1);
        let store = ToyStateStore::new();
        let mut state = open(&store);
        let mut expected = Vec::new();
        for (n, (at_us, kind, length)) in pushed.iter().enumerate() {
            // Long ids, so that chunks fill up.
            let (at, id) = (DueAt { at_us: *at_us, kind: *kind }, format!("{n:0length$}"));
            due.push(&mut state, at, &id).unwrap();
            expected.push((at, id));
            if n % commit == 0 {
                block_on(state.commit(n as u64)).unwrap();
                state = open(&store);
            }
        }
        expected.sort_by_key(|(at, _)| *at);
        let reached = expected.iter().filter(|(at, _)| at.at_us <= clock).count();
        let mut taken = Vec::new();
        loop {
            let some = due.take(&mut state, LogTime(clock), limit).unwrap();
            prop_assert!(some.len() <= limit);
            if some.is_empty() {
                break;
            }
            taken.extend(some);
            block_on(state.commit(0)).unwrap();
            state = open(&store);
        }
        prop_assert_eq!(&taken, &expected[..reached]);
        for (at, _) in &expected {
            prop_assert_eq!(due.is_open(&mut state, *at).unwrap(), at.at_us > clock);
        }
        taken.extend(due.take(&mut state, LogTime::MAX, usize::MAX).unwrap());
        prop_assert_eq!(taken, expected);
        block_on(state.commit(0)).unwrap();
        let left: Vec<_> = store.values(OF).into_iter().filter(|(_, value)| !value.is_empty()).collect();
        prop_assert_eq!(left, [], "nothing is left behind");
    }

    /// The estimate is a function of the set: order, repetition and where the sketch was stored and read do not show.
    #[test]
    fn distinct_counts_the_set(mut ids in prop::collection::vec(0..3_000_u32, 0..4_000), cut in 0..4_000_usize) {
        let count = |ids: &[u32], cut: usize| {
            let mut sketch = Distinct::default();
            for (n, id) in ids.iter().enumerate() {
                if n == cut {
                    let mut bytes = Vec::new();
                    sketch.encode(&mut bytes);
                    sketch = Distinct::decode(&bytes).unwrap();
                }
                sketch.insert(&format!("u{id}"));
            }
            sketch.estimate()
        };
        let first = count(&ids, usize::MAX);
        ids.reverse();
        prop_assert_eq!(count(&ids, cut), first);
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(count(&ids, usize::MAX), first);
        let (exact, estimate) = (ids.len() as f64, first as f64);
        // Five standard errors of 1.6 %.
        prop_assert!((estimate - exact).abs() <= exact * 0.08 + 1.0, "{} for {}", estimate, exact);
    }
}

#[test]
fn identities_do_not_run_into_each_other() {
    assert_ne!(message_identity("a", "bc", "d"), message_identity("ab", "c", "d"));
    assert_ne!(message_identity("a", "b", ""), message_identity("a", "", "b"));
    assert_eq!(message_identity("a", "b", "c"), message_identity("a", "b", "c"));
}

#[test]
fn a_dropped_segment_is_swept_off_the_store() {
    const IDS_TABLE: u8 = 2;
    let dedup = Dedup::new(1, IDS_TABLE, DedupBounds { keep_us: 700, keep_ids: 80 });
    let store = ToyStateStore::new();
    let mut state = open(&store);
    let mut next: u128 = 0;
    let mut take = |state: &mut State, count: u128, time: i64| {
        for id in next..next + count {
            assert!(dedup.first_time(state, id, LogTime(time)).unwrap());
            if id % 500 == 0 {
                block_on(state.commit(0)).unwrap();
            }
        }
        next += count;
        block_on(state.commit(0)).unwrap();
    };
    let of_segment = |number: u64| {
        let prefix = StateKey::new(IDS_TABLE).number(number);
        store.values(OF).iter().filter(|(key, _)| key.starts_with(prefix.as_bytes())).count()
    };
    take(&mut state, 9_000, 0);
    take(&mut state, 200, 200);
    assert_eq!((of_segment(0), of_segment(1)), (9_000, 200));
    // The first segment is old and has enough ids after it: it is dropped, and goes in sweeps of 4,096 per 1,024 ids.
    take(&mut state, 2_500, 5_000);
    assert_eq!((of_segment(0), of_segment(1)), (9_000 - 2 * 4_096, 200));
    take(&mut state, 3_000, 5_000);
    assert_eq!((of_segment(0), of_segment(1)), (0, 200));
    assert!(!dedup.first_time(&mut state, 9_100, LogTime(5_000)).unwrap(), "the second segment is still known");
}

#[test]
fn a_window_of_many_keys_closes_in_parts() {
    const KEYS: usize = 200_000;
    let count = TumblingCount { table: 1, width_us: 10, lateness_us: 0 };
    let store = ToyStateStore::new();
    let mut state = open(&store);
    for n in 0..2 * KEYS {
        assert!(count.add(&mut state, &format!("k{}", n % KEYS), 3, None).unwrap());
        if n % 30_000 == 0 {
            block_on(state.commit(0)).unwrap();
        }
    }
    let mut closed = HashMap::new();
    loop {
        let some = count.close(&mut state, LogTime(10)).unwrap();
        assert!(some.len() < 70_000, "a call returned {} keys", some.len());
        if some.is_empty() {
            break;
        }
        for Closed { start_us, key, count } in some {
            assert_eq!((start_us, count), (0, 2));
            assert_eq!(closed.insert(key, count), None);
        }
        block_on(state.commit(0)).unwrap();
        state = open(&store);
    }
    assert_eq!(closed.len(), KEYS);
    let left = store.values(OF).into_iter().filter(|(_, value)| !value.is_empty()).count();
    assert_eq!(left, 0, "nothing is left behind");
}
