//! What is known of a data file without opening it.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::ScalarValue;
use millrace_warehouse::Table;
use millrace_warehouse::tables::DATE_COLUMN;
use object_store::path::Path;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;
use serde_json::{Map, Value, json};

/// The files of a table at one version. While somebody holds one of them, it is not deleted.
pub(crate) type Files = Arc<Vec<Arc<ActiveFile>>>;

/// Longer bounds of text are left out of the Delta log: every reader holds all of it in memory.
const BOUND_BYTES_MAX: usize = 64;

/// A data file. Its rows have the columns of [`file_schema`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ActiveFile {
    /// Relative to the table, as in the Delta log: `event_date=2024-01-31/….parquet`.
    pub(crate) path: String,
    /// In the object store of the warehouse, whose root is the directory of the warehouse.
    pub(crate) location: Path,
    /// How large it is, bytes.
    pub(crate) size: u64,
    /// The date of all its rows, days since 1970.
    pub(crate) date: i32,
    /// How many rows it has.
    pub(crate) rows: u64,
    /// When it was written, milliseconds since 1970.
    pub(crate) written_ms: i64,
    /// What is known of its columns. A column that is not here may hold anything.
    pub(crate) columns: Vec<ColumnBounds>,
}

/// Between what the values of a column lie. The bounds of text are not exact: long values are cut.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ColumnBounds {
    /// Which column of the table's schema.
    pub(crate) column: usize,
    /// No value is less; of the column's type.
    pub(crate) min: ScalarValue,
    /// No value is greater.
    pub(crate) max: ScalarValue,
    /// How many are null.
    pub(crate) nulls: u64,
}

/// The columns of a table's files: all but the date, which is a file's own.
pub(crate) fn file_schema(table: Table) -> SchemaRef {
    let schema = table.schema();
    let fields = schema.fields().iter().filter(|field| field.name() != DATE_COLUMN).cloned();
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns whose bounds a table's log names: those it is sorted by, and its times. Others would not let a reader skip a
/// file.
pub(crate) fn bounded_columns(table: Table) -> Vec<usize> {
    let schema = table.schema();
    let bounded = |(_, field): &(usize, &Arc<arrow::datatypes::Field>)| {
        table.sort_columns().contains(&field.name().as_str()) || matches!(field.data_type(), DataType::Timestamp(..))
    };
    schema.fields().iter().enumerate().filter(bounded).map(|(index, _)| index).collect()
}

/// The bounds of a file's columns, from the footer that was just written.
pub(crate) fn bounds(table: Table, footer: &ParquetMetaData) -> parquet::errors::Result<Vec<ColumnBounds>> {
    let schema = table.schema();
    let in_file = file_schema(table);
    let mut columns = Vec::new();
    for column in bounded_columns(table) {
        let parquet_schema = footer.file_metadata().schema_descr();
        let converter = StatisticsConverter::try_new(schema.field(column).name(), &in_file, parquet_schema)?;
        let mins = converter.row_group_mins(footer.row_groups())?;
        let maxes = converter.row_group_maxes(footer.row_groups())?;
        let nulls = converter.row_group_null_counts(footer.row_groups())?;
        let least = fold(&mins, |a, b| if b < a { b } else { a });
        let greatest = fold(&maxes, |a, b| if b > a { b } else { a });
        if let (Some(min), Some(max)) = (least, greatest) {
            columns.push(ColumnBounds { column, min, max, nulls: nulls.iter().flatten().sum() });
        }
    }
    Ok(columns)
}

/// `None` when one of the values is unknown.
fn fold(values: &arrow::array::ArrayRef, pick: fn(ScalarValue, ScalarValue) -> ScalarValue) -> Option<ScalarValue> {
    let mut folded: Option<ScalarValue> = None;
    for index in 0..values.len() {
        let value = ScalarValue::try_from_array(values, index).ok().filter(|value| !value.is_null())?;
        folded = Some(match folded {
            Some(before) => pick(before, value),
            None => value,
        });
    }
    folded
}

/// The statistics of a file as the Delta log has them.
pub(crate) fn stats_json(table: Table, rows: u64, columns: &[ColumnBounds]) -> String {
    let schema = table.schema();
    let (mut mins, mut maxes, mut nulls) = (Map::new(), Map::new(), Map::new());
    for bounds in columns {
        let name = schema.field(bounds.column).name();
        nulls.insert(name.clone(), json!(bounds.nulls));
        if let (Some(min), Some(max)) = (to_json(&bounds.min), to_json(&bounds.max)) {
            mins.insert(name.clone(), min);
            maxes.insert(name.clone(), max);
        }
    }
    json!({ "numRecords": rows, "minValues": mins, "maxValues": maxes, "nullCount": nulls }).to_string()
}

/// The number of rows and the bounds that the Delta log names; `None` when it does not say how many rows there are.
pub(crate) fn parse_stats(table: Table, stats: &str) -> Option<(u64, Vec<ColumnBounds>)> {
    let stats: Value = serde_json::from_str(stats).ok()?;
    let rows = stats["numRecords"].as_u64()?;
    let schema = table.schema();
    let mut columns = Vec::new();
    for column in bounded_columns(table) {
        let field = schema.field(column);
        let value = |part: &str| from_json(&stats[part][field.name()], field.data_type());
        let nulls = stats["nullCount"][field.name()].as_u64();
        if let (Some(min), Some(max), Some(nulls)) = (value("minValues"), value("maxValues"), nulls) {
            columns.push(ColumnBounds { column, min, max, nulls });
        }
    }
    Some((rows, columns))
}

fn to_json(value: &ScalarValue) -> Option<Value> {
    match value {
        ScalarValue::Utf8(Some(text)) if text.len() <= BOUND_BYTES_MAX => Some(json!(text)),
        ScalarValue::Int32(Some(n)) => Some(json!(n)),
        ScalarValue::Int64(Some(n)) => Some(json!(n)),
        ScalarValue::TimestampMicrosecond(Some(_), _) => display(value).map(Value::String),
        _ => None,
    }
}

fn from_json(value: &Value, kind: &DataType) -> Option<ScalarValue> {
    match (value, kind) {
        (Value::String(text), _) => ScalarValue::try_from_string(text.clone(), kind).ok(),
        (Value::Number(n), DataType::Int64) => Some(ScalarValue::Int64(Some(n.as_i64()?))),
        (Value::Number(n), DataType::Int32) => Some(ScalarValue::Int32(Some(i32::try_from(n.as_i64()?).ok()?))),
        _ => None,
    }
}

/// A date as Delta writes it, `2024-01-31`; `None` outside the years that it can write.
pub(crate) fn date_text(date: i32) -> Option<String> {
    /// 0001-01-01 and 9999-12-31.
    const DATES: std::ops::RangeInclusive<i32> = -719_162..=2_932_896;
    if !DATES.contains(&date) {
        return None;
    }
    display(&ScalarValue::Date32(Some(date)))
}

/// The date that [`date_text`] wrote.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    match ScalarValue::try_from_string(text.to_owned(), &DataType::Date32) {
        Ok(ScalarValue::Date32(date)) => date,
        _ => None,
    }
}

fn display(value: &ScalarValue) -> Option<String> {
    const FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.6fZ";
    let array = value.to_array().ok()?;
    let options = FormatOptions::default().with_timestamp_tz_format(Some(FORMAT));
    let formatter = ArrayFormatter::try_new(&array, &options).ok()?;
    formatter.value(0).try_to_string().ok()
}

#[cfg(test)]
mod tests;
