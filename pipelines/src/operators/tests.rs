//! Operators on their own, over the toy state.

use std::collections::HashMap;

use millrace_events::{LogTime, Topic, TopicPartition};
use proptest::prelude::*;

use super::dedup::{Dedup, DedupBounds, message_identity};
use super::distinct::Distinct;
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

    /// Windows tile time: every record on time is in exactly one closed window, wherever the clock moves and state commits.
    #[test]
    fn windows_tile_time(
        records in prop::collection::vec((0..3_usize, 0..50_i64, 0..20_i64), 1..200),
        commit_every in 1..20_usize,
    ) {
        let count = TumblingCount { table: 1, width_us: 10, lateness_us: 50 };
        let store = ToyStateStore::new();
        let mut state = open(&store);
        let (mut clock, mut closed) = (0, Vec::new());
        let mut expected: HashMap<(i64, String), u64> = HashMap::new();
        for (n, (key, behind, step)) in records.iter().enumerate() {
            clock += step;
            let (key, at) = (format!("k{key}"), clock - behind);
            prop_assert!(count.add(&mut state, &key, at, Some(LogTime(clock))).unwrap(), "within the lateness nothing is refused");
            *expected.entry((at.div_euclid(10) * 10, key)).or_default() += 1;
            closed.extend(count.close(&mut state, LogTime(clock)).unwrap());
            if n % commit_every == 0 {
                block_on(state.commit(n as u64)).unwrap();
                state = open(&store);
            }
        }
        closed.extend(count.close(&mut state, LogTime(i64::MAX)).unwrap());
        let found: HashMap<(i64, String), u64> =
            closed.iter().map(|Closed { start_us, key, count }| ((*start_us, key.clone()), *count)).collect();
        prop_assert_eq!(found.len(), closed.len(), "a window closes once");
        prop_assert_eq!(found, expected);
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
