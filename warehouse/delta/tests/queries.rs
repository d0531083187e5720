//! The named queries and their bounds, over the real tables.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _};
use millrace_delta::{DeltaOptions, DeltaWarehouse, QUERY_TIME_MAX, QueryOptions};
use millrace_warehouse::{
    Answer, Error, ErrorKind, NamedQuery, Params, Result, Table, Warehouse, goldens, named_queries, sample,
};

async fn open(dir: &Path, queries: QueryOptions) -> DeltaWarehouse {
    let options = DeltaOptions { queries, ..DeltaOptions::default() };
    DeltaWarehouse::open(dir, options).await.unwrap()
}

/// A warehouse with the sample in it.
async fn filled(dir: &Path, queries: QueryOptions) -> DeltaWarehouse {
    let warehouse = open(dir, queries).await;
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

async fn ask(warehouse: &DeltaWarehouse, query: &NamedQuery, params: &Params) -> Result<usize> {
    rows(warehouse.query(query, params).await?).await
}

fn query(sql: &str) -> NamedQuery {
    NamedQuery::parse("ad_hoc", &format!("-- Not one of ours.\n{sql}")).unwrap()
}

/// The sample's 38 events with each other, so often that nobody lives to see the end: 38^8 rows, some 4 million
/// million.
fn endless(what: &str) -> NamedQuery {
    let joins = ["b", "c", "d", "e", "f", "g", "h"].map(|name| format!("CROSS JOIN events {name}")).join(" ");
    query(&format!("SELECT {what} FROM events a {joins}"))
}

/// Rows that come at once and never end.
fn flowing() -> NamedQuery {
    query("SELECT value FROM generate_series(1, 1000000000000)")
}

/// Fails when it takes far longer than the bounds here allow.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("stopped long ago")
}

#[tokio::test]
async fn every_query_answers_as_its_golden_file_says() {
    let dir = tempfile::tempdir().unwrap();
    goldens::check(&open(dir.path(), QueryOptions::default()).await).await;
}

#[tokio::test]
async fn an_empty_warehouse_answers_with_columns_and_no_rows() {
    let dir = tempfile::tempdir().unwrap();
    let warehouse = open(dir.path(), QueryOptions::default()).await;
    for query in named_queries().values() {
        let sent = query.params.iter().filter(|param| param.default.is_none()).map(|param| (param.name.as_str(), "x"));
        let answer = warehouse.query(query, &query.bind(sent).unwrap()).await.unwrap();
        assert!(!answer.schema.fields().is_empty(), "{}", query.name);
        assert_eq!(rows(answer).await.unwrap(), 0, "{}", query.name);
    }
}

#[tokio::test]
async fn parameters_are_values_and_never_sql() {
    let dir = tempfile::tempdir().unwrap();
    let warehouse = filled(dir.path(), QueryOptions::default()).await;
    let by_hour = &named_queries()["events_by_hour"];
    for text in ["x' OR 'a' = 'a", "post_viewed'; DROP TABLE events; --", "$event", "NULL", "%", "post\0viewed"] {
        let params = by_hour.bind([("event", text)]).unwrap();
        assert_eq!(ask(&warehouse, by_hour, &params).await.unwrap(), 0, "{text}");
    }
    let params = by_hour.bind([("event", "Checkout Done")]).unwrap();
    assert_eq!(ask(&warehouse, by_hour, &params).await.unwrap(), 1);
}

#[tokio::test]
async fn a_query_only_reads() {
    let dir = tempfile::tempdir().unwrap();
    let warehouse = filled(dir.path(), QueryOptions::default()).await;
    let target = dir.path().join("copy.csv");
    let copy = format!("COPY (SELECT 1) TO '{}' STORED AS CSV", target.display());
    for sql in [
        "CREATE TABLE t AS SELECT 1",
        "DROP TABLE events",
        "INSERT INTO events SELECT * FROM events",
        "SET datafusion.execution.target_partitions = 8",
        "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/'",
        "SELECT 1; SELECT 2",
        "SELECT * FROM '/etc/passwd'",
        "SELECT nothing FROM events",
        &copy,
    ] {
        let error = ask(&warehouse, &query(sql), &Params::new()).await.expect_err(sql);
        assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Corrupt), "{sql}: {error}");
    }
    assert!(!target.exists());
}

