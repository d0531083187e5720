//! Named queries over the warehouse.

mod encode;

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use millrace_events::LogTime;
use millrace_warehouse::{Answer, ColumnType, NamedQuery, Param, Params, Rows, Value, named_queries};
use serde::Serialize;
use utoipa::ToSchema;

use super::query::{Id, Params as Sent};
use super::typed;
use crate::api::Shared;
use crate::error::{ApiError, Problem};
use encode::{Encoder, Format};

/// The most rows of a JSON answer, which is held in memory until it is complete. The other formats are streams.
pub const JSON_ROWS_MAX: usize = 100_000;
/// The most bytes of a JSON answer.
pub const JSON_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The header of a streamed answer that says up to which log time it is complete; absent before anything was archived.
pub const AS_OF: &str = "x-millrace-as-of";

/// Answers named queries. Implemented where the warehouse and its progress are known: in the binary.
#[async_trait]
pub trait Queries: Send + Sync + 'static {
    /// Runs a query with parameters that it has bound. Dropping the answer cancels it.
    ///
    /// # Errors
    /// As [`millrace_warehouse::Warehouse::query`].
    async fn query(&self, query: &NamedQuery, params: &Params) -> millrace_warehouse::Result<Answer>;

    /// Every action up to this log time is visible to a query that begins now; `None` before the first. Asked before
    /// the query begins, so that an answer never claims more than it has.
    fn as_of(&self) -> Option<LogTime>;
}

/// The named queries.
#[derive(Serialize, ToSchema)]
pub(crate) struct QueryList {
    queries: Vec<QueryEntry>,
}

/// One named query.
#[derive(Serialize, ToSchema)]
pub(crate) struct QueryEntry {
    name: &'static str,
    /// What it answers.
    doc: &'static str,
    /// What it takes, in the query string.
    params: Vec<QueryParam>,
}

/// A parameter of a named query.
#[derive(Serialize, ToSchema)]
pub(crate) struct QueryParam {
    name: &'static str,
    /// `text`, `timestamp` (RFC 3339 or a date) or `integer`.
    r#type: &'static str,
    /// What it says.
    doc: &'static str,
    required: bool,
    /// What it is when it is not sent: text, a number, or null for nothing.
    default: serde_json::Value,
    /// The only values it may have.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    #[schema(required = false)]
    one_of: &'static [String],
    /// The least that it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    minimum: Option<i64>,
    /// The most that it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    maximum: Option<i64>,
}

/// The answer to a named query.
#[derive(ToSchema)]
#[expect(dead_code, reason = "documents what is written as it is read, without a tree in between")]
pub(crate) struct QueryAnswer {
    name: String,
    columns: Vec<QueryColumn>,
    /// Each has one value for each column.
    rows: Vec<Vec<serde_json::Value>>,
    /// The log time up to which this answer is complete; null before anything was archived.
    as_of: Option<String>,
}

/// A column of an answer.
#[derive(Serialize, ToSchema)]
pub(crate) struct QueryColumn {
    name: String,
    /// `string`, `long`, `double`, `boolean`, `timestamp` (RFC 3339) or `date`.
    r#type: &'static str,
}

/// The named queries with their parameters.
#[utoipa::path(get, path = "/v1/queries", tag = "queries", responses(
    (status = 200, body = QueryList), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn list() -> Json<QueryList> {
    let entry = |query: &'static NamedQuery| QueryEntry {
        name: &query.name,
        doc: &query.doc,
        params: query.params.iter().map(param).collect(),
    };
    Json(QueryList { queries: named_queries().values().map(entry).collect() })
}

fn param(param: &'static Param) -> QueryParam {
    let default = match &param.default {
        None | Some(Value::Null) => serde_json::Value::Null,
        Some(Value::Text(text)) => text.as_str().into(),
        Some(Value::Integer(n)) => (*n).into(),
        Some(Value::Timestamp(us)) => LogTime(*us).to_string().into(),
    };
    QueryParam {
        name: &param.name,
        r#type: param.kind.as_str(),
        doc: &param.doc,
        required: param.default.is_none(),
        default,
        one_of: &param.one_of,
        minimum: param.range.map(|(least, _)| least),
        maximum: param.range.map(|(_, greatest)| greatest),
    }
}

