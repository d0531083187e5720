use bytes::Bytes;
use millrace_events::{DeadLetter, Derived, Link, Position, PostContent, Topic, TopicPartition};
use millrace_log::{Append, EventLog as _};
use prost::Message as _;

use super::harness::{ADMIN_TOKEN, Answer, Harness, NOW_US};
use crate::NEXT_OFFSET;

async fn read(harness: &Harness, path: &str) -> Answer {
    harness.get_as(path, &format!("Bearer {ADMIN_TOKEN}")).await
}

/// Puts one value into partition 0 of `topic`.
async fn append(harness: &Harness, topic: Topic, value: Vec<u8>) {
    let to = TopicPartition::new(topic, 0);
    let time = millrace_events::LogTime(NOW_US);
    let record = Append { to, time, key: Bytes::from_static(b"ann"), value: value.into() };
    harness.log.append(vec![record]).await.unwrap();
}

#[tokio::test]
async fn actions_are_lines_with_what_was_sent() {
    let harness = Harness::new();
    let event = r#"{"event":"Post Liked","userId":"ann","messageId":"m1","timestamp":"2025-12-31T23:00:00Z",
        "properties":{
            "post_id":"p", "big": 12345678901234567890123
        }}"#;
    assert_eq!(harness.post("/v1/track", event).await.status, 200);
    let partition = millrace_events::partition_of(b"ann", 2);
    let answer = read(&harness, &format!("/v1/log/actions?partition={partition}")).await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert_eq!(answer.header(NEXT_OFFSET), "1");
    let body = answer.body.replace(&format!(r#""partition":{partition}"#), r#""partition":P"#);
    insta::assert_snapshot!(body, @r#"
    {"topic":"actions","partition":P,"offset":0,"log_time":"2026-01-01T00:00:00Z","key":"ann","type":"track","event":"post_liked","message_id":"m1","source":"web","user_id":"ann","event_time":"2025-12-31T23:00:00Z","received_at":"2026-01-01T00:00:00Z","action":{"kind":"post_liked","post_id":"p"},"name":"Post Liked","properties":{             "post_id":"p", "big": 12345678901234567890123         }}
    "#);
}

#[tokio::test]
async fn every_topic_has_its_lines() {
    let harness = Harness::new();
    let position = Position { generation: 1, partition: 2, offset: 3, index: 4 };
    let derived = Derived {
        position,
        log_time_us: NOW_US,
        kind: millrace_events::ActionKind::PostCreated as i32,
        actor: "ann".to_owned(),
        post_id: "p".to_owned(),
        event_time_us: NOW_US,
        content: Some(PostContent { text: "hi".to_owned(), ..PostContent::default() }),
        ..Derived::default()
    };
    append(&harness, Topic::UserEvents, derived.encode_to_vec()).await;
    let link = Link { alias_id: "anon".to_owned(), person_id: "ann".to_owned() };
    let linked = Derived { link: Some(link), kind: 0, post_id: String::new(), content: None, ..derived };
    append(&harness, Topic::UserEvents, linked.encode_to_vec()).await;
    append(&harness, Topic::UserEvents, vec![0xff; 3]).await;
    let letter = |payload: &'static [u8]| DeadLetter {
        reason: "missing_property".to_owned(),
        detail: "post_id is required".to_owned(),
        by: "collector".to_owned(),
        payload: Bytes::from_static(payload),
        position: Some(position),
        door: "track".to_owned(),
        ..DeadLetter::default()
    };
    append(&harness, Topic::DeadLetters, letter(b"{\n\"type\": \"track\"\n}").encode_to_vec()).await;
    append(&harness, Topic::DeadLetters, letter(b"{\"cut\": \"of").encode_to_vec()).await;
    append(&harness, Topic::DeadLetters, letter(&[0xff, 0]).encode_to_vec()).await;
    let lines = read(&harness, "/v1/log/user-events").await.body + &read(&harness, "/v1/log/dead-letters").await.body;
    for line in lines.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    insta::assert_snapshot!(lines, @r#"
    {"topic":"user-events","partition":0,"offset":0,"log_time":"2026-01-01T00:00:00Z","key":"ann","position":{"generation":1,"partition":2,"offset":3,"index":4},"source_log_time":"2026-01-01T00:00:00Z","action":"post_created","actor":"ann","post_id":"p","event_time":"2026-01-01T00:00:00Z","content":{"text":"hi"}}
    {"topic":"user-events","partition":0,"offset":1,"log_time":"2026-01-01T00:00:00Z","key":"ann","position":{"generation":1,"partition":2,"offset":3,"index":4},"source_log_time":"2026-01-01T00:00:00Z","actor":"ann","event_time":"2026-01-01T00:00:00Z","link":{"alias_id":"anon","person_id":"ann"}}
    {"topic":"user-events","partition":0,"offset":2,"log_time":"2026-01-01T00:00:00Z","key":"ann","error":"cannot decode a derived record","value_base64":"////"}
    {"topic":"dead-letters","partition":0,"offset":0,"log_time":"2026-01-01T00:00:00Z","key":"ann","reason":"missing_property","detail":"post_id is required","by":"collector","door":"track","payload":{ "type": "track" },"position":{"generation":1,"partition":2,"offset":3,"index":4}}
    {"topic":"dead-letters","partition":0,"offset":1,"log_time":"2026-01-01T00:00:00Z","key":"ann","reason":"missing_property","detail":"post_id is required","by":"collector","door":"track","payload":"{\"cut\": \"of","position":{"generation":1,"partition":2,"offset":3,"index":4}}
    {"topic":"dead-letters","partition":0,"offset":2,"log_time":"2026-01-01T00:00:00Z","key":"ann","reason":"missing_property","detail":"post_id is required","by":"collector","door":"track","payload_base64":"/wA=","position":{"generation":1,"partition":2,"offset":3,"index":4}}
    "#);
}

#[tokio::test]
async fn pages_follow_the_next_offset() {
    let harness = Harness::new();
    for _ in 0..5 {
        append(&harness, Topic::UserEvents, Derived::default().encode_to_vec()).await;
    }
    let cases = [
        ("", 5, "5"),
        ("?limit=2", 2, "2"),
        ("?limit=2&from=2", 2, "4"),
        ("?from=4", 1, "5"),
        ("?from=start&limit=1", 1, "1"),
        ("?from=end", 0, "5"),
        ("?partition=1", 0, "0"),
    ];
    for (query, lines, next) in cases {
        let answer = read(&harness, &format!("/v1/log/user-events{query}")).await;
        assert_eq!((answer.body.lines().count(), answer.header(NEXT_OFFSET)), (lines, next), "{query}");
    }
    let errors = [
        ("user-events?limit=1001", "invalid_limit"),
        ("user-events?limit=0", "invalid_limit"),
        ("user-events?from=x", "invalid_offset"),
        ("user-events?from=6", "offset_out_of_range"),
        ("user-events?partition=2", "invalid_partition"),
        ("user-events?partition=x", "invalid_partition"),
    ];
    for (query, code) in errors {
        read(&harness, &format!("/v1/log/{query}")).await.check_problem(400, code);
    }
    read(&harness, "/v1/log/nothing").await.check_problem(404, "unknown_topic");
}
