//! The named queries and their bounds, on ClickHouse.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine;

use std::future::Future;
use std::time::Duration;

use engine::{Databases, text};
use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _};
use millrace_clickhouse::{ClickHouseOptions, ClickHouseWarehouse, QUERY_TIME_MAX, QueryOptions};
use millrace_warehouse::{
    Answer, Error, ErrorKind, NamedQuery, Params, Result, Table, Warehouse, goldens, named_queries, sample,
};

/// An empty warehouse, and its database.
async fn empty(databases: &Databases, queries: QueryOptions) -> (ClickHouseWarehouse, String) {
    let name = databases.name();
    let warehouse = databases.open(&name, ClickHouseOptions { queries, ..ClickHouseOptions::default() }).await;
    (warehouse, name)
}

/// A warehouse with the sample in it.
async fn filled(databases: &Databases, queries: QueryOptions) -> ClickHouseWarehouse {
    let (warehouse, _) = empty(databases, queries).await;
    for table in Table::ALL {
        for blocks in sample::commits(table) {
            warehouse.commit(table, blocks).await.unwrap();
        }
    }
    warehouse
}

async fn rows(answer: Answer) -> Result<usize> {
    let batches: Vec<_> = answer.rows.try_collect().await?;
    Ok(batches.iter().map(|batch| batch.num_rows()).sum())
}

async fn ask(warehouse: &ClickHouseWarehouse, query: &NamedQuery, params: &Params) -> Result<usize> {
    rows(warehouse.query(query, params).await?).await
}

fn query(sql: &str) -> NamedQuery {
    NamedQuery::parse("ad_hoc", &format!("-- Not one of ours.\n{sql}")).unwrap()
}

/// The sample's 38 events with each other, so often that nobody lives to see the end: 38^8 rows, some 4 million million.
fn endless(what: &str) -> NamedQuery {
    let joins = ["b", "c", "d", "e", "f", "g", "h"].map(|name| format!("CROSS JOIN events {name}")).join(" ");
    query(&format!("SELECT {what} FROM events a {joins}"))
}

/// Rows that come at once and never end.
fn flowing() -> NamedQuery {
    query("SELECT number FROM system.numbers")
}

/// Fails when it takes far longer than the bounds here allow.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("stopped long ago")
}

#[tokio::test]
async fn every_query_answers_as_its_golden_file_says() {
    let Some(databases) = engine::databases() else { return };
    let (warehouse, name) = empty(&databases, QueryOptions::default()).await;
    goldens::check(&warehouse).await;
    // Who asks the tables by their public names sees the same.
    let stranger = databases.stranger(&name);
    for table in Table::ALL {
        let expected: usize =
            sample::commits(table).iter().flatten().flat_map(|block| &block.rows).map(|batch| batch.num_rows()).sum();
        assert_eq!(text(&stranger, &format!("SELECT count() FROM {table}")).await, expected.to_string());
        let columns: Vec<String> = table.schema().fields().iter().map(|field| field.name().clone()).collect();
        let described = format!(
            "SELECT arrayStringConcat(groupArray(name), ',') FROM (SELECT name FROM system.columns \
             WHERE database = currentDatabase() AND table = '{table}' ORDER BY position)"
        );
        assert_eq!(text(&stranger, &described).await, columns.join(","), "{table} has the columns of the contract");
    }
}

#[tokio::test]
async fn an_empty_warehouse_answers_with_columns_and_no_rows() {
    let Some(databases) = engine::databases() else { return };
    let (warehouse, _) = empty(&databases, QueryOptions::default()).await;
    for query in named_queries().values() {
        let sent = query.params.iter().filter(|param| param.default.is_none()).map(|param| (param.name.as_str(), "x"));
        let answer = warehouse.query(query, &query.bind(sent).unwrap()).await.unwrap();
        assert!(!answer.schema.fields().is_empty(), "{}", query.name);
        assert_eq!(rows(answer).await.unwrap(), 0, "{}", query.name);
    }
}

#[tokio::test]
async fn parameters_are_values_and_never_sql() {
    let Some(databases) = engine::databases() else { return };
    let warehouse = filled(&databases, QueryOptions::default()).await;
    let by_hour = &named_queries()["events_by_hour"];
    let texts = [
        "x' OR 'a' = 'a",
        "post_viewed'; DROP TABLE events; --",
        "$event",
        "NULL",
        "\\N",
        "%",
        "post\0viewed",
        "a\tb",
        "a\r\nb",
        "{event:String}",
        "?",
        "\\",
    ];
    for text in texts {
        let params = by_hour.bind([("event", text)]).unwrap();
        assert_eq!(ask(&warehouse, by_hour, &params).await.unwrap(), 0, "{text}");
    }
    let params = by_hour.bind([("event", "Checkout Done")]).unwrap();
    assert_eq!(ask(&warehouse, by_hour, &params).await.unwrap(), 1);
    for text in ["a\tb", "\\N", "'", "ü\n\\", "\0"] {
        let echo =
            NamedQuery::parse("echo", "-- Doc.\n-- $a: text, required. A.\nSELECT $a AS a WHERE $a = $a").unwrap();
        let batches: Vec<_> =
            warehouse.query(&echo, &echo.bind([("a", text)]).unwrap()).await.unwrap().rows.try_collect().await.unwrap();
        let mut json = Vec::new();
        millrace_warehouse::Rows::of(&batches[0]).unwrap().json_array(0, &mut json);
        assert_eq!(serde_json::from_slice::<Vec<String>>(&json).unwrap(), [text]);
    }
}

