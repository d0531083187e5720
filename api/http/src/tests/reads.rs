use axum::body::Body;
use axum::http::Request;
use millrace_events::{PostContent, Window};
use millrace_feature_store::views::{
    self, AUTHOR_POSTS, EngagementRecord, FOLLOWING, PostRecord, SeenRecord, WindowCounts,
};

use super::harness::{BODY_BYTES_MAX, Harness, NOW_US};

const HOUR_US: i64 = 3600 * 1_000_000;

fn post_of(author: &str, created_at_us: i64) -> PostRecord {
    let content = PostContent {
        text: "hello".to_owned(),
        tags: vec!["rust".to_owned()],
        kind: "text".to_owned(),
        ..PostContent::default()
    };
    PostRecord { author_id: author.to_owned(), created_at_us, content: Some(content), ..PostRecord::default() }
}

/// Ann follows bob, who wrote four posts, six hours apart; she has seen the last.
async fn ann_follows_bob() -> Harness {
    let mut harness = Harness::new();
    harness.applied().await;
    harness.insert(FOLLOWING, "ann", "bob", NOW_US).await;
    for nth in 1..=4 {
        let (id, at) = (format!("b{nth}"), NOW_US - nth * 6 * HOUR_US);
        harness.insert(AUTHOR_POSTS, "bob", &id, at).await;
        harness.put(views::record(views::POST, &id), post_of("bob", at)).await;
    }
    harness.put(views::seen_key("ann", "b4"), SeenRecord { hidden: false }).await;
    harness
}

