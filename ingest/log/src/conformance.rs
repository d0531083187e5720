//! The laws of [`EventLog`], one function each, for any backend.
//!
//! A backend implements [`Harness`] and stamps every law as a test with [`event_log_conformance!`](crate::event_log_conformance).
//! A law panics where a backend breaks it. Laws never measure time: one that waits for ever is for the test runner to end.

pub mod group;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use millrace_events::{LogTime, Topic, TopicPartition};

use crate::{Append, ErrorKind, EventLog, Offset, Record, VALUE_BYTES_MAX};

/// How a law gets a log.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new, empty log with at least two partitions per topic.
    async fn open(&self) -> Arc<dyn EventLog>;

    /// The same log after a clean stop. `log` is the only handle to it.
    async fn reopen(&self, log: Arc<dyn EventLog>) -> Arc<dyn EventLog>;
}

/// Stamps every law as a test. The argument makes a [`Harness`](crate::conformance::Harness); it is evaluated once per law.
#[macro_export]
macro_rules! event_log_conformance {
    ($harness:expr) => {
        $crate::event_log_conformance! { @laws $harness;
            an_empty_append_is_fine
            append_answers_in_the_order_given
            offsets_are_dense_from_zero
            log_time_never_falls
            keys_and_values_come_back_as_they_were
            partitions_are_independent
            dead_letters_have_one_partition
            concurrent_appenders_keep_their_order
            a_cancelled_append_harms_nobody
            any_read_size_gives_the_same_records
            reading_twice_gives_the_same
            reading_outside_is_out_of_range
            what_was_seen_stays
            the_end_is_readable_when_it_is_told
            waiting_ends_when_there_is_something
            waiting_never_misses_an_append
            the_largest_value_is_taken
            a_value_too_large_is_invalid
            an_unknown_partition_is_invalid
            everything_survives_a_stop
            log_time_goes_on_after_a_stop
            trim_never_drops_more_than_told
            trim_survives_a_stop
            a_trimmed_log_goes_on
        }
    };
    (@laws $harness:expr; $($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                $crate::conformance::$law(&$harness).await;
            }
        )*
    };
}

const ACTIONS_0: TopicPartition = TopicPartition::new(Topic::Actions, 0);
const ACTIONS_1: TopicPartition = TopicPartition::new(Topic::Actions, 1);
const DERIVED_0: TopicPartition = TopicPartition::new(Topic::UserEvents, 0);
const DEAD: TopicPartition = TopicPartition::new(Topic::DeadLetters, 0);
/// More than any law writes.
const ALL: usize = 64 * 1024 * 1024;

fn append(to: TopicPartition, time: i64, value: impl Into<Bytes>) -> Append {
    Append { to, time: LogTime(time), key: Bytes::from_static(b"key"), value: value.into() }
}

fn numbered(to: TopicPartition, numbers: std::ops::Range<usize>) -> Vec<Append> {
    numbers.map(|n| append(to, n as i64, format!("value {n}"))).collect()
}

async fn must_append(log: &dyn EventLog, batch: Vec<Append>) -> Vec<Offset> {
    log.append(batch).await.expect("the log should take an append")
}

async fn must_read(log: &dyn EventLog, of: TopicPartition, from: Offset, bytes_max: usize) -> Vec<Record> {
    log.read(of, from, bytes_max).await.expect("the log should be readable here")
}

/// Reads from `from` to the end in pieces of `bytes_max`.
async fn read_on(log: &dyn EventLog, of: TopicPartition, mut from: Offset, bytes_max: usize) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let piece = must_read(log, of, from, bytes_max).await;
        let Some(last) = piece.last() else { return records };
        from = last.offset + 1;
        records.extend(piece);
    }
}

fn values(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned()).collect()
}

async fn kind_of<T>(call: impl Future<Output = crate::Result<T>>) -> Option<ErrorKind> {
    call.await.err().map(|error| error.kind())
}

/// Nothing to append is appended.
pub async fn an_empty_append_is_fine(harness: &dyn Harness) {
    let log = harness.open().await;
    assert_eq!(must_append(&*log, Vec::new()).await, []);
    assert_eq!(log.bounds(ACTIONS_0).await.unwrap_or_default(), crate::Bounds::default());
}

