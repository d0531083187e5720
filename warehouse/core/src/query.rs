//! Named queries: SQL with typed parameters, one file each under `queries/<subject>/`.
//!
//! A file begins with comments that say what it answers and what its parameters are; see [`NamedQuery::parse`].
//! Parameters reach an engine as values, never as text of the SQL, so that no caller can change what a query does.

mod bind;
#[cfg(feature = "testing")]
pub mod goldens;
mod header;
mod rows;
#[cfg(feature = "testing")]
pub mod sample;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::stream::BoxStream;

use crate::Result;

pub use bind::TEXT_PARAM_BYTES_MAX;
pub use rows::{ColumnType, Rows};

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamType {
    /// Text of at most [`TEXT_PARAM_BYTES_MAX`] bytes.
    Text,
    /// A time: RFC 3339, or a date, which is its midnight in UTC.
    Timestamp,
    /// A whole number.
    Integer,
}

impl ParamType {
    /// Its name, in the header of a file and in the list of queries.
    pub const fn as_str(self) -> &'static str {
        match self {
            ParamType::Text => "text",
            ParamType::Timestamp => "timestamp",
            ParamType::Integer => "integer",
        }
    }
}

impl fmt::Display for ParamType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A parameter of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name, as in the URL and as `$name` in the SQL.
    pub name: String,
    /// Its type.
    pub kind: ParamType,
    /// What it says, for people.
    pub doc: String,
    /// Used when it is not given; `None`: it must be given. [`Value::Null`] where it may be left out.
    pub default: Option<Value>,
    /// The only values it may have; empty: any of its type.
    pub one_of: Vec<String>,
    /// The least and the greatest value of an integer.
    pub range: Option<(i64, i64)>,
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// No value.
    Null,
    /// Text.
    Text(String),
    /// Microseconds since 1970, UTC.
    Timestamp(i64),
    /// A whole number.
    Integer(i64),
}

/// Values by the names of the parameters, complete and checked: see [`NamedQuery::bind`].
pub type Params = BTreeMap<String, Value>;

/// A query that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedQuery {
    /// Its name.
    pub name: String,
    /// What it answers, for people.
    pub doc: String,
    /// Its parameters, in order.
    pub params: Vec<Param>,
    /// The SQL, with `$name` for each parameter.
    pub sql: String,
}

/// What a query answers: columns, then rows as they are computed. Dropping it cancels the query.
///
/// Every column of a named query is of a type that [`ColumnType`] knows, whatever engine computed it.
pub struct Answer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub rows: BoxStream<'static, Result<RecordBatch>>,
}

/// The files: name, then text.
const FILES: &[(&str, &str)] = &[
    ("actions_per_user_histogram", include_str!("../queries/users/actions_per_user_histogram.sql")),
    ("active_users", include_str!("../queries/users/active_users.sql")),
    ("closed_windows", include_str!("../queries/posts/closed_windows.sql")),
    ("dead_letters_by_reason", include_str!("../queries/events/dead_letters_by_reason.sql")),
    ("events_by_hour", include_str!("../queries/events/events_by_hour.sql")),
    ("events_by_name", include_str!("../queries/events/events_by_name.sql")),
    ("events_of_person", include_str!("../queries/users/events_of_person.sql")),
    ("follower_growth", include_str!("../queries/users/follower_growth.sql")),
    ("hourly_rate_by_action", include_str!("../queries/events/hourly_rate_by_action.sql")),
    ("late_events", include_str!("../queries/events/late_events.sql")),
    ("person_ids", include_str!("../queries/users/person_ids.sql")),
    ("post_reach", include_str!("../queries/posts/post_reach.sql")),
    ("robot_actors", include_str!("../queries/users/robot_actors.sql")),
    ("slate_funnel", include_str!("../queries/feeds/slate_funnel.sql")),
    ("tag_activity_by_hour", include_str!("../queries/tags/tag_activity_by_hour.sql")),
    ("top_posts", include_str!("../queries/posts/top_posts.sql")),
    ("violations_by_event", include_str!("../queries/events/violations_by_event.sql")),
];

/// What one engine cannot read as it stands, in its own words: name, engine, then text. `queries/<subject>/<name>.<engine>.sql`
/// begins with a comment that says why; its parameters and columns are those of the query.
const DIALECTS: &[(&str, &str, &str)] =
    &[("tag_activity_by_hour", "clickhouse", include_str!("../queries/tags/tag_activity_by_hour.clickhouse.sql"))];

impl NamedQuery {
    /// The SQL for an engine: that of its own file where there is one, else the common one.
    pub fn sql_in(&self, engine: &str) -> &str {
        let is_ours = named_queries().get(&self.name).is_some_and(|query| query.sql == self.sql);
        let own = DIALECTS.iter().find(|(name, of, _)| is_ours && *name == self.name && *of == engine);
        own.map_or(&self.sql, |(_, _, text)| header::statement(text))
    }
}

/// Every named query, by name.
pub fn named_queries() -> &'static BTreeMap<String, NamedQuery> {
    static QUERIES: OnceLock<BTreeMap<String, NamedQuery>> = OnceLock::new();
    let parse = |(name, text): &(&str, &str)| {
        let query = NamedQuery::parse(name, text).expect("every file parses: a test reads each of them");
        ((*name).to_owned(), query)
    };
    QUERIES.get_or_init(|| FILES.iter().map(parse).collect())
}

#[cfg(test)]
mod tests;
