//! The time budget: what is late or broken is left out and said, and the rest is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use millrace_events::{ActionKind, Window};
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::online::{Content, Error, ErrorKind, Result};
use millrace_feature_store::views::{FOLLOWING, FRESH, POST, REACTIONS, TRENDS};
use millrace_feature_store::{ListItem, ListKey, OnlineStore, OnlineWrite, RecordKey};

use super::world::{HOUR_US, NOW_US, World, ids};
use crate::{HomeQuery, Ranker, RankerOptions, Slate};

/// What a store does when it is asked for something of one view.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Hang,
    Fail,
}

/// A store that hangs or fails in one place.
struct Slow {
    store: ToyStore,
    does: Does,
    /// For a read that begins with this view and has this many keys or more.
    view: u8,
    keys_min: usize,
}

impl Slow {
    async fn meet(&self, view: Option<u8>, keys: usize) -> Result<()> {
        if view == Some(self.view) && keys >= self.keys_min {
            match self.does {
                Does::Hang => std::future::pending().await,
                Does::Fail => return Err(Error::new(ErrorKind::Retry, "told to fail")),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl OnlineStore for Slow {
    async fn write(&self, batch: Vec<OnlineWrite>) -> Result<()> {
        self.store.write(batch).await
    }

    async fn get(&self, keys: &[RecordKey]) -> Result<Vec<Option<Bytes>>> {
        self.meet(keys.first().map(|key| key.view), keys.len()).await?;
        self.store.get(keys).await
    }

    async fn heads(&self, lists: &[ListKey], limit: usize) -> Result<Vec<Vec<ListItem>>> {
        self.meet(lists.first().map(|list| list.view), lists.len()).await?;
        self.store.heads(lists, limit).await
    }

    async fn page(&self, list: &ListKey, after: Option<&ListItem>, limit: usize) -> Result<Vec<ListItem>> {
        self.store.page(list, after, limit).await
    }

    async fn scan(&self, after: Option<&Content>, limit: usize) -> Result<Vec<Content>> {
        self.store.scan(after, limit).await
    }
}

/// Ann follows bob, who wrote b1; c1 rises, d1 is new; she once liked b1.
async fn world() -> World {
    let mut world = World::new().await;
    world.relate(FOLLOWING, "ann", "bob").await;
    world.post("bob", "b1", NOW_US - HOUR_US).await;
    world.record("cid", "c1", NOW_US, false).await;
    world.trend(Window::Hour, &[("c1", 3.0)]).await;
    world.record("dan", "d1", NOW_US, false).await;
    world.fresh("d1", NOW_US).await;
    world.react("ann", ActionKind::PostLiked, "b1").await;
    world
}

/// The first page over a store that `does` this for `view`, when every pause is over at once.
async fn home(view: u8, keys_min: usize, does: Does) -> crate::Result<Slate> {
    let store = Slow { store: world().await.store(), does, view, keys_min };
    let options = RankerOptions { pause: Arc::new(|_| Box::pin(std::future::ready(()))), ..RankerOptions::default() };
    let query = HomeQuery { viewer: "ann".to_owned(), limit: 10, cursor: None, explain: true, record_rate: Some(1.0) };
    Ranker::new(Arc::new(store), 2, options).home(query).await
}

/// Which sources were late, which failed.
fn left_out(slate: &Slate) -> (Vec<&str>, Vec<&str>) {
    let names = |is: fn(&crate::SourceReport) -> bool| slate.sources.iter().filter(|s| is(s)).map(|s| s.name).collect();
    (names(|s| s.late), names(|s| s.failed))
}

#[tokio::test]
async fn a_late_source_is_left_out_and_said() {
    for (view, name, left) in [(TRENDS, "trending", ["b1", "d1"]), (FRESH, "fresh", ["b1", "c1"])] {
        let slate = home(view, 1, Does::Hang).await.unwrap();
        assert_eq!(ids(&slate), left);
        assert_eq!(left_out(&slate), (vec![name], vec![]));
        let record = slate.record.unwrap();
        let late: Vec<_> = record.sources.iter().filter(|s| s.late).map(|s| s.name.as_str()).collect();
        assert_eq!(late, [name], "the record says so too");
    }
}

#[tokio::test]
async fn a_source_that_fails_is_left_out_and_said() {
    for (view, name, left) in [(TRENDS, "trending", ["b1", "d1"]), (FRESH, "fresh", ["b1", "c1"])] {
        let slate = home(view, 1, Does::Fail).await.unwrap();
        assert_eq!(ids(&slate), left);
        assert_eq!(left_out(&slate), (vec![], vec![name]));
        let notes = slate.explain.unwrap().notes;
        assert!(notes.iter().any(|note| note.starts_with(name)), "{notes:?}");
    }
}

#[tokio::test]
async fn followed_authors_may_be_late_too_but_must_not_fail() {
    let lists = millrace_feature_store::views::AUTHOR_POSTS;
    let slate = home(lists, 1, Does::Hang).await.unwrap();
    assert_eq!(ids(&slate), ["c1", "d1"]);
    assert_eq!(left_out(&slate).0, ["follows"]);
    assert_eq!(home(lists, 1, Does::Fail).await.unwrap_err().kind(), crate::ErrorKind::Retry);
}

#[tokio::test]
async fn without_the_viewers_reactions_the_feed_has_no_affinity() {
    let affinity = |slate: &Slate| slate.explain.as_ref().unwrap().scores[0].parts.affinity;
    let usual = home(0, 1, Does::Hang).await.unwrap();
    assert!(affinity(&usual) > 0.0);
    for does in [Does::Hang, Does::Fail] {
        let slate = home(REACTIONS, 1, does).await.unwrap();
        assert_eq!(ids(&slate), ids(&usual));
        assert_eq!(affinity(&slate), 0.0);
        assert!(slate.explain.unwrap().notes.iter().any(|note| note.starts_with("affinity")));
    }
}

#[tokio::test]
async fn strangers_posts_that_are_not_read_in_time_are_left_out() {
    // Three keys for b1, six for the two strangers.
    let slate = home(POST, 6, Does::Hang).await.unwrap();
    assert_eq!(ids(&slate), ["b1"]);
    assert_eq!(left_out(&slate), (vec!["trending", "fresh"], vec![]));
    let slate = home(POST, 6, Does::Fail).await.unwrap();
    assert_eq!((ids(&slate), left_out(&slate)), (vec!["b1"], (vec![], vec!["trending", "fresh"])));
}

#[tokio::test]
async fn a_share_ends_when_its_part_of_the_budget_has_passed() {
    static ASKED_US: AtomicU64 = AtomicU64::new(0);
    let store = Slow { store: world().await.store(), does: Does::Hang, view: TRENDS, keys_min: 1 };
    let pause: crate::Pause = Arc::new(|left| {
        ASKED_US.store(left.as_micros() as u64, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    });
    let options = RankerOptions { pause, budget_us: 80_000, ..RankerOptions::default() };
    let query = HomeQuery { viewer: "ann".to_owned(), limit: 10, cursor: None, explain: false, record_rate: None };
    let slate = Ranker::new(Arc::new(store), 2, options).home(query).await.unwrap();
    assert_eq!(left_out(&slate).0, ["trending"]);
    assert_eq!(ASKED_US.load(Ordering::Relaxed), 40_000, "only what hangs is timed, for half of the budget");
}

#[tokio::test]
async fn a_feed_that_lateness_has_emptied_is_asked_for_again() {
    let mut world = World::new().await;
    world.record("dan", "d1", NOW_US, false).await;
    world.fresh("d1", NOW_US).await;
    for does in [Does::Hang, Does::Fail] {
        let store = Slow { store: world.store(), does, view: POST, keys_min: 1 };
        let options =
            RankerOptions { pause: Arc::new(|_| Box::pin(std::future::ready(()))), ..RankerOptions::default() };
        let query = HomeQuery { viewer: "ann".to_owned(), limit: 10, cursor: None, explain: false, record_rate: None };
        let error = Ranker::new(Arc::new(store), 2, options).home(query).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (crate::ErrorKind::Retry, "store_slow"));
    }
    let query = HomeQuery { viewer: "ann".to_owned(), limit: 10, cursor: None, explain: false, record_rate: None };
    let empty =
        Ranker::new(Arc::new(World::new().await.store()), 2, RankerOptions::default()).home(query).await.unwrap();
    assert!(empty.items.is_empty(), "where there is nothing to show, that is the answer");
}
