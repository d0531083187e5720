//! Arrow streams: rows to the server, and answers from it.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_buffer::Buffer;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use clickhouse::query::BytesCursor;
use millrace_warehouse::{Error, ErrorKind, Result};

use crate::error::{Bounds, Work, failed, garbled, of_query};

/// What an Arrow stream ends with. Without it the rest is missing.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Batches as a stream.
pub(crate) fn encode(schema: &SchemaRef, batches: &[RecordBatch]) -> std::result::Result<Bytes, ArrowError> {
    // Of a slice its own part only, whatever it was cut from.
    let columns = batches.iter().flat_map(RecordBatch::columns);
    let bytes = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    let mut writer = StreamWriter::try_new(Vec::with_capacity(bytes), schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(writer.into_inner()?.into())
}

/// An answer as it comes.
pub(crate) struct Batches {
    cursor: BytesCursor,
    work: Work,
    decoder: StreamDecoder,
    /// What has come and is not decoded yet.
    left: Buffer,
    /// A batch that came together with the columns.
    ready: Option<RecordBatch>,
    /// The last bytes that came.
    last: [u8; END.len()],
    /// Of a named query, whose errors may be those of what it asks.
    bounds: Option<Bounds>,
}

impl Batches {
    /// The answer to a statement of our own, or to a named query with these bounds.
    pub(crate) fn new(cursor: BytesCursor, work: Work, bounds: Option<Bounds>) -> Self {
        let (decoder, left, last) = (StreamDecoder::new(), Buffer::from(Bytes::new()), [0; END.len()]);
        Self { cursor, work, decoder, left, ready: None, last, bounds }
    }

    /// The columns, which come before the rows.
    pub(crate) async fn schema(&mut self) -> Result<SchemaRef> {
        while self.decoder.schema().is_none() && self.ready.is_none() {
            self.ready = self.decode()?;
            if self.decoder.schema().is_none() && !self.more().await? {
                return Err(garbled(&self.work, "it has no columns"));
            }
        }
        self.decoder.schema().ok_or_else(|| garbled(&self.work, "it has rows before its columns"))
    }

    /// The next rows; `None` at the end, which only a whole stream has.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>> {
        if let Some(batch) = self.ready.take() {
            return Ok(Some(batch));
        }
        loop {
            if let Some(batch) = self.decode()? {
                return Ok(Some(batch));
            }
            if !self.more().await? {
                self.decoder.finish().map_err(|e| garbled(&self.work, e))?;
                if self.last != END {
                    return Err(garbled(&self.work, "its end is missing"));
                }
                return Ok(None);
            }
        }
    }

    /// A batch of what has come, or `None` when all of that is used up.
    fn decode(&mut self) -> Result<Option<RecordBatch>> {
        self.decoder.decode(&mut self.left).map_err(|e| garbled(&self.work, e))
    }

    /// Waits for more bytes; false when there are none.
    async fn more(&mut self) -> Result<bool> {
        loop {
            let next = self.cursor.next().await.map_err(|e| match self.bounds {
                Some(bounds) => of_query(e, &self.work, bounds),
                None => failed(e, &self.work),
            });
            let Some(bytes) = next? else { return Ok(false) };
            if bytes.is_empty() {
                continue;
            }
            let kept = bytes.len().min(END.len());
            self.last.rotate_left(kept);
            self.last[END.len() - kept..].copy_from_slice(&bytes[bytes.len() - kept..]);
            self.left = Buffer::from(bytes);
            return Ok(true);
        }
    }
}

/// The columns of an answer: the types of the engine as those that every engine answers with.
pub(crate) fn answer_schema(of: &Schema) -> Result<SchemaRef> {
    let mut fields = Vec::with_capacity(of.fields().len());
    for field in of.fields() {
        let data_type = match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
            t if t.is_integer() => DataType::Int64,
            t if t.is_floating() => DataType::Float64,
            DataType::Boolean => DataType::Boolean,
            DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
            DataType::Date32 => DataType::Date32,
            other => {
                let message = format!("column {} has type {other}, which no answer may have", field.name());
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
        };
        fields.push(Field::new(field.name(), data_type, field.is_nullable()));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The same rows with the columns of `schema`, of which there may be fewer.
pub(crate) fn convert(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    // A number that does not fit is an error, not a null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast_with_options(column, field.data_type(), &options));
    let made = columns.collect::<std::result::Result<_, _>>().and_then(|columns| {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(schema.clone(), columns, &options)
    });
    made.map_err(|e| {
        Error::with_source(ErrorKind::Corrupt, "the answer of ClickHouse has other columns than it should", e)
    })
}
