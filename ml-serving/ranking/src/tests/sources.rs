//! Strangers' posts beside those of followed authors: which come, in which order, and for which reason.

use millrace_events::Window;
use millrace_feature_store::views::{
    AUTHOR_POSTS, BLOCKED, BLOCKED_BY, EngagementRecord, FOLLOWING, MUTED, TrendItem, TrendKind, trends_key,
};

use super::world::{HOUR_US, NOW_US, World, ids};
use crate::{FRESH_CANDIDATES_MAX, TRENDING_CANDIDATES_MAX};

fn reasons(slate: &crate::Slate) -> Vec<(&str, &str)> {
    slate.items.iter().map(|item| (item.post_id.as_str(), item.reason)).collect()
}

fn brought(slate: &crate::Slate) -> Vec<(&str, usize)> {
    slate.sources.iter().map(|source| (source.name, source.candidates)).collect()
}

/// A post that nobody's follow brings: new, and rising when `score` is above 0.
async fn stranger(world: &mut World, author: &str, id: &str, at: i64, score: f64) {
    world.record(author, id, at, false).await;
    world.fresh(id, at).await;
    if score > 0.0 {
        world.trend(Window::Hour, &[(id, score)]).await;
    }
}

#[tokio::test]
async fn who_follows_nobody_gets_what_rises_and_what_is_new() {
    let mut world = World::new().await;
    stranger(&mut world, "cid", "c1", NOW_US - HOUR_US, 9.0).await;
    stranger(&mut world, "dan", "d1", NOW_US - HOUR_US, 0.0).await;
    let slate = world.home("ann", 10, None).await;
    assert_eq!(reasons(&slate), [("c1", "trending"), ("d1", "fresh")]);
    assert_eq!(slate.items[0].author_id, "cid");
    assert_eq!(brought(&slate), [("follows", 0), ("trending", 1), ("fresh", 2)]);
    assert!(slate.explain.unwrap().notes[0].contains("follows nobody"));
}

#[tokio::test]
async fn a_post_that_several_sources_bring_has_the_first_as_its_reason() {
    let mut world = World::new().await;
    world.relate(FOLLOWING, "ann", "bob").await;
    world.post("bob", "b1", NOW_US - HOUR_US).await;
    stranger(&mut world, "bob", "b1", NOW_US - HOUR_US, 5.0).await;
    stranger(&mut world, "cid", "c1", NOW_US - HOUR_US, 5.0).await;
    world.trend(Window::Day, &[("c1", 1.0)]).await;
    assert_eq!(reasons(&world.home("ann", 10, None).await), [("b1", "follows"), ("c1", "trending")]);
}

#[tokio::test]
async fn a_followed_author_who_lists_somebody_elses_post_does_not_take_it_away() {
    let mut world = World::new().await;
    world.relate(FOLLOWING, "ann", "bob").await;
    stranger(&mut world, "cid", "c1", NOW_US - HOUR_US, 5.0).await;
    world.insert(AUTHOR_POSTS, "bob", "c1", NOW_US).await;
    let slate = world.home("ann", 10, None).await;
    assert_eq!(reasons(&slate), [("c1", "trending")]);
    assert_eq!(slate.items[0].author_id, "cid");
    assert_eq!(slate.explain.unwrap().filtered[0].filter, "foreign");
}

#[tokio::test]
async fn every_filter_holds_for_strangers() {
    let mut world = World::new().await;
    world.relate(BLOCKED, "ann", "bea").await;
    world.relate(BLOCKED_BY, "ann", "bob").await;
    world.relate(MUTED, "ann", "moe").await;
    for (nth, author) in ["bea", "bob", "moe", "ann", "del", "hid", "see", "mis", "fin"].into_iter().enumerate() {
        let at = NOW_US - nth as i64 * HOUR_US;
        world.fresh(author, at).await;
        if author != "mis" {
            world.record(author, author, at, author == "del").await;
        }
    }
    world.seen("ann", "hid", true).await;
    world.seen("ann", "see", false).await;
    let slate = world.home("ann", 10, None).await;
    let filtered = slate.explain.as_ref().unwrap().filtered.iter();
    let removed: Vec<_> = filtered.map(|f| (f.post_id.as_str(), f.filter)).collect();
    let expected = [
        ("bea", "blocked"),
        ("bob", "blocked"),
        ("moe", "muted"),
        ("ann", "own"),
        ("del", "deleted"),
        ("hid", "hidden"),
        ("see", "seen"),
        ("mis", "missing"),
    ];
    assert_eq!(removed, expected);
    assert_eq!(ids(&slate), ["fin"]);
}

