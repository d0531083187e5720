//! Which blocks are recorded: up to where each source stands in each table.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use clickhouse::query::Query;
use millrace_warehouse::{Block, Error, ErrorKind, Offset, Result, Source, Table};

use crate::client::Server;
use crate::columns::source_name;
use crate::stream::{convert, encode};

/// Where the sources of each table stand.
pub(crate) type Stands = BTreeMap<Table, BTreeMap<Source, Offset>>;

/// Reads it from the server, of all tables at once: it has a few rows for each partition of the log.
pub(crate) async fn read(server: &Server) -> Result<Stands> {
    const SQL: &str = "SELECT toString(`table`) AS t, generation, toString(topic) AS topic, partition, max(`end`) AS upto \
                       FROM blocks GROUP BY t, generation, topic, partition";
    let batches = server.ask("read which blocks are recorded", server.statement(SQL)).await?;
    let schema = Arc::new(Schema::new(vec![
        Field::new("t", DataType::Utf8, false),
        Field::new("generation", DataType::UInt32, false),
        Field::new("topic", DataType::Utf8, false),
        Field::new("partition", DataType::UInt32, false),
        Field::new("upto", DataType::UInt64, false),
    ]));
    let mut stands = Stands::new();
    for batch in batches {
        let batch = convert(&batch, &schema)?;
        let (tables, topics) = (batch.column(0).as_string::<i32>(), batch.column(2).as_string::<i32>());
        let generations = batch.column(1).as_primitive::<UInt32Type>().values();
        let partitions = batch.column(3).as_primitive::<UInt32Type>().values();
        let ends = batch.column(4).as_primitive::<UInt64Type>().values();
        for row in 0..batch.num_rows() {
            let (table, topic) = (tables.value(row), topics.value(row));
            let unknown = |what: &str| {
                let message =
                    format!("blocks of {what} are recorded, which this version does not know: run a newer one");
                Error::new(ErrorKind::Corrupt, message)
            };
            let table = Table::ALL.into_iter().find(|known| known.name() == table).ok_or_else(|| unknown(table))?;
            let topic = topic.parse().map_err(|_| unknown(topic))?;
            let source = Source { generation: generations[row], topic, partition: partitions[row] };
            stands.entry(table).or_default().insert(source, ends[row]);
        }
    }
    Ok(stands)
}

/// Records blocks. They go into one part on the server, so all are recorded or none.
pub(crate) async fn write(server: &Server, table: Table, blocks: &[Block]) -> Result<()> {
    const SQL: &str = "INSERT INTO blocks (`table`, generation, topic, partition, `start`, `end`) FORMAT ArrowStream";
    let text =
        |of: fn(&Block) -> &'static str| Arc::new(StringArray::from_iter_values(blocks.iter().map(of))) as ArrayRef;
    let number = |of: fn(&Block) -> u32| Arc::new(UInt32Array::from_iter_values(blocks.iter().map(of))) as ArrayRef;
    let offset = |of: fn(&Block) -> u64| Arc::new(UInt64Array::from_iter_values(blocks.iter().map(of))) as ArrayRef;
    let tables: ArrayRef = Arc::new(StringArray::from_iter_values(blocks.iter().map(|_| table.name())));
    let batch = RecordBatch::try_from_iter([
        ("table", tables),
        ("generation", number(|block| block.source.generation)),
        ("topic", text(|block| block.source.topic.as_str())),
        ("partition", number(|block| block.source.partition)),
        ("start", offset(|block| block.start)),
        ("end", offset(|block| block.end)),
    ]);
    let rows = batch.and_then(|batch| encode(&batch.schema(), &[batch]));
    let rows = rows.map_err(|e| Error::with_source(ErrorKind::Invalid, "blocks cannot be recorded as they are", e))?;
    server.insert(&format!("record blocks of {table}"), SQL, rows).await
}

/// The rows of `table` that count when its sources stand there, each once. Belongs to the parameters that [`bind`] sets.
pub(crate) fn counted(table: Table, columns: &[String]) -> String {
    let (name, columns) = (table.name(), columns.join(", "));
    format!(
        "SELECT {columns} FROM {name}_rows FINAL WHERE offset < transform(log_source, {{{name}_sources:Array(String)}}, \
         {{{name}_ends:Array(Int64)}}, toInt64(0))"
    )
}

/// Gives a statement the parameters of [`counted`].
pub(crate) fn bind(query: Query, table: Table, stands: &Stands) -> Query {
    let sources = stands.get(&table).into_iter().flatten();
    let (names, ends): (Vec<String>, Vec<i64>) =
        sources.map(|(source, end)| (source_name(*source), i64::try_from(*end).unwrap_or(i64::MAX))).unzip();
    query.param(&format!("{}_sources", table.name()), names).param(&format!("{}_ends", table.name()), ends)
}
