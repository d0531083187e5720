//! `engagement_windows`: one row for each closed window of a post.

use std::sync::{Arc, OnceLock};

use arrow_array::RecordBatch;
use arrow_array::builder::{Date32Builder, Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_schema::{Schema, SchemaRef};

use super::columns::{TEXT_BYTES, date, int, long, signed, small, text, time, times};
use super::{DATE_COLUMN, date_of};

/// What a post drew within one window. Only events on time count; late ones do not reopen it.
#[derive(Clone, Copy, Debug)]
pub struct EngagementWindowRow<'a> {
    /// `5m`, `1h` or `24h`.
    pub window: &'a str,
    /// The first microsecond of the window.
    pub window_start: i64,
    /// One past the last.
    pub window_end: i64,
    /// The post.
    pub post_id: &'a str,
    /// Views, every one.
    pub views: u64,
    /// Clicks.
    pub clicks: u64,
    /// Likes that took effect: an actor who liked it already adds none.
    pub likes: u64,
    /// Likes that were taken back.
    pub unlikes: u64,
    /// Comments.
    pub comments: u64,
    /// Shares.
    pub shares: u64,
    /// Saves.
    pub saves: u64,
    /// Hides.
    pub hides: u64,
    /// Reports.
    pub reports: u64,
    /// The clock that closed it.
    pub closed_at: i64,
    /// The record that closed it: its topic.
    pub topic: &'a str,
    /// See `topic`.
    pub partition: u32,
    /// See `topic`.
    pub offset: u64,
    /// Which of the windows that this record closed, from 0.
    pub index: u32,
}

pub(super) fn schema() -> SchemaRef {
    static SCHEMA: OnceLock<SchemaRef> = OnceLock::new();
    let make = || {
        Arc::new(Schema::new(vec![
            text("window"),
            time("window_start"),
            time("window_end"),
            date(DATE_COLUMN),
            text("post_id"),
            long("views"),
            long("clicks"),
            long("likes"),
            long("unlikes"),
            long("comments"),
            long("shares"),
            long("saves"),
            long("hides"),
            long("reports"),
            time("closed_at"),
            text("topic"),
            int("partition"),
            long("offset"),
            int("index"),
        ]))
    };
    SCHEMA.get_or_init(make).clone()
}

/// Turns rows into columns.
pub struct EngagementWindowsBuilder {
    rows: usize,
    window: StringBuilder,
    window_start: TimestampMicrosecondBuilder,
    window_end: TimestampMicrosecondBuilder,
    event_date: Date32Builder,
    post_id: StringBuilder,
    views: Int64Builder,
    clicks: Int64Builder,
    likes: Int64Builder,
    unlikes: Int64Builder,
    comments: Int64Builder,
    shares: Int64Builder,
    saves: Int64Builder,
    hides: Int64Builder,
    reports: Int64Builder,
    closed_at: TimestampMicrosecondBuilder,
    topic: StringBuilder,
    partition: Int32Builder,
    offset: Int64Builder,
    index: Int32Builder,
}

impl EngagementWindowsBuilder {
    /// With room for `rows` rows.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            rows: 0,
            window: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            window_start: times(rows),
            window_end: times(rows),
            event_date: Date32Builder::with_capacity(rows),
            post_id: StringBuilder::with_capacity(rows, rows * TEXT_BYTES),
            views: Int64Builder::with_capacity(rows),
            clicks: Int64Builder::with_capacity(rows),
            likes: Int64Builder::with_capacity(rows),
            unlikes: Int64Builder::with_capacity(rows),
            comments: Int64Builder::with_capacity(rows),
            shares: Int64Builder::with_capacity(rows),
            saves: Int64Builder::with_capacity(rows),
            hides: Int64Builder::with_capacity(rows),
            reports: Int64Builder::with_capacity(rows),
            closed_at: times(rows),
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
    pub fn push(&mut self, row: EngagementWindowRow<'_>) {
        self.rows += 1;
        self.window.append_value(row.window);
        self.window_start.append_value(row.window_start);
        self.window_end.append_value(row.window_end);
        self.event_date.append_value(date_of(row.window_start));
        self.post_id.append_value(row.post_id);
        self.views.append_value(signed(row.views));
        self.clicks.append_value(signed(row.clicks));
        self.likes.append_value(signed(row.likes));
        self.unlikes.append_value(signed(row.unlikes));
        self.comments.append_value(signed(row.comments));
        self.shares.append_value(signed(row.shares));
        self.saves.append_value(signed(row.saves));
        self.hides.append_value(signed(row.hides));
        self.reports.append_value(signed(row.reports));
        self.closed_at.append_value(row.closed_at);
        self.topic.append_value(row.topic);
        self.partition.append_value(small(row.partition));
        self.offset.append_value(signed(row.offset));
        self.index.append_value(small(row.index));
    }

    /// The rows so far; the builder is empty afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        self.rows = 0;
        let columns: Vec<arrow_array::ArrayRef> = vec![
            Arc::new(self.window.finish()),
            Arc::new(self.window_start.finish()),
            Arc::new(self.window_end.finish()),
            Arc::new(self.event_date.finish()),
            Arc::new(self.post_id.finish()),
            Arc::new(self.views.finish()),
            Arc::new(self.clicks.finish()),
            Arc::new(self.likes.finish()),
            Arc::new(self.unlikes.finish()),
            Arc::new(self.comments.finish()),
            Arc::new(self.shares.finish()),
            Arc::new(self.saves.finish()),
            Arc::new(self.hides.finish()),
            Arc::new(self.reports.finish()),
            Arc::new(self.closed_at.finish()),
            Arc::new(self.topic.finish()),
            Arc::new(self.partition.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.index.finish()),
        ];
        RecordBatch::try_new(schema(), columns)
            .expect("columns are built to the schema above, each row adds one to each")
    }
}
