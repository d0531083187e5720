use millrace_events::{ActionKind, LogTime};
use millrace_feature_store::views::{AUTHOR_POSTS, BLOCKED, BLOCKED_BY, EngagementRecord, FOLLOWING, MUTED};

use super::world::{HOUR_US, NOW_US, World, ids};
use crate::{ErrorKind, HomeQuery};

/// Ann follows bob and cid, who wrote two posts each, an hour apart.
async fn ann_follows_two() -> World {
    let mut world = World::new().await;
    world.relate(FOLLOWING, "ann", "bob").await;
    world.relate(FOLLOWING, "ann", "cid").await;
    for (nth, (author, id)) in [("bob", "b1"), ("cid", "c1"), ("bob", "b2"), ("cid", "c2")].into_iter().enumerate() {
        world.post(author, id, NOW_US - (nth as i64 + 1) * HOUR_US).await;
    }
    world
}

#[tokio::test]
async fn newest_first_and_authors_take_turns() {
    let world = ann_follows_two().await;
    let slate = world.home("ann", 10, None).await;
    assert_eq!(ids(&slate), ["b1", "c1", "b2", "c2"]);
    assert_eq!(slate.as_of, Some(LogTime(NOW_US)));
    assert_eq!(slate.next_cursor, None);
    assert!(slate.items.iter().all(|item| item.reason == "follows"));
    assert!(slate.items.is_sorted_by(|a, b| a.score >= b.score));
    let again = world.home("ann", 10, None).await;
    assert_eq!(slate, again, "the same present has the same feed");
}

/// The filter that removed each post, after `change`, in the order of the explanation.
#[track_caller]
fn check_removed(slate: &crate::Slate, removed: &[(&str, &str)], left: &[&str]) {
    let filtered = &slate.explain.as_ref().unwrap().filtered;
    let got: Vec<_> = filtered.iter().map(|f| (f.post_id.as_str(), f.filter)).collect();
    assert_eq!((got.as_slice(), ids(slate).as_slice()), (removed, left));
}

#[tokio::test]
async fn a_block_hides_both_ways_and_a_mute_one_way() {
    for (view, filter) in [(BLOCKED, "blocked"), (BLOCKED_BY, "blocked"), (MUTED, "muted")] {
        let mut world = ann_follows_two().await;
        world.relate(view, "ann", "bob").await;
        let slate = world.home("ann", 10, None).await;
        check_removed(&slate, &[("b1", filter), ("b2", filter)], &["c1", "c2"]);
        world.remove(view, "ann", "bob").await;
        assert_eq!(world.home("ann", 10, None).await.items.len(), 4, "and shows again when it is lifted");
    }
}

#[tokio::test]
async fn the_first_of_very_many_blocks_still_counts() {
    let mut world = ann_follows_two().await;
    world.insert(BLOCKED, "ann", "bob", NOW_US - HOUR_US).await;
    for nth in 0..2_100 {
        world.insert(BLOCKED, "ann", format!("x{nth}"), NOW_US).await;
    }
    check_removed(&world.home("ann", 10, None).await, &[("b1", "blocked"), ("b2", "blocked")], &["c1", "c2"]);
}

#[tokio::test]
async fn an_unfollowed_author_is_gone_at_once() {
    let mut world = ann_follows_two().await;
    world.remove(FOLLOWING, "ann", "bob").await;
    check_removed(&world.home("ann", 10, None).await, &[], &["c1", "c2"]);
}

#[tokio::test]
async fn what_may_not_be_shown_says_why() {
    let mut world = ann_follows_two().await;
    world.relate(FOLLOWING, "ann", "ann").await;
    world.post("ann", "a1", NOW_US).await;
    world.record("bob", "b1", NOW_US, true).await;
    world.seen("ann", "c1", false).await;
    world.seen("ann", "b2", true).await;
    // Listed by bob, written by dan; listed by cid, not known yet.
    world.insert(AUTHOR_POSTS, "bob", "d1", NOW_US - 5 * HOUR_US).await;
    world.record("dan", "d1", NOW_US, false).await;
    world.insert(AUTHOR_POSTS, "cid", "c3", NOW_US - 6 * HOUR_US).await;
    let removed =
        [("a1", "own"), ("b1", "deleted"), ("c1", "seen"), ("b2", "hidden"), ("d1", "foreign"), ("c3", "missing")];
    check_removed(&world.home("ann", 10, None).await, &removed, &["c2"]);
}

