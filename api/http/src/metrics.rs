//! What the edge counts. The recorder is installed by the binary.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;

/// The route of what has none.
const UNKNOWN: &str = "unknown";

/// When a request arrived.
pub(crate) struct Started(Instant);

impl Started {
    #[expect(clippy::disallowed_methods, reason = "the edge measures how long an answer takes; nothing reads it back")]
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    /// Counts the answer to `route`.
    pub(crate) fn answered(self, route: impl Into<Cow<'static, str>>, status: StatusCode) {
        let route: Cow<'static, str> = route.into();
        let took: Duration = self.0.elapsed();
        metrics::counter!("millrace_http_requests_total", "route" => route.clone(), "status" => status_name(status))
            .increment(1);
        metrics::histogram!("millrace_http_duration_seconds", "route" => route).record(took.as_secs_f64());
    }
}

/// Counts an answer that no route gave: shed, timed out or after a panic.
pub(crate) fn unrouted(status: StatusCode) {
    metrics::counter!("millrace_http_requests_total", "route" => UNKNOWN, "status" => status_name(status)).increment(1);
}

/// Counts a connection for which there was no place.
pub(crate) fn turned_away() {
    metrics::counter!("millrace_api_connections_turned_away_total").increment(1);
}

/// Counts every answer of a router.
pub(crate) async fn measure(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let started = Started::now();
    let response = next.run(request).await;
    // The pattern, never the path as sent: a label per post would be as many series as posts.
    let route = path.map_or(Cow::Borrowed(UNKNOWN), |path| Cow::Owned(path.as_str().to_owned()));
    started.answered(route, response.status());
    response
}

fn status_name(status: StatusCode) -> Cow<'static, str> {
    match status.as_u16() {
        200 => Cow::Borrowed("200"),
        204 => Cow::Borrowed("204"),
        400 => Cow::Borrowed("400"),
        401 => Cow::Borrowed("401"),
        403 => Cow::Borrowed("403"),
        404 => Cow::Borrowed("404"),
        405 => Cow::Borrowed("405"),
        429 => Cow::Borrowed("429"),
        503 => Cow::Borrowed("503"),
        other => Cow::Owned(other.to_string()),
    }
}
