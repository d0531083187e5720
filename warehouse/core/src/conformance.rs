//! The laws of [`Warehouse`], one function each, for any backend.
//!
//! A backend implements [`Harness`] and stamps every law as a test with
//! [`warehouse_conformance!`](crate::warehouse_conformance). A law panics where a backend breaks it. What a kill leaves
//! (law 4) is for each backend to test with a process of its own; here writers are dropped half-way.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array as _, RecordBatch};
use async_trait::async_trait;
use futures::future::{join_all, join3, select};
use futures::{FutureExt, StreamExt, TryStreamExt};
use millrace_events::Topic;

use crate::tables::{
    DeadLetterRow, DeadLettersBuilder, EngagementWindowRow, EngagementWindowsBuilder, EventRow, EventsBuilder,
    IdentitiesBuilder, IdentityRow, ServedSlateRow, ServedSlatesBuilder,
};
use crate::{Block, ErrorKind, NamedQuery, Offset, Params, Source, Table, Warehouse};

/// How a law gets a warehouse.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new, empty warehouse.
    async fn open(&self) -> Arc<dyn Warehouse>;

    /// The same warehouse after a clean stop. `warehouse` is the only handle to it.
    async fn reopen(&self, warehouse: Arc<dyn Warehouse>) -> Arc<dyn Warehouse>;
}

/// Stamps every law as a test. The argument makes a [`Harness`](crate::conformance::Harness); it is evaluated once per law.
#[macro_export]
macro_rules! warehouse_conformance {
    ($harness:expr) => {
        $crate::warehouse_conformance! { @laws $harness;
            an_empty_commit_is_fine
            a_commit_is_recorded_and_readable
            a_block_without_rows_moves_its_source
            blocks_of_several_sources_come_together
            one_bad_block_spoils_its_commit
            a_gap_is_refused
            an_overlap_is_refused
            a_repeated_commit_changes_nothing
            of_racing_writers_one_wins
            the_first_block_may_begin_anywhere
            sources_are_independent
            tables_are_independent
            malformed_blocks_are_invalid
            rows_come_back_as_they_were
            rows_of_many_dates_are_one_commit
            maintenance_changes_no_row
            readers_see_each_row_once_whatever_goes_on
            a_scan_keeps_what_it_began_with
            a_scan_of_no_column_counts_rows
            an_unknown_column_is_invalid
            queries_see_what_was_committed
            everything_survives_a_stop
            a_dropped_commit_happened_or_not
        }
    };
    (@laws $harness:expr; $($law:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                $crate::conformance::$law(&$harness).await;
            }
        )*
    };
}

/// 2024-01-31T23:59:50Z, microseconds: blocks that begin here end on another date.
const TIME_US: i64 = 1_706_745_590_000_000;
const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// A source of `actions`.
fn source(partition: u32) -> Source {
    Source { generation: 1, topic: Topic::Actions, partition }
}

/// Rows of `events`, one for each record, a second apart.
fn events(partition: u32, records: Range<Offset>) -> RecordBatch {
    events_apart(partition, records, SECOND_US)
}

fn events_apart(partition: u32, records: Range<Offset>, apart_us: i64) -> RecordBatch {
    let mut rows = EventsBuilder::with_capacity(0);
    for offset in records {
        let id = format!("message-{partition}-{offset}");
        let time = TIME_US + i64::try_from(offset).expect("laws use small offsets") * apart_us;
        rows.push(EventRow {
            message_id: &id,
            source: "web",
            event: if offset % 3 == 0 { "post_liked" } else { "post_viewed" },
            actor_id: "ada",
            user_id: Some("ada"),
            anonymous_id: None,
            post_id: (offset % 2 == 0).then_some("p1"),
            target_id: None,
            tag: None,
            slate: None,
            event_time: time,
            ingest_time: time + 1,
            properties: "{\"a\":[1,\"\u{1F980}\"]}",
            context: "{}",
            topic: "actions",
            partition,
            offset,
            robot: false,
            violation: None,
        });
    }
    rows.finish()
}

/// A block of `events` with a row for each record: for tests of an adapter beside the laws.
pub fn block(partition: u32, records: Range<Offset>) -> Block {
    let rows = vec![events(partition, records.clone())];
    Block { source: source(partition), start: records.start, end: records.end, rows }
}