/// Law 1: the answer has one offset per record, in the order given, and all of it can be read.
pub async fn append_answers_in_the_order_given(harness: &dyn Harness) {
    let log = harness.open().await;
    let batch = vec![
        append(ACTIONS_1, 1, "a"),
        append(ACTIONS_0, 1, "b"),
        append(ACTIONS_1, 1, "c"),
        append(DEAD, 1, "d"),
        append(ACTIONS_1, 1, "e"),
        append(ACTIONS_0, 1, "f"),
    ];
    assert_eq!(must_append(&*log, batch).await, [0, 0, 1, 0, 2, 1]);
    assert_eq!(values(&must_read(&*log, ACTIONS_0, 0, ALL).await), ["b", "f"]);
    assert_eq!(values(&must_read(&*log, ACTIONS_1, 0, ALL).await), ["a", "c", "e"]);
    assert_eq!(values(&must_read(&*log, DEAD, 0, ALL).await), ["d"]);
}

/// Law 2: no offset is left out or used twice.
pub async fn offsets_are_dense_from_zero(harness: &dyn Harness) {
    let log = harness.open().await;
    let mut given = Vec::new();
    for size in [1, 7, 1, 100, 3] {
        let from = given.len();
        given.extend(must_append(&*log, numbered(ACTIONS_0, from..from + size)).await);
    }
    let dense: Vec<Offset> = (0..given.len() as u64).collect();
    assert_eq!(given, dense);
    let records = read_on(&*log, ACTIONS_0, 0, ALL).await;
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), dense);
    let bounds = log.bounds(ACTIONS_0).await.unwrap_or_default();
    assert_eq!((bounds.start, bounds.end), (0, given.len() as u64));
}

/// Law 2: a log time that would fall is raised, in one call and between calls, and others stay as they are.
pub async fn log_time_never_falls(harness: &dyn Harness) {
    let log = harness.open().await;
    must_append(&*log, [-5, 20, 10, 20, 30].map(|time| append(ACTIONS_0, time, "v")).to_vec()).await;
    must_append(&*log, vec![append(ACTIONS_0, 25, "v"), append(ACTIONS_1, 25, "v")]).await;
    must_append(&*log, vec![append(ACTIONS_0, 31, "v")]).await;
    let times = |records: Vec<Record>| records.iter().map(|record| record.time.0).collect::<Vec<_>>();
    assert_eq!(times(must_read(&*log, ACTIONS_0, 0, ALL).await), [-5, 20, 20, 20, 30, 30, 31]);
    assert_eq!(times(must_read(&*log, ACTIONS_1, 0, ALL).await), [25]);
    assert_eq!(log.bounds(ACTIONS_0).await.unwrap_or_default().last_time, Some(LogTime(31)));
}

