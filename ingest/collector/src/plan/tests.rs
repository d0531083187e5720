use serde_json::json;

use super::*;
use crate::tests::Door;
use crate::{Accepted, Call};

fn plan(schema: &Value) -> Plan {
    Plan::compile("Order Placed", schema, OnViolation::Mark).unwrap()
}

/// What is told of properties that depart from a schema, or nothing.
#[track_caller]
fn check(schema: Value, properties: &str, expected: Option<&str>) {
    assert_eq!(plan(&schema).violation(properties).as_deref(), expected, "{schema} {properties}");
}

#[test]
fn a_departure_is_a_place_and_a_rule_out_of_the_plan() {
    let order = json!({
        "type": "object",
        "properties": {
            "total": {"type": "number", "minimum": 0},
            "currency": {"enum": ["EUR", "USD"]},
            "mail": {"type": "string", "pattern": "^[^@]+@[^@]+$"},
            "items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "maxItems": 3},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["total"],
        "additionalProperties": false,
        "$defs": {"item": {"type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"]}},
    });
    for (properties, expected) in [
        (r#"{"total":1,"currency":"EUR","mail":"a@b","items":[{"price":2}],"labels":{"a":"b"}}"#, None),
        (r#"{"total":"much"}"#, Some("/total: type")),
        (r#"{"total":-1}"#, Some("/total: minimum")),
        (r#"{"total":1,"currency":"XYZ"}"#, Some("/currency: enum")),
        ("{}", Some("/total: required")),
        ("", Some("/total: required")),
        (r#"{"total":1,"items":[{"price":1},{"price":"x"}]}"#, Some("/items/*/price: type")),
        (r#"{"total":1,"items":[{}]}"#, Some("/items/*/price: required")),
        (r#"{"total":1,"items":[{"price":1},{"price":1},{"price":1},{"price":1}]}"#, Some("/items: maxItems")),
        // Neither a value nor a name that was sent.
        (r#"{"total":1,"mail":"ada at example.org"}"#, Some("/mail: pattern")),
        (r#"{"total":1,"ada@example.org":true}"#, Some("/: additionalProperties")),
        (r#"{"total":1,"labels":{"ada@example.org":7}}"#, Some("/labels/*: type")),
        (r#"{"total":1e999}"#, Some("/: json")),
        (r#"{"total":"\ud800"}"#, Some("/: json")),
    ] {
        check(order.clone(), properties, expected);
    }
    check(json!({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}), "{}", Some("/: anyOf"));
    check(json!({"minProperties": 1}), "{}", Some("/: minProperties"));
    check(json!(true), "{}", None);
    check(json!(false), "{}", Some("/: falseSchema"));
}

#[test]
fn what_is_told_is_bounded() {
    let name = "n".repeat(1_000);
    let told = plan(&json!({"properties": {&name: {"type": "string"}}})).violation(&format!(r#"{{"{name}":1}}"#));
    assert_eq!(told.unwrap().len(), VIOLATION_BYTES_MAX);
}

/// Why a schema is no plan.
#[track_caller]
fn refused(schema: &Value, why: &str) {
    let error = Plan::compile("e", schema, OnViolation::Mark).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
    assert!(error.len() < 600 && !error.contains('\n'), "{error}");
}

#[test]
fn a_schema_that_is_none_says_where() {
    refused(&json!({"type": "nubmer"}), "at /type: ");
    refused(&json!({"properties": {"a": {"minimum": "x"}}}), "at /properties/a/minimum: ");
    refused(&json!([]), "");
    refused(&json!({"pattern": "(unclosed"}), "");
    assert!(Plan::compile("!!", &json!({}), OnViolation::Mark).unwrap_err().to_string().contains("no letter"));
}

#[test]
fn a_schema_points_nowhere_outside_of_itself() {
    for reference in
        ["https://example.org/schema.json", "file:///etc/passwd", "other.json#/a", "#anchor", "#", "#/none"]
    {
        refused(&json!({"$ref": reference}), "is not found");
    }
    refused(&json!({"$id": "https://example.org/", "$ref": "#/a"}), "$id is not taken");
    refused(&json!({"$dynamicRef": "#a"}), "$dynamicRef is not taken");
    // A property may have any of these names.
    check(
        json!({"properties": {"$id": {"type": "string"}, "id": {"type": "string"}}}),
        r#"{"id":1}"#,
        Some("/id: type"),
    );
}

#[test]
fn a_schema_does_not_become_large() {
    refused(&json!({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}), "leads back to itself");
    // Each refers to the next twice.
    let mut defs = serde_json::Map::new();
    for nth in 0..64 {
        let next = json!({"$ref": format!("#/$defs/d{}", nth + 1)});
        defs.insert(format!("d{nth}"), json!({"allOf": [next, next]}));
    }
    defs.insert("d64".to_owned(), json!({}));
    refused(&json!({"$defs": defs, "$ref": "#/$defs/d0"}), "more than 2000 parts");
    refused(&json!({"description": "x".repeat(SCHEMA_BYTES_MAX)}), "is too long");
    refused(&json!({"properties": {"a": {"pattern": "(a{1000}){1000}"}}}), "");
}

#[test]
fn a_pattern_is_matched_in_linear_time() {
    // One that looks back has no such engine.
    refused(&json!({"properties": {"a": {"pattern": "(a)\\1"}}}), "");
    let hostile = format!(r#"{{"a":"{}!"}}"#, "a".repeat(30_000));
    check(json!({"properties": {"a": {"pattern": "^(a|aa|a*)*$"}}}), &hostile, Some("/a: pattern"));
}

fn door(on_violation: OnViolation) -> Door {
    let schema = json!({"properties": {"total": {"type": "number"}}, "required": ["total"]});
    let door = Door::new();
    door.plan(vec![
        Plan::compile("orderPlaced", &schema, on_violation).unwrap(),
        Plan::compile("page", &schema, on_violation).unwrap(),
    ]);
    door
}

fn batch(events: &[&str]) -> String {
    format!(r#"{{"batch":[{}]}}"#, events.join(","))
}

const GOOD: &str = r#"{"type":"track","messageId":"1","userId":"u","event":"Order Placed","properties":{"total":7}}"#;
const BAD: &str = r#"{"type":"track","messageId":"2","userId":"u","event":"order_placed","properties":{"total":"7"}}"#;
const OTHER: &str = r#"{"type":"track","messageId":"3","userId":"u","event":"Order Sent","properties":{"total":"7"}}"#;
const PAGE: &str = r#"{"type":"page","messageId":"4","userId":"u","name":"Home"}"#;
/// A plan is about what happened, not about who somebody is.
const WHO: &str = r#"{"type":"identify","messageId":"5","userId":"u","traits":{"total":"7"}}"#;

#[test]
fn what_departs_is_kept_and_marked_when_the_plan_says_so() {
    let door = door(OnViolation::Mark);
    let sent = door.send(Call::Batch, batch(&[GOOD, BAD, OTHER, PAGE, WHO]));
    assert_eq!(sent, Ok(Accepted { accepted: 5, rejected: 0 }));
    let violations: Vec<String> = door.envelopes().into_iter().map(|envelope| envelope.violation).collect();
    assert_eq!(violations, ["", "/total: type", "", "/total: required", ""]);
    assert_eq!(door.counters().violations, 2);
}

#[test]
fn what_departs_is_a_dead_letter_when_the_plan_says_so() {
    let door = door(OnViolation::Refuse);
    assert_eq!(door.send(Call::Batch, batch(&[GOOD, BAD, OTHER])), Ok(Accepted { accepted: 2, rejected: 1 }));
    let letter = door.letters().remove(0);
    assert_eq!((letter.reason.as_str(), letter.payload.as_ref()), ("plan_violation", BAD.as_bytes()));
    assert_eq!(letter.detail, "properties depart from the tracking plan of order_placed: /total: type");
    assert_eq!(door.counters().violations, 0);
    let rejected = door.counters().rejected;
    assert!(rejected.contains(&("plan_violation", 1)), "{rejected:?}");
}

#[test]
fn plans_change_between_two_requests_and_the_last_of_an_event_counts() {
    let door = door(OnViolation::Refuse);
    door.plan(Vec::new());
    assert_eq!(door.send(Call::Batch, batch(&[BAD])), Ok(Accepted { accepted: 1, rejected: 0 }));
    let none = |on| Plan::compile("order_placed", &json!(false), on).unwrap();
    door.plan(vec![none(OnViolation::Refuse), none(OnViolation::Mark)]);
    assert_eq!(door.send(Call::Batch, batch(&[GOOD])), Ok(Accepted { accepted: 1, rejected: 0 }));
    let marked: Vec<String> = door.envelopes().into_iter().map(|envelope| envelope.violation).collect();
    assert_eq!(marked, ["/: falseSchema", ""]);
}
