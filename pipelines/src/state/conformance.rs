//! The laws of [`StateStore`], one function each, for any backend.
//!
//! A backend implements [`Harness`] and stamps every law as a test with [`state_conformance!`](crate::state_conformance). A
//! law panics where a backend breaks it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use millrace_events::{Topic, TopicPartition};

use super::{PartitionState, StateStore, StateWrite};
use crate::{Error, Result};

/// The partition that laws are about.
pub const OF: TopicPartition = TopicPartition::new(Topic::Actions, 1);

/// How a law gets a store.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new, empty store.
    async fn store(&self) -> Arc<dyn StateStore>;

    /// The same store after a stop. `store` is the only handle to it, and no partition of it is open.
    async fn reopen(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore>;
}

/// Stamps every law as a test of a backend, in a module of its name. Needs `tokio` with `macros` and `rt-multi-thread`. The
/// second argument makes a [`Harness`](crate::state::conformance::Harness), or `None` where there is no engine to test; it is
/// evaluated once per law.
#[macro_export]
macro_rules! state_conformance {
    ($backend:ident, $harness:expr) => {
        $crate::state_conformance!(
            $backend, $harness;
            a_new_partition_is_empty_and_at_its_beginning,
            a_commit_is_seen_at_once,
            a_commit_survives_its_owner,
            what_is_removed_is_gone,
            an_empty_value_is_a_value,
            an_empty_commit_moves_the_offset,
            an_offset_may_go_back,
            everything_survives_a_stop,
            a_dropped_owner_harms_nobody,
            a_closed_partition_opens_again,
            a_cancelled_commit_happens_wholly_or_not,
            a_newer_opening_fences_the_older,
            nothing_of_a_fenced_commit_is_seen,
            a_fenced_owner_reads_nothing_of_its_successor,
            every_earlier_opening_is_fenced,
            fencing_is_by_partition,
            pages_are_in_order_and_complete,
            a_scan_begins_after_its_bound,
            the_stores_own_keys_are_not_content,
            a_peek_is_beside_the_owner,
            a_peek_follows_a_new_owner,
            a_peek_at_nothing_finds_nothing,
            large_values_come_back,
            many_keys_come_back,
            partitions_do_not_mix,
        );
    };
    ($backend:ident, $harness:expr; $($law:ident),+ $(,)?) => {
        mod $backend {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $law() {
                    if let Some(harness) = $harness {
                        $crate::state::conformance::$law(&harness).await;
                    }
                }
            )+
        }
    };
}

/// Sets a key.
pub fn put(key: &str, value: &str) -> StateWrite {
    (table_key(key), Some(Bytes::copy_from_slice(value.as_bytes())))
}

/// Removes a key.
pub fn remove(key: &str) -> StateWrite {
    (table_key(key), None)
}

/// A key as jobs make them: a table, then the rest.
pub fn table_key(key: &str) -> Bytes {
    [&[1], key.as_bytes()].concat().into()
}

/// What is committed under a key, as text.
///
/// # Errors
/// As of [`PartitionState::get`].
pub fn get(state: &dyn PartitionState, key: &str) -> Result<Option<String>> {
    let value = state.get(&table_key(key))?;
    Ok(value.map(|value| String::from_utf8(value.to_vec()).expect("laws store text")))
}

/// All content, read in pages of `page`.
///
/// # Errors
/// As of [`PartitionState::scan`].
pub fn content(state: &dyn PartitionState, page: usize) -> Result<Vec<(Bytes, Bytes)>> {
    let mut all: Vec<(Bytes, Bytes)> = Vec::new();
    loop {
        let found = state.scan(all.last().map(|(key, _)| key.as_ref()), page)?;
        assert!(found.len() <= page, "a page of {page} has {} pairs", found.len());
        if found.is_empty() {
            return Ok(all);
        }
        all.extend(found);
    }
}

async fn open(store: &Arc<dyn StateStore>) -> Box<dyn PartitionState> {
    store.open(OF).await.expect("a partition opens")
}

fn value_of(state: &dyn PartitionState, key: &str) -> Option<String> {
    get(state, key).expect("an owner reads")
}

