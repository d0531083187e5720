//! Commits of blocks.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Date32Type;
use millrace_failpoints::reach;
use millrace_warehouse::tables::DATE_COLUMN;
use millrace_warehouse::{Block, Error, ErrorKind, Offset, Result, Source, Table};
use tokio::sync::Mutex;

use crate::client::Server;
use crate::columns::{insert_batches, insert_schema, insert_statement, source_name};
use crate::error::invalid;
use crate::stream::encode;
use crate::{DATES_MAX, ledger};

/// What writes: one commit to a table at a time.
pub(crate) struct Writers {
    server: Server,
    turns: BTreeMap<Table, Mutex<()>>,
}

impl Writers {
    pub(crate) fn new(server: Server) -> Self {
        Self { server, turns: Table::ALL.map(|table| (table, Mutex::default())).into() }
    }
}

/// Commits blocks, or nothing. Goes on to the end also when the caller is gone.
pub(crate) async fn commit(writers: &Arc<Writers>, table: Table, blocks: Vec<Block>) -> Result<()> {
    let writers = writers.clone();
    let commit = tokio::spawn(async move { run(&writers, table, blocks).await });
    commit.await.map_err(|e| Error::with_source(ErrorKind::Retry, "interrupted commit", e))?
}

async fn run(writers: &Writers, table: Table, blocks: Vec<Block>) -> Result<()> {
    check(table, &blocks)?;
    if blocks.is_empty() {
        return Ok(());
    }
    let _turn = writers.turns.get(&table).expect("there is one for each table").lock().await;
    let server = &writers.server;
    follows(table, &ledger::read(server).await?.remove(&table).unwrap_or_default(), &blocks)?;
    // Columns are copied into one stream, which is not for a thread that answers others.
    let encoded = tokio::task::spawn_blocking(move || encode_rows(table, &blocks).map(|rows| (blocks, rows)));
    let (blocks, rows) = encoded.await.map_err(|e| Error::with_source(ErrorKind::Retry, "interrupted commit", e))??;
    if let Some(rows) = rows {
        server.insert(&format!("insert rows into {table}"), &insert_statement(table), rows).await?;
    }
    reach("warehouse-stored");
    // Rows first: what is recorded is there.
    ledger::write(server, table, &blocks).await
}

/// What can be said of blocks without knowing where their sources stand.
fn check(table: Table, blocks: &[Block]) -> Result<()> {
    let schema = table.schema();
    let mut sources = BTreeSet::new();
    let mut dates = HashSet::new();
    for block in blocks {
        let (start, end) = (block.start, block.end);
        let refused =
            |why: &str| invalid(format!("cannot commit a block of {} to {table}: {why}", source_name(block.source)));
        if !sources.insert(block.source) {
            return Err(refused("it comes twice in one commit"));
        }
        if start > end {
            return Err(refused(&format!("it ends at {end}, before its start {start}")));
        }
        if i64::try_from(end).is_err() {
            return Err(refused(&format!("it ends at {end}, where the numbers of rows end before")));
        }
        if start == end && block.rows.iter().any(|batch| batch.num_rows() > 0) {
            return Err(refused("it has rows but no record that they come from"));
        }
        if block.rows.iter().any(|batch| batch.schema().fields() != schema.fields()) {
            return Err(refused("its rows have other columns than the table"));
        }
        dates.extend(block.rows.iter().flat_map(dates_of));
    }
    if dates.len() > DATES_MAX {
        return Err(invalid(format!("{} dates in one commit of {table}: send at most {DATES_MAX}", dates.len())));
    }
    Ok(())
}

fn dates_of(batch: &RecordBatch) -> HashSet<i32> {
    let dates = batch.column_by_name(DATE_COLUMN).map(|column| column.as_primitive::<Date32Type>().values());
    dates.into_iter().flatten().copied().collect()
}

/// A source without a block may begin anywhere: its log may have been trimmed.
fn follows(table: Table, stands: &BTreeMap<Source, Offset>, blocks: &[Block]) -> Result<()> {
    for Block { source, start, .. } in blocks {
        if let Some(stands) = stands.get(source).filter(|stands| *stands != start) {
            let name = source_name(*source);
            let message = format!("a block of {name} begins at {start}, but {table} has it up to {stands}");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
    }
    Ok(())
}

/// The rows of all blocks; `None` without any.
fn encode_rows(table: Table, blocks: &[Block]) -> Result<Option<bytes::Bytes>> {
    let mut batches = Vec::new();
    for block in blocks {
        batches.extend(insert_batches(table, block)?);
    }
    if batches.is_empty() {
        return Ok(None);
    }
    let failed = |e| Error::with_source(ErrorKind::Invalid, format!("rows of {table} cannot be sent as they are"), e);
    encode(&insert_schema(table), &batches).map(Some).map_err(failed)
}
