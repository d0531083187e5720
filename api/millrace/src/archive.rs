//! The archive of this process: the warehouse on local disk, filled beside the jobs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use millrace_clickhouse::{ClickHouseOptions, ClickHouseWarehouse};
use millrace_delta::{DeltaOptions, DeltaWarehouse};
use millrace_events::LogTime;
use millrace_http::Queries;
use millrace_pipelines::archive::{ArchiveOptions, ArchiveSeams, Archived, Archiver};
use millrace_warehouse::{Answer, NamedQuery, Params, Warehouse};

use crate::assemble::{GENERATION, Stores, TokioTimer};
use crate::config::{Backend, Config};
use crate::jobs::Jobs;

/// How often small files are merged and old ones deleted, when there are any.
const MAINTAIN_EVERY: Duration = Duration::from_secs(10);

/// The named queries of this process.
pub(crate) struct LiveQueries {
    pub(crate) warehouse: Arc<dyn Warehouse>,
    /// `None` where the archive is not filled here: then nobody here knows how complete it is.
    pub(crate) archiver: Option<Arc<Archiver>>,
}

#[async_trait]
impl Queries for LiveQueries {
    async fn query(&self, query: &NamedQuery, params: &Params) -> millrace_warehouse::Result<Answer> {
        self.warehouse.query(query, params).await
    }

    fn as_of(&self) -> Option<LogTime> {
        self.archiver.as_ref().and_then(|archiver| archiver.as_of())
    }
}

/// Opens the warehouse, wherever it is.
pub(crate) async fn open(config: &Config) -> anyhow::Result<Arc<dyn Warehouse>> {
    match &config.warehouse {
        Backend::Embedded => Ok(embedded(config).await?),
        Backend::Engine { scheme, url } => {
            let failed = || format!("cannot open the warehouse at {}", config.warehouse);
            if *scheme == "s3" {
                let opened = DeltaWarehouse::open_shared(url, DeltaOptions::default()).await;
                return Ok(Arc::new(opened.with_context(failed)?));
            }
            let opened = ClickHouseWarehouse::open(url, ClickHouseOptions::default()).await;
            Ok(Arc::new(opened.with_context(failed)?))
        }
    }
}

/// Opens the warehouse of a data directory, making it when it is not there.
pub(crate) async fn embedded(config: &Config) -> anyhow::Result<Arc<DeltaWarehouse>> {
    let dir = config.warehouse_dir();
    let opened = DeltaWarehouse::open(&dir, DeltaOptions::default()).await;
    Ok(Arc::new(opened.with_context(|| format!("cannot open the warehouse in {}", dir.display()))?))
}

/// Fills `warehouse` with what the log and `jobs` lead to, on their threads, until they stop.
pub(crate) fn start(
    stores: &Stores,
    jobs: &mut Jobs,
    warehouse: Arc<dyn Warehouse>,
    archived: Archived,
) -> Arc<Archiver> {
    let seams = ArchiveSeams {
        log: stores.log.clone(),
        states: stores.states.store(),
        warehouse,
        board: jobs.board.clone(),
        timer: Arc::new(TokioTimer),
    };
    let archiver = Arc::new(Archiver::new(seams, GENERATION, ArchiveOptions::default(), archived));
    let filling = archiver.clone();
    jobs.spawn(async move { filling.run().await });
    let maintained = archiver.clone();
    jobs.spawn(async move {
        let mut every = tokio::time::interval(MAINTAIN_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            match maintained.maintain().await {
                Ok(done) => tracing::debug!(?done, "the warehouse was maintained"),
                Err(error) => {
                    tracing::warn!(%error, "the warehouse could not be maintained; the next round tries again")
                }
            }
        }
    });
    archiver
}
