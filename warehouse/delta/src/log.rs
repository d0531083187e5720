//! The Delta log: entries as they are written, and the positions that an entry carries.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use deltalake_core::DeltaTableError;
use deltalake_core::kernel::{Action, Add, CommitInfo, Remove, Transaction};
use futures::TryStreamExt;
use millrace_warehouse::tables::DATE_COLUMN;
use millrace_warehouse::{Offset, Source, Table};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::files::{ActiveFile, date_text, stats_json};

/// The directory of the log within a table.
pub(crate) const LOG_DIR: &str = "_delta_log";

/// The first part of the application id under which a source's position is kept.
const APP: &str = "millrace";

/// The entry of a version.
pub(crate) fn entry_path(table: &Path, version: u64) -> Path {
    table.clone().join(LOG_DIR).join(format!("{version:020}.json"))
}

/// An entry: one action on each line.
pub(crate) fn entry(actions: &[Action]) -> Result<Bytes, DeltaTableError> {
    let mut lines = Vec::new();
    for action in actions {
        serde_json::to_writer(&mut lines, action).map_err(|json_err| DeltaTableError::SerializeLogJson { json_err })?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}

/// The first line of every entry: what was done, for people.
pub(crate) fn commit_info(operation: &str, now_ms: i64) -> Action {
    Action::CommitInfo(CommitInfo {
        timestamp: Some(now_ms),
        operation: Some(operation.to_owned()),
        engine_info: Some(concat!("millrace/", env!("CARGO_PKG_VERSION")).to_owned()),
        ..CommitInfo::default()
    })
}

/// True for an entry that some version of this crate wrote.
pub(crate) fn is_ours(info: &CommitInfo) -> bool {
    info.engine_info.as_deref().is_some_and(|engine| engine.starts_with("millrace/"))
}

/// The actions of an entry.
pub(crate) fn actions(version: u64, entry: &[u8]) -> Result<Vec<Action>, DeltaTableError> {
    lines(entry).map(|line| serde_json::from_slice(line).map_err(|e| invalid(version, line, e))).collect()
}

/// The entries after `version`, in their order.
pub(crate) async fn entries_after(
    store: &dyn ObjectStore,
    table: &Path,
    version: u64,
) -> object_store::Result<Vec<(u64, Path)>> {
    let mut entries = Vec::new();
    let mut listed = store.list_with_offset(Some(&table.clone().join(LOG_DIR)), &entry_path(table, version));
    while let Some(object) = listed.try_next().await? {
        let name = object.location.filename().unwrap_or_default();
        let at = name.strip_suffix(".json").filter(|digits| digits.len() == 20).and_then(|digits| digits.parse().ok());
        if let Some(at) = at {
            entries.push((at, object.location));
        }
    }
    Ok(entries)
}

/// A file joins the table. Its rows are new (`data_change`), or stood in files that leave with the same entry.
pub(crate) fn add(table: Table, file: &ActiveFile, data_change: bool) -> Action {
    Action::Add(Add {
        path: file.path.clone(),
        partition_values: partition_values(file),
        size: i64::try_from(file.size).unwrap_or(i64::MAX),
        modification_time: file.written_ms,
        data_change,
        stats: Some(stats_json(table, file.rows, &file.columns)),
        ..Add::default()
    })
}

/// A file leaves the table; its rows stand in a file that joins with the same entry.
pub(crate) fn remove(file: &ActiveFile, now_ms: i64) -> Action {
    Action::Remove(Remove {
        path: file.path.clone(),
        data_change: false,
        deletion_timestamp: Some(now_ms),
        extended_file_metadata: Some(true),
        partition_values: Some(partition_values(file)),
        size: i64::try_from(file.size).ok(),
        ..Remove::default()
    })
}

/// A source stands at `end` now.
pub(crate) fn position(source: Source, end: i64, now_ms: i64) -> Action {
    Action::Txn(Transaction::new_with_last_update(app_id(source), end, Some(now_ms)))
}

fn partition_values(file: &ActiveFile) -> HashMap<String, Option<String>> {
    HashMap::from([(DATE_COLUMN.to_owned(), date_text(file.date))])
}

fn app_id(source: Source) -> String {
    format!("{APP}/{}/{}/{}", source.generation, source.topic, source.partition)
}

/// `None` for what somebody else keeps in the table.
fn parse_app_id(id: &str) -> Option<Source> {
    let mut parts = id.split('/');
    if parts.next() != Some(APP) {
        return None;
    }
    let source = Source {
        generation: parts.next()?.parse().ok()?,
        topic: parts.next()?.parse().ok()?,
        partition: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(source)
}

/// Where every source stands at `version`, and the version of the newest checkpoint up to there. deltalake finds an
/// application by its id only; here they are not known.
pub(crate) async fn positions(
    store: &dyn ObjectStore,
    table: &Path,
    version: u64,
) -> Result<(BTreeMap<Source, Offset>, Option<u64>), DeltaTableError> {
    let mut entries = BTreeMap::new();
    let mut checkpoints: BTreeMap<u64, Vec<Path>> = BTreeMap::new();
    let mut listed = store.list(Some(&table.clone().join(LOG_DIR)));
    while let Some(object) = listed.try_next().await? {
        let name = object.location.filename().unwrap_or_default().to_owned();
        let Some(at) = name.get(..20).and_then(|digits| digits.parse().ok()).filter(|at| *at <= version) else {
            continue;
        };
        if &name[20..] == ".json" {
            entries.insert(at, object.location);
        } else if name[20..].starts_with(".checkpoint") && name.ends_with(".parquet") {
            checkpoints.entry(at).or_default().push(object.location);
        }
    }
    let mut positions = BTreeMap::new();
    let newest = checkpoints.pop_last();
    let checkpoint = newest.as_ref().map(|(at, _)| *at);
    for part in newest.into_iter().flat_map(|(_, parts)| parts) {
        let bytes = store.get(&part).await?.bytes().await?;
        let read = tokio::task::spawn_blocking(move || read_checkpoint(bytes)).await;
        positions.append(&mut read.map_err(|e| DeltaTableError::GenericError { source: e.into() })??);
    }
    for at in checkpoint.map_or(0, |at| at + 1)..=version {
        let path = entries.get(&at).cloned().unwrap_or_else(|| entry_path(table, at));
        read_entry(at, &store.get(&path).await?.bytes().await?, &mut positions)?;
    }
    Ok((positions, checkpoint))
}

fn read_entry(version: u64, entry: &[u8], positions: &mut BTreeMap<Source, Offset>) -> Result<(), DeltaTableError> {
    for line in lines(entry) {
        let action: Value = serde_json::from_slice(line).map_err(|e| invalid(version, line, e))?;
        let txn = &action["txn"];
        if let (Some(id), Some(end)) = (txn["appId"].as_str(), txn["version"].as_i64()) {
            stands(id, end, positions);
        }
    }
    Ok(())
}

fn lines(entry: &[u8]) -> impl Iterator<Item = &[u8]> {
    entry.split(|b| *b == b'\n').filter(|line| !line.is_empty())
}

fn invalid(version: u64, line: &[u8], json_err: serde_json::Error) -> DeltaTableError {
    DeltaTableError::InvalidJsonLog { json_err, line: String::from_utf8_lossy(line).into_owned(), version }
}

fn read_checkpoint(bytes: Bytes) -> Result<BTreeMap<Source, Offset>, DeltaTableError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["txn.appId", "txn.version"]);
    let mut positions = BTreeMap::new();
    for batch in builder.with_projection(mask).build()? {
        read_txns(&batch.map_err(DeltaTableError::from)?, &mut positions).ok_or_else(no_txns)?;
    }
    Ok(positions)
}

/// `None` when the checkpoint has no such columns: without positions everything would be archived again.
fn read_txns(batch: &RecordBatch, positions: &mut BTreeMap<Source, Offset>) -> Option<()> {
    let txns = batch.column_by_name("txn")?.as_struct_opt()?;
    let ids = txns.column_by_name("appId")?.as_string_opt::<i32>()?;
    let ends = txns.column_by_name("version")?.as_primitive_opt::<Int64Type>()?;
    for row in (0..txns.len()).filter(|row| txns.is_valid(*row) && ids.is_valid(*row) && ends.is_valid(*row)) {
        stands(ids.value(row), ends.value(row), positions);
    }
    Some(())
}

fn no_txns() -> DeltaTableError {
    DeltaTableError::Generic("a checkpoint without txn columns".to_owned())
}

/// What a position says, if it is one of ours.
pub(crate) fn stands(id: &str, end: i64, positions: &mut BTreeMap<Source, Offset>) {
    if let (Some(source), Ok(end)) = (parse_app_id(id), Offset::try_from(end)) {
        positions.insert(source, end);
    }
}
