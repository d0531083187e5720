//! The doors for events: the Segment HTTP Tracking API, PostHog's capture, CloudEvents, and our own batch.

use axum::body::HttpBody;
use axum::http::header::{ALLOW, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Uri};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use millrace_collector::{Call, Judged, Verdict, is_crawler};
use millrace_events::parse_rfc3339;

use crate::api::Shared;
use crate::body::{self, Held};
use crate::error::ApiError;
use crate::limits::Asked;
use crate::metrics::Started;
use crate::{cors, query, verdicts};

/// What SDKs compare with, to the byte in some tests of theirs.
const SUCCESS: &str = r#"{"success":true}"#;

/// What PostHog's SDKs look for.
const CAPTURED: &str = r#"{"status":1}"#;

/// How many events of a request went to `dead-letters`, when any did: in a header, because the body is fixed.
const REJECTED: &str = "x-millrace-rejected";

/// The SDK of PostHog's newer protocol, and when it sent.
const SDK_INFO: HeaderName = HeaderName::from_static("posthog-sdk-info");
const SENT_AT: HeaderName = HeaderName::from_static("posthog-request-timestamp");

/// Who delivers CloudEvents asks with the first whether it may, and is answered with the others.
const WEBHOOK_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const WEBHOOK_ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const WEBHOOK_ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

/// How the clients of a door want to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Segment,
    PostHog,
    /// What became of each event.
    Verdicts,
    CloudEvents,
}

/// A path that takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    /// What it is in metrics.
    route: &'static str,
    /// `None` where the body is thrown away.
    call: Option<Call>,
    dialect: Dialect,
}

impl Door {
    const fn on(route: &'static str, call: Call) -> Self {
        let dialect = match call {
            Call::Capture => Dialect::PostHog,
            Call::Events | Call::Analytics => Dialect::Verdicts,
            Call::CloudEvents => Dialect::CloudEvents,
            _ => Dialect::Segment,
        };
        Self { route, call: Some(call), dialect }
    }

    /// Which call comes through it.
    pub(crate) fn call(self) -> Option<Call> {
        self.call
    }

    /// Whether events may stand in the query of a GET.
    pub(crate) fn takes_get(self) -> bool {
        self.dialect == Dialect::PostHog
    }

    fn allows(self) -> &'static str {
        if self.takes_get() { "GET, POST, OPTIONS" } else { "POST, OPTIONS" }
    }

    /// The answer to what is durable, or was thrown away.
    fn answer(self, judged: &Judged) -> Result<Response, ApiError> {
        let mut response = match self.dialect {
            Dialect::Segment => SUCCESS.into_response(),
            Dialect::PostHog => CAPTURED.into_response(),
            Dialect::Verdicts => verdicts::json(&judged.verdicts).into_response(),
            Dialect::CloudEvents => match judged.verdicts.values().next() {
                Some(Verdict::Refused(reason, details)) => {
                    return Err(ApiError::event_refused(*reason, details.clone()));
                }
                _ => SUCCESS.into_response(),
            },
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if judged.accepted.rejected > 0 {
            headers.insert(REJECTED, HeaderValue::from(judged.accepted.rejected));
        }
        Ok(response)
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
    ("/v1/m", Door { route: "/v1/m", call: None, dialect: Dialect::Segment }),
    ("/v1/events", Door::on("/v1/events", Call::Events)),
    ("/v1/cloudevents", Door::on("/v1/cloudevents", Call::CloudEvents)),
    ("/cloudevents", Door::on("/v1/cloudevents", Call::CloudEvents)),
    ("/batch", Door::on("/batch", Call::Capture)),
    ("/capture", Door::on("/capture", Call::Capture)),
    ("/e", Door::on("/e", Call::Capture)),
    ("/i/v0/e", Door::on("/i/v0/e", Call::Capture)),
    ("/track", Door::on("/track", Call::Capture)),
    ("/engage", Door::on("/engage", Call::Capture)),
    // PostHog's recordings of sessions.
    ("/s", Door { route: "/s", call: None, dialect: Dialect::PostHog }),
    ("/i/v1/analytics/events", Door::on("/i/v1/analytics/events", Call::Analytics)),
];

/// The door of a path, with or without a slash at its end.
pub(crate) fn door(path: &str) -> Option<Door> {
    let path = path.strip_suffix('/').unwrap_or(path);
    DOORS.iter().find(|(known, _)| *known == path).map(|(_, door)| *door)
}

/// The path of the door for a call, under its long name.
pub fn path_of(call: Call) -> &'static str {
    let door = DOORS.iter().find(|(_, door)| door.call == Some(call));
    door.map(|(path, _)| *path).expect("every call has a door: a test goes through them")
}

