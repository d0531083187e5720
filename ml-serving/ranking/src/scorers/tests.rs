use millrace_events::ActionKind;
use millrace_feature_store::views::EngagementRecord;

use super::*;
use crate::hydrate::{Reaction, Taste};

const DAY_US: i64 = 24 * 3600 * 1_000_000;

#[track_caller]
fn check(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-9, "{got} is not {expected}");
}

#[test]
fn recency_halves_every_six_hours_and_never_exceeds_one() {
    check(recency::score(0, 0), 1.0);
    check(recency::score(0, DAY_US / 4), 0.5);
    check(recency::score(0, DAY_US), 1.0 / 16.0);
    check(recency::score(DAY_US, 0), 1.0);
    check(recency::score(0, i64::MIN), 1.0);
    check(recency::score(i64::MIN, i64::MAX), 0.0);
}

fn affinity_of(reactions: &[(ActionKind, &str, i64)]) -> f64 {
    let reaction = |&(kind, post, at_us): &(_, &str, _)| Reaction { kind, post_id: post.to_owned(), at_us };
    let reactions: Vec<_> = reactions.iter().map(reaction).collect();
    let authors = [("b1", "bob"), ("b2", "bob"), ("c1", "cid")];
    let authors = authors.iter().map(|(post, author)| ((*post).to_owned(), (*author).to_owned())).collect();
    Affinity::new(&Taste { reactions, authors }, 14 * DAY_US).of("bob")
}

#[test]
fn affinity_adds_up_fades_and_can_be_lost() {
    use ActionKind::{PostCommented, PostHidden, PostLiked, PostViewed};
    let now = 14 * DAY_US;
    check(affinity_of(&[]), 0.0);
    check(affinity_of(&[(PostLiked, "b1", now)]), 0.25);
    check(affinity_of(&[(PostLiked, "b1", now), (PostCommented, "b2", now)]), 0.5);
    check(affinity_of(&[(PostCommented, "b1", 0)]), 0.25);
    check(affinity_of(&[(PostLiked, "c1", now), (PostLiked, "unknown", now), (PostViewed, "b1", now)]), 0.0);
    check(affinity_of(&[(PostLiked, "b1", now), (PostHidden, "b2", now)]), 0.0);
}

#[test]
fn engagement_is_a_rate_and_stays_between_zero_and_one() {
    let of = |unique_viewers, likes, reports| {
        engagement::score(&EngagementRecord { unique_viewers, likes, reports, ..Default::default() })
    };
    let new = of(0, 0, 0);
    assert!(of(1, 1, 0) > new, "a like helps");
    assert!(of(1000, 10, 0) < of(100, 10, 0), "the same likes among more viewers are worth less");
    assert!(of(100, 100, 0) > of(1, 1, 0), "many are worth more than one");
    check(of(10, 0, 100), 0.0);
    assert!(of(0, u64::MAX, 0) <= 1.0);
}
