use crate::{Document, Entry, ErrorKind, Record, Revision, Settings, read};

pub(super) fn entry(kind: &str, name: &str, text: &str) -> Entry {
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

pub(super) fn check_corrupt<R: Record + std::fmt::Debug>(entry: &Entry, why: &str) {
    let error = read::<R>(entry).expect_err(why);
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let text = format!("{error} {error:?}");
    assert!(text.contains(why), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
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
