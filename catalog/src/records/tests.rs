use crate::{Document, Entry, ErrorKind, Record, Revision, Secret, Settings, WriteKey, read};

fn entry(kind: &str, name: &str, text: &str) -> Entry {
    let document = Document::parse(text).expect("it is JSON");
    Entry {
        kind: kind.to_owned(),
        name: name.to_owned(),
        document,
        revision: Revision(1),
        created_ms: 0,
        updated_ms: 0,
    }
}

fn key(name: &str, key: &str) -> WriteKey {
    WriteKey { name: name.to_owned(), key: Secret::new(key), created_at_ms: 5, revoked: false }
}

fn check_corrupt<R: Record + std::fmt::Debug>(entry: &Entry, why: &str) {
    let error = read::<R>(entry).expect_err(why);
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = format!("{error} {error:?}");
    assert!(text.contains(why), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_write_key_is_read_as_it_was_written() {
    let written = Document::of(&key("web", "hunter2hunter2")).expect("it is JSON");
    assert_eq!(written.as_str(), r#"{"name":"web","key":"hunter2hunter2","created_at_ms":5,"revoked":false}"#);
    let found: WriteKey = read(&entry("write-keys", "web", written.as_str())).expect("it was written so");
    assert_eq!((found.key.expose(), found.created_at_ms, found.revoked), ("hunter2hunter2", 5, false));
}

#[test]
fn keys_are_never_shown() {
    let entry = entry("write-keys", "web", r#"{"name":"web","key":"hunter2hunter2","created_at_ms":5}"#);
    let found: WriteKey = read(&entry).expect("it is good");
    for shown in [format!("{found:?}"), format!("{entry:?}"), format!("{:?}", found.key)] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn write_keys_that_cannot_be_are_refused() {
    for bad in [
        key("web", "hunter2"),
        key("web", "hunter2\nhunter2"),
        key("", "hunter2hunter2"),
        key("web", &"hunter2".repeat(40)),
    ] {
        let error = bad.check().expect_err("it cannot be");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    key("web", "12345678").check().expect("eight characters are enough");
    key("web", "日本語日本語日本").check().expect("so are these");
    let stored = |name: &str, text: &str| entry("write-keys", name, text);
    let good = r#"{"name":"web","key":"hunter2hunter2","created_at_ms":5}"#;
    check_corrupt::<WriteKey>(&stored("app", good), "calls itself \"web\"");
    check_corrupt::<WriteKey>(&entry("settings", "web", good), "not of write-keys");
    check_corrupt::<WriteKey>(&stored("web", r#"{"name":"web","key":"hunter2","created_at_ms":5}"#), "8 characters");
    check_corrupt::<WriteKey>(&stored("web", r#"{"name":"web","created_at_ms":5}"#), "missing field `key`");
    let unknown = r#"{"name":"web","key":"hunter2hunter2","created_at_ms":5,"color":1}"#;
    check_corrupt::<WriteKey>(&stored("web", unknown), "unknown field `color`");
    check_corrupt::<WriteKey>(&stored("web", r#""hunter2hunter2""#), "another type");
    check_corrupt::<WriteKey>(&stored("web", r#"{"name":"web","key":"k","created_at_ms":"hunter2"}"#), "another type");
}

#[test]
fn settings_are_within_their_bounds() {
    let settings = |text: &str| read::<Settings>(&entry("settings", "platform", text));
    assert_eq!(settings("{}").expect("nothing is set"), Settings::default());
    assert_eq!(Document::of(&Settings::default()).expect("it is JSON").as_str(), "{}");
    let all =
        settings(r#"{"slate_sample_rate":0.1,"retention_days":0.5,"slate_retention_days":90}"#).expect("it is good");
    assert_eq!(
        (all.slate_sample_rate, all.retention_days, all.slate_retention_days),
        (Some(0.1), Some(0.5), Some(90.0))
    );
    for (text, why) in [
        (r#"{"slate_sample_rate":1.1}"#, "from 0 to 1"),
        (r#"{"slate_sample_rate":-0.1}"#, "from 0 to 1"),
        (r#"{"retention_days":0}"#, "retention_days is more than 0"),
        (r#"{"slate_retention_days":-1}"#, "slate_retention_days is more than 0"),
        (r#"{"retention":1}"#, "unknown field `retention`"),
    ] {
        check_corrupt::<Settings>(&entry("settings", "platform", text), why);
    }
    let nan = Settings { slate_sample_rate: Some(f64::NAN), ..Settings::default() };
    assert_eq!(nan.check().expect_err("it is no rate").kind(), ErrorKind::Invalid);
}
