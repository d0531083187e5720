use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use millrace_warehouse::tables::{DeadLetterRow, DeadLettersBuilder};

use super::*;
use crate::write::by_date;

const NOTHING: [u64; 0] = [];

fn file(rows: u64, written_ms: i64) -> Arc<ActiveFile> {
    Arc::new(ActiveFile {
        path: format!("{rows}-{written_ms}"),
        location: Path::default(),
        size: rows * 50,
        date: 0,
        rows,
        written_ms,
        columns: Vec::new(),
    })
}

/// The rows of the files that are merged when these are there, last written to at 0.
fn chosen(rows: &[u64], now_ms: i64) -> Vec<u64> {
    let files = rows.iter().map(|rows| file(*rows, 0)).collect();
    choose(files, now_ms).unwrap_or_default().iter().map(|file| file.rows).collect()
}

#[test]
fn files_of_one_size_are_merged_when_there_are_enough() {
    assert_eq!(chosen(&[1_000; TIER_FILES - 1], 0), NOTHING);
    assert_eq!(chosen(&[1_000; TIER_FILES], 0), [1_000; TIER_FILES]);
    assert_eq!(chosen(&[1_000; 5 * FILES_MAX], 0), [1_000; FILES_MAX]);
}

#[test]
fn files_of_other_sizes_are_left_where_rows_still_come() {
    let sizes = [[100_000; 15], [10_000; 15], [1_000; 15], [100; 15]].concat();
    assert_eq!(chosen(&sizes, QUIET_MS - 1), NOTHING);
    assert_eq!(chosen(&[sizes, vec![120]].concat(), 0).len(), TIER_FILES);
}

#[test]
fn a_quiet_date_is_merged_as_a_whole() {
    assert_eq!(chosen(&[100, 1_000, 300], QUIET_MS), [100, 300, 1_000]);
    assert_eq!(chosen(&[100], QUIET_MS), NOTHING);
    assert_eq!(chosen(&[], QUIET_MS), NOTHING);
}

#[test]
fn a_large_file_is_not_rewritten_for_a_few_rows() {
    assert_eq!(chosen(&[100_000, 5], QUIET_MS), NOTHING);
    assert_eq!(chosen(&[100_000, 5, 3], QUIET_MS), [3, 5]);
    assert_eq!(chosen(&[100_000, 25_000], QUIET_MS), [25_000, 100_000]);
}

/// Appends files of `rows` rows, merging whenever something is due, and answers how often a row was rewritten on average.
fn rewritten(files: u64, rows: u64) -> f64 {
    let mut held: Vec<Arc<ActiveFile>> = Vec::new();
    let mut written = 0;
    for now in 0..files {
        held.push(file(rows, i64::try_from(now).unwrap()));
        let open = held.iter().filter(|file| !is_full(file)).cloned().collect();
        let Some(group) = choose(open, 0) else { continue };
        held.retain(|file| !group.iter().any(|merged| Arc::ptr_eq(file, merged)));
        let merged = group.iter().map(|file| file.rows).sum();
        written += merged;
        held.push(file(merged, -1));
    }
    assert!(held.len() < 100 + (files * rows / FULL_ROWS) as usize, "{} files are left", held.len());
    written as f64 / (files * rows) as f64
}

#[test]
fn a_row_is_rewritten_a_handful_of_times() {
    for (files, rows, most) in [(20_000, 1, 4.0), (20_000, 10, 4.0), (5_000, 1_000, 2.0), (1_000, 10_000, 1.0)] {
        let times = rewritten(files, rows);
        assert!(times > 0.5 && times <= most, "{files} files of {rows}: {times}");
    }
}

fn letters(times: &[i64], partition: u32) -> RecordBatch {
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
            partition,
            offset,
        });
    }
    rows.finish()
}

#[test]
fn merged_rows_are_sorted_over_all_batches() {
    let rows = by_date(&[letters(&[5, 3, 3], 1), letters(&[4, 3], 0)]).unwrap().remove(&0).unwrap();
    let merged = write_sorted(Table::DeadLetters, &Path::default(), 0, &rows, 0).unwrap();
    let (batches, _) = decode(Table::DeadLetters, merged.bytes.clone(), usize::MAX).unwrap().unwrap();
    let offsets = batches[0].column_by_name("offset").unwrap().as_primitive::<Int64Type>().values().to_vec();
    assert_eq!((batches.len(), offsets), (1, vec![1, 1, 2, 0, 0]));
    assert!(decode(Table::DeadLetters, merged.bytes, 100).unwrap().is_none());
}
