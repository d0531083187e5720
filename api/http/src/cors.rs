//! Browsers may send events from any site: a write key is public. Nothing but ingest answers them.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};

use crate::error::ApiError;
use crate::metrics::Started;

/// How long a browser may keep the answer to a preflight, in seconds.
const MAX_AGE_S: &str = "7200";

/// What a page may read of an answer's headers: when to come back, and what is left.
const EXPOSED: &str = "retry-after, ratelimit-policy, ratelimit";

/// The site that a browser says the request comes from.
pub(crate) fn origin(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ORIGIN).cloned()
}

/// Lets that site read the answer.
pub(crate) fn allow(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    let Some(origin) = origin else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    headers.append(VARY, HeaderValue::from_static("origin"));
}

/// Answers a path of `route` that pages may only read.
pub(crate) async fn read_only(
    route: &'static str,
    method: &Method,
    asked: &HeaderMap,
    read: impl Future<Output = Result<Response, ApiError>>,
) -> Response {
    let started = Started::now();
    let response = match *method {
        Method::GET => read.await.unwrap_or_else(ApiError::into_response),
        Method::OPTIONS => preflight(asked),
        _ => ApiError::method_not_allowed(Some("GET, OPTIONS")).into_response(),
    };
    started.answered(route, response.status());
    response
}

/// What a browser asks before it sends: every header it names is fine.
pub(crate) fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_S));
    if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        headers.append(VARY, HeaderValue::from_static("access-control-request-headers"));
    }
    response
}
