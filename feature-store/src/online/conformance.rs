//! The laws of [`OnlineStore`], for every backend.
//!
//! Each law is a function that takes a factory of empty stores; what the factory returns beside the store is kept until
//! the law has been checked. [`online_conformance!`](crate::online_conformance) stamps them as named tests.

use std::sync::Arc;

use bytes::Bytes;

use super::{Content, ErrorKind, KEY_BYTES_MAX, ListItem, ListKey, OnlineStore, OnlineWrite, RecordKey, Version};
use crate::views::{AUTHOR_POSTS, FOLLOWING, POST, REACTIONS, REACTIONS_MAX, USER, list, record};

/// A store under test.
pub type Store = Arc<dyn OnlineStore>;

/// Stamps every law as a test of a backend, in a module of its name. Needs `tokio` with `macros`.
#[macro_export]
macro_rules! online_conformance {
    ($backend:ident, $make:expr) => {
        $crate::online_conformance!(
            $backend, $make;
            what_is_not_newer_changes_nothing,
            what_is_gone_stays_gone,
            a_batch_is_applied_in_order,
            lists_are_ranked,
            pages_continue_exactly,
            answers_follow_the_question,
            entities_do_not_mix,
            every_write_is_seen_at_once,
            bounded_lists_end_at_their_bound,
            bounded_lists_keep_the_highest_score,
            scans_have_all_content_in_order,
            what_can_never_be_stored_is_refused,
        );
    };
    ($backend:ident, $make:expr; $($law:ident),+ $(,)?) => {
        mod $backend {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[tokio::test]
                async fn $law() {
                    $crate::online::conformance::$law($make).await;
                }
            )+
        }
    };
}

/// A version of generation 0.
pub fn at(offset: u64) -> Version {
    Version { generation: 0, offset }
}

/// Sets a record.
pub fn put(key: &RecordKey, value: &str, version: Version) -> OnlineWrite {
    OnlineWrite::Put { key: key.clone(), value: Bytes::copy_from_slice(value.as_bytes()), version }
}

/// Deletes a record.
pub fn delete(key: &RecordKey, version: Version) -> OnlineWrite {
    OnlineWrite::Delete { key: key.clone(), version }
}

/// An item of a list.
pub fn item(score: i64, member: &str) -> ListItem {
    ListItem { score, member: Bytes::copy_from_slice(member.as_bytes()) }
}

/// Puts a member into a list.
pub fn insert(list: &ListKey, score: i64, member: &str, version: Version) -> OnlineWrite {
    OnlineWrite::Insert { list: list.clone(), item: item(score, member), version }
}

/// Takes a member out of a list.
pub fn remove(list: &ListKey, member: &str, version: Version) -> OnlineWrite {
    OnlineWrite::Remove { list: list.clone(), member: Bytes::copy_from_slice(member.as_bytes()), version }
}

/// All content, read in pages of `limit`.
///
/// # Panics
/// When the store cannot be read.
pub async fn content(store: &dyn OnlineStore, limit: usize) -> Vec<Content> {
    let mut content: Vec<Content> = Vec::new();
    loop {
        let more = store.scan(content.last(), limit).await.expect("the store can be read");
        assert!(more.len() <= limit, "{} pieces of content where at most {limit} were asked for", more.len());
        if more.is_empty() {
            return content;
        }
        content.extend(more);
    }
}

async fn apply(store: &Store, batch: Vec<OnlineWrite>) {
    store.write(batch).await.expect("the store takes a good batch");
}

async fn value(store: &Store, key: &RecordKey) -> Option<String> {
    let values = store.get(std::slice::from_ref(key)).await.expect("the store can be read");
    assert_eq!(values.len(), 1);
    values[0].as_ref().map(|value| String::from_utf8_lossy(value).into_owned())
}

async fn head(store: &Store, list: &ListKey, limit: usize) -> Vec<ListItem> {
    let mut heads = store.heads(std::slice::from_ref(list), limit).await.expect("the store can be read");
    assert_eq!(heads.len(), 1);
    heads.remove(0)
}

