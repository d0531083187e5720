use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use millrace_events::ActionKind;
use millrace_feature_store::online::Content;
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::views::{BLOCKED, BLOCKED_BY, FOLLOWING, MUTED, REACTIONS, reaction_member};
use millrace_feature_store::{ListItem, ListKey, OnlineStore, OnlineWrite, RecordKey};

use super::world::{HOUR_US, NOW_US, World, ids};
use crate::{ErrorKind, HomeQuery, Ranker, RankerOptions};

/// Posts of three authors, all of them new to everybody.
async fn three_authors() -> World {
    let mut world = World::new().await;
    for (nth, author) in ["bob", "cid", "dan"].into_iter().enumerate() {
        let (id, at) = (format!("p-{author}"), NOW_US - (nth as i64 + 1) * HOUR_US);
        world.post(author, &id, at).await;
        world.fresh(&id, at).await;
    }
    world
}

/// What each of these viewers is served.
#[track_caller]
fn assert_served(served: &[(&str, Vec<String>)], expected: &[&str]) {
    for (viewer, posts) in served {
        assert_eq!(posts, expected, "{viewer}");
    }
}

async fn served<'a>(world: &World, viewers: &[&'a str]) -> Vec<(&'a str, Vec<String>)> {
    let mut all = Vec::new();
    for viewer in viewers {
        let slate = world.home(viewer, 10, None).await;
        all.push((*viewer, ids(&slate).into_iter().map(str::to_owned).collect()));
    }
    all
}

#[tokio::test]
async fn what_a_visitor_saw_and_hid_is_not_served_to_whom_they_became() {
    let mut world = three_authors().await;
    world.seen("visitor", "p-bob", false).await;
    world.seen("phone", "p-cid", true).await;
    assert_served(&served(&world, &["ann"]).await, &["p-bob", "p-cid", "p-dan"]);
    world.link("visitor", "ann", NOW_US).await;
    world.link("phone", "ann", NOW_US).await;
    assert_served(&served(&world, &["ann", "visitor", "phone"]).await, &["p-dan"]);
    let slate = world.home("ann", 10, None).await;
    let filtered: Vec<_> = slate.explain.unwrap().filtered.iter().map(|f| (f.post_id.clone(), f.filter)).collect();
    assert_eq!(filtered, [("p-bob".to_owned(), "seen"), ("p-cid".to_owned(), "hidden")]);
}

#[tokio::test]
async fn a_second_person_on_a_device_does_not_get_its_past() {
    let mut world = three_authors().await;
    world.seen("device", "p-bob", false).await;
    world.link("device", "ann", NOW_US - HOUR_US).await;
    world.claim("device", "eve", NOW_US).await;
    assert_served(&served(&world, &["ann", "device"]).await, &["p-cid", "p-dan"]);
    assert_served(&served(&world, &["eve"]).await, &["p-bob", "p-cid", "p-dan"]);
}

#[tokio::test]
async fn nobody_is_served_what_they_wrote_under_another_id() {
    let mut world = three_authors().await;
    world.link("bob", "bob@new", NOW_US).await;
    assert_served(&served(&world, &["bob@new", "bob"]).await, &["p-cid", "p-dan"]);
}

#[tokio::test]
async fn whom_one_id_blocks_mutes_or_is_blocked_by_no_id_sees() {
    for view in [BLOCKED, BLOCKED_BY, MUTED] {
        let mut world = three_authors().await;
        world.link("visitor", "ann", NOW_US).await;
        world.insert(view, "visitor", "bob", NOW_US - HOUR_US).await;
        assert_served(&served(&world, &["ann", "visitor"]).await, &["p-cid", "p-dan"]);
        // Lifted earlier by another id: it holds. Lifted at that time or later: it does not.
        world.undo(view, "ann", "bob", NOW_US - 2 * HOUR_US).await;
        assert_served(&served(&world, &["ann", "visitor"]).await, &["p-cid", "p-dan"]);
        world.undo(view, "ann", "bob", NOW_US - HOUR_US).await;
        assert_served(&served(&world, &["ann", "visitor"]).await, &["p-bob", "p-cid", "p-dan"]);
    }
}

/// Whom `viewer` follows, by the posts that are there for that.
async fn follows(world: &World, viewer: &str) -> Vec<String> {
    let slate = world.home(viewer, 10, None).await;
    slate.items.into_iter().filter(|item| item.reason == "follows").map(|item| item.author_id).collect()
}

#[tokio::test]
async fn follows_are_those_of_all_ids_unless_another_id_took_them_back() {
    let mut world = three_authors().await;
    world.link("visitor", "ann", NOW_US).await;
    world.insert(FOLLOWING, "visitor", "bob", 10).await;
    world.insert(FOLLOWING, "ann", "cid", 20).await;
    assert_eq!(follows(&world, "ann").await, ["bob", "cid"]);
    assert_eq!(follows(&world, "visitor").await, ["bob", "cid"]);
    // What an id took back before it took effect again, only its own list knows.
    world.undo(FOLLOWING, "ann", "cid", 30).await;
    assert_eq!(follows(&world, "ann").await, ["bob", "cid"]);
    world.undo(FOLLOWING, "ann", "bob", 9).await;
    assert_eq!(follows(&world, "ann").await, ["bob", "cid"]);
    world.undo(FOLLOWING, "ann", "bob", 11).await;
    assert_eq!(follows(&world, "ann").await, ["cid"]);
    assert_eq!(follows(&world, "visitor").await, ["cid"]);
    // And who follows again does.
    world.insert(FOLLOWING, "ann", "bob", 12).await;
    assert_eq!(follows(&world, "visitor").await, ["bob", "cid"]);
}