#[tokio::test]
async fn the_shape_of_a_home_feed() {
    let harness = ann_follows_bob().await;
    let answer = harness.get("/v1/feeds/home?viewer=ann&limit=2&explain=true").await;
    let cursor = answer.json()["next_cursor"].as_str().unwrap().to_owned();
    insta::assert_snapshot!(answer.shown().replace(&cursor, "CURSOR"), @r#"
    200 OK
    {
      "as_of": "2026-01-01T00:00:00Z",
      "explain": {
        "filtered": [
          {
            "filter": "seen",
            "post_id": "b4",
            "why": "the viewer has seen the post"
          }
        ],
        "notes": [],
        "scores": [
          {
            "parts": {
              "affinity": 0.0,
              "diversity": 1.0,
              "engagement": 0.090909,
              "recency": 0.5,
              "source": 1.0
            },
            "post_id": "b1"
          },
          {
            "parts": {
              "affinity": 0.0,
              "diversity": 0.7,
              "engagement": 0.090909,
              "recency": 0.25,
              "source": 1.0
            },
            "post_id": "b2"
          }
        ],
        "sources": [
          {
            "candidates": 4,
            "failed": false,
            "late": false,
            "name": "follows",
            "took_us": 0
          },
          {
            "candidates": 0,
            "failed": false,
            "late": false,
            "name": "trending",
            "took_us": 0
          },
          {
            "candidates": 0,
            "failed": false,
            "late": false,
            "name": "fresh",
            "took_us": 0
          }
        ]
      },
      "items": [
        {
          "author_id": "bob",
          "position": 0,
          "post_id": "b1",
          "reason": "follows",
          "score": 0.268182
        },
        {
          "author_id": "bob",
          "position": 1,
          "post_id": "b2",
          "reason": "follows",
          "score": 0.100227
        }
      ],
      "model": {
        "name": "baseline",
        "version": "2"
      },
      "next_cursor": "CURSOR",
      "slate": "sl_39474e45eab7ad3a",
      "viewer": "ann"
    }
    "#);
    let answer = harness.get(&format!("/v1/feeds/home/?viewer=ann&limit=2&cursor={cursor}")).await;
    insta::assert_snapshot!(answer.shown(), @r#"
    200 OK
    {
      "as_of": "2026-01-01T00:00:00Z",
      "items": [
        {
          "author_id": "bob",
          "position": 2,
          "post_id": "b3",
          "reason": "follows",
          "score": 0.039534
        }
      ],
      "model": {
        "name": "baseline",
        "version": "2"
      },
      "next_cursor": null,
      "slate": "sl_39474e45eab7ad3a",
      "viewer": "ann"
    }
    "#);
}

#[tokio::test]
async fn the_shape_of_an_author_feed() {
    let harness = ann_follows_bob().await;
    let answer = harness.get("/v1/feeds/author/bob?limit=3").await;
    let cursor = answer.json()["next_cursor"].as_str().unwrap().to_owned();
    insta::assert_snapshot!(answer.shown().replace(&cursor, "CURSOR"), @r#"
    200 OK
    {
      "as_of": "2026-01-01T00:00:00Z",
      "items": [
        {
          "author_id": "bob",
          "created_at": "2025-12-31T18:00:00Z",
          "post_id": "b1"
        },
        {
          "author_id": "bob",
          "created_at": "2025-12-31T12:00:00Z",
          "post_id": "b2"
        },
        {
          "author_id": "bob",
          "created_at": "2025-12-31T06:00:00Z",
          "post_id": "b3"
        }
      ],
      "next_cursor": "CURSOR"
    }
    "#);
    let answer = harness.get(&format!("/v1/feeds/author/bob?limit=3&cursor={cursor}")).await;
    assert_eq!(answer.json()["items"][0]["post_id"], "b4");
    assert!(answer.json()["next_cursor"].is_null());
}

#[tokio::test]
async fn the_shape_of_a_post() {
    let mut harness = ann_follows_bob().await;
    insta::assert_snapshot!(harness.get("/v1/posts/b1").await.shown(), @r#"
    200 OK
    {
      "author_id": "bob",
      "created_at": "2025-12-31T18:00:00Z",
      "deleted": false,
      "edited_at": null,
      "kind": "text",
      "lang": null,
      "post_id": "b1",
      "reply_to": null,
      "repost_of": null,
      "robot": false,
      "tags": [
        "rust"
      ],
      "text": "hello",
      "url": null
    }
    "#);
    let deleted = PostRecord { deleted: true, edited_at_us: NOW_US, content: None, ..post_of("bob", NOW_US) };
    harness.put(views::record(views::POST, "b1"), deleted).await;
    insta::assert_snapshot!(harness.get("/v1/posts/b1/").await.shown(), @r#"
    200 OK
    {
      "author_id": "bob",
      "created_at": "2026-01-01T00:00:00Z",
      "deleted": true,
      "edited_at": "2026-01-01T00:00:00Z",
      "kind": null,
      "lang": null,
      "post_id": "b1",
      "reply_to": null,
      "repost_of": null,
      "robot": false,
      "tags": [],
      "text": "",
      "url": null
    }
    "#);
    harness.get("/v1/posts/unknown").await.check_problem(404, "post_not_found");
}

#[tokio::test]
async fn ids_in_paths_are_percent_decoded() {
    let mut harness = Harness::new();
    let id = "acme/repo name ü";
    harness.put(views::record(views::POST, id), post_of("bob", NOW_US)).await;
    let answer = harness.get("/v1/posts/acme%2Frepo%20name%20%C3%BC").await;
    assert_eq!(answer.json()["post_id"], id);
    let answer = harness.get("/v1/posts/acme%2Frepo%20name%20%C3%BC/engagement").await;
    assert_eq!(answer.json()["author_id"], "bob");
    harness.get("/v1/posts/%FF").await.check_problem(400, "invalid_path");
    harness.get(&format!("/v1/posts/{}", "x".repeat(201))).await.check_problem(400, "invalid_id");
}

#[tokio::test]
async fn the_shape_of_engagement() {
    let mut harness = ann_follows_bob().await;
    let at = |window: Window, start_us, views| WindowCounts {
        window: window as u32,
        start_us,
        views,
        shares: 1,
        ..Default::default()
    };
    let windows = vec![
        at(Window::FiveMinutes, NOW_US - Window::FiveMinutes.width_us(), 2),
        at(Window::FiveMinutes, NOW_US, 3),
        at(Window::Hour, NOW_US, 4),
        at(Window::Day, NOW_US - Window::Day.width_us(), 5),
    ];
    let totals = EngagementRecord { views: 10, unique_viewers: 9, likes: 3, shares: 1, windows, ..Default::default() };
    harness.put(views::record(views::ENGAGEMENT, "b1"), totals).await;
    insta::assert_snapshot!(harness.get("/v1/posts/b1/engagement").await.shown(), @r#"
    200 OK
    {
      "as_of": "2026-01-01T00:00:00Z",
      "author_id": "bob",
      "post_id": "b1",
      "totals": {
        "clicks": 0,
        "comments": 0,
        "hides": 0,
        "likes": 3,
        "reports": 0,
        "saves": 0,
        "shares": 1,
        "unique_viewers": 9,
        "views": 10
      },
      "windows": {
        "1h": {
          "clicks": 0,
          "comments": 0,
          "end": "2026-01-01T01:00:00Z",
          "hides": 0,
          "likes": 0,
          "reports": 0,
          "saves": 0,
          "shares": 1,
          "start": "2026-01-01T00:00:00Z",
          "unlikes": 0,
          "views": 4
        },
        "24h": {
          "clicks": 0,
          "comments": 0,
          "end": "2026-01-02T00:00:00Z",
          "hides": 0,
          "likes": 0,
          "reports": 0,
          "saves": 0,
          "shares": 0,
          "start": "2026-01-01T00:00:00Z",
          "unlikes": 0,
          "views": 0
        },
        "5m": {
          "clicks": 0,
          "comments": 0,
          "end": "2026-01-01T00:05:00Z",
          "hides": 0,
          "likes": 0,
          "reports": 0,
          "saves": 0,
          "shares": 1,
          "start": "2026-01-01T00:00:00Z",
          "unlikes": 0,
          "views": 3
        }
      }
    }
    "#);
    let unknown = harness.get("/v1/posts/unknown/engagement").await.json();
    assert!(unknown["author_id"].is_null() && unknown["totals"]["views"] == 0);
    assert_eq!(unknown["windows"]["24h"]["end"], "2026-01-02T00:00:00Z");
    let nothing_applied = Harness::new().get("/v1/posts/b1/engagement").await.json();
    assert!(nothing_applied["as_of"].is_null() && nothing_applied["windows"]["5m"]["start"].is_null());
}

#[tokio::test]
async fn the_shape_of_the_status() {
    insta::assert_snapshot!(Harness::new().get("/v1/status").await.shown(), @r#"
    200 OK
    {
      "caught_up": true,
      "jobs": {
        "stage-one": {
          "0": {
            "clock": "2026-01-01T00:00:00Z",
            "committed": 7,
            "end": 7,
            "lag": 0
          }
        }
      },
      "late": {
        "stage-one": 2
      },
      "log": {
        "actions": {
          "0": {
            "end": 7,
            "start": 0
          }
        }
      }
    }
    "#);
}

#[tokio::test]
async fn what_came_in_is_told_by_source() {
    let harness = Harness::new();
    let good = r#"{"batch":[{"type":"identify","userId":"u"},{"type":"identify"},7]}"#;
    assert_eq!(harness.post("/v1/batch", good).await.status, 200);
    harness.post("/v1/batch", "{").await.check_problem(400, "invalid_json");
    let unknown = Request::post("/v1/track").body(Body::from(r#"{"writeKey":"stolen"}"#)).unwrap();
    harness.send(unknown).await.check_problem(401, "invalid_write_key");
    // Nothing of it comes in: the edge reads no more than it may.
    harness.post("/v1/batch", vec![b' '; BODY_BYTES_MAX + 1]).await.check_problem(400, "body_too_large");
    let mut told = harness.get("/v1/ingest/status").await.json();
    assert!(told["since"].as_str().unwrap() > "2026", "{told}");
    told["since"] = "now".into();
    insta::assert_snapshot!(serde_json::to_string_pretty(&told).unwrap(), @r#"
    {
      "others": {
        "accepted": 7,
        "door": {
          "events": 0,
          "last_seen": null,
          "refused": {},
          "rejected": {},
          "requests": 0,
          "violations": 0
        },
        "duplicates": 3,
        "last_seen": "2026-01-01T00:00:00Z",
        "late": 2,
        "robots": 1,
        "unapplied": 5,
        "violations": 4
      },
      "since": "now",
      "sources": {
        "web": {
          "accepted": 90,
          "door": {
            "events": 1,
            "last_seen": "2026-01-01T00:00:00Z",
            "refused": {
              "body_too_large": 1,
              "invalid_json": 1
            },
            "rejected": {
              "missing_id": 1,
              "not_an_object": 1
            },
            "requests": 1,
            "violations": 0
          },
          "duplicates": 3,
          "last_seen": "2026-01-01T00:00:00Z",
          "late": 2,
          "robots": 1,
          "unapplied": 5,
          "violations": 4
        }
      },
      "unattributed": {
        "invalid_write_key": 1
      }
    }
    "#);
}

#[tokio::test]
async fn an_empty_platform_answers() {
    let harness = Harness::new();
    let feed = harness.get("/v1/feeds/home?viewer=nobody").await.json();
    assert!(feed["items"].as_array().unwrap().is_empty() && feed["as_of"].is_null() && feed["next_cursor"].is_null());
    let feed = harness.get("/v1/feeds/author/nobody").await.json();
    assert!(feed["items"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn wrong_queries_say_what_is_wrong() {
    let harness = ann_follows_bob().await;
    let cases = [
        ("/v1/feeds/home", "missing_viewer"),
        ("/v1/feeds/home?viewer=", "missing_viewer"),
        ("/v1/feeds/home?viewer=a&viewer=b", "invalid_query"),
        ("/v1/feeds/home?viewer=ann&limit=0", "invalid_limit"),
        ("/v1/feeds/home?viewer=ann&limit=101", "invalid_limit"),
        ("/v1/feeds/home?viewer=ann&limit=x", "invalid_limit"),
        ("/v1/feeds/home?viewer=ann&limit=-1", "invalid_limit"),
        ("/v1/feeds/home?viewer=ann&explain=maybe", "invalid_query"),
        ("/v1/feeds/home?viewer=ann&cursor=nonsense", "invalid_cursor"),
        ("/v1/feeds/home?viewer=a%00b", "invalid_id"),
        ("/v1/feeds/author/bob?limit=0", "invalid_limit"),
        ("/v1/feeds/author/bob?cursor=nonsense", "invalid_cursor"),
    ];
    for (path, code) in cases {
        harness.get(path).await.check_problem(400, code);
    }
    let home = harness.get("/v1/feeds/home?viewer=ann&unknown=1&limit=100&cursor=&explain=0").await;
    assert_eq!(home.status, 200, "what is not known is ignored");
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_have_the_error_body() {
    let harness = Harness::new();
    for path in ["/", "/v1", "/v1/feeds", "/v2/track", "/v1/tracks"] {
        harness.get(path).await.check_problem(404, "not_found");
    }
    let request = Request::delete("/v1/status").body(Body::empty()).unwrap();
    let answer = harness.send(request).await;
    answer.check_problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "GET,HEAD");
}

#[tokio::test]
async fn health() {
    let harness = Harness::new();
    assert_eq!(harness.get("/healthz").await.status, 200);
    assert_eq!(harness.get("/readyz").await.status, 200);
    harness.process.missing.lock().unwrap().push("the job graph".to_owned());
    let answer = harness.get("/readyz").await;
    answer.check_problem(503, "not_ready");
    assert_eq!(answer.json()["missing"][0], "the job graph");
    assert_eq!(harness.get("/healthz").await.status, 200, "alive all the same");
    let metrics = harness.get("/metrics").await;
    assert_eq!((metrics.status.as_u16(), metrics.body.as_str()), (200, "millrace_up 1\n"));
}