#[tokio::test]
async fn a_query_only_reads() {
    let Some(databases) = engine::databases() else { return };
    let warehouse = filled(&databases, QueryOptions::default()).await;
    for sql in [
        "CREATE TABLE t (n Int64) ENGINE = Memory",
        "DROP TABLE events",
        "INSERT INTO events_rows SELECT * FROM events_rows",
        "SET max_execution_time = 0",
        "SELECT 1 SETTINGS max_execution_time = 0",
        "SELECT 1; SELECT 2",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT nothing FROM events",
        "SELEC 1",
    ] {
        let error = soon(ask(&warehouse, &query(sql), &Params::new())).await.expect_err(sql);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{sql}: {error}");
    }
}

/// Sorting 38^8 rows would take hundreds of terabytes.
#[tokio::test]
async fn a_query_that_needs_too_much_memory_is_stopped() {
    let Some(databases) = engine::databases() else { return };
    let memory_bytes_max = 64 << 20;
    let warehouse = filled(&databases, QueryOptions { memory_bytes_max, ..QueryOptions::default() }).await;
    let mut greedy = endless("a.message_id || b.message_id || c.message_id AS ids");
    greedy.sql.push_str(" ORDER BY ids");
    let error = soon(ask(&warehouse, &greedy, &Params::new())).await.unwrap_err();
    assert_too_large(&error, "needs more than 64 MiB of memory");
    let by_name = &named_queries()["events_by_name"];
    assert!(ask(&warehouse, by_name, &by_name.bind([]).unwrap()).await.unwrap() > 0, "the next one has all the memory");
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_stopped() {
    let Some(databases) = engine::databases() else { return };
    let time_max = Duration::from_millis(500);
    let queries = QueryOptions { time_max, rows_max: u64::MAX, ..QueryOptions::default() };
    let warehouse = filled(&databases, queries).await;
    let slow = endless("sum(a.\"offset\" * h.\"offset\")");
    let error = soon(ask(&warehouse, &slow, &Params::new())).await.unwrap_err();
    assert_too_large(&error, "stopped after 0.5 s");
    // Rows that come do not buy time.
    let error = soon(ask(&warehouse, &flowing(), &Params::new())).await.unwrap_err();
    assert_too_large(&error, "stopped after 0.5 s");
}

#[tokio::test]
async fn an_answer_with_too_many_rows_is_stopped() {
    let Some(databases) = engine::databases() else { return };
    let (warehouse, _) = empty(&databases, QueryOptions { rows_max: 1_000, ..QueryOptions::default() }).await;
    let error = soon(ask(&warehouse, &query("SELECT number FROM numbers(1001)"), &Params::new())).await.unwrap_err();
    assert_too_large(&error, "has more than 1000 rows");
    assert_eq!(ask(&warehouse, &query("SELECT number FROM numbers(1000)"), &Params::new()).await.unwrap(), 1_000);
}

#[track_caller]
fn assert_too_large(error: &Error, why: &str) {
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    let message = error.to_string();
    assert!(message.contains(why) && message.ends_with("ask for less, such as a shorter time"), "{message}");
}

/// What nobody waits for any more stops on the server, too: before its first row and after.
#[tokio::test]
async fn a_dropped_answer_stops_its_query() {
    let Some(databases) = engine::databases() else { return };
    let warehouse = filled(&databases, QueryOptions { running_max: 1, ..QueryOptions::default() }).await;
    let by_name = &named_queries()["events_by_name"];
    let params = by_name.bind([]).unwrap();
    let stranger = databases.stranger("default");
    let none = Params::new();
    for query in [flowing(), endless("sum(a.\"offset\" * h.\"offset\") AS dropped_here")] {
        let asked = tokio::time::timeout(Duration::from_millis(300), warehouse.query(&query, &none));
        drop(soon(asked).await);
        assert!(soon(ask(&warehouse, by_name, &params)).await.unwrap() > 0, "after {}", query.sql);
    }
    let left =
        "SELECT count() FROM system.processes WHERE query LIKE '%dropped_here%' AND query NOT LIKE '%processes%'";
    soon(async { while text(&stranger, left).await != "0" {} }).await;
}

#[tokio::test]
async fn more_queries_wait_and_still_more_are_refused() {
    let Some(databases) = engine::databases() else { return };
    let warehouse = filled(&databases, QueryOptions { running_max: 1, ..QueryOptions::default() }).await;
    let by_name = &named_queries()["events_by_name"];
    let params = by_name.bind([]).unwrap();
    let mut held = warehouse.query(&flowing(), &Params::new()).await.unwrap();
    held.rows.next().await.unwrap().unwrap();
    // The first sixteen wait for the one that runs, the others do not.
    let all = join_all((0..20).map(|_| ask(&warehouse, by_name, &params)));
    let release = async {
        tokio::task::yield_now().await;
        drop(held);
    };
    let (answers, ()) = soon(async { tokio::join!(all, release) }).await;
    let (answered, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((answered.len(), refused.len()), (16, 4));
    for error in refused.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    }
}

#[test]
fn a_query_is_stopped_before_the_surface_gives_its_answer_up() {
    let surface = Duration::from_secs(30);
    assert!(
        QUERY_TIME_MAX + Duration::from_secs(5 + 2) < surface,
        "five seconds are for waiting, two of grace, the rest for the way back"
    );
}
