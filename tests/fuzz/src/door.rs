//! The front door: bytes of a request to records of the log.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use futures::FutureExt as _;
use millrace_collector::{
    Accepted, BODY_BYTES_MAX, Call, Collector, CollectorOptions, MERGED_BYTES_MAX, Refusal, Request,
};
use millrace_events::{DeadLetter, Envelope, Kind, Topic, TopicPartition, check_id, decode, partition_of};
use millrace_log::{Append, Bounds, EventLog, KEY_BYTES_MAX, Offset, Record, Result, VALUE_BYTES_MAX, WallClock};

/// Partitions of the log behind the door.
const PARTITIONS: u32 = 4;

/// The longest refusal, bytes: it goes into answers and must not carry what was sent back at any length.
const REFUSAL_BYTES_MAX: usize = 1024;

/// A body as any call, plain. The first byte says which.
pub fn http_body(data: &[u8]) {
    let Some((nth, body)) = data.split_first() else { return };
    let call = Call::ALL[usize::from(*nth) % Call::ALL.len()];
    check(call, Request { body: Bytes::copy_from_slice(body), ..request() });
}

/// CloudEvents: a content type that the first byte says, attributes as lines `name:value` up to an empty line, and the data.
pub fn cloud_events(data: &[u8]) {
    const TYPES: &[Option<&str>] = &[
        None,
        Some("application/json"),
        Some("application/cloudevents+json; charset=utf-8"),
        Some("application/cloudevents-batch+json"),
        Some("text/plain"),
        Some("application/octet-stream"),
        Some("Application/CloudEvents"),
    ];
    let Some((nth, rest)) = data.split_first() else { return };
    let end = rest.windows(2).position(|two| two == b"\n\n");
    let (head, body) = end.map_or((&[][..], rest), |end| (&rest[..end], &rest[end + 2..]));
    let attribute = |line: &[u8]| {
        let colon = line.iter().position(|b| *b == b':')?;
        // As the edge has it: names of headers are ASCII in lower case.
        let name = str::from_utf8(&line[..colon]).ok()?.to_ascii_lowercase();
        Some((name, line[colon + 1..].to_vec()))
    };
    let attributes = head.split(|b| *b == b'\n').filter_map(attribute).collect();
    let content_type = TYPES[usize::from(*nth) % TYPES.len()].map(str::to_owned);
    check(Call::CloudEvents, Request { content_type, attributes, body: Bytes::copy_from_slice(body), ..request() });
}

/// A packed body: bytes that call themselves packed, and a body that is, cut off or changed at a place that the first bytes say.
pub fn gzip(data: &[u8]) {
    const ENCODINGS: &[Option<&str>] =
        &[None, Some("gzip"), Some("deflate"), Some("x-gzip"), Some("identity"), Some("zstd"), Some("br")];
    let Some(([nth, place, with], body)) = data.split_first_chunk() else { return };
    let encoding = ENCODINGS[usize::from(*nth) % ENCODINGS.len()];
    let packed = match encoding {
        Some("deflate") => zlib(body),
        _ => gz(body),
    };
    let mut changed = packed.clone();
    let place = usize::from(*place) % changed.len();
    changed[place] ^= with;
    let cut = packed[..place].to_vec();
    for body in [body.to_vec(), packed, changed, cut] {
        for call in [Call::Batch, Call::Capture] {
            let content_encoding = encoding.map(str::to_owned);
            check(call, Request { body: Bytes::from(body.clone()), content_encoding, ..request() });
        }
    }
}

fn request() -> Request {
    // The user name `k`, without a password.
    Request { authorization: Some("Basic azo=".to_owned()), ..Request::default() }
}

fn gz(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory cannot fail.
    _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}

/// A request is refused as a whole and leaves nothing behind, or each of its events is a record that all who read the log
/// can rely on; and the same request has the same answer when it is sent again.
fn check(call: Call, request: Request) {
    let log = Arc::new(Kept::default());
    let options = CollectorOptions { accept_any_key: true, ..CollectorOptions::default() };
    let collector = Collector::new(log.clone(), Arc::new(WallClock), options);
    let first = collect(&collector, call, request.clone());
    let records = log.take();
    match &first {
        Err(refusal) => {
            assert!(records.is_empty(), "what is refused is not in the log");
            assert!(refusal.message.len() <= REFUSAL_BYTES_MAX, "a refusal is short: {refusal}");
        }
        Ok(answer) => check_records(answer, &records),
    }
    let second = collect(&collector, call, request);
    assert_eq!(first.map_err(|r| r.code), second.map_err(|r| r.code), "the same request has the same answer");
}

fn collect(collector: &Collector, call: Call, request: Request) -> std::result::Result<Accepted, Refusal> {
    let answer = collector.collect(call, request).now_or_never();
    answer.expect("a log that answers at once is not waited for")
}

fn check_records(answer: &Accepted, records: &[Append]) {
    let (actions, letters): (Vec<_>, Vec<_>) = records.iter().partition(|r| r.to.topic == Topic::Actions);
    assert_eq!(actions.len(), answer.accepted as usize, "what was accepted is in the log");
    assert_eq!(letters.len(), answer.rejected as usize, "what was rejected is a dead letter");
    let bytes: usize = records.iter().map(|r| r.value.len()).sum();
    // A post's text is stored twice, keys and names come on top.
    assert!(bytes <= 4 * BODY_BYTES_MAX + 2 * MERGED_BYTES_MAX, "a body of bounded size is {bytes} bytes in the log");
    actions.into_iter().for_each(check_action);
    letters.into_iter().for_each(check_letter);
}

fn check_action(record: &Append) {
    assert!(record.value.len() <= VALUE_BYTES_MAX && record.key.len() <= KEY_BYTES_MAX, "the log can take it");
    let envelope: Envelope = decode("an action", record.value.clone()).expect("what the door writes can be read");
    assert_eq!(record.key.as_ref(), envelope.key().as_bytes(), "the key is who did it");
    assert_eq!(record.to.partition, partition_of(&record.key, PARTITIONS), "the partition is a function of the key");
    assert!(envelope.event_time_us <= record.time.0, "nothing happens after it was logged");
    assert!(!matches!(envelope.kind(), Kind::Tick | Kind::Unspecified), "clients send no ticks");
    assert!(!envelope.event.is_empty(), "an event has a name");
    check_id(envelope.key()).expect("somebody did it");
    check_id(&envelope.message_id).expect("an event has an id");
    let optional = [&envelope.user_id, &envelope.anonymous_id, &envelope.group_id, &envelope.previous_id];
    for id in optional.into_iter().filter(|id| !id.is_empty()) {
        check_id(id).expect("ids are within their bounds");
    }
    let Some(personal) = &envelope.personal else { return };
    for json in [&personal.properties, &personal.traits, &personal.context] {
        let object = || serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(json);
        assert!(json.is_empty() || object().is_ok(), "what is kept as JSON is an object");
    }
}

fn check_letter(record: &Append) {
    let letter: DeadLetter = decode("a dead letter", record.value.clone()).expect("what the door writes can be read");
    assert!(!letter.reason.is_empty() && !letter.detail.is_empty(), "a dead letter says why");
    assert!(letter.detail.len() <= REFUSAL_BYTES_MAX, "and is short: {}", letter.detail);
}

/// A log that takes everything and remembers it.
#[derive(Default)]
struct Kept(Mutex<Vec<Append>>);

impl Kept {
    fn take(&self) -> Vec<Append> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl EventLog for Kept {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Offset>> {
        let offsets = vec![0; batch.len()];
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(batch);
        Ok(offsets)
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
        PARTITIONS
    }
}
