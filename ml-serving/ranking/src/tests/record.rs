//! What is remembered of a served slate.

use millrace_events::{ServedCandidate, Window};
use millrace_feature_store::views::FOLLOWING;

use super::world::{HOUR_US, NOW_US, World};
use crate::{HomeQuery, Slate};

async fn page(world: &World, limit: usize, cursor: Option<String>, record_rate: Option<f64>) -> Slate {
    let query = HomeQuery { viewer: "ann".to_owned(), limit, cursor, explain: true, record_rate };
    world.ranker.home(query).await.unwrap()
}

/// Three posts of bob, one of them seen, and one that rises.
async fn world() -> World {
    let mut world = World::new().await;
    world.relate(FOLLOWING, "ann", "bob").await;
    for nth in 1..4 {
        world.post("bob", &format!("b{nth}"), NOW_US - nth * HOUR_US).await;
    }
    world.seen("ann", "b2", false).await;
    world.record("cid", "c1", NOW_US, false).await;
    world.trend(Window::Hour, &[("c1", 3.0)]).await;
    world
}

fn shown(candidate: &ServedCandidate) -> (&str, &str, &str, Option<u32>, bool, &str) {
    let ServedCandidate { post_id, author_id, source, position, score, filter, .. } = candidate;
    (post_id, author_id, source, *position, score.is_some(), filter)
}

#[tokio::test]
async fn the_record_of_a_first_page_has_every_candidate_with_its_fate() {
    let world = world().await;
    let slate = page(&world, 1, None, Some(0.999_999_999)).await;
    let record = slate.record.as_ref().unwrap();
    let candidates: Vec<_> = record.candidates.iter().map(shown).collect();
    let expected = [
        ("b1", "bob", "follows", Some(0), true, ""),
        ("b3", "bob", "follows", None, true, ""),
        ("c1", "cid", "trending", None, true, ""),
        ("b2", "bob", "follows", None, false, "seen"),
    ];
    assert_eq!(candidates, expected);
    assert_eq!((&record.slate, &record.viewer), (&slate.slate, &slate.viewer));
    assert_eq!((record.as_of_us, record.first_position, record.left_out), (Some(NOW_US), 0, 0));
    assert_eq!((record.model.as_str(), record.model_version.as_str()), (slate.model.name, slate.model.version));
    assert_eq!(record.sample_rate, 0.999_999_999);
    let sources: Vec<_> = record.sources.iter().map(|s| (s.name.as_str(), s.candidates, s.late)).collect();
    assert_eq!(sources, [("follows", 3, false), ("trending", 1, false), ("fresh", 0, false)]);

    let (first, parts) = (&record.candidates[0], slate.explain.unwrap().scores[0].parts);
    assert_eq!(first.score, Some(slate.items[0].score));
    let recorded = [first.recency, first.affinity, first.engagement, first.diversity];
    assert_eq!(recorded, [parts.recency, parts.affinity, parts.engagement, parts.diversity].map(Some));
}

#[tokio::test]
async fn the_record_of_a_later_page_has_what_is_known_there() {
    let mut world = world().await;
    let first = page(&world, 1, None, Some(1.0)).await;
    world.seen("ann", "b3", true).await;
    let slate = page(&world, 2, first.next_cursor, Some(1.0)).await;
    let record = slate.record.unwrap();
    let candidates: Vec<_> = record.candidates.iter().map(shown).collect();
    let expected = [("c1", "cid", "trending", Some(2), true, ""), ("b3", "bob", "follows", None, false, "hidden")];
    assert_eq!(candidates, expected);
    assert_eq!((record.slate, record.first_position), (first.slate, 2));
    assert!(
        record.candidates.iter().all(|c| c.recency.is_none() && c.diversity.is_none()),
        "parts were the first page's"
    );
}

#[tokio::test]
async fn a_rate_records_its_share_of_slates_and_all_pages_of_each() {
    let mut world = world().await;
    assert_eq!(page(&world, 1, None, None).await.record, None);
    assert_eq!(page(&world, 1, None, Some(0.0)).await.record, None);
    assert_eq!(page(&world, 1, None, Some(f64::NAN)).await.record, None);
    let mut recorded = 0;
    for nth in 0..400 {
        world.clock(NOW_US + nth).await;
        let first = page(&world, 1, None, Some(0.25)).await;
        let second = page(&world, 1, first.next_cursor, Some(0.25)).await;
        assert_eq!(first.record.is_some(), second.record.is_some());
        recorded += usize::from(first.record.is_some());
    }
    // 100 expected, with a deviation of 9.
    assert!((60..140).contains(&recorded), "{recorded}");
}

#[tokio::test]
async fn before_anything_was_applied_there_is_nothing_to_record() {
    let world = World::unapplied();
    let slate = page(&world, 1, None, Some(1.0)).await;
    assert_eq!((slate.as_of, slate.record), (None, None));
}
