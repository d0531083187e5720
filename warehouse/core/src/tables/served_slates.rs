//! `served_slates`: one row for each candidate of a recorded slate.

use super::columns::{Column, Date, Double, Int, Long, OrNull, Text, Time, table, value};

table! {
    /// One candidate.
    ServedSlateRow<'a> => ServedSlatesBuilder {
        /// The name of the ranked list; its pages share it.
        slate: Text,
        /// For whom.
        viewer_id: Text,
        /// Log time of the record.
        served_at: Time,
        (event_date of served_at)
        /// Up to when what it was ranked from was complete.
        as_of: OrNull<Time>,
        /// What scored it.
        model: Text,
        /// Its version.
        model_version: Text,
        /// Each recorded slate stands for 1 / sample_rate.
        sample_rate: Double,
        /// Its place in the whole list, from 0; null when it was not served.
        position: OrNull<Int>,
        /// The post.
        post_id: Text,
        /// Who wrote it.
        author_id: Text,
        /// The source that brought it.
        reason: Text,
        /// The blended score.
        score: OrNull<Double>,
        /// A part of the score.
        recency: OrNull<Double>,
        /// A part of the score.
        affinity: OrNull<Double>,
        /// A part of the score.
        engagement: OrNull<Double>,
        /// What author diversity multiplied the score with.
        diversity: OrNull<Double>,
        /// The filter that removed it.
        filter: OrNull<Text>,
        /// Where the slate stands in the log.
        topic: Text,
        /// See `topic`.
        partition: Int,
        /// See `topic`.
        offset: Long,
        /// Which candidate of its record, from 0.
        index: Int,
    }
}
