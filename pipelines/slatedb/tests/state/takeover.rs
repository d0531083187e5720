//! A partition moves, and whoever had it does not know.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use millrace_pipelines::Error;
use millrace_pipelines::state::StateStore;
use millrace_pipelines::state::conformance::{OF, content, get, put, table_key};
use millrace_slatedb::object_store::ObjectStore;
use millrace_slatedb::object_store::memory::InMemory;
use millrace_slatedb::{ErrorKind, SlateOptions, SlateStateStore};

use crate::places::{Place, client};
use crate::watched::Watched;

async fn on(store: Arc<dyn ObjectStore>, options: SlateOptions) -> SlateStateStore {
    SlateStateStore::on(store, "takeover", options).await.unwrap()
}

/// The old owner's commit is on its way when the new owner opens the partition, and arrives later.
async fn a_commit_that_arrives_late_is_fenced(store: Arc<dyn ObjectStore>) {
    let slow = Watched::new(store.clone());
    let old_process = on(slow.clone(), SlateOptions::default()).await;
    let new_process = on(store.clone(), SlateOptions::default()).await;
    let mut old = old_process.open(OF).await.unwrap();
    old.commit(vec![put("a", "1"), put("b", "1")], 1).await.unwrap();

    slow.hold(true);
    let late = tokio::spawn(async move {
        let answer = old.commit(vec![put("a", "zombie"), put("z", "zombie")], 2).await;
        (answer, old)
    });
    slow.held(1).await;
    let mut new = new_process.open(OF).await.unwrap();
    assert_eq!(new.offset(), 1);
    assert_eq!(get(&*new, "a").unwrap().as_deref(), Some("1"));
    new.commit(vec![put("a", "2")], 2).await.unwrap();
    slow.hold(false);

    let (answer, mut old) = late.await.unwrap();
    assert!(matches!(answer, Err(Error::Fenced(OF))), "{answer:?}");
    for _ in 0..3 {
        let again = old.commit(vec![put("a", "zombie")], 3).await;
        assert!(matches!(again, Err(Error::Fenced(OF))), "{again:?}");
    }
    new.commit(vec![put("c", "3")], 3).await.unwrap();
    let expected = [("a", "2"), ("b", "1"), ("c", "3")];
    let expected = expected.map(|(key, value)| (table_key(key), value.into()));
    assert_eq!(content(&*new, 10).unwrap(), expected);
    assert_eq!(old_process.peek(OF, &[0], 10).await.unwrap(), expected);
    drop((old, new));
    let third = old_process.open(OF).await.unwrap();
    assert_eq!((third.offset(), content(&*third, 10).unwrap()), (3, expected.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_arrives_late_is_fenced_in_memory() {
    a_commit_that_arrives_late_is_fenced(Arc::new(InMemory::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_arrives_late_is_fenced_on_minio() {
    if let Some(store) = client() {
        a_commit_that_arrives_late_is_fenced(store).await;
    }
}

/// A former owner sleeps so long that everything of its time was merged and removed before it goes on.
async fn a_zombie_that_sleeps_past_the_cleaning_is_fenced(store: Arc<dyn ObjectStore>) {
    let often = Duration::from_millis(20);
    let tidy = SlateOptions {
        commits_before_table: 2,
        poll_every: often,
        compact_every: often,
        collect_every: often,
        collect_age_min: Duration::ZERO,
        ..SlateOptions::default()
    };
    // It does not even look whether it still is the owner.
    let never = Duration::from_secs(3_600);
    let asleep =
        SlateOptions { poll_every: never, compact_every: never, collect_every: never, ..SlateOptions::default() };
    let slow = Watched::new(store.clone());
    let old_process = on(slow.clone(), asleep).await;
    let mut old = old_process.open(OF).await.unwrap();
    old.commit(vec![put("a", "1")], 1).await.unwrap();
    slow.hold(true);
    let late = tokio::spawn(async move {
        let answer = old.commit(vec![put("a", "zombie")], 2).await;
        (answer, old)
    });
    slow.held(1).await;

    let new_process = on(store.clone(), tidy).await;
    let mut new = new_process.open(OF).await.unwrap();
    let mut commits: u64 = 1;
    loop {
        commits += 1;
        new.commit(vec![put("a", &commits.to_string())], commits).await.unwrap();
        tokio::time::sleep(often).await;
        let logged = store.list(Some(&"takeover/state/0/actions/1/wal".into()));
        let logged = logged.try_filter(|object| std::future::ready(object.size > 0)).count().await as u64;
        if commits > 20 && logged < commits / 2 {
            break;
        }
        assert!(commits < 500, "nothing was removed: {logged} objects of {commits} commits");
    }
    slow.hold(false);
    let (answer, mut old) = late.await.unwrap();
    assert!(matches!(answer, Err(Error::Fenced(OF))), "{answer:?}");
    let again = old.commit(vec![put("a", "zombie")], 3).await;
    assert!(matches!(again, Err(Error::Fenced(OF))), "{again:?}");
    match get(&*old, "a") {
        Err(Error::Fenced(OF)) => {}
        Ok(found) => assert_eq!(found.as_deref(), Some("1")),
        Err(error) => panic!("the older owner's read answered {error:?}"),
    }
    drop((old, new));
    let third = old_process.open(OF).await.unwrap();
    assert_eq!((third.offset(), get(&*third, "a").unwrap()), (commits, Some(commits.to_string())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_that_sleeps_past_the_cleaning_is_fenced_in_memory() {
    a_zombie_that_sleeps_past_the_cleaning_is_fenced(Arc::new(InMemory::new())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_that_sleeps_past_the_cleaning_is_fenced_on_minio() {
    if let Some(store) = client() {
        a_zombie_that_sleeps_past_the_cleaning_is_fenced(store).await;
    }
}

/// The opening is on its way when the old owner commits once more: the new owner goes on from that commit or it is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_during_an_opening_counts_wholly_or_not() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for round in 0..20_u64 {
        let (one, other) =
            (on(store.clone(), SlateOptions::default()).await, on(store.clone(), SlateOptions::default()).await);
        let mut old = one.open(OF).await.unwrap();
        let before = old.offset();
        old.commit(vec![put("a", &(before + 1).to_string())], before + 1).await.unwrap();
        let writes = vec![put("a", &(before + 2).to_string())];
        let last = async move { (old.commit(writes, before + 2).await, old) };
        let ((answer, _old), new) = futures::join!(last, other.open(OF));
        let new = new.unwrap();
        match answer {
            Ok(()) => assert_eq!(new.offset(), before + 2, "round {round}"),
            Err(Error::Fenced(OF)) => assert_eq!(new.offset(), before + 1, "round {round}"),
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(get(&*new, "a").unwrap(), Some(new.offset().to_string()));
    }
}

/// Polls and looks for work every few milliseconds, so that a test sees what goes on.
fn restless() -> SlateOptions {
    let often = Duration::from_millis(10);
    SlateOptions { poll_every: often, compact_every: often, collect_every: often, ..SlateOptions::default() }
}

/// Waits until the number of requests stays the same for a while.
async fn falls_silent(watched: &Watched) -> bool {
    for _ in 0..50 {
        let before = watched.requests();
        tokio::time::sleep(Duration::from_millis(200)).await;
        if watched.requests() == before {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_ended_asks_nothing_any_more() {
    let watched = Watched::new(Arc::new(InMemory::new()));
    let store = on(watched.clone(), restless()).await;
    let mut state = store.open(OF).await.unwrap();
    state.commit(vec![put("a", "1")], 1).await.unwrap();
    let before = watched.requests();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_ne!(watched.requests(), before, "it polls while it is open");
    drop(state);
    assert!(falls_silent(&watched).await, "after a drop");
    let state = store.open(OF).await.unwrap();
    state.close().await.unwrap();
    assert!(falls_silent(&watched).await, "after a close");
    assert_eq!(store.peek(OF, &[0], 10).await.unwrap().len(), 1);
    assert!(falls_silent(&watched).await, "after a look from outside");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opening_that_was_given_up_leaves_nothing_behind() {
    let watched = Watched::new(Arc::new(InMemory::new()));
    let store = on(watched.clone(), SlateOptions { open_timeout: Duration::from_secs(1), ..restless() }).await;
    let mut owner = store.open(OF).await.unwrap();
    owner.commit(vec![put("a", "1")], 1).await.unwrap();
    watched.hold(true);
    let refused = store.open(OF).await;
    assert!(matches!(refused, Err(Error::State { .. })), "{:?}", refused.err());
    watched.hold(false);
    drop(owner);
    assert!(falls_silent(&watched).await);
    assert_eq!(store.open(OF).await.unwrap().offset(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_leaves_its_owner_in_doubt() {
    let watched = Watched::new(Arc::new(InMemory::new()));
    let store =
        on(watched.clone(), SlateOptions { commit_timeout: Duration::from_millis(300), ..SlateOptions::default() })
            .await;
    let mut state = store.open(OF).await.unwrap();
    state.commit(vec![put("a", "1")], 1).await.unwrap();
    watched.hold(true);
    let late = state.commit(vec![put("a", "2")], 2).await;
    assert!(matches!(late, Err(Error::State { attempted: "commit", .. })), "{late:?}");
    for refused in [get(&*state, "a").err(), content(&*state, 10).err(), state.commit(Vec::new(), 3).await.err()] {
        assert!(matches!(refused, Some(Error::State { .. })), "{refused:?}");
    }
    assert_eq!(state.offset(), 1);
    watched.hold(false);
    let state = store.open(OF).await.unwrap();
    assert_eq!(get(&*state, "a").unwrap(), Some(state.offset().to_string()), "wholly or not at all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_values_that_cannot_be_are_refused() {
    let store = Place::memory().store(SlateOptions::default()).await;
    let mut state = store.open(OF).await.unwrap();
    for key in [vec![], vec![0], vec![1; 65_536]] {
        let refused = state.commit(vec![(key.into(), Some("x".into()))], 1).await;
        assert!(matches!(refused, Err(Error::State { .. })), "{refused:?}");
    }
    // Nothing was begun, so nothing is in doubt.
    state.commit(vec![(vec![1; 65_535].into(), Some("x".into()))], 1).await.unwrap();
}

#[tokio::test]
async fn options_that_do_nothing_are_refused() {
    for (wrong, name) in [
        (SlateOptions { threads: 0, ..SlateOptions::default() }, "threads"),
        (SlateOptions { poll_every: Duration::ZERO, ..SlateOptions::default() }, "poll_every"),
        (SlateOptions { memtable_bytes_max: 0, ..SlateOptions::default() }, "memtable_bytes_max"),
    ] {
        let refused = SlateStateStore::on(Arc::new(InMemory::new()), "takeover", wrong).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.to_string().contains(name), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_follows_one_log_and_one_format() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    on(store.clone(), SlateOptions::default()).await.follow("kafka a/x").await.unwrap();
    let again = on(store.clone(), SlateOptions::default()).await;
    again.follow("kafka a/x").await.unwrap();
    assert_eq!(again.follow("embedded").await.unwrap_err().kind(), ErrorKind::Refused);
    // Another generation begins anew.
    let next = on(store.clone(), SlateOptions { generation: 1, ..SlateOptions::default() }).await;
    next.follow("embedded").await.unwrap();
    let mut state = again.open(OF).await.unwrap();
    state.commit(Vec::new(), 5).await.unwrap();
    assert_eq!(next.open(OF).await.unwrap().offset(), 0);
    // A newer version came by: neither a new process nor one that runs takes anything over.
    let format = "takeover/state/0/format".into();
    store.put_opts(&format, (millrace_slatedb::FORMAT + 1).to_string().into(), Default::default()).await.unwrap();
    let refused = SlateStateStore::on(store, "takeover", SlateOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    let refused = again.open(OF).await.err().map(|error| with_causes(&error));
    assert!(refused.as_deref().is_some_and(|error| error.contains("upgrade")), "{refused:?}");
}

/// An error with its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
