//! Each bound of the front door, crossed: what is answered, that a healthy client beside it gets every answer, and that
//! memory stays under twice what the bound allows. How fast the healthy client is meanwhile is for `tests/hostile.py`.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::support::{Server, batch, free_port, track};

/// So many connections attack at one time...
const ATTACKERS: usize = 2_000;
/// ...and so many requests the healthy client makes meanwhile.
const HEALTHY: usize = 40;
/// What the server may hold for one connection that has sent no complete head: `HEAD_BYTES_MAX`.
const HEAD_BYTES: u64 = 16 * 1024;
/// What it may hold of all bodies together: `BODIES_BYTES_MAX`.
const BODIES_BYTES: u64 = 128 * 1024 * 1024;
/// What the healthy client's own events add, with the jobs that work on them.
const HEALTHY_BYTES: u64 = 24 * 1024 * 1024;

const KEY: &str = "right-key";
/// Its key as `Authorization` has it.
const BASIC: &str = "Basic cmlnaHQta2V5Og==";

async fn start(dir: &std::path::Path) -> Server {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    Server::start_on(dir, "wall", free_port(), &["--write-keys", "web:right-key,slow:slow-key1"]).await
}

async fn healthy(server: &Server, what: &str) {
    for n in 0..HEALTHY {
        let body = batch(&[track("ada", "post_shared", json!({"post_id": "p", "n": n}))]);
        let (status, _, answer) = server.post("/v1/batch", KEY, body, false).await;
        assert_eq!((status, answer), (200, json!({"success": true})), "the healthy client beside {what}");
    }
}

/// A connection from an address of the attackers' own.
async fn attacker(server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(format!("127.0.0.1:{}", server.port).parse().unwrap()).await.unwrap()
}

