use proptest::prelude::*;

use super::*;

/// A partition in memory, with the broker's index of timestamps.
struct Partition {
    start: Offset,
    stamps: Vec<i64>,
    asked: usize,
    read: usize,
    index_is_off: bool,
}

impl Partition {
    fn new(stamps: impl IntoIterator<Item = i64>) -> Self {
        Self { start: 0, stamps: stamps.into_iter().collect(), asked: 0, read: 0, index_is_off: false }
    }

    fn high(&mut self, before: Offset) -> Option<High> {
        futures::executor::block_on(high_before(self, self.start, before)).expect("memory does not fail")
    }

    fn expected(&self, before: Offset) -> Option<High> {
        let places = self.start..before;
        places.map(|at| (at, self.stamps[at as usize])).fold(None, |high, (at, time)| Some(High::raise(high, at, time)))
    }
}

impl History for Partition {
    async fn stamps(&mut self, from: Offset, until: Offset) -> Result<Vec<i64>> {
        assert!(from >= self.start && from < until && until <= self.stamps.len() as u64, "{from} to {until}");
        let until = until.min(from + 7);
        self.read += (until - from) as usize;
        Ok(self.stamps[from as usize..until as usize].to_vec())
    }

    async fn first_since(&mut self, timestamp: i64) -> Result<Option<Offset>> {
        self.asked += 1;
        let mut from_start = self.stamps.iter().skip(self.start as usize);
        let found = from_start.position(|stamp| timestamp_of(*stamp) >= timestamp);
        Ok(found.filter(|_| !self.index_is_off).map(|nth| self.start + nth as u64))
    }
}

const MS: i64 = 1000;

#[test]
fn nothing_is_before_the_start() {
    assert_eq!(Partition::new([5, 6]).high(0), None);
}

#[test]
fn the_newest_of_equals_is_taken() {
    assert_eq!(Partition::new([5, 9, 9, 7]).high(4), Some(High { time_us: 9, at: 2 }));
}

#[test]
fn a_partition_in_order_costs_one_window_and_two_questions() {
    let mut partition = Partition::new((0..100_000).map(|n| n * MS));
    assert_eq!(partition.high(90_000), Some(High { time_us: 89_999 * MS, at: 89_999 }));
    assert_eq!((partition.asked, partition.read), (2, 64));
}

#[test]
fn a_far_record_long_ago_is_found() {
    let mut partition = Partition::new((0..10_000).map(|n| if n == 3 { 1_000_000_007 } else { n * MS }));
    assert_eq!(partition.high(9_999), Some(High { time_us: 1_000_000_007, at: 3 }));
    assert!(partition.asked < 60, "{} questions", partition.asked);
}

#[test]
fn microseconds_of_one_millisecond_are_told_apart() {
    let mut partition = Partition::new((0..1_000).map(|n| if n == 500 { 8 * MS + 999 } else { 8 * MS + 1 }));
    assert_eq!(partition.high(1_000), Some(High { time_us: 8 * MS + 999, at: 500 }));
}

#[test]
fn the_latest_time_there_is_can_be_told() {
    let mut partition = Partition::new((0..200).map(|n| if n == 3 { i64::MAX } else { n }));
    assert_eq!(partition.high(200), Some(High { time_us: i64::MAX, at: 3 }));
}

#[test]
fn an_index_that_is_off_is_done_without() {
    let mut partition = Partition::new((0..1_000).map(|n| 1_000_000 - n * MS));
    partition.index_is_off = true;
    assert_eq!(partition.high(1_000), Some(High { time_us: 1_000_000, at: 0 }));
}

proptest! {
    #[test]
    fn it_is_the_highest_wherever_one_asks(
        stamps in prop::collection::vec(-5 * MS..60 * MS, 1..400),
        start in 0..200_usize,
        before in 0..400_usize,
    ) {
        let mut partition = Partition::new(stamps);
        let before = before.min(partition.stamps.len()) as u64;
        partition.start = (start as u64).min(before);
        prop_assert_eq!(partition.high(before), partition.expected(before));
    }
}
