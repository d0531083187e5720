//! `millrace doctor` before engines that are not as they should be: each finding says how much it matters and what to do.

use std::path::{Path, PathBuf};
use std::process::Command;

use millrace_engines::clickhouse::ClickHouse;
use millrace_engines::fleet::Fleet;
use millrace_engines::kafka::Kafka;
use serde_json::Value;

use super::support::{Server, free_port, millrace, on_engines};

/// A password that must not be told.
const SECRET: &str = "secret-word";

/// A clock of this machine that is wrong by as many seconds as `SKEW_S` says. What measures durations stays right.
const SKEWED_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    const char *skew = getenv("SKEW_S");
    if (!failed && skew && clock == CLOCK_REALTIME) now->tv_sec += atol(skew);
    return failed;
}
"#;

/// What is to be found.
struct Wrong {
    store: &'static str,
    level: &'static str,
    what: &'static str,
    cure: &'static str,
}

/// What `doctor` finds with these options; whatever is not fine has a cure, and no password is told.
fn doctor(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<Value> {
    let mut command = millrace(&["doctor", "--json"]);
    let output = command.args(arguments).envs(variables.iter().copied()).output().unwrap();
    let (told, aloud) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!told.contains(SECRET) && !aloud.contains(SECRET), "a password is told: {told} {aloud}");
    let findings: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!findings.is_empty(), "{aloud}");
    for finding in &findings {
        let has_cure = finding["cure"].as_str().is_some_and(|cure| !cure.is_empty());
        assert_eq!(finding["level"] != "fine", has_cure, "{finding}");
    }
    let is_well = findings.iter().all(|finding| finding["level"] == "fine");
    assert_eq!(output.status.code(), Some(i32::from(!is_well)), "{told} {aloud}");
    findings
}

