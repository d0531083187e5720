//! One server of Redis and the connection to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millrace_feature_store::online::{Error, Result};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, Pipeline, RedisError, Value};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::failure::{again, failed};
use crate::target::address_of;

/// How many pipelines are under way to one server at most; the others wait.
const PIPELINES_MAX: usize = 64;
/// How long after a first failure nobody tries to connect again.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// How long it gets by doubling.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// A server, connected or not.
pub(crate) struct Server {
    /// Host and port.
    pub(crate) address: String,
    client: Client,
    config: AsyncConnectionConfig,
    link: Mutex<Option<Link>>,
    /// Held by whoever connects: the others wait for the outcome.
    pub(crate) connecting: tokio::sync::Mutex<Backoff>,
    seen: Mutex<Option<Identity>>,
    permits: Semaphore,
}

/// A connection that has been checked: see `Shared::establish`. It does not reconnect by itself.
#[derive(Clone)]
pub(crate) struct Link {
    connection: MultiplexedConnection,
    number: u64,
}

/// By what a server shows that its history is the one we know: the process, and the id of its replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) run: String,
    pub(crate) replication: String,
}

/// When to try to connect again.
#[derive(Default)]
pub(crate) struct Backoff {
    failed: Option<(Instant, Error)>,
    wait: Duration,
}

impl Server {
    pub(crate) fn new(info: ConnectionInfo, config: AsyncConnectionConfig) -> Result<Self> {
        let address = address_of(&info);
        let client = Client::open(info).map_err(|e| failed("use the URL", &address, e))?;
        Ok(Self {
            address,
            client,
            config,
            link: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
            permits: Semaphore::new(PIPELINES_MAX),
        })
    }

    /// The connection, when there is one.
    pub(crate) fn link(&self) -> Option<Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_link(&self, link: Link) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);
    }

    /// Gives a connection up, unless it was replaced already: the next call connects and checks again.
    pub(crate) fn drop_link(&self, link: &Link) {
        let mut current = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| current.number == link.number) {
            *current = None;
        }
    }

    /// Who it was when it was last checked and had all we wrote.
    pub(crate) fn seen(&self) -> Option<Identity> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_seen(&self, identity: Identity) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(identity);
    }

    /// A new connection, not checked and nobody else's yet.
    pub(crate) async fn dial(&self) -> std::result::Result<Link, RedisError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let connection = self.client.get_multiplexed_async_connection_with_config(&self.config).await?;
        Ok(Link { connection, number: NUMBER.fetch_add(1, Ordering::Relaxed) })
    }

    /// Sends commands at once, and answers what each of them was answered, errors included.
    pub(crate) async fn pipeline(
        &self,
        link: &Link,
        pipeline: &Pipeline,
    ) -> std::result::Result<Vec<Value>, RedisError> {
        // It is never closed.
        let _permit = self.permits.acquire().await;
        link.connection.clone().send_packed_commands(pipeline, 0, pipeline.len()).await
    }
}

impl Backoff {
    /// The error of the last attempt, while it is too early for another.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.failed {
            Some((until, error)) if Instant::now() < *until => Err(again(error)),
            _ => Ok(()),
        }
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Notes a failed attempt. True for the first since the last success.
    pub(crate) fn failed(&mut self, error: &Error) -> bool {
        let first = self.failed.is_none();
        self.wait = (self.wait * 2).clamp(BACKOFF_FIRST, BACKOFF_MAX);
        self.failed = Some((Instant::now() + self.wait, again(error)));
        first
    }
}
