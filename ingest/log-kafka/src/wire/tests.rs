use super::*;

#[track_caller]
fn check(time_us: i64, timestamp: i64) {
    assert_eq!(timestamp_of(time_us), timestamp);
    assert_eq!(time_from(Some(timestamp), Some(&time_us.to_be_bytes())), time_us);
}

#[test]
fn log_times_come_back_as_they_were() {
    check(1_700_000_000_123_456, 1_700_000_000_123);
    check(1_999, 1);
    check(2_000, 2);
    check(0, 1);
    check(-5, 1);
    check(i64::MIN, 1);
    check(i64::MAX, i64::MAX / 1000);
}

#[test]
fn timestamps_fall_nowhere_where_log_time_does_not() {
    let times = [i64::MIN, -1_000_001, -5, 0, 999, 1_000, 1_999, 2_000, 1_700_000_000_123_456, i64::MAX];
    assert!(times.map(timestamp_of).is_sorted());
}

#[test]
fn records_of_others_have_the_time_of_their_timestamp() {
    assert_eq!(time_from(Some(7), None), 7_000);
    assert_eq!(time_from(Some(7), Some(b"short")), 7_000);
    assert_eq!(time_from(Some(-1), None), -1_000);
    assert_eq!(time_from(None, None), 1_000);
}

#[test]
fn a_header_that_its_timestamp_contradicts_is_not_believed() {
    assert_eq!(time_from(Some(7), Some(&9_000_i64.to_be_bytes())), 7_000);
}
