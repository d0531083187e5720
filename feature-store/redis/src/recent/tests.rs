use bytes::Bytes;
use millrace_feature_store::online::{OnlineWrite, Version};
use millrace_feature_store::views::{POST, record};

use super::*;

fn put(id: &str, offset: u64, bytes: usize) -> Plan {
    let version = Version { generation: 0, offset };
    Plan::of(vec![OnlineWrite::Put { key: record(POST, id), value: Bytes::from(vec![b'v'; bytes]), version }])
}

#[test]
fn a_write_is_remembered_for_its_time_and_then_forgotten() {
    let mut recent = Recent::new(100, usize::MAX);
    recent.add(&put("a", 1, 1));
    for beat in 1..=100 {
        recent.beat();
        assert_eq!(recent.all().len(), 1, "after beat {beat}");
    }
    for _ in 0..10 {
        recent.beat();
    }
    assert_eq!(recent.all().len(), 0);
    assert!(!recent.is_cut());
}

#[test]
fn a_key_is_remembered_once_in_each_part() {
    let mut recent = Recent::new(100, usize::MAX);
    for offset in 0..10_000 {
        recent.add(&put("a", offset, 100));
    }
    assert_eq!(recent.all().len(), 1);
    assert!(recent.bytes() < 500, "{} bytes", recent.bytes());
}

#[test]
fn its_room_is_bounded_and_the_oldest_go_first() {
    let mut recent = Recent::new(100, 100_000);
    for offset in 0..10_000 {
        recent.add(&put(&format!("p{offset}"), offset, 100));
        assert!(recent.bytes() <= 100_000);
    }
    assert!(recent.is_cut(), "it says so");
    let all = recent.all();
    assert!(all.len() > 300, "{} writes", all.len());
    let mut newest = put("p9999", 9_999, 100);
    newest.merge(&all);
    assert_eq!(newest.len(), all.len(), "the newest is among them");
    for _ in 0..100 {
        assert!(recent.is_cut(), "as long as it is so");
        recent.beat();
    }
    assert!(!recent.is_cut());
    recent.clear();
    assert_eq!(recent.all().len(), 0);
}
