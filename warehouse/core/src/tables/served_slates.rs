//! `served_slates`: one row for each candidate of a recorded slate.

use std::sync::{Arc, OnceLock};

use arrow_array::RecordBatch;
use arrow_array::builder::{
    Date32Builder, Float64Builder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_schema::{Schema, SchemaRef};

use super::columns::{
    TEXT_BYTES, date, double, double_or_null, int, int_or_null, long, signed, small, text, text_or_null, time,
    time_or_null, times,
};
use super::{DATE_COLUMN, date_of};

/// One candidate.
#[derive(Clone, Copy, Debug)]
pub struct ServedSlateRow<'a> {
    /// The name of the ranked list; its pages share it.
    pub slate: &'a str,
    /// For whom.
    pub viewer_id: &'a str,
    /// Log time of the record.
    pub served_at: i64,
    /// Up to when what it was ranked from was complete.
    pub as_of: Option<i64>,
    /// What scored it.
    pub model: &'a str,
    /// Its version.
    pub model_version: &'a str,
    /// Each recorded slate stands for 1 / sample_rate.
    pub sample_rate: f64,
    /// Its place in the whole list, from 0; null when it was not served.
    pub position: Option<u32>,
    /// The post.
    pub post_id: &'a str,
    /// Who wrote it.
    pub author_id: &'a str,
    /// The source that brought it.
    pub reason: &'a str,
    /// The blended score.
    pub score: Option<f64>,
    /// A part of the score.
    pub recency: Option<f64>,
    /// A part of the score.
    pub affinity: Option<f64>,
    /// A part of the score.
    pub engagement: Option<f64>,
    /// What author diversity multiplied the score with.
    pub diversity: Option<f64>,
    /// The filter that removed it.
    pub filter: Option<&'a str>,
    /// Where the slate stands in the log.
    pub topic: &'a str,
    /// See `topic`.
    pub partition: u32,
    /// See `topic`.
    pub offset: u64,
    /// Which candidate of its record, from 0.
    pub index: u32,
}

pub(super) fn schema() -> SchemaRef {
    static SCHEMA: OnceLock<SchemaRef> = OnceLock::new();
    let make = || {
        Arc::new(Schema::new(vec![
            text("slate"),
            text("viewer_id"),
            time("served_at"),
            date(DATE_COLUMN),
            time_or_null("as_of"),
            text("model"),
            text("model_version"),
            double("sample_rate"),
            int_or_null("position"),
            text("post_id"),
            text("author_id"),
            text("reason"),
            double_or_null("score"),
            double_or_null("recency"),
            double_or_null("affinity"),
            double_or_null("engagement"),
            double_or_null("diversity"),
            text_or_null("filter"),
            text("topic"),
            int("partition"),
            long("offset"),
            int("index"),
        ]))
    };
    SCHEMA.get_or_init(make).clone()
}

/// Turns rows into columns.
pub struct ServedSlatesBuilder {
    rows: usize,
    slate: StringBuilder,
    viewer_id: StringBuilder,
    served_at: TimestampMicrosecondBuilder,
    event_date: Date32Builder,
    as_of: TimestampMicrosecondBuilder,
    model: StringBuilder,
    model_version: StringBuilder,
    sample_rate: Float64Builder,
    position: Int32Builder,
    post_id: StringBuilder,
    author_id: StringBuilder,
    reason: StringBuilder,
    score: Float64Builder,
    recency: Float64Builder,
    affinity: Float64Builder,
    engagement: Float64Builder,
    diversity: Float64Builder,
    filter: StringBuilder,
    topic: StringBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
    index: Int32Builder,
}

impl ServedSlatesBuilder {
    /// With room for `rows` rows.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            rows: 0,
            slate: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            viewer_id: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            served_at: times(rows),
            event_date: Date32Builder::with_capacity(rows),
            as_of: times(rows),
            model: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            model_version: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            sample_rate: Float64Builder::with_capacity(rows),
            position: Int32Builder::with_capacity(rows),
            post_id: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            author_id: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            reason: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            score: Float64Builder::with_capacity(rows),
            recency: Float64Builder::with_capacity(rows),
            affinity: Float64Builder::with_capacity(rows),
            engagement: Float64Builder::with_capacity(rows),
            diversity: Float64Builder::with_capacity(rows),
            filter: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            topic: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            partition: Int32Builder::with_capacity(rows),
            offset: Int64Builder::with_capacity(rows),
            index: Int32Builder::with_capacity(rows),
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
    pub fn push(&mut self, row: ServedSlateRow<'_>) {
        self.rows += 1;
        self.slate.append_value(row.slate);
        self.viewer_id.append_value(row.viewer_id);
        self.served_at.append_value(row.served_at);
        self.event_date.append_value(date_of(row.served_at));
        self.as_of.append_option(row.as_of);
        self.model.append_value(row.model);
        self.model_version.append_value(row.model_version);
        self.sample_rate.append_value(row.sample_rate);
        self.position.append_option(row.position.map(small));
        self.post_id.append_value(row.post_id);
        self.author_id.append_value(row.author_id);
        self.reason.append_value(row.reason);
        self.score.append_option(row.score);
        self.recency.append_option(row.recency);
        self.affinity.append_option(row.affinity);
        self.engagement.append_option(row.engagement);
        self.diversity.append_option(row.diversity);
        self.filter.append_option(row.filter);
        self.topic.append_value(row.topic);
        self.partition.append_value(small(row.partition));
        self.offset.append_value(signed(row.offset));
        self.index.append_value(small(row.index));
    }

    /// The rows so far; the builder is empty afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        self.rows = 0;
        let columns: Vec<arrow_array::ArrayRef> = vec![
            Arc::new(self.slate.finish()),
            Arc::new(self.viewer_id.finish()),
            Arc::new(self.served_at.finish()),
            Arc::new(self.event_date.finish()),
            Arc::new(self.as_of.finish()),
            Arc::new(self.model.finish()),
            Arc::new(self.model_version.finish()),
            Arc::new(self.sample_rate.finish()),
            Arc::new(self.position.finish()),
            Arc::new(self.post_id.finish()),
            Arc::new(self.author_id.finish()),
            Arc::new(self.reason.finish()),
            Arc::new(self.score.finish()),
            Arc::new(self.recency.finish()),
            Arc::new(self.affinity.finish()),
            Arc::new(self.engagement.finish()),
            Arc::new(self.diversity.finish()),
            Arc::new(self.filter.finish()),
            Arc::new(self.topic.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.index.finish()),
        ];
        RecordBatch::try_new(schema(), columns)
            .expect("columns are built to the schema above, each row adds one to each")
    }
}
