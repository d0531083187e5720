//! Answers stay exact, whatever zombies insert and whatever the server remembers of inserts: here it remembers two.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine;

use std::ops::Range;

use clickhouse::Client;
use engine::{Databases, text};
use futures::TryStreamExt as _;
use millrace_clickhouse::{ClickHouseOptions, ClickHouseWarehouse, TableSize};
use millrace_events::Topic;
use millrace_warehouse::tables::{EventRow, EventsBuilder};
use millrace_warehouse::{Block, ErrorKind, Rows, Source, Table, Warehouse, named_queries};

/// 2024-01-31T23:59:30Z, microseconds: a minute from here touches two months, so that one insert becomes two parts.
const TIME_US: i64 = 1_706_745_570_000_000;

fn source(partition: u32) -> Source {
    Source { generation: 1, topic: Topic::Actions, partition }
}

/// A block with a row for each record, a second apart.
fn block(partition: u32, records: Range<u64>) -> Block {
    let mut rows = EventsBuilder::with_capacity(0);
    for offset in records.clone() {
        let time = TIME_US + i64::try_from(offset).unwrap() * 1_000_000;
        rows.push(EventRow {
            message_id: &format!("m-{partition}-{offset}"),
            source: "web",
            event: if offset % 3 == 0 { "post_liked" } else { "post_viewed" },
            actor_id: "ada",
            user_id: Some("ada"),
            anonymous_id: None,
            post_id: Some("p1"),
            target_id: None,
            tag: None,
            slate: None,
            event_time: time,
            ingest_time: time + 1,
            properties: "{}",
            context: "{}",
            topic: "actions",
            partition,
            offset,
            robot: false,
            violation: None,
        });
    }
    Block { source: source(partition), start: records.start, end: records.end, rows: vec![rows.finish()] }
}

/// A warehouse whose server forgets all but the last two inserts, and a client that can do to it what zombies do.
async fn forgetful(databases: &Databases) -> (ClickHouseWarehouse, Client, String) {
    let name = databases.name();
    let warehouse = databases.open(&name, ClickHouseOptions::default()).await;
    let stranger = databases.stranger(&name);
    for table in ["events_rows", "blocks"] {
        run(&stranger, &format!("ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 2")).await;
        let sql = format!("SELECT engine_full FROM system.tables WHERE database = '{name}' AND name = '{table}'");
        let engine = text(&stranger, &sql).await;
        assert!(engine.contains("non_replicated_deduplication_window = 2"), "{engine}");
    }
    run(&stranger, "SYSTEM STOP MERGES events_rows").await;
    (warehouse, stranger, name)
}

