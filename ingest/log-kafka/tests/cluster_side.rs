//! What of the log is the cluster's: topics and their settings, several processes at one partition, headers for others.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use millrace_events::{Envelope, Kind, LogTime, Topic, TopicPartition};
use millrace_log::{Append, ErrorKind, EventLog, Offset, Record, VALUE_BYTES_MAX};
use millrace_log_kafka::{KafkaLog, KafkaOptions, Severity, cloud_event_headers};
use prost::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, TopicPartitionList};

const OF: TopicPartition = TopicPartition::new(Topic::Actions, 0);

fn client(options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.brokers);
    config
}

fn admin(options: &KafkaOptions) -> AdminClient<DefaultClientContext> {
    client(options).create().unwrap()
}

fn append(time: i64, value: impl Into<Bytes>) -> Append {
    Append { to: OF, time: LogTime(time), key: Bytes::new(), value: value.into() }
}

async fn read_on(log: &KafkaLog, mut from: Offset) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    loop {
        let piece = log.read(OF, from, 64 * 1024).await.unwrap();
        let Some(last) = piece.last() else { return records };
        from = last.offset + 1;
        records.extend(piece);
    }
}

#[tokio::test]
async fn topics_are_made_as_the_laws_need_them() {
    let Some(options) = cluster::options() else { return };
    drop(KafkaLog::open(options.clone()).await.unwrap());
    let name = format!("{}.actions", options.prefix);
    let described = admin(&options).describe_configs(&[ResourceSpecifier::Topic(&name)], &AdminOptions::new()).await;
    let config = described.unwrap().remove(0).unwrap();
    let value = |key: &str| config.get(key).unwrap().value.clone().unwrap();
    assert_eq!(value("cleanup.policy"), "delete");
    assert_eq!((value("retention.ms").as_str(), value("retention.bytes").as_str()), ("-1", "-1"));
    assert_eq!(value("unclean.leader.election.enable"), "false");
    assert_eq!(value("min.insync.replicas"), "1");
    assert_eq!(value("message.timestamp.type"), "CreateTime");
    assert!(value("max.message.bytes").parse::<usize>().unwrap() > VALUE_BYTES_MAX);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let Some(options) = cluster::options() else { return };
    drop(KafkaLog::open(options.clone()).await.unwrap());
    let error = KafkaLog::open(KafkaOptions { partitions: 3, ..options }).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("has 2 partitions, not 3"), "{error}");
}

#[tokio::test]
async fn a_log_is_identified_without_making_it() {
    let Some(options) = cluster::options() else { return };
    let identity = KafkaLog::identify(&options).await.unwrap();
    assert!(identity.starts_with("kafka ") && identity.ends_with(&format!("/{}", options.prefix)), "{identity}");
    let missing = KafkaLog::check(&options).await.unwrap();
    assert_eq!(missing.iter().filter(|finding| finding.severity == Severity::Broken).count(), Topic::ALL.len());
    assert_eq!(KafkaLog::open(options).await.unwrap().identity().await.unwrap(), identity);
}

#[tokio::test]
async fn topics_are_not_made_unasked() {
    let Some(options) = cluster::options() else { return };
    let error = KafkaLog::open(KafkaOptions { create_topics: false, ..options }).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("create_topics=true"), "{error}");
}

#[tokio::test]
async fn more_replicas_than_brokers_is_refused() {
    let Some(options) = cluster::options() else { return };
    let options = KafkaOptions { replication: 9, min_insync: 2, ..options };
    let error = KafkaLog::open(options).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("fewer brokers"), "{error}");
}

