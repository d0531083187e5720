//! Commits of blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deltalake_core::kernel::Action;
use futures::future::try_join_all;
use millrace_failpoints::reach;
use millrace_warehouse::{Block, Error, ErrorKind, Offset, Result, Source, Table};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use crate::files::{ActiveFile, date_text};
use crate::log;
use crate::table::{Change, DeltaTable, State, blocking, now_ms};
use crate::write::{FileWriter, NewFile, Profile, by_date};

/// How many dates the rows of one commit may have, each of which is a file. Blocks with more are to be cut smaller.
pub const DATES_MAX: usize = 512;

/// Commits blocks, or nothing. Goes on to the end also when the caller is gone.
pub(crate) async fn commit(table: &Arc<DeltaTable>, blocks: Vec<Block>) -> Result<()> {
    let table = table.clone();
    let commit = tokio::spawn(async move { run(&table, blocks).await });
    commit.await.map_err(|e| Error::with_source(ErrorKind::Retry, "interrupted commit", e))?
}

async fn run(table: &DeltaTable, blocks: Vec<Block>) -> Result<()> {
    check(table.table, &blocks)?;
    if blocks.is_empty() {
        return Ok(());
    }
    let writer = table.writer().await?;
    let ranges: Vec<_> = blocks.iter().map(|block| (block.source, block.start, block.end)).collect();
    let follow = |state: &State| follows(table.table, &state.positions, &ranges);
    follow(&table.lock())?;
    let ends: BTreeMap<Source, Offset> = ranges.iter().map(|(source, _, end)| (*source, *end)).collect();
    let (kind, root, now) = (table.table, table.root.clone(), now_ms());
    let files = blocking(move || encode(kind, &root, &blocks, now)).await?;
    let added = store(table, files).await?;
    reach("warehouse-stored");
    let mut actions = vec![log::commit_info("WRITE", now)];
    actions.extend(added.iter().map(|file| log::add(kind, file, true)));
    for (source, end) in &ends {
        actions.push(position(*source, *end, now)?);
    }
    writer.add(&actions, Change { positions: ends, added, removed: Vec::new() }, follow).await
}

/// Puts files where their entry will name them.
pub(crate) async fn store(table: &DeltaTable, files: Vec<NewFile>) -> Result<Vec<Arc<ActiveFile>>> {
    let puts = files.iter().map(|new| table.store.put(&new.file.location, new.bytes.clone().into()));
    try_join_all(puts).await.map_err(|e| table.error("write a file of", e))?;
    Ok(files.into_iter().map(|new| Arc::new(new.file)).collect())
}

/// What can be said of blocks without knowing where their sources stand.
fn check(table: Table, blocks: &[Block]) -> Result<()> {
    let schema = table.schema();
    let mut sources = BTreeSet::new();
    for block in blocks {
        let (source, start, end) = (block.source, block.start, block.end);
        if !sources.insert(source) {
            return Err(invalid(table, source, "it comes twice in one commit"));
        }
        if start > end {
            return Err(invalid(table, source, &format!("it ends at {end}, before its start {start}")));
        }
        if start == end && block.rows.iter().any(|batch| batch.num_rows() > 0) {
            return Err(invalid(table, source, "it has rows but no record that they come from"));
        }
        if block.rows.iter().any(|batch| batch.schema().fields() != schema.fields()) {
            return Err(invalid(table, source, "its rows have other columns than the table"));
        }
    }
    Ok(())
}

/// A source without a position may begin anywhere: its log may have been trimmed.
fn follows(table: Table, positions: &BTreeMap<Source, Offset>, ranges: &[(Source, Offset, Offset)]) -> Result<()> {
    for (source, start, _) in ranges {
        if let Some(stands) = positions.get(source).filter(|stands| *stands != start) {
            let message = format!("a block of {} begins at {start}, but {table} has it up to {stands}", name(*source));
            return Err(Error::new(ErrorKind::Conflict, message));
        }
    }
    Ok(())
}

fn encode(table: Table, root: &Path, blocks: &[Block], now_ms: i64) -> Result<Vec<NewFile>> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::with_source(ErrorKind::Invalid, format!("cannot turn rows of {table} into Parquet"), e)
    };
    let rows: Vec<_> = blocks.iter().flat_map(|block| block.rows.iter().cloned()).collect();
    let dates = by_date(&rows).map_err(|e| failed(e.into()))?;
    if dates.len() > DATES_MAX {
        let message = format!("{} dates in one commit of {table}: send at most {DATES_MAX}", dates.len());
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let mut files = Vec::with_capacity(dates.len());
    for (date, rows) in dates {
        if date_text(date).is_none() {
            let message = format!("a row of {table} has the day {date} since 1970: years are from 1 to 9999");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let write = || {
            let mut writer = FileWriter::new(table, date, Profile::Fresh)?;
            rows.iter().try_for_each(|batch| writer.write(batch))?;
            writer.finish(root, now_ms)
        };
        files.push(write().map_err(|e| failed(e.into()))?);
    }
    Ok(files)
}

fn position(source: Source, end: Offset, now_ms: i64) -> Result<Action> {
    let message = || format!("a block of {} ends at {end}: Delta's numbers end before", name(source));
    let end = i64::try_from(end).map_err(|e| Error::with_source(ErrorKind::Invalid, message(), e))?;
    Ok(log::position(source, end, now_ms))
}

fn invalid(table: Table, source: Source, why: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("cannot commit a block of {} to {table}: {why}", name(source)))
}

fn name(source: Source) -> String {
    format!("{}/{} of generation {}", source.topic, source.partition, source.generation)
}
