//! What one event costs in the front door, without the log behind it: `cargo bench -p millrace-collector`.
//!
//! Divide the time of a batch by its size. Bodies look like what `analytics-node` sends: about 300 bytes per event.

use std::io::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use flate2::Compression;
use flate2::write::GzEncoder;
use millrace_collector::{Call, Collector, CollectorOptions, Key, KeyKind, Request, make_key};
use millrace_events::TopicPartition;
use millrace_log::{Append, Bounds, EventLog, Offset, Record, Result, WallClock};

fn main() {
    divan::main();
}

/// Acknowledges at once and keeps nothing.
struct NullLog;

#[async_trait]
impl EventLog for NullLog {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Offset>> {
        Ok(vec![0; batch.len()])
    }

    async fn read(&self, _of: TopicPartition, _from: Offset, _bytes_max: usize) -> Result<Vec<Record>> {
        Ok(Vec::new())
    }

    async fn wait(&self, _of: TopicPartition, _from: Offset) -> Result<()> {
        Ok(())
    }

    async fn bounds(&self, _of: TopicPartition) -> Result<Bounds> {
        Ok(Bounds::default())
    }

    async fn trim(&self, _of: TopicPartition, _before: Offset) -> Result<()> {
        Ok(())
    }

    fn partitions(&self) -> u32 {
        4
    }
}

fn event(nth: usize, event: &str, properties: &str) -> String {
    format!(
        r#"{{"type":"track","event":"{event}","userId":"user-{}","anonymousId":null,"messageId":"node-next-1767225600000-{nth:012}-4bd2-9b1f-7d1a2b3c4d5e","timestamp":"2026-01-01T00:00:{:02}.123Z","properties":{properties},"context":{{"library":{{"name":"@segment/analytics-node","version":"3.1.0"}}}}}}"#,
        nth % 97,
        nth % 60,
    )
}