#[tokio::test]
async fn a_check_names_every_danger_with_its_cure() {
    let Some(options) = cluster::options() else { return };
    let missing = KafkaLog::check(&options).await.unwrap();
    assert_eq!(missing.iter().filter(|finding| finding.severity == Severity::Broken).count(), Topic::ALL.len());
    assert!(missing[0].what.contains("1 brokers"), "{missing:?}");
    drop(KafkaLog::open(options.clone()).await.unwrap());
    let made = KafkaLog::check(&options).await.unwrap();
    assert!(made.iter().all(|finding| finding.severity < Severity::Broken), "{made:#?}");
    let risks = made.iter().filter(|finding| finding.severity == Severity::Risk).count();
    assert_eq!(risks, 2 * Topic::ALL.len(), "one replica, one in sync: {made:#?}");

    let name = format!("{}.actions", options.prefix);
    let bad = AlterConfig::new(ResourceSpecifier::Topic(&name))
        .set("retention.ms", "3600000")
        .set("cleanup.policy", "compact,delete")
        .set("unclean.leader.election.enable", "true")
        .set("message.timestamp.type", "LogAppendTime")
        .set("max.message.bytes", "1000");
    admin(&options).alter_configs(&[bad], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    let spoilt = KafkaLog::check(&options).await.unwrap();
    let broken: Vec<_> = spoilt.iter().filter(|finding| finding.severity == Severity::Broken).collect();
    assert_eq!(broken.len(), 5, "{broken:#?}");
    assert!(broken.iter().all(|finding| finding.cure.contains("--add-config")), "{broken:#?}");
}

/// Law 2 with two processes whose clocks differ: every reader finds the same times, wherever it begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_time_is_the_same_for_all_whose_clocks_differ() {
    let Some(options) = cluster::options() else { return };
    let ahead = KafkaLog::open(options.clone()).await.unwrap();
    let behind = KafkaLog::open(options.clone()).await.unwrap();
    let appends = |log: &std::sync::Arc<KafkaLog>, from: i64| {
        let log = log.clone();
        tokio::spawn(async move {
            for call in 0..60 {
                let times = (0..5).map(|n| append(from + (call * 5 + n) * 700, "v")).collect();
                log.append(times).await.unwrap();
            }
        })
    };
    for done in join_all([appends(&ahead, 1_000_000_000), appends(&behind, 1_000_000_000 - 90_000)]).await {
        done.unwrap();
    }
    // Only the one behind goes on: all of it is raised.
    behind.append((0..300).map(|_| append(5, "v")).collect()).await.unwrap();
    let whole = read_on(&ahead, 0).await;
    assert_eq!(whole.len(), 900);
    assert!(whole.is_sorted_by_key(|record| record.time), "log time never falls");
    assert_eq!(read_on(&behind, 0).await, whole);
    let fresh = KafkaLog::open(options).await.unwrap();
    assert_eq!(fresh.bounds(OF).await.unwrap().last_time, Some(whole[899].time));
    for from in [899, 1, 450, 70, 777, 300, 601] {
        assert_eq!(read_on(&fresh, from).await[..], whole[usize::try_from(from).unwrap()..], "from {from}");
    }
    // What is trimmed takes no log time with it.
    fresh.trim(OF, 700).await.unwrap();
    let start = fresh.bounds(OF).await.unwrap().start;
    assert!(start > 0 && start <= 700, "{start}");
    assert_eq!(read_on(&behind, start).await[..], whole[usize::try_from(start).unwrap()..]);
    drop(fresh);
    assert_eq!(read_on(&ahead, 880).await[..], whole[880..]);
}

