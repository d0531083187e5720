//! Every row of a table, file by file.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use futures::StreamExt;
use millrace_warehouse::tables::DATE_COLUMN;
use millrace_warehouse::{Answer, Error, ErrorKind, Result, Table};
use object_store::ObjectStoreExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::files::ActiveFile;
use crate::table::DeltaTable;

/// How many rows a batch has at most.
const BATCH_ROWS: usize = 8_192;
/// How many batches wait for a slow reader.
const BATCHES_AHEAD: usize = 1;

/// The rows of all files of now. One file at a time is in memory, on a thread of its own that ends with the answer.
pub(crate) fn scan(table: &Arc<DeltaTable>, columns: &[&str]) -> Result<Answer> {
    let all = table.table.schema();
    let fields = columns.iter().map(|name| {
        let field = all.field_with_name(name);
        field
            .cloned()
            .map_err(|e| Error::with_source(ErrorKind::Invalid, format!("{} has no column {name}", table.table), e))
    });
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
    let (send, receive) = mpsc::channel(BATCHES_AHEAD);
    let (table, files, read) = (table.clone(), table.files(), schema.clone());
    let handle = Handle::current();
    let reader = tokio::task::spawn_blocking(move || {
        for file in files.iter() {
            let sent =
                handle.block_on(bytes(&table, file)).and_then(|bytes| rows(table.table, file, bytes, &read, &send));
            match sent {
                Ok(true) => {}
                Ok(false) => return,
                Err(e) => return drop(send.blocking_send(Err(e))),
            }
        }
    });
    // Whoever sees the end of the rows must know that it is not the end of a thread that panicked.
    let rows = futures::stream::unfold((receive, Some(reader)), |(mut receive, reader)| async move {
        if let Some(batch) = receive.recv().await {
            return Some((batch, (receive, reader)));
        }
        let error = reader?.await.err()?;
        let error = Error::with_source(ErrorKind::Retry, "interrupted scan of the warehouse", error);
        Some((Err(error), (receive, None)))
    });
    Ok(Answer { schema, rows: rows.boxed() })
}

async fn bytes(table: &DeltaTable, file: &ActiveFile) -> Result<bytes::Bytes> {
    let failed = |e| table.error(&format!("read {} of", file.path), e);
    table.store.get(&file.location).await.map_err(failed)?.bytes().await.map_err(failed)
}

/// Sends the rows of a file; false when nobody wants them any more.
fn rows(
    table: Table,
    file: &ActiveFile,
    bytes: bytes::Bytes,
    schema: &SchemaRef,
    send: &mpsc::Sender<Result<RecordBatch>>,
) -> Result<bool> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::with_source(ErrorKind::Corrupt, format!("cannot read {} of {table}", file.path), e)
    };
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| failed(e.into()))?;
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let mask = ProjectionMask::columns(builder.parquet_schema(), names);
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(|e| failed(e.into()))?;
    for batch in reader {
        let batch = batch.and_then(|batch| shaped(&batch, file.date, schema)).map_err(|e| failed(e.into()))?;
        if send.blocking_send(Ok(batch)).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The columns in the order asked for, with the date.
fn shaped(batch: &RecordBatch, date: i32, schema: &SchemaRef) -> arrow::error::Result<RecordBatch> {
    let found = batch.schema();
    let column = |name: &str| -> arrow::error::Result<ArrayRef> {
        if name == DATE_COLUMN {
            return Ok(Arc::new(Date32Array::from_value(date, batch.num_rows())));
        }
        Ok(batch.column(found.index_of(name)?).clone())
    };
    let columns = schema.fields().iter().map(|field| column(field.name())).collect::<arrow::error::Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}