fn liked(nth: usize) -> String {
    event(nth, "post_liked", &format!(r#"{{"post_id":"post-{nth}","slate":"s-{nth}","position":{}}}"#, nth % 20))
}

fn created(nth: usize) -> String {
    let text = r#"{"post_id":"p-1","text":"a post of ordinary length,\nwith one line break","tags":["rust","news"],"lang":"en"}"#;
    event(nth, "post_created", text)
}

fn custom(nth: usize) -> String {
    event(nth, "Checkout Started", r#"{"cart":"c-1","total":12.5,"items":[{"sku":"a","n":1},{"sku":"b","n":2}]}"#)
}

/// What a browser sends: a context with its agent.
fn viewed(nth: usize) -> String {
    let agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36";
    format!(
        r#"{{"type":"track","event":"post_viewed","anonymousId":"visitor-{}","messageId":"ajs-next-1767225600000-{nth:012}-4bd2-9b1f-7d1a2b3c4d5e","timestamp":"2026-01-01T00:00:{:02}.123Z","properties":{{"post_id":"post-{nth}"}},"context":{{"page":{{"path":"/","referrer":"","search":"","title":"Home","url":"https://example.org/"}},"userAgent":"{agent}","locale":"en-GB","timezone":"Europe/Berlin"}}}}"#,
        nth % 97,
        nth % 60,
    )
}

fn batch(events: usize, event: fn(usize) -> String) -> Bytes {
    let events: Vec<String> = (0..events).map(event).collect();
    let sent_at = "2026-01-01T00:01:00.000Z";
    Bytes::from(format!(r#"{{"batch":[{}],"writeKey":"wk_web","sentAt":"{sent_at}"}}"#, events.join(",")))
}

/// How many keys are known: the cost of an event must not depend on it.
const KEYS: u8 = 200;

fn key(nth: u8) -> String {
    make_key(KeyKind::Write, &[nth; 32])
}

fn collector() -> Collector {
    let keys = (0..KEYS).map(|nth| Key::write(&format!("source-{nth}"), &key(nth))).collect();
    let options = CollectorOptions { keys, ..CollectorOptions::default() };
    Collector::new(Arc::new(NullLog), Arc::new(WallClock), options)
}

fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).expect("memory takes everything");
    Bytes::from(encoder.finish().expect("memory takes everything"))
}

fn request(body: Bytes) -> Request {
    let authorization = Some(format!("Basic {}", STANDARD.encode(format!("{}:", key(7)))));
    Request { authorization, body, ..Request::default() }
}

fn run(bencher: Bencher<'_, '_>, call: Call, body: Bytes, events: usize) {
    ask(bencher, call, request(body), events);
}

fn ask(bencher: Bencher<'_, '_>, call: Call, request: Request, events: usize) {
    let collector = collector();
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers needs nothing");
    bencher.counter(ItemsCount::new(events)).bench(|| {
        let judged = runtime.block_on(collector.judge(call, request.clone())).expect("the body is good");
        assert_eq!(judged.accepted.accepted as usize, events);
    });
}

#[divan::bench(args = [1, 10, 100])]
fn batch_of_likes(bencher: Bencher<'_, '_>, events: usize) {
    run(bencher, Call::Batch, batch(events, liked), events);
}

#[divan::bench]
fn batch_of_100_likes_gzip(bencher: Bencher<'_, '_>) {
    run(bencher, Call::Batch, gzip(&batch(100, liked)), 100);
}

#[divan::bench]
fn batch_of_100_posts(bencher: Bencher<'_, '_>) {
    run(bencher, Call::Batch, batch(100, created), 100);
}

#[divan::bench]
fn batch_of_100_views_in_browsers(bencher: Bencher<'_, '_>) {
    run(bencher, Call::Batch, batch(100, viewed), 100);
}

#[divan::bench]
fn batch_of_100_custom_events(bencher: Bencher<'_, '_>) {
    run(bencher, Call::Batch, batch(100, custom), 100);
}

#[divan::bench]
fn single_like(bencher: Bencher<'_, '_>) {
    run(bencher, Call::Track, Bytes::from(liked(7)), 1);
}

/// What `posthog-python` sends; `newer` is its protocol that is answered event by event.
fn captured(events: usize, newer: bool) -> Bytes {
    let event = |nth: usize| {
        let uuid = format!("0199a1b2-c3d4-7e5f-8a9b-{nth:012}");
        let (beside, lib) = match newer {
            true => (r#""options":{},"session_id":"0199-s","#, ""),
            false => ("", r#","$lib":"posthog-python","$lib_version":"7.91.1","$session_id":"0199-s""#),
        };
        format!(
            r#"{{"event":"post_liked","uuid":"{uuid}","distinct_id":"user-{}",{beside}"timestamp":"2026-01-01T00:00:{:02}.123456+00:00","properties":{{"post_id":"post-{nth}","$python_version":"3.13.1","$os":"Linux","$is_server":true{lib}}}}}"#,
            nth % 97,
            nth % 60,
        )
    };
    let events: Vec<String> = (0..events).map(event).collect();
    Bytes::from(format!(r#"{{"api_key":"wk_web","batch":[{}],"historical_migration":false}}"#, events.join(",")))
}

/// One as the SDK for JavaScript sends it.
fn cloud_event(nth: usize) -> String {
    format!(
        r#"{{"id":"0199a1b2-c3d4-7e5f-8a9b-{nth:012}","time":"2026-01-01T00:00:{:02}.123Z","type":"post_liked","source":"https://shop.example/web","specversion":"1.0","datacontenttype":"application/json","userid":"user-{}","data":{{"post_id":"post-{nth}","slate":"s-{nth}","position":{}}}}}"#,
        nth % 60,
        nth % 97,
        nth % 20,
    )
}

#[divan::bench]
fn our_own_batch_of_100_likes(bencher: Bencher<'_, '_>) {
    run(bencher, Call::Events, batch(100, liked), 100);
}

#[divan::bench]
fn posthog_batch_of_100_likes(bencher: Bencher<'_, '_>) {
    run(bencher, Call::Capture, captured(100, false), 100);
}

#[divan::bench]
fn posthog_batch_of_100_likes_answered_one_by_one(bencher: Bencher<'_, '_>) {
    let request = Request { sdk: Some("posthog-python/7.91.1".to_owned()), ..request(captured(100, true)) };
    ask(bencher, Call::Analytics, request, 100);
}

#[divan::bench]
fn single_cloud_event(bencher: Bencher<'_, '_>) {
    let content_type = Some("application/cloudevents+json; charset=utf-8".to_owned());
    ask(bencher, Call::CloudEvents, Request { content_type, ..request(Bytes::from(cloud_event(7))) }, 1);
}

#[divan::bench]
fn single_cloud_event_in_headers(bencher: Bencher<'_, '_>) {
    let attributes = [
        ("id", "0199a1b2-c3d4-7e5f-8a9b-000000000007"),
        ("time", "2026-01-01T00:00:07.123Z"),
        ("type", "post_liked"),
        ("source", "https://shop.example/web"),
        ("specversion", "1.0"),
        ("userid", "user-7"),
    ];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec();
    let body = Bytes::from_static(br#"{"post_id":"post-7","slate":"s-7","position":7}"#);
    let content_type = Some("application/json; charset=utf-8".to_owned());
    ask(bencher, Call::CloudEvents, Request { content_type, attributes, ..request(body) }, 1);
}

#[divan::bench]
fn batch_of_100_cloud_events(bencher: Bencher<'_, '_>) {
    let events: Vec<String> = (0..100).map(cloud_event).collect();
    let content_type = Some("application/cloudevents-batch+json".to_owned());
    let body = Bytes::from(format!("[{}]", events.join(",")));
    ask(bencher, Call::CloudEvents, Request { content_type, ..request(body) }, 100);
}
