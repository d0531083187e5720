use super::*;

#[track_caller]
fn check(url: &str, brokers: &str, prefix: &str, properties: &[(&str, &str)]) {
    let options = KafkaOptions::from_url(url).expect("the URL should be taken");
    assert_eq!((options.brokers.as_str(), options.prefix.as_str()), (brokers, prefix));
    let wanted = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(options.properties, wanted);
}

#[track_caller]
fn refused(url: &str, why: &str) {
    let error = KafkaOptions::from_url(url).expect_err("the URL should be refused");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn a_url_names_brokers_and_prefix() {
    check("kafka://a:9092", "a:9092", "", &[("security.protocol", "PLAINTEXT")]);
    check("kafka://a:9092,b:9092/shop.eu", "a:9092,b:9092", "shop.eu", &[("security.protocol", "PLAINTEXT")]);
    check(
        "kafka+ssl://a:9093/p?ssl.ca.location=%2Fetc%2Fca.pem",
        "a:9093",
        "p",
        &[("security.protocol", "SSL"), ("ssl.ca.location", "/etc/ca.pem")],
    );
}

#[test]
fn a_user_means_sasl() {
    check(
        "kafka+ssl://me:p%40ss%3Aw+rd@a:9093/p",
        "a:9093",
        "p",
        &[
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.password", "p@ss:w+rd"),
            ("sasl.username", "me"),
            ("security.protocol", "SASL_SSL"),
        ],
    );
    check(
        "kafka://me:x@a:9092/p?sasl.mechanism=PLAIN",
        "a:9092",
        "p",
        &[
            ("sasl.mechanism", "PLAIN"),
            ("sasl.password", "x"),
            ("sasl.username", "me"),
            ("security.protocol", "SASL_PLAINTEXT"),
        ],
    );
}

#[test]
fn a_url_sets_options() {
    let url = "kafka://a:9092/p?partitions=12&replication=1&min_insync=1&create_topics=false&append_timeout_ms=1500";
    let options = KafkaOptions::from_url(url).expect("the URL should be taken");
    assert_eq!((options.partitions, options.replication, options.min_insync), (12, 1, 1));
    assert_eq!((options.create_topics, options.append_timeout), (false, Duration::from_millis(1500)));
}

#[test]
fn what_cannot_be_is_refused() {
    refused("a:9092", "kafka://");
    refused("http://a:9092", "http://");
    refused("kafka:///p", "names its brokers");
    refused("kafka://a:9092,/p", "names its brokers");
    refused("kafka://a:9092/a%2Fb", "letters, digits");
    refused("kafka://a:9092/p?partitions=0", "0 partitions");
    refused("kafka://a:9092/p?partitions=many", "not a number");
    refused("kafka://a:9092/p?min_insync=4", "4 of 3 replicas");
    refused("kafka://a:9092/p?create_topics=perhaps", "true or false");
    refused("kafka://a:9092/p?partition=4", "\"partition\"");
    refused("kafka://a:9092/p?append_timeout_ms=0", "time-out of zero");
    refused("kafka://me:se/cret@a:9092/p", "percent-encode");
    refused("kafka://me:se?cr.et@a:9092/p", "percent-encode");
    refused("kafka://a:9092/p?delivery.report.only.error=true", "the laws of the log");
    refused("kafka://a:9092/p?enable.idempotence=false", "enable.idempotence");
    refused("kafka://a:9092/%FF", "no text");
}

#[test]
fn no_password_is_shown() {
    let url = "kafka://me:secret@a:9092/p?sasl.oauthbearer.config=secret";
    let shown = format!("{:?}", KafkaOptions::from_url(url).expect("the URL should be taken"));
    assert!(shown.contains("sasl.password") && !shown.contains("secret"), "{shown}");
}
