//! Named queries: SQL with typed parameters, one file each.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::stream::BoxStream;

use crate::Result;

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamType {
    /// Text.
    Text,
    /// A time: RFC 3339, or a date.
    Timestamp,
    /// A whole number.
    Integer,
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
    /// Used when it is not given; `None`: it must be given.
    pub default: Option<Value>,
    /// The only values it may have; empty: any of its type.
    pub one_of: Vec<String>,
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
    /// What it answers, in a sentence.
    pub doc: String,
    /// Its parameters, in order.
    pub params: Vec<Param>,
    /// The SQL, with `$name` for each parameter.
    pub sql: String,
}

/// What a query answers: columns, then rows as they are computed. Dropping it cancels the query.
pub struct Answer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub rows: BoxStream<'static, Result<RecordBatch>>,
}

/// Every named query, by name.
pub fn named_queries() -> &'static BTreeMap<String, NamedQuery> {
    static QUERIES: std::sync::OnceLock<BTreeMap<String, NamedQuery>> = std::sync::OnceLock::new();
    QUERIES.get_or_init(BTreeMap::new)
}
