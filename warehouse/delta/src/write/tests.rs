use datafusion::common::ScalarValue;
use millrace_warehouse::tables::{DeadLetterRow, DeadLettersBuilder};

use super::*;

const DAY_US: i64 = 86_400_000_000;

fn letters(times: &[i64]) -> RecordBatch {
    let mut rows = DeadLettersBuilder::with_capacity(times.len());
    for (time, offset) in times.iter().zip(0..) {
        rows.push(DeadLetterRow {
            id: "x",
            reason: "r",
            detail: "d",
            source: "s",
            refused_by: "collector",
            log_time: *time,
            payload_bytes: 1,
            truncated: false,
            topic: "dead-letters",
            partition: 0,
            offset,
        });
    }
    rows.finish()
}

#[test]
fn rows_go_to_their_dates_in_order() {
    let batches = [letters(&[0, DAY_US, 1, -1]), letters(&[]), letters(&[2, 3])];
    let dates = by_date(&batches).unwrap();
    let offsets = |rows: &RecordBatch| -> Vec<i64> {
        let column = rows.column_by_name("offset").unwrap();
        column.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
    };
    let found: Vec<_> = dates.iter().map(|(date, rows)| (*date, rows.iter().flat_map(offsets).collect())).collect();
    assert_eq!(found, [(-1, vec![3]), (0, vec![0, 2, 0, 1]), (1, vec![1])]);
    for rows in dates.values().flatten() {
        assert_eq!(rows.schema().fields(), file_schema(Table::DeadLetters).fields());
    }
}

#[test]
fn a_file_knows_its_rows_its_date_and_its_bounds() {
    for profile in [Profile::Fresh, Profile::Merged] {
        let mut writer = FileWriter::new(Table::DeadLetters, 1, profile).unwrap();
        for rows in by_date(&[letters(&[DAY_US + 5, DAY_US + 3]), letters(&[DAY_US + 4])]).unwrap().remove(&1).unwrap()
        {
            writer.write(&rows).unwrap();
        }
        let NewFile { file, bytes } = writer.finish(&Path::from("root"), 7).unwrap();
        assert!(file.path.starts_with("event_date=1970-01-02/") && file.path.ends_with(".parquet"), "{}", file.path);
        assert_eq!(file.location.as_ref(), format!("root/{}", file.path));
        assert_eq!((file.rows, file.size, file.date, file.written_ms), (3, bytes.len() as u64, 1, 7));
        let schema = Table::DeadLetters.schema();
        let time = file.columns.iter().find(|bounds| schema.field(bounds.column).name() == "log_time").unwrap();
        let at = |us| ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()));
        assert_eq!((&time.min, &time.max, time.nulls), (&at(DAY_US + 3), &at(DAY_US + 5), 0));
    }
}
