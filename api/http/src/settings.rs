//! What analytics.js asks for before it sends: where the events of a write key go. Segment's CDN answers it elsewhere.
//!
//! The answer leads back to here, under the name by which the client came: the `Host` that it sent. A proxy in between has to
//! pass that on; no other header can name a host, so that nobody is sent elsewhere by what a stranger wrote. Whether the
//! client speaks TLS only the proxy that ends it knows: `X-Forwarded-Proto` says so, and can say nothing else.

use std::borrow::Cow;

use axum::http::header::{CACHE_CONTROL, HOST, HeaderName, VARY};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use millrace_collector::Collector;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::cors;
use crate::error::ApiError;
use crate::routes::typed;

/// What the route is in metrics and in the description of the API.
pub(crate) const ROUTE: &str = "/v1/projects/{write_key}/settings";

/// The longest name of a host that is repeated, with its port, in bytes: as long as a name may be.
const HOST_BYTES_MAX: usize = 253 + ":65535".len();

/// The longest write key that is looked up, in bytes.
const KEY_BYTES_MAX: usize = 200;

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The settings of a source, as analytics.js reads them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Settings)]
pub(crate) struct Settings {
    /// The only one is `Segment.io`: the key, and where events go.
    #[schema(value_type = Object)]
    integrations: Value,
    /// Every event is sent.
    #[schema(value_type = Object)]
    plan: Value,
    #[schema(value_type = Object)]
    edge_function: Value,
    analytics_next_enabled: bool,
    #[schema(value_type = Object)]
    middleware_settings: Value,
    #[schema(value_type = Object)]
    enabled_middleware: Value,
    /// The client sends none about itself.
    #[schema(value_type = Object)]
    metrics: Value,
    #[schema(value_type = Vec<Object>)]
    remote_plugins: Vec<Value>,
}

/// The write key in the path of these settings, as it stands there.
pub(crate) fn key_of(path: &str) -> Option<&str> {
    let key = path.strip_suffix('/').unwrap_or(path).strip_prefix("/v1/projects/")?.strip_suffix("/settings")?;
    (!key.is_empty() && !key.contains('/')).then_some(key)
}

/// Answers who asks for the settings of `key`.
pub(crate) async fn answer(
    collector: &Collector,
    key: &str,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Response {
    cors::read_only(ROUTE, method, headers, settings(collector, key, uri, headers)).await
}

/// Where analytics.js sends the events of this key
///
/// The host is the one that the request was sent to.
#[utoipa::path(get, path = "/v1/projects/{write_key}/settings", tag = "ingest",
    params(("write_key" = String, Path, description = "The write key that the page has")),
    responses((status = 200, body = Settings), (status = "4XX", body = crate::error::Problem)))]
#[expect(
    dead_code,
    reason = "describes what is answered outside of the router, as all that browsers may ask from anywhere"
)]
fn described() {}

async fn settings(collector: &Collector, key: &str, uri: &Uri, headers: &HeaderMap) -> Result<Response, ApiError> {
    let key = known_key(collector, key).await?;
    let host = host(uri, headers).ok_or_else(|| {
        ApiError::invalid("invalid_host", "the request must name the host that it is sent to, in the header Host")
    })?;
    let enabled = json!({"__default": {"enabled": true}});
    let settings = Settings {
        integrations: json!({"Segment.io": {
            "apiKey": key,
            "apiHost": format!("{host}/v1"),
            "protocol": protocol(headers),
            "versionSettings": {"version": "4.4.7", "componentTypes": ["browser"]},
        }}),
        plan: json!({"track": enabled, "identify": enabled, "group": enabled}),
        edge_function: json!({}),
        analytics_next_enabled: true,
        middleware_settings: json!({}),
        enabled_middleware: json!({}),
        metrics: json!({"sampleRate": 0}),
        remote_plugins: Vec::new(),
    };
    // Text and numbers always serialise.
    let body = serde_json::to_string(&settings).unwrap_or_default();
    let mut response = typed(StatusCode::OK, "application/json", body);
    let said = response.headers_mut();
    // It is an answer to headers that anybody may write: nobody else may get it from a cache.
    said.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=60"));
    said.insert(VARY, HeaderValue::from_static("host, x-forwarded-proto"));
    Ok(response)
}

