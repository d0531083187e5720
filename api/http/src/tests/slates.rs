//! What was served goes to its sink, beside the answer; and nobody else writes it.

use millrace_events::Topic;
use millrace_feature_store::views::{self, AUTHOR_POSTS, FOLLOWING, PostRecord};

use super::harness::{Harness, NOW_US};

/// Ann follows bob, who wrote two posts.
async fn ann_follows_bob(rate: Option<f64>) -> Harness {
    let mut harness = Harness::new();
    *harness.process.slate_rate.lock().unwrap() = rate;
    harness.applied().await;
    harness.insert(FOLLOWING, "ann", "bob", NOW_US).await;
    for (id, at) in [("b1", NOW_US - 1), ("b2", NOW_US - 2)] {
        harness.insert(AUTHOR_POSTS, "bob", id, at).await;
        let post = PostRecord { author_id: "bob".to_owned(), created_at_us: at, ..PostRecord::default() };
        harness.put(views::record(views::POST, id), post).await;
    }
    harness
}

#[tokio::test]
async fn every_page_that_is_wanted_is_recorded_as_it_was_answered() {
    let harness = ann_follows_bob(Some(1.0)).await;
    let first = harness.get("/v1/feeds/home?viewer=ann&limit=1").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = harness.get(&format!("/v1/feeds/home?viewer=ann&limit=1&cursor={cursor}")).await.json();

    let recorded = harness.process.slates.lock().unwrap();
    assert_eq!(recorded.len(), 2);
    for (record, answer) in recorded.iter().zip([&first, &second]) {
        assert_eq!((&*record.slate, &*record.viewer), (answer["slate"].as_str().unwrap(), "ann"));
        let served: Vec<_> = record.candidates.iter().filter(|candidate| candidate.position.is_some()).collect();
        let items = answer["items"].as_array().unwrap();
        assert_eq!(served.len(), items.len());
        for (candidate, item) in served.into_iter().zip(items) {
            assert_eq!(candidate.post_id, item["post_id"]);
            assert_eq!(candidate.source, item["reason"]);
            assert_eq!(u64::from(candidate.position.unwrap()), item["position"]);
            assert_eq!(candidate.score.unwrap(), item["score"]);
        }
    }
    assert_eq!(recorded[0].candidates.len(), 2, "the one that was not served is there too");
}

#[tokio::test]
async fn what_nobody_wants_is_not_recorded_and_the_answer_is_the_same() {
    let path = "/v1/feeds/home?viewer=ann";
    let wanted = ann_follows_bob(Some(1.0)).await.get(path).await;
    let harness = ann_follows_bob(None).await;
    assert_eq!(harness.get(path).await.body, wanted.body);
    assert!(harness.process.slates.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_refused_question_is_not_recorded() {
    let harness = ann_follows_bob(Some(1.0)).await;
    harness.get("/v1/feeds/home?viewer=ann&cursor=nonsense").await.check_problem(400, "invalid_cursor");
    assert!(harness.process.slates.lock().unwrap().is_empty());
}

/// Training believes what stands in `served-slates`, so no write key may put anything there, whatever it calls it.
#[tokio::test]
async fn no_write_key_reaches_served_slates() {
    let harness = Harness::new();
    let event = |extra: &str| format!(r#"{{"userId":"ann","event":"served-slates","properties":{{}}{extra}}}"#);
    harness.post("/v1/track", event("")).await;
    harness.post("/v1/track", event(r#","topic":"served-slates""#)).await;
    harness.post("/v1/track?topic=served-slates", event("")).await;
    harness
        .post("/v1/batch", format!(r#"{{"topic":"served-slates","batch":[{}]}}"#, event(r#","type":"track""#)))
        .await;
    assert_eq!(harness.records(Topic::Actions), 4, "they are actions like any other");
    for path in ["/v1/log/served-slates", "/v1/served-slates", "/v1/feeds/home"] {
        let answer = harness.post(path, event("")).await;
        assert!(answer.status.is_client_error(), "{path}: {}", answer.status);
    }
    assert_eq!(harness.records(Topic::ServedSlates), 0);
}