async fn must_commit(warehouse: &dyn Warehouse, blocks: Vec<Block>) {
    warehouse.commit(Table::Events, blocks).await.expect("the warehouse should take a block that follows");
}

async fn kind_of_commit(warehouse: &dyn Warehouse, blocks: Vec<Block>) -> Option<ErrorKind> {
    warehouse.commit(Table::Events, blocks).await.err().map(|error| error.kind())
}

/// Where the partitions of generation 1 of `actions` stand in `events`.
async fn stands(warehouse: &dyn Warehouse) -> BTreeMap<u32, Offset> {
    let recorded = warehouse.recorded(Table::Events).await.expect("positions should be readable");
    recorded.into_iter().map(|(source, end)| (source.partition, end)).collect()
}

/// Partition and offset of every row of `events`, sorted.
async fn stored(warehouse: &dyn Warehouse) -> Vec<(u32, Offset)> {
    let answer = warehouse.scan(Table::Events, &["partition", "offset"]).await.expect("the table should be readable");
    let batches: Vec<RecordBatch> = answer.rows.try_collect().await.expect("the table should be readable to its end");
    let mut places: Vec<_> = batches.iter().flat_map(places).collect();
    places.sort_unstable();
    places
}

/// From a batch that begins with `partition` and `offset`.
fn places(batch: &RecordBatch) -> Vec<(u32, Offset)> {
    let partitions = batch.column(0).as_primitive::<Int32Type>().values();
    let offsets = batch.column(1).as_primitive::<Int64Type>().values();
    let place = |(partition, offset): (&i32, &i64)| (partition.unsigned_abs(), offset.unsigned_abs());
    partitions.iter().zip(offsets).map(place).collect()
}

/// The rows that [`block`] makes, as [`stored`] shows them.
fn rows_of(partition: u32, records: Range<Offset>) -> Vec<(u32, Offset)> {
    records.map(|offset| (partition, offset)).collect()
}

/// Nothing to commit is committed.
pub async fn an_empty_commit_is_fine(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    must_commit(&*warehouse, Vec::new()).await;
    assert_eq!(stands(&*warehouse).await, BTreeMap::new());
    assert_eq!(stored(&*warehouse).await, []);
}

/// Law 1.
pub async fn a_commit_is_recorded_and_readable(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    must_commit(&*warehouse, vec![block(0, 0..5)]).await;
    assert_eq!(stands(&*warehouse).await, [(0, 5)].into());
    must_commit(&*warehouse, vec![block(0, 5..6)]).await;
    assert_eq!(stands(&*warehouse).await, [(0, 6)].into());
    assert_eq!(stored(&*warehouse).await, rows_of(0, 0..6));
}

/// Records that lead to no row are passed all the same.
pub async fn a_block_without_rows_moves_its_source(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    must_commit(&*warehouse, vec![Block { rows: Vec::new(), ..block(0, 0..5) }]).await;
    must_commit(&*warehouse, vec![Block { rows: vec![events(0, 0..0)], ..block(0, 5..9) }]).await;
    must_commit(&*warehouse, vec![block(0, 9..10)]).await;
    assert_eq!(stands(&*warehouse).await, [(0, 10)].into());
    assert_eq!(stored(&*warehouse).await, rows_of(0, 9..10));
}

/// Law 1, when all blocks follow; and a block may have several batches.
pub async fn blocks_of_several_sources_come_together(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    let in_two = Block { rows: vec![events(1, 0..3), events(1, 3..7)], ..block(1, 0..7) };
    must_commit(&*warehouse, vec![block(0, 0..5), in_two, block(2, 0..1)]).await;
    assert_eq!(stands(&*warehouse).await, [(0, 5), (1, 7), (2, 1)].into());
    let rows = [rows_of(0, 0..5), rows_of(1, 0..7), rows_of(2, 0..1)].concat();
    assert_eq!(stored(&*warehouse).await, rows);
}

/// Law 1, when one of the blocks does not follow.
pub async fn one_bad_block_spoils_its_commit(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    must_commit(&*warehouse, vec![block(1, 0..5)]).await;
    let refused = kind_of_commit(&*warehouse, vec![block(0, 0..5), block(1, 4..8), block(2, 0..5)]).await;
    assert_eq!(refused, Some(ErrorKind::Conflict));
    assert_eq!(stands(&*warehouse).await, [(1, 5)].into());
    assert_eq!(stored(&*warehouse).await, rows_of(1, 0..5));
}

