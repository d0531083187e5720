//! Errors to statuses: the one place that decides, and the one body that every SDK understands.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use millrace_collector::{Denied, Reason, Refusal, RefusalKind, Scope};
use millrace_events::UnknownTopic;
use serde::Serialize;
use utoipa::ToSchema;

/// Where a problem's type is named. An identifier, not a link: the name is reserved and will never resolve.
const TYPE_BASE: &str = "https://millrace.example/problems/";

/// What a caller should wait who found us overloaded, in seconds.
const RETRY_AFTER_S: u32 = 1;

/// Numbers the errors of this process, so that one answer can be found in its output.
static ERRORS: AtomicU64 = AtomicU64::new(0);

/// Why a request was not answered as asked.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    retry_after_s: Option<u32>,
    allow: Option<&'static str>,
    /// The scope that the key lacks.
    scope: Option<Scope>,
    missing: Vec<String>,
    /// A smaller request would be taken.
    is_too_large: bool,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after_s: None,
            allow: None,
            scope: None,
            missing: Vec::new(),
            is_too_large: false,
        }
    }

    fn later(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { retry_after_s: Some(RETRY_AFTER_S), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    pub(crate) fn invalid(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Its stable name.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// Segment answers 400, not 413, for size; its SDKs drop the request either way.
    pub(crate) fn body_too_large(bytes_max: usize) -> Self {
        let message = format!("the body is larger than {bytes_max} bytes; send less at once");
        Self { is_too_large: true, ..Self::invalid("body_too_large", message) }
    }

    /// The same with 413 where a smaller request would be taken: for everybody but Segment. Some SDKs halve a batch then, and
    /// drop it after 400.
    pub(crate) fn with_size_as_413(self) -> Self {
        Self { status: if self.is_too_large { StatusCode::PAYLOAD_TOO_LARGE } else { self.status }, ..self }
    }

    /// The only event of a request went to the dead letters, and its sender has no other way to hear of it.
    pub(crate) fn event_refused(reason: Reason, details: Cow<'static, str>) -> Self {
        Self::invalid(reason.as_str(), details)
    }

    pub(crate) fn body_unreadable() -> Self {
        Self::invalid("body_unreadable", "the body ended before it was complete")
    }

    pub(crate) fn body_timeout() -> Self {
        // Not 408: some SDKs drop what got that, and a slow network is no reason to lose events.
        Self::later("body_timeout", "the body did not arrive in time; send it again")
    }

    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing under this path; see /openapi.json")
    }

    pub(crate) fn no_write_key() -> Self {
        let message = "there is no such write key: `millrace keys list` shows those that there are";
        Self::new(StatusCode::NOT_FOUND, "unknown_write_key", message)
    }

    pub(crate) fn no_post() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "post_not_found",
            "no post has this id, or its creation has not been applied yet",
        )
    }

    pub(crate) fn no_topic(error: &UnknownTopic) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_topic", error.to_string())
    }

    pub(crate) fn no_query(name: &str) -> Self {
        const SHOWN_CHARS_MAX: usize = 40;
        let name: String = name.chars().take(SHOWN_CHARS_MAX).flat_map(char::escape_default).collect();
        let message = format!("there is no query `{name}`; /v1/queries lists them");
        Self::new(StatusCode::NOT_FOUND, "unknown_query", message)
    }

    pub(crate) fn no_warehouse() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_warehouse", "this process has no warehouse; ask one that has")
    }

    pub(crate) fn answer_too_large(rows_max: usize, bytes_max: usize) -> Self {
        let message = format!(
            "the answer has more than {rows_max} rows or {bytes_max} bytes of JSON; ask for less, or take it as a stream \
             with format=ndjson, csv or arrow"
        );
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "answer_too_large", message)
    }

    pub(crate) fn method_not_allowed(allow: Option<&'static str>) -> Self {
        let message = "this path does not take this method; see /openapi.json";
        Self { allow, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message) }
    }

    pub(crate) fn missing_token() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "missing_token",
            "send `Authorization: Bearer` with a secret key, or the token of this deployment",
        )
    }

    pub(crate) fn invalid_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", "this token is not valid here")
    }

    pub(crate) fn mistyped_key() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", Denied::Mistyped.to_string())
    }

    pub(crate) fn undecided_key() -> Self {
        Self::later("unavailable", Denied::Undecided.to_string())
    }

    pub(crate) fn insufficient_scope(scope: Scope) -> Self {
        let message = format!("this needs a key with the scope {scope}");
        Self { scope: Some(scope), ..Self::new(StatusCode::FORBIDDEN, "insufficient_scope", message) }
    }

    pub(crate) fn overloaded() -> Self {
        Self::later("overloaded", "too many requests are being answered; try again")
    }

    pub(crate) fn timed_out() -> Self {
        Self::later("timed_out", "the answer took too long; try again")
    }

    pub(crate) fn not_ready(missing: Vec<String>) -> Self {
        let message = format!("not ready, waiting for: {}", missing.join(", "));
        Self { missing, ..Self::later("not_ready", message) }
    }

    pub(crate) fn panicked() -> Self {
        tracing::error!("a request made the server panic; the request was answered with 500");
        Self::internal()
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the server failed; this is a defect")
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::Unauthorized => StatusCode::UNAUTHORIZED,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
            RefusalKind::Malformed | RefusalKind::TooLarge => StatusCode::BAD_REQUEST,
            RefusalKind::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            RefusalKind::Limited => StatusCode::TOO_MANY_REQUESTS,
            RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self {
            retry_after_s: refusal.retry_after_s,
            scope: (refusal.kind == RefusalKind::Forbidden).then_some(Scope::EventsWrite),
            is_too_large: refusal.kind == RefusalKind::TooLarge,
            ..Self::new(status, refusal.code, refusal.message)
        }
    }
}

