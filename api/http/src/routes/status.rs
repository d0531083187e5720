//! How far everything is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::api::Shared;
use crate::error::Problem;
use crate::status::StatusReport;

/// How far the log and the jobs are.
#[utoipa::path(get, path = "/v1/status", tag = "operations", responses(
    (status = 200, body = StatusReport), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn status(State(shared): State<Arc<Shared>>) -> Json<StatusReport> {
    Json(shared.state.status.status().await)
}