/// Law 2: nothing is left out.
pub async fn a_gap_is_refused(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    must_commit(&*warehouse, vec![block(0, 0..5)]).await;
    assert_eq!(kind_of_commit(&*warehouse, vec![block(0, 6..8)]).await, Some(ErrorKind::Conflict));
    assert_eq!(stands(&*warehouse).await, [(0, 5)].into());
    assert_eq!(stored(&*warehouse).await, rows_of(0, 0..5));
}

/// Law 2: nothing is taken twice.
pub async fn an_overlap_is_refused(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    must_commit(&*warehouse, vec![block(0, 0..5)]).await;
    for records in [4..8, 0..8, 0..3, 3..5] {
        assert_eq!(kind_of_commit(&*warehouse, vec![block(0, records)]).await, Some(ErrorKind::Conflict));
    }
    assert_eq!(stored(&*warehouse).await, rows_of(0, 0..5));
}

/// Law 2: a writer that did not hear the answer asks again and learns that it was taken.
pub async fn a_repeated_commit_changes_nothing(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    let blocks = vec![block(0, 0..5), block(1, 0..3)];
    must_commit(&*warehouse, blocks.clone()).await;
    for _ in 0..3 {
        assert_eq!(kind_of_commit(&*warehouse, blocks.clone()).await, Some(ErrorKind::Conflict));
    }
    assert_eq!(stands(&*warehouse).await, [(0, 5), (1, 3)].into());
    assert_eq!(stored(&*warehouse).await, [rows_of(0, 0..5), rows_of(1, 0..3)].concat());
}

/// Law 2 under concurrency: eight writers, none of which knows of the others, archive the same records.
pub async fn of_racing_writers_one_wins(harness: &dyn Harness) {
    const RECORDS: Offset = 60;
    let warehouse = harness.open().await;
    let writer = |size: Offset| {
        let warehouse = warehouse.clone();
        async move {
            let mut won = 0;
            loop {
                let from = stands(&*warehouse).await.get(&0).copied().unwrap_or(0);
                if from >= RECORDS {
                    return won;
                }
                match kind_of_commit(&*warehouse, vec![block(0, from..RECORDS.min(from + size))]).await {
                    None => won += 1,
                    Some(kind) => assert_eq!(kind, ErrorKind::Conflict),
                }
            }
        }
    };
    let won: u32 = join_all((3..11).map(writer)).await.into_iter().sum();
    assert!(won >= 6, "commits of at most ten records cannot be {won} for {RECORDS}");
    assert_eq!(stored(&*warehouse).await, rows_of(0, 0..RECORDS));
}

/// The beginning of a log may be gone when the warehouse is built again; from the first block on, law 2 holds.
pub async fn the_first_block_may_begin_anywhere(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    must_commit(&*warehouse, vec![block(0, 1_000..1_002)]).await;
    assert_eq!(kind_of_commit(&*warehouse, vec![block(0, 0..5)]).await, Some(ErrorKind::Conflict));
    must_commit(&*warehouse, vec![block(0, 1_002..1_003)]).await;
    assert_eq!(stored(&*warehouse).await, rows_of(0, 1_000..1_003));
}

/// Generation, topic and partition make a source, all three.
pub async fn sources_are_independent(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    let sources = [
        Source { generation: 1, topic: Topic::Actions, partition: 0 },
        Source { generation: 2, topic: Topic::Actions, partition: 0 },
        Source { generation: 1, topic: Topic::ReactionEvents, partition: 0 },
        Source { generation: 1, topic: Topic::Actions, partition: 1_023 },
    ];
    let mut expected = BTreeMap::new();
    for (source, end) in sources.into_iter().zip(1..) {
        must_commit(&*warehouse, vec![Block { source, ..block(0, 0..end) }]).await;
        expected.insert(source, end);
    }
    let recorded = warehouse.recorded(Table::Events).await.expect("positions should be readable");
    assert_eq!(recorded, expected);
    let warehouse = harness.reopen(warehouse).await;
    let recorded = warehouse.recorded(Table::Events).await.expect("positions should be readable");
    assert_eq!(recorded, expected);
}

