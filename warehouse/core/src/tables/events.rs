//! `events`: one row for each action that stage 1 let through.

use std::sync::{Arc, OnceLock};

use arrow_array::RecordBatch;
use arrow_array::builder::{Date32Builder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_schema::{Schema, SchemaRef};

use super::columns::{TEXT_BYTES, date, int, long, signed, small, text, text_or_null, time, times};
use super::{DATE_COLUMN, date_of};

/// One action. Times are microseconds since 1970, UTC.
#[derive(Clone, Copy, Debug)]
pub struct EventRow<'a> {
    /// The client's id of the event, or the one that the server minted.
    pub message_id: &'a str,
    /// The name of the write key.
    pub source: &'a str,
    /// The folded name.
    pub event: &'a str,
    /// `user_id`, else `anonymous_id`.
    pub actor_id: &'a str,
    /// As sent.
    pub user_id: Option<&'a str>,
    /// As sent.
    pub anonymous_id: Option<&'a str>,
    /// The post acted on.
    pub post_id: Option<&'a str>,
    /// The user acted on.
    pub target_id: Option<&'a str>,
    /// The tag acted on.
    pub tag: Option<&'a str>,
    /// The slate in which the post was served.
    pub slate: Option<&'a str>,
    /// When it happened, by the client's corrected clock.
    pub event_time: i64,
    /// Log time: when it was appended. Above `event_time` by more than the allowed lateness: late.
    pub ingest_time: i64,
    /// `properties` as sent, a JSON object; for `identify` and `group` the traits.
    pub properties: &'a str,
    /// `context` as sent, a JSON object.
    pub context: &'a str,
    /// Where it stands in the log.
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
            text("message_id"),
            text("source"),
            text("event"),
            text("actor_id"),
            text_or_null("user_id"),
            text_or_null("anonymous_id"),
            text_or_null("post_id"),
            text_or_null("target_id"),
            text_or_null("tag"),
            text_or_null("slate"),
            time("event_time"),
            time("ingest_time"),
            date(DATE_COLUMN),
            text("properties"),
            text("context"),
            text("topic"),
            int("partition"),
            long("offset"),
        ]))
    };
    SCHEMA.get_or_init(make).clone()
}

/// Turns rows into columns.
pub struct EventsBuilder {
    rows: usize,
    message_id: StringBuilder,
    source: StringBuilder,
    event: StringBuilder,
    actor_id: StringBuilder,
    user_id: StringBuilder,
    anonymous_id: StringBuilder,
    post_id: StringBuilder,
    target_id: StringBuilder,
    tag: StringBuilder,
    slate: StringBuilder,
    event_time: TimestampMicrosecondBuilder,
    ingest_time: TimestampMicrosecondBuilder,
    event_date: Date32Builder,
    properties: StringBuilder,
    context: StringBuilder,
    topic: StringBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
}

impl EventsBuilder {
    /// With room for `rows` rows.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            rows: 0,
            message_id: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            source: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            event: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            actor_id: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            user_id: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            anonymous_id: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            post_id: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            target_id: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            tag: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            slate: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            event_time: times(rows),
            ingest_time: times(rows),
            event_date: Date32Builder::with_capacity(rows),
            properties: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            context: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
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
    pub fn push(&mut self, row: EventRow<'_>) {
        self.rows += 1;
        self.message_id.append_value(row.message_id);
        self.source.append_value(row.source);
        self.event.append_value(row.event);
        self.actor_id.append_value(row.actor_id);
        self.user_id.append_option(row.user_id);
        self.anonymous_id.append_option(row.anonymous_id);
        self.post_id.append_option(row.post_id);
        self.target_id.append_option(row.target_id);
        self.tag.append_option(row.tag);
        self.slate.append_option(row.slate);
        self.event_time.append_value(row.event_time);
        self.ingest_time.append_value(row.ingest_time);
        self.event_date.append_value(date_of(row.event_time));
        self.properties.append_value(row.properties);
        self.context.append_value(row.context);
        self.topic.append_value(row.topic);
        self.partition.append_value(small(row.partition));
        self.offset.append_value(signed(row.offset));
    }

    /// The rows so far; the builder is empty afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        self.rows = 0;
        let columns: Vec<arrow_array::ArrayRef> = vec![
            Arc::new(self.message_id.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.event.finish()),
            Arc::new(self.actor_id.finish()),
            Arc::new(self.user_id.finish()),
            Arc::new(self.anonymous_id.finish()),
            Arc::new(self.post_id.finish()),
            Arc::new(self.target_id.finish()),
            Arc::new(self.tag.finish()),
            Arc::new(self.slate.finish()),
            Arc::new(self.event_time.finish()),
            Arc::new(self.ingest_time.finish()),
            Arc::new(self.event_date.finish()),
            Arc::new(self.properties.finish()),
            Arc::new(self.context.finish()),
            Arc::new(self.topic.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
        ];
        RecordBatch::try_new(schema(), columns)
            .expect("columns are built to the schema above, each row adds one to each")
    }
}