/// Sorting 38^8 rows would take hundreds of terabytes.
#[tokio::test]
async fn a_query_that_needs_too_much_memory_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let memory_bytes_max = 16 << 20;
    let warehouse = filled(dir.path(), QueryOptions { memory_bytes_max, ..QueryOptions::default() }).await;
    let mut greedy = endless("a.message_id || b.message_id || c.message_id AS ids");
    greedy.sql.push_str(" ORDER BY ids");
    let error = soon(ask(&warehouse, &greedy, &Params::new())).await.unwrap_err();
    assert_too_large(&error, "needs more than 16 MiB of memory");
    let by_name = &named_queries()["events_by_name"];
    assert!(ask(&warehouse, by_name, &by_name.bind([]).unwrap()).await.unwrap() > 0, "the next one has all the memory");
}

#[tokio::test]
async fn a_query_that_takes_too_long_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let time_max = Duration::from_millis(500);
    let warehouse = filled(dir.path(), QueryOptions { time_max, ..QueryOptions::default() }).await;
    let slow = endless("sum(a.\"offset\" * h.\"offset\")");
    let error = soon(ask(&warehouse, &slow, &Params::new())).await.unwrap_err();
    assert_too_large(&error, "stopped after 0.5 s");
    // Rows that come do not buy time.
    let error = soon(ask(&warehouse, &flowing(), &Params::new())).await.unwrap_err();
    assert_too_large(&error, "stopped after 0.5 s");
}

#[track_caller]
fn assert_too_large(error: &Error, why: &str) {
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    let message = error.to_string();
    assert!(message.contains(why) && message.ends_with("ask for less, such as a shorter time"), "{message}");
}

#[tokio::test]
async fn a_dropped_answer_makes_room_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let warehouse = filled(dir.path(), QueryOptions { running_max: 1, ..QueryOptions::default() }).await;
    let by_name = &named_queries()["events_by_name"];
    let params = by_name.bind([]).unwrap();
    for query in [flowing(), endless("sum(a.\"offset\" * h.\"offset\")")] {
        let answer = warehouse.query(&query, &Params::new()).await.unwrap();
        drop(answer);
        assert!(soon(ask(&warehouse, by_name, &params)).await.unwrap() > 0, "after {}", query.sql);
    }
}

#[tokio::test]
async fn more_queries_wait_and_still_more_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let warehouse = filled(dir.path(), QueryOptions { running_max: 1, ..QueryOptions::default() }).await;
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

#[tokio::test]
async fn an_answer_of_a_closed_warehouse_does_not_look_complete() {
    let dir = tempfile::tempdir().unwrap();
    let warehouse = filled(dir.path(), QueryOptions::default()).await;
    let mut answer = warehouse.query(&flowing(), &Params::new()).await.unwrap();
    answer.rows.next().await.unwrap().unwrap();
    drop(warehouse);
    assert_eq!(soon(rows(answer)).await.unwrap_err().kind(), ErrorKind::Retry);
}

/// A file that cannot hold what is asked for is not opened: here it is not even there.
#[tokio::test]
async fn a_query_opens_only_the_files_that_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    let warehouse = filled(dir.path(), QueryOptions::default()).await;
    // Nobody was linked to anybody on that day.
    for table in Table::ALL.into_iter().filter(|table| *table != Table::Identities) {
        std::fs::remove_dir_all(dir.path().join(table.name()).join("event_date=2024-02-29")).unwrap();
    }
    for (name, of) in [("events_by_name", ""), ("closed_windows", ""), ("slate_funnel", ""), ("post_reach", "пост")]
    {
        let query = &named_queries()[name];
        let sent =
            |from| query.bind([("from", from), ("post_id", of)].into_iter().filter(|(_, text)| !text.is_empty()));
        assert!(ask(&warehouse, query, &sent("2024-03-01").unwrap()).await.unwrap() > 0, "{name}");
        let error = ask(&warehouse, query, &sent("").unwrap()).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}: {error}");
    }
    // By the bounds in the Delta log: no event of that day has so late a name.
    let by_hour = &named_queries()["events_by_hour"];
    assert!(ask(&warehouse, by_hour, &by_hour.bind([("event", "zzz")]).unwrap()).await.is_ok());
}

#[test]
fn a_query_is_stopped_before_the_surface_gives_its_answer_up() {
    let surface = Duration::from_secs(30);
    assert!(
        QUERY_TIME_MAX + Duration::from_secs(5) < surface,
        "five seconds are for waiting, the rest for the way back"
    );
}