async fn check_record(store: &Store, key: &RecordKey, want: Option<&str>, why: &str) {
    assert_eq!(value(store, key).await.as_deref(), want, "{why}");
}

async fn check_list(store: &Store, list: &ListKey, want: &[(i64, &str)], why: &str) {
    let want: Vec<ListItem> = want.iter().map(|(score, member)| item(*score, member)).collect();
    assert_eq!(head(store, list, 100).await, want, "{why}");
    assert_eq!(store.page(list, None, 100).await.expect("the store can be read"), want, "{why}, as a page");
}

/// Law 1: a write with a version that is not above the stored one changes nothing.
pub async fn what_is_not_newer_changes_nothing<K>(make: impl Fn() -> (Store, K)) {
    let (store, _keep) = make();
    let (key, of) = (record(POST, "p"), list(FOLLOWING, "u"));
    let later = Version { generation: 1, offset: 0 };

    apply(&store, vec![put(&key, "five", at(5)), insert(&of, 5, "m", at(5))]).await;
    for (version, why) in
        [(at(5), "an equal version is a repetition"), (at(4), "an older version"), (at(0), "the oldest")]
    {
        apply(&store, vec![put(&key, "no", version), insert(&of, 9, "m", version)]).await;
        check_record(&store, &key, Some("five"), why).await;
        check_list(&store, &of, &[(5, "m")], why).await;
        apply(&store, vec![delete(&key, version), remove(&of, "m", version)]).await;
        check_record(&store, &key, Some("five"), why).await;
        check_list(&store, &of, &[(5, "m")], why).await;
    }
    apply(&store, vec![put(&key, "six", at(6)), insert(&of, -6, "m", at(6))]).await;
    check_record(&store, &key, Some("six"), "a newer version").await;
    check_list(&store, &of, &[(-6, "m")], "a newer version moves the member").await;

    apply(&store, vec![put(&key, "later", later), insert(&of, 1, "m", later)]).await;
    apply(&store, vec![put(&key, "no", at(u64::MAX)), insert(&of, 2, "m", at(u64::MAX))]).await;
    check_record(&store, &key, Some("later"), "a larger generation wins over any offset").await;
    check_list(&store, &of, &[(1, "m")], "a larger generation wins over any offset").await;

    apply(&store, vec![put(&record(POST, "q"), "own", at(1)), insert(&of, 3, "n", at(1))]).await;
    check_record(&store, &record(POST, "q"), Some("own"), "versions are per record").await;
    check_list(&store, &of, &[(3, "n"), (1, "m")], "versions are per member").await;
}

/// Law 2: what was deleted or removed is gone, and an older write does not bring it back.
pub async fn what_is_gone_stays_gone<K>(make: impl Fn() -> (Store, K)) {
    let (store, _keep) = make();
    let (key, of) = (record(POST, "p"), list(FOLLOWING, "u"));

    apply(&store, vec![put(&key, "v", at(1)), insert(&of, 1, "m", at(1)), insert(&of, 1, "n", at(1))]).await;
    apply(&store, vec![delete(&key, at(3)), remove(&of, "m", at(3))]).await;
    for why in ["gone", "still gone after an older write"] {
        check_record(&store, &key, None, why).await;
        check_list(&store, &of, &[(1, "n")], why).await;
        assert_eq!(content(&*store, 10).await.len(), 1, "{why}: tombstones are not content");
        apply(&store, vec![put(&key, "no", at(2)), insert(&of, 7, "m", at(2))]).await;
    }
    apply(&store, vec![put(&key, "back", at(4)), insert(&of, 8, "m", at(4))]).await;
    check_record(&store, &key, Some("back"), "a newer write brings it back").await;
    check_list(&store, &of, &[(8, "m"), (1, "n")], "a newer write brings it back").await;

    let (never, nobody) = (record(POST, "never"), list(FOLLOWING, "nobody"));
    apply(&store, vec![delete(&never, at(9)), remove(&nobody, "m", at(9))]).await;
    apply(&store, vec![put(&never, "no", at(8)), insert(&nobody, 1, "m", at(8))]).await;
    check_record(&store, &never, None, "deleted before it was there").await;
    check_list(&store, &nobody, &[], "removed before it was there").await;
}

