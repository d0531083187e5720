//! Connections: bounded in number, in the size of a request's head and in the time that it may take.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::Api;

/// The largest head of a request, in bytes; a body is read in pieces of at most this size.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long a connection may take to send a head, or idle between two requests.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait before accepting again when the process is out of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How connections are served.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// The most connections at one time; more wait to be accepted. Each is a file handle, and the stores need theirs.
    pub connections_max: usize,
    /// How long requests in progress may go on after the shutdown began.
    pub grace: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { connections_max: 1024, grace: Duration::from_secs(5) }
    }
}

/// Serves `api` on `listener` until `shutdown` is done; then takes no more requests and answers those in progress.
pub async fn serve(api: Api, listener: TcpListener, options: ServeOptions, shutdown: impl Future<Output = ()> + Send) {
    let places = Arc::new(Semaphore::new(options.connections_max));
    let graceful = GracefulShutdown::new();
    let accepting = async {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => connect(&api, stream, place, &graceful),
                // A connection that was reset before it was accepted is gone; running out of handles passes.
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown => {}
    }
    drop(listener);
    if tokio::time::timeout(options.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still in progress when the time for a graceful shutdown was over");
    }
}

fn connect(api: &Api, stream: TcpStream, place: OwnedSemaphorePermit, graceful: &GracefulShutdown) {
    // An answer is one small write; waiting for more to send with it would only delay it.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let api = api.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(place);
    });
}
