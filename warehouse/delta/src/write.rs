//! Rows into Parquet.

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Date32Type, Schema};
use bytes::Bytes;
use millrace_warehouse::Table;
use millrace_warehouse::tables::DATE_COLUMN;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::Result;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use std::collections::BTreeMap;
use uuid::Uuid;

use crate::files::{ActiveFile, bounds, date_text, file_schema};

/// How many rows a row group has at most: what one thread of a query reads at a time.
const GROUP_ROWS_MAX: usize = 128 * 1024;
/// How large the pages of a merged file are, bytes before compression.
const PAGE_BYTES: usize = 256 * 1024;
/// How hard a merged file is compressed. Above it time doubles for a few bytes in a hundred.
const MERGED_ZSTD_LEVEL: i32 = 6;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Written once for each block and merged soon: cheap to write.
    Fresh,
    /// Here to stay: small and quick to read.
    Merged,
}

/// A file that is not stored yet.
pub(crate) struct NewFile {
    pub(crate) file: ActiveFile,
    pub(crate) bytes: Bytes,
}

/// Writes the rows of one date, whose batches have the columns of [`file_schema`].
pub(crate) struct FileWriter {
    table: Table,
    date: i32,
    writer: ArrowWriter<Vec<u8>>,
}

impl FileWriter {
    pub(crate) fn new(table: Table, date: i32, profile: Profile) -> Result<Self> {
        let schema = file_schema(table);
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties(&schema, profile)))?;
        Ok(Self { table, date, writer })
    }

    pub(crate) fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.writer.write(rows)
    }

    /// The file, to be stored below `root`.
    pub(crate) fn finish(mut self, root: &Path, now_ms: i64) -> Result<NewFile> {
        let footer = self.writer.finish()?;
        let bytes = Bytes::from(std::mem::take(self.writer.inner_mut()));
        let date = date_text(self.date).unwrap_or_default();
        let path = format!("{DATE_COLUMN}={date}/{}.parquet", Uuid::new_v4());
        let location = path.split('/').fold(root.clone(), |location, part| location.join(part));
        let file = ActiveFile {
            path,
            location,
            size: bytes.len() as u64,
            date: self.date,
            rows: u64::try_from(footer.file_metadata().num_rows()).unwrap_or(0),
            written_ms: now_ms,
            columns: bounds(self.table, &footer)?,
        };
        Ok(NewFile { file, bytes })
    }
}

/// Rows by date, without the column that says it.
pub(crate) fn by_date(rows: &[RecordBatch]) -> arrow::error::Result<BTreeMap<i32, Vec<RecordBatch>>> {
    let mut dates: BTreeMap<i32, Vec<RecordBatch>> = BTreeMap::new();
    for batch in rows.iter().filter(|batch| batch.num_rows() > 0) {
        let mut batch = batch.clone();
        let column = batch.schema().index_of(DATE_COLUMN)?;
        let days = batch.remove_column(column);
        let days = days.as_primitive::<Date32Type>();
        let mut places: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
        for (place, date) in (0..).zip(days.values()) {
            places.entry(*date).or_default().push(place);
        }
        if places.len() == 1 {
            dates.entry(days.value(0)).or_default().push(batch);
            continue;
        }
        for (date, places) in places {
            let part = take_record_batch(&batch, &UInt32Array::from(places))?;
            dates.entry(date).or_default().push(part);
        }
    }
    Ok(dates)
}

fn properties(schema: &Schema, profile: Profile) -> WriterProperties {
    let builder = WriterProperties::builder()
        .set_created_by(concat!("millrace ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(Some(GROUP_ROWS_MAX));
    let mut builder = match profile {
        Profile::Fresh => builder
            .set_compression(Compression::SNAPPY)
            .set_offset_index_disabled(true)
            .set_statistics_enabled(EnabledStatistics::Chunk),
        Profile::Merged => builder
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(MERGED_ZSTD_LEVEL).unwrap_or_default()))
            .set_data_page_size_limit(PAGE_BYTES),
    };
    for field in schema.fields() {
        builder = encoding(builder, ColumnPath::from(field.name().as_str()), field.data_type());
    }
    builder.build()
}

/// Times and offsets are close to their neighbours: their differences take few bits. Everything else is tried as a
/// dictionary first, which the writer gives up when values hardly repeat.
fn encoding(builder: WriterPropertiesBuilder, column: ColumnPath, kind: &DataType) -> WriterPropertiesBuilder {
    match kind {
        DataType::Timestamp(..) | DataType::Int64 => builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED),
        _ => builder,
    }
}

#[cfg(test)]
mod tests;
