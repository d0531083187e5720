//! The administrator's question whether what is shown is what the log says. It takes as long as a replay of the log, so one
//! request begins it and others ask how it went.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::Shared;
use crate::error::Problem;

/// How the last verification of this process went.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = Verification)]
pub struct Verification {
    /// `none`, `running`, `done` or `failed`.
    pub state: &'static str,
    /// What was found, when done.
    #[schema(value_type = Option<Object>)]
    pub report: Option<serde_json::Value>,
    /// Why it could not run, when failed.
    pub error: Option<String>,
}

/// Compares what is live with a replay of the log.
pub trait Verifier: Send + Sync + 'static {
    /// Begins, unless one is running; either way says how it stands.
    fn begin(&self) -> Verification;

    /// How it stands.
    fn state(&self) -> Verification;
}

/// Begins a verification; the jobs pause for the comparison at its end. At most one runs at a time.
#[utoipa::path(post, path = "/v1/admin/verify", tag = "operations", responses(
    (status = 202, body = Verification), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn begin(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<Verification>) {
    (StatusCode::ACCEPTED, Json(shared.state.verifier.begin()))
}

/// How the last verification went.
#[utoipa::path(get, path = "/v1/admin/verify", tag = "operations", responses(
    (status = 200, body = Verification), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn state(State(shared): State<Arc<Shared>>) -> Json<Verification> {
    Json(shared.state.verifier.state())
}
