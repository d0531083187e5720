use millrace_feature_store::views::{self, ALIASES, IdentityRecord};

use super::harness::{Harness, NOW_US};

#[tokio::test]
async fn a_person_has_all_ids_whichever_is_asked_for() {
    let mut harness = Harness::new();
    harness.applied().await;
    let identity = IdentityRecord { person_id: "ann".to_owned(), linked_at_us: NOW_US };
    harness.put(views::record(views::IDENTITY, "visitor/1"), identity).await;
    harness.insert(ALIASES, "ann", "visitor/1", NOW_US).await;
    let answer = harness.get("/v1/persons/ann").await;
    insta::assert_snapshot!(answer.shown(), @r#"
    200 OK
    {
      "as_of": "2026-01-01T00:00:00Z",
      "ids": [
        {
          "id": "ann",
          "linked_at": null
        },
        {
          "id": "visitor/1",
          "linked_at": "2026-01-01T00:00:00Z"
        }
      ],
      "person_id": "ann"
    }
    "#);
    assert_eq!(harness.get("/v1/persons/visitor%2F1").await.json(), answer.json());
    let stranger = harness.get("/v1/persons/nobody/").await.json();
    assert_eq!((&stranger["person_id"], stranger["ids"].as_array().unwrap().len()), (&"nobody".into(), 1));
    harness.get(&format!("/v1/persons/{}", "x".repeat(201))).await.check_problem(400, "invalid_id");
}
