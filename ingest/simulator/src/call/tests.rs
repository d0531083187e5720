use serde_json::{Value, json};

use super::*;

fn call(user: &str, properties: String) -> Call {
    Call {
        kind: Kind::Track,
        message_id: "m-1".to_owned(),
        user_id: user.to_owned(),
        is_anonymous: false,
        event: Cow::Borrowed("post_liked"),
        properties,
        time_us: 1_420_070_400_000_000,
        sent_at_us: None,
        due_us: 1_420_070_400_000_000,
    }
}

#[test]
fn a_call_is_the_json_a_segment_client_sends() {
    let out =
        call("ann", Properties::new().text("post_id", "p1").number("n", 7).list("tags", ["a", "b"]).end()).encode();
    assert_eq!(out.key, "ann");
    assert_eq!(
        String::from_utf8(out.json).unwrap(),
        r#"{"type":"track","messageId":"m-1","userId":"ann","event":"post_liked","properties":{"post_id":"p1","n":7,"tags":["a","b"]},"timestamp":"2015-01-01T00:00:00Z"}"#
    );
}

#[test]
fn any_text_survives_encoding() {
    for text in ["", "plain", "quote \" back \\ slash", "new\nline\u{1}", "ünïcødé 🦀", "</script>"] {
        let out = call(text, Properties::new().text("text", text).list("tags", [text]).end()).encode();
        let value: Value = serde_json::from_slice(&out.json).unwrap();
        assert_eq!(value["userId"], json!(text));
        assert_eq!(value["properties"], json!({"text": text, "tags": [text]}));
    }
}

#[test]
fn what_a_call_says_about_itself_stands_where_a_client_puts_it() {
    #[track_caller]
    fn check(call: Call, sent: Value, recorded: Value) {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        call.write_json(&mut one);
        call.write_recorded(&mut other);
        let pick = |json: &[u8]| -> Value {
            let all: Value = serde_json::from_slice(json).unwrap();
            json!([all["userId"], all["anonymousId"], all["sentAt"], all["receivedAt"]])
        };
        assert_eq!((pick(&one), pick(&other)), (sent, recorded));
    }
    let plain = call("ann", Properties::new().end());
    check(plain.clone(), json!(["ann", null, null, null]), json!(["ann", null, null, null]));
    let anonymous = Call { is_anonymous: true, ..plain.clone() };
    check(anonymous, json!([null, "ann", null, null]), json!([null, "ann", null, null]));
    let late = Call { due_us: plain.time_us + 1_000_000, sent_at_us: Some(plain.time_us + 60_000_000), ..plain };
    let sent = "2015-01-01T00:01:00Z";
    check(late, json!(["ann", null, sent, null]), json!(["ann", null, sent, "2015-01-01T00:00:01Z"]));
}