/// One source may feed several tables, each at its own pace.
pub async fn tables_are_independent(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    must_commit(&*warehouse, vec![block(0, 0..5)]).await;
    let letters = Block { rows: Vec::new(), ..block(0, 0..2) };
    warehouse.commit(Table::DeadLetters, vec![letters]).await.expect("another table should begin anywhere");
    let recorded = warehouse.recorded(Table::DeadLetters).await.expect("positions should be readable");
    assert_eq!(recorded, [(source(0), 2)].into());
    assert_eq!(stands(&*warehouse).await, [(0, 5)].into());
}

/// What cannot be a block is refused whole, with the reason that it is the caller's fault.
pub async fn malformed_blocks_are_invalid(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    let backwards = Block { start: 5, end: 4, ..block(0, 0..1) };
    let from_nothing = Block { start: 5, end: 5, ..block(0, 0..1) };
    let of_another_table = Block { rows: vec![DeadLettersBuilder::with_capacity(0).finish()], ..block(0, 0..1) };
    for bad in [vec![backwards], vec![from_nothing], vec![of_another_table], vec![block(0, 0..1), block(0, 1..2)]] {
        assert_eq!(kind_of_commit(&*warehouse, [vec![block(1, 0..1)], bad].concat()).await, Some(ErrorKind::Invalid));
    }
    assert_eq!(stands(&*warehouse).await, BTreeMap::new());
    assert_eq!(stored(&*warehouse).await, []);
}

/// Every column of every table, nulls and extremes included, also after maintenance.
pub async fn rows_come_back_as_they_were(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    let rows = [
        (Table::Events, events(0, 0..100)),
        (Table::EngagementWindows, windows()),
        (Table::Identities, identities()),
        (Table::ServedSlates, slates()),
        (Table::DeadLetters, letters()),
    ];
    for (table, rows) in &rows {
        let block = Block { rows: vec![rows.clone()], ..block(0, 0..100) };
        warehouse.commit(*table, vec![block]).await.expect("the warehouse should take rows of each table");
    }
    for _ in 0..2 {
        for (table, rows) in &rows {
            let schema = table.schema();
            let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let answer = warehouse.scan(*table, &columns).await.expect("the table should be readable");
            assert_eq!(answer.schema.fields(), schema.fields(), "{table}");
            let found: Vec<RecordBatch> = answer.rows.try_collect().await.expect("the table should be readable");
            assert_eq!(sorted_lines(&found), sorted_lines(std::slice::from_ref(rows)), "{table}");
        }
        warehouse.maintain().await.expect("maintenance should succeed");
    }
}

/// Each row as text, in any order.
fn sorted_lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            lines.push(batch.columns().iter().map(|column| format!("{:?}", column.slice(row, 1))).collect::<String>());
        }
    }
    lines.sort_unstable();
    lines
}

fn windows() -> RecordBatch {
    let mut rows = EngagementWindowsBuilder::with_capacity(0);
    for index in 0..3 {
        rows.push(EngagementWindowRow {
            window: ["5m", "1h", "24h"][index as usize],
            window_start: TIME_US,
            window_end: TIME_US + DAY_US,
            post_id: "p1",
            views: u64::MAX / 2,
            clicks: 0,
            likes: 1,
            unlikes: 2,
            comments: 3,
            shares: 4,
            saves: 5,
            hides: 6,
            reports: 7,
            closed_at: TIME_US + 2 * DAY_US,
            topic: "reaction-events",
            partition: 0,
            offset: 7,
            index,
        });
    }
    rows.finish()
}

fn identities() -> RecordBatch {
    let mut rows = IdentitiesBuilder::with_capacity(0);
    for (offset, person_id) in (0..).zip(["ada", "", "日本"]) {
        rows.push(IdentityRow {
            alias_id: "a\u{0}\n",
            person_id,
            linked_at: [TIME_US, -TIME_US, 0][offset],
            topic: "user-events",
            partition: 0,
            offset: offset as u64,
        });
    }
    rows.finish()
}

fn slates() -> RecordBatch {
    let mut rows = ServedSlatesBuilder::with_capacity(0);
    for index in 0..20 {
        let some = index % 2 == 0;
        rows.push(ServedSlateRow {
            slate: "s1",
            viewer_id: "",
            served_at: TIME_US,
            as_of: some.then_some(-TIME_US),
            model: "plain",
            model_version: "1",
            sample_rate: 0.1,
            position: some.then_some(index),
            post_id: "p\u{0}1",
            author_id: "ada",
            reason: "followed",
            score: some.then_some(f64::MIN_POSITIVE),
            recency: some.then_some(-0.0),
            affinity: None,
            engagement: Some(1e300),
            diversity: Some(f64::from(index)),
            filter: (!some).then_some("seen"),
            topic: "served-slates",
            partition: 0,
            offset: 3,
            index,
        });
    }
    rows.finish()
}

