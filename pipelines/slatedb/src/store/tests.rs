use millrace_events::Topic;
use slatedb::object_store::memory::InMemory;

use super::*;

const OF: TopicPartition = TopicPartition::new(Topic::Actions, 0);

fn key(number: u32) -> Bytes {
    Bytes::from([&[1], number.to_be_bytes().as_slice()].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_keeps_its_bound() {
    const BOUND: u64 = 256 * 1024;
    const KEYS: u32 = 20_000;
    let options = SlateOptions { cache_bytes_max: BOUND, memtable_bytes_max: 1024 * 1024, ..SlateOptions::default() };
    let store = SlateStateStore::on(Arc::new(InMemory::new()), "cache", options).await.unwrap();
    let mut state = store.open(OF).await.unwrap();
    let value = |number: u32| Bytes::from(number.to_string().repeat(20));
    state.commit((0..KEYS).map(|n| (key(n), Some(value(n)))).collect(), 1).await.unwrap();
    state.close().await.unwrap();
    let state = store.open(OF).await.unwrap();
    for number in (0..KEYS).step_by(7) {
        assert_eq!(state.get(&key(number)).unwrap(), Some(value(number)));
    }
    let bytes = store.shared.cache.bytes();
    assert!(bytes > BOUND / 4, "{bytes} bytes: what was read is kept");
    assert!(bytes <= BOUND, "{bytes} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_larger_than_a_table_is_whole() {
    let options = SlateOptions { memtable_bytes_max: 64 * 1024, ..SlateOptions::default() };
    let store = SlateStateStore::on(Arc::new(InMemory::new()), "large", options).await.unwrap();
    let mut state = store.open(OF).await.unwrap();
    for round in 1..4_u8 {
        let writes = (0..20).map(|n| (key(n), Some(Bytes::from(vec![round; 100_000])))).collect();
        state.commit(writes, u64::from(round)).await.unwrap();
    }
    drop(state);
    let state = store.open(OF).await.unwrap();
    assert_eq!(state.offset(), 3);
    assert!(state.scan(None, 100).unwrap().iter().all(|(_, value)| value.iter().all(|byte| *byte == 3)));
    assert_eq!(state.scan(None, 100).unwrap().len(), 20);
}

#[tokio::test]
async fn jobs_read_on_a_thread_that_nobody_else_has() {
    let store = SlateStateStore::on(Arc::new(InMemory::new()), "thread", SlateOptions::default()).await.unwrap();
    let mut state = store.open(OF).await.unwrap();
    state.commit(vec![(key(1), Some("one".into()))], 1).await.unwrap();
    state.close().await.unwrap();
    // Cold, so that it waits for other threads on the only one of this runtime.
    let state = store.open(OF).await.unwrap();
    assert_eq!(state.get(&key(1)).unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(state.scan(None, 10).unwrap().len(), 1);
}
