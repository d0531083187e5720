use super::*;

#[test]
fn dates_are_written_as_they_are_read() {
    for (date, text) in [(0, "1970-01-01"), (19_753, "2024-01-31"), (-1, "1969-12-31"), (-719_162, "0001-01-01")] {
        assert_eq!(date_text(date).as_deref(), Some(text));
        assert_eq!(parse_date(text), Some(date));
    }
    assert_eq!(date_text(2_932_896).as_deref(), Some("9999-12-31"));
}

#[test]
fn a_date_that_delta_cannot_write_has_no_text() {
    for date in [-719_163, 2_932_897, i32::MIN, i32::MAX] {
        assert_eq!(date_text(date), None, "{date}");
    }
}

#[test]
fn bounds_come_back_from_the_log() {
    let time = |us| ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()));
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
    let bounds = |column, min, max| ColumnBounds { column, min, max, nulls: 0 };
    let columns = vec![
        bounds(2, text("post_liked"), text("zażółć \"🦀\"")),
        bounds(10, time(-1), time(1_706_745_590_123_456)),
        bounds(16, ScalarValue::Int32(Some(-5)), ScalarValue::Int32(Some(7))),
        bounds(17, ScalarValue::Int64(Some(0)), ScalarValue::Int64(Some(i64::MAX))),
    ];
    let stats = stats_json(Table::Events, 12, &columns);
    assert!(stats.contains("\"1969-12-31T23:59:59.999999Z\""), "{stats}");
    assert_eq!(parse_stats(Table::Events, &stats), Some((12, columns)));
}

#[test]
fn a_bound_that_cannot_be_written_is_left_out() {
    let long = ScalarValue::Utf8(Some("x".repeat(BOUND_BYTES_MAX + 1)));
    let short = ScalarValue::Utf8(Some(String::new()));
    let columns = [ColumnBounds { column: 2, min: short, max: long, nulls: 0 }];
    assert_eq!(parse_stats(Table::Events, &stats_json(Table::Events, 1, &columns)), Some((1, Vec::new())));
}

#[test]
fn statistics_without_a_number_of_rows_are_none() {
    for stats in ["", "{}", "[]", "{\"numRecords\":-1}", "{\"numRecords\":\"1\"}"] {
        assert_eq!(parse_stats(Table::Events, stats), None, "{stats}");
    }
    assert_eq!(parse_stats(Table::Events, "{\"numRecords\":3}"), Some((3, Vec::new())));
}