fn letters() -> RecordBatch {
    let mut rows = DeadLettersBuilder::with_capacity(0);
    for offset in 0..3 {
        rows.push(DeadLetterRow {
            id: "same",
            reason: "unknown_event",
            detail: "it says:\n\"no\"",
            source: "web",
            refused_by: "collector",
            log_time: TIME_US,
            payload_bytes: 1 << 40,
            truncated: offset == 1,
            topic: "dead-letters",
            partition: 0,
            offset,
        });
    }
    rows.finish()
}

/// Law 1 across dates, before 1970 too.
pub async fn rows_of_many_dates_are_one_commit(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    let rows = vec![events_apart(0, 0..60, -400 * DAY_US), events_apart(0, 60..100, DAY_US / 7)];
    must_commit(&*warehouse, vec![Block { rows, ..block(0, 0..100) }]).await;
    assert_eq!(stored(&*warehouse).await, rows_of(0, 0..100));
    warehouse.maintain().await.expect("maintenance should succeed");
    assert_eq!(stored(&*warehouse).await, rows_of(0, 0..100));
}

/// Law 3: after as many rounds as there are commits, rows and positions are as they were.
pub async fn maintenance_changes_no_row(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    for offset in 0..70 {
        must_commit(&*warehouse, vec![block(0, offset..offset + 1), block(1, 2 * offset..2 * offset + 2)]).await;
        if offset % 9 == 0 {
            warehouse.maintain().await.expect("maintenance should succeed");
        }
    }
    for _ in 0..5 {
        warehouse.maintain().await.expect("maintenance should succeed");
        assert_eq!(stored(&*warehouse).await, [rows_of(0, 0..70), rows_of(1, 0..140)].concat());
    }
    assert_eq!(stands(&*warehouse).await, [(0, 70), (1, 140)].into());
}

/// Law 3 under concurrency: a scan has at least what was answered before it began, and a whole number of commits.
pub async fn readers_see_each_row_once_whatever_goes_on(harness: &dyn Harness) {
    const COMMITS: Offset = 60;
    let warehouse = harness.open().await;
    let done = std::sync::atomic::AtomicBool::new(false);
    let is_done = || done.load(std::sync::atomic::Ordering::Acquire);
    let write = async {
        for n in 0..COMMITS {
            must_commit(&*warehouse, vec![block(0, n * 3..n * 3 + 3)]).await;
        }
        done.store(true, std::sync::atomic::Ordering::Release);
    };
    let maintain = async {
        while !is_done() {
            warehouse.maintain().await.expect("maintenance should succeed beside writers and readers");
        }
    };
    let read = async {
        while !is_done() {
            let answered = stands(&*warehouse).await.get(&0).copied().unwrap_or(0);
            let rows = stored(&*warehouse).await;
            let seen = rows.len() as Offset;
            assert!(seen >= answered && seen.is_multiple_of(3), "{seen} rows are seen after {answered} were answered");
            assert_eq!(rows, rows_of(0, 0..seen));
        }
    };
    join3(write, maintain, read).await;
    assert_eq!(stored(&*warehouse).await, rows_of(0, 0..COMMITS * 3));
}

/// Law 3 for a slow reader: what it began with stays readable, and what comes later is not mixed in.
pub async fn a_scan_keeps_what_it_began_with(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    for offset in 0..40 {
        must_commit(&*warehouse, vec![block(0, offset..offset + 1)]).await;
    }
    let answer = warehouse.scan(Table::Events, &["partition", "offset"]).await.expect("the table should be readable");
    let mut rows = answer.rows;
    let first = rows.next().await.expect("there are rows").expect("the table should be readable");
    for offset in 40..80 {
        must_commit(&*warehouse, vec![block(0, offset..offset + 1)]).await;
        warehouse.maintain().await.expect("maintenance should succeed");
    }
    let rest: Vec<RecordBatch> = rows.try_collect().await.expect("a scan should outlive maintenance");
    let mut seen: Vec<_> = [vec![first], rest].concat().iter().flat_map(places).collect();
    seen.sort_unstable();
    assert_eq!(seen, rows_of(0, 0..40));
}

