use millrace_feature_store::views::EngagementRecord;

use super::*;
use crate::sources::{Candidate, Source};

#[track_caller]
fn check(posts: &[(&str, &str, f64)], order: &[&str]) {
    let scored = |&(author, id, score): &(&str, &str, f64)| {
        let candidate = Candidate {
            post_id: id.to_owned(),
            source: Source::Follows,
            listed_by: Some(author.to_owned()),
            listed_us: 0,
        };
        let hydrated = Hydrated { candidate, post: None, engagement: EngagementRecord::default(), seen: None };
        (hydrated, Parts::default(), score)
    };
    for turn in 0..posts.len() {
        let mut posts: Vec<_> = posts.iter().map(scored).collect();
        posts.rotate_left(turn);
        let slate = select(posts);
        let got: Vec<_> = slate.iter().map(|s| s.hydrated.candidate.post_id.as_str()).collect();
        assert_eq!(got, order, "whatever order they come in");
        assert!(slate.is_sorted_by(|a, b| a.score >= b.score));
    }
}

#[test]
fn an_author_does_not_fill_the_screen() {
    check(&[("bob", "b1", 0.9), ("bob", "b2", 0.8), ("bob", "b3", 0.7), ("cid", "c1", 0.6)], &["b1", "c1", "b2", "b3"]);
    check(&[("bob", "b1", 0.9), ("bob", "b2", 0.8), ("bob", "b3", 0.7)], &["b1", "b2", "b3"]);
}

#[test]
fn equal_scores_are_ordered_by_id() {
    check(&[("bob", "z", 0.5), ("cid", "a", 0.5), ("dan", "m", 0.5)], &["a", "m", "z"]);
}
