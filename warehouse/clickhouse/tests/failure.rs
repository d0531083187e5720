//! What a server that dies, hangs, refuses or is not there does to callers: law 4, and errors that say what to do.

mod engine;

use std::error::Error as _;
use std::time::Duration;

use engine::{Databases, text};
use futures::{StreamExt as _, TryStreamExt as _};
use millrace_clickhouse::{ClickHouseOptions, ClickHouseWarehouse, Finding, check};
use millrace_engines::clickhouse::{ClickHouse, PASSWORD};
use millrace_events::Topic;
use millrace_warehouse::tables::{DeadLetterRow, DeadLettersBuilder};
use millrace_warehouse::{Block, Error, ErrorKind, NamedQuery, Params, Source, Table, Warehouse};

const SOURCE: Source = Source { generation: 1, topic: Topic::DeadLetters, partition: 0 };
/// How many rows a block has.
const ROWS: u64 = 40;

/// The block that begins at `start`, with a row for each record, in two months.
fn block(start: u64) -> Block {
    let mut rows = DeadLettersBuilder::with_capacity(0);
    for offset in start..start + ROWS {
        rows.push(DeadLetterRow {
            id: &format!("l-{offset}"),
            reason: "wrong_type",
            detail: "send it as documented",
            source: "app",
            refused_by: "collector",
            log_time: 1_706_745_590_000_000 + i64::from(offset % 2 == 0) * 60_000_000,
            payload_bytes: 120,
            truncated: false,
            topic: "dead-letters",
            partition: 0,
            offset,
        });
    }
    Block { source: SOURCE, start, end: start + ROWS, rows: vec![rows.finish()] }
}

async fn stands(warehouse: &ClickHouseWarehouse) -> Result<u64, Error> {
    Ok(warehouse.recorded(Table::DeadLetters).await?.get(&SOURCE).copied().unwrap_or(0))
}

async fn seen(warehouse: &ClickHouseWarehouse) -> Result<u64, Error> {
    let batches: Vec<_> = warehouse.scan(Table::DeadLetters, &["offset"]).await?.rows.try_collect().await?;
    Ok(batches.iter().map(|batch| batch.num_rows() as u64).sum())
}

/// Everything that an error says, to whomever.
fn all_of(error: &Error) -> String {
    let mut said = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(of) = cause {
        said.push_str(&format!(" {of} {of:?}"));
        cause = of.source();
    }
    said
}

/// Law 4: a kill at any moment of a commit leaves whole commits, and every one that was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_keeps_whole_commits_and_all_that_were_answered() {
    let Some(mut engine) = ClickHouse::start() else { return };
    let databases = Databases::of(&engine);
    let name = databases.name();
    let mut warehouse = databases.open(&name, ClickHouseOptions::default()).await;
    for kill in 0..8_u64 {
        let (told, mut answered) = tokio::sync::watch::channel(0);
        let from = stands(&warehouse).await.unwrap();
        let writer = tokio::spawn(async move {
            let mut at = from;
            loop {
                match warehouse.commit(Table::DeadLetters, vec![block(at)]).await {
                    Ok(()) => at += ROWS,
                    Err(e) => return (warehouse, e),
                }
                told.send(at).unwrap();
            }
        });
        // After some commits, then a little into the next one.
        answered.wait_for(|at| *at >= from + ROWS * (1 + kill % 3)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(kill * 4)).await;
        engine.kill();
        let (_, error) = writer.await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
        let answered = *answered.borrow();
        engine.restart();
        warehouse = databases.open(&name, ClickHouseOptions::default()).await;
        let recorded = stands(&warehouse).await.unwrap();
        assert!(recorded >= answered, "{answered} were answered, {recorded} are recorded");
        assert!(recorded <= answered + ROWS && recorded.is_multiple_of(ROWS), "{recorded} is no end of a commit");
        assert_eq!(seen(&warehouse).await.unwrap(), recorded);
    }
    drop((databases, engine));
}

/// A network that swallows everything: callers get an answer in time, and everything goes on when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_given_up_and_nothing_is_lost() {
    let Some(mut engine) = ClickHouse::start() else { return };
    let databases = Databases::of(&engine);
    let patience = Duration::from_millis(700);
    let options = ClickHouseOptions { patience, ..ClickHouseOptions::default() };
    let warehouse = databases.open(&databases.name(), options).await;
    warehouse.commit(Table::DeadLetters, vec![block(0)]).await.unwrap();
    engine.suspend();
    let late = tokio::time::timeout(Duration::from_secs(5), warehouse.commit(Table::DeadLetters, vec![block(ROWS)]));
    let late = late.await.expect("patience ends").unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Retry);
    assert!(late.to_string().contains("did not answer within 0.7 s"), "{late}");
    assert_eq!(seen(&warehouse).await.unwrap_err().kind(), ErrorKind::Retry);
    engine.resume();
    // Whether the one that was given up happened is not known; the next one goes on from the truth.
    let at = loop {
        if let Ok(at) = stands(&warehouse).await {
            break at;
        }
    };
    warehouse.commit(Table::DeadLetters, vec![block(at)]).await.unwrap();
    assert_eq!(seen(&warehouse).await.unwrap(), at + ROWS);
    drop((databases, engine));
}

