//! What posthog-js asks for before it captures anything by itself: as a script first, and where that fails as JSON.
//!
//! Everything is off that is answered from elsewhere at PostHog: what it says is that there are no flags here and no recordings,
//! and that a page may capture clicks. It says nothing of surveys: told that there are none, the client fetches their script.

use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use millrace_collector::Collector;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::routes::typed;
use crate::{cors, settings};

/// What the client may do, as posthog-js reads it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RemoteConfig)]
pub(crate) struct RemoteConfig {
    supported_compression: [&'static str; 2],
    /// There are none here.
    has_feature_flags: bool,
    session_recording: bool,
    heatmaps: bool,
    capture_performance: bool,
    capture_dead_clicks: bool,
    /// `false`: a page captures clicks, unless it says otherwise itself.
    #[serde(rename = "autocapture_opt_out")]
    autocapture_opt_out: bool,
    autocapture_exceptions: bool,
    #[schema(value_type = Vec<Object>)]
    site_apps: Vec<Value>,
}

const CONFIG: RemoteConfig = RemoteConfig {
    supported_compression: ["gzip", "gzip-js"],
    has_feature_flags: false,
    session_recording: false,
    heatmaps: false,
    capture_performance: false,
    capture_dead_clicks: false,
    autocapture_opt_out: false,
    autocapture_exceptions: false,
    site_apps: Vec::new(),
};

/// In which form it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    /// A script that leaves it where the client looks.
    Script,
}

impl Form {
    /// What the route is in metrics and in the description of the API.
    pub(crate) const fn route(self) -> &'static str {
        match self {
            Form::Json => "/array/{write_key}/config",
            Form::Script => "/array/{write_key}/config.js",
        }
    }
}

/// The form and the write key in the path, as it stands there.
pub(crate) fn asked(path: &str) -> Option<(Form, &str)> {
    let (key, file) = path.strip_suffix('/').unwrap_or(path).strip_prefix("/array/")?.split_once('/')?;
    let form = match file {
        "config" => Form::Json,
        "config.js" => Form::Script,
        _ => return None,
    };
    (!key.is_empty()).then_some((form, key))
}

/// Answers who asks for what the pages of `key` may do.
pub(crate) async fn answer(
    collector: &Collector,
    form: Form,
    key: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Response {
    cors::read_only(form.route(), method, headers, config(collector, form, key)).await
}

/// What posthog-js may do in the pages of this key
#[utoipa::path(get, path = "/array/{write_key}/config", tag = "ingest",
    params(("write_key" = String, Path, description = "The write key that the page has")),
    responses((status = 200, body = RemoteConfig), (status = "4XX", body = crate::error::Problem)))]
#[expect(
    dead_code,
    reason = "describes what is answered outside of the router, as all that browsers may ask from anywhere"
)]
fn described() {}

/// The same as a script
#[utoipa::path(get, path = "/array/{write_key}/config.js", tag = "ingest",
    params(("write_key" = String, Path, description = "The write key that the page has")),
    responses((status = 200, body = String, content_type = "text/javascript"), (status = "4XX", body = crate::error::Problem)))]
#[expect(dead_code, reason = "as above")]
fn described_script() {}

async fn config(collector: &Collector, form: Form, key: &str) -> Result<Response, ApiError> {
    let key = settings::known_key(collector, key).await?;
    // Text and flags always serialise.
    let (content_type, body) = match form {
        Form::Json => ("application/json", serde_json::to_string(&CONFIG).unwrap_or_default()),
        Form::Script => {
            let left = json!({ key: { "config": CONFIG, "siteApps": [] } });
            let name = "_POSTHOG_REMOTE_CONFIG";
            ("text/javascript", format!("window.{name} = Object.assign(window.{name} || {{}}, {left})\n"))
        }
    };
    let mut response = typed(StatusCode::OK, content_type, body);
    let said = response.headers_mut();
    said.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    said.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=60"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_form_and_a_key() {
        for (path, expected) in [
            ("/array/wk/config", Some((Form::Json, "wk"))),
            ("/array/wk/config/", Some((Form::Json, "wk"))),
            ("/array/a%2Fb/config.js", Some((Form::Script, "a%2Fb"))),
            ("/array//config", None),
            ("/array/config", None),
            ("/array/a/b/config", None),
            ("/array/wk/array.js", None),
        ] {
            assert_eq!(asked(path), expected, "{path}");
        }
    }
}
