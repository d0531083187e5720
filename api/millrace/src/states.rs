//! The job state of this process: in the data directory, or shared on an object store.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millrace_embedded::Embedded;
use millrace_pipelines::runner::WorkerOptions;
use millrace_pipelines::state::{FjallStateStore, StateStore};
use millrace_slatedb::{SlateOptions, SlateStateStore};

use crate::assemble::GENERATION;
use crate::config::{Backend, Config};

/// How often state is committed to an object store, which takes money for each request. What is not committed is done again
/// by whoever takes a partition over: its outputs are out already, and repeating them changes nothing.
const SHARED_COMMIT_EVERY: Duration = Duration::from_secs(5);

/// Where jobs keep what they remember.
#[derive(Clone)]
pub(crate) enum States {
    /// In the data directory: one process works on everything.
    Local(Arc<FjallStateStore>),
    /// On an object store: processes share the work, and a partition moves with its state.
    Shared(Arc<SlateStateStore>),
}

impl States {
    /// Opens what the configuration names, for the log of this name.
    pub(crate) async fn open(config: &Config, embedded: &Arc<Embedded>, log: &str) -> anyhow::Result<Self> {
        let Backend::Engine { url, .. } = &config.state else {
            return Ok(Self::Local(Arc::new(FjallStateStore::new(embedded.clone()))));
        };
        let options = SlateOptions { generation: GENERATION, ..SlateOptions::default() };
        let store = SlateStateStore::open(url, options)
            .await
            .with_context(|| format!("cannot open the job state at {}", config.state))?;
        store.follow(log).await?;
        Ok(Self::Shared(Arc::new(store)))
    }

    /// Its seam.
    pub(crate) fn store(&self) -> Arc<dyn StateStore> {
        match self {
            Self::Local(store) => store.clone(),
            Self::Shared(store) => store.clone(),
        }
    }

    /// Bounds of a worker that commits there.
    pub(crate) fn worker_options(&self) -> WorkerOptions {
        let options = WorkerOptions::default();
        match self {
            Self::Local(_) => options,
            Self::Shared(_) => {
                WorkerOptions { commit_every: SHARED_COMMIT_EVERY, commit_idle: SHARED_COMMIT_EVERY, ..options }
            }
        }
    }
}
