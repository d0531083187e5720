//! The Segment HTTP Tracking API.

use axum::body::HttpBody;
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Method, Request};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use millrace_collector::Call;

use crate::api::Shared;
use crate::body::{self, Held};
use crate::cors;
use crate::error::ApiError;
use crate::metrics::Started;

/// What SDKs compare with, to the byte in some tests of theirs.
const SUCCESS: &str = r#"{"success":true}"#;

/// How many events of a request went to `dead-letters`, when any did: in a header, because the body is fixed.
const REJECTED: &str = "x-millrace-rejected";

/// A path that takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    /// What it is in metrics.
    route: &'static str,
    /// `None` where the body is thrown away.
    call: Option<Call>,
}

impl Door {
    /// Which call comes through it.
    pub(crate) fn call(self) -> Option<Call> {
        self.call
    }
}

/// The doors under `/v1/`, long and short names.
pub(crate) const DOORS: &[(&str, Door)] = &[
    ("track", Door { route: "/v1/track", call: Some(Call::Track) }),
    ("identify", Door { route: "/v1/identify", call: Some(Call::Identify) }),
    ("page", Door { route: "/v1/page", call: Some(Call::Page) }),
    ("screen", Door { route: "/v1/screen", call: Some(Call::Screen) }),
    ("group", Door { route: "/v1/group", call: Some(Call::Group) }),
    ("alias", Door { route: "/v1/alias", call: Some(Call::Alias) }),
    ("batch", Door { route: "/v1/batch", call: Some(Call::Batch) }),
    ("import", Door { route: "/v1/batch", call: Some(Call::Batch) }),
    ("t", Door { route: "/v1/track", call: Some(Call::Track) }),
    ("i", Door { route: "/v1/identify", call: Some(Call::Identify) }),
    ("p", Door { route: "/v1/page", call: Some(Call::Page) }),
    ("s", Door { route: "/v1/screen", call: Some(Call::Screen) }),
    ("g", Door { route: "/v1/group", call: Some(Call::Group) }),
    ("a", Door { route: "/v1/alias", call: Some(Call::Alias) }),
    ("b", Door { route: "/v1/batch", call: Some(Call::Batch) }),
    // The browser SDK's metrics about itself.
    ("m", Door { route: "/v1/m", call: None }),
];

/// The door of a path, with or without a slash at its end.
pub(crate) fn door(path: &str) -> Option<Door> {
    let name = path.strip_prefix("/v1/")?;
    let name = name.strip_suffix('/').unwrap_or(name);
    DOORS.iter().find(|(known, _)| *known == name).map(|(_, door)| *door)
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
        accept(shared, door, request).await.unwrap_or_else(ApiError::into_response)
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
            body: bytes,
        };
        rejected = shared.state.collector.collect(call, request).await?.rejected;
    }
    drop(share);
    let mut response = SUCCESS.into_response();
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