/// Keys and values are bytes: empty, binary, equal, all the same to the log.
pub async fn keys_and_values_come_back_as_they_were(harness: &dyn Harness) {
    let log = harness.open().await;
    let pieces: [&'static [u8]; 5] = [b"", b"\0", b"\xff\xfe\x80", b"plain", &[7; 5000]];
    let mut sent = Vec::new();
    for key in pieces {
        for value in pieces {
            let (key, value) = (Bytes::from_static(key), Bytes::from_static(value));
            sent.push(Append { to: ACTIONS_0, time: LogTime(1), key, value });
        }
    }
    must_append(&*log, sent.clone()).await;
    let records = must_read(&*log, ACTIONS_0, 0, ALL).await;
    assert_eq!(records.len(), sent.len());
    for (record, sent) in records.iter().zip(&sent) {
        assert_eq!((&record.key, &record.value), (&sent.key, &sent.value));
    }
}

/// Neither offsets nor log times nor records of one partition show in another.
pub async fn partitions_are_independent(harness: &dyn Harness) {
    let log = harness.open().await;
    assert!(log.partitions() >= 2, "the harness should make a log with at least two partitions");
    must_append(&*log, numbered(ACTIONS_0, 0..10)).await;
    must_append(&*log, numbered(DERIVED_0, 0..3)).await;
    assert_eq!(must_append(&*log, vec![append(ACTIONS_1, 0, "only")]).await, [0]);
    assert_eq!(must_read(&*log, ACTIONS_0, 0, ALL).await.len(), 10);
    assert_eq!(must_read(&*log, DERIVED_0, 0, ALL).await.len(), 3);
    assert_eq!(values(&must_read(&*log, ACTIONS_1, 0, ALL).await), ["only"]);
    assert_eq!(must_read(&*log, DEAD, 0, ALL).await, []);
}

/// However many partitions the other topics have.
pub async fn dead_letters_have_one_partition(harness: &dyn Harness) {
    let log = harness.open().await;
    assert_eq!(must_append(&*log, vec![append(DEAD, 1, "v")]).await, [0]);
    let second = TopicPartition::new(Topic::DeadLetters, 1);
    assert_eq!(kind_of(log.bounds(second)).await, Some(ErrorKind::Invalid));
}

/// Law 2 under concurrency: each appender finds its records where it was told, in its order, and nobody's are lost.
pub async fn concurrent_appenders_keep_their_order(harness: &dyn Harness) {
    const APPENDERS: usize = 16;
    const CALLS: usize = 20;
    let log = harness.open().await;
    let appender = |who: usize| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut told = Vec::new();
            for call in 0..CALLS {
                let batch = [ACTIONS_0, ACTIONS_1, ACTIONS_0].map(|to| append(to, 1, format!("{who}/{call}")));
                let offsets = must_append(&*log, batch.to_vec()).await;
                assert_eq!(offsets.len(), batch.len());
                assert!(offsets[0] < offsets[2], "offsets follow the order of the call");
                told.push((format!("{who}/{call}"), offsets));
            }
            told
        })
    };
    let told = try_join_all((0..APPENDERS).map(appender)).await.expect("no appender should panic");
    let zero = read_on(&*log, ACTIONS_0, 0, ALL).await;
    let one = read_on(&*log, ACTIONS_1, 0, ALL).await;
    assert_eq!((zero.len(), one.len()), (2 * APPENDERS * CALLS, APPENDERS * CALLS));
    for of_one in told {
        let mut before = None;
        for (value, offsets) in of_one {
            assert!(before < Some(offsets[0]), "offsets follow the order of calls");
            before = Some(offsets[2]);
            for (records, offset) in [(&zero, offsets[0]), (&one, offsets[1]), (&zero, offsets[2])] {
                let record = &records[usize::try_from(offset).unwrap_or(usize::MAX)];
                assert_eq!((record.offset, &record.value[..]), (offset, value.as_bytes()));
            }
        }
    }
}

/// An append whose caller goes away may or may not happen, and the log goes on.
pub async fn a_cancelled_append_harms_nobody(harness: &dyn Harness) {
    let log = harness.open().await;
    for n in 0..20 {
        let (log, batch) = (log.clone(), numbered(ACTIONS_0, n..n + 1));
        let call = tokio::spawn(async move { log.append(batch).await });
        tokio::task::yield_now().await;
        call.abort();
        // A task that is being polled goes on until its next await: only now is it gone, or was done before.
        let _gone = call.await;
    }
    let told = must_append(&*log, vec![append(ACTIONS_0, 99, "last")]).await;
    let records = read_on(&*log, ACTIONS_0, 0, ALL).await;
    let last = records.last().expect("the last append should be there");
    assert_eq!((vec![last.offset], &last.value[..]), (told, &b"last"[..]));
    assert!(records.iter().enumerate().all(|(nth, record)| record.offset == nth as u64), "offsets stay dense");
}

/// However many bytes are asked for at once, and wherever reading begins.
pub async fn any_read_size_gives_the_same_records(harness: &dyn Harness) {
    let log = harness.open().await;
    let value = |n: usize| vec![b'x'; (n * 37) % 900];
    for call in 0..12 {
        let batch = (0..1 + call * 3).map(|n| append(ACTIONS_0, 1, value(call * 100 + n))).collect();
        must_append(&*log, batch).await;
    }
    let whole = read_on(&*log, ACTIONS_0, 0, ALL).await;
    assert_eq!(whole.len(), (0..12).map(|call| 1 + call * 3).sum::<usize>());
    for bytes_max in [0, 1, 100, 1000, 4096, 50_000] {
        assert_eq!(read_on(&*log, ACTIONS_0, 0, bytes_max).await, whole, "in pieces of {bytes_max} bytes");
    }
    for from in 0..whole.len() {
        let piece = must_read(&*log, ACTIONS_0, from as u64, 500).await;
        assert!(!piece.is_empty(), "at least one record is given");
        assert_eq!(piece[..], whole[from..from + piece.len()]);
        let bytes: usize = piece.iter().map(|record| record.key.len() + record.value.len()).sum();
        assert!(piece.len() == 1 || bytes <= 500, "more than was asked for: {bytes} bytes");
    }
}

