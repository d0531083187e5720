//! The administrator's order to back everything up. It takes as long as copying everything, so one request begins it and
//! others ask how it went.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Shared;
use crate::error::{ApiError, Problem};

/// How the last backup of this process went.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = Backup)]
pub struct Backup {
    /// `none`, `running`, `done` or `failed`.
    pub state: &'static str,
    /// Where to, on the server's machine.
    pub dest: String,
    /// Records of the database so far.
    pub records: u64,
    /// Bytes so far, before compression.
    pub bytes: u64,
    /// What is in it, when done.
    #[schema(value_type = Option<Object>)]
    pub report: Option<serde_json::Value>,
    /// Why it is not complete, when failed.
    pub error: Option<String>,
}

/// Copies everything, as of one moment.
pub trait BackupTaker: Send + Sync + 'static {
    /// Begins a backup into the directory `dest`, and says how it stands.
    ///
    /// # Errors
    /// In words, when one is running or `dest` may not be used.
    fn begin(&self, dest: &str) -> Result<Backup, String>;

    /// How it stands.
    fn state(&self) -> Backup;
}

/// Where to back up to.
#[derive(Deserialize, ToSchema)]
#[schema(as = BackupRequest)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupRequest {
    /// An absolute path on the server's machine: a directory that is not there yet, or is empty.
    dest: String,
}

/// Begins a backup under load; at most one runs at a time.
#[utoipa::path(post, path = "/v1/admin/backup", tag = "operations", request_body = BackupRequest, responses(
    (status = 202, body = Backup), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn begin(
    State(shared): State<Arc<Shared>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Backup>), ApiError> {
    let body = body.map_err(|_| ApiError::body_unreadable())?;
    let request: BackupRequest = serde_json::from_slice(&body)
        .map_err(|e| ApiError::invalid("invalid_body", format!("the body must be {{\"dest\": \"/a/path\"}}: {e}")))?;
    // Looks at directories: not where other requests wait.
    let begun = tokio::task::spawn_blocking(move || shared.state.backups.begin(&request.dest)).await;
    let begun = begun.map_err(|_| ApiError::panicked())?;
    Ok((StatusCode::ACCEPTED, Json(begun.map_err(|why| ApiError::invalid("backup_refused", why))?)))
}

/// How the last backup went.
#[utoipa::path(get, path = "/v1/admin/backup", tag = "operations", responses(
    (status = 200, body = Backup), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn state(State(shared): State<Arc<Shared>>) -> Json<Backup> {
    Json(shared.state.backups.state())
}