/// Law 3: a batch is applied in order, and readers see all of it when `write` answers.
pub async fn a_batch_is_applied_in_order<K>(make: impl Fn() -> (Store, K)) {
    let (store, _keep) = make();
    let (key, of) = (record(USER, "u"), list(FOLLOWING, "u"));
    apply(
        &store,
        vec![
            put(&key, "one", at(1)),
            insert(&of, 1, "m", at(1)),
            delete(&key, at(2)),
            insert(&of, 2, "m", at(2)),
            put(&key, "no", at(1)),
            remove(&of, "m", at(3)),
            put(&key, "three", at(3)),
            insert(&of, 4, "m", at(4)),
            insert(&of, 3, "m", at(3)),
            put(&key, "no", at(3)),
        ],
    )
    .await;
    check_record(&store, &key, Some("three"), "the first write of the newest version").await;
    check_list(&store, &of, &[(4, "m")], "the first write of the newest version").await;
    apply(&store, Vec::new()).await;

    let many: Vec<RecordKey> = (0..2_000).map(|i| record(USER, &format!("user-{i}"))).collect();
    apply(&store, many.iter().map(|key| put(key, "there", at(1))).collect()).await;
    let values = store.get(&many).await.expect("the store can be read");
    assert!(values.iter().all(|value| value.as_deref() == Some(b"there")), "all of a batch is seen");
}

/// Law 4: lists are read in descending score, then ascending member.
pub async fn lists_are_ranked<K>(make: impl Fn() -> (Store, K)) {
    let (store, _keep) = make();
    let of = list(AUTHOR_POSTS, "a");
    let mut want = vec![
        item(i64::MAX, "z"),
        item(7, "b"),
        item(7, "bb"),
        item(7, "c"),
        item(1, "x"),
        item(0, "y"),
        item(-1, "a"),
        item(-1, "aa"),
        item(i64::MIN, "0"),
    ];
    let inserts =
        want.iter().rev().map(|item| insert(&of, item.score, std::str::from_utf8(&item.member).unwrap_or(""), at(1)));
    apply(&store, inserts.collect()).await;
    for limit in [0, 1, 3, 8, 9, 10, 5_000] {
        assert_eq!(head(&store, &of, limit).await, want[..limit.min(want.len())], "the first {limit}");
    }
    apply(&store, vec![insert(&of, 8, "y", at(2)), remove(&of, "b", at(2)), insert(&of, 7, "a", at(2))]).await;
    want = [(i64::MAX, "z"), (8, "y"), (7, "a"), (7, "bb"), (7, "c"), (1, "x"), (-1, "aa"), (i64::MIN, "0")]
        .map(|(score, member)| item(score, member))
        .to_vec();
    for limit in [1, 3, 8, 9] {
        assert_eq!(head(&store, &of, limit).await, want[..limit.min(want.len())], "the first {limit} after moves");
    }
}

