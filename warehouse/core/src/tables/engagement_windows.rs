//! `engagement_windows`: one row for each closed window of a post.

use super::columns::{Column, Date, Int, Long, Text, Time, table, value};

table! {
    /// What a post drew within one window. Only events on time count; late ones do not reopen it.
    EngagementWindowRow<'a> => EngagementWindowsBuilder {
        /// `5m`, `1h` or `24h`.
        window: Text,
        /// The first microsecond of the window.
        window_start: Time,
        /// One past the last.
        window_end: Time,
        (event_date of window_start)
        /// The post.
        post_id: Text,
        /// Views, every one.
        views: Long,
        /// Clicks.
        clicks: Long,
        /// Likes that took effect: an actor who liked it already adds none.
        likes: Long,
        /// Likes that were taken back.
        unlikes: Long,
        /// Comments.
        comments: Long,
        /// Shares.
        shares: Long,
        /// Saves.
        saves: Long,
        /// Hides.
        hides: Long,
        /// Reports.
        reports: Long,
        /// The clock that closed it.
        closed_at: Time,
        /// The record that closed it: its topic.
        topic: Text,
        /// See `topic`.
        partition: Int,
        /// See `topic`.
        offset: Long,
        /// Which of the windows that this record closed, from 0.
        index: Int,
    }
}
