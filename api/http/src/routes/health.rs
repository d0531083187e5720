//! Is the process alive, can it work, and how is it doing.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::{json_text, typed};
use crate::api::Shared;
use crate::error::{ApiError, Problem};

/// The process is alive. Says nothing about anything else, so that nobody restarts it for another's fault.
#[utoipa::path(get, path = "/healthz", tag = "operations", responses((status = 200, content_type = "application/json")))]
pub(crate) async fn alive() -> Response {
    json_text(r#"{"status":"alive"}"#)
}

/// The process can do its work; if not, what is missing.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses(
    (status = 200, content_type = "application/json"), (status = 503, body = Problem),
))]
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Result<Response, ApiError> {
    let missing = shared.state.readiness.missing();
    if missing.is_empty() {
        Ok(json_text(r#"{"status":"ready","missing":[]}"#))
    } else {
        Err(ApiError::not_ready(missing))
    }
}

/// Metrics in Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
    (status = 200, content_type = "text/plain"), (status = "4XX", body = Problem),
))]
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", (shared.state.metrics)())
}