/// Law 4: `page` continues exactly after the given item, also when that item has gone.
pub async fn pages_continue_exactly<K>(make: impl Fn() -> (Store, K)) {
    let (store, _keep) = make();
    for (of, n) in [(list(AUTHOR_POSTS, "a"), 700_usize), (list(REACTIONS, "a"), 200)] {
        // Every score three times, so that pages are cut between equal scores too.
        let inserts = (0..n).map(|i| insert(&of, (i / 3) as i64, &format!("m{:05}", (i * 7919) % n), at(1)));
        apply(&store, inserts.collect()).await;
        let all = head(&store, &of, n + 1).await;
        assert_eq!(all.len(), n);
        assert!(all.is_sorted_by(|a, b| a.rank(b).is_lt()));
        for limit in [1, 2, 64, n, n + 1] {
            let mut walked: Vec<ListItem> = Vec::new();
            loop {
                let page = store.page(&of, walked.last(), limit).await.expect("the store can be read");
                assert!(page.len() <= limit);
                if page.is_empty() {
                    break;
                }
                walked.extend(page);
            }
            assert_eq!(walked, all, "pages of {limit}");
        }
    }

    let of = list(FOLLOWING, "u");
    apply(&store, vec![insert(&of, 3, "c", at(1)), insert(&of, 2, "b", at(1)), insert(&of, 1, "a", at(1))]).await;
    apply(&store, vec![remove(&of, "b", at(2)), insert(&of, 9, "new", at(2))]).await;
    let rest = |after: ListItem| {
        let (store, of) = (store.clone(), of.clone());
        async move { store.page(&of, Some(&after), 10).await.expect("the store can be read") }
    };
    assert_eq!(rest(item(2, "b")).await, [item(1, "a")], "after an item that has gone");
    assert_eq!(rest(item(2, "zzz")).await, [item(1, "a")], "after an item that never was");
    assert_eq!(rest(item(3, "c")).await, [item(1, "a")], "what is new at the head is not repeated below");
    assert_eq!(rest(item(i64::MAX, "")).await.len(), 3, "after what is before everything");
    assert_eq!(rest(item(i64::MIN, "a")).await, [], "after the end");
}

/// Law 5: answers come in the order asked, one for each key, also for keys asked twice.
pub async fn answers_follow_the_question<K>(make: impl Fn() -> (Store, K)) {
    let (store, _keep) = make();
    let keys: Vec<RecordKey> = (0..200).map(|i| record(POST, &format!("p{i}"))).collect();
    let lists: Vec<ListKey> = (0..200).map(|i| list(AUTHOR_POSTS, &format!("a{i}"))).collect();
    let there = |i: &usize| !i.is_multiple_of(3);
    let puts = (0..200).filter(there).map(|i| put(&keys[i], &format!("v{i}"), at(1)));
    let inserts = (0..200).filter(there).map(|i| insert(&lists[i], i as i64, "m", at(1)));
    apply(&store, puts.chain(inserts).collect()).await;

    let asked: Vec<usize> = (0..600).map(|i| (i * 37) % 200).collect();
    let keys: Vec<RecordKey> = asked.iter().map(|&i| keys[i].clone()).collect();
    let lists: Vec<ListKey> = asked.iter().map(|&i| lists[i].clone()).collect();
    // Twice, because the first answers may be kept in memory.
    for _ in 0..2 {
        let values = store.get(&keys).await.expect("the store can be read");
        let heads = store.heads(&lists, 5).await.expect("the store can be read");
        assert_eq!((values.len(), heads.len()), (asked.len(), asked.len()));
        for (at, i) in asked.iter().enumerate() {
            let value = there(i).then(|| Bytes::from(format!("v{i}")));
            assert_eq!(values[at], value, "record {i}");
            let head: Vec<ListItem> = there(i).then(|| item(*i as i64, "m")).into_iter().collect();
            assert_eq!(heads[at], head, "list {i}");
        }
    }
    assert_eq!(store.get(&[]).await.expect("the store can be read"), Vec::<Option<Bytes>>::new());
    assert_eq!(store.heads(&[], 5).await.expect("the store can be read"), Vec::<Vec<ListItem>>::new());
}

/// Entities that look alike, and views with the same entity, are apart.
pub async fn entities_do_not_mix<K>(make: impl Fn() -> (Store, K)) {
    let (store, _keep) = make();
    let long = "x".repeat(KEY_BYTES_MAX);
    let entities =
        ["a", "ab", "abc", "b", "a\0", "a\0\0", "a\0b", "\0", "\0\0", "\0\u{1}", "a\u{1}", "\u{10ffff}", &long];
    let views = [(POST, AUTHOR_POSTS), (USER, FOLLOWING)];
    let mut batch = Vec::new();
    for (records, lists) in views {
        for entity in entities {
            let own = format!("{records} {entity:?}");
            batch.push(put(&record(records, entity), &own, at(1)));
            batch.push(insert(&list(lists, entity), 1, entity, at(1)));
            batch.push(insert(&list(lists, entity), 2, "\0", at(1)));
        }
    }
    apply(&store, batch).await;
    for (records, lists) in views {
        for entity in entities {
            let own = format!("{records} {entity:?}");
            check_record(&store, &record(records, entity), Some(&own), &own).await;
            let want: &[(i64, &str)] = if entity == "\0" { &[(1, "\0")] } else { &[(2, "\0"), (1, entity)] };
            // The version of both inserts is the same, so the second of the entity "\0" is a repetition.
            check_list(&store, &list(lists, entity), want, &own).await;
        }
    }
    let found = content(&*store, 7).await;
    assert!(found.is_sorted_by(|a, b| a.cmp_key(b).is_lt()), "content is in the order of its keys");
    assert_eq!(found.len(), 2 * (3 * entities.len() - 1));
}

