//! From batches of the engine to an answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::{DataFusionError, exec_err};
use futures::{Stream, StreamExt as _};
use millrace_warehouse::{Answer, Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};

/// The work of a query. Dropped, the work stops.
struct Task(JoinHandle<Result<()>>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Task {
    /// How it ended.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.0).poll(cx).map(|joined| joined.unwrap_or_else(|e| Err(lost(e))))
    }
}

fn lost(error: JoinError) -> Error {
    if error.is_panic() {
        return Error::with_source(ErrorKind::Corrupt, "the query failed; this is a defect", error);
    }
    Error::with_source(ErrorKind::Retry, "the query was stopped because the warehouse was closed", error)
}

/// Waits for the columns, then answers with the rows to come.
pub(super) async fn receive(
    task: JoinHandle<Result<()>>,
    schema: oneshot::Receiver<SchemaRef>,
    rows: mpsc::Receiver<RecordBatch>,
) -> Result<Answer> {
    let mut task = Task(task);
    match schema.await {
        Ok(schema) => Ok(Answer { schema, rows: Batches { task: Some(task), rows }.boxed() }),
        // It ended before it knew its columns, so with an error.
        Err(_) => match std::future::poll_fn(|cx| task.poll_end(cx)).await {
            Err(error) => Err(error),
            Ok(()) => Err(Error::new(ErrorKind::Corrupt, "the query ended without an answer; this is a defect")),
        },
    }
}

struct Batches {
    /// `None` after its end was told.
    task: Option<Task>,
    rows: mpsc::Receiver<RecordBatch>,
}

impl Stream for Batches {
    type Item = Result<RecordBatch>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(batch) = ready!(this.rows.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(batch)));
        }
        // The rows ended. Only the task knows whether they were all.
        let Some(task) = &mut this.task else { return Poll::Ready(None) };
        let end = ready!(task.poll_end(cx));
        this.task = None;
        Poll::Ready(end.err().map(Err))
    }
}

/// The columns of an answer: the types of the engine as those that every engine answers with.
pub(super) fn schema(of: &Schema) -> std::result::Result<SchemaRef, DataFusionError> {
    let mut fields = Vec::with_capacity(of.fields().len());
    for field in of.fields() {
        let data_type = match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
            t if t.is_integer() => DataType::Int64,
            t if t.is_floating() => DataType::Float64,
            DataType::Boolean => DataType::Boolean,
            DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
            DataType::Date32 => DataType::Date32,
            other => return exec_err!("column {} has type {other}, which no answer may have", field.name()),
        };
        fields.push(Field::new(field.name(), data_type, field.is_nullable()));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The same rows with the columns of `schema`.
pub(super) fn convert(batch: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, DataFusionError> {
    // A number that does not fit is an error, not a null.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast_with_options(column, field.data_type(), &options));
    Ok(RecordBatch::try_new(schema.clone(), columns.collect::<std::result::Result<_, _>>()?)?)
}