async fn run(client: &Client, sql: &str) {
    client.query_raw(sql).execute().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// What a writer inserts that never learns of its end: all rows of these records again, under a token of its own.
async fn insert_again(stranger: &Client, condition: &str, token: &str) {
    let sql = format!(
        "INSERT INTO events_rows SELECT * FROM events_rows WHERE {condition} \
         SETTINGS insert_deduplication_token = '{token}'"
    );
    run(stranger, &sql).await;
}

async fn count(stranger: &Client, table: &str) -> usize {
    text(stranger, &format!("SELECT count() FROM {table}")).await.parse().unwrap()
}

/// Everything that can be asked says that exactly these records are there.
async fn assert_exactly(warehouse: &ClickHouseWarehouse, stranger: &Client, records: u64) {
    let query = &named_queries()["events_by_name"];
    let answer = warehouse.query(query, &query.bind([]).unwrap()).await.unwrap();
    let mut said = Vec::new();
    for batch in answer.rows.try_collect::<Vec<_>>().await.unwrap() {
        let rows = Rows::of(&batch).unwrap();
        for row in 0..rows.len() {
            let mut json = Vec::new();
            rows.json_array(row, &mut json);
            said.push(String::from_utf8(json).unwrap());
        }
    }
    let liked = records.div_ceil(3);
    let mut expected = Vec::new();
    if records > liked {
        expected.push(format!("[\"post_viewed\",{}]", records - liked));
    }
    let likes = format!("[\"post_liked\",{liked}]");
    // Most frequent first; by name among equals.
    if liked >= records - liked {
        expected.insert(0, likes)
    } else {
        expected.push(likes)
    }
    assert_eq!(said, if records == 0 { Vec::new() } else { expected });
    let scanned: Vec<_> = warehouse.scan(Table::Events, &["offset"]).await.unwrap().rows.try_collect().await.unwrap();
    assert_eq!(scanned.iter().map(|batch| batch.num_rows() as u64).sum::<u64>(), records);
    let seen = text(stranger, "SELECT concat(toString(count()), ' ', toString(uniqExact(offset))) FROM events").await;
    assert_eq!(seen, format!("{records} {records}"));
    let stands = warehouse.recorded(Table::Events).await.unwrap();
    assert_eq!(stands.get(&source(0)).copied().unwrap_or(0), records);
}

#[tokio::test]
async fn rows_inserted_again_far_beyond_what_the_server_remembers_count_once() {
    let Some(databases) = engine::databases() else { return };
    let (warehouse, stranger, _) = forgetful(&databases).await;
    for n in 0..10 {
        warehouse.commit(Table::Events, vec![block(0, n * 6..n * 6 + 6)]).await.unwrap();
    }
    // The window is crossed: the first block is long forgotten, and each comes back several times.
    for round in 0..3 {
        for n in 0..10 {
            let range = format!("offset >= {} AND offset < {}", n * 6, n * 6 + 6);
            insert_again(&stranger, &range, &format!("{round}-{n}")).await;
        }
        assert!(count(&stranger, "events_rows").await >= 60 * (round + 2), "the server took them again");
        assert_exactly(&warehouse, &stranger, 60).await;
    }
    let repeated = warehouse.size(Table::Events).await.unwrap();
    assert_eq!(
        repeated.rows,
        count(&stranger, "events_rows").await as u64,
        "its size is what is there, not what counts"
    );
    run(&stranger, "SYSTEM START MERGES events_rows").await;
    run(&stranger, "OPTIMIZE TABLE events_rows FINAL").await;
    assert_eq!(count(&stranger, "events_rows").await, 60, "merges replace rows by rows");
    let merged = warehouse.size(Table::Events).await.unwrap();
    assert!(
        merged.rows == 60 && merged.bytes < repeated.bytes && merged.parts < repeated.parts,
        "{merged:?} {repeated:?}"
    );
    assert_eq!(warehouse.size(Table::DeadLetters).await.unwrap(), TableSize::default());
    assert_exactly(&warehouse, &stranger, 60).await;
}

/// A process that saw nothing of the first commit, right after it and when the server has forgotten it.
#[tokio::test]
async fn a_block_that_is_committed_again_counts_once_inside_and_outside_the_window() {
    let Some(databases) = engine::databases() else { return };
    let (warehouse, stranger, name) = forgetful(&databases).await;
    warehouse.commit(Table::Events, vec![block(0, 0..6)]).await.unwrap();
    for (between, stored) in [(0, 12), (5, 18)] {
        for n in 0..between {
            warehouse.commit(Table::Events, vec![block(1, n * 2..n * 2 + 2)]).await.unwrap();
        }
        // Its ledger is empty until it writes.
        run(&stranger, "RENAME TABLE blocks TO blocks_of_others").await;
        run(&stranger, "CREATE TABLE blocks AS blocks_of_others").await;
        let zombie = databases.open(&name, ClickHouseOptions::default()).await;
        zombie.commit(Table::Events, vec![block(0, 0..6)]).await.unwrap();
        run(&stranger, "INSERT INTO blocks_of_others SELECT * FROM blocks").await;
        run(&stranger, "DROP TABLE blocks").await;
        run(&stranger, "RENAME TABLE blocks_of_others TO blocks").await;
        let sql = "SELECT concat(toString(count()), ' ', toString(uniqExact(offset))) FROM events WHERE partition = 0";
        assert_eq!(text(&stranger, sql).await, "6 6");
        let sql = "SELECT count() FROM events_rows WHERE partition = 0";
        assert_eq!(text(&stranger, sql).await, stored.to_string(), "the server took them again");
    }
}

#[tokio::test]
async fn rows_of_a_commit_that_died_are_not_seen_until_a_repeat_replaces_them() {
    let Some(databases) = engine::databases() else { return };
    let (warehouse, stranger, _) = forgetful(&databases).await;
    // Rows of both months came, then the writer died: what it recorded is taken away again.
    warehouse.commit(Table::Events, vec![block(0, 0..60)]).await.unwrap();
    run(&stranger, "TRUNCATE TABLE blocks").await;
    assert_eq!(count(&stranger, "events_rows").await, 60);
    assert_exactly(&warehouse, &stranger, 0).await;
    // Of another one only one month came.
    run(&stranger, "ALTER TABLE events_rows DROP PARTITION 202402").await;
    assert_eq!(count(&stranger, "events_rows").await, 30);
    assert_exactly(&warehouse, &stranger, 0).await;
    // The next writer cuts otherwise, and reaches what is there already by and by.
    for records in [0..7, 7..20, 20..45] {
        let end = records.end;
        warehouse.commit(Table::Events, vec![block(0, records)]).await.unwrap();
        assert_exactly(&warehouse, &stranger, end).await;
    }
    warehouse.commit(Table::Events, vec![block(0, 45..60)]).await.unwrap();
    assert_exactly(&warehouse, &stranger, 60).await;
}

/// What was taken away on purpose comes back when the log is archived again, although the server has seen these inserts.
#[tokio::test]
async fn an_emptied_table_is_filled_again_by_the_same_blocks() {
    let Some(databases) = engine::databases() else { return };
    let (warehouse, stranger, _) = forgetful(&databases).await;
    run(&stranger, "SYSTEM START MERGES events_rows").await;
    for emptied in [
        "TRUNCATE TABLE events_rows",
        "ALTER TABLE events_rows DROP PARTITION 202401",
        "ALTER TABLE events_rows DELETE WHERE 1 SETTINGS mutations_sync = 2",
        "DELETE FROM events_rows WHERE 1 SETTINGS lightweight_deletes_sync = 2",
        "SELECT 1",
    ] {
        warehouse.commit(Table::Events, vec![block(0, 0..60)]).await.unwrap();
        assert_exactly(&warehouse, &stranger, 60).await;
        run(&stranger, emptied).await;
        run(&stranger, "TRUNCATE TABLE blocks").await;
        assert_exactly(&warehouse, &stranger, 0).await;
    }
}

/// Whoever is started at the same time finds the tables made, or makes them.
#[tokio::test]
async fn processes_that_start_together_make_one_set_of_tables() {
    let Some(databases) = engine::databases() else { return };
    let name = databases.name();
    let starts = (0..4).map(|_| databases.open(&name, ClickHouseOptions::default()));
    let warehouses = futures::future::join_all(starts).await;
    let stranger = databases.stranger(&name);
    for (n, warehouse) in (0..).zip(&warehouses) {
        warehouse.commit(Table::Events, vec![block(0, n * 3..n * 3 + 3)]).await.unwrap();
        assert_exactly(warehouse, &stranger, n * 3 + 3).await;
    }
    drop(databases.open(&name, ClickHouseOptions::default()).await);
}

#[tokio::test]
async fn a_zombie_that_records_less_takes_nothing_back() {
    let Some(databases) = engine::databases() else { return };
    let (warehouse, stranger, _) = forgetful(&databases).await;
    warehouse.commit(Table::Events, vec![block(0, 0..12)]).await.unwrap();
    for end in [3, 9, 12] {
        insert_again(&stranger, &format!("offset < {end}"), &format!("zombie {end}")).await;
        let recorded = format!(
            "INSERT INTO blocks (`table`, generation, topic, partition, start, end) VALUES \
                                ('events', 1, 'actions', 0, 0, {end})"
        );
        run(&stranger, &recorded).await;
        assert_exactly(&warehouse, &stranger, 12).await;
        run(&stranger, "OPTIMIZE TABLE blocks FINAL").await;
        assert_exactly(&warehouse, &stranger, 12).await;
    }
    assert_eq!(count(&stranger, "blocks").await, 1, "merges keep the greatest end of a source");
    let late = warehouse.commit(Table::Events, vec![block(0, 3..9)]).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
}

/// Nothing refuses the slower of two processes here, as nothing could: both say that they wrote, and both wrote the same.
#[tokio::test]
async fn of_processes_that_cut_otherwise_the_union_counts() {
    let Some(databases) = engine::databases() else { return };
    let (one, stranger, name) = forgetful(&databases).await;
    let other = databases.open(&name, ClickHouseOptions::default()).await;
    let mut stands = 0;
    for (mine, theirs) in [(5, 7), (3, 3), (8, 2), (1, 9)] {
        let (a, b) = (vec![block(0, stands..stands + mine)], vec![block(0, stands..stands + theirs)]);
        let (a, b) = tokio::join!(one.commit(Table::Events, a), other.commit(Table::Events, b));
        for outcome in [&a, &b] {
            assert!(outcome.as_ref().err().is_none_or(|e| e.kind() == ErrorKind::Conflict), "{outcome:?}");
        }
        assert!(a.is_ok() || b.is_ok());
        stands = one.recorded(Table::Events).await.unwrap()[&source(0)];
        assert_exactly(&one, &stranger, stands).await;
        assert_exactly(&other, &stranger, stands).await;
    }
}

#[tokio::test]
async fn a_table_forgets_rows_after_as_many_days_as_it_is_told_and_no_others() {
    let Some(databases) = engine::databases() else { return };
    let name = databases.name();
    let stranger = databases.stranger(&name);
    let engine_of = async |table: Table| {
        let sql = format!("SELECT engine_full FROM system.tables WHERE database = '{name}' AND name = '{table}_rows'");
        text(&stranger, &sql).await
    };
    for days in [Some(30), Some(7), None, Some(36_500)] {
        let keep_days = days.map(|days| (Table::Events, days)).into_iter().collect();
        let warehouse = databases.open(&name, ClickHouseOptions { keep_days, ..ClickHouseOptions::default() }).await;
        for table in Table::ALL {
            let engine = engine_of(table).await;
            let expected = days.filter(|_| table == Table::Events);
            assert_eq!(engine.contains("TTL"), expected.is_some(), "{engine}");
            if let Some(days) = expected {
                assert!(engine.contains(&format!("TTL event_date + toIntervalDay({days}) ")), "{engine}");
            }
        }
        drop(warehouse);
    }
    let keep_days = [(Table::Events, 30)].into();
    let warehouse = databases.open(&name, ClickHouseOptions { keep_days, ..ClickHouseOptions::default() }).await;
    warehouse.commit(Table::Events, vec![block(0, 0..6)]).await.unwrap();
    run(&stranger, "OPTIMIZE TABLE events_rows FINAL").await;
    assert_eq!(count(&stranger, "events").await, 0, "the rows are of 2024");
    assert_eq!(
        warehouse.recorded(Table::Events).await.unwrap()[&source(0)],
        6,
        "where the source stands is not forgotten"
    );
}

#[tokio::test]
async fn a_database_of_another_version_is_refused_and_one_half_made_is_completed() {
    let Some(databases) = engine::databases() else { return };
    let name = databases.name();
    let stranger = databases.stranger(&name);
    drop(databases.open(&name, ClickHouseOptions::default()).await);
    // As a start that was killed half-way leaves it.
    run(&stranger, "DROP VIEW events").await;
    run(&stranger, "TRUNCATE TABLE migrations").await;
    drop(databases.open(&name, ClickHouseOptions::default()).await);
    assert_eq!(count(&stranger, "events").await, 0);
    assert_eq!(count(&stranger, "migrations").await, 3);
    let refused = async || {
        let options = ClickHouseOptions { database: name.clone(), ..ClickHouseOptions::default() };
        ClickHouseWarehouse::open(databases.url(), options).await.err().unwrap()
    };
    run(&stranger, "INSERT INTO migrations (number, name, checksum) VALUES (99, 'of the future', 'x')").await;
    let newer = refused().await;
    assert_eq!(newer.kind(), ErrorKind::Corrupt);
    assert!(newer.to_string().contains("has migration 99 and this version knows 3"), "{newer}");
    run(&stranger, "TRUNCATE TABLE migrations").await;
    run(&stranger, "INSERT INTO migrations (number, name, checksum) VALUES (1, 'tables', 'x')").await;
    let changed = refused().await;
    assert_eq!(changed.kind(), ErrorKind::Corrupt);
    assert!(changed.to_string().contains("was another one than this version has"), "{changed}");
}