/// Law 3 for whatever was read before: a store may keep answers in memory, and a write must show in them.
pub async fn every_write_is_seen_at_once<K>(make: impl Fn() -> (Store, K)) {
    let (store, _keep) = make();
    let (key, of) = (record(POST, "p"), list(FOLLOWING, "u"));
    let mut want: Vec<ListItem> = Vec::new();
    for step in 1..=300_u64 {
        let member = format!("m{}", (step * 7) % 40);
        let score = ((step * 13) % 50) as i64;
        want.retain(|item| item.member != member.as_bytes());
        if step.is_multiple_of(4) {
            apply(&store, vec![remove(&of, &member, at(step)), delete(&key, at(step))]).await;
            check_record(&store, &key, None, "just deleted").await;
        } else {
            let text = format!("v{step}");
            apply(&store, vec![insert(&of, score, &member, at(step)), put(&key, &text, at(step))]).await;
            check_record(&store, &key, Some(&text), "just written").await;
            want.push(item(score, &member));
        }
        want.sort_by(ListItem::rank);
        let limit = [1, 5, 3, 20, 100][step as usize % 5];
        assert_eq!(head(&store, &of, limit).await, want[..limit.min(want.len())], "the first {limit} in step {step}");
    }
}

/// Readers never see more of a bounded list than its bound.
pub async fn bounded_lists_end_at_their_bound<K>(make: impl Fn() -> (Store, K)) {
    let (store, _keep) = make();
    let of = list(REACTIONS, "viewer");
    let n = 6 * REACTIONS_MAX as u64;
    let steps: Vec<u64> = (0..n).collect();
    for some in steps.chunks(100) {
        apply(&store, some.iter().map(|i| insert(&of, *i as i64, &format!("m{i}"), at(*i))).collect()).await;
        let end = some[some.len() - 1];
        let want: Vec<ListItem> =
            (0..=end).rev().take(REACTIONS_MAX).map(|i| item(i as i64, &format!("m{i}"))).collect();
        assert_eq!(head(&store, &of, REACTIONS_MAX * 2).await, want);
        assert_eq!(head(&store, &of, 10).await, want[..10]);
        assert_eq!(store.page(&of, None, n as usize).await.expect("the store can be read"), want);
        let last = want.last().cloned();
        assert_eq!(store.page(&of, last.as_ref(), 10).await.expect("the store can be read").len(), 0);
        assert_eq!(content(&*store, 50).await.len(), want.len());
    }
    apply(&store, vec![insert(&of, 0, "m0", at(0)), insert(&of, 1, "m1", at(1))]).await;
    assert_eq!(
        head(&store, &of, REACTIONS_MAX).await.last(),
        Some(&item(n as i64 - REACTIONS_MAX as i64, &format!("m{}", n as usize - REACTIONS_MAX)))
    );
}

