//! Merges small files of a date into larger ones, sorted.
//!
//! Size-tiered, as log-structured stores do it (Cassandra's `SizeTieredCompactionStrategy`): only files of about the same size
//! are merged, so each merge makes a row's file [`TIER_FILES`] times larger and a row is rewritten a handful of times in its
//! life. A date to which nothing was added for a while is merged as a whole.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::row::{RowConverter, Rows, SortField};
use bytes::Bytes;
use millrace_warehouse::{Error, ErrorKind, Maintained, Result, Table};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::commit::store;
use crate::files::ActiveFile;
use crate::log;
use crate::table::{Change, DeltaTable, State, blocking, now_ms};
use crate::write::{FileWriter, NewFile, Profile};

/// How many files of one tier are merged, and how many times more rows the files of the next tier have.
const TIER_FILES: usize = 16;
/// How many files one merge takes at most.
const FILES_MAX: usize = 64;
/// How many merges one round does in one table.
const MERGES_MAX: usize = 4;
/// A file of so many rows is left alone.
const FULL_ROWS: u64 = 128 * 1024;
/// A file of so many bytes is left alone.
const FULL_BYTES: u64 = 32 << 20;
/// How many rows a merged file has at most.
const ROWS_MAX: u64 = 1 << 20;
/// How much memory the rows of one merge may take; the order in which they are written and the file itself come on top.
const ROW_BYTES_MAX: usize = 96 << 20;
/// How many rows are read and written at a time.
const BATCH_ROWS: usize = 8_192;
/// A date is quiet when nothing was added to it for so long, milliseconds.
const QUIET_MS: i64 = 10 * 60 * 1_000;
/// In a quiet date, a file more than this many times larger than all smaller ones is not worth rewriting for them.
const UNEQUAL: u64 = 4;

/// Merges what is due, at most [`MERGES_MAX`] times.
pub(super) async fn merge(table: &DeltaTable, oversized: &mut HashSet<String>, done: &mut Maintained) -> Result<()> {
    let files = table.files();
    let mut dates: BTreeMap<i32, Vec<Arc<ActiveFile>>> = BTreeMap::new();
    for file in files.iter().filter(|file| !is_full(file) && !oversized.contains(&file.path)) {
        dates.entry(file.date).or_default().push(file.clone());
    }
    drop(files);
    let now = now_ms();
    let due = dates.into_values().filter_map(|files| choose(files, now));
    for group in due.take(MERGES_MAX) {
        let merged = merge_group(table, group, oversized).await?;
        done.files_merged += merged;
        done.files_written += u64::from(merged > 0);
    }
    Ok(())
}

fn is_full(file: &ActiveFile) -> bool {
    file.rows >= FULL_ROWS || file.size >= FULL_BYTES
}

/// Which of the files of a date to merge now.
fn choose(files: Vec<Arc<ActiveFile>>, now_ms: i64) -> Option<Vec<Arc<ActiveFile>>> {
    let quiet = files.iter().all(|file| now_ms.saturating_sub(file.written_ms) >= QUIET_MS);
    let mut tiers: BTreeMap<u32, Vec<Arc<ActiveFile>>> = BTreeMap::new();
    for file in &files {
        tiers.entry(tier(file.rows)).or_default().push(file.clone());
    }
    let crowded = tiers.into_values().find(|files| files.len() >= TIER_FILES);
    let mut group = crowded.or_else(|| quiet.then_some(files))?;
    group.sort_by_key(|file| file.rows);
    while let Some((largest, smaller)) = group.split_last() {
        if largest.rows <= UNEQUAL * smaller.iter().map(|file| file.rows).sum::<u64>() {
            break;
        }
        group.pop();
    }
    group.truncate(FILES_MAX);
    (group.len() > 1).then_some(group)
}

fn tier(rows: u64) -> u32 {
    rows.max(1).ilog(TIER_FILES as u64)
}

