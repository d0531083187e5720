use super::*;

#[test]
fn a_day_begins_at_midnight_before_and_after_1970() {
    for (time_us, date) in [(0, 0), (86_399_999_999, 0), (86_400_000_000, 1), (-1, -1), (i64::MAX, 106_751_991)] {
        assert_eq!(date_of(time_us), date, "{time_us}");
    }
}

#[test]
fn every_table_sorts_by_columns_that_it_has_and_is_partitioned_by_date() {
    for table in Table::ALL {
        let schema = table.schema();
        for column in table.sort_columns().iter().chain(&[DATE_COLUMN]) {
            assert!(schema.column_with_name(column).is_some(), "{table} has no {column}");
        }
    }
}