/// Law 3.
pub async fn reading_twice_gives_the_same(harness: &dyn Harness) {
    let log = harness.open().await;
    must_append(&*log, numbered(ACTIONS_0, 0..50)).await;
    let first = must_read(&*log, ACTIONS_0, 10, 200).await;
    must_append(&*log, numbered(ACTIONS_0, 50..100)).await;
    assert_eq!(must_read(&*log, ACTIONS_0, 10, 200).await, first);
    assert_eq!(must_read(&*log, ACTIONS_0, 10, 200).await, first);
}

/// At the end there is nothing, beyond it is an error.
pub async fn reading_outside_is_out_of_range(harness: &dyn Harness) {
    let log = harness.open().await;
    assert_eq!(must_read(&*log, ACTIONS_0, 0, ALL).await, []);
    assert_eq!(kind_of(log.read(ACTIONS_0, 1, ALL)).await, Some(ErrorKind::OutOfRange));
    must_append(&*log, numbered(ACTIONS_0, 0..5)).await;
    assert_eq!(must_read(&*log, ACTIONS_0, 5, ALL).await, []);
    assert_eq!(kind_of(log.read(ACTIONS_0, 6, ALL)).await, Some(ErrorKind::OutOfRange));
    assert_eq!(kind_of(log.read(ACTIONS_0, u64::MAX, ALL)).await, Some(ErrorKind::OutOfRange));
}

/// Law 3: a reader that runs beside the appenders saw nothing that is not there at the end.
pub async fn what_was_seen_stays(harness: &dyn Harness) {
    const RECORDS: usize = 400;
    let log = harness.open().await;
    let reader = |bytes_max: usize| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut seen: Vec<Record> = Vec::new();
            while seen.len() < RECORDS {
                log.wait(ACTIONS_0, seen.len() as u64).await.expect("waiting should succeed");
                seen.extend(must_read(&*log, ACTIONS_0, seen.len() as u64, bytes_max).await);
            }
            seen
        })
    };
    let readers = [reader(0), reader(300), reader(ALL)];
    let appender = |who: usize| numbered(ACTIONS_0, who * 10..(who + 1) * 10);
    join_all((0..RECORDS / 10).map(|who| must_append(&*log, appender(who)))).await;
    let at_the_end = read_on(&*log, ACTIONS_0, 0, ALL).await;
    for seen in try_join_all(readers).await.expect("no reader should panic") {
        assert_eq!(seen, at_the_end);
    }
}

/// Law 1 and 3: everything below the end that `bounds` tells can be read.
pub async fn the_end_is_readable_when_it_is_told(harness: &dyn Harness) {
    let log = harness.open().await;
    let appending = {
        let log = log.clone();
        tokio::spawn(async move {
            for n in 0..100 {
                must_append(&*log, numbered(ACTIONS_0, n..n + 1)).await;
            }
        })
    };
    let mut end = 0;
    while end < 100 {
        let bounds = log.bounds(ACTIONS_0).await.expect("bounds should be there");
        assert!(bounds.end >= end, "the end never goes back");
        assert_eq!(bounds.last_time.is_some(), bounds.end > 0);
        end = bounds.end;
        if end > 0 {
            assert_eq!(must_read(&*log, ACTIONS_0, end - 1, 0).await.len(), 1);
        }
        tokio::task::yield_now().await;
    }
    appending.await.expect("the appender should not panic");
}

/// At once when there is something already, and for every waiter when something comes.
pub async fn waiting_ends_when_there_is_something(harness: &dyn Harness) {
    let log = harness.open().await;
    let waiter = |from: Offset| {
        let log = log.clone();
        tokio::spawn(async move {
            log.wait(ACTIONS_0, from).await.expect("waiting should succeed");
            must_read(&*log, ACTIONS_0, from, 0).await.len()
        })
    };
    let waiters: Vec<_> = (0..50).map(|n| waiter(n % 3)).collect();
    tokio::task::yield_now().await;
    must_append(&*log, vec![append(ACTIONS_1, 1, "elsewhere")]).await;
    must_append(&*log, numbered(ACTIONS_0, 0..1)).await;
    must_append(&*log, numbered(ACTIONS_0, 1..3)).await;
    for read in try_join_all(waiters).await.expect("no waiter should panic") {
        assert_eq!(read, 1);
    }
    log.wait(ACTIONS_0, 0).await.expect("waiting for what is there should succeed");
}

