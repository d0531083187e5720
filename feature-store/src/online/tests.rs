use std::convert::Infallible;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::head::Head;
use super::keys::{
    after_list, descending, list_prefix, put_header, read_descending, read_header, read_list_prefix, read_record_key,
    record_key,
};
use super::marks::Marks;
use super::{ListItem, ListKey, RecordKey, Version};
use crate::views::{POST, SEEN, record, seen_key};

fn prefix_of(list: &ListKey) -> Vec<u8> {
    let mut prefix = Vec::new();
    list_prefix(&mut prefix, list);
    prefix
}

fn any_list() -> impl Strategy<Value = ListKey> {
    let byte = prop_oneof![Just(0_u8), Just(1), Just(0xff), any::<u8>()];
    (1..4_u8, vec(byte, 1..6)).prop_map(|(view, entity)| ListKey { view, entity: entity.into() })
}

proptest! {
    #[test]
    fn keys_read_back_and_keep_their_order(a in any_list(), b in any_list(), m in vec(any::<u8>(), 1..5), n in any::<i64>()) {
        let (x, y) = (prefix_of(&a), prefix_of(&b));
        prop_assert_eq!(a.cmp(&b), x.cmp(&y));
        prop_assert_eq!(a == b, y.starts_with(&x));
        let key = [&x[..], &m].concat();
        prop_assert_eq!(read_list_prefix(&key), Some((a.clone(), x.len())));
        prop_assert!(key < after_list(&x));
        prop_assert!(a >= b || key < y);

        let wanted = RecordKey { view: a.view, entity: a.entity };
        let mut key = Vec::new();
        record_key(&mut key, &wanted);
        prop_assert_eq!(read_record_key(&key), Some(wanted));
        prop_assert_eq!(read_descending(&descending(n)), Some(n));
        prop_assert!(n == i64::MAX || descending(n + 1) < descending(n));
    }

    #[test]
    fn versions_read_back(generation in any::<u32>(), offset in any::<u64>(), alive in any::<bool>()) {
        let mut stored = Vec::new();
        let version = Version { generation, offset };
        put_header(&mut stored, version, alive);
        stored.push(7);
        prop_assert_eq!(read_header(&stored), Some((version, alive.then_some(&[7][..]))));
        prop_assert_eq!(read_header(&stored[2..]), None);
    }

    /// Whatever a head says it knows is what the whole list says.
    #[test]
    fn heads_follow_their_list(
        first in vec((0..20_u8, -5..5_i64), 0..25),
        asked in 1..30_usize,
        steps in vec(vec((0..20_u8, prop::option::of(-5..5_i64)), 1..4), 1..8),
    ) {
        let mut list: Vec<ListItem> = Vec::new();
        for (member, score) in first {
            change(&mut list, member, Some(score));
        }
        let mut head = Head::pack(list.iter().map(|item| (item.score, &item.member[..])), asked);
        for mut step in steps {
            step.sort_by_key(|(member, _)| *member);
            step.dedup_by_key(|(member, _)| *member);
            let members: Vec<[u8; 1]> = step.iter().map(|(member, _)| [*member]).collect();
            let changes: Vec<(&[u8], _)> = members.iter().zip(&step).map(|(m, (_, score))| (&m[..], *score)).collect();
            for (member, score) in &step {
                change(&mut list, *member, *score);
            }
            let Some(next) = head.apply(&changes) else { return Ok(()) };
            let again = next.apply(&changes);
            for limit in 0..=asked {
                if next.has(limit) {
                    prop_assert_eq!(next.items(limit), &list[..limit.min(list.len())]);
                    prop_assert_eq!(again.as_ref().map(|again| again.items(limit)), Some(next.items(limit)));
                }
            }
            for item in next.items(asked) {
                prop_assert_eq!(next.score_of(&item.member), Some(item.score));
            }
            head = next;
        }
    }
}

fn change(list: &mut Vec<ListItem>, member: u8, score: Option<i64>) {
    let member = Bytes::from(vec![member]);
    list.retain(|item| item.member != member);
    list.extend(score.map(|score| ListItem { score, member }));
    list.sort_by(ListItem::rank);
}

#[test]
fn damaged_keys_are_not_read() {
    for damaged in [&b""[..], b"\x01", b"\x01a", b"\x01a\0", b"\x01a\0\x07b", b"\x01a\0\xff"] {
        assert_eq!(read_list_prefix(damaged), None, "{damaged:?}");
    }
    assert_eq!(read_header(b"\x02............"), None);
    assert_eq!(read_descending(b"short"), None);
}

#[test]
fn marks_never_call_a_version_newest_that_is_not() {
    let mut marks = Marks::default();
    let is_newest = |marks: &mut Marks, key: &RecordKey, offset, stored: Option<u64>| {
        let load = || Ok::<_, Infallible>(stored.map(|offset| Version { generation: 0, offset }));
        marks.is_newest(key, Version { generation: 0, offset }, load) == Ok(true)
    };
    let (key, other) = (record(POST, "p"), seen_key("viewer", "p"));
    assert!(is_newest(&mut marks, &key, 0, None), "nothing is stored");
    marks.raise(&key, Version { generation: 0, offset: 5 });
    for (offset, newest) in [(0, false), (5, false), (6, true)] {
        assert_eq!(is_newest(&mut marks, &key, offset, None), newest, "offset {offset}");
    }
    for (offset, newest) in [(40, false), (41, false), (42, true)] {
        assert_eq!(is_newest(&mut marks, &other, offset, Some(41)), newest, "offset {offset}, after a start");
    }
    marks.raise(&other, Version { generation: 0, offset: 50 });
    assert_eq!(other.view, SEEN);
    assert!(!is_newest(&mut marks, &seen_key("viewer", "q"), 50, None), "one owner, one bucket");
    marks.check_epoch(0);
    assert!(!is_newest(&mut marks, &key, 5, Some(4)), "the same database");
    marks.check_epoch(1);
    assert!(is_newest(&mut marks, &key, 5, Some(4)), "another one, in which less is stored");
    assert!(marks.raise(&key, Version { generation: 0, offset: 5 }), "and so it is the newest again");
    marks.clear();
    assert!(is_newest(&mut marks, &key, 5, None), "after a failed write");
}
