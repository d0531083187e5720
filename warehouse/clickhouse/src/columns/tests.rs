use millrace_events::Topic;
use millrace_warehouse::sample;
use millrace_warehouse::tables::{DeadLetterRow, DeadLettersBuilder};

use super::*;

fn letters(offsets: &[u64]) -> RecordBatch {
    let mut rows = DeadLettersBuilder::with_capacity(offsets.len());
    for offset in offsets {
        rows.push(DeadLetterRow {
            id: "id",
            reason: "reason",
            detail: "detail",
            source: "web",
            refused_by: "collector",
            log_time: 0,
            payload_bytes: 1,
            truncated: false,
            topic: "dead-letters",
            partition: 0,
            offset: *offset,
        });
    }
    rows.finish()
}

fn block(rows: Vec<RecordBatch>) -> Block {
    Block { source: Source { generation: 3, topic: Topic::DeadLetters, partition: 7 }, start: 10, end: 20, rows }
}

#[test]
fn rows_of_one_record_are_numbered_in_their_order() {
    let check = |offsets: &[&[u64]], expected: &[i32]| {
        let rows = offsets.iter().map(|offsets| letters(offsets)).collect();
        let batches = insert_batches(Table::DeadLetters, &block(rows)).unwrap();
        let found = batches.iter().flat_map(|batch| numbers::<Int32Type>(batch, INDEX)).copied();
        assert_eq!(found.collect::<Vec<_>>(), expected, "{offsets:?}");
        for batch in &batches {
            let sources = batch.column_by_name(LOG_SOURCE).unwrap().as_string::<i32>();
            assert!(sources.iter().all(|source| source == Some("3/dead-letters/7")));
        }
    };
    check(&[&[10, 11, 15]], &[0, 0, 0]);
    check(&[&[10, 10], &[], &[10, 11]], &[0, 1, 2, 0]);
    check(&[&[12, 10, 12], &[10]], &[0, 0, 1, 1]);
}

#[test]
fn a_row_that_comes_from_no_record_of_the_block_is_invalid() {
    for offset in [9, 20, u64::MAX] {
        let error = insert_batches(Table::DeadLetters, &block(vec![letters(&[10, offset])])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().ends_with("which is not in 10..20"), "{error}");
    }
}

#[test]
fn two_rows_with_one_index_are_invalid() {
    let mut commits = sample::commits(Table::ServedSlates);
    let mut block = commits.swap_remove(0).swap_remove(0);
    assert!(insert_batches(Table::ServedSlates, &block).is_ok());
    block.rows.push(block.rows[0].slice(0, 1));
    let error = insert_batches(Table::ServedSlates, &block).unwrap_err();
    assert!(error.to_string().ends_with("record 0 has two rows with index 0"), "{error}");
}

#[test]
fn an_insert_names_every_column_of_the_table() {
    assert_eq!(
        insert_statement(Table::DeadLetters),
        "INSERT INTO dead_letters_rows (`id`, `reason`, `detail`, `source`, `refused_by`, `log_time`, `event_date`, \
         `payload_bytes`, `truncated`, `topic`, `partition`, `offset`, `index`, `log_source`) FORMAT ArrowStream"
    );
    assert!(insert_statement(Table::ServedSlates).ends_with("`offset`, `index`, `log_source`) FORMAT ArrowStream"));
}