/// All of this is found, and no fault besides.
fn check(arguments: &[&str], variables: &[(&str, &str)], wrong: &[Wrong]) {
    let findings = doctor(arguments, variables);
    let is_one = |finding: &Value, Wrong { store, level, what, cure }: &Wrong| {
        let says = |field: &str, part: &str| finding[field].as_str().is_some_and(|text| text.contains(part));
        finding["store"] == *store && finding["level"] == *level && says("what", what) && says("cure", cure)
    };
    for wrong in wrong {
        let Wrong { store, level, what, cure } = wrong;
        let found = findings.iter().any(|finding| is_one(finding, wrong));
        assert!(found, "no {level} of {store} with {what:?} and the cure {cure:?}: {findings:#?}");
    }
    let mut faults = findings.iter().filter(|finding| finding["level"] == "fault");
    assert!(faults.all(|fault| wrong.iter().any(|wrong| is_one(fault, wrong))), "another fault: {findings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_with_an_engine_is_named_with_its_cure() {
    let Some(fleet) = Fleet::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let arguments = on_engines(&fleet);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Server::start_on(&folder.path().join("data"), "wall", free_port(), &arguments).await.stop();

    let single = Wrong { store: "log", level: "warning", what: "actions has one replica", cure: "to three replicas" };
    check(&arguments, &[], &[single]);
    wrong_passwords(&fleet);
    skewed_clock(folder.path(), &arguments);
    other_schemas(&fleet, &arguments).await;
    fleet.kafka.delete_topic("millrace.user-events");
    let missing = Wrong {
        store: "log",
        level: "fault",
        what: "there is no topic millrace.user-events",
        cure: "start once with create_topics=true, or make it",
    };
    check(&arguments, &[], &[missing]);
}

fn wrong_passwords(fleet: &Fleet) {
    let [(_, log), (_, online), (_, warehouse), (_, state), (_, catalog)] = fleet.stores();
    let another = |url: &str| {
        let (before, host) = url.rsplit_once('@').unwrap();
        let (scheme, user) = before.split_once("://").unwrap();
        format!("{scheme}://{}:{SECRET}@{host}", user.split(':').next().unwrap())
    };
    let fault = |store, what, cure| [Wrong { store, level: "fault", what, cure }];
    let in_url = "correct the user and the password in the URL";
    check(&["--warehouse", &another(&warehouse)], &[], &fault("warehouse", "refuses the user", in_url));
    let correct = "correct the user or the password in the URL";
    check(&["--catalog", &another(&catalog)], &[], &fault("catalog", "password authentication failed", correct));
    let secret = "correct the secret key";
    check(&["--log", &log, "--state", &another(&state)], &[], &fault("state", "cannot write objects in s3://", secret));
    fleet.redis.command(&["CONFIG", "SET", "requirepass", "another"]);
    let refused = online.replacen("://", &format!("://:{SECRET}@"), 1);
    for url in [&online, &refused] {
        check(&["--online", url], &[], &fault("online", "it refuses the user or the password", in_url));
    }
    fleet.redis.command(&["-a", "another", "--no-auth-warning", "CONFIG", "SET", "requirepass", ""]);

    let Some(kafka) = Kafka::start_secure("reader", "right-word") else { return };
    let secure = kafka.secure().unwrap();
    let authority = secure.certificate.display();
    let url = format!(
        "kafka+ssl://reader:{SECRET}@127.0.0.1:{}/millrace?replication=1&min_insync=1&ssl.ca.location={authority}",
        secure.port
    );
    let cure = "correct the user, the password and sasl.mechanism in the URL";
    check(&["--log", &url], &[], &fault("log", "uthentication failed", cure));
}

/// The clock of this machine is wrong: from where `doctor` looks, those of all engines are.
fn skewed_clock(folder: &Path, arguments: &[&str]) {
    let library = compiled(folder);
    let preload = library.to_str().unwrap();
    let clock = |store, what, cure| Wrong { store, level: "warning", what, cure };
    let behind = [
        clock("online", "is -6", "let a time service set the clocks of both machines"),
        clock("warehouse", "clock: differs by -6", "set both machines by the same time server"),
        clock("catalog", "its clock is -6", "let a time service set the clocks of both machines"),
    ];
    check(arguments, &[("LD_PRELOAD", preload), ("SKEW_S", "650")], &behind);
    // From a quarter of an hour on S3 takes no signature.
    let unsigned = Wrong {
        store: "state",
        level: "fault",
        what: "cannot write objects in s3://",
        cure: "let a time service set the clocks of both machines",
    };
    check(arguments, &[("LD_PRELOAD", preload), ("SKEW_S", "3600")], &[unsigned]);
}

/// The C compiler is there: nothing here is built without one.
fn compiled(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, SKEWED_CLOCK).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").output();
    let compiled = compiled.unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    library
}

/// What an older and a newer version of this program leave behind.
async fn other_schemas(fleet: &Fleet, arguments: &[&str]) {
    let is = |version: u32| format!("UPDATE millrace.catalog_migrations SET version = {version}");
    let catalog = |level, what, cure| [Wrong { store: "catalog", level, what, cure }];
    fleet.postgres.sql(&is(0));
    let what = "the schema is 0, the newest is 1";
    check(arguments, &[], &catalog("warning", what, "start this millrace: it brings the schema up to date"));
    fleet.postgres.sql(&is(99));
    check(arguments, &[], &catalog("fault", "made by a newer version of Millrace", "upgrade this millrace"));
    fleet.postgres.sql(&is(1));

    let warehouse = |level, what, cure| [Wrong { store: "warehouse", level, what, cure }];
    let newer = "INSERT INTO millrace.migrations (number, name, checksum) VALUES (99, 'of tomorrow', 'x')";
    sql(&fleet.clickhouse, newer).await;
    let what = "tables: the database millrace has migration 99";
    check(arguments, &[], &warehouse("fault", what, "run the right version, or name another database"));
    sql(&fleet.clickhouse, "TRUNCATE TABLE millrace.migrations").await;
    let what = "tables: migration 0, the newest is 3";
    check(arguments, &[], &warehouse("warning", what, "start this millrace: it brings the tables up to date"));
}

async fn sql(clickhouse: &ClickHouse, statement: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.post(clickhouse.url()).body(statement.to_owned()).send().await.unwrap();
    let (status, told) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{statement}: {told}");
}
