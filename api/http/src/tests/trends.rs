use millrace_events::Window;
use millrace_feature_store::views::{self, PostRecord, TrendItem, TrendKind, TrendsRecord};

use super::harness::{Harness, NOW_US};

/// Both partitions list one thing; that of the second rises.
async fn listed(kind: TrendKind) -> Harness {
    let mut harness = Harness::new();
    for (partition, id, score) in [(0, "busy", 0.875), (1, "rust", 12.5)] {
        let item = TrendItem { id: id.to_owned(), count: 40, baseline: 2.5, score };
        let record = TrendsRecord { clock_us: NOW_US, items: vec![item] };
        harness.put(views::trends_key(kind, Window::Hour, partition), record).await;
        let post = PostRecord { author_id: format!("author-of-{id}"), ..PostRecord::default() };
        harness.put(views::record(views::POST, id), post).await;
    }
    harness
}

#[tokio::test]
async fn the_shape_of_trending_tags() {
    let harness = listed(TrendKind::Tags).await;
    insta::assert_snapshot!(harness.get("/v1/trends/tags").await.shown(), @r#"
    200 OK
    {
      "as_of": "2026-01-01T00:00:00Z",
      "items": [
        {
          "baseline": 2.5,
          "count": 40,
          "rank": 1,
          "rising": true,
          "score": 12.5,
          "tag": "rust"
        },
        {
          "baseline": 2.5,
          "count": 40,
          "rank": 2,
          "rising": false,
          "score": 0.875,
          "tag": "busy"
        }
      ],
      "window": "1h"
    }
    "#);
    let one = harness.get("/v1/trends/tags?window=1h&limit=1").await.json();
    assert_eq!(one["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_shape_of_trending_posts() {
    let harness = listed(TrendKind::Posts).await;
    insta::assert_snapshot!(harness.get("/v1/trends/posts?window=1h&limit=1").await.shown(), @r#"
    200 OK
    {
      "as_of": "2026-01-01T00:00:00Z",
      "items": [
        {
          "author_id": "author-of-rust",
          "baseline": 2.5,
          "count": 40,
          "post_id": "rust",
          "rank": 1,
          "rising": true,
          "score": 12.5
        }
      ],
      "window": "1h"
    }
    "#);
}

#[tokio::test]
async fn nothing_rises_before_anything_happened() {
    for window in ["5m", "1h", "24h"] {
        let answer = Harness::new().get(&format!("/v1/trends/tags?window={window}")).await.json();
        assert_eq!(answer, serde_json::json!({ "window": window, "as_of": null, "items": [] }));
    }
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let harness = Harness::new();
    for path in ["tags", "posts"] {
        for (query, code) in
            [("window=2h", "invalid_window"), ("window=", "invalid_window"), ("limit=0", "invalid_limit")]
        {
            harness.get(&format!("/v1/trends/{path}?{query}")).await.check_problem(400, code);
        }
    }
}
