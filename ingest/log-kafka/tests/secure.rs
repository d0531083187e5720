//! TLS and SASL, from a URL alone, and without a warning.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millrace_engines::kafka::Kafka;
use millrace_events::{LogTime, Topic, TopicPartition};
use millrace_log::{Append, ErrorKind, EventLog, Member};
use millrace_log_kafka::{GroupOptions, KafkaLog, KafkaOptions};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Keeps every warning and error of this process.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.0 += &format!("{field}={value:?} ");
            }
        }
        let mut text = Text(format!("{}: ", event.metadata().target()));
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_is_enough_for_tls_and_scram() {
    let warnings = Warnings::default();
    tracing::subscriber::set_global_default(warnings.clone()).unwrap();
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
    let member = log.join(&GroupOptions::default()).unwrap();
    let mut assignment = member.assignment();
    let assigned = assignment.wait_for(|now| !now.partitions.is_empty());
    tokio::time::timeout(Duration::from_secs(30), assigned).await.unwrap().unwrap();
    log.lag(&GroupOptions::default()).await.unwrap();
    drop(member);
    drop(log);
    let mut warnings = std::mem::take(&mut *warnings.0.lock().unwrap());
    // A broker that has just started gives out no number for a producer yet.
    warnings.retain(|warning| !warning.contains("GETPID"));
    assert_eq!(warnings, [""; 0], "nothing to warn of");

    for wrong in [url("wrong", &certificate), url("p%40ss%20word", "")] {
        let options =
            KafkaOptions { request_timeout: Duration::from_secs(3), ..KafkaOptions::from_url(&wrong).unwrap() };
        // Who is refused now will be refused again; what is wrong with a certificate may be wrong with the broker.
        let kind = if wrong.contains(":wrong@") { ErrorKind::Invalid } else { ErrorKind::Retry };
        assert_eq!(KafkaLog::identify(&options).await.unwrap_err().kind(), kind);
        let error = KafkaLog::open(options).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Retry);
        let text = error.to_string();
        assert!(text.contains("uthentication fail") || text.contains("certificate verify failed"), "{text}");
        assert!(!text.contains("ss word"), "{text}");
    }
}
