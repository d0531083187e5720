//! `dead_letters`: one row for each dead letter. Its payload stays in the log: `millrace dlq show`.

use std::sync::{Arc, OnceLock};

use arrow_array::RecordBatch;
use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_schema::{Schema, SchemaRef};

use super::columns::{TEXT_BYTES, bool, date, int, long, signed, small, text, time, times};
use super::{DATE_COLUMN, date_of};

/// One refusal.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetterRow<'a> {
    /// Its id; the same refusal repeated after a crash has the same one.
    pub id: &'a str,
    /// A stable code.
    pub reason: &'a str,
    /// What to do about it.
    pub detail: &'a str,
    /// The name of the write key.
    pub source: &'a str,
    /// `collector` or the name of a job.
    pub refused_by: &'a str,
    /// When it was refused.
    pub log_time: i64,
    /// How large the refused record is here, bytes.
    pub payload_bytes: u64,
    /// The record was larger.
    pub truncated: bool,
    /// Where the letter stands in the log.
    pub topic: &'a str,
    /// See `topic`.
    pub partition: u32,
    /// See `topic`.
    pub offset: u64,
}

pub(super) fn schema() -> SchemaRef {
    static SCHEMA: OnceLock<SchemaRef> = OnceLock::new();
    let make = || {
        Arc::new(Schema::new(vec![
            text("id"),
            text("reason"),
            text("detail"),
            text("source"),
            text("refused_by"),
            time("log_time"),
            date(DATE_COLUMN),
            long("payload_bytes"),
            bool("truncated"),
            text("topic"),
            int("partition"),
            long("offset"),
        ]))
    };
    SCHEMA.get_or_init(make).clone()
}

/// Turns rows into columns.
pub struct DeadLettersBuilder {
    rows: usize,
    id: StringBuilder,
    reason: StringBuilder,
    detail: StringBuilder,
    source: StringBuilder,
    refused_by: StringBuilder,
    log_time: TimestampMicrosecondBuilder,
    event_date: Date32Builder,
    payload_bytes: Int64Builder,
    truncated: BooleanBuilder,
    topic: StringBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
}

impl DeadLettersBuilder {
    /// With room for `rows` rows.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            rows: 0,
            id: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            reason: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            detail: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            source: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            refused_by: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            log_time: times(rows),
            event_date: Date32Builder::with_capacity(rows),
            payload_bytes: Int64Builder::with_capacity(rows),
            truncated: BooleanBuilder::with_capacity(rows),
            topic: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            partition: Int32Builder::with_capacity(rows),
            offset: Int64Builder::with_capacity(rows),
        }
    }

    /// How many rows it holds.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a row.
    pub fn push(&mut self, row: DeadLetterRow<'_>) {
        self.rows += 1;
        self.id.append_value(row.id);
        self.reason.append_value(row.reason);
        self.detail.append_value(row.detail);
        self.source.append_value(row.source);
        self.refused_by.append_value(row.refused_by);
        self.log_time.append_value(row.log_time);
        self.event_date.append_value(date_of(row.log_time));
        self.payload_bytes.append_value(signed(row.payload_bytes));
        self.truncated.append_value(row.truncated);
        self.topic.append_value(row.topic);
        self.partition.append_value(small(row.partition));
        self.offset.append_value(signed(row.offset));
    }

    /// The rows so far; the builder is empty afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        self.rows = 0;
        let columns: Vec<arrow_array::ArrayRef> = vec![
            Arc::new(self.id.finish()),
            Arc::new(self.reason.finish()),
            Arc::new(self.detail.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.refused_by.finish()),
            Arc::new(self.log_time.finish()),
            Arc::new(self.event_date.finish()),
            Arc::new(self.payload_bytes.finish()),
            Arc::new(self.truncated.finish()),
            Arc::new(self.topic.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
        ];
        RecordBatch::try_new(schema(), columns)
            .expect("columns are built to the schema above, each row adds one to each")
    }
}
