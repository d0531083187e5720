use millrace_feature_store::online::conformance::{at, delete, insert, put, remove};
use millrace_feature_store::views::{FOLLOWING, POST, REACTIONS, list, record};

use super::*;

fn shape(cluster: bool) -> Shape {
    Shape { keys: Keys::new("m:"), scripts: Scripts::new(), tombstone_s: 60, cluster }
}

#[test]
fn of_each_key_one_write_is_left() {
    let (key, of, bounded) = (record(POST, "p"), list(FOLLOWING, "u"), list(REACTIONS, "u"));
    let plan = Plan::of(vec![
        put(&key, "one", at(1)),
        delete(&key, at(3)),
        put(&key, "two", at(2)),
        put(&key, "three", at(3)),
        insert(&of, 1, "m", at(5)),
        remove(&of, "m", at(6)),
        insert(&of, 9, "m", at(6)),
        insert(&bounded, 7, "m", at(1)),
        insert(&bounded, 9, "m", at(0)),
        insert(&bounded, 8, "m", at(2)),
    ]);
    assert_eq!(plan.len(), 3);
    assert_eq!(plan.records[&key], (at(3), None), "the first write of the newest version");
    assert_eq!(plan.lists[&of][&Bytes::from("m")], (at(6), None), "the first write of the newest version");
    assert_eq!(plan.lists[&bounded][&Bytes::from("m")], (at(0), Some(9)), "the highest score");
}

#[test]
fn calls_of_scripts_are_bounded() {
    let puts = (0..1_000).map(|i| put(&record(POST, &format!("p{i}")), "v", at(1)));
    let inserts = (0..1_000).map(|i| insert(&list(FOLLOWING, "u"), i, &format!("m{i}"), at(1)));
    let plan = Plan::of(puts.chain(inserts).collect());
    let ops = plan.ops(&shape(false), |_| true);
    assert_eq!(ops.len(), 1_000_usize.div_ceil(SCRIPT_RECORDS_MAX) + 1_000_usize.div_ceil(SCRIPT_MEMBERS_MAX));

    let large = "x".repeat(SCRIPT_BYTES_MAX / 2);
    let puts = (0..8).map(|i| put(&record(POST, &format!("p{i}")), &large, at(1)));
    let ops = Plan::of(puts.collect()).ops(&shape(false), |_| true);
    assert!(ops.iter().all(|op| op.bytes <= SCRIPT_BYTES_MAX + 1_000), "large values are spread over calls");
    let one = Plan::of(vec![put(&record(POST, "p"), &"x".repeat(3 * SCRIPT_BYTES_MAX), at(1))]);
    assert_eq!(one.ops(&shape(false), |_| true).len(), 1, "one value may be larger");
}

#[test]
fn in_a_cluster_the_keys_of_a_call_share_a_slot() {
    let puts = (0..300).map(|i| put(&record(POST, &format!("p{i}")), "v", at(1)));
    let plan = Plan::of(puts.collect());
    let ops = plan.ops(&shape(true), |_| true);
    assert!(ops.len() > 250, "{} calls", ops.len());
    let half = plan.ops(&shape(true), |slot| slot < 8_192).len();
    let other = plan.ops(&shape(true), |slot| slot >= 8_192).len();
    assert_eq!(half + other, ops.len());
    assert!(half > 50 && other > 50);
}