/// Counting needs no column.
pub async fn a_scan_of_no_column_counts_rows(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    must_commit(&*warehouse, vec![block(0, 0..17)]).await;
    let answer = warehouse.scan(Table::Events, &[]).await.expect("the table should be readable");
    let batches: Vec<RecordBatch> = answer.rows.try_collect().await.expect("the table should be readable");
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 17);
}

/// A column that is not there is named, not left out.
pub async fn an_unknown_column_is_invalid(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    let refused = warehouse.scan(Table::Events, &["offset", "no_such"]).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Invalid));
}

/// Law 3 for SQL, in what every engine understands.
pub async fn queries_see_what_was_committed(harness: &dyn Harness) {
    let warehouse = harness.open().await;
    let query = NamedQuery {
        name: "rows_of_test".to_owned(),
        doc: String::new(),
        params: Vec::new(),
        sql: "SELECT COUNT(*) AS n, SUM(\"offset\") AS s, COUNT(DISTINCT \"offset\") AS d FROM events".to_owned(),
    };
    for end in 1..40_u64 {
        must_commit(&*warehouse, vec![block(0, end - 1..end)]).await;
        if end % 5 == 0 {
            warehouse.maintain().await.expect("maintenance should succeed");
        }
        let answer = warehouse.query(&query, &Params::new()).await.expect("a query over events should run");
        let batches: Vec<RecordBatch> = answer.rows.try_collect().await.expect("a query should come to its end");
        let numbers = batches.iter().filter(|batch| batch.num_rows() > 0).flat_map(|batch| {
            batch.columns().iter().map(|column| column.as_primitive::<Int64Type>().value(0)).collect::<Vec<_>>()
        });
        let end = i64::try_from(end).expect("laws use small offsets");
        assert_eq!(numbers.collect::<Vec<_>>(), [end, end * (end - 1) / 2, end]);
    }
}

/// Law 4 for a clean stop, several times, with maintenance between.
pub async fn everything_survives_a_stop(harness: &dyn Harness) {
    let mut warehouse = harness.open().await;
    for round in 0..5 {
        for offset in 0..25 {
            let from = round * 25 + offset;
            must_commit(&*warehouse, vec![block(0, from..from + 1)]).await;
        }
        warehouse.maintain().await.expect("maintenance should succeed");
        warehouse = harness.reopen(warehouse).await;
        let end = (round + 1) * 25;
        assert_eq!(stands(&*warehouse).await, [(0, end)].into());
        assert_eq!(stored(&*warehouse).await, rows_of(0, 0..end));
    }
}

/// Laws 1 and 4 for a writer that is cancelled: its commit is whole or not there, and the next one goes on from the truth.
pub async fn a_dropped_commit_happened_or_not(harness: &dyn Harness) {
    let mut warehouse = harness.open().await;
    for round in 0..40_usize {
        let from = stands(&*warehouse).await.get(&0).copied().unwrap_or(0);
        let commit = warehouse.commit(Table::Events, vec![block(0, from..from + 5)]);
        let some_polls = async {
            for _ in 0..round % 13 {
                yield_once().await;
            }
        };
        drop(select(commit, some_polls.boxed()).await);
        if round % 8 == 7 {
            warehouse = harness.reopen(warehouse).await;
        }
        let seen = stored(&*warehouse).await.len() as Offset;
        let stands = stands(&*warehouse).await.get(&0).copied().unwrap_or(0);
        assert!(stands >= seen && seen.is_multiple_of(5), "{seen} rows are seen, {stands} recorded afterwards");
    }
    must_commit_after_all(&*warehouse).await;
    let end = stands(&*warehouse).await[&0];
    assert_eq!(stored(&*warehouse).await, rows_of(0, 0..end));
}

/// A commit that nobody waits for may still be under way; whatever its end, one that follows is taken.
async fn must_commit_after_all(warehouse: &dyn Warehouse) {
    loop {
        let from = stands(warehouse).await.get(&0).copied().unwrap_or(0);
        match kind_of_commit(warehouse, vec![block(0, from..from + 1)]).await {
            None => return,
            Some(kind) => assert_eq!(kind, ErrorKind::Conflict),
        }
    }
}

/// Lets others run.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
