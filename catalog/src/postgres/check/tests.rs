use crate::postgres::check::{Facts, judge};
use crate::postgres::target::Target;
use crate::{Finding, Level};

fn good() -> Facts {
    Facts {
        version: 150_018,
        is_replica: false,
        encoding: "UTF8".to_owned(),
        durable: true,
        is_encrypted: true,
        now_ms: 1_000_000,
        may_create_schema: true,
        schema_exists: true,
        may_use_schema: true,
        may_create_tables: true,
        may_write: true,
        applied: Some(1),
    }
}

fn judged(facts: Facts, url: &str) -> Vec<Finding> {
    let Ok(target) = Target::parse(url) else { panic!("{url} is good") };
    judge(&facts, &target, 1_000_000)
}

fn check_one(facts: Facts, url: &str, level: Level, what: &str) {
    let bad: Vec<Finding> = judged(facts, url).into_iter().filter(|finding| finding.level > Level::Fine).collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert!(bad[0].level == level && bad[0].what.contains(what), "{bad:?}");
    assert!(bad[0].cure.is_some());
}

#[test]
fn each_thing_that_is_wrong_is_found_alone() {
    const HERE: &str = "postgres://u@127.0.0.1/d";
    let findings = judged(good(), HERE);
    assert!(findings.iter().all(|finding| finding.level == Level::Fine && finding.cure.is_none()), "{findings:?}");
    check_one(Facts { version: 120_022, ..good() }, HERE, Level::Fault, "Postgres 12.22");
    check_one(Facts { is_replica: true, ..good() }, HERE, Level::Fault, "replica");
    check_one(Facts { encoding: "SQL_ASCII".to_owned(), ..good() }, HERE, Level::Fault, "SQL_ASCII");
    check_one(Facts { durable: false, ..good() }, HERE, Level::Warning, "not durable");
    check_one(Facts { applied: Some(0), ..good() }, HERE, Level::Warning, "the newest is 1");
    check_one(Facts { applied: Some(2), ..good() }, HERE, Level::Fault, "newer version");
    check_one(Facts { now_ms: 1_003_000, ..good() }, HERE, Level::Warning, "3000 ms");
    check_one(Facts { now_ms: 0, ..good() }, HERE, Level::Warning, "-1000000 ms");
    check_one(Facts { may_create_tables: false, ..good() }, HERE, Level::Fault, "may not be used or changed");
}

#[test]
fn what_goes_over_a_network_in_the_clear_is_found() {
    let there = "postgres://u@db.example/d";
    check_one(Facts { is_encrypted: false, ..good() }, there, Level::Warning, "not encrypted");
    check_one(good(), there, Level::Warning, "has not proved its name");
    let proved = judged(good(), "postgres://u@db.example/d?sslmode=verify-full");
    assert!(proved.iter().all(|finding| finding.level == Level::Fine), "{proved:?}");
    let here = judged(Facts { is_encrypted: false, ..good() }, "postgres://u@localhost/d");
    assert!(here.iter().all(|finding| finding.level == Level::Fine), "{here:?}");
}
