//! `identities`: whose an id is.

use super::columns::{Column, Date, Int, Long, Text, Time, table, value};

table! {
    /// An id that belongs to another. There is a row for each time that the job of identities learned of an earlier link than it
    /// knew, so the row of an id with the earliest `linked_at`, and of several such rows the last, is the one that counts.
    IdentityRow<'a> => IdentitiesBuilder {
        /// The id.
        alias_id: Text,
        /// Whose it is; that one may belong to another itself.
        person_id: Text,
        /// When the `identify` or `alias` happened that says so, by the client's corrected clock.
        linked_at: Time,
        (event_date of linked_at)
        /// Where it stands in the log: the topic.
        topic: Text,
        /// See `topic`.
        partition: Int,
        /// See `topic`.
        offset: Long,
    }
}
