//! Leaves out files that cannot hold a row that a query wants, by what the Delta log says of them.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use millrace_warehouse::Table;
use millrace_warehouse::tables::DATE_COLUMN;

use crate::files::{ActiveFile, Files};

const DAY_US: i64 = 24 * 3_600 * 1_000_000;

/// The column whose UTC date a table is partitioned by.
const fn time_column(table: Table) -> &'static str {
    match table {
        Table::Events => "event_time",
        Table::EngagementWindows => "window_start",
        Table::Identities => "linked_at",
        Table::ServedSlates => "served_at",
        Table::DeadLetters => "log_time",
    }
}

/// The files of `table` that may hold rows for which `predicate` is true.
pub(super) fn prune(
    table: Table,
    schema: &SchemaRef,
    files: &Files,
    predicate: Option<Arc<dyn PhysicalExpr>>,
) -> Vec<Arc<ActiveFile>> {
    let build = |predicate| PruningPredicateBuilder::new().with_file_schema(schema.clone()).build(predicate);
    let bounds = Bounds { table, schema: table.schema(), files };
    // A predicate that says nothing about bounds leaves nothing out, nor does one that cannot be evaluated on them.
    let kept = predicate.and_then(build).and_then(|predicate| predicate.prune(&bounds).ok());
    match kept {
        Some(kept) => files.iter().zip(kept).filter(|(_, kept)| *kept).map(|(file, _)| file.clone()).collect(),
        None => files.to_vec(),
    }
}

/// What is known of each file.
struct Bounds<'a> {
    table: Table,
    schema: SchemaRef,
    files: &'a [Arc<ActiveFile>],
}

#[derive(Clone, Copy)]
enum End {
    Min,
    Max,
}

impl Bounds<'_> {
    fn ends(&self, column: &Column, end: End) -> Option<ArrayRef> {
        let (index, field) = self.schema.column_with_name(&column.name)?;
        let unknown = ScalarValue::try_new_null(field.data_type()).ok()?;
        let ends = self.files.iter().map(|file| self.end(file, index, &column.name, end));
        ScalarValue::iter_to_array(ends.map(|end| end.unwrap_or_else(|| unknown.clone()))).ok()
    }

    fn end(&self, file: &ActiveFile, index: usize, name: &str, end: End) -> Option<ScalarValue> {
        if name == DATE_COLUMN {
            return Some(ScalarValue::Date32(Some(file.date)));
        }
        if let Some(bounds) = file.columns.iter().find(|bounds| bounds.column == index) {
            return Some(match end {
                End::Min => bounds.min.clone(),
                End::Max => bounds.max.clone(),
            });
        }
        // So a query that asks for times leaves out whole days, and need not mention dates.
        (name == time_column(self.table)).then(|| {
            let midnight = i64::from(file.date).saturating_mul(DAY_US);
            let time = match end {
                End::Min => midnight,
                End::Max => midnight.saturating_add(DAY_US - 1),
            };
            ScalarValue::TimestampMicrosecond(Some(time), Some(Arc::from("UTC")))
        })
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, End::Min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, End::Max)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let (index, _) = self.schema.column_with_name(&column.name)?;
        let nulls = |file: &Arc<ActiveFile>| {
            let bounds = file.columns.iter().find(|bounds| bounds.column == index);
            bounds.map(|bounds| bounds.nulls)
        };
        Some(Arc::new(self.files.iter().map(nulls).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.files.iter().map(|file| Some(file.rows)).collect::<UInt64Array>()))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