#[tokio::test]
async fn a_waiter_hears_of_another_process() {
    let Some(options) = cluster::options() else { return };
    let here = KafkaLog::open(options.clone()).await.unwrap();
    let there = KafkaLog::open(options).await.unwrap();
    for offset in 0..20 {
        let waiting = tokio::spawn({
            let here = here.clone();
            async move { here.wait(OF, offset).await }
        });
        there.append(vec![append(1, "v")]).await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it should hear of it").unwrap().unwrap();
        assert_eq!(here.read(OF, offset, 1).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn records_of_other_programs_are_read() {
    let Some(options) = cluster::options() else { return };
    let log = KafkaLog::open(options.clone()).await.unwrap();
    let producer: BaseProducer = client(&options).create().unwrap();
    let topic = format!("{}.actions", options.prefix);
    let record = BaseRecord::to(&topic).partition(0).timestamp(5_000).payload("theirs");
    producer.send::<(), _>(record).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    log.append(vec![append(5_000_001, "ours")]).await.unwrap();
    let times: Vec<i64> = log.read(OF, 0, 1000).await.unwrap().iter().map(|record| record.time.0).collect();
    assert_eq!(times, [5_000_000, 5_000_001]);
}

#[tokio::test]
async fn other_programs_find_cloud_events() {
    let Some(options) = cluster::options() else { return };
    let log = KafkaLog::open(KafkaOptions { headers: Some(cloud_event_headers()), ..options.clone() }).await.unwrap();
    let envelope = Envelope {
        message_id: "m-1".to_owned(),
        source: "web".to_owned(),
        kind: Kind::Track as i32,
        event: "post_liked".to_owned(),
        event_time_us: 1_000_000,
        ..Envelope::default()
    };
    log.append(vec![append(2_345_678, envelope.encode_to_vec())]).await.unwrap();
    let consumer: BaseConsumer = client(&options).set("group.id", "probe").create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&format!("{}.actions", options.prefix), 0, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let message = consumer.poll(Duration::from_secs(30)).unwrap().unwrap();
    assert_eq!(message.timestamp().to_millis(), Some(2_345));
    let headers: HashMap<String, String> = message
        .headers()
        .unwrap()
        .iter()
        .map(|header| (header.key.to_owned(), String::from_utf8_lossy(header.value.unwrap()).into_owned()))
        .collect();
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "m-1"),
        ("ce_source", "web"),
        ("ce_type", "post_liked"),
        ("ce_time", "1970-01-01T00:00:01Z"),
        ("content-type", "application/protobuf"),
    ];
    for (name, value) in expected {
        assert_eq!(headers.get(name).map(String::as_str), Some(value), "{name}");
    }
}

/// Whether the record after it goes in the same request, or in the next one, which is on its way when the first fails.
#[tokio::test]
async fn a_record_that_the_topic_does_not_take_is_invalid_and_nothing_comes_after_it() {
    for request_records in ["1", "1000"] {
        let Some(options) = cluster::options() else { return };
        let name = format!("{}.actions", options.prefix);
        let small = NewTopic::new(&name, 2, TopicReplication::Fixed(1)).set("max.message.bytes", "2000");
        admin(&options).create_topics(&[small], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
        let properties = [("compression.type", "none"), ("batch.num.messages", request_records)];
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let log = KafkaLog::open(KafkaOptions { properties, ..options }).await.unwrap();
        log.append(vec![append(1, "first")]).await.unwrap();
        let mut batch = vec![append(1, "before it"), append(1, vec![7; 10_000])];
        batch.extend((0..20).map(|_| append(1, "after it in the same call")));
        assert_eq!(log.append(batch).await.unwrap_err().kind(), ErrorKind::Invalid);
        let offset = log.append(vec![append(1, "next")]).await.unwrap()[0];
        let values: Vec<Bytes> = read_on(&log, 0).await.into_iter().map(|record| record.value).collect();
        assert_eq!((&values[0][..], &values[values.len() - 1][..]), (&b"first"[..], &b"next"[..]));
        let of_call = &values[1..usize::try_from(offset).unwrap()];
        assert!(of_call.is_empty() || of_call == ["before it"], "{request_records}: {of_call:?}");
    }
}

#[tokio::test]
async fn a_full_queue_says_retry_and_leaves_room_for_what_follows_from_the_log() {
    let Some(options) = cluster::options() else { return };
    let options = KafkaOptions {
        queue_records_max: 10,
        // Nothing is sent while these appends are made.
        linger: Duration::from_secs(2),
        ..options
    };
    let log = KafkaLog::open(options).await.unwrap();
    let too_many = log.append((0..11).map(|_| append(1, "v")).collect()).await;
    assert_eq!(too_many.unwrap_err().kind(), ErrorKind::Invalid);
    let derived = TopicPartition::new(Topic::UserEvents, 0);
    let (first, second, follows) = tokio::join!(
        log.append((0..8).map(|_| append(1, "v")).collect()),
        log.append((0..3).map(|_| append(1, "v")).collect()),
        log.append((0..3).map(|_| Append { to: derived, ..append(1, "v") }).collect()),
    );
    assert_eq!(first.unwrap().len(), 8);
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Retry);
    assert_eq!(follows.unwrap().len(), 3);
    assert_eq!(log.append((0..10).map(|_| append(1, "v")).collect()).await.unwrap().len(), 10, "room is given back");
}

#[tokio::test]
async fn closing_sees_off_what_was_taken() {
    let Some(options) = cluster::options() else { return };
    let log = KafkaLog::open(KafkaOptions { linger: Duration::from_millis(500), ..options.clone() }).await.unwrap();
    let appending = tokio::spawn({
        let log = log.clone();
        async move { log.append(vec![append(1, "v")]).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    tokio::task::spawn_blocking({
        let log = log.clone();
        move || log.close()
    })
    .await
    .unwrap();
    assert_eq!(appending.await.unwrap().unwrap(), [0]);
    assert_eq!(log.append(vec![append(1, "v")]).await.unwrap_err().kind(), ErrorKind::Retry);
    assert!(!log.healthy());
    let read = log.read(OF, 0, 1000).await.unwrap_err();
    assert!(read.kind() == ErrorKind::Retry && read.to_string().contains("closed"), "{read}");
}