/// Merges as many of the files, from the first, as fit into memory; answers how many.
async fn merge_group(table: &DeltaTable, group: Vec<Arc<ActiveFile>>, oversized: &mut HashSet<String>) -> Result<u64> {
    let mut taken = Vec::new();
    let (mut rows, mut count, mut row_bytes) = (Vec::new(), 0, 0);
    for file in group {
        if count + file.rows > ROWS_MAX {
            break;
        }
        let bytes = read(table, &file).await?;
        let kind = table.table;
        let Some((batches, size)) = blocking(move || decode(kind, bytes, ROW_BYTES_MAX - row_bytes)).await? else {
            if taken.is_empty() {
                oversized.insert(file.path.clone());
                continue;
            }
            break;
        };
        count += file.rows;
        row_bytes += size;
        rows.extend(batches);
        taken.push(file);
    }
    if taken.len() < 2 {
        oversized.extend(taken.into_iter().map(|file| file.path.clone()));
        return Ok(0);
    }
    let (kind, root, date, now) = (table.table, table.root.clone(), taken[0].date, now_ms());
    let merged = blocking(move || write_sorted(kind, &root, date, &rows, now)).await?;
    if merged.file.rows != count {
        let message = format!("files of {kind} have {} rows, but their log says {count}", merged.file.rows);
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    replace(table, taken, merged).await
}

async fn replace(table: &DeltaTable, taken: Vec<Arc<ActiveFile>>, merged: NewFile) -> Result<u64> {
    let writer = table.writer().await?;
    let added = store(table, vec![merged]).await?;
    let still = |state: &State| {
        if taken.iter().all(|file| state.files.contains_key(&file.path)) {
            return Ok(());
        }
        // What was written will be found as garbage.
        let message = format!("merged files of {} in vain: another process had replaced one of them", table.table);
        Err(Error::new(ErrorKind::Conflict, message))
    };
    let now = now_ms();
    let mut actions = vec![log::commit_info("OPTIMIZE", now)];
    actions.extend(taken.iter().map(|file| log::remove(file, now)));
    actions.extend(added.iter().map(|file| log::add(table.table, file, false)));
    let merged = taken.len() as u64;
    let removed = taken.iter().map(|file| file.path.clone()).collect();
    match writer.add(&actions, Change { added, removed, ..Change::default() }, still).await {
        Err(e) if e.kind() == ErrorKind::Conflict => {
            Err(Error::with_source(ErrorKind::Retry, format!("merged files of {} in vain", table.table), e))
        }
        other => other.map(|()| merged),
    }
}

async fn read(table: &DeltaTable, file: &ActiveFile) -> Result<Bytes> {
    let failed = |e| table.error(&format!("read {} of", file.path), e);
    table.store.get(&file.location).await.map_err(failed)?.bytes().await.map_err(failed)
}

/// The rows of a file and how much memory they take; `None` when that is more than `bytes_max`.
fn decode(table: Table, file: Bytes, bytes_max: usize) -> Result<Option<(Vec<RecordBatch>, usize)>> {
    let failed = |e| unreadable(table, e);
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed(e.into()))?;
    let reader = reader.with_batch_size(BATCH_ROWS).build().map_err(|e| failed(e.into()))?;
    let (mut batches, mut size) = (Vec::new(), 0);
    for batch in reader {
        let batch = batch.map_err(|e| failed(e.into()))?;
        size += batch.get_array_memory_size();
        if size > bytes_max {
            return Ok(None);
        }
        batches.push(batch);
    }
    Ok(Some((batches, size)))
}

fn write_sorted(table: Table, root: &Path, date: i32, rows: &[RecordBatch], now_ms: i64) -> Result<NewFile> {
    let failed = |e| unreadable(table, e);
    let order = sorted(table, rows).map_err(|e| failed(e.into()))?;
    let mut writer = FileWriter::new(table, date, Profile::Merged).map_err(|e| failed(e.into()))?;
    let batches: Vec<&RecordBatch> = rows.iter().collect();
    for places in order.chunks(BATCH_ROWS) {
        let places: Vec<_> = places.iter().map(|&(batch, row)| (batch as usize, row as usize)).collect();
        let chunk = interleave_record_batch(&batches, &places).map_err(|e| failed(e.into()))?;
        writer.write(&chunk).map_err(|e| failed(e.into()))?;
    }
    writer.finish(root, now_ms).map_err(|e| failed(e.into()))
}

/// Batch and row of each row, in the order of the table's sort columns.
fn sorted(table: Table, batches: &[RecordBatch]) -> arrow::error::Result<Vec<(u32, u32)>> {
    let schema = table.schema();
    let types = table.sort_columns().iter().map(|name| Ok(schema.field_with_name(name)?.data_type().clone()));
    let fields = types.map(|kind| kind.map(SortField::new)).collect::<arrow::error::Result<Vec<_>>>()?;
    let converter = RowConverter::new(fields)?;
    let mut keys: Vec<Rows> = Vec::with_capacity(batches.len());
    let mut order = Vec::new();
    for (batch, place) in batches.iter().zip(0_u32..) {
        let schema = batch.schema();
        let columns = table.sort_columns().iter().map(|name| Ok(batch.column(schema.index_of(name)?).clone()));
        keys.push(converter.convert_columns(&columns.collect::<arrow::error::Result<Vec<_>>>()?)?);
        order.extend((0..).take(batch.num_rows()).map(|row: u32| (place, row)));
    }
    order.sort_unstable_by_key(|&(batch, row)| keys[batch as usize].row(row as usize));
    Ok(order)
}

fn unreadable(table: Table, error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::with_source(ErrorKind::Corrupt, format!("cannot merge files of {table}"), error)
}

#[cfg(test)]
mod tests;
