//! Parameters as they come: every one optional text, so that what is wrong with one can be said by name.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// How many items an answer holds unless the caller says.
const LIMIT_DEFAULT: usize = 20;

/// The parameters of a query; one that comes twice is refused.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Query::try_from_uri(&parts.uri);
        let Query(params) = query.map_err(|e| ApiError::invalid("invalid_query", e.body_text()))?;
        Ok(Self(params))
    }
}

/// An id in the path, percent-decoded.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(id) = path.map_err(|e| ApiError::invalid("invalid_path", e.body_text()))?;
        Ok(Self(id))
    }
}

/// `limit`, from 1 to `max`.
pub(crate) fn limit(text: Option<&str>, max: usize) -> Result<usize, ApiError> {
    let Some(text) = text else { return Ok(LIMIT_DEFAULT) };
    let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
    limit.ok_or_else(|| ApiError::invalid("invalid_limit", format!("limit must be a whole number from 1 to {max}")))
}

/// A yes or no called `name`; no when it is not there.
pub(crate) fn flag(name: &str, text: Option<&str>) -> Result<bool, ApiError> {
    match text {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(_) => Err(ApiError::invalid("invalid_query", format!("{name} must be true or false"))),
    }
}
