use millrace_feature_store::views::{FOLLOWING, POST};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Keys and their slots as `CLUSTER KEYSLOT` of Redis 7.0 answers them.
#[test]
fn slots_are_those_of_redis() {
    for (key, slot) in [
        (&b"foo"[..], 12_182),
        (b"123456789", 12_739),
        (b"{user1000}.following", 3_443),
        (b"foo{}{bar}", 8_363),
        (b"foo{{bar}}zap", 4_015),
        (b"foo{bar}{zap}", 5_061),
        (b"", 0),
    ] {
        assert_eq!(slot_of(key), slot, "{:?}", String::from_utf8_lossy(key));
    }
}

proptest! {
    #[test]
    fn names_read_back_and_the_keys_of_a_list_share_a_slot(
        view in 1..=u8::MAX,
        entity in vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'%'), Just(b':'), any::<u8>()], 1..20),
    ) {
        let keys = Keys::new("test[*]:");
        let entity = Bytes::from(entity);
        let record = RecordKey { view, entity: entity.clone() };
        let list = ListKey { view, entity };
        prop_assert_eq!(keys.read_record(&keys.record(&record)), Some(record));
        let names = keys.list(&list);
        prop_assert_eq!(slot_of(&names.items), slot_of(&names.states));
        prop_assert_eq!(slot_of(&names.items), slot_of(&names.graves));
        prop_assert_eq!(keys.items(&list), names.items.clone());
        prop_assert_eq!(keys.read_items(&names.items), Some(list));
    }

    #[test]
    fn stored_values_read_back(value in vec(any::<u8>(), 0..20), score in any::<i64>(), offset in any::<u64>()) {
        let version = Version { generation: 3, offset };
        let read = read_record(stored_record(version, Some(&value)));
        prop_assert_eq!(read, Ok(Some(Bytes::from(value.clone()))));
        prop_assert_eq!(read_record(stored_record(version, None)), Ok(None));
        prop_assert_eq!(read_item(stored_item(score, &value)), Ok((score, Bytes::from(value))));
        prop_assert!(score == i64::MAX || descending(score + 1) < descending(score));
    }
}

#[test]
fn names_that_are_not_ours_are_not_read() {
    let keys = Keys::new("m:");
    let name = keys.record(&RecordKey { view: POST, entity: "p".into() });
    assert_eq!(name, b"m:r:1:p");
    let items = keys.items(&ListKey { view: FOLLOWING, entity: "u}".into() });
    assert_eq!(items, b"m:l:{33:u%7d}");
    for other in [&b"n:r:1:p"[..], b"m:r:p", b"m:r:256:p", b"m:r:1", b"m:r:1:%2", b"m:r:1:%zz", b"m:l:{1:p}", b""] {
        assert_eq!(keys.read_record(other), None, "{:?}", String::from_utf8_lossy(other));
    }
    assert_eq!(read_record(vec![2; 20]), Err(Garbage));
    assert_eq!(read_record(vec![0; 12]), Err(Garbage));
    assert_eq!(read_record(Vec::new()), Err(Garbage));
    assert_eq!(read_item(vec![0; 7]), Err(Garbage));
}
