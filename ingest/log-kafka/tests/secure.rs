//! TLS and SASL, from a URL alone.

use std::time::Duration;

use bytes::Bytes;
use millrace_engines::kafka::Kafka;
use millrace_events::{LogTime, Topic, TopicPartition};
use millrace_log::{Append, ErrorKind, EventLog};
use millrace_log_kafka::{GroupOptions, KafkaLog, KafkaOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_is_enough_for_tls_and_scram() {
    let Some(kafka) = Kafka::start_secure("somebody", "p@ss word") else { return };
    let secure = kafka.secure().unwrap();
    let url = |password: &str, certificate: &str| {
        let place = format!("127.0.0.1:{}/secure", secure.port);
        format!("kafka+ssl://somebody:{password}@{place}?replication=1&min_insync=1&partitions=2{certificate}")
    };
    let certificate = format!("&ssl.ca.location={}", secure.certificate.display());
    let of = TopicPartition::new(Topic::Actions, 1);
    let log = KafkaLog::open(KafkaOptions::from_url(&url("p%40ss%20word", &certificate)).unwrap()).await.unwrap();
    let record = Append { to: of, time: LogTime(1), key: Bytes::new(), value: Bytes::from_static(b"v") };
    assert_eq!(log.append(vec![record]).await.unwrap(), [0]);
    assert_eq!(log.read(of, 0, 1).await.unwrap().len(), 1);
    let mut member = log.join(&GroupOptions::default()).unwrap();
    let assigned = member.assignment().wait_for(|now| !now.partitions.is_empty());
    tokio::time::timeout(Duration::from_secs(30), assigned).await.unwrap().unwrap();

    for wrong in [url("wrong", &certificate), url("p%40ss%20word", "")] {
        let options =
            KafkaOptions { request_timeout: Duration::from_secs(3), ..KafkaOptions::from_url(&wrong).unwrap() };
        let error = KafkaLog::open(options).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Retry);
        let text = error.to_string();
        assert!(text.contains("uthentication fail") || text.contains("certificate verify failed"), "{text}");
        assert!(!text.contains("ss word"), "{text}");
    }
}
