use super::*;

fn statement(text: &str, params: &[(&str, &str)]) -> Statement {
    let query = NamedQuery::parse("counts", text).unwrap();
    Statement::of(&query, &query.bind(params.iter().copied()).unwrap()).unwrap()
}

#[test]
fn parameters_are_typed_and_stay_out_of_the_text() {
    let text = "-- Doc.\n-- $from: timestamp, optional. A.\n-- $by: text, default likes. A.\n-- $by_2: text, optional. A.\n\
                -- $limit: integer, default 20, from 1 to 100. A.\nSELECT $from, $by, $by_2, $limit";
    let statement = statement(text, &[("by", "x' OR 1")]);
    assert_eq!(
        statement.sql,
        "SELECT fromUnixTimestamp64Micro({from:Nullable(Int64)}, 'UTC'), {by:String}, {by_2:Nullable(String)}, \
         {limit:Int64}"
    );
}

#[test]
fn the_names_of_tables_mean_the_rows_that_count() {
    let begins = "WITH dead_letters AS (SELECT `id`, `reason`, `detail`, `source`, `refused_by`, `log_time`, `event_date`, \
                  `payload_bytes`, `truncated`, `topic`, `partition`, `offset` FROM dead_letters_rows FINAL WHERE offset < \
                  transform(log_source, {dead_letters_sources:Array(String)}, {dead_letters_ends:Array(Int64)}, toInt64(0)))";
    let check = |sql: &str, ends: &str| {
        assert_eq!(statement(&format!("-- Doc.\n{sql}"), &[]).sql, format!("{begins}{ends}"));
    };
    check("SELECT 1 FROM dead_letters", "\nSELECT 1 FROM dead_letters");
    check("WITH a AS (SELECT 1 FROM dead_letters) SELECT 2", ",\na AS (SELECT 1 FROM dead_letters) SELECT 2");
    assert_eq!(statement("-- Doc.\nSELECT 1", &[]).sql, "SELECT 1");
}

#[test]
fn parameters_that_the_query_does_not_have_are_invalid() {
    let query = NamedQuery::parse("counts", "-- Doc.\n-- $a: text, required. A.\nSELECT $a").unwrap();
    let other = BTreeMap::from([("a".to_owned(), Value::Null), ("b".to_owned(), Value::Null)]);
    for params in [BTreeMap::new(), other] {
        let error = Statement::of(&query, &params).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}
