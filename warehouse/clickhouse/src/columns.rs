//! What the tables of ClickHouse have beside the columns of the seam: from which record a row came.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{ArrowPrimitiveType, Int32Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use millrace_warehouse::{Block, Error, ErrorKind, Result, Source, Table};

use crate::error::invalid;

/// Names a source in `log_source`.
pub(crate) fn source_name(source: Source) -> String {
    format!("{}/{}/{}", source.generation, source.topic, source.partition)
}

/// The table that holds the rows.
pub(crate) fn rows_table(table: Table) -> String {
    format!("{}_rows", table.name())
}

/// Whether the seam's columns number the rows of a record; where they do not, ours does.
fn has_index(table: Table) -> bool {
    table.schema().column_with_name(INDEX).is_some()
}

const LOG_SOURCE: &str = "log_source";
const INDEX: &str = "index";
const OFFSET: &str = "offset";

/// The columns of an insert: those of the seam, then ours.
pub(crate) fn insert_schema(table: Table) -> SchemaRef {
    static SCHEMAS: OnceLock<HashMap<Table, SchemaRef>> = OnceLock::new();
    let make = |table: Table| {
        let mut fields = table.schema().fields().to_vec();
        if !has_index(table) {
            fields.push(Arc::new(Field::new(INDEX, DataType::Int32, false)));
        }
        fields.push(Arc::new(Field::new(LOG_SOURCE, DataType::Utf8, false)));
        (table, Arc::new(Schema::new(fields)))
    };
    SCHEMAS.get_or_init(|| Table::ALL.map(make).into()).get(&table).expect("it holds every table").clone()
}

/// The statement that such rows belong to.
pub(crate) fn insert_statement(table: Table) -> String {
    let schema = insert_schema(table);
    let names: Vec<String> = schema.fields().iter().map(|field| quoted(field.name())).collect();
    format!("INSERT INTO {} ({}) FORMAT ArrowStream", rows_table(table), names.join(", "))
}

/// A name in the text of a statement. Ours have nothing to escape.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{name}`")
}

/// The rows of a block as they are inserted.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a row that comes from none of the block's records, and when two rows would be one for the
/// server: from the same record with the same index.
pub(crate) fn insert_batches(table: Table, block: &Block) -> Result<Vec<RecordBatch>> {
    let batches: Vec<&RecordBatch> = block.rows.iter().filter(|batch| batch.num_rows() > 0).collect();
    let refused = |why: String| {
        let source = source_name(block.source);
        invalid(format!("cannot commit a block of {source} to {table}: {why}"))
    };
    let mut offsets = batches.iter().flat_map(|batch| numbers::<Int64Type>(batch, OFFSET));
    let is_inside = |offset: &i64| u64::try_from(*offset).is_ok_and(|n| (block.start..block.end).contains(&n));
    if let Some(wrong) = offsets.find(|offset| !is_inside(offset)) {
        return Err(refused(format!(
            "a row comes from record {wrong}, which is not in {}..{}",
            block.start, block.end
        )));
    }
    let given = if has_index(table) {
        if let Some((offset, index)) = twice(&batches) {
            return Err(refused(format!("record {offset} has two rows with index {index}")));
        }
        None
    } else {
        Some(numbered(&batches))
    };
    let (schema, source) = (insert_schema(table), source_name(block.source));
    let mut made = Vec::with_capacity(batches.len());
    let mut given = given.map(Vec::into_iter);
    for batch in batches {
        let mut columns = batch.columns().to_vec();
        if let Some(given) = &mut given {
            columns.push(Arc::new(Int32Array::from_iter_values(given.by_ref().take(batch.num_rows()))));
        }
        columns.push(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&source, batch.num_rows()))));
        let rows = RecordBatch::try_new(schema.clone(), columns);
        made.push(rows.map_err(|e| {
            Error::with_source(ErrorKind::Invalid, format!("rows of {table} have other columns than it"), e)
        })?);
    }
    Ok(made)
}

/// The values of a column that every table has. The caller has compared the schema.
fn numbers<'a, T: ArrowPrimitiveType>(batch: &'a RecordBatch, name: &str) -> &'a [T::Native] {
    batch.column_by_name(name).map(|column| column.as_primitive::<T>().values().as_ref()).unwrap_or_default()
}

/// Two rows of one record with the same index.
fn twice(batches: &[&RecordBatch]) -> Option<(i64, i32)> {
    let places = |batch: &&RecordBatch| {
        let offsets = numbers::<Int64Type>(batch, OFFSET).iter().copied();
        offsets.zip(numbers::<Int32Type>(batch, INDEX).iter().copied()).collect::<Vec<_>>()
    };
    // Mostly in order already, which costs one pass.
    let mut places: Vec<(i64, i32)> = batches.iter().flat_map(places).collect();
    places.sort_unstable();
    places.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// Which of its record's rows each row is, from 0.
fn numbered(batches: &[&RecordBatch]) -> Vec<i32> {
    let offsets: Vec<i64> = batches.iter().flat_map(|batch| numbers::<Int64Type>(batch, OFFSET)).copied().collect();
    // One row for each record in the order of the log is what there mostly is.
    if offsets.is_sorted_by(|a, b| a < b) {
        return vec![0; offsets.len()];
    }
    let mut counts: HashMap<i64, i32> = HashMap::new();
    let number = |offset: i64| {
        let count = counts.entry(offset).or_default();
        *count += 1;
        *count - 1
    };
    offsets.into_iter().map(number).collect()
}

#[cfg(test)]
mod tests;
