use slatedb::object_store::memory::InMemory;

use super::*;
use crate::ErrorKind;

fn store() -> (Arc<dyn ObjectStore>, Path) {
    (Arc::new(InMemory::new()), Path::from("a/prefix"))
}

async fn put(store: &Arc<dyn ObjectStore>, at: &Path, name: &str, text: &str) {
    store.put(&at.clone().join(name), PutPayload::from(text.to_owned())).await.unwrap();
}

async fn format(store: &Arc<dyn ObjectStore>, at: &Path) -> String {
    let found = store.get(&at.clone().join(FORMAT_NAME)).await.unwrap();
    String::from_utf8(found.bytes().await.unwrap().into()).unwrap()
}

#[tokio::test]
async fn the_first_decides_the_format() {
    let (store, at) = store();
    check_format(&store, &at, 3).await.unwrap();
    assert_eq!(format(&store, &at).await, "3");
    check_format(&store, &at, 3).await.unwrap();
    check_not_newer(&store, &at, 3).await.unwrap();
}

#[tokio::test]
async fn a_newer_process_goes_on_and_the_older_is_told_to_upgrade() {
    let (store, at) = store();
    check_format(&store, &at, 1).await.unwrap();
    check_format(&store, &at, 2).await.unwrap();
    assert_eq!(format(&store, &at).await, "2");
    for refused in [check_format(&store, &at, 1).await, check_not_newer(&store, &at, 1).await] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
        assert!(refused.to_string().contains("made by a newer version (format 2"), "{refused}");
        assert!(refused.to_string().contains("upgrade"), "{refused}");
    }
    assert_eq!(format(&store, &at).await, "2");
}

#[tokio::test]
async fn the_newest_of_many_that_begin_together_stays() {
    let (store, at) = store();
    let all = futures::future::join_all((1..6).map(|ours| check_format(&store, &at, ours))).await;
    check_format(&store, &at, 5).await.unwrap();
    assert!(all.into_iter().next_back().unwrap().is_ok());
    assert_eq!(format(&store, &at).await, "5");
}

#[tokio::test]
async fn what_is_no_format_is_refused() {
    let (store, at) = store();
    for text in ["", "one", "-1", "1.5"] {
        put(&store, &at, FORMAT_NAME, text).await;
        let refused = check_format(&store, &at, 1).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused, "{text}");
        assert_eq!(check_not_newer(&store, &at, 1).await.unwrap_err().kind(), ErrorKind::Refused, "{text}");
    }
    put(&store, &at, FORMAT_NAME, &"1".repeat(5000)).await;
    assert_eq!(check_format(&store, &at, 1).await.unwrap_err().kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn state_follows_one_log() {
    let (store, at) = store();
    follow(&store, &at, "kafka a/x").await.unwrap();
    follow(&store, &at, "kafka a/x").await.unwrap();
    let refused = follow(&store, &at, "kafka b/x").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("follows the log `kafka a/x`, not `kafka b/x`"), "{refused}");
}

#[tokio::test]
async fn of_two_logs_at_once_one_is_followed() {
    let (store, at) = store();
    let (one, other) = futures::join!(follow(&store, &at, "one"), follow(&store, &at, "other"));
    assert!(one.is_ok() != other.is_ok());
}

#[tokio::test]
async fn what_cannot_name_a_log_is_invalid() {
    let (store, at) = store();
    for name in ["", " a", "a\n", &"a".repeat(5000)] {
        assert_eq!(follow(&store, &at, name).await.unwrap_err().kind(), ErrorKind::Invalid, "{name}");
    }
}
