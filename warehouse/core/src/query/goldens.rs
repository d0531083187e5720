//! Every named query, checked over [`super::sample`] against its golden file.
//!
//! The files are `tests/goldens/<name>.json`: the columns, then cases, each with parameters as a caller sends them and
//! the rows as JSON. Their numbers were counted by a program that knows neither the SQL nor an engine.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use serde::Deserialize;
use serde_json::Value as Json;

use super::{ColumnType, NamedQuery, Rows, named_queries, sample};
use crate::{Table, Warehouse};

#[derive(Deserialize)]
struct Golden {
    columns: Vec<GoldenColumn>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
struct GoldenColumn {
    name: String,
    r#type: String,
}

#[derive(Deserialize)]
struct Case {
    params: BTreeMap<String, String>,
    rows: Vec<Json>,
}

/// Fills an empty warehouse with the sample and checks every query on it. Panics at the first difference.
pub async fn check(warehouse: &dyn Warehouse) {
    for table in Table::ALL {
        for blocks in sample::commits(table) {
            warehouse.commit(table, blocks).await.unwrap_or_else(|e| panic!("{table}: {e}"));
        }
    }
    for query in named_queries().values() {
        let golden = read(&query.name);
        assert_cases_cover(query, &golden);
        for case in &golden.cases {
            check_case(warehouse, query, &golden.columns, case).await;
        }
    }
}

// Part of the program, because what calls this is a test of another crate, and runs in that one's folder.
macro_rules! goldens {
    ($($name:literal)*) => { [$(($name, include_str!(concat!("../../tests/goldens/", $name, ".json")))),*] };
}

const GOLDENS: [(&str, &str); 17] = goldens! {
    "actions_per_user_histogram"
    "active_users"
    "closed_windows"
    "dead_letters_by_reason"
    "events_by_hour"
    "events_by_name"
    "events_of_person"
    "follower_growth"
    "hourly_rate_by_action"
    "late_events"
    "person_ids"
    "post_reach"
    "robot_actors"
    "slate_funnel"
    "tag_activity_by_hour"
    "top_posts"
    "violations_by_event"
};

fn read(name: &str) -> Golden {
    let golden = GOLDENS.iter().find(|(of, _)| *of == name);
    let (_, text) = golden.unwrap_or_else(|| panic!("{name} has no golden file, or is not named here"));
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}.json: {e}"))
}

/// Every parameter is sent in some case, and each of its words where they are few.
fn assert_cases_cover(query: &NamedQuery, golden: &Golden) {
    for param in &query.params {
        let sent: Vec<&String> = golden.cases.iter().filter_map(|case| case.params.get(&param.name)).collect();
        assert!(!sent.is_empty(), "{}: no case sends {}", query.name, param.name);
        let missing = param.one_of.iter().find(|word| !sent.contains(word));
        assert_eq!(missing, None, "{}: no case sends {} this", query.name, param.name);
    }
}

async fn check_case(warehouse: &dyn Warehouse, query: &NamedQuery, columns: &[GoldenColumn], case: &Case) {
    let of = format!("{} {:?}", query.name, case.params);
    let sent = case.params.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let params = query.bind(sent).unwrap_or_else(|e| panic!("{of}: {e}"));
    let answer = warehouse.query(query, &params).await.unwrap_or_else(|e| panic!("{of}: {e}"));
    let column = |field: &arrow_schema::FieldRef| {
        let kind = ColumnType::of(field.data_type()).unwrap_or_else(|| panic!("{of}: {field}"));
        GoldenColumn { name: field.name().clone(), r#type: kind.to_string() }
    };
    assert_eq!(answer.schema.fields().iter().map(column).collect::<Vec<_>>(), columns, "{of}");
    let batches: Vec<_> = answer.rows.try_collect().await.unwrap_or_else(|e| panic!("{of}: {e}"));
    let mut rows = Vec::new();
    for batch in &batches {
        assert_eq!(batch.schema_ref(), &answer.schema, "{of}: batches have the columns of the answer");
        let batch = Rows::of(batch).unwrap_or_else(|e| panic!("{of}: {e}"));
        for row in 0..batch.len() {
            let mut text = Vec::new();
            batch.json_array(row, &mut text);
            rows.push(serde_json::from_slice::<Json>(&text).unwrap_or_else(|e| panic!("{of}: {e}")));
        }
    }
    assert_eq!(rows.len(), case.rows.len(), "{of}: {rows:#?}");
    for (nth, (row, expected)) in rows.iter().zip(&case.rows).enumerate() {
        assert_eq!(row, expected, "{of}: row {nth}");
    }
}
