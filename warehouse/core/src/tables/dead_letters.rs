//! `dead_letters`: one row for each dead letter. Its payload stays in the log: `millrace dlq show`.

use super::columns::{Bool, Column, Date, Int, Long, Text, Time, table, value};

table! {
    /// One refusal.
    DeadLetterRow<'a> => DeadLettersBuilder {
        /// Its id; the same refusal repeated after a crash has the same one.
        id: Text,
        /// A stable code.
        reason: Text,
        /// What to do about it.
        detail: Text,
        /// The name of the write key.
        source: Text,
        /// `collector` or the name of a job.
        refused_by: Text,
        /// When it was refused.
        log_time: Time,
        (event_date of log_time)
        /// How large the refused record is here, bytes.
        payload_bytes: Long,
        /// The record was larger.
        truncated: Bool,
        /// Where the letter stands in the log.
        topic: Text,
        /// See `topic`.
        partition: Int,
        /// See `topic`.
        offset: Long,
    }
}
