//! Who may read what. Ingest has its own keys: see the collector.

use std::fmt;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq as _;

use crate::api::Shared;
use crate::error::ApiError;

/// The tokens of this deployment.
#[derive(Clone)]
pub struct Access {
    /// What readers must send as `Authorization: Bearer …`; `None` lets everybody read: on a loopback only.
    pub api_token: Option<String>,
    /// What the administrator's routes ask for, always. Empty shuts them.
    pub admin_token: String,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("reads_need_a_token", &self.api_token.is_some()).finish_non_exhaustive()
    }
}

/// Lets readers pass.
pub(crate) async fn readers(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if let Some(token) = &shared.state.access.api_token {
        check(request.headers(), token)?;
    }
    Ok(next.run(request).await)
}

/// Lets the administrator pass.
pub(crate) async fn administrators(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    check(request.headers(), &shared.state.access.admin_token)?;
    Ok(next.run(request).await)
}

fn check(headers: &HeaderMap, token: &str) -> Result<(), ApiError> {
    let sent = headers.get(AUTHORIZATION).ok_or_else(ApiError::missing_token)?;
    let (scheme, sent) = sent.to_str().ok().and_then(|s| s.split_once(' ')).ok_or_else(ApiError::invalid_token)?;
    // In constant time for tokens of one length, so that a token cannot be guessed byte by byte.
    let is_equal = bool::from(sent.trim().as_bytes().ct_eq(token.as_bytes()));
    if scheme.eq_ignore_ascii_case("bearer") && is_equal && !token.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid_token())
}