/// Two that append in turn, each when it sees the other's record, get to the end.
pub async fn waiting_never_misses_an_append(harness: &dyn Harness) {
    const TURNS: u64 = 200;
    let log = harness.open().await;
    let player = |mine: TopicPartition, other: TopicPartition, ahead: u64| {
        let log = log.clone();
        tokio::spawn(async move {
            for turn in 0..TURNS {
                if turn >= ahead {
                    log.wait(other, turn - ahead).await.expect("waiting should succeed");
                }
                must_append(&*log, vec![append(mine, 1, "turn")]).await;
            }
        })
    };
    let players = [player(ACTIONS_0, ACTIONS_1, 1), player(ACTIONS_1, ACTIONS_0, 0)];
    try_join_all(players).await.expect("no player should panic");
}

/// The bound is the largest that is taken, also several times in one call.
pub async fn the_largest_value_is_taken(harness: &dyn Harness) {
    let log = harness.open().await;
    let batch = vec![
        append(ACTIONS_0, 1, "small"),
        append(ACTIONS_0, 1, vec![1; VALUE_BYTES_MAX]),
        append(ACTIONS_0, 1, vec![2; VALUE_BYTES_MAX]),
        append(ACTIONS_0, 1, "small"),
    ];
    must_append(&*log, batch).await;
    let sizes = |records: &[Record]| records.iter().map(|record| record.value.len()).collect::<Vec<_>>();
    assert_eq!(sizes(&read_on(&*log, ACTIONS_0, 0, ALL).await), [5, VALUE_BYTES_MAX, VALUE_BYTES_MAX, 5]);
    assert_eq!(sizes(&read_on(&*log, ACTIONS_0, 0, 1).await), [5, VALUE_BYTES_MAX, VALUE_BYTES_MAX, 5]);
}

/// And nothing of the call is appended.
pub async fn a_value_too_large_is_invalid(harness: &dyn Harness) {
    let log = harness.open().await;
    let batch = vec![append(ACTIONS_0, 1, "fine"), append(ACTIONS_0, 1, vec![0; VALUE_BYTES_MAX + 1])];
    assert_eq!(kind_of(log.append(batch)).await, Some(ErrorKind::Invalid));
    assert_eq!(must_append(&*log, vec![append(ACTIONS_0, 1, "next")]).await, [0]);
    assert_eq!(values(&must_read(&*log, ACTIONS_0, 0, ALL).await), ["next"]);
}

/// For every call, and nothing of an append is appended.
pub async fn an_unknown_partition_is_invalid(harness: &dyn Harness) {
    let log = harness.open().await;
    for topic in Topic::ALL {
        let unknown = TopicPartition::new(topic, topic.partitions(log.partitions()));
        let invalid = Some(ErrorKind::Invalid);
        let batch = vec![append(ACTIONS_0, 1, "fine"), append(unknown, 1, "not")];
        assert_eq!(kind_of(log.append(batch)).await, invalid, "append to {unknown}");
        assert_eq!(kind_of(log.read(unknown, 0, ALL)).await, invalid, "read {unknown}");
        assert_eq!(kind_of(log.wait(unknown, 0)).await, invalid, "wait for {unknown}");
        assert_eq!(kind_of(log.bounds(unknown)).await, invalid, "bounds of {unknown}");
        assert_eq!(kind_of(log.trim(unknown, 1)).await, invalid, "trim {unknown}");
    }
    assert_eq!(must_read(&*log, ACTIONS_0, 0, ALL).await, []);
}

/// Records, offsets and bounds.
pub async fn everything_survives_a_stop(harness: &dyn Harness) {
    let mut log = harness.open().await;
    for round in 0..3_usize {
        let done = round * 40;
        for of in [ACTIONS_0, DERIVED_0, DEAD] {
            assert_eq!(must_append(&*log, numbered(of, done..done + 40)).await[0], done as u64);
        }
        let before = read_on(&*log, ACTIONS_0, 0, ALL).await;
        let bounds = log.bounds(ACTIONS_0).await.unwrap_or_default();
        log = harness.reopen(log).await;
        assert_eq!(log.bounds(ACTIONS_0).await.unwrap_or_default(), bounds);
        assert_eq!(log.bounds(ACTIONS_1).await.unwrap_or_default(), crate::Bounds::default());
        assert_eq!(read_on(&*log, ACTIONS_0, 0, 100).await, before);
        for of in [DERIVED_0, DEAD] {
            assert_eq!(read_on(&*log, of, 0, ALL).await.len(), done + 40);
        }
    }
}

