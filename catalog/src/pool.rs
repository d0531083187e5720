//! A few connections to one database.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::Connection;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// From how long on an idle connection is asked whether it still lives.
const IDLE_TRUST: Duration = Duration::from_secs(1);
/// How long it may take to say so.
const PING_MAX: Duration = Duration::from_secs(1);
/// How long a connection may take to say good-bye.
const CLOSE_MAX: Duration = Duration::from_secs(1);

type Connect<C> = Box<dyn Fn() -> BoxFuture<'static, Result<C, sqlx::Error>> + Send + Sync>;

/// At most so many connections. Why not the pool of sqlx: while a server is away it tries until the time is over, and then
/// tells that time is over instead of why; and it takes back connections whose call was given up in the middle.
pub(crate) struct Pool<C> {
    connect: Connect<C>,
    idle: Mutex<Vec<(C, Instant)>>,
    room: Semaphore,
}

impl<C: Connection + Send + 'static> Pool<C> {
    pub(crate) fn new<F>(connections_max: usize, connect: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<C, sqlx::Error>> + Send + 'static,
    {
        let connect: Connect<C> = Box::new(move || Box::pin(connect()));
        Self { connect, idle: Mutex::default(), room: Semaphore::new(connections_max) }
    }

    /// A connection for one call. Waits for one of the others to end; the caller bounds that.
    pub(crate) async fn lease(&self) -> Result<Lease<'_, C>, sqlx::Error> {
        let permit = self.room.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        loop {
            let Some((mut connection, since)) = self.idle().pop() else { break };
            if since.elapsed() < IDLE_TRUST || matches!(timeout(PING_MAX, connection.ping()).await, Ok(Ok(()))) {
                return Ok(Lease { pool: self, connection: Some(connection), _permit: permit });
            }
            // What broke one has likely broken all.
            self.forget();
        }
        let connection = Some((self.connect)().await?);
        Ok(Lease { pool: self, connection, _permit: permit })
    }

    /// Drops all idle connections.
    pub(crate) fn forget(&self) {
        self.idle().clear();
    }

    pub(crate) async fn close(&self) {
        self.room.close();
        let idle = std::mem::take(&mut *self.idle());
        for (connection, _) in idle {
            // Who does not answer is dropped: the other end notices.
            drop(timeout(CLOSE_MAX, connection.close()).await);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(C, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection for one call. It goes back only when it is given back: who gives up in the middle leaves it in no known state,
/// so it is closed, and what it had begun is undone.
pub(crate) struct Lease<'a, C> {
    pool: &'a Pool<C>,
    connection: Option<C>,
    _permit: SemaphorePermit<'a>,
}

impl<C: Connection + Send + 'static> Lease<'_, C> {
    pub(crate) fn connection(&mut self) -> &mut C {
        self.connection.as_mut().expect("only `give_back` takes it, and the lease with it")
    }

    pub(crate) fn give_back(mut self) {
        if let Some(connection) = self.connection.take()
            && !self.pool.room.is_closed()
        {
            self.pool.idle().push((connection, Instant::now()));
        }
    }
}