#[tokio::test]
async fn a_robot_is_shown_to_those_who_follow_it_and_to_nobody_else() {
    let mut world = World::new().await;
    world.relate(FOLLOWING, "ann", "robot-1").await;
    world.post("robot-1", "r1", NOW_US - HOUR_US).await;
    stranger(&mut world, "robot-2", "r2", NOW_US - HOUR_US, 9.0).await;
    stranger(&mut world, "dan", "d1", NOW_US - HOUR_US, 9.0).await;
    let slate = world.home("ann", 10, None).await;
    assert_eq!(reasons(&slate), [("r1", "follows"), ("d1", "trending")]);
    let filtered = slate.explain.as_ref().unwrap().filtered.iter();
    assert_eq!(filtered.map(|f| (f.post_id.as_str(), f.filter)).collect::<Vec<_>>(), [("r2", "robot")]);
}

#[tokio::test]
async fn followed_authors_come_before_strangers_unless_they_are_stale() {
    let mut world = World::new().await;
    world.relate(FOLLOWING, "ann", "bob").await;
    world.post("bob", "b-new", NOW_US - 2 * HOUR_US).await;
    world.relate(FOLLOWING, "ann", "cid").await;
    world.post("cid", "c-old", NOW_US - 48 * HOUR_US).await;
    stranger(&mut world, "dan", "d-rises", NOW_US, 9.0).await;
    stranger(&mut world, "eve", "e-new", NOW_US, 0.0).await;
    let hit = EngagementRecord { unique_viewers: 100, likes: 100, ..Default::default() };
    world.engagement("d-rises", hit).await;
    assert_eq!(ids(&world.home("ann", 10, None).await), ["b-new", "d-rises", "e-new", "c-old"]);
}

#[tokio::test]
async fn a_stranger_does_not_fill_the_screen() {
    let mut world = World::new().await;
    for nth in 0..5 {
        stranger(&mut world, "bot", &format!("bot{nth}"), NOW_US - nth, 0.0).await;
    }
    stranger(&mut world, "dan", "d1", NOW_US - HOUR_US, 0.0).await;
    assert_eq!(ids(&world.home("ann", 3, None).await)[..2], ["bot0", "d1"]);
}

#[tokio::test]
async fn trends_are_merged_over_partitions_and_windows_best_first_and_bounded() {
    let mut world = World::new().await;
    for (partition, window) in [(0, Window::FiveMinutes), (1, Window::Hour), (1, Window::Day)] {
        let id = |nth: u32| format!("p{partition}-{window}-{nth:03}");
        let items = (0..100).map(|nth| TrendItem { id: id(nth), score: f64::from(100 - nth), ..TrendItem::default() });
        world.put_trends(trends_key(TrendKind::Posts, window, partition), items.collect()).await;
        for nth in 0..100 {
            world.record(&format!("a{}", id(nth)), &id(nth), NOW_US, false).await;
        }
    }
    let slate = world.home("ann", 100, None).await;
    assert_eq!(brought(&slate)[1], ("trending", TRENDING_CANDIDATES_MAX));
    let filtered = &slate.explain.as_ref().unwrap().filtered;
    assert!(filtered.is_empty(), "{filtered:?}");
    // The worst third of each list is beyond the bound.
    assert!(ids(&slate).iter().all(|id| !id.ends_with("-099")));
}

#[tokio::test]
async fn the_newest_of_all_partitions_are_fresh() {
    let mut world = World::new().await;
    for nth in 0..500 {
        let id = format!("p{nth:03}");
        world.fresh(&id, NOW_US - nth * HOUR_US / 60).await;
        world.record(&format!("a{nth}"), &id, NOW_US - nth * HOUR_US / 60, false).await;
    }
    let slate = world.home("ann", 100, None).await;
    assert_eq!(brought(&slate)[2], ("fresh", FRESH_CANDIDATES_MAX));
    let expected: Vec<String> = (0..100).map(|nth| format!("p{nth:03}")).collect();
    assert_eq!(ids(&slate), expected);
}
