//! Connections: bounded in number, over all and for one address, in the size of a request's head and in the time that each
//! part of a request may take. Who comes when all places are taken is served too, or told at once to come back.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::MissedTickBehavior;

use crate::api::Api;
use crate::connections::{Answered, Connections, Place, SWEEP_EVERY, Watched};
use crate::turned_away::Porter;

/// The largest head of a request, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A body is read in pieces of at most this size, in bytes.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// The most connections at one time, where the process may have as many file handles.
pub const CONNECTIONS_MAX: usize = 8192;

/// One address may have one in so many of the places.
const ADDRESS_SHARE: usize = 4;

/// How long to wait before accepting again when a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How connections are served.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// The most connections at one time. Each is a file handle, and the stores need theirs.
    pub connections_max: usize,
    /// The most connections of one address, a /64 being one. A proxy that is trusted to say for whom it asks has no such
    /// bound.
    pub connections_per_address_max: usize,
    /// How long requests in progress may go on after the shutdown began.
    pub grace: Duration,
}

impl ServeOptions {
    /// For at most so many connections, or [`CONNECTIONS_MAX`]; a quarter of them may come from one address.
    pub fn for_connections(most: usize) -> Self {
        let connections_max = most.clamp(1, CONNECTIONS_MAX);
        Self {
            connections_max,
            connections_per_address_max: connections_max.div_ceil(ADDRESS_SHARE),
            grace: Duration::from_secs(5),
        }
    }
}

impl Default for ServeOptions {
    /// For a process with the 1,024 file handles that are usual.
    fn default() -> Self {
        Self::for_connections(512)
    }
}

/// Who opened the connection that a request came on: an extension of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Serves `api` on `listener` until `shutdown` is done; then takes no more requests and answers those in progress.
pub async fn serve(api: Api, listener: TcpListener, options: ServeOptions, shutdown: impl Future<Output = ()> + Send) {
    let door = Door {
        api,
        connections: Connections::new(options.connections_max, options.connections_per_address_max),
        porter: Porter::default(),
        graceful: GracefulShutdown::new(),
    };
    tokio::select! {
        () = door.accept(&listener) => {}
        () = door.sweep() => {}
        () = shutdown => {}
    }
    drop(listener);
    if tokio::time::timeout(options.grace, door.graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still in progress when the time for a graceful shutdown was over");
    }
}

struct Door {
    api: Api,
    connections: Arc<Connections>,
    porter: Porter,
    graceful: GracefulShutdown,
}

impl Door {
    async fn accept(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => self.open_to(stream, from),
                // A connection that was reset before it was accepted is gone; being out of handles passes sooner when
                // one of those that wait goes.
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    self.connections.shed();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn sweep(&self) {
        let mut every = tokio::time::interval(SWEEP_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            self.connections.sweep();
        }
    }

    fn open_to(&self, stream: TcpStream, from: SocketAddr) {
        let peer = from.ip().to_canonical();
        match self.connections.enter(peer, !self.api.trusts(peer)) {
            Some(place) => self.connect(stream, peer, place),
            None => self.porter.turn_away(stream),
        }
    }

    fn connect(&self, stream: TcpStream, peer: IpAddr, place: Place) {
        // An answer is one small write; waiting for more to send with it would only delay it.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        let api = self.api.clone();
        let link = Arc::clone(place.link());
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&link)));
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (api, link) = (api.clone(), Arc::clone(&link));
            async move {
                if !link.begin() {
                    // The connection is being closed.
                    pending::<()>().await;
                }
                request.extensions_mut().insert(Peer(peer));
                let response = api.answer(request).await;
                Ok::<_, Infallible>(response.map(|body| Answered::new(body, link)))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(PIECE_BYTES_MAX)
            .serve_connection(io, service);
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                }
                () = place.link().closed() => {}
            }
        });
    }
}