#[tokio::test]
async fn affinity_and_engagement_move_posts_up() {
    let mut world = ann_follows_two().await;
    world.react("ann", ActionKind::PostLiked, "c2").await;
    world.react("ann", ActionKind::PostCommented, "c1").await;
    assert_eq!(ids(&world.home("ann", 10, None).await)[0], "c1", "an author whom the viewer likes");

    let mut world = ann_follows_two().await;
    let hit = EngagementRecord { views: 900, unique_viewers: 100, likes: 80, shares: 40, ..Default::default() };
    world.engagement("c1", hit).await;
    assert_eq!(ids(&world.home("ann", 10, None).await)[0], "c1", "a post that others like");
}

#[tokio::test]
async fn an_empty_platform_has_an_empty_feed_that_says_so() {
    let world = World::new().await;
    let slate = world.home("ann", 10, None).await;
    assert!(slate.items.is_empty() && slate.next_cursor.is_none());
    assert!(slate.explain.unwrap().notes[0].contains("follows nobody"));
}

#[tokio::test]
async fn the_shape_of_an_explained_slate() {
    let mut world = World::new().await;
    world.relate(FOLLOWING, "ann", "bob").await;
    world.post("bob", "b1", NOW_US - 6 * HOUR_US).await;
    let slate = world.home("ann", 1, None).await;
    insta::assert_debug_snapshot!((&slate.slate, &slate.items, slate.model, &slate.sources, &slate.explain), @r#"
    (
        "sl_c4a11b9f9fc5e721",
        [
            SlateItem {
                position: 0,
                post_id: "b1",
                author_id: "bob",
                score: 0.268182,
                reason: "follows",
            },
        ],
        Model {
            name: "baseline",
            version: "2",
        },
        [
            SourceReport {
                name: "follows",
                candidates: 1,
                took_us: 0,
                late: false,
                failed: false,
            },
            SourceReport {
                name: "trending",
                candidates: 0,
                took_us: 0,
                late: false,
                failed: false,
            },
            SourceReport {
                name: "fresh",
                candidates: 0,
                took_us: 0,
                late: false,
                failed: false,
            },
        ],
        Some(
            Explain {
                filtered: [],
                scores: [
                    ScoreParts {
                        post_id: "b1",
                        parts: Parts {
                            recency: 0.5,
                            affinity: 0.0,
                            engagement: 0.09090909090909091,
                            source: 1.0,
                            diversity: 1.0,
                        },
                    },
                ],
                notes: [],
            },
        ),
    )
    "#);
}

#[tokio::test]
async fn impossible_queries_are_the_callers_to_fix() {
    let mut world = ann_follows_two().await;
    world.relate(FOLLOWING, "eve", "bob").await;
    let cursor = world.home("ann", 1, None).await.next_cursor.unwrap();
    let mut cut = cursor.clone();
    cut.pop();
    let cases = [
        ("", None, "invalid_id"),
        (&*"x".repeat(201), None, "invalid_id"),
        ("ann", Some(String::new()), "invalid_cursor"),
        ("ann", Some("not a cursor".to_owned()), "invalid_cursor"),
        ("ann", Some(cut), "invalid_cursor"),
        ("ann", Some("A".repeat(100_000)), "invalid_cursor"),
        ("eve", Some(cursor), "invalid_cursor"),
    ];
    for (viewer, cursor, code) in cases {
        let query = HomeQuery { viewer: viewer.to_owned(), limit: 1, cursor, explain: false, record_rate: None };
        let error = world.ranker.home(query).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, code));
    }
}

#[tokio::test]
async fn only_the_newest_candidates_count() {
    let mut world = World::new().await;
    for author in ["bob", "cid"] {
        world.relate(FOLLOWING, "ann", author).await;
        for nth in 0..400 {
            world.post(author, &format!("{author}{nth}"), NOW_US - nth * HOUR_US).await;
        }
    }
    let slate = world.home("ann", 100, None).await;
    assert_eq!(slate.sources[0].candidates, crate::FOLLOWED_CANDIDATES_MAX);
}
