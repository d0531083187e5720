use std::collections::HashMap;

use millrace_events::{Topic, TopicPartition};
use proptest::prelude::*;

use super::*;
use crate::state::StateStore;
use crate::state::toy::ToyStateStore;

const OF: TopicPartition = TopicPartition::new(Topic::Actions, 0);
const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;

/// One a second with five beside, and one in ten seconds with three beside.
const PACES: Paces = Paces {
    table: 1,
    limits: [Limit { per_minute: 60, beside: 5 }, Limit { per_minute: 6, beside: 3 }],
    keep_us: 100 * SECOND,
};

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open(store: &ToyStateStore) -> State {
    State::new(OF, block_on(store.open(OF)).unwrap())
}

/// Whether one key is over, act by act: (seconds since the last, which limits it counts against).
#[track_caller]
fn check(acts: &[(i64, [bool; LIMITS])], expected: &str) {
    let mut state = open(&ToyStateStore::new());
    let mut now = -HOUR;
    let mut found = String::new();
    for (step, counts) in acts {
        now += step * SECOND;
        found.push(if PACES.is_over(&mut state, "k", LogTime(now), *counts).unwrap() { '!' } else { '.' });
    }
    assert_eq!(found, expected);
}

#[test]
fn a_pace_is_kept_up_for_ever_and_a_faster_one_is_over_when_the_bucket_is_full() {
    let (first, second, none) = ([true, false], [false, true], [false, false]);
    check(&[(1, first); 60], &".".repeat(60));
    check(&[(0, first); 8], ".....!!!");
    check(&[(10, second); 20], &".".repeat(20));
    check(&[(5, second); 8], ".....!!!");
    // Both at once: the second fills first.
    check(&[(0, [true, true]); 5], "...!!");
    // Each has its own: what counts against one leaves the other.
    check(&[(0, first), (0, second), (0, first), (0, second), (0, first), (0, second)], "......");
    // What counts against none neither fills nor is spared.
    check(&[&[(0, none); 3][..], &[(0, first); 6], &[(0, none); 2]].concat(), "........!!!");
}

#[test]
fn who_was_over_is_so_for_a_while_after_the_last_act_above_the_brim() {
    let (first, none) = ([true, false], [false, false]);
    let burst = [(0, first); 6];
    check(&[&burst[..], &[(99, none), (1, none)]].concat(), ".....!!.");
    // However much came at once, it has drained soon after.
    check(&[&[(0, first); 1_000][..], &[(101, first)]].concat(), &format!(".....{}.", "!".repeat(995)));
    // Acts below the brim do not make it longer, one above does.
    check(&[&burst[..], &[(60, first), (39, none), (1, none)]].concat(), ".....!!!.");
    check(&[&burst[..], &[(60, first); 1], &[(0, first); 5], &[(99, none), (1, none)]].concat(), ".....!!!!!!!!.");
}

/// What a memory without bounds would say.
#[derive(Default)]
struct Model(HashMap<String, ([f64; LIMITS], [i64; LIMITS], i64)>);

impl Model {
    fn is_over(&mut self, key: &str, now: i64, counts: [bool; LIMITS]) -> bool {
        let (levels, at, until) = self.0.entry(key.to_owned()).or_insert(([0.0; 2], [now; 2], i64::MIN));
        for nth in 0..LIMITS {
            let Limit { per_minute, beside } = PACES.limits[nth];
            if counts[nth] {
                let drained = (now - at[nth]) as f64 * per_minute as f64 / MINUTE_US as f64;
                let level = (levels[nth] - drained).max(0.0) + 1.0;
                if level > beside as f64 + 1e-9 {
                    *until = now + PACES.keep_us;
                }
                (levels[nth], at[nth]) = (level.min(beside as f64 + 1.0), now);
            }
        }
        *until > now
    }
}

proptest! {
    /// With as many keys as there is room for, it says what a memory without bounds says, wherever state commits and the
    /// process dies.
    #[test]
    fn it_is_exact_for_a_few_keys_across_commits_and_restarts(
        acts in prop::collection::vec((0..20_u8, 0..2_000_i64, any::<[bool; LIMITS]>()), 1..600),
        commit in 1..40_usize,
        crash in 1..100_usize,
    ) {
        let store = ToyStateStore::new();
        let (mut state, mut model, mut now) = (open(&store), Model::default(), 0);
        for (nth, (key, step_ms, counts)) in acts.into_iter().enumerate() {
            now += step_ms * 1_000;
            let key = format!("k{key}");
            let found = PACES.is_over(&mut state, &key, LogTime(now), counts).unwrap();
            prop_assert_eq!(found, model.is_over(&key, now, counts), "act {} of {}", nth, key);
            if nth % commit == 0 || nth % crash == 0 {
                block_on(state.commit(nth as u64)).unwrap();
            }
            if nth % crash == 0 {
                state = open(&store);
            }
        }
    }
}

#[test]
fn a_crowd_takes_no_more_room_and_marks_nobody_and_a_robot_in_it_is_found() {
    let store = ToyStateStore::new();
    let mut state = open(&store);
    let crowd = 3 * PAGES * BUCKETS_MAX as u64;
    let mut robot_is_over = false;
    for nth in 0..crowd {
        // All within one second, so that no bucket is empty again.
        let now = LogTime((nth * SECOND.unsigned_abs() / crowd).cast_signed());
        assert!(!PACES.is_over(&mut state, &format!("person {nth}"), now, [true, false]).unwrap());
        if nth % 1_000 == 0 {
            robot_is_over = PACES.is_over(&mut state, "robot", now, [true, false]).unwrap();
        }
    }
    assert!(robot_is_over);
    block_on(state.commit(1)).unwrap();
    let pages =
        store.values(OF).into_iter().filter_map(|(_, value)| Page::decode(&value)).filter(|p| !p.buckets.is_empty());
    let sizes: Vec<usize> = pages.map(|page| page.buckets.len()).collect();
    assert!(sizes.len() as u64 <= PAGES && sizes.iter().all(|size| *size <= BUCKETS_MAX), "{sizes:?}");
}

#[test]
fn what_is_empty_makes_room_when_its_page_is_next_added_to() {
    let store = ToyStateStore::new();
    let mut state = open(&store);
    for nth in 0..10 * PAGES {
        // An hour between two: each finds all others empty.
        let now = LogTime(nth.cast_signed() * HOUR);
        PACES.is_over(&mut state, &format!("k{nth}"), now, [true, true]).unwrap();
    }
    block_on(state.commit(1)).unwrap();
    let buckets = |value: &[u8]| Page::decode(value).map_or(0, |page| page.buckets.len());
    assert!(store.values(OF).iter().all(|(_, value)| buckets(value) <= 1));
}

#[test]
fn a_page_survives_its_bytes() {
    let bucket = |id| Bucket { id, empty_at: [i64::MIN, -5], over_until: i64::MAX };
    let page = Page { buckets: vec![bucket(1), bucket(u64::MAX)] };
    let mut bytes = Vec::new();
    page.encode(&mut bytes);
    assert_eq!(Page::decode(&bytes), Some(page));
    assert_eq!(Page::decode(&bytes[1..]), None);
}