impl From<millrace_ranking::Error> for ApiError {
    fn from(error: millrace_ranking::Error) -> Self {
        use millrace_ranking::ErrorKind;
        match error.kind() {
            ErrorKind::Invalid => Self::invalid(error.code(), error.to_string()),
            ErrorKind::Retry => Self::later(error.code(), error.to_string()),
            ErrorKind::Corrupt => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, ?cause, "a query could not be answered");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.code(), error.to_string())
            }
        }
    }
}

impl From<millrace_log::Error> for ApiError {
    fn from(error: millrace_log::Error) -> Self {
        use millrace_log::ErrorKind;
        match error.kind() {
            ErrorKind::Invalid => Self::invalid("invalid_partition", error.to_string()),
            ErrorKind::OutOfRange => Self::invalid("offset_out_of_range", error.to_string()),
            ErrorKind::Retry => Self::later("log_unavailable", error.to_string()),
            ErrorKind::Corrupt | ErrorKind::Fenced => {
                tracing::error!(%error, "the log could not be read");
                Self::internal()
            }
        }
    }
}

impl From<millrace_warehouse::Error> for ApiError {
    fn from(error: millrace_warehouse::Error) -> Self {
        use millrace_warehouse::ErrorKind;
        match error.kind() {
            ErrorKind::Invalid => Self::invalid("invalid_parameter", error.to_string()),
            // The request is well-formed and allowed, only its answer costs too much: not 413, which is about its body.
            ErrorKind::TooLarge => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "query_too_large", error.to_string()),
            ErrorKind::Busy => Self::later("queries_busy", error.to_string()),
            ErrorKind::Retry => Self::later("warehouse_unavailable", error.to_string()),
            ErrorKind::Conflict | ErrorKind::Corrupt => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, ?cause, "a named query could not be answered");
                Self::internal()
            }
        }
    }
}

/// The one error body: RFC 9457 and the fields that older SDKs ask for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Problem<'a> {
    /// Names the problem.
    r#type: String,
    /// The status in words.
    title: &'a str,
    /// The status.
    status: u16,
    /// What went wrong and what to do about it.
    detail: &'a str,
    /// This one answer.
    instance: String,
    /// A stable name for machines.
    code: &'a str,
    /// The same as `detail`.
    message: &'a str,
    /// The same as `detail`.
    error: &'a str,
    /// What a process that is not ready waits for.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    #[schema(required = false)]
    missing: &'a [String],
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            r#type: format!("{TYPE_BASE}{}", self.code.replace('_', "-")),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.message,
            instance: format!("req_{}", ERRORS.fetch_add(1, Ordering::Relaxed)),
            code: self.code,
            message: &self.message,
            error: &self.message,
            missing: &self.missing,
        };
        // Strings and a number always serialise.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        if self.status == StatusCode::UNAUTHORIZED && self.code.ends_with("_token") {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(scope) = self.scope
            && let Ok(challenge) = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"").parse()
        {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
