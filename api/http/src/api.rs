//! One request in, one answer out.

use std::fmt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, Method, Request, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::FutureExt as _;
use millrace_collector::Collector;
use millrace_events::Micros;
use millrace_log::{Clock, EventLog, WallClock};
use millrace_ranking::Ranker;
use tokio::sync::{Semaphore, SemaphorePermit};
use tower::ServiceExt as _;
use tower_http::normalize_path::NormalizePath;

use crate::access::Access;
use crate::body::Budget;
use crate::error::ApiError;
use crate::limits::{Asked, LimitOptions, Limits};
use crate::routes::backup::BackupTaker;
use crate::routes::queries::Queries;
use crate::routes::verify::Verifier;
use crate::serve::Peer;
use crate::slates::SlateSink;
use crate::status::StatusSource;
use crate::{cors, ingest, metrics, remote_config, routes, settings};

/// The most ingest requests that wait for the log at one time; more are told to come back.
pub const INGEST_IN_FLIGHT_MAX: usize = 4096;

/// The most other requests that are answered at one time; more are told to come back.
pub const READS_IN_FLIGHT_MAX: usize = 256;

/// After this long without an answer the caller is told to come back.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Knows what this process still waits for before it can do its work.
pub trait Readiness: Send + Sync + 'static {
    /// What is missing, in words; empty when ready.
    fn missing(&self) -> Vec<String>;
}

/// Renders the metrics of the process in Prometheus text format.
pub type MetricsSource = Arc<dyn Fn() -> String + Send + Sync>;

/// Everything that answers need.
#[derive(Clone)]
pub struct ApiState {
    /// Takes events in.
    pub collector: Arc<Collector>,
    /// The most that is read of one ingest body, in bytes: the collector's own bound.
    pub body_bytes_max: usize,
    /// Ranks feeds.
    pub ranker: Arc<Ranker>,
    /// Takes what was served.
    pub slates: Arc<dyn SlateSink>,
    /// Knows how far everything is.
    pub status: Arc<dyn StatusSource>,
    /// For the administrator's look at the log.
    pub log: Arc<dyn EventLog>,
    /// Knows what is missing.
    pub readiness: Arc<dyn Readiness>,
    /// Compares what is live with a replay of the log.
    pub verifier: Arc<dyn Verifier>,
    /// Takes backups.
    pub backups: Arc<dyn BackupTaker>,
    /// Answers named queries; `None` where no warehouse is.
    pub queries: Option<Arc<dyn Queries>>,
    /// Renders the metrics.
    pub metrics: MetricsSource,
    /// Who may read what.
    pub access: Access,
    /// Who may ask how often.
    pub limits: LimitOptions,
}

/// The HTTP surface. Clones share everything.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
    /// Slashes are trimmed outside of the router, so that `/x` and `/x/` are one route.
    routes: NormalizePath<Router>,
}

pub(crate) struct Shared {
    pub(crate) state: ApiState,
    /// When this process began to answer. Microseconds.
    pub(crate) since_us: Micros,
    pub(crate) bodies: Budget,
    limits: Limits,
    ingest: Semaphore,
    reads: Semaphore,
}

impl Shared {
    /// Whether a request that brings `bytes` could be taken in now. Asked before its body is read: what then waits for a
    /// slow client holds no place yet, and what would be refused anyway is refused at once.
    pub(crate) fn has_room(&self, bytes: u64) -> Result<(), ApiError> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.state.body_bytes_max);
        let has_room = self.ingest.available_permits() > 0 && self.bodies.has_room(bytes);
        if has_room { Ok(()) } else { Err(ApiError::overloaded()) }
    }

    /// A place among the ingest requests that wait for the log.
    pub(crate) fn enter_ingest(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        self.ingest.try_acquire().map_err(|_| ApiError::overloaded())
    }
}

impl Api {
    /// The surface over `state`.
    pub fn new(mut state: ApiState) -> Self {
        let limits = Limits::new(std::mem::take(&mut state.limits));
        let shared = Arc::new(Shared {
            state,
            limits,
            since_us: WallClock.now().0,
            bodies: Budget::default(),
            ingest: Semaphore::new(INGEST_IN_FLIGHT_MAX),
            reads: Semaphore::new(READS_IN_FLIGHT_MAX),
        });
        let routes = NormalizePath::trim_trailing_slash(routes::router(Arc::clone(&shared)));
        Self { shared, routes }
    }

    /// Answers one request. Never fails and never panics: whatever happens becomes an answer.
    pub async fn answer<B>(&self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let answer = AssertUnwindSafe(self.route(request)).catch_unwind();
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => unrouted(ApiError::panicked()),
            Err(_) => unrouted(ApiError::timed_out()),
        }
    }

    /// A place among the ingest requests that wait for the log, taken by a test.
    #[cfg(test)]
    pub(crate) fn enter_ingest(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        self.shared.enter_ingest()
    }

    /// Whether `ip` is a proxy that is trusted to say for whom it asks.
    pub(crate) fn trusts(&self, ip: IpAddr) -> bool {
        self.shared.limits.trusts(ip)
    }

    async fn route<B>(&self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        // A probe that is refused gets the process restarted.
        if matches!(request.uri().path(), "/healthz" | "/readyz") {
            return self.read(request).await;
        }
        let asked = self.shared.limits.arrive(request.extensions().get::<Peer>(), request.headers());
        let mut response = self.route_asked(&asked, request).await;
        asked.tell(response.headers_mut());
        response
    }

    async fn route_asked<B>(&self, asked: &Asked<'_>, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        if let Some(door) = ingest::door(request.uri().path()) {
            let origin = cors::origin(request.headers());
            let mut response = ingest::answer(&self.shared, door, asked, request).await;
            cors::allow(response.headers_mut(), origin);
            return response;
        }
        if let Err(error) = asked.check_address() {
            return unrouted(error);
        }
        if let Some(mut response) = self.tell_browser(request.uri(), request.method(), request.headers()).await {
            cors::allow(response.headers_mut(), cors::origin(request.headers()));
            return response;
        }
        self.read(request).await
    }

    /// What the SDKs of browsers ask before they send; pages of any site may.
    async fn tell_browser(&self, uri: &Uri, method: &Method, headers: &HeaderMap) -> Option<Response> {
        let collector = &self.shared.state.collector;
        if let Some(key) = settings::key_of(uri.path()) {
            return Some(settings::answer(collector, key, method, uri, headers).await);
        }
        let (form, key) = remote_config::asked(uri.path())?;
        Some(remote_config::answer(collector, form, key, method, headers).await)
    }

    async fn read<B>(&self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let Ok(_place) = self.shared.reads.try_acquire() else { return unrouted(ApiError::overloaded()) };
        let request = request.map(Body::new);
        self.routes.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
    }
}

fn unrouted(error: ApiError) -> Response {
    let response = error.into_response();
    metrics::unrouted(response.status());
    response
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}