/// The affinity of `viewer` to bob.
async fn affinity(world: &World, viewer: &str) -> f64 {
    let explain = world.home(viewer, 10, None).await.explain.unwrap();
    explain.scores.iter().find(|score| score.post_id == "p-bob").unwrap().parts.affinity
}

#[tokio::test]
async fn reactions_of_all_ids_count_and_one_takes_back_what_another_did() {
    let mut world = three_authors().await;
    world.record("bob", "b2", NOW_US, false).await;
    world.record("bob", "b3", NOW_US, false).await;
    world.link("visitor", "ann", NOW_US).await;
    world.react("ann", ActionKind::PostLiked, "b2").await;
    let one = affinity(&world, "ann").await;
    assert!(one > 0.0);
    world.react("visitor", ActionKind::PostLiked, "b3").await;
    let two = affinity(&world, "ann").await;
    assert!(two > one);
    assert_eq!(affinity(&world, "visitor").await, two);
    world.react("visitor", ActionKind::PostLiked, "b2").await;
    assert_eq!(affinity(&world, "ann").await, two, "a like of one post by two ids is one like");
    let unliked = reaction_member(ActionKind::PostUnliked, "b3");
    world.insert(REACTIONS, "ann", unliked.clone(), NOW_US - 1).await;
    assert_eq!(affinity(&world, "ann").await, two, "it was liked after it was unliked");
    world.insert(REACTIONS, "ann", unliked, NOW_US).await;
    assert_eq!(affinity(&world, "ann").await, one);
    assert_eq!(affinity(&world, "visitor").await, one);
}

#[tokio::test]
async fn later_pages_know_all_ids_too() {
    let mut world = three_authors().await;
    world.link("visitor", "ann", NOW_US).await;
    let first = world.home("ann", 1, None).await;
    world.seen("visitor", "p-cid", false).await;
    let second = world.home("ann", 10, first.next_cursor).await;
    assert_eq!(ids(&second), ["p-dan"]);
}

#[tokio::test]
async fn a_person_is_told_with_all_ids() {
    let mut world = World::new().await;
    world.link("visitor", "ann", 7).await;
    for id in ["ann", "visitor"] {
        let person = world.ranker.person(id).await.unwrap();
        let all: Vec<_> = person.ids.iter().map(|id| (id.id.as_str(), id.linked_at_us)).collect();
        assert_eq!((person.person_id.as_str(), &all[..]), ("ann", &[("ann", None), ("visitor", Some(7))][..]), "{id}");
    }
    assert_eq!(world.ranker.person("nobody").await.unwrap().ids.len(), 1);
    assert_eq!(world.ranker.person("").await.unwrap_err().kind(), ErrorKind::Invalid);
}

/// Counts reads of lists: each is a journey to the store, whatever else goes along.
struct Counting {
    store: ToyStore,
    reads: AtomicUsize,
}

#[async_trait]
impl OnlineStore for Counting {
    async fn write(&self, batch: Vec<OnlineWrite>) -> millrace_feature_store::Result<()> {
        self.store.write(batch).await
    }

    async fn get(&self, keys: &[RecordKey]) -> millrace_feature_store::Result<Vec<Option<Bytes>>> {
        self.store.get(keys).await
    }

    async fn heads(&self, lists: &[ListKey], limit: usize) -> millrace_feature_store::Result<Vec<Vec<ListItem>>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.heads(lists, limit).await
    }

    async fn page(
        &self,
        list: &ListKey,
        after: Option<&ListItem>,
        limit: usize,
    ) -> millrace_feature_store::Result<Vec<ListItem>> {
        self.store.page(list, after, limit).await
    }

    async fn scan(&self, after: Option<&Content>, limit: usize) -> millrace_feature_store::Result<Vec<Content>> {
        self.store.scan(after, limit).await
    }
}

#[tokio::test]
async fn who_has_one_id_waits_for_nothing_more_and_who_has_two_once() {
    let mut world = three_authors().await;
    world.link("visitor", "ann", NOW_US).await;
    let store = Arc::new(Counting { store: world.store(), reads: AtomicUsize::new(0) });
    let ranker = Ranker::new(store.clone(), 2, RankerOptions::default());
    // The viewer, the newest posts, the reactions; nobody is followed.
    for (viewer, reads) in [("dora", 3), ("ann", 4), ("visitor", 4)] {
        let query = HomeQuery { viewer: viewer.to_owned(), limit: 10, cursor: None, explain: false, record_rate: None };
        store.reads.store(0, Ordering::Relaxed);
        ranker.home(query).await.unwrap();
        assert_eq!(store.reads.load(Ordering::Relaxed), reads, "{viewer}");
    }
}
