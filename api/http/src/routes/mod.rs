//! Everything but ingest, by resource.

pub(crate) mod backup;
pub(crate) mod feeds;
pub(crate) mod health;
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
use axum::routing::get;
use axum::{Json, Router};

use crate::api::Shared;
use crate::error::ApiError;
use crate::{access, metrics, openapi};

/// Every route. A route that reads stands behind the reader's token by where it stands here, not by what it remembers.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let readers = Router::new()
        .route("/v1/feeds/home", get(feeds::home))
        .route("/v1/feeds/author/{author_id}", get(feeds::author))
        .route("/v1/persons/{id}", get(persons::person))
        .route("/v1/posts/{post_id}", get(posts::post))
        .route("/v1/posts/{post_id}/engagement", get(posts::engagement))
        .route("/v1/trends/tags", get(trends::tags))
        .route("/v1/trends/posts", get(trends::posts))
        .route("/v1/queries", get(queries::list))
        .route("/v1/queries/{name}", get(queries::run))
        .route("/v1/status", get(status::status))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi::document))
        .route_layer(from_fn_with_state(Arc::clone(&shared), access::readers));
    let administrators = Router::new()
        .route("/v1/log/{topic}", get(log::records))
        .route("/v1/admin/backup", get(backup::state).post(backup::begin))
        .route("/v1/admin/verify", get(verify::state).post(verify::begin))
        .route_layer(from_fn_with_state(Arc::clone(&shared), access::administrators));
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .merge(readers)
        .merge(administrators)
        .fallback(|| async { ApiError::no_route() })
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
