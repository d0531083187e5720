//! The online store of this process: in the data directory, or on Redis, which may lose what it holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millrace_embedded::Embedded;
use millrace_feature_store::{FjallOnlineStore, OnlineStore};
use millrace_http::OnlineStatus;
use millrace_log::EventLog;
use millrace_pipelines::runner::Board;
use millrace_redis::{RedisOnlineStore, RedisOptions};

use crate::assemble::worked_partitions;
use crate::commands::client::note;
use crate::commands::verify::Scratch;
use crate::config::{Backend, Config};

/// How long after a rebuild that did not come to its end the next one begins.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How often a process that does not lead looks whether it does now.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The online store, wherever it is.
#[derive(Clone)]
pub(crate) enum Online {
    /// In the data directory.
    Embedded(Arc<FjallOnlineStore>),
    /// On Redis.
    Redis(Arc<RedisOnlineStore>),
}

impl Online {
    /// Opens what the configuration names. Redis may be away: reads and jobs then say so and try again.
    pub(crate) fn open(config: &Config, embedded: &Arc<Embedded>) -> anyhow::Result<Self> {
        match &config.online {
            Backend::Embedded => Ok(Self::Embedded(FjallOnlineStore::open(embedded.clone(), Default::default())?)),
            Backend::Engine { url, .. } => Ok(Self::Redis(RedisOnlineStore::open(url, RedisOptions::default())?)),
        }
    }

    /// Its seam.
    pub(crate) fn store(&self) -> Arc<dyn OnlineStore> {
        match self {
            Self::Embedded(store) => store.clone(),
            Self::Redis(store) => store.clone(),
        }
    }
}

impl Online {
    /// How it is; `None` where nothing can be lost.
    pub(crate) fn status(&self) -> Option<OnlineStatus> {
        match self {
            Self::Embedded(_) => None,
            Self::Redis(store) => {
                let state = store.state();
                Some(OnlineStatus { whole: state.connected && !state.lost })
            }
        }
    }

    /// Fills it from the log when it has lost what it held, for a command that works without a server.
    ///
    /// # Errors
    /// When Redis cannot be reached, or the log cannot be replayed.
    pub(crate) async fn fill(&self, config: &Config, log: &Arc<dyn EventLog>) -> anyhow::Result<()> {
        let Self::Redis(store) = self else { return Ok(()) };
        while store.connect().await?.lost {
            note("the online store has lost what it held: filling it from the log");
            refill(store, config, log).await?;
        }
        Ok(())
    }
}

/// Fills Redis again from the log whenever it has lost what it held, until the jobs stop: of several processes the one that
/// leads. Jobs go on meanwhile: what they write is newer than what the replay writes, and the newer one stays.
pub(crate) async fn keep_filled(store: Arc<RedisOnlineStore>, config: Config, log: Arc<dyn EventLog>, board: Board) {
    let mut state = store.watch();
    loop {
        if state.wait_for(|state| state.lost).await.is_err() {
            return;
        }
        if !board.leads() {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        tracing::warn!("the online store is new or has lost what it held: filling it from the log");
        match refill(&store, &config, &log).await {
            Ok(true) => tracing::info!("the online store is whole again"),
            Ok(false) => tracing::warn!("the online store lost something meanwhile: filling it again"),
            Err(error) => tracing::warn!("the online store could not be filled, trying again: {error:#}"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// False when something was lost meanwhile.
async fn refill(store: &Arc<RedisOnlineStore>, config: &Config, log: &Arc<dyn EventLog>) -> anyhow::Result<bool> {
    let rebuild = store.begin_rebuild().await?;
    // Read after the loss was noted: what the jobs apply beyond, they write to a store that has not lost it. Where they are
    // behind, the replay writes what they will write: the same values at the same versions.
    let mut ends = BTreeMap::new();
    for of in worked_partitions(log.partitions()) {
        ends.insert(of, log.bounds(of).await?.end);
    }
    let mut scratch = Scratch::onto(config, log.clone(), store.clone())?;
    scratch.replay.advance(&ends).await.context("the log cannot be replayed")?;
    Ok(store.finish_rebuild(&rebuild).await?)
}
