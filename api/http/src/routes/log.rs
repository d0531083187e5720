//! The administrator's look at the log, for `millrace tail` and for people.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use millrace_events::{Topic, TopicPartition, UnknownTopic};
use millrace_log::{EventLog, Offset};
use serde::Deserialize;
use utoipa::IntoParams;

use super::query::{Id, Params, limit};
use super::typed;
use crate::api::Shared;
use crate::error::{ApiError, Problem};
use crate::record_json::write_record;

/// The most records of one answer.
pub const LOG_LIMIT_MAX: usize = 1000;
/// An answer ends with the record that reaches this many bytes of values.
pub const LOG_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The header that says where to go on.
pub const NEXT_OFFSET: &str = "x-millrace-next-offset";

/// Which part of the log.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParams {
    /// Which partition; 0 when absent.
    #[param(value_type = Option<u32>)]
    partition: Option<String>,
    /// `start`, `end` or an offset; `start` when absent.
    #[param(pattern = "^(start|end|[0-9]{1,18})$")]
    from: Option<String>,
    /// How many records, 1 to 1000; 20 when absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
}

/// Records of one partition as NDJSON; the next offset is in the header `x-millrace-next-offset`.
#[utoipa::path(get, path = "/v1/log/{topic}", tag = "operations",
    params(("topic" = String, Path, description = "Its name"), LogParams), responses(
    (status = 200, content_type = "application/x-ndjson"), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn records(
    State(shared): State<Arc<Shared>>,
    Id(topic): Id,
    Params(params): Params<LogParams>,
) -> Result<Response, ApiError> {
    let topic: Topic = topic.parse().map_err(|e: UnknownTopic| ApiError::no_topic(&e))?;
    let partition = params.partition.as_deref().unwrap_or("0").parse();
    let partition =
        partition.map_err(|_| ApiError::invalid("invalid_partition", "partition must be a whole number"))?;
    let of = TopicPartition::new(topic, partition);
    let limit = limit(params.limit.as_deref(), LOG_LIMIT_MAX)?;
    let log = shared.state.log.as_ref();
    let from = position(log, of, params.from.as_deref()).await?;
    let (body, next) = read(log, of, from, limit).await?;
    let mut response = typed(StatusCode::OK, "application/x-ndjson", body);
    response.headers_mut().insert(NEXT_OFFSET, HeaderValue::from(next));
    Ok(response)
}

async fn position(log: &dyn EventLog, of: TopicPartition, from: Option<&str>) -> Result<Offset, ApiError> {
    let bounds = log.bounds(of).await?;
    match from {
        None | Some("start") => Ok(bounds.start),
        Some("end") => Ok(bounds.end),
        Some(offset) => {
            offset.parse().map_err(|_| ApiError::invalid("invalid_offset", "from must be start, end or an offset"))
        }
    }
}

async fn read(
    log: &dyn EventLog,
    of: TopicPartition,
    from: Offset,
    limit: usize,
) -> Result<(Vec<u8>, Offset), ApiError> {
    let (mut body, mut next) = (Vec::new(), from);
    let (mut left, mut bytes) = (limit, 0);
    while left > 0 && bytes < LOG_ANSWER_BYTES_MAX {
        let records = log.read(of, next, LOG_ANSWER_BYTES_MAX - bytes).await?;
        if records.is_empty() {
            break;
        }
        for record in records.into_iter().take(left) {
            write_record(of, &record, &mut body);
            body.push(b'\n');
            left -= 1;
            bytes += record.value.len();
            next = record.offset + 1;
        }
    }
    Ok((body, next))
}
