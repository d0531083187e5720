//! The object store dies, hangs, or does not let us in. Each test has a MinIO of its own.

use std::time::Duration;

use millrace_engines::minio::{self, Minio};
use millrace_pipelines::Error;
use millrace_pipelines::state::conformance::{OF, get, put};
use millrace_pipelines::state::{PartitionState, StateStore};
use millrace_slatedb::{ErrorKind, SlateOptions, SlateStateStore};

fn start() -> Option<Minio> {
    let started = Minio::start();
    if started.is_none() {
        millrace_engines::skip("MinIO", minio::CURE);
    }
    started
}

/// Gives up soon, so that a test sees it.
fn hasty() -> SlateOptions {
    let soon = Duration::from_secs(4);
    SlateOptions { commit_timeout: soon, open_timeout: soon, read_timeout: soon, ..SlateOptions::default() }
}

async fn store(minio: &Minio, options: SlateOptions) -> SlateStateStore {
    SlateStateStore::open(&minio.url("failures"), options).await.unwrap()
}

/// Commits `offset` with a value that says it.
async fn commit(state: &mut Box<dyn PartitionState>, offset: u64) -> millrace_pipelines::Result<()> {
    state.commit(vec![put("a", &offset.to_string()), put(&format!("b{offset}"), "x")], offset).await
}

/// Opens it as soon as the object store answers again, and checks that state and offset are of one piece.
async fn reopen(store: &SlateStateStore, acknowledged: u64) -> Box<dyn PartitionState> {
    for _ in 0..20 {
        match store.open(OF).await {
            Ok(state) => {
                let offset = state.offset();
                assert!(offset >= acknowledged, "offset {offset}, but {acknowledged} was acknowledged");
                assert_eq!(get(&*state, "a").unwrap(), (offset > 0).then(|| offset.to_string()));
                for past in 1..=acknowledged {
                    assert_eq!(get(&*state, &format!("b{past}")).unwrap().as_deref(), Some("x"), "commit {past}");
                }
                assert_eq!(get(&*state, &format!("b{}", offset + 1)).unwrap(), None);
                return state;
            }
            Err(Error::State { .. }) => {}
            Err(error) => panic!("opening answered {error:?}"),
        }
    }
    panic!("the partition did not open again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill() {
    let Some(mut minio) = start() else { return };
    let store = store(&minio, hasty()).await;
    let mut acknowledged = 0;
    for round in 0..3 {
        let mut state = reopen(&store, acknowledged).await;
        let mut offset = state.offset();
        for _ in 0..5 {
            offset += 1;
            commit(&mut state, offset).await.unwrap();
        }
        acknowledged = offset;
        // One is on its way when it dies.
        let last = tokio::spawn(async move { commit(&mut state, offset + 1).await });
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        minio.kill();
        match last.await.unwrap() {
            Ok(()) => acknowledged += 1,
            Err(Error::State { .. }) => {}
            Err(error) => panic!("a commit without its object store answered {error:?}"),
        }
        minio.restart();
    }
    reopen(&store, acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_absence_only_delays_a_commit() {
    let Some(mut minio) = start() else { return };
    let store = store(&minio, SlateOptions::default()).await;
    let mut state = store.open(OF).await.unwrap();
    commit(&mut state, 1).await.unwrap();
    minio.kill();
    let waits = tokio::spawn(async move { (commit(&mut state, 2).await, state) });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waits.is_finished());
    minio.restart();
    let (answer, mut state) = waits.await.unwrap();
    answer.unwrap();
    commit(&mut state, 3).await.unwrap();
    drop(state);
    assert_eq!(reopen(&store, 3).await.offset(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_store_that_hangs_is_given_up_in_time() {
    let Some(minio) = start() else { return };
    let store = store(&minio, hasty()).await;
    let mut state = store.open(OF).await.unwrap();
    commit(&mut state, 1).await.unwrap();
    minio.suspend();
    let late = commit(&mut state, 2).await;
    assert!(matches!(late, Err(Error::State { .. })), "{late:?}");
    assert!(matches!(get(&*state, "a"), Err(Error::State { .. })), "nobody knows whether it happened");
    let refused = store.open(OF).await.err();
    assert!(matches!(refused, Some(Error::State { .. })), "{refused:?}");
    let refused = store.peek(OF, &[0], 1).await;
    assert!(matches!(refused, Err(Error::State { .. })), "{refused:?}");
    minio.resume();
    let mut state = reopen(&store, 1).await;
    let next = state.offset() + 1;
    commit(&mut state, next).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_outlives_an_absence_between_its_commits() {
    let Some(mut minio) = start() else { return };
    let often = Duration::from_millis(200);
    let store =
        store(&minio, SlateOptions { poll_every: often, compact_every: often, ..SlateOptions::default() }).await;
    let mut state = store.open(OF).await.unwrap();
    commit(&mut state, 1).await.unwrap();
    minio.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(get(&*state, "a").unwrap().as_deref(), Some("1"), "what is in memory is read without it");
    minio.restart();
    commit(&mut state, 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_or_bucket_is_told_at_once_and_not_repeated() {
    let Some(minio) = start() else { return };
    let url = minio.url("failures");
    for wrong in [url.replace(&minio.secret, "anotherSecret"), url.replace("@millrace-test/", "@no-such-bucket/")] {
        let refused = SlateStateStore::open(&wrong, SlateOptions::default()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Retry);
        let shown = format!("{refused} {refused:?}");
        assert!(!shown.contains(&minio.secret) && !shown.contains("anotherSecret"), "{shown}");
    }
    let store = SlateStateStore::open(&url, SlateOptions::default()).await.unwrap();
    let shown = format!("{store} {store:?}");
    assert!(shown.contains("s3://millrace-test/failures"), "{shown}");
    assert!(!shown.contains(&minio.secret) && !shown.contains(&minio.key), "{shown}");
}
