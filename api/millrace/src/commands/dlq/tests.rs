use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::json;

use super::*;
use crate::commands::client::LogBounds;
use crate::commands::sender::Progress;
use crate::commands::tail::Page;

struct Letters(Vec<Value>);

#[async_trait]
impl Records for Letters {
    async fn bounds(&self, _topic: Topic) -> anyhow::Result<Vec<LogBounds>> {
        Ok(vec![LogBounds { start: 0, end: self.0.len() as u64 }])
    }

    async fn read(&self, _topic: Topic, _partition: u32, from: u64, limit: u64) -> anyhow::Result<Page> {
        let from = usize::try_from(from).unwrap();
        let lines: Vec<String> =
            self.0.iter().skip(from).take(usize::try_from(limit).unwrap()).map(Value::to_string).collect();
        let next = (from + lines.len()) as u64;
        Ok(Page { lines, next })
    }
}

struct Sink {
    answer: Answer,
    got: Mutex<Vec<(Call, Bytes)>>,
}

#[async_trait]
impl Door for Sink {
    async fn send(&self, call: Call, body: Bytes) -> Answer {
        self.got.lock().unwrap().push((call, body));
        self.answer.clone()
    }

    async fn progress(&self) -> anyhow::Result<Progress> {
        Ok(Progress { caught_up: true, lag: 0 })
    }
}

fn letter(offset: u64, id: &str, payload: &Value, truncated: bool) -> Value {
    json!({"topic": "dead-letters", "partition": 0, "offset": offset, "id": id, "reason": "missing_property",
        "detail": "d", "by": "collector", "payload": payload, "truncated": truncated})
}

fn letters() -> Letters {
    let call = json!({"type": "track", "userId": "ann"});
    let mut of_a_job = letter(2, "", &Value::Null, false);
    of_a_job["payload_base64"] = json!("AAE=");
    Letters(vec![
        letter(0, "", &call, false),
        letter(1, "authors-1", &call, false),
        of_a_job,
        letter(3, "", &json!("{\"type\":\"tra"), true),
        letter(4, "", &json!("garbage"), false),
        letter(5, "0-1", &call, false),
    ])
}

#[tokio::test]
async fn a_letter_is_found_by_its_id_or_its_place() {
    for (id, offset) in [
        ("0-0", Some(0)),
        ("authors-1", Some(1)),
        ("0-2", Some(2)),
        ("0-1", Some(5)),
        ("0-9", None),
        ("7-0", None),
        ("x", None),
    ] {
        let found = find(&letters(), id).await.unwrap().map(|letter| letter.json["offset"].as_u64().unwrap());
        assert_eq!(found, offset, "{id}");
    }
}

#[tokio::test]
async fn a_letter_that_was_written_twice_is_listed_once() {
    let ids = ["", "authors-1", "authors-2", "", "authors-1", "authors-1", "authors-3"];
    let letters = (0..).zip(ids).map(|(offset, id)| letter(offset, id, &Value::Null, false)).collect();
    let letters = Letters(letters);
    for (limit, expected) in [(50, &[0, 1, 2, 3, 6][..]), (3, &[4, 6]), (0, &[])] {
        let listed = latest(&letters, limit, &Only::default()).await.unwrap();
        let offsets: Vec<u64> = listed.iter().map(|letter| letter.json["offset"].as_u64().unwrap()).collect();
        assert_eq!(offsets, expected, "the last {limit}");
    }
}

#[tokio::test]
async fn only_those_asked_for_are_listed_however_far_back() {
    let mut letters = letters();
    letters.0[0]["reason"] = json!("missing_id");
    letters.0[1]["source"] = json!("ios");
    let check = async |only: Only, limit, expected: &[u64]| {
        let listed = latest(&letters, limit, &only).await.unwrap();
        let offsets: Vec<u64> = listed.iter().map(|letter| letter.json["offset"].as_u64().unwrap()).collect();
        assert_eq!(offsets, expected, "{only:?}");
    };
    let reason = |reason: &str| Only { reason: Some(reason.to_owned()), source: None };
    check(reason("missing_id"), 1, &[0]).await;
    check(reason("missing_property"), 2, &[4, 5]).await;
    check(reason("other"), 50, &[]).await;
    check(Only { source: Some("ios".to_owned()), ..reason("missing_property") }, 50, &[1]).await;
}

#[tokio::test]
async fn a_replay_sends_the_call_as_it_was() {
    let code = |code: ExitCode| format!("{code:?}");
    for id in ["0-0", "authors-1"] {
        let sink = Sink { answer: Answer::Taken { rejected: 0 }, got: Mutex::default() };
        assert_eq!(code(replay(&letters(), &sink, id).await.unwrap()), code(ExitCode::SUCCESS));
        let (call, body) = sink.got.lock().unwrap().remove(0);
        assert_eq!(call, Call::Batch, "of a letter that does not say");
        let sent: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(sent, json!({"batch": [{"type": "track", "userId": "ann"}]}));
    }
    let sink = Sink { answer: Answer::Taken { rejected: 1 }, got: Mutex::default() };
    assert_eq!(code(replay(&letters(), &sink, "0-0").await.unwrap()), code(ExitCode::from(1)));
    assert_eq!(code(replay(&letters(), &sink, "nothing").await.unwrap()), code(ExitCode::from(1)));
}

#[tokio::test]
async fn a_replay_goes_through_the_door_that_it_came_by() {
    let event = json!({"event": "e", "n": 1});
    let one = event.to_string();
    let batch = json!({"batch": [event]}).to_string();
    for call in Call::ALL {
        let mut through = letter(0, "", &event, false);
        through["door"] = json!(call.name());
        let sink = Sink { answer: Answer::Taken { rejected: 0 }, got: Mutex::default() };
        replay(&Letters(vec![through]), &sink, "0-0").await.unwrap();
        let holds_several = matches!(call, Call::Batch | Call::Events | Call::Capture | Call::Analytics);
        let expected = if holds_several { &batch } else { &one };
        assert_eq!(*sink.got.lock().unwrap(), [(call, Bytes::copy_from_slice(expected.as_bytes()))]);
    }
    let mut unknown = letter(0, "", &event, false);
    unknown["door"] = json!("telegraph");
    let sink = Sink { answer: Answer::Taken { rejected: 0 }, got: Mutex::default() };
    let error = replay(&Letters(vec![unknown]), &sink, "0-0").await.unwrap_err();
    assert!(format!("{error:#}").contains("telegraph"), "{error:#}");
    assert!(sink.got.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_a_whole_call_is_not_sent() {
    let sink = Sink { answer: Answer::Taken { rejected: 0 }, got: Mutex::default() };
    for (id, why) in [("0-2", "holds no event"), ("0-3", "too large to be kept whole"), ("0-4", "holds no event")] {
        let error = replay(&letters(), &sink, id).await.unwrap_err();
        assert!(format!("{error:#}").contains(why), "{error:#}");
    }
    assert!(sink.got.lock().unwrap().is_empty());
}

#[test]
fn numbers_are_sent_as_they_were_written() {
    let line = r#"{"partition":0,"offset":1,"payload":{"type":"track","n":1.10,"big":12345678901234567890123}}"#;
    let event = event_of(&Letter::parse(line.to_owned()).unwrap()).unwrap();
    assert_eq!(event, r#"{"type":"track","n":1.10,"big":12345678901234567890123}"#);
}
