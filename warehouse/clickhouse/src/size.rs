//! What a table takes on the server.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_schema::{DataType, Field, Schema};
use millrace_warehouse::{Result, Table};

use crate::client::Server;
use crate::columns::rows_table;
use crate::stream::convert;

/// How large a table is, with rows that merges have yet to take away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSize {
    /// Parts, which merges make fewer.
    pub parts: u64,
    /// Bytes of them on disk.
    pub bytes: u64,
    /// Rows in them.
    pub rows: u64,
}

pub(crate) async fn read(server: &Server, table: Table) -> Result<TableSize> {
    const SQL: &str = "SELECT count() AS parts, sum(bytes_on_disk) AS bytes, sum(rows) AS rows FROM system.parts \
                       WHERE active AND database = {database:String} AND `table` = {name:String}";
    let query = server.plain(SQL).param("database", &server.database).param("name", rows_table(table));
    let number = |name| Field::new(name, DataType::UInt64, false);
    let schema = Arc::new(Schema::new(vec![number("parts"), number("bytes"), number("rows")]));
    let mut size = TableSize::default();
    for batch in server.ask(&format!("ask for the size of {table}"), query).await? {
        let batch = convert(&batch, &schema)?;
        let sum = |nth: usize| batch.column(nth).as_primitive::<UInt64Type>().values().iter().sum::<u64>();
        size = TableSize { parts: size.parts + sum(0), bytes: size.bytes + sum(1), rows: size.rows + sum(2) };
    }
    Ok(size)
}
