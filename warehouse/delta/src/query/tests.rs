use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::prelude::{Expr, SessionContext, col, lit};
use millrace_warehouse::{NamedQuery, Params, Table, Warehouse, sample};
use object_store::path::Path;

use super::prune::prune;
use crate::files::{ActiveFile, ColumnBounds};
use crate::{DeltaOptions, DeltaWarehouse};

/// Work that a dropped answer leaves behind would take the processor from everybody else, for nobody.
#[tokio::test]
async fn a_dropped_answer_leaves_no_work_behind() {
    let dir = tempfile::tempdir().unwrap();
    let warehouse = DeltaWarehouse::open(dir.path(), DeltaOptions::default()).await.unwrap();
    for blocks in sample::commits(Table::Events) {
        warehouse.commit(Table::Events, blocks).await.unwrap();
    }
    let joins = ["b", "c", "d", "e", "f", "g"].map(|name| format!("CROSS JOIN events {name}")).join(" ");
    for what in ["count(DISTINCT a.message_id || g.message_id)", "a.message_id"] {
        let sql = format!("-- Endless.\nSELECT {what} FROM events a {joins}");
        let answer = warehouse.query(&NamedQuery::parse("endless", &sql).unwrap(), &Params::new()).await.unwrap();
        assert!(warehouse.queries.threads.tasks() > 0);
        drop(answer);
        let stopped = async {
            while warehouse.queries.threads.tasks() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), stopped).await.expect(what);
    }
}

fn file(name: &str, date: i32, columns: Vec<ColumnBounds>) -> Arc<ActiveFile> {
    let location = Path::from(name);
    Arc::new(ActiveFile { path: name.to_owned(), location, size: 1, date, rows: 10, written_ms: 0, columns })
}

fn bounds(column: &str, min: ScalarValue, max: ScalarValue, nulls: u64) -> ColumnBounds {
    ColumnBounds { column: Table::Events.schema().index_of(column).unwrap(), min, max, nulls }
}

fn time(us: i64) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(us), Some(Arc::from("UTC")))
}

fn text(text: &str) -> ScalarValue {
    ScalarValue::Utf8(Some(text.to_owned()))
}

#[test]
fn files_are_left_out_by_date_and_by_what_is_known_of_them() {
    const DAY_US: i64 = 86_400_000_000;
    let noon = |column: &str| bounds(column, time(2 * DAY_US), time(2 * DAY_US + DAY_US / 2), 0);
    let files = Arc::new(vec![
        file("day 1, nothing known", 1, vec![]),
        file("day 2, morning", 2, vec![noon("event_time"), bounds("event", text("a"), text("f"), 0)]),
        file("day 2, nothing known", 2, vec![]),
        file("day 2, no tags", 2, vec![bounds("tag", ScalarValue::Utf8(None), ScalarValue::Utf8(None), 10)]),
    ]);
    let schema: SchemaRef = Table::Events.schema();
    let context = SessionContext::new();
    let check = |filter: Expr, kept: &[&str]| {
        let predicate =
            context.create_physical_expr(filter.clone(), &DFSchema::try_from(schema.clone()).unwrap()).unwrap();
        let files = prune(Table::Events, &schema, &files, Some(predicate));
        assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), kept, "{filter}");
    };
    let all = ["day 1, nothing known", "day 2, morning", "day 2, nothing known", "day 2, no tags"];
    check(lit(true), &all);
    check(col("event_date").eq(lit(ScalarValue::Date32(Some(1)))), &all[..1]);
    check(col("event_time").lt(lit(time(2 * DAY_US))), &all[..1]);
    check(col("event_time").lt_eq(lit(time(2 * DAY_US))), &all);
    check(col("event_time").gt_eq(lit(time(2 * DAY_US))), &all[1..]);
    check(col("event_time").gt(lit(time(2 * DAY_US + DAY_US / 2))), &all[2..]);
    check(col("event_time").gt_eq(lit(time(3 * DAY_US))), &[]);
    check(col("event").eq(lit("post_liked")), &["day 1, nothing known", "day 2, nothing known", "day 2, no tags"]);
    check(col("event").eq(lit("b")), &all);
    check(col("tag").eq(lit("rust")), &all[..3]);
    check(col("tag").is_null(), &all);
    assert_eq!(prune(Table::Events, &schema, &files, None).len(), 4);
}
