mod columns;
mod dead_letters;
mod engagement_windows;
mod events;
mod identities;
mod served_slates;

use std::fmt;

use arrow_schema::SchemaRef;

pub use dead_letters::{DeadLetterRow, DeadLettersBuilder};
pub use engagement_windows::{EngagementWindowRow, EngagementWindowsBuilder};
pub use events::{EventRow, EventsBuilder};
pub use identities::{IdentitiesBuilder, IdentityRow};
pub use served_slates::{ServedSlateRow, ServedSlatesBuilder};

/// The name of the partition column of every table: the UTC date of its time column.
pub const DATE_COLUMN: &str = "event_date";

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// One row for each action that stage 1 let through.
    Events,
    /// One row for each closed window of a post.
    EngagementWindows,
    /// One row for each time that an id turned out to belong to another, or to one of earlier.
    Identities,
    /// One row for each candidate of a recorded slate.
    ServedSlates,
    /// One row for each dead letter. A refusal by a job that was repeated after a crash has the same id.
    DeadLetters,
}

impl Table {
    /// Every table.
    pub const ALL: [Table; 5] =
        [Table::Events, Table::EngagementWindows, Table::Identities, Table::ServedSlates, Table::DeadLetters];

    /// Its name, in SQL and on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Events => "events",
            Table::EngagementWindows => "engagement_windows",
            Table::Identities => "identities",
            Table::ServedSlates => "served_slates",
            Table::DeadLetters => "dead_letters",
        }
    }

    /// Its columns.
    pub fn schema(self) -> SchemaRef {
        match self {
            Table::Events => events::schema(),
            Table::EngagementWindows => engagement_windows::schema(),
            Table::Identities => identities::schema(),
            Table::ServedSlates => served_slates::schema(),
            Table::DeadLetters => dead_letters::schema(),
        }
    }

    /// The columns by which rows of a merged file are sorted: what stands together compresses and prunes.
    pub const fn sort_columns(self) -> &'static [&'static str] {
        match self {
            Table::Events => &["event", "event_time", "partition", "offset"],
            Table::EngagementWindows => &["window", "window_start", "post_id", "partition", "offset", "index"],
            Table::Identities => &["alias_id", "linked_at", "partition", "offset"],
            Table::ServedSlates => &["served_at", "slate", "partition", "offset", "index"],
            Table::DeadLetters => &["log_time", "partition", "offset"],
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The UTC day of a time in microseconds, as days since 1970.
pub fn date_of(time_us: i64) -> i32 {
    const DAY_US: i64 = 24 * 3_600 * 1_000_000;
    i32::try_from(time_us.div_euclid(DAY_US)).unwrap_or(if time_us < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
mod tests;
