use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cached::Snapshot;
use crate::copy::{self, Copy};
use crate::{
    Cached, CachedOptions, Catalog, Document, Entry, ErrorKind, Expect, Revision, SqliteCatalog, SqliteOptions,
};

fn entry(name: &str, text: &str, revision: u64) -> Entry {
    let document = Document::parse(text).expect("it is JSON");
    Entry {
        kind: "k".to_owned(),
        name: name.to_owned(),
        document,
        revision: Revision(revision),
        created_ms: 1,
        updated_ms: 2,
    }
}

fn one_copy() -> Copy {
    Copy {
        kinds: vec!["k".to_owned()],
        revision: Revision(7),
        confirmed_ms: 9,
        entries: vec![entry("a", "{ \"x\": 0.30000000000000004 }", 3), entry("b'\"\\", "[1]", 7)],
    }
}

fn check_damaged(path: &Path, text: &[u8], why: &str) {
    std::fs::write(path, text).expect("there is room");
    let Err(error) = copy::load(path, 1_000) else { panic!("{why}: it is taken") };
    assert!(error.to_string().contains(why), "{error}");
}

#[test]
fn a_copy_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("copy.json");
    for _ in 0..2 {
        copy::save(&path, one_copy()).expect("there is room");
    }
    let found = copy::load(&path, 1_000).expect("it was written so");
    assert_eq!((found.kinds, found.revision, found.confirmed_ms), (vec!["k".to_owned()], Revision(7), 9));
    assert_eq!(found.entries, one_copy().entries);
    let files = std::fs::read_dir(folder.path()).expect("it is a folder").count();
    assert_eq!(files, 1, "nothing is left beside it");
}

#[test]
fn a_copy_that_is_damaged_is_not_taken() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("copy.json");
    copy::save(&path, one_copy()).expect("there is room");
    let good = std::fs::read(&path).expect("it was written");
    check_damaged(&path, b"", "no copy");
    check_damaged(&path, &good[..good.len() / 2], "no copy");
    check_damaged(&path, b"{}", "no copy");
    let other = String::from_utf8(good).expect("it is text").replace("\"format\":1", "\"format\":2");
    check_damaged(&path, other.as_bytes(), "its format is 2");
    assert!(copy::load(&folder.path().join("none"), 1_000).is_err());
}

#[test]
fn an_older_change_does_not_replace_a_newer_one() {
    let mut snapshot = Snapshot::of(&["k".to_owned()]);
    snapshot.put(entry("a", "[5]", 5));
    snapshot.put(entry("a", "[4]", 4));
    snapshot.remove("k", "a", Revision(3));
    assert_eq!(snapshot.get("k", "a").map(|entry| entry.revision), Some(Revision(5)));
    assert_eq!(snapshot.bytes, 3);
    snapshot.put(entry("a", "[10]", 6));
    assert_eq!(snapshot.bytes, 4);
    snapshot.remove("k", "a", Revision(7));
    assert_eq!((snapshot.get("k", "a"), snapshot.bytes), (None, 0));
}

#[tokio::test]
async fn what_another_process_wrote_a_moment_ago_is_there_after_a_refresh() {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("c.db");
    let catalog = SqliteCatalog::open(&path, SqliteOptions::default()).await.expect("it opens");
    let rare = Duration::from_secs(60 * 60);
    let options = CachedOptions { confirm: rare, refresh: Duration::from_millis(50), ..CachedOptions::new(["k"]) };
    let cached = Arc::new(Cached::start(catalog, options).await.expect("it starts"));
    let other = SqliteCatalog::open(&path, SqliteOptions::default()).await.expect("it opens twice");
    for n in 0..5 {
        let name = format!("n{n}");
        other.put("k", &name, &Document::of(&n).expect("it is small"), Expect::Any).await.expect("it is good");
        // Of many who ask at once each finds it.
        let asking: Vec<_> = (0..100)
            .map(|_| {
                tokio::spawn({
                    let (cached, name) = (cached.clone(), name.clone());
                    async move {
                        cached.refresh().await;
                        cached.snapshot().get("k", &name).is_some()
                    }
                })
            })
            .collect();
        for one in asking {
            assert!(one.await.expect("it does not panic"));
        }
    }
}

#[tokio::test]
async fn more_than_is_kept_is_refused() {
    let folder = tempfile::tempdir().expect("there is room");
    let catalog = SqliteCatalog::open(&folder.path().join("c.db"), SqliteOptions::default()).await.expect("it opens");
    let document = Document::of(&"x".repeat(100)).expect("it is small");
    for n in 0..10 {
        catalog.put("k", &format!("n{n}"), &document, Expect::Any).await.expect("it is good");
    }
    let options = CachedOptions { bytes_max: 500, ..CachedOptions::new(["k"]) };
    let refused = Cached::start(catalog.clone(), options).await.expect_err("it is too much");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("500 bytes of k"), "{refused}");
    for bad in [CachedOptions::new(Vec::<String>::new()), CachedOptions::new(["K"])] {
        let invalid = Cached::start(catalog.clone(), bad).await.expect_err("it cannot be");
        assert_eq!(invalid.kind(), ErrorKind::Invalid);
    }
}
