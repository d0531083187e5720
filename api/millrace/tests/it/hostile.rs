//! What clumsy and hostile clients send: each is answered, nobody else is hurt, memory stays bounded.

use std::io::Write;

use serde_json::{Value, json};

use super::support::{Server, batch, track};

/// What one request may add to the memory of the process, with a margin for what the healthy client causes.
const GROWTH_BYTES_MAX: u64 = 48 * 1024 * 1024;

fn gzip(bytes: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bytes.for_each(|chunk| encoder.write_all(&chunk).unwrap());
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_answered_and_hurts_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--write-keys", "web:right-key"];
    let mut server = Server::start_on(dir.path(), "wall", super::support::free_port(), &args).await;
    let healthy = |n: usize| batch(&[track("ada", "post_shared", json!({"post_id": "p", "n": n}))]);
    let (status, ..) = server.post("/v1/batch", "right-key", healthy(0), false).await;
    assert_eq!(status, 200);
    server.caught_up().await;
    let before = server.resident();

    let deep = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
    let nested = format!(
        r#"{{"batch":[{},{{"type":"track","userId":"a","event":"x","properties":{{"d":{}}}}}]}}"#,
        track("ada", "post_shared", json!({"post_id": "q"})),
        String::from_utf8(deep(5_000)).unwrap(),
    );
    let garbage = r#"{"batch":[{"type":"track","userId":"a","event":"post_shared","properties":{"post_id":"q"}},
        17, null, "text", {"type":"nonsense"}, {"type":"track"}, [],
        {"type":"track","userId":"a","event":"post_shared","properties":{"post_id":"q"}}]}"#;
    let big_event = batch(&[
        track("ada", "post_shared", json!({"post_id": "q"})),
        track("ada", "big", json!({"text": "x".repeat(40_000)})),
    ]);
    let big_batch = batch(&(0..400).map(|_| track("a", "b", json!({"t": "x".repeat(2_000)}))).collect::<Vec<_>>());
    let bomb = gzip((0..200).map(|_| vec![b' '; 1024 * 1024]));
    let invalid_utf8 =
        [br#"{"batch":[{"type":"track","userId":"a","event":""#.as_slice(), b"\xff\xfe", br#""}]}"#].concat();
    let huge = vec![b'x'; 64 * 1024 * 1024];
    // What it is, the write key, the body, whether it is sent as gzip, the status, the code.
    let cases = [
        ("garbage in the middle", "right-key", garbage.into(), false, 200, ""),
        ("an oversize event in a batch", "right-key", big_event, false, 200, ""),
        ("deep nesting in one event", "right-key", nested.into(), false, 200, ""),
        ("an oversize batch", "right-key", big_batch, false, 400, "batch_too_large"),
        ("a huge body", "right-key", huge, false, 400, "body_too_large"),
        ("a gzip bomb", "right-key", bomb, true, 400, "batch_too_large"),
        ("not gzip", "right-key", b"no gzip".to_vec(), true, 400, "invalid_encoding"),
        ("deep nesting", "right-key", deep(100_000), false, 400, ""),
        ("unclosed nesting", "right-key", vec![b'['; 400_000], false, 400, ""),
        ("invalid UTF-8", "right-key", invalid_utf8, false, 400, "invalid_utf8"),
        ("an empty body", "right-key", Vec::new(), false, 400, "empty_body"),
        ("half a body", "right-key", br#"{"batch":[{"type":"tr"#.to_vec(), false, 400, "invalid_json"),
        ("a wrong key", "wrong-key", healthy(1), false, 401, "invalid_write_key"),
    ];
    for (what, key, body, zipped, expected, code) in cases {
        let (status, _, answer) = server.post("/v1/batch", key, body, zipped).await;
        assert_eq!(status, expected, "{what}: {answer}");
        if expected == 200 {
            assert_eq!(answer, json!({"success": true}), "{what}");
        } else {
            // The one error body: each of these is read by some SDK.
            for field in ["type", "title", "detail", "instance", "code", "message", "error"] {
                assert!(answer[field].is_string(), "{what}: no {field} in {answer}");
            }
            assert_eq!(answer["status"], expected);
            if !code.is_empty() {
                assert_eq!(answer["code"], code, "{what}");
            }
        }
        let (status, ..) = server.post("/v1/batch", "right-key", healthy(2), false).await;
        assert_eq!(status, 200, "the healthy client after {what}");
    }
    assert!(server.is_alive());
    let after = server.resident();
    assert!(after < before + GROWTH_BYTES_MAX, "memory grew from {before} to {after} bytes");
    server.caught_up().await;
    let (_, good) = server.get("/v1/posts/q/engagement").await;
    assert_eq!(good["totals"]["shares"], 4, "what was good in bad batches counts");
    let reasons: Vec<Value> = server.records("dead-letters").await.iter().map(|r| r["reason"].clone()).collect();
    for reason in ["not_an_object", "unknown_type", "missing_id", "event_too_large", "too_deep"] {
        assert!(reasons.contains(&json!(reason)), "no dead letter with {reason}: {reasons:?}");
    }
    server.stop();
}
