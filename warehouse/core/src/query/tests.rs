use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};

use super::*;
use crate::ErrorKind;

fn files() -> Vec<PathBuf> {
    let subjects = std::fs::read_dir("queries").unwrap().map(|subject| subject.unwrap().path());
    let files = subjects.flat_map(|subject| std::fs::read_dir(subject).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn every_file_is_a_named_query() {
    let mut names: Vec<String> = files().iter().map(|f| f.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    let (dialects, names): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| name.contains('.'));
    assert_eq!(names, FILES.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>(), "FILES lists every file");
    let listed = DIALECTS.iter().map(|(name, engine, _)| format!("{name}.{engine}"));
    assert_eq!(dialects, listed.collect::<Vec<_>>(), "DIALECTS lists every file");
    for (name, text) in FILES {
        let query = NamedQuery::parse(name, text).unwrap_or_else(|e| panic!("{e}"));
        assert!(query.sql.contains("ORDER BY"), "{name}: two runs must not differ in the order of rows");
        assert!(query.params.iter().all(|param| param.doc.ends_with('.')), "{name}: say what each parameter says");
    }
    assert_eq!(named_queries().len(), FILES.len());
}

#[test]
fn a_dialect_says_why_and_takes_the_same_parameters() {
    for (name, engine, text) in DIALECTS {
        let query = &named_queries()[*name];
        let sql = query.sql_in(engine);
        assert!(text.starts_with("-- ") && sql.contains("ORDER BY") && *sql != query.sql, "{name}.{engine}");
        assert_eq!(query.sql_in("another"), query.sql);
        let used = |sql| header::placeholders(sql).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(used(sql), used(&query.sql), "{name}.{engine}");
        let namesake = NamedQuery { sql: "SELECT 1".to_owned(), ..query.clone() };
        assert_eq!(namesake.sql_in(engine), "SELECT 1");
    }
}

#[test]
fn a_header_declares_what_the_sql_uses() {
    let text = "-- Counts\n-- things.\n--\n-- $from: timestamp, optional. Since then.\n\
                -- $by: text, default likes, one of likes views. What.\n-- $limit: integer, default 20, from 1 to 100. How many.\n\
                -- $post_id: text, required. The post.\nSELECT $from, $by, $post_id\n-- why\nLIMIT $limit\n";
    let query = NamedQuery::parse("counts", text).unwrap();
    assert_eq!((query.name.as_str(), query.doc.as_str()), ("counts", "Counts things."));
    assert!(query.sql.starts_with("SELECT $from") && query.sql.ends_with("LIMIT $limit"));
    let [from, by, limit, post_id] = query.params.as_slice() else { panic!("{:?}", query.params) };
    assert_eq!((from.kind, &from.default), (ParamType::Timestamp, &Some(Value::Null)));
    assert_eq!(by.default, Some(Value::Text("likes".to_owned())));
    assert_eq!(by.one_of, ["likes", "views"]);
    assert_eq!((&limit.default, limit.range), (&Some(Value::Integer(20)), Some((1, 100))));
    assert_eq!((post_id.default.as_ref(), post_id.doc.as_str()), (None, "The post."));
}

#[test]
fn a_header_that_does_not_read_says_why() {
    let check = |header: &str, sql: &str, why: &str| {
        let error = NamedQuery::parse("q", &format!("-- Doc.\n{header}\n{sql}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().starts_with("query q: ") && error.to_string().contains(why), "{error}");
    };
    check("-- $a: text, required. A.", "SELECT 1", "$a is declared but not used");
    check("", "SELECT $b", "$b is used but not declared");
    check("-- $a: text, required. A.\n-- $a: text, required. A.", "SELECT $a", "declared twice");
    check("-- $a: number, required. A.", "SELECT $a", "its type must be");
    check("-- $a: integer, required. A.", "SELECT $a", "an integer needs bounds");
    check("-- $a: integer, required, from 2 to 1. A.", "SELECT $a", "an integer needs bounds");
    check("-- $a: integer, default 0, from 1 to 2. A.", "SELECT $a", "a cannot be `0`");
    check("-- $a: text, default x, one of y z. A.", "SELECT $a", "a cannot be `x`");
    check("-- $a: text, default x, from 1 to 2. A.", "SELECT $a", "one of");
    check("-- $format: text, required. A.", "SELECT $format", "write `$name");
    check("-- $a: text, required", "SELECT $a", "write `$name");
    check("", "", "then the statement");
}

fn query() -> NamedQuery {
    let text = "-- Doc.\n-- $from: timestamp, optional. A.\n-- $by: text, default likes, one of likes views. A.\n\
                -- $limit: integer, default 20, from 1 to 100. A.\n-- $post_id: text, required. A.\n\
                SELECT $from, $by, $limit, $post_id";
    NamedQuery::parse("counts", text).unwrap()
}

#[test]
fn what_is_not_sent_has_its_default() {
    let params = query().bind([("post_id", "p"), ("by", ""), ("from", "")]).unwrap();
    let expected = [
        ("by", Value::Text("likes".to_owned())),
        ("from", Value::Null),
        ("limit", Value::Integer(20)),
        ("post_id", Value::Text("p".to_owned())),
    ];
    assert_eq!(params, expected.map(|(name, value)| (name.to_owned(), value)).into());
}

#[test]
fn times_are_rfc_3339_or_dates() {
    let from = |text| query().bind([("post_id", "p"), ("from", text)]).map(|params| params["from"].clone());
    assert_eq!(from("1970-01-02").unwrap(), Value::Timestamp(86_400_000_000));
    assert_eq!(from("1970-01-01T01:00:00.000001+01:00").unwrap(), Value::Timestamp(1));
    for wrong in ["yesterday", "1970-13-01", "1970-01-01T00:00:00", "19700101", "0", "1970-01-01T00:00:00 01:00"] {
        assert_eq!(from(wrong).unwrap_err().kind(), ErrorKind::Invalid, "{wrong}");
    }
}

#[test]
fn a_wrong_parameter_is_named_with_what_it_takes() {
    let check = |sent: &[(&str, &str)], message: &str| {
        let error = query().bind(sent.iter().copied()).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Invalid, message));
    };
    check(&[], "post_id is missing: counts needs text of at most 200 bytes");
    check(&[("post_id", "")], "post_id is missing: counts needs text of at most 200 bytes");
    check(&[("post_id", "p"), ("by", "hates")], "by cannot be `hates`: it takes one of likes, views");
    check(&[("post_id", "p"), ("limit", "101")], "limit cannot be `101`: it takes a whole number from 1 to 100");
    check(&[("post_id", "p"), ("post_id", "q")], "post_id comes twice: send it once, as text of at most 200 bytes");
    check(
        &[("post_id", "p"), ("from", &"x".repeat(50))],
        "from cannot be `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…`: it takes a time as RFC 3339 with its zone, such as \
         2026-01-31T12:00:00Z, or a date",
    );
    let unknown = query().bind([("frm", "1")]).unwrap_err().to_string();
    assert!(unknown.starts_with("counts has no parameter `frm`: it takes from (a time"), "{unknown}");
    assert!(
        unknown.ends_with("limit (a whole number from 1 to 100), post_id (text of at most 200 bytes)"),
        "{unknown}"
    );
    let long = "ü".repeat(101);
    assert!(query().bind([("post_id", long.as_str())]).is_err(), "202 bytes");
}

fn batch() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("text", Arc::new(StringArray::from(vec![Some("a \"b\", ü\n"), None, Some("")])), true),
        ("long", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(7)])), true),
        ("double", Arc::new(Float64Array::from(vec![Some(0.1), None, Some(f64::NAN)])), true),
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])), true),
        (
            "time",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_000_000)]).with_timezone("UTC")),
            true,
        ),
        ("date", Arc::new(Date32Array::from(vec![Some(-1), None, Some(20_000)])), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn written(write: impl Fn(&Rows<'_>, usize, &mut Vec<u8>)) -> Vec<String> {
    let batch = batch();
    let rows = Rows::of(&batch).unwrap();
    let row = |row| {
        let mut out = Vec::new();
        write(&rows, row, &mut out);
        String::from_utf8(out).unwrap()
    };
    (0..rows.len()).map(row).collect()
}

#[test]
fn values_read_the_same_everywhere() {
    assert_eq!(
        written(|rows, row, out| rows.json_array(row, out)),
        [
            r#"["a \"b\", ü\n",-9223372036854775808,0.1,true,"1969-12-31T23:59:59.999999Z","1969-12-31"]"#,
            "[null,null,null,null,null,null]",
            r#"["",7,null,false,"1970-01-01T00:00:01Z","2024-10-04"]"#,
        ]
    );
    assert_eq!(
        written(|rows, row, out| rows.json_object(row, out))[2],
        r#"{"text":"","long":7,"double":null,"bool":false,"time":"1970-01-01T00:00:01Z","date":"2024-10-04"}"#
    );
    assert_eq!(
        written(|rows, row, out| rows.csv(row, out))[..2],
        ["\"a \"\"b\"\", ü\n\",-9223372036854775808,0.1,true,1969-12-31T23:59:59.999999Z,1969-12-31\r\n", ",,,,,\r\n",]
    );
    assert!(written(|rows, row, out| rows.csv(row, out))[2].starts_with("\"\",7,"), "empty text is not null");
}

#[test]
fn a_type_that_no_answer_may_have_is_refused() {
    let column: ArrayRef = Arc::new(arrow_array::UInt64Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let error = Rows::of(&batch).err().unwrap();
    assert_eq!(error.to_string(), "column n has type UInt64, which no answer may have");
}

/// Who is who is one text in every query that asks for it: persons must not be one thing here and another there.
#[test]
fn persons_are_the_same_in_every_query() {
    let persons = |name: &str| {
        let sql = &named_queries()[name].sql;
        let end = sql.find("    FROM hops\n),").unwrap_or_else(|| panic!("{name} has no persons"));
        sql[..end].to_owned()
    };
    let known = persons("active_users");
    assert!(known.starts_with("WITH winners AS ("));
    for name in ["events_of_person", "person_ids"] {
        assert_eq!(persons(name), known, "{name}");
    }
}