/// Law 2 across a stop.
pub async fn log_time_goes_on_after_a_stop(harness: &dyn Harness) {
    let log = harness.open().await;
    must_append(&*log, vec![append(ACTIONS_0, 1000, "v")]).await;
    let log = harness.reopen(log).await;
    must_append(&*log, vec![append(ACTIONS_0, 10, "v"), append(ACTIONS_0, 1001, "v")]).await;
    let times: Vec<i64> = read_on(&*log, ACTIONS_0, 0, ALL).await.iter().map(|record| record.time.0).collect();
    assert_eq!(times, [1000, 1000, 1001]);
}

/// Law 5: what is kept reads as before, what is gone is out of range, and other partitions are not touched.
pub async fn trim_never_drops_more_than_told(harness: &dyn Harness) {
    let log = harness.open().await;
    for call in 0..20 {
        must_append(&*log, numbered(ACTIONS_0, call * 5..call * 5 + 5)).await;
    }
    must_append(&*log, numbered(ACTIONS_1, 0..5)).await;
    let before = read_on(&*log, ACTIONS_0, 0, ALL).await;
    let mut last_start = 0;
    for trimmed in [0, 1, 5, 42, 42, 17, 99] {
        log.trim(ACTIONS_0, trimmed).await.expect("trimming should succeed");
        let bounds = log.bounds(ACTIONS_0).await.unwrap_or_default();
        assert!(bounds.start <= trimmed.max(last_start), "told to keep {trimmed}, dropped below {}", bounds.start);
        assert!(bounds.start >= last_start, "the start never goes back");
        assert_eq!((bounds.end, bounds.last_time), (100, Some(LogTime(99))));
        last_start = bounds.start;
        let start = usize::try_from(bounds.start).unwrap_or(usize::MAX);
        assert_eq!(read_on(&*log, ACTIONS_0, bounds.start, 64).await, before[start..]);
        if let Some(below) = bounds.start.checked_sub(1) {
            assert_eq!(kind_of(log.read(ACTIONS_0, below, ALL)).await, Some(ErrorKind::OutOfRange));
            assert_eq!(kind_of(log.read(ACTIONS_0, 0, ALL)).await, Some(ErrorKind::OutOfRange));
        }
    }
    assert_eq!(must_read(&*log, ACTIONS_1, 0, ALL).await.len(), 5);
}

/// What is left of a trimmed partition is there after a stop, and no more than before.
pub async fn trim_survives_a_stop(harness: &dyn Harness) {
    let log = harness.open().await;
    for call in 0..20 {
        must_append(&*log, numbered(ACTIONS_0, call * 5..call * 5 + 5)).await;
    }
    log.trim(ACTIONS_0, 63).await.expect("trimming should succeed");
    let bounds = log.bounds(ACTIONS_0).await.unwrap_or_default();
    let before = read_on(&*log, ACTIONS_0, bounds.start, ALL).await;
    let log = harness.reopen(log).await;
    assert_eq!(log.bounds(ACTIONS_0).await.unwrap_or_default(), bounds);
    assert_eq!(read_on(&*log, ACTIONS_0, bounds.start, ALL).await, before);
}

/// Law 5: trimmed to its end, or beyond, a log keeps its offsets and its time.
pub async fn a_trimmed_log_goes_on(harness: &dyn Harness) {
    let mut log = harness.open().await;
    let mut end = 0;
    for (beyond, stop) in [(0, false), (1000, false), (0, true), (1000, true)] {
        for call in 0..3 {
            must_append(&*log, vec![append(ACTIONS_0, 100 - call, "v"), append(ACTIONS_0, 0, "v")]).await;
            end += 2;
        }
        log.trim(ACTIONS_0, end + beyond).await.expect("trimming should succeed");
        if stop {
            log = harness.reopen(log).await;
        }
        assert_eq!(log.bounds(ACTIONS_0).await.unwrap_or_default().end, end);
        assert_eq!(must_append(&*log, vec![append(ACTIONS_0, 7, "next")]).await, [end]);
        let next = must_read(&*log, ACTIONS_0, end, ALL).await;
        assert_eq!((values(&next), next[0].time), (vec!["next".to_owned()], LogTime(100)));
        end += 1;
    }
}
