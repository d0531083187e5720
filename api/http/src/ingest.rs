//! The doors for events: the Segment HTTP Tracking API, and PostHog's capture.

use axum::body::HttpBody;
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, Method, Request};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use millrace_collector::{Call, is_crawler};

use crate::api::Shared;
use crate::body::{self, Held};
use crate::cors;
use crate::error::ApiError;
use crate::metrics::Started;

/// What SDKs compare with, to the byte in some tests of theirs.
const SUCCESS: &str = r#"{"success":true}"#;

/// What PostHog's SDKs look for.
const CAPTURED: &str = r#"{"status":1}"#;

/// How many events of a request went to `dead-letters`, when any did: in a header, because the body is fixed.
const REJECTED: &str = "x-millrace-rejected";

/// A path that takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    /// What it is in metrics.
    route: &'static str,
    /// `None` where the body is thrown away.
    call: Option<Call>,
    /// The body of an answer that all is well.
    success: &'static str,
}

impl Door {
    const fn on(route: &'static str, call: Call) -> Self {
        let success = if matches!(call, Call::Capture) { CAPTURED } else { SUCCESS };
        Self { route, call: Some(call), success }
    }

    /// Whether its clients send half of what was too large again, after 413.
    fn halves(self) -> bool {
        self.success == CAPTURED
    }

    /// Which call comes through it.
    pub(crate) fn call(self) -> Option<Call> {
        self.call
    }
}

/// The doors, under long and short names.
pub(crate) const DOORS: &[(&str, Door)] = &[
    ("/v1/track", Door::on("/v1/track", Call::Track)),
    ("/v1/identify", Door::on("/v1/identify", Call::Identify)),
    ("/v1/page", Door::on("/v1/page", Call::Page)),
    ("/v1/screen", Door::on("/v1/screen", Call::Screen)),
    ("/v1/group", Door::on("/v1/group", Call::Group)),
    ("/v1/alias", Door::on("/v1/alias", Call::Alias)),
    ("/v1/batch", Door::on("/v1/batch", Call::Batch)),
    ("/v1/import", Door::on("/v1/batch", Call::Batch)),
    ("/v1/t", Door::on("/v1/track", Call::Track)),
    ("/v1/i", Door::on("/v1/identify", Call::Identify)),
    ("/v1/p", Door::on("/v1/page", Call::Page)),
    ("/v1/s", Door::on("/v1/screen", Call::Screen)),
    ("/v1/g", Door::on("/v1/group", Call::Group)),
    ("/v1/a", Door::on("/v1/alias", Call::Alias)),
    ("/v1/b", Door::on("/v1/batch", Call::Batch)),
    // The browser SDK's metrics about itself.
    ("/v1/m", Door { route: "/v1/m", call: None, success: SUCCESS }),
    ("/batch", Door::on("/batch", Call::Capture)),
    ("/capture", Door::on("/capture", Call::Capture)),
    ("/e", Door::on("/e", Call::Capture)),
    ("/i/v0/e", Door::on("/i/v0/e", Call::Capture)),
    ("/track", Door::on("/track", Call::Capture)),
    ("/engage", Door::on("/engage", Call::Capture)),
    // PostHog's recordings of sessions.
    ("/s", Door { route: "/s", call: None, success: CAPTURED }),
];

/// The door of a path, with or without a slash at its end.
pub(crate) fn door(path: &str) -> Option<Door> {
    let path = path.strip_suffix('/').unwrap_or(path);
    DOORS.iter().find(|(known, _)| *known == path).map(|(_, door)| *door)
}

/// Answers what came through `door`: 200 when all of it is durable.
pub(crate) async fn answer<B>(shared: &Shared, door: Door, request: Request<B>) -> Response
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let started = Started::now();
    let response = if request.method() == Method::OPTIONS {
        cors::preflight(request.headers())
    } else {
        let accepted = accept(shared, door, request).await;
        accepted
            .map_err(|error| if door.halves() { error.halved() } else { error })
            .unwrap_or_else(ApiError::into_response)
    };
    started.answered(door.route, response.status());
    response
}

async fn accept<B>(shared: &Shared, door: Door, request: Request<B>) -> Result<Response, ApiError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    if request.method() != Method::POST {
        return Err(ApiError::method_not_allowed(Some("POST, OPTIONS")));
    }
    let (parts, body) = request.into_parts();
    let Held { bytes, share } = body::read(&shared.bodies, &parts.headers, body, shared.state.body_bytes_max).await?;
    let mut rejected = 0;
    if let Some(call) = door.call() {
        let _place = shared.enter_ingest()?;
        let request = millrace_collector::Request {
            authorization: text(&parts.headers, &AUTHORIZATION),
            content_encoding: text(&parts.headers, &CONTENT_ENCODING),
            from_crawler: parts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).is_some_and(is_crawler),
            body: bytes,
        };
        rejected = shared.state.collector.collect(call, request).await?.rejected;
    }
    drop(share);
    let mut response = door.success.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if rejected > 0 {
        response.headers_mut().insert(REJECTED, HeaderValue::from(rejected));
    }
    Ok(response)
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    // A header that is not ASCII is there and wrong; lossy keeps it wrong without making it absent.
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
