use serde_json::json;

use super::*;
use crate::{Document, Entry, Revision, read};

/// What an entry says, or why it cannot be read.
#[track_caller]
fn check(document: &Value, expected: std::result::Result<TrackingPlan, &str>) {
    let document = Document::of(document).unwrap();
    let name = "order_placed".to_owned();
    let entry = Entry { kind: "plan".to_owned(), name, document, revision: Revision(1), created_ms: 0, updated_ms: 0 };
    match (read::<TrackingPlan>(&entry), expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected),
        (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    }
}

#[test]
fn an_entry_is_a_plan_or_says_why_not() {
    let schema = json!({"required": ["total"]});
    let plan =
        TrackingPlan { event: "order_placed".to_owned(), schema: schema.clone(), on_violation: OnViolation::Refuse };
    check(&json!({"event": "order_placed", "schema": schema, "on_violation": "refuse"}), Ok(plan.clone()));
    check(
        &json!({"event": "order_placed", "schema": schema}),
        Ok(TrackingPlan { on_violation: OnViolation::Mark, ..plan }),
    );
    check(&json!({"event": "order_placed", "schema": [1]}), Err("neither an object"));
    check(&json!({"event": "order_sent", "schema": true}), Err("it calls itself"));
    check(&json!({"event": "order_placed", "schema": true, "on_violation": "burn"}), Err("cannot be read"));
    check(&json!({"event": "order_placed", "schema": true, "other": 1}), Err("unknown field"));
}