/// Runs a named query. Its own parameters, listed under `/v1/queries`, are sent in the query string too.
///
/// JSON is answered when it is complete and is bounded; the other formats are streams, whose log time is in the header
/// `x-millrace-as-of`, and end early, without a proper end, when the query fails on the way. 422 says that the query,
/// or its answer as JSON, is larger than may be: ask for less, such as a shorter time.
#[utoipa::path(get, path = "/v1/queries/{name}", tag = "queries",
    params(
        ("name" = String, Path, description = "Its name, see /v1/queries"),
        ("format" = inline(Option<Format>), Query, description = "How to answer; json when absent"),
    ), responses(
    (status = 200, content(
        (QueryAnswer = "application/json"), (String = "text/csv"), (String = "application/x-ndjson"),
        (Vec<u8> = "application/vnd.apache.arrow.stream"),
    )),
    (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn run(
    State(shared): State<Arc<Shared>>,
    Id(name): Id,
    Sent(sent): Sent<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let query = named_queries().get(&name).ok_or_else(|| ApiError::no_query(&name))?;
    let (format, sent) = split(&sent)?;
    let params = query.bind(sent)?;
    let queries = shared.state.queries.as_ref().ok_or_else(ApiError::no_warehouse)?;
    let as_of = queries.as_of().map(|t| t.to_string());
    let answer = queries.query(query, &params).await?;
    match format {
        Format::Json => json(query, answer, as_of).await,
        _ => stream(format, answer, as_of).await,
    }
}

/// Parameters of a query by name, as they were sent.
type Own<'a> = Vec<(&'a str, &'a str)>;

/// What is ours, and what is the query's.
fn split(sent: &[(String, String)]) -> Result<(Format, Own<'_>), ApiError> {
    let (ours, own): (Own<'_>, Own<'_>) =
        sent.iter().map(|(name, value)| (name.as_str(), value.as_str())).partition(|(name, _)| *name == "format");
    match ours.as_slice() {
        [] | [(_, "")] => Ok((Format::Json, own)),
        [(_, text)] => Ok((Format::of(text)?, own)),
        _ => Err(ApiError::invalid("invalid_parameter", "format comes twice: send it once")),
    }
}

async fn json(query: &NamedQuery, mut answer: Answer, as_of: Option<String>) -> Result<Response, ApiError> {
    let column = |field: &arrow::datatypes::FieldRef| QueryColumn {
        name: field.name().clone(),
        r#type: ColumnType::of(field.data_type()).map_or("", ColumnType::as_str),
    };
    let columns: Vec<QueryColumn> = answer.schema.fields().iter().map(column).collect();
    let mut body = Vec::new();
    body.extend_from_slice(b"{\"name\":");
    write_json(&query.name, &mut body);
    body.extend_from_slice(b",\"columns\":");
    write_json(&columns, &mut body);
    body.extend_from_slice(b",\"rows\":[");
    let mut rows = 0;
    while let Some(batch) = answer.rows.try_next().await? {
        rows = json_rows(&batch, rows, &mut body)?;
    }
    body.extend_from_slice(b"],\"as_of\":");
    write_json(&as_of, &mut body);
    body.push(b'}');
    Ok(typed(StatusCode::OK, "application/json", body))
}

/// Adds the rows of a batch to `before` others, and says how many there are then.
fn json_rows(batch: &RecordBatch, before: usize, body: &mut Vec<u8>) -> Result<usize, ApiError> {
    let batch = Rows::of(batch)?;
    let after = before + batch.len();
    for row in 0..batch.len() {
        if after > JSON_ROWS_MAX || body.len() > JSON_BYTES_MAX {
            return Err(ApiError::answer_too_large(JSON_ROWS_MAX, JSON_BYTES_MAX));
        }
        if before + row > 0 {
            body.push(b',');
        }
        batch.json_array(row, body);
    }
    Ok(after)
}

fn write_json(value: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a vector takes whatever is written, and text and lists of it serialise");
}

/// Answers with a body that is computed as it is read. A reader who leaves cancels the query by dropping it.
async fn stream(format: Format, mut answer: Answer, as_of: Option<String>) -> Result<Response, ApiError> {
    // What goes wrong before the first row can still be told with a status.
    let first = answer.rows.try_next().await?;
    let (encoder, head) = Encoder::begin(format, &answer.schema)?;
    let rows = futures::stream::iter(first.map(Ok)).chain(answer.rows);
    let body = futures::stream::unfold(Some((encoder, rows.fuse())), |state| async move {
        let (mut encoder, mut rows) = state?;
        match rows.next().await {
            Some(batch) => match batch.and_then(|batch| encoder.batch(&batch)) {
                Ok(bytes) => Some((Ok(bytes), Some((encoder, rows)))),
                Err(error) => {
                    tracing::warn!(%error, "a query failed while its answer was being sent; the answer ends early");
                    Some((Err(error), None))
                }
            },
            None => Some((encoder.end(), None)),
        }
    });
    let head = futures::stream::iter([Ok(Bytes::from(head))]);
    let body = head.chain(body).try_filter(|bytes| std::future::ready(!bytes.is_empty()));
    let mut response = typed(StatusCode::OK, format.content_type(), Body::from_stream(body));
    if let Some(as_of) = as_of.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().insert(AS_OF, as_of);
    }
    Ok(response)
}
