//! Who may read what. Keys are those of the collector; two tokens of the deployment stand beside them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;
use millrace_collector::{Denied, Scope};
use subtle::ConstantTimeEq as _;

use crate::api::Shared;
use crate::error::ApiError;

/// What lets one read besides keys.
#[derive(Clone)]
pub struct Access {
    /// What readers may send as `Authorization: Bearer …`: it has every scope that reads. `None` when there is none.
    pub api_token: Option<String>,
    /// The same for the administrator: it has every scope. Empty shuts it.
    pub admin_token: String,
    /// True lets everybody read, though not what the administrator may: on a loopback only. It may change at any time.
    pub is_open: Arc<AtomicBool>,
}

impl Access {
    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}

/// Lets pass who has the scope that the route asks for.
pub(crate) async fn scoped(
    State((shared, scope)): State<(Arc<Shared>, Scope)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    check(&shared, request.headers(), scope).await?;
    Ok(next.run(request).await)
}

async fn check(shared: &Shared, headers: &HeaderMap, scope: Scope) -> Result<(), ApiError> {
    let access = &shared.state.access;
    if scope.is_read() && access.is_open() {
        return Ok(());
    }
    let sent = headers.get(AUTHORIZATION).ok_or_else(ApiError::missing_token)?;
    let (scheme, sent) = sent.to_str().ok().and_then(|s| s.split_once(' ')).ok_or_else(ApiError::invalid_token)?;
    let sent = sent.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || sent.is_empty() {
        return Err(ApiError::invalid_token());
    }
    if is_same(sent, &access.admin_token) {
        return Ok(());
    }
    if access.api_token.as_ref().is_some_and(|token| is_same(sent, token)) {
        return if scope.is_read() { Ok(()) } else { Err(ApiError::insufficient_scope(scope)) };
    }
    match shared.state.collector.allow(sent, scope).await {
        Ok(_) => Ok(()),
        Err(Denied::Lacks(scope)) => Err(ApiError::insufficient_scope(scope)),
        Err(Denied::Mistyped) => Err(ApiError::mistyped_key()),
        Err(Denied::Unknown) => Err(ApiError::invalid_token()),
        Err(Denied::Undecided) => Err(ApiError::undecided_key()),
    }
}

/// In constant time for tokens of one length, so that a token cannot be guessed byte by byte.
fn is_same(sent: &str, token: &str) -> bool {
    !token.is_empty() && bool::from(sent.as_bytes().ct_eq(token.as_bytes()))
}