/// Answers what came through `door`: 200 when all of it is durable.
pub(crate) async fn answer<B>(shared: &Shared, door: Door, limited: &Asked<'_>, request: Request<B>) -> Response
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    let started = Started::now();
    let response = if request.method() == Method::OPTIONS {
        preflight(door, request.headers())
    } else {
        let accepted = accept(shared, door, limited, request).await;
        accepted
            .map_err(|error| if door.dialect == Dialect::Segment { error } else { error.with_size_as_413() })
            .unwrap_or_else(ApiError::into_response)
    };
    started.answered(door.route, response.status());
    response
}

/// What a browser asks before it sends, and who delivers CloudEvents before the first of them.
fn preflight(door: Door, asked: &HeaderMap) -> Response {
    let mut response = cors::preflight(asked);
    if door.dialect == Dialect::CloudEvents && asked.contains_key(WEBHOOK_ORIGIN) {
        let headers = response.headers_mut();
        // Anybody may deliver who has a key, at any rate: what is too much is told when it is.
        headers.insert(WEBHOOK_ALLOWED_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(WEBHOOK_ALLOWED_RATE, HeaderValue::from_static("*"));
        headers.insert(ALLOW, HeaderValue::from_static(door.allows()));
    }
    response
}

async fn accept<B>(shared: &Shared, door: Door, limited: &Asked<'_>, request: Request<B>) -> Result<Response, ApiError>
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
{
    let in_query = request.method() == Method::GET && door.takes_get();
    if request.method() != Method::POST && !in_query {
        return Err(ApiError::method_not_allowed(Some(door.allows())));
    }
    let (parts, body) = request.into_parts();
    let may_come = limited.check_address().and_then(|()| shared.has_room(body::declared(&parts.headers).unwrap_or(0)));
    let collector = &shared.state.collector;
    if let Err(error) = may_come {
        // Whose it is would have to be looked up, and this must be cheap.
        collector.turned_away(error.code(), None);
        body::let_go(&parts.headers, body);
        return Err(error);
    }
    let Held { bytes, share } = if in_query {
        Held { bytes: posthog_form(&parts.uri), share: None }
    } else {
        let read = body::read(&shared.bodies, &parts.headers, body, shared.state.body_bytes_max).await;
        read.inspect_err(|error| {
            collector.turned_away(error.code(), text(&parts.headers, &AUTHORIZATION).as_deref());
        })?
    };
    let judged = match door.call() {
        Some(call) => {
            let _place = shared.enter_ingest().inspect_err(|error| collector.turned_away(error.code(), None))?;
            collector.judge_through(call, asked(call, &parts, bytes), limited).await?
        }
        None => Judged::default(),
    };
    drop(share);
    door.answer(&judged)
}

/// What the collector needs to know of a request: for each call no more than it looks at.
fn asked(call: Call, parts: &Parts, body: Bytes) -> millrace_collector::Request {
    let headers = &parts.headers;
    let parameter = |names: &[&str]| names.iter().find_map(|name| query::parameter(&parts.uri, name));
    let mut request = millrace_collector::Request {
        authorization: text(headers, &AUTHORIZATION),
        content_encoding: text(headers, &CONTENT_ENCODING),
        from_crawler: headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).is_some_and(is_crawler),
        body,
        ..millrace_collector::Request::default()
    };
    match call {
        Call::Capture => {
            request.key = parameter(&["token", "api_key"]);
            // The browser's SDK says there when it sent, in milliseconds.
            let sent_at_ms = parameter(&["_"]).and_then(|ms| ms.parse::<i64>().ok());
            request.sent_at_us = sent_at_ms.and_then(|ms| ms.checked_mul(1000));
        }
        Call::Analytics => {
            request.sdk = text(headers, &SDK_INFO);
            request.sent_at_us = text(headers, &SENT_AT).and_then(|time| parse_rfc3339(&time).ok());
        }
        Call::CloudEvents => {
            request.key = parameter(&["write_key"]);
            request.content_type = text(headers, &CONTENT_TYPE);
            request.attributes = attributes(headers);
        }
        _ => {}
    }
    request
}

/// The headers that are attributes of a CloudEvent.
fn attributes(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let attribute = |(name, value): (&HeaderName, &HeaderValue)| {
        Some((name.as_str().strip_prefix("ce-")?.to_owned(), value.as_bytes().to_vec()))
    };
    headers.iter().filter_map(attribute).collect()
}

/// The form that stands in the query of a GET.
fn posthog_form(uri: &Uri) -> Bytes {
    let mut pairs = uri.query().unwrap_or_default().split('&');
    pairs.find(|pair| pair.starts_with("data=")).map_or_else(Bytes::new, |pair| Bytes::copy_from_slice(pair.as_bytes()))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    // A header that is not ASCII is there and wrong; lossy keeps it wrong without making it absent.
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
