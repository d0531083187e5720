use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{HOUR_S, History, Seconds, hour_of};
use crate::state::StateValue;

fn again<T: StateValue>(value: &T) -> T {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    T::decode(&bytes).unwrap()
}

proptest! {
    /// Whatever was handed out on the way, and in whatever order events came, counts are those of a list of all events.
    #[test]
    fn counts_are_those_of_a_list(
        events in prop::collection::vec((-2..4_i64, 0..HOUR_S, 1..4_usize), 1..400),
        asked in prop::collection::vec((-3..5_i64, 0..HOUR_S), 1..20),
    ) {
        let mut history = History::default();
        let mut kept: BTreeMap<i64, Seconds> = BTreeMap::new();
        let mut all = Vec::new();
        for (hour, second, times) in events {
            for _ in 0..times {
                let second = hour * HOUR_S + second;
                all.push(second);
                history.add(second);
                if let Some((hour, seconds)) = history.shorten(i64::MIN, i64::MIN) {
                    kept.entry(hour).or_default().merge(&seconds);
                }
            }
        }
        let history = again(&history);
        for (hour, second) in asked {
            let t = hour * HOUR_S + second;
            let mut point = history.point(t);
            if let Some(seconds) = kept.get(&hour_of(t)) {
                prop_assert!(point.is_spilled);
                again(seconds).add_to(&mut point, t);
            }
            prop_assert_eq!(point.after, all.iter().filter(|s| **s > t).count() as u64);
            let next = all.iter().filter(|s| **s > t).min();
            prop_assert_eq!(point.next.is_some(), next.is_some());
            prop_assert!(point.next.is_none_or(|at| at > t && Some(&at) <= next), "{point:?}, not {next:?}");
            let since = all.iter().filter(|s| hour_of(**s) >= hour);
            prop_assert_eq!(history.since(hour), (since.clone().count() as u64, since.map(|s| hour_of(*s)).min()));
        }
    }
}

#[test]
fn the_value_of_something_busy_holds_one_hour() {
    let mut history = History::default();
    let mut spilled = 0;
    for second in 0..10 * HOUR_S {
        history.add(second);
        spilled += usize::from(history.shorten(0, 0).is_some());
    }
    let mut bytes = Vec::new();
    history.encode(&mut bytes);
    assert!(spilled == 9 && bytes.len() < 8_000, "{spilled} hours, {} bytes", bytes.len());
}

#[test]
fn what_nobody_asks_for_is_dropped_before_anything_is_handed_out() {
    let mut history = History::default();
    for hour in 0..1_000 {
        history.add(hour * HOUR_S);
        assert!(history.shorten(hour - 300, (hour - 24) * HOUR_S).is_none());
    }
    assert_eq!(history.point(999 * HOUR_S - 1).after, 1);
    assert!(history.since(0).0 < 400);
}