async fn commit(state: &mut Box<dyn PartitionState>, writes: Vec<StateWrite>, offset: u64) {
    state.commit(writes, offset).await.expect("an owner commits");
    assert_eq!(state.offset(), offset);
}

async fn peek(store: &Arc<dyn StateStore>, after: &[u8], limit: usize) -> Vec<(Bytes, Bytes)> {
    store.peek(OF, after, limit).await.expect("what is committed can be looked at")
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(Bytes, Bytes)> {
    expected.iter().map(|(key, value)| (table_key(key), Bytes::copy_from_slice(value.as_bytes()))).collect()
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn a_new_partition_is_empty_and_at_its_beginning(harness: &dyn Harness) {
    let store = harness.store().await;
    let state = open(&store).await;
    assert_eq!(state.offset(), 0);
    assert_eq!(value_of(&*state, "a"), None);
    assert_eq!(content(&*state, 10).unwrap_or_default(), []);
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn a_commit_is_seen_at_once(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut state = open(&store).await;
    commit(&mut state, vec![put("a", "1"), put("b", "2")], 5).await;
    assert_eq!(value_of(&*state, "a").as_deref(), Some("1"));
    commit(&mut state, vec![put("a", "3")], 6).await;
    assert_eq!(value_of(&*state, "a").as_deref(), Some("3"));
    assert_eq!(value_of(&*state, "b").as_deref(), Some("2"));
    assert_eq!(content(&*state, 10).expect("an owner reads"), pairs(&[("a", "3"), ("b", "2")]));
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn a_commit_survives_its_owner(harness: &dyn Harness) {
    let store = harness.store().await;
    for round in 1..5_u64 {
        let mut state = open(&store).await;
        assert_eq!(state.offset(), (round - 1) * 10);
        let last = value_of(&*state, "a");
        assert_eq!(last, (round > 1).then(|| format!("{}", round - 1)));
        commit(&mut state, vec![put("a", &round.to_string()), put(&format!("b{round}"), "x")], round * 10).await;
    }
    let state = open(&store).await;
    assert_eq!(state.offset(), 40);
    assert_eq!(content(&*state, 2).expect("an owner reads").len(), 5);
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn what_is_removed_is_gone(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut state = open(&store).await;
    commit(&mut state, vec![put("a", "1"), put("b", "2"), put("c", "3")], 1).await;
    commit(&mut state, vec![remove("b"), remove("never there")], 2).await;
    assert_eq!(value_of(&*state, "b"), None);
    let expected = pairs(&[("a", "1"), ("c", "3")]);
    assert_eq!(content(&*state, 1).expect("an owner reads"), expected);
    let mut state = open(&store).await;
    assert_eq!(value_of(&*state, "b"), None);
    assert_eq!(content(&*state, 10).expect("an owner reads"), expected);
    commit(&mut state, vec![put("b", "again")], 3).await;
    assert_eq!(value_of(&*state, "b").as_deref(), Some("again"));
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn an_empty_value_is_a_value(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut state = open(&store).await;
    commit(&mut state, vec![put("a", "")], 1).await;
    assert_eq!(value_of(&*state, "a").as_deref(), Some(""));
    let state = open(&store).await;
    assert_eq!(value_of(&*state, "a").as_deref(), Some(""));
    assert_eq!(content(&*state, 10).expect("an owner reads"), pairs(&[("a", "")]));
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn an_empty_commit_moves_the_offset(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut state = open(&store).await;
    commit(&mut state, Vec::new(), 7).await;
    assert_eq!(open(&store).await.offset(), 7);
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn an_offset_may_go_back(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut state = open(&store).await;
    commit(&mut state, Vec::new(), u64::MAX).await;
    commit(&mut state, Vec::new(), 3).await;
    assert_eq!(open(&store).await.offset(), 3);
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn everything_survives_a_stop(harness: &dyn Harness) {
    let mut store = harness.store().await;
    let mut expected = Vec::new();
    for round in 0..3_u64 {
        let mut state = open(&store).await;
        assert_eq!(state.offset(), round);
        assert_eq!(content(&*state, 10).expect("an owner reads"), expected);
        let (key, value) = (format!("key {round}"), format!("value {round}"));
        commit(&mut state, vec![put(&key, &value)], round + 1).await;
        expected.extend(pairs(&[(&key, &value)]));
        state.close().await.expect("a partition closes");
        store = harness.reopen(store).await;
    }
    let state = open(&store).await;
    assert_eq!(content(&*state, 10).expect("an owner reads"), expected);
    assert_eq!(peek(&store, &[0], 10).await, expected);
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn a_dropped_owner_harms_nobody(harness: &dyn Harness) {
    let store = harness.store().await;
    for round in 1..4_u64 {
        let mut state = open(&store).await;
        commit(&mut state, vec![put("a", &round.to_string())], round).await;
        drop(state);
        let state = open(&store).await;
        assert_eq!(state.offset(), round);
        assert_eq!(value_of(&*state, "a"), Some(round.to_string()));
    }
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn a_closed_partition_opens_again(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut state = open(&store).await;
    commit(&mut state, vec![put("a", "1")], 1).await;
    state.close().await.expect("a partition closes");
    let mut state = open(&store).await;
    assert_eq!((state.offset(), value_of(&*state, "a").as_deref()), (1, Some("1")));
    commit(&mut state, vec![put("a", "2")], 2).await;
    state.close().await.expect("a partition closes");
    assert_eq!(peek(&store, &[0], 10).await, pairs(&[("a", "2")]));
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn a_cancelled_commit_happens_wholly_or_not(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut state = open(&store).await;
    commit(&mut state, vec![put("a", "old"), put("b", "old")], 1).await;
    // One step of it, then nobody waits any more.
    let begun = state.commit(vec![put("a", "new"), put("b", "new")], 2).now_or_never();
    drop(state);
    let state = open(&store).await;
    let expected = match (begun, state.offset()) {
        (_, 2) => pairs(&[("a", "new"), ("b", "new")]),
        (None | Some(Err(_)), 1) => pairs(&[("a", "old"), ("b", "old")]),
        (begun, offset) => panic!("the commit answered {begun:?}, and the offset is {offset}"),
    };
    assert_eq!(content(&*state, 10).expect("an owner reads"), expected);
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn a_newer_opening_fences_the_older(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut older = open(&store).await;
    commit(&mut older, vec![put("a", "1")], 1).await;
    let mut newer = open(&store).await;
    assert_eq!(newer.offset(), 1);
    for _ in 0..2 {
        let refused = older.commit(vec![put("a", "zombie")], 2).await;
        assert!(matches!(refused, Err(Error::Fenced(OF))), "the older commit answered {refused:?}");
    }
    commit(&mut newer, vec![put("a", "2")], 2).await;
    assert_eq!(value_of(&*newer, "a").as_deref(), Some("2"));
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn nothing_of_a_fenced_commit_is_seen(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut older = open(&store).await;
    commit(&mut older, vec![put("a", "1")], 1).await;
    let mut newer = open(&store).await;
    let refused = older.commit(vec![put("a", "zombie"), put("z", "zombie")], 9).await;
    assert!(matches!(refused, Err(Error::Fenced(OF))), "the older commit answered {refused:?}");
    let expected = pairs(&[("a", "1")]);
    assert_eq!(content(&*newer, 10).expect("an owner reads"), expected);
    assert_eq!(peek(&store, &[0], 10).await, expected);
    commit(&mut newer, vec![put("b", "2")], 2).await;
    drop((older, newer));
    let third = open(&store).await;
    assert_eq!(third.offset(), 2);
    assert_eq!(content(&*third, 10).expect("an owner reads"), pairs(&[("a", "1"), ("b", "2")]));
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn a_fenced_owner_reads_nothing_of_its_successor(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut older = open(&store).await;
    commit(&mut older, vec![put("a", "1"), put("b", "1")], 1).await;
    let mut newer = open(&store).await;
    commit(&mut newer, vec![put("a", "2"), remove("b"), put("c", "2")], 2).await;
    let before = pairs(&[("a", "1"), ("b", "1")]);
    // Before and after it has learnt of its successor by a commit of its own.
    for _ in 0..2 {
        for (key, value) in [("a", Some("1")), ("b", Some("1")), ("c", None)] {
            match get(&*older, key) {
                Err(Error::Fenced(OF)) => {}
                Ok(found) => assert_eq!(found.as_deref(), value, "{key} of the older owner"),
                Err(error) => panic!("the older owner's read answered {error:?}"),
            }
        }
        match content(&*older, 10) {
            Err(Error::Fenced(OF)) => {}
            Ok(found) => assert_eq!(found, before),
            Err(error) => panic!("the older owner's scan answered {error:?}"),
        }
        let refused = older.commit(Vec::new(), 3).await;
        assert!(matches!(refused, Err(Error::Fenced(OF))), "the older commit answered {refused:?}");
    }
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn every_earlier_opening_is_fenced(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut earlier = Vec::new();
    for _ in 0..3 {
        earlier.push(open(&store).await);
    }
    let mut newest = open(&store).await;
    commit(&mut newest, vec![put("a", "newest")], 4).await;
    for state in &mut earlier {
        let refused = state.commit(vec![put("a", "zombie")], 1).await;
        assert!(matches!(refused, Err(Error::Fenced(OF))), "an earlier commit answered {refused:?}");
    }
    assert_eq!(value_of(&*newest, "a").as_deref(), Some("newest"));
    commit(&mut newest, Vec::new(), 5).await;
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn fencing_is_by_partition(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut state = open(&store).await;
    for other in [TopicPartition::new(OF.topic, 2), TopicPartition::new(Topic::UserEvents, OF.partition)] {
        store.open(other).await.expect("a partition opens");
    }
    commit(&mut state, vec![put("a", "1")], 1).await;
    assert_eq!(value_of(&*state, "a").as_deref(), Some("1"));
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn pages_are_in_order_and_complete(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut state = open(&store).await;
    let keys: Vec<String> = (0..100_u32).map(|n| format!("{:02}", n * 37 % 100)).collect();
    for (nth, some) in keys.chunks(9).enumerate() {
        let writes = some.iter().map(|key| put(key, &format!("value of {key}"))).collect();
        commit(&mut state, writes, nth as u64).await;
    }
    let expected: Vec<_> = (0..100).flat_map(|n| pairs(&[(&format!("{n:02}"), &format!("value of {n:02}"))])).collect();
    for page in [1, 7, 99, 100, 1000] {
        assert_eq!(content(&*state, page).expect("an owner reads"), expected, "in pages of {page}");
    }
    assert_eq!(state.scan(None, 0).expect("an owner reads"), []);
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn a_scan_begins_after_its_bound(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut state = open(&store).await;
    commit(&mut state, vec![put("a", "1"), put("ab", "2"), put("b", "3")], 1).await;
    for (after, expected) in [
        (&b"\x01"[..], &[("a", "1"), ("ab", "2"), ("b", "3")][..]),
        (b"\x01a", &[("ab", "2"), ("b", "3")]),
        (b"\x01aa", &[("ab", "2"), ("b", "3")]),
        (b"\x01ab", &[("b", "3")]),
        (b"\x01b", &[]),
        (b"\xff\xff", &[]),
    ] {
        assert_eq!(state.scan(Some(after), 10).expect("an owner reads"), pairs(expected), "after {after:?}");
        assert_eq!(peek(&store, after, 10).await, pairs(expected), "beside it, after {after:?}");
    }
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn the_stores_own_keys_are_not_content(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut state = open(&store).await;
    commit(&mut state, Vec::new(), 1).await;
    for after in [None, Some(&b""[..]), Some(&b"\0"[..])] {
        assert_eq!(state.scan(after, 10).expect("an owner reads"), [], "after {after:?}");
        assert_eq!(peek(&store, after.unwrap_or_default(), 10).await, [], "beside it, after {after:?}");
    }
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn a_peek_is_beside_the_owner(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut state = open(&store).await;
    for round in 1..5_u64 {
        commit(&mut state, vec![put("a", &round.to_string()), put("b", "x")], round).await;
        assert_eq!(peek(&store, &[0], 10).await, pairs(&[("a", &round.to_string()), ("b", "x")]));
        assert_eq!(peek(&store, &[0], 1).await.len(), 1);
    }
    commit(&mut state, vec![remove("a")], 5).await;
    assert_eq!(peek(&store, &[0], 10).await, pairs(&[("b", "x")]));
    assert_eq!(value_of(&*state, "b").as_deref(), Some("x"));
    drop(state);
    assert_eq!(peek(&store, &[0], 10).await, pairs(&[("b", "x")]));
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn a_peek_follows_a_new_owner(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut older = open(&store).await;
    commit(&mut older, vec![put("a", "1")], 1).await;
    let mut newer = open(&store).await;
    commit(&mut newer, vec![put("a", "2")], 2).await;
    // Wherever it is asked: where a store has a view of its own, the one of the older owner may be asked first.
    for _ in 0..3 {
        assert_eq!(peek(&store, &[0], 10).await, pairs(&[("a", "2")]));
    }
    drop(older);
    assert_eq!(peek(&store, &[0], 10).await, pairs(&[("a", "2")]));
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn a_peek_at_nothing_finds_nothing(harness: &dyn Harness) {
    let store = harness.store().await;
    assert_eq!(peek(&store, &[0], 10).await, []);
    let state = open(&store).await;
    assert_eq!(peek(&store, &[0], 10).await, []);
    assert_eq!(state.offset(), 0);
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn large_values_come_back(harness: &dyn Harness) {
    let store = harness.store().await;
    let mut state = open(&store).await;
    let large = |n: u8| Bytes::from((0..1 << 20).map(|at| (at % 251) as u8 ^ n).collect::<Vec<_>>());
    let key = |n: u8| Bytes::copy_from_slice(&[1, n]);
    commit(&mut state, (0..6).map(|n| (key(n), Some(large(n)))).collect(), 1).await;
    let state_again = open(&store).await;
    for n in 0..6 {
        assert_eq!(state_again.get(&key(n)).expect("an owner reads"), Some(large(n)), "value {n}");
    }
    let found = state_again.scan(Some(&key(2)), 2).expect("an owner reads");
    assert_eq!(found, [(key(3), large(3)), (key(4), large(4))]);
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn many_keys_come_back(harness: &dyn Harness) {
    const KEYS: u32 = 20_000;
    let store = harness.store().await;
    let mut state = open(&store).await;
    let key = |n: u32| Bytes::from([&[2], n.to_be_bytes().as_slice()].concat());
    let value = |n: u32| Bytes::from(format!("the value of {n}"));
    for round in 0..4 {
        let writes = (0..KEYS).filter(|n| n % 4 == round).map(|n| (key(n), Some(value(n)))).collect();
        commit(&mut state, writes, u64::from(round)).await;
    }
    let state = open(&store).await;
    for n in (0..KEYS).step_by(997) {
        assert_eq!(state.get(&key(n)).expect("an owner reads"), Some(value(n)));
    }
    let all = content(&*state, 999).expect("an owner reads");
    assert!(all.iter().eq((0..KEYS).map(|n| (key(n), value(n))).collect::<Vec<_>>().iter()), "{} keys", all.len());
}

/// See [`state_conformance!`](crate::state_conformance).
pub async fn partitions_do_not_mix(harness: &dyn Harness) {
    let store = harness.store().await;
    let partitions = [
        OF,
        TopicPartition::new(OF.topic, 11),
        TopicPartition::new(OF.topic, 0),
        TopicPartition::new(Topic::UserEvents, OF.partition),
    ];
    for (nth, of) in (1_u64..).zip(partitions) {
        let mut state = store.open(of).await.expect("a partition opens");
        commit(&mut state, vec![put("same", &of.to_string())], nth).await;
    }
    for (nth, of) in (1_u64..).zip(partitions) {
        let state = store.open(of).await.expect("a partition opens");
        assert_eq!(state.offset(), nth);
        assert_eq!(value_of(&*state, "same"), Some(of.to_string()));
        let found = store.peek(of, &[0], 10).await.expect("what is committed can be looked at");
        assert_eq!(found, pairs(&[("same", &of.to_string())]));
    }
}
