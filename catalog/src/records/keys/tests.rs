use crate::records::tests::{check_corrupt, entry};
use crate::{Revision, SqliteCatalog, SqliteOptions, read_record, write_record};

use super::*;

/// As `printf %s hunter2hunter2 | sha256sum` has it.
const HASH: &str = "76880d60191af3b3f803a656b7716f0179928357fc32421ced973ed265e15718";

const MADE: &str = "mr_wk_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf_VXVce";

fn hashed(key: &str) -> HashedKey {
    HashedKey::of(key).expect("it is long enough")
}

fn web() -> ApiKey {
    ApiKey::new("web".to_owned(), KeyKind::Write, BTreeSet::new(), hashed("hunter2hunter2"), 5)
}

fn taken(key: &ApiKey, now_ms: i64) -> Vec<&HashedKey> {
    key.taken(now_ms).collect()
}

#[test]
fn a_key_is_read_as_it_was_written_and_only_its_hash_is() {
    let written = Document::of(&web()).expect("it is JSON");
    let expected = format!(
        r#"{{"name":"web","kind":"write","id":"sha256:{}","hash":"{HASH}","created_at_ms":5,"revoked":false}}"#,
        &HASH[..8]
    );
    assert_eq!(written.as_str(), expected);
    assert_eq!(read::<ApiKey>(&entry("write-keys", "web", &expected)).expect("it was written so"), web());
    let mut secret = ApiKey::new(
        "server".to_owned(),
        KeyKind::Secret,
        [Scope::Admin, Scope::FeedsRead, Scope::EventsWrite, Scope::StatusRead, Scope::QueriesRead].into(),
        hashed("hunter2hunter2"),
        5,
    );
    secret.rotate(hashed(MADE), 6, 8).expect("there is room");
    let written = Document::of(&secret).expect("it is JSON");
    assert!(!written.as_str().contains("hunter2") && !written.as_str().contains(&MADE[12..]), "{}", written.as_str());
    assert!(written.as_str().contains(r#"["events:write","feeds:read","queries:read","status:read","admin"]"#));
    assert_eq!(read::<ApiKey>(&entry("write-keys", "server", written.as_str())).expect("it was written so"), secret);
}

#[test]
fn an_id_shows_little_of_a_key_that_was_made_and_nothing_of_another() {
    assert_eq!(hashed(MADE).id, "mr_wk_003aUl");
    for key in ["12345678", "mr_wk_12", "hunter2hunter2", &"x".repeat(256), "日本語日本語日本"] {
        let id = hashed(key).id;
        assert!(id.starts_with("sha256:") && id.len() == 15, "{id}");
    }
    assert_ne!(hashed("12345678").id, hashed("12345679").id);
}

#[test]
fn keys_that_somebody_has_chosen_are_long_enough() {
    for bad in ["", "hunter2", "hunter2\nhunter2", &"hunter2".repeat(40), "日本語"] {
        let error = HashedKey::of(bad).expect_err("it cannot be");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("8 characters") && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn keys_that_cannot_be_are_refused() {
    let secret = |scopes: &[Scope]| ApiKey { kind: KeyKind::Secret, scopes: scopes.iter().copied().collect(), ..web() };
    let old = OldKey { key: hashed(MADE), taken_until_ms: 1 };
    for (bad, why) in [
        (ApiKey { name: String::new(), ..web() }, "a name is"),
        (secret(&[]), "no scope"),
        (ApiKey { kind: KeyKind::Write, ..secret(&[Scope::FeedsRead]) }, "may only write"),
        (ApiKey { old: vec![old; OLD_KEYS_MAX + 1], ..web() }, "more than 4 old keys"),
        (ApiKey { key: HashedKey { id: "a b".to_owned(), ..hashed(MADE) }, ..web() }, "an id"),
    ] {
        let error = bad.check().expect_err(why);
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(why), "{error}");
    }
    secret(&[Scope::Admin]).check().expect("one scope is enough");
    let stored = |text: &str| entry("write-keys", "web", text);
    let good = Document::of(&web()).expect("it is JSON");
    check_corrupt::<ApiKey>(&entry("write-keys", "app", good.as_str()), "calls itself \"web\"");
    check_corrupt::<ApiKey>(&entry("settings", "web", good.as_str()), "not of write-keys");
    check_corrupt::<ApiKey>(&stored(r#"{"name":"web","created_at_ms":5}"#), "missing field `id`");
    check_corrupt::<ApiKey>(&stored(r#"{"name":"web","key":"hunter2","created_at_ms":5}"#), "missing field");
    check_corrupt::<ApiKey>(&stored(r#""hunter2hunter2""#), "another type");
    check_corrupt::<ApiKey>(&stored(r#"{"name":"web","key":"k","created_at_ms":"hunter2"}"#), "another type");
    for (from, to, why) in [
        (&HASH[..2], "zz", "another type"),
        (&HASH[..2], "", "another type"),
        (r#""write""#, r#""read""#, "another type"),
        (r#""revoked":false"#, r#""revoked":false,"color":1"#, "unknown field `color`"),
        (r#""revoked":false"#, r#""revoked":false,"key":"hunter2hunter2""#, "missing field"),
    ] {
        let at = good.as_str().rfind(from).expect("it is there");
        let bad = format!("{}{to}{}", &good.as_str()[..at], &good.as_str()[at + from.len()..]);
        check_corrupt::<ApiKey>(&stored(&bad), why);
    }
}

#[test]
fn nothing_shows_what_an_entry_in_clear_holds() {
    let entry = entry("write-keys", "web", r#"{"name":"web","key":"hunter2hunter2","created_at_ms":5}"#);
    let found: ApiKey = read(&entry).expect("earlier builds wrote it so");
    assert!(found.was_in_clear());
    assert_eq!(ApiKey { was_in_clear: false, ..found.clone() }, web());
    for shown in
        [format!("{found:?}"), format!("{entry:?}"), Document::of(&found).expect("it is JSON").as_str().to_owned()]
    {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(!format!("{found:?}").contains(&HASH[8..]), "nor is a hash of it shown");
}

#[test]
fn an_old_key_is_taken_until_its_time_is_over() {
    let mut key = web();
    key.rotate(hashed(MADE), 100, 110).expect("there is room");
    assert_eq!((key.rotated_at_ms, key.created_at_ms), (Some(100), 5));
    assert_eq!(taken(&key, 109), [&hashed(MADE), &hashed("hunter2hunter2")]);
    assert_eq!(taken(&key, 110), [&hashed(MADE)]);
    let revoked = ApiKey { revoked: true, ..key.clone() };
    assert!(taken(&revoked, 100).is_empty());
    assert!(revoked.clone().rotate(hashed("another-key"), 101, 102).is_err());
    key.rotate(hashed("third-key"), 105, 105).expect("there is room");
    assert_eq!(taken(&key, 105), [&hashed("third-key"), &hashed("hunter2hunter2")], "without an overlap");
}

#[test]
fn old_keys_are_bounded() {
    let mut key = web();
    for n in 0..OLD_KEYS_MAX as i64 {
        key.rotate(hashed(&format!("key-number-{n}")), n, 10_000 + n).expect("there is room");
    }
    let before = key.clone();
    let error = key.rotate(hashed("one-too-many"), 8_500, 20_000).expect_err("there is no room");
    assert!(error.to_string().contains("4 old keys") && error.to_string().contains("for 2 s"), "{error}");
    assert_eq!(key, before);
    key.rotate(hashed("without-overlap"), 8_500, 8_500).expect("it needs none");
    assert_eq!(key.old.len(), OLD_KEYS_MAX);
    key.rotate(hashed("after-the-first"), 10_000, 20_000).expect("one is over");
    key.check().expect("it is within its bounds");
    assert_eq!(taken(&key, 10_000).len(), 1 + OLD_KEYS_MAX);
}

#[test]
fn of_two_uses_the_latest_counts_and_they_are_bounded() {
    let uses = |of: &[(&str, i64)]| of.iter().map(|(id, at_ms)| ((*id).to_owned(), *at_ms)).collect::<BTreeMap<_, _>>();
    let mut known = KeyUse { name: "web".to_owned(), used_at_ms: uses(&[("a", 5), ("b", 5)]) };
    known.merge(&uses(&[("a", 4), ("b", 6), ("c", 1)]));
    assert_eq!(known.used_at_ms, uses(&[("a", 5), ("b", 6), ("c", 1)]));
    for n in 0..100 {
        known.merge(&uses(&[(&format!("id-{n}"), 100 + n)]));
    }
    known.check().expect("it is within its bounds");
    assert!(known.used_at_ms.contains_key("id-99") && !known.used_at_ms.contains_key("a"));
    let bad = KeyUse { used_at_ms: uses(&[("", 1)]), ..known };
    assert_eq!(bad.check().expect_err("it has no id").kind(), ErrorKind::Invalid);
}

/// Whether a file of this folder holds a text.
fn is_on_disk(folder: &std::path::Path, text: &str) -> bool {
    let files = std::fs::read_dir(folder).expect("it is a folder").map(|file| file.expect("it is there").path());
    files.into_iter().any(|file| {
        let bytes = std::fs::read(file).expect("it can be read");
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[tokio::test]
async fn entries_in_clear_are_hashed_and_nothing_of_them_is_left_in_the_file() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("c.db");
    let open = async || SqliteCatalog::open(&path, SqliteOptions::default()).await.expect("it opens");
    let catalog = open().await;
    write_record(&*catalog, &ApiKey { name: "new".to_owned(), ..web() }, Expect::Absent).await.expect("it is good");
    for (name, revoked) in [("app", true), ("web", false)] {
        let text = format!(r#"{{"name":"{name}","key":"hunter2hunter2","created_at_ms":5,"revoked":{revoked}}}"#);
        let clear = Document::parse(&text).expect("it is JSON");
        catalog.put(ApiKey::KIND, name, &clear, Expect::Absent).await.expect("it is good");
    }
    catalog.close().await;
    assert!(is_on_disk(folder.path(), "hunter2hunter2"), "as earlier builds left it");
    let catalog = open().await;
    assert_eq!(hash_clear_keys(&*catalog).await.expect("they can be written"), 2);
    let (found, revision) =
        read_record::<ApiKey>(&*catalog, "web").await.expect("it can be read").expect("it is there");
    assert_eq!((found, revision), (web(), Revision(5)));
    let (app, _) = read_record::<ApiKey>(&*catalog, "app").await.expect("it can be read").expect("it is there");
    assert!(app.revoked && app.key == web().key);
    assert_eq!(hash_clear_keys(&*catalog).await.expect("there is nothing to do"), 0);
    catalog.close().await;
    assert!(!is_on_disk(folder.path(), "hunter2hunter2"));
}
