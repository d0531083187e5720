//! Compares the archive with what a replay would archive: for each table and partition as many rows, and the same sum of
//! their hashes, so that neither side has to be sorted or kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use futures::TryStreamExt;
use millrace_events::{Topic, TopicPartition};
use millrace_log::{EventLog, Offset};
use millrace_warehouse::{Source, Table, Warehouse};
use xxhash_rust::xxh3::Xxh3;

use super::{NoTimer, Report};
use crate::archive::{ArchiveOptions, ArchiveSeams, SOURCES, cut};
use crate::error::{Error, Result};
use crate::runner::Board;
use crate::state::StateStore;

/// Rows of one partition in one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    hashes: u64,
}

/// Up to where each table has rows, by source.
pub(super) type Recorded = BTreeMap<Table, BTreeMap<Source, Offset>>;

/// What is compared: the archive of a generation, against a replay whose job state is in `states`.
pub(super) struct Comparison {
    pub(super) generation: u32,
    pub(super) live: Arc<dyn EventLog>,
    pub(super) states: Arc<dyn StateStore>,
    pub(super) warehouse: Arc<dyn Warehouse>,
    /// How far the replay is, by partition.
    pub(super) reached: BTreeMap<TopicPartition, Offset>,
}

impl Comparison {
    /// Up to where each table has rows now.
    pub(super) async fn recorded(&self) -> Result<Recorded> {
        let mut recorded = Recorded::new();
        for (table, _) in SOURCES {
            recorded.insert(table, self.warehouse.recorded(table).await?);
        }
        Ok(recorded)
    }