/// Law 1 for bounded lists: a member keeps its highest score.
pub async fn bounded_lists_keep_the_highest_score<K>(make: impl Fn() -> (Store, K)) {
    let (store, _keep) = make();
    let of = list(REACTIONS, "viewer");
    let later = Version { generation: 1, offset: 0 };
    for (score, version, want, why) in [
        (5, at(5), 5, "the first"),
        (4, at(6), 5, "a lower score of a newer version"),
        (9, at(3), 9, "a higher score of an older version"),
        (9, at(9), 9, "a repetition"),
        (2, later, 9, "a lower score of a newer generation"),
        (10, later, 10, "a higher score"),
    ] {
        apply(&store, vec![insert(&of, score, "m", version)]).await;
        check_list(&store, &of, &[(want, "m")], why).await;
        assert_eq!(content(&*store, 5).await.len(), 1, "{why}: a member is content once");
    }
    apply(&store, vec![insert(&of, 17, "m", at(2)), insert(&of, 16, "m", at(3)), insert(&of, 12, "n", at(1))]).await;
    check_list(&store, &of, &[(17, "m"), (12, "n")], "within a batch").await;
    assert_eq!(head(&store, &of, 1).await, [item(17, "m")]);
}

/// `scan` has all content once, in the order of its keys, whatever the size of its pages, and continues after content
/// that has gone.
pub async fn scans_have_all_content_in_order<K>(make: impl Fn() -> (Store, K)) {
    let (store, _keep) = make();
    assert_eq!(content(&*store, 3).await, []);
    let mut batch = Vec::new();
    let mut want = Vec::new();
    for i in 0..60_u64 {
        let (key, of) = (record(POST, &format!("p{i:03}")), list(FOLLOWING, &format!("u{:03}", i / 6)));
        let (text, member) = (format!("v{i}"), format!("m{i:03}"));
        batch.push(insert(&of, -(i as i64), &member, at(1)));
        batch.push(put(&key, &text, at(1)));
        if i % 7 == 0 {
            batch.push(delete(&key, at(2)));
            batch.push(remove(&of, &member, at(2)));
        } else {
            want.push(Content::Record(key, text.into()));
            want.push(Content::Member(of, member.into(), -(i as i64)));
        }
    }
    apply(&store, batch).await;
    want.sort();
    for limit in [1, 2, 7, 51, 1_000] {
        assert_eq!(content(&*store, limit).await, want, "in pages of {limit}");
    }
    assert_eq!(store.scan(None, 0).await.expect("the store can be read"), []);

    let gone = Content::Record(record(POST, "p000"), Bytes::new());
    assert_eq!(store.scan(Some(&gone), 1).await.expect("the store can be read"), want[..1]);
    let gone = Content::Member(list(FOLLOWING, "u000"), Bytes::from("m000"), 5);
    let first = want.iter().position(|content| matches!(content, Content::Member(..))).unwrap_or(0);
    assert_eq!(store.scan(Some(&gone), 2).await.expect("the store can be read"), want[first..first + 2]);
}

/// A batch that can never be taken is refused whole, with the kind that says so.
pub async fn what_can_never_be_stored_is_refused<K>(make: impl Fn() -> (Store, K)) {
    let (store, _keep) = make();
    let long = "x".repeat(KEY_BYTES_MAX + 1);
    let good = record(POST, "good");
    let bad = [
        put(&record(0, "view"), "v", at(1)),
        put(&record(POST, ""), "v", at(1)),
        put(&record(POST, &long), "v", at(1)),
        delete(&record(POST, &long), at(1)),
        insert(&list(FOLLOWING, ""), 1, "m", at(1)),
        insert(&list(FOLLOWING, "u"), 1, "", at(1)),
        insert(&list(FOLLOWING, "u"), 1, &long, at(1)),
        remove(&list(FOLLOWING, &long), "m", at(1)),
        remove(&list(REACTIONS, "u"), "m", at(1)),
    ];
    for write in bad {
        let refused = store.write(vec![put(&good, "v", at(1)), write.clone()]).await;
        assert_eq!(refused.map_err(|e| e.kind()), Err(ErrorKind::Invalid), "{write:?}");
        check_record(&store, &good, None, "nothing of a refused batch is applied").await;
    }
    check_record(&store, &record(POST, &long), None, "a key that cannot be there is not there").await;
    check_record(&store, &record(POST, ""), None, "a key that cannot be there is not there").await;
    check_list(&store, &list(FOLLOWING, &long), &[], "a list that cannot be there is not there").await;
    check_list(&store, &list(FOLLOWING, ""), &[], "a list that cannot be there is not there").await;
}