/// A stream that breaks off does not look complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_a_killed_server_does_not_look_complete() {
    let Some(mut engine) = ClickHouse::start() else { return };
    let databases = Databases::of(&engine);
    let warehouse = databases.open(&databases.name(), ClickHouseOptions::default()).await;
    let flowing = NamedQuery::parse("flowing", "-- Doc.\nSELECT number FROM system.numbers").unwrap();
    let mut answer = warehouse.query(&flowing, &Params::new()).await.unwrap();
    answer.rows.next().await.unwrap().unwrap();
    engine.kill();
    let rest: Result<Vec<_>, Error> = answer.rows.try_collect().await;
    assert_eq!(rest.unwrap_err().kind(), ErrorKind::Retry);
    drop((databases, engine));
}

fn cures(findings: &[Finding]) -> Vec<(&str, &str)> {
    findings.iter().filter_map(|f| Some((f.subject, f.cure.as_deref()?))).collect()
}

#[tokio::test]
async fn a_check_finds_a_server_that_can_be_used() {
    let Some(databases) = engine::databases() else { return };
    let options = ClickHouseOptions { database: databases.name(), ..ClickHouseOptions::default() };
    let subjects = |findings: &[Finding]| findings.iter().map(|f| f.subject).collect::<Vec<_>>();
    let before = check(databases.url(), &options).await;
    assert_eq!(cures(&before), [], "{before:?}");
    assert_eq!(subjects(&before), ["reachable", "version", "clock", "tables", "permissions"]);
    assert!(before[3].says.contains("has none yet"), "{before:?}");
    let sql = format!("SELECT count() FROM system.databases WHERE name = '{}'", options.database);
    assert_eq!(text(&databases.stranger("default"), &sql).await, "0", "a check changes nothing");
    drop(databases.open(&options.database, ClickHouseOptions::default()).await);
    let after = check(databases.url(), &options).await;
    assert_eq!((cures(&after), after[3].says.as_str()), (Vec::new(), "migration 3"));
}

#[tokio::test]
async fn a_check_says_what_is_wrong_and_what_to_do() {
    let Some(databases) = engine::databases() else { return };
    let options = ClickHouseOptions { database: databases.name(), ..ClickHouseOptions::default() };
    let only = |findings: Vec<Finding>| {
        let cures: Vec<_> = cures(&findings).into_iter().map(|(s, c)| (s.to_owned(), c.to_owned())).collect();
        assert_eq!(cures.len(), 1, "{findings:?}");
        cures.into_iter().next().unwrap()
    };
    let cluster = ClickHouseOptions { cluster: Some("nowhere".to_owned()), ..options.clone() };
    let (subject, cure) = only(check(databases.url(), &cluster).await);
    assert_eq!((subject.as_str(), cure.contains("remote_servers")), ("cluster", true), "{cure}");
    // Opening it says the same.
    let error = ClickHouseWarehouse::open(databases.url(), cluster).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("the server knows no cluster nowhere; name one of those"), "{error}");
    let refused = databases.url_of("stranger", "hush");
    let findings = check(&refused, &options).await;
    assert!(!format!("{findings:?}").contains("hush"), "{findings:?}");
    assert_eq!(only(findings).0, "user");
    let port = millrace_engines::free_port();
    let findings = check(&format!("clickhouse://u:hush@127.0.0.1:{port}"), &options).await;
    assert!(!format!("{findings:?}").contains("hush"), "{findings:?}");
    let (subject, cure) = only(findings);
    assert_eq!((subject.as_str(), cure.starts_with("start ClickHouse there")), ("reachable", true), "{cure}");
    assert_eq!(only(check("redis://h", &options).await).0, "configuration");
    drop(databases.open(&options.database, ClickHouseOptions::default()).await);
    let stranger = databases.stranger(&options.database);
    let newer = "INSERT INTO migrations (number, name, checksum) VALUES (99, 'of the future', 'x')";
    stranger.query_raw(newer).execute().await.unwrap();
    assert_eq!(only(check(databases.url(), &options).await).0, "tables");
}

#[tokio::test]
async fn nothing_that_is_said_of_a_failure_holds_the_password() {
    let Some(databases) = engine::databases() else { return };
    let open = async |url: String| ClickHouseWarehouse::open(&url, ClickHouseOptions::default()).await.err().unwrap();
    let port = millrace_engines::free_port();
    let denied = databases.url_of("stranger", "hu/sh");
    for url in [denied.clone(), format!("http://stranger:hu%2Fsh@127.0.0.1:{port}")] {
        let error = open(url).await;
        assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
        let said = all_of(&error);
        assert!(!said.contains("hu/sh") && !said.contains("hu%2Fsh") && !said.contains(PASSWORD), "{said}");
    }
    let denied = open(denied).await;
    assert!(denied.to_string().ends_with("correct the user and the password in its URL"), "{denied}");
}
