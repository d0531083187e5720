use super::*;
use crate::sources::{Candidate, Source};
use millrace_feature_store::views::{EngagementRecord, PostRecord, SeenRecord};

fn by(author: &str) -> Hydrated {
    let candidate = Candidate {
        post_id: "p".to_owned(),
        source: Source::Follows,
        listed_by: Some(author.to_owned()),
        listed_us: 0,
    };
    let post = PostRecord { author_id: author.to_owned(), ..PostRecord::default() };
    Hydrated { candidate, post: Some(post), engagement: EngagementRecord::default(), seen: None }
}

#[track_caller]
fn check(viewer: &Viewer, candidate: Hydrated, filter: Option<&str>) {
    let (kept, removed) = super::filter(viewer, vec![candidate]);
    assert_eq!(kept.len() + removed.len(), 1);
    assert_eq!(removed.first().map(|removed| removed.filter), filter);
}

#[test]
fn each_filter_removes_its_own_kind() {
    let only = |name: &str| std::iter::once(name.to_owned()).collect();
    let viewer = Viewer {
        ids: vec!["ann".to_owned(), "ann-before".to_owned()],
        blocked: only("blocked"),
        blocked_by: only("blocker"),
        muted: only("muted"),
        ..Viewer::default()
    };
    check(&viewer, by("bob"), None);
    check(&viewer, by("ann"), Some("own"));
    check(&viewer, by("ann-before"), Some("own"));
    check(&viewer, by("blocked"), Some("blocked"));
    check(&viewer, by("blocker"), Some("blocked"));
    check(&viewer, by("muted"), Some("muted"));
    check(&viewer, Hydrated { post: None, ..by("bob") }, Some("missing"));
    check(&viewer, Hydrated { post: by("cid").post, ..by("bob") }, Some("foreign"));
    check(&viewer, Hydrated { seen: Some(SeenRecord { hidden: false }), ..by("bob") }, Some("seen"));
    check(&viewer, Hydrated { seen: Some(SeenRecord { hidden: true }), ..by("bob") }, Some("hidden"));
    let deleted = PostRecord { author_id: "bob".to_owned(), deleted: true, ..PostRecord::default() };
    check(&viewer, Hydrated { post: Some(deleted), ..by("bob") }, Some("deleted"));
}

#[test]
fn what_a_robot_wrote_is_for_those_who_follow_it() {
    let viewer = Viewer { ids: vec!["ann".to_owned()], ..Viewer::default() };
    for (source, filter) in [(Source::Follows, None), (Source::Trending, Some("robot")), (Source::Fresh, Some("robot"))]
    {
        let mut candidate = by("bob");
        candidate.candidate.source = source;
        candidate.post = Some(PostRecord { author_id: "bob".to_owned(), robot: true, ..PostRecord::default() });
        check(&viewer, candidate, filter);
        let mut persons = by("bob");
        persons.candidate.source = source;
        check(&viewer, persons, None);
    }
}