    /// Compares every table up to there.
    pub(super) async fn run(&self, recorded: &Recorded, report: &mut Report) -> Result<()> {
        for (table, topic) in SOURCES {
            let recorded = recorded.get(&table).cloned().unwrap_or_default();
            let mut ranges = BTreeMap::new();
            for partition in 0..topic.partitions(self.live.partitions()) {
                let source = Source { generation: self.generation, topic, partition };
                let of = TopicPartition::new(topic, partition);
                let recorded = recorded.get(&source).copied().unwrap_or(0);
                let bounds = self.live.bounds(of).await?;
                let is_replayed = matches!(topic, Topic::Actions | Topic::UserEvents | Topic::ReactionEvents);
                let reached = if is_replayed { self.reached.get(&of).copied().unwrap_or(0) } else { bounds.end };
                if recorded > reached {
                    report.difference = Some(format!(
                        "{table} holds rows of {of} up to {recorded}, but only {reached} records led to rows: the log was \
                         restored from an older copy than the warehouse"
                    ));
                    return Ok(());
                }
                // What was trimmed is in the archive and nowhere else.
                ranges.insert(partition, (bounds.start, recorded));
            }
            self.table(table, topic, &ranges, report).await?;
            if report.difference.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn table(
        &self,
        table: Table,
        topic: Topic,
        ranges: &BTreeMap<u32, (Offset, Offset)>,
        report: &mut Report,
    ) -> Result<()> {
        let archived = self.archived(table, ranges).await?;
        for (&partition, &(start, end)) in ranges {
            let of = TopicPartition::new(topic, partition);
            let expected = self.expected(table, of, start, end).await?;
            let found = archived.get(&partition).copied().unwrap_or_default();
            report.rows += found.rows;
            if found != expected {
                let what = if found.rows == expected.rows { "other rows" } else { "rows" };
                report.difference = Some(format!(
                    "{table} has {} {what} of {of} from {start} to {end}, a replay leads to {}",
                    found.rows, expected.rows
                ));
                return Ok(());
            }
        }
        Ok(())
    }

    async fn archived(&self, table: Table, ranges: &BTreeMap<u32, (Offset, Offset)>) -> Result<BTreeMap<u32, Sum>> {
        let schema = table.schema();
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let mut rows = self.warehouse.scan(table, &columns).await?.rows;
        let mut sums = BTreeMap::new();
        while let Some(batch) = rows.try_next().await? {
            add(&batch, ranges, &mut sums)?;
        }
        Ok(sums)
    }

    async fn expected(&self, table: Table, of: TopicPartition, start: Offset, end: Offset) -> Result<Sum> {
        let seams = ArchiveSeams {
            log: self.live.clone(),
            states: self.states.clone(),
            warehouse: self.warehouse.clone(),
            board: Board::new(),
            timer: Arc::new(NoTimer),
        };
        // Nothing is committed here, so dates are no files.
        let options = ArchiveOptions { dates_max: usize::MAX, ..ArchiveOptions::default() };
        let ranges = BTreeMap::from([(of.partition, (start, end))]);
        let mut sums = BTreeMap::new();
        let mut next = start;
        while next < end {
            let cut = cut(&seams, &options, table, of, next..end, &mut BTreeSet::new()).await?;
            for batch in &cut.rows {
                add(batch, &ranges, &mut sums)?;
            }
            if cut.next == next {
                return Err(Error::Corrupt(format!("{of} cannot be read from {next} on")));
            }
            next = cut.next;
        }
        Ok(sums.get(&of.partition).copied().unwrap_or_default())
    }
}

/// Adds the rows of a batch whose offsets are in the range of their partition.
fn add(batch: &RecordBatch, ranges: &BTreeMap<u32, (Offset, Offset)>, sums: &mut BTreeMap<u32, Sum>) -> Result<()> {
    let missing = || Error::Corrupt("an archived table has lost a column".to_owned());
    let partitions =
        batch.column_by_name("partition").and_then(|c| c.as_primitive_opt::<Int32Type>()).ok_or_else(missing)?;
    let offsets = batch.column_by_name("offset").and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(missing)?;
    for row in 0..batch.num_rows() {
        let partition = partitions.value(row).cast_unsigned();
        let offset = offsets.value(row).cast_unsigned();
        if !ranges.get(&partition).is_some_and(|(start, end)| (*start..*end).contains(&offset)) {
            continue;
        }
        let sum = sums.entry(partition).or_default();
        sum.rows += 1;
        sum.hashes = sum.hashes.wrapping_add(hash_row(batch, row)?);
    }
    Ok(())
}

fn hash_row(batch: &RecordBatch, row: usize) -> Result<u64> {
    let mut hasher = Xxh3::new();
    for column in batch.columns() {
        if column.is_null(row) {
            hasher.update(&[0]);
            continue;
        }
        hasher.update(&[1]);
        hash_value(&mut hasher, column.as_ref(), row)?;
    }
    Ok(hasher.digest())
}

fn hash_value(hasher: &mut Xxh3, column: &dyn Array, row: usize) -> Result<()> {
    let mut text = |value: &str| {
        hasher.update(&(value.len() as u64).to_le_bytes());
        hasher.update(value.as_bytes());
    };
    match column.data_type() {
        DataType::Utf8 => text(column.as_string::<i32>().value(row)),
        // What the table says is text, a query engine may hand out as views of text.
        DataType::Utf8View => text(column.as_string_view().value(row)),
        DataType::LargeUtf8 => text(column.as_string::<i64>().value(row)),
        DataType::Int32 => hasher.update(&column.as_primitive::<Int32Type>().value(row).to_le_bytes()),
        DataType::Int64 => hasher.update(&column.as_primitive::<Int64Type>().value(row).to_le_bytes()),
        DataType::Date32 => hasher.update(&column.as_primitive::<Date32Type>().value(row).to_le_bytes()),
        DataType::Float64 => hasher.update(&column.as_primitive::<Float64Type>().value(row).to_le_bytes()),
        DataType::Boolean => hasher.update(&[u8::from(column.as_boolean().value(row))]),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            hasher.update(&column.as_primitive::<TimestampMicrosecondType>().value(row).to_le_bytes());
        }
        other => return Err(Error::Corrupt(format!("an archived table has a column of type {other}"))),
    }
    Ok(())
}
