//! What the doctor says about a Postgres that is not as it should be.

#![expect(clippy::unwrap_used, reason = "a set-up that fails ends the test")]

mod catalogs;

use std::time::Duration;

use millrace_catalog::{Catalog as _, ErrorKind, Finding, Level, PostgresCatalog, PostgresOptions};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

async fn findings(url: &str, skew_ms: i64) -> Vec<Finding> {
    let options = PostgresOptions { connect_timeout: Duration::from_secs(1), ..PostgresOptions::default() };
    let catalog = PostgresCatalog::open_lazy(url, options).unwrap();
    let shared = PgConnection::connect(&catalogs::shared().unwrap()).await;
    let now_ms: i64 = match shared {
        Ok(mut connection) => {
            let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
            sqlx::query_scalar(now).fetch_one(&mut connection).await.unwrap()
        }
        Err(error) => panic!("the server is there: {error}"),
    };
    let found = catalog.check(now_ms + skew_ms).await;
    catalog.close().await;
    assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
    found
}

/// There is one finding that says this, and names this cure.
fn check_says(findings: &[Finding], level: Level, what: &str, cure: &str) {
    let says = |finding: &&Finding| {
        finding.level == level
            && finding.what.contains(what)
            && finding.cure.as_deref().unwrap_or_default().contains(cure)
    };
    assert!(findings.iter().any(|finding| says(&finding)), "nothing says {what:?} {cure:?}: {findings:#?}");
}

/// Both are put into the URL of the shared server.
fn with(url: &str, user: Option<(&str, &str)>, database: &str) -> String {
    let (before, after) = url.rsplit_once('@').unwrap();
    let (host, rest) = after.split_once('/').unwrap();
    let query = rest.split_once('?').map(|(_, query)| query).unwrap();
    let before = user.map_or_else(|| before.to_owned(), |(user, password)| format!("postgres://{user}:{password}"));
    format!("{before}@{host}/{database}?{query}")
}

#[tokio::test]
async fn a_server_that_is_well_needs_no_cure() {
    let Some(url) = catalogs::url() else { return };
    let before = findings(&url, 0).await;
    check_says(&before, Level::Warning, "there is no catalog yet", "start millrace");
    check_says(&before, Level::Fine, "can be made", "");
    PostgresCatalog::open(&url, PostgresOptions::default()).await.unwrap();
    let after = findings(&url, 0).await;
    assert!(after.iter().all(|finding| finding.level == Level::Fine), "{after:#?}");
    assert!(after.len() >= 5, "{after:#?}");
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_database_are_named() {
    let Some(url) = catalogs::url() else { return };
    let wrong = findings(&with(&url, Some(("tests", "wrong-s3cret")), "postgres"), 0).await;
    check_says(&wrong, Level::Fault, "correct the user or the password", "");
    let missing = findings(&with(&url, None, "nowhere"), 0).await;
    check_says(&missing, Level::Fault, "create the database", "");
    let port = millrace_engines::free_port();
    let away = findings(&format!("postgres://u:s3cret@127.0.0.1:{port}/d"), 0).await;
    check_says(&away, Level::Fault, "refused", "start Postgres");
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_named() {
    let Some(url) = catalogs::url() else { return };
    check_says(&findings(&url, -60_000).await, Level::Warning, "ms from ours", "time service");
    check_says(&findings(&url, 60_000).await, Level::Warning, "ms from ours", "time service");
}

#[tokio::test]
async fn missing_permissions_are_named_with_what_to_grant() {
    let Some(url) = catalogs::url() else { return };
    PostgresCatalog::open(&url, PostgresOptions::default()).await.unwrap();
    let schema = catalogs::parts(&url).1.to_owned();
    let mut connection = PgConnection::connect(&catalogs::shared().unwrap()).await.unwrap();
    let role = format!("nobody_{schema}");
    connection.execute(AssertSqlSafe(format!("CREATE ROLE {role} LOGIN PASSWORD 'pw-s3cret'"))).await.unwrap();
    let theirs = with(&url, Some((&role, "pw-s3cret")), "postgres");
    check_says(
        &findings(&theirs, 0).await,
        Level::Fault,
        "may not be used",
        &format!("GRANT USAGE, CREATE ON SCHEMA {schema}"),
    );
    connection.execute(AssertSqlSafe(format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"))).await.unwrap();
    check_says(&findings(&theirs, 0).await, Level::Fault, "tables may not be", "GRANT SELECT, INSERT, UPDATE, DELETE");
    let elsewhere = format!("{}_x", theirs);
    check_says(&findings(&elsewhere, 0).await, Level::Fault, "may not be made", "CREATE SCHEMA");
    let refused = PostgresCatalog::open(&elsewhere, PostgresOptions::default()).await.expect_err("it may not");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("millrace doctor"), "{refused}");
    for undo in ["DROP OWNED BY", "DROP ROLE"] {
        connection.execute(AssertSqlSafe(format!("{undo} {role}"))).await.unwrap();
    }
}

#[tokio::test]
async fn a_schema_of_a_newer_version_is_named() {
    let Some(url) = catalogs::url() else { return };
    PostgresCatalog::open(&url, PostgresOptions::default()).await.unwrap();
    let (server, schema) = catalogs::parts(&url);
    let mut connection = PgConnection::connect(server).await.unwrap();
    let newer = format!("INSERT INTO {schema}.catalog_migrations VALUES (2, 'of tomorrow', 0)");
    connection.execute(AssertSqlSafe(newer)).await.unwrap();
    check_says(&findings(&url, 0).await, Level::Fault, "newer version", "upgrade this millrace");
}

#[tokio::test]
async fn a_database_that_does_not_hold_every_text_is_refused() {
    let Some(url) = catalogs::url() else { return };
    let (server, schema) = catalogs::parts(&url);
    let mut connection = PgConnection::connect(server).await.unwrap();
    let make = format!("CREATE DATABASE latin_{schema} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    connection.execute(AssertSqlSafe(make)).await.unwrap();
    let theirs = with(&url, None, &format!("latin_{schema}"));
    check_says(&findings(&theirs, 0).await, Level::Fault, "LATIN1", "ENCODING 'UTF8'");
    let refused = PostgresCatalog::open(&theirs, PostgresOptions::default()).await.expect_err("it is LATIN1");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("ENCODING 'UTF8'"), "{refused}");
    let drop = format!("DROP DATABASE latin_{schema} WITH (FORCE)");
    connection.execute(AssertSqlSafe(drop)).await.unwrap();
}
