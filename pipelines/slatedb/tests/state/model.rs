//! Any sequence of commits, reads and changes of owner, against a map.

use std::collections::BTreeMap;

use bytes::Bytes;
use millrace_pipelines::Error;
use millrace_pipelines::state::conformance::{OF, content};
use millrace_pipelines::state::{PartitionState, StateStore, StateWrite};
use millrace_slatedb::SlateOptions;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::places::Place;

/// What happens next to the partition.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<u16>)>),
    /// A former owner, if there is one, tries the same.
    ZombieCommit(Vec<(u8, Option<u16>)>),
    /// Another process takes it over; the former owner does not know.
    Move,
    /// The owner closes it, and another process opens it.
    CloseAndMove,
    /// The owner dies.
    DropAndMove,
    Get(u8),
    Scan(Option<u8>, usize),
    Peek(u8, usize),
}

fn writes() -> impl Strategy<Value = Vec<(u8, Option<u16>)>> {
    prop::collection::btree_map(0..40_u8, prop::option::weighted(0.8, any::<u16>()), 0..12)
        .prop_map(|writes| writes.into_iter().collect())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => writes().prop_map(Step::Commit),
        2 => writes().prop_map(Step::ZombieCommit),
        1 => Just(Step::Move),
        1 => Just(Step::CloseAndMove),
        1 => Just(Step::DropAndMove),
        3 => (0..40_u8).prop_map(Step::Get),
        2 => (prop::option::of(0..40_u8), 0..50_usize).prop_map(|(after, limit)| Step::Scan(after, limit)),
        1 => (0..40_u8, 0..50_usize).prop_map(|(after, limit)| Step::Peek(after, limit)),
    ]
}

fn key(key: u8) -> Bytes {
    Bytes::copy_from_slice(&[1, key])
}

/// Values long enough that some commits become tables.
fn value(of: u8, value: u16) -> Bytes {
    Bytes::from(format!("{of} {value} ").repeat(usize::from(value % 64) + 1))
}

fn as_writes(writes: &[(u8, Option<u16>)]) -> Vec<StateWrite> {
    writes.iter().map(|(k, v)| (key(*k), v.map(|v| value(*k, v)))).collect()
}

fn pairs(model: &BTreeMap<u8, u16>, after: Option<u8>, limit: usize) -> Vec<(Bytes, Bytes)> {
    let rest = model.iter().filter(|(k, _)| after.is_none_or(|after| **k > after));
    rest.take(limit).map(|(k, v)| (key(*k), value(*k, *v))).collect()
}

/// Tables and merges after a few commits, so that they happen within a case.
fn busy() -> SlateOptions {
    SlateOptions { commits_before_table: 3, memtable_bytes_max: 8 * 1024, ..SlateOptions::default() }
}

async fn check(place: Place, steps: Vec<Step>) -> std::result::Result<(), TestCaseError> {
    let processes = [place.store(busy()).await, place.store(busy()).await];
    let mut turn = 0;
    let mut model = BTreeMap::new();
    let mut offset = 0;
    let mut owner = processes[0].open(OF).await.unwrap();
    let mut zombie: Option<Box<dyn PartitionState>> = None;
    for step in steps {
        match step {
            Step::Commit(writes) => {
                offset += 1;
                owner.commit(as_writes(&writes), offset).await.unwrap();
                for (k, v) in writes {
                    match v {
                        Some(v) => model.insert(k, v),
                        None => model.remove(&k),
                    };
                }
            }
            Step::ZombieCommit(writes) => {
                if let Some(zombie) = &mut zombie {
                    let refused = zombie.commit(as_writes(&writes), 1_000_000).await;
                    prop_assert!(matches!(refused, Err(Error::Fenced(_))), "{refused:?}");
                }
            }
            Step::Move | Step::CloseAndMove | Step::DropAndMove => {
                turn += 1;
                if matches!(step, Step::CloseAndMove) {
                    owner.close().await.unwrap();
                } else if matches!(step, Step::DropAndMove) {
                    drop(owner);
                } else {
                    zombie = Some(owner);
                }
                owner = processes[turn % 2].open(OF).await.unwrap();
                prop_assert_eq!(owner.offset(), offset);
                prop_assert_eq!(content(&*owner, 7).unwrap(), pairs(&model, None, usize::MAX));
            }
            Step::Get(k) => {
                prop_assert_eq!(owner.get(&key(k)).unwrap(), model.get(&k).map(|v| value(k, *v)));
            }
            Step::Scan(after, limit) => {
                let bound = after.map(key);
                prop_assert_eq!(owner.scan(bound.as_deref(), limit).unwrap(), pairs(&model, after, limit));
            }
            Step::Peek(after, limit) => {
                turn += 1;
                let found = processes[turn % 2].peek(OF, &key(after), limit).await.unwrap();
                prop_assert_eq!(found, pairs(&model, Some(after), limit));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_memory_it_is_a_map(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(Place::memory(), steps))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_minio_it_is_a_map(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        if let Some(place) = Place::minio() {
            runtime.block_on(check(place, steps))?;
        }
    }
}
