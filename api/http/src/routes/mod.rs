//! Everything but ingest, by resource.

pub(crate) mod backup;
pub(crate) mod feeds;
pub(crate) mod health;
pub(crate) mod ingest_status;
pub(crate) mod log;
pub(crate) mod persons;
pub(crate) mod posts;
pub(crate) mod queries;
mod query;
pub(crate) mod status;
pub(crate) mod trends;
pub(crate) mod verify;

use std::sync::Arc;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use millrace_collector::Scope;

use crate::api::Shared;
use crate::error::ApiError;
use crate::{access, metrics, openapi};

/// A path that asks for a scope.
pub(crate) struct Guarded {
    pub(crate) path: &'static str,
    pub(crate) scope: Scope,
    methods: fn() -> MethodRouter<Arc<Shared>>,
}

const fn guarded(path: &'static str, scope: Scope, methods: fn() -> MethodRouter<Arc<Shared>>) -> Guarded {
    Guarded { path, scope, methods }
}

/// Every path that asks for a scope: here it is said once, for those who ask and for the document.
pub(crate) const GUARDED: &[Guarded] = &[
    guarded("/v1/feeds/home", Scope::FeedsRead, || get(feeds::home)),
    guarded("/v1/feeds/author/{author_id}", Scope::FeedsRead, || get(feeds::author)),
    guarded("/v1/persons/{id}", Scope::FeedsRead, || get(persons::person)),
    guarded("/v1/posts/{post_id}", Scope::FeedsRead, || get(posts::post)),
    guarded("/v1/posts/{post_id}/engagement", Scope::FeedsRead, || get(posts::engagement)),
    guarded("/v1/trends/tags", Scope::FeedsRead, || get(trends::tags)),
    guarded("/v1/trends/posts", Scope::FeedsRead, || get(trends::posts)),
    guarded("/v1/queries", Scope::QueriesRead, || get(queries::list)),
    guarded("/v1/queries/{name}", Scope::QueriesRead, || get(queries::run)),
    guarded("/v1/status", Scope::StatusRead, || get(status::status)),
    guarded("/v1/ingest/status", Scope::StatusRead, || get(ingest_status::ingest_status)),
    guarded("/metrics", Scope::StatusRead, || get(health::metrics)),
    guarded("/openapi.json", Scope::StatusRead, || get(openapi::document)),
    guarded("/v1/log/{topic}", Scope::Admin, || get(log::records)),
    guarded("/v1/admin/backup", Scope::Admin, || get(backup::state).post(backup::begin)),
    guarded("/v1/admin/verify", Scope::Admin, || get(verify::state).post(verify::begin)),
];

/// Every route.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let open = Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready));
    let all = GUARDED.iter().fold(open, |router, Guarded { path, scope, methods }| {
        let asks = from_fn_with_state((Arc::clone(&shared), *scope), access::scoped);
        router.route(path, methods().route_layer(asks))
    });
    all.fallback(|| async { ApiError::no_route() })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed(None) })
        .layer(from_fn(metrics::measure))
        .with_state(shared)
}

/// A JSON answer, or the error body.
pub(crate) type Answer<T> = Result<Json<T>, ApiError>;

/// Text that is JSON already.
pub(crate) fn json_text(text: &'static str) -> Response {
    typed(StatusCode::OK, "application/json", text)
}

pub(crate) fn typed(status: StatusCode, content_type: &'static str, body: impl IntoResponse) -> Response {
    let mut response = (status, body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
