//! Hears of changes that others make.

use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::store::Store;
use crate::{PostgresOptions, Result, Revision};

use super::Postgres;
use super::target::Target;

/// How long to wait before listening again, at first.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Listens, and looks at the revision now and then, because notifications are lost while nobody hears them. Ends when the
/// catalog is dropped.
pub(crate) async fn follow(store: Weak<Store<Postgres>>, target: Arc<Target>, options: PostgresOptions) {
    let mut pause = PAUSE_MIN;
    let mut seen = None;
    while store.strong_count() > 0 {
        match listen(&store, &target, &options, &mut seen).await {
            // It was heard for a while, so the next time is not one of many in a row.
            Ok(()) => pause = PAUSE_MIN,
            Err(error) => {
                tracing::debug!("cannot listen to changes of the catalog at {}: {error}", target.place);
                pause = (pause * 2).min(options.poll.max(PAUSE_MIN));
            }
        }
        sleep(pause).await;
    }
}

/// Listens until that is in vain.
async fn listen(
    store: &Weak<Store<Postgres>>,
    target: &Target,
    options: &PostgresOptions,
    seen: &mut Option<Revision>,
) -> sqlx::Result<()> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(options.connect_timeout);
    let pool = pool.connect_lazy_with(target.connect.clone());
    let listening = timeout(options.connect_timeout, async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(&format!("millrace_catalog_{}", target.schema)).await?;
        Ok::<_, sqlx::Error>(listener)
    });
    let mut listener = match listening.await {
        Ok(listener) => listener?,
        Err(_) => return Err(sqlx::Error::PoolTimedOut),
    };
    if let Some(store) = store.upgrade()
        && let Err(error) = store.ready().await
    {
        // Here it may take its time, which a call may not.
        tracing::debug!("{error}");
    }
    // What was changed before is not told: look.
    drop(look(store, seen).await);
    loop {
        let poll = Instant::now() + options.poll;
        let mut heard = false;
        loop {
            match timeout_at(poll, listener.try_recv()).await {
                Ok(Ok(Some(_))) => {
                    let Some(store) = store.upgrade() else { return Ok(()) };
                    heard = true;
                    store.bell.ring();
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        match look(store, seen).await {
            Some(Ok(changed)) if heard || !changed => {}
            // A server that does not answer will not notify either; and where something has changed that nobody told of, the
            // connection is one in name only. Dropped catalogs need none.
            _ => return Ok(()),
        }
    }
}

/// Rings when the revision is another than last time, and tells whether it is; none when the catalog was dropped.
async fn look(store: &Weak<Store<Postgres>>, seen: &mut Option<Revision>) -> Option<Result<bool>> {
    let store = store.upgrade()?;
    let head = match store.head().await {
        Ok(head) => head,
        Err(error) => return Some(Err(error)),
    };
    let changed = seen.replace(head.revision) != Some(head.revision);
    if changed {
        store.bell.ring();
    }
    Some(Ok(changed))
}