/// Many connections that each send `first` and then one of `trickle` after the other, while the healthy client works.
async fn trickle(server: &Server, what: &str, first: &str, trickle: &'static [u8]) -> u64 {
    let before = server.resident();
    let stop = Arc::new(AtomicBool::new(false));
    let mut attackers = JoinSet::new();
    for _ in 0..ATTACKERS {
        let mut stream = attacker(server).await;
        stream.write_all(first.as_bytes()).await.unwrap();
        let stop = stop.clone();
        attackers.spawn(async move {
            for byte in trickle.iter().cycle() {
                // The server may have had enough of it.
                if stop.load(Ordering::Relaxed) || stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            }
        });
    }
    healthy(server, what).await;
    let grown = server.resident().saturating_sub(before);
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = attackers.join_next().await {
        ended.unwrap();
    }
    grown
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_of_a_request_is_answered_and_hurts_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = start(dir.path()).await;
    healthy(&server, "nobody").await;
    server.caught_up().await;
    let before = server.resident();

    let event = |properties: &str| {
        format!(r#"{{"batch":[{{"type":"track","userId":"a","event":"x","properties":{properties}}}]}}"#)
    };
    let text = |bytes: usize| event(&json!({"t": "x".repeat(bytes)}).to_string());
    let named = |user: &str, name: &str| batch(&[track(user, name, json!({}))]);
    let keys: serde_json::Map<String, Value> = (0..1_001).map(|n| (format!("k{n}"), json!(n))).collect();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    (0..200).for_each(|_| bomb.write_all(&[b' '; 1024 * 1024]).unwrap());
    let many = |events: usize| batch(&vec![track("a", "x", json!({})); events]);
    let deep = |levels: usize| event(&format!(r#"{{"d":{}{}}}"#, "[".repeat(levels), "]".repeat(levels)));
    let plain = |body: String| (body.into_bytes(), false);
    // What crosses which bound, the body and whether it is sent as gzip, the status, the code or the reason of a dead letter.
    let cases = [
        ("a body of 2 MiB and a byte", (vec![b' '; 2 * 1024 * 1024 + 1], false), 400, "body_too_large"),
        ("a batch of 512,001 bytes", (vec![b' '; 512_001], false), 400, "batch_too_large"),
        ("a gzip bomb", (bomb.finish().unwrap(), true), 400, "batch_too_large"),
        ("2,501 events", (many(2_501), false), 400, "too_many_events"),
        ("an event of more than 32 KiB", plain(text(32 * 1024)), 200, "event_too_large"),
        ("33 levels", plain(deep(31)), 200, "too_deep"),
        ("more than 1,000 keys", plain(event(&Value::Object(keys).to_string())), 200, "too_many_keys"),
        ("a number of 65 digits", plain(event(&format!(r#"{{"n":{}}}"#, "7".repeat(65)))), 200, "number_too_long"),
        ("an id of 201 bytes", (named(&"u".repeat(201), "x"), false), 200, "invalid_id"),
        ("an event name of 201 bytes", (named("u", &"n".repeat(201)), false), 200, "invalid_event"),
    ];
    let mut letters = Vec::new();
    for (what, (body, is_gzip), expected, code) in cases {
        let (status, _, answer) = server.post("/v1/batch", KEY, body, is_gzip).await;
        assert_eq!(status, expected, "{what}: {answer}");
        if expected == 200 {
            letters.push(json!(code));
        } else {
            assert_eq!(answer["code"], code, "{what}");
        }
        healthy(&server, what).await;
    }
    assert!(server.is_alive());
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 2 * (2 * 1024 * 1024) + HEALTHY_BYTES, "memory grew by {grown} bytes");
    server.caught_up().await;
    let reasons: Vec<Value> = server.records("dead-letters").await.iter().map(|r| r["reason"].clone()).collect();
    for letter in letters {
        assert!(reasons.contains(&letter), "no dead letter with {letter}: {reasons:?}");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_keep_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    healthy(&server, "nobody").await;
    let connections = ATTACKERS as u64 * HEAD_BYTES;

    let grown = trickle(&server, "2,000 slow heads", "P", b"OST /v1/track HTTP/1.1\r\nX: 0123456789").await;
    assert!(grown < 2 * connections + HEALTHY_BYTES, "slow heads: memory grew by {grown} bytes");

    let head = format!("POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: {BASIC}\r\nContent-Length: 2000\r\n\r\n");
    let grown = trickle(&server, "2,000 slow bodies", &head, b"x").await;
    assert!(grown < 2 * connections + HEALTHY_BYTES, "slow bodies: memory grew by {grown} bytes");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_stop_before_their_end_hold_no_more_than_their_share() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    healthy(&server, "nobody").await;
    let before = server.resident();
    let head =
        format!("POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: {BASIC}\r\nContent-Length: 2000000\r\n\r\n");
    let body = vec![b'x'; 1_900_000];
    // Three times as much as all bodies may hold.
    let mut streams = Vec::new();
    let mut turned_away = 0;
    for _ in 0..3 * BODIES_BYTES / 2_000_000 {
        let mut stream = attacker(&server).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        // Refused while it sends, it may find the connection closed.
        let is_sent = stream.write_all(&body).await.is_ok();
        let mut begin = [0; 12];
        let answered = tokio::time::timeout(std::time::Duration::from_millis(20), stream.read_exact(&mut begin)).await;
        let is_refused = answered.is_ok_and(|read| read.is_ok()) && begin == *b"HTTP/1.1 503";
        turned_away += usize::from(is_refused || !is_sent);
        streams.push(stream);
    }
    let grown = server.resident().saturating_sub(before);
    assert!(turned_away > 0, "some are told to come back");
    assert!(grown < 2 * BODIES_BYTES, "memory grew by {grown} bytes");
    drop(streams);
    // Their bytes are given back as the server learns that they are gone.
    loop {
        let body = batch(&[track("ada", "post_shared", json!({"post_id": "p"}))]);
        match server.post("/v1/batch", KEY, body, false).await.0 {
            200 => break,
            status => assert_eq!(status, 503),
        }
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_read_nothing_and_clients_that_send_nonsense_hurt_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let server = start(dir.path()).await;
    healthy(&server, "nobody").await;
    let before = server.resident();
    const READERS: usize = 100;
    let mut streams = Vec::new();
    let pipeline = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    for _ in 0..READERS {
        let mut stream = attacker(&server).await;
        // It stops taking requests when nobody takes its answers.
        let writing = tokio::time::timeout(std::time::Duration::from_millis(50), stream.write_all(pipeline.as_bytes()));
        let _may_have_stopped = writing.await;
        streams.push(stream);
    }
    healthy(&server, "clients that read nothing").await;
    let grown = server.resident().saturating_sub(before);
    // A head that is next, a piece of requests, and an answer that waits: the document is the largest of those.
    let connection = HEAD_BYTES + 64 * 1024 + 128 * 1024;
    assert!(grown < 2 * READERS as u64 * connection + HEALTHY_BYTES, "memory grew by {grown} bytes");
    drop(streams);

    for _ in 0..200 {
        let mut stream = attacker(&server).await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\x16\x03\x01 no HTTP at all\r\n\r\n").await.unwrap();
        let mut answers = Vec::new();
        let _closed = stream.read_to_end(&mut answers).await;
        let answers = String::from_utf8_lossy(&answers);
        assert!(answers.starts_with("HTTP/1.1 200 OK") && answers.contains("HTTP/1.1 400"), "{answers}");
    }
    healthy(&server, "nonsense").await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_sends_too_much_is_told_so_and_the_other_keys_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--write-keys", "web:right-key,slow:slow-key1", "--key-events-per-second", "1/100"];
    let server = Server::start_on(dir.path(), "wall", free_port(), &args).await;
    let send = async |key, events| {
        let body = batch(&vec![track("ada", "x", json!({})); events]);
        server.post("/v1/batch", key, body, false).await
    };
    assert_eq!(send("slow-key1", 2_500).await.0, 200, "a batch larger than the burst is possible");
    let (status, retry_after, answer) = send("slow-key1", 1).await;
    assert_eq!((status, &answer["code"]), (429, &json!("rate_limited")));
    assert!(retry_after.unwrap().parse::<u32>().unwrap() > 2_000);
    assert_eq!(send(KEY, 1).await.0, 200);
    server.caught_up().await;
    assert_eq!(server.records("actions").await.iter().filter(|r| r["event"] == "x").count(), 2_501);
    server.stop();
}
