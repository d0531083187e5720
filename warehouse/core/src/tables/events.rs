//! `events`: one row for each action that stage 1 let through.

use super::columns::{Bool, Column, Date, Int, Long, OrNull, Text, Time, table, value};

table! {
    /// One action. Times are microseconds since 1970, UTC.
    EventRow<'a> => EventsBuilder {
        /// The client's id of the event, or the one that the server minted.
        message_id: Text,
        /// The name of the write key.
        source: Text,
        /// The folded name.
        event: Text,
        /// `user_id`, else `anonymous_id`.
        actor_id: Text,
        /// As sent.
        user_id: OrNull<Text>,
        /// As sent.
        anonymous_id: OrNull<Text>,
        /// The post acted on.
        post_id: OrNull<Text>,
        /// The user acted on.
        target_id: OrNull<Text>,
        /// The tag acted on.
        tag: OrNull<Text>,
        /// The slate in which the post was served.
        slate: OrNull<Text>,
        /// When it happened, by the client's corrected clock.
        event_time: Time,
        /// Log time: when it was appended. Above `event_time` by more than the allowed lateness: late.
        ingest_time: Time,
        (event_date of event_time)
        /// `properties` as sent, a JSON object; for `identify` and `group` the traits.
        properties: Text,
        /// `context` as sent, a JSON object.
        context: Text,
        /// Where it stands in the log.
        topic: Text,
        /// See `topic`.
        partition: Int,
        /// See `topic`.
        offset: Long,
        /// No person did it, by the door's mark or by the rate of its actor.
        robot: Bool,
        /// How it departs from its tracking plan: a place and a rule.
        violation: OrNull<Text>,
    }
}