/// The write key that stands in a path, if it is one.
pub(crate) async fn known_key<'k>(collector: &Collector, in_path: &'k str) -> Result<Cow<'k, str>, ApiError> {
    let key = percent_decode_str(in_path).decode_utf8().map_err(|_| ApiError::no_write_key())?;
    if key.len() <= KEY_BYTES_MAX && collector.knows(&key).await? { Ok(key) } else { Err(ApiError::no_write_key()) }
}

/// The host that the request was sent to, with its port, if it is one.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut sent = headers.get_all(HOST).iter();
    let host = match (sent.next(), sent.next()) {
        (None, _) => uri.authority()?.as_str(),
        (Some(host), None) => host.to_str().ok()?,
        (Some(_), Some(_)) => return None,
    };
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    let is_host = !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.bytes().all(is_allowed);
    // The parser knows where brackets and colons may stand.
    let authority: axum::http::uri::Authority = host.parse().ok().filter(|_| is_host)?;
    let name = authority.host();
    let port = host.strip_prefix(name)?;
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    (!name.is_empty() && is_port).then_some(host)
}

/// How the client came: as the nearest proxy says, else as we are spoken to.
fn protocol(headers: &HeaderMap) -> &'static str {
    let said = headers.get(FORWARDED_PROTO).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = said.split(',').next().unwrap_or_default().trim();
    if first.eq_ignore_ascii_case("https") { "https" } else { "http" }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn a_path_names_a_key() {
        for (path, key) in [
            ("/v1/projects/wk/settings", Some("wk")),
            ("/v1/projects/wk/settings/", Some("wk")),
            ("/v1/projects/a%2Fb/settings", Some("a%2Fb")),
            ("/v1/projects//settings", None),
            ("/v1/projects/settings", None),
            ("/v1/projects/a/b/settings", None),
            ("/v1/projects/wk", None),
            ("/v2/projects/wk/settings", None),
        ] {
            assert_eq!(key_of(path), key, "{path}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        let of = |sent: &str| {
            let request = Request::get("/").header("host", sent).body(()).ok()?;
            host(request.uri(), request.headers()).map(str::to_owned)
        };
        for good in ["events.example.com", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "[::1]", "a_b.example", "X"] {
            assert_eq!(of(good).as_deref(), Some(good));
        }
        let long = "x".repeat(300);
        for bad in [
            "",
            "a b",
            "evil.example/",
            "evil.example/v1?x=",
            "user@evil.example",
            "a,b",
            "a\"b",
            "é",
            "a:b:c",
            "a:",
            ":80",
            "a:99999",
            "[::1",
            "<script>",
            "a;b",
            &long,
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
        let two = Request::get("/").header("host", "a").header("host", "b").body(()).unwrap();
        assert_eq!(host(two.uri(), two.headers()), None);
        let absolute = Request::get("http://a.example:81/x").body(()).unwrap();
        assert_eq!(host(absolute.uri(), absolute.headers()), Some("a.example:81"));
    }

    #[test]
    fn only_a_proxy_knows_of_tls_and_nothing_else_is_repeated() {
        let of = |sent: &str| {
            let request = Request::get("/").header("x-forwarded-proto", sent).body(()).unwrap();
            protocol(request.headers())
        };
        assert_eq!((of("https"), of("HTTPS, http"), of(" https ")), ("https", "https", "https"));
        for other in ["http", "", "ftp", "javascript:alert(1)//", "http, https", "httpss"] {
            assert_eq!(of(other), "http", "{other}");
        }
    }
}
