//! The catalog of this process, in the data directory or on Postgres: write keys and settings, which change while it runs.

use std::sync::Arc;

use anyhow::{Context, bail};
use millrace_catalog::{
    Cached, CachedOptions, Catalog, PLATFORM, PostgresCatalog, PostgresOptions, Record, Settings, SqliteCatalog,
    SqliteOptions, TrackingPlan, WriteKey,
};
use millrace_collector::{Collector, Source};

use crate::config::{Backend, Config, Retention, SLATE_DAYS};
use crate::plans;
use crate::slates::Slates;

/// The catalog in a data directory.
pub(crate) const FILE: &str = "catalog.db";

/// The last content of a catalog elsewhere, so that a process can start while that is away.
const COPY: &str = "catalog-copy.json";

/// Opens the catalog, wherever it is. Postgres need not be there: each call says so and tries again.
pub(crate) async fn open(config: &Config) -> anyhow::Result<Arc<dyn Catalog>> {
    match &config.catalog {
        Backend::Embedded => {
            let path = config.data_dir.join(FILE);
            let opened = SqliteCatalog::open(&path, SqliteOptions::default()).await;
            Ok(opened.with_context(|| format!("cannot open the catalog {}", path.display()))?)
        }
        Backend::Engine { url, .. } => Ok(PostgresCatalog::open_lazy(url, PostgresOptions::default())
            .with_context(|| format!("cannot use the catalog at {}", config.catalog))?),
    }
}

/// The same for a command, which makes the data directory when it is not there: keys come before the first start.
pub(crate) async fn open_or_make(config: &Config) -> anyhow::Result<Arc<dyn Catalog>> {
    crate::assemble::make_private(&config.data_dir)?;
    open(config).await
}

/// What people decided, as of now. What the configuration says itself comes first.
pub(crate) struct Decisions {
    config: Config,
    catalog: Arc<dyn Catalog>,
    cached: Cached,
}

impl Decisions {
    /// Reads the catalog, or the last known content while it is away.
    pub(crate) async fn read(config: &Config) -> anyhow::Result<Arc<Self>> {
        let catalog = open(config).await?;
        let mut options = CachedOptions::new([WriteKey::KIND, Settings::KIND, TrackingPlan::KIND]);
        options.copy = (config.catalog != Backend::Embedded).then(|| config.data_dir.join(COPY));
        let cached = Cached::start(catalog.clone(), options).await;
        let cached = cached.with_context(|| format!("cannot read the catalog at {}", config.catalog))?;
        Ok(Arc::new(Self { config: config.clone(), catalog, cached }))
    }

    /// The write keys, and whether any other is taken too: on the loopback, as long as there has never been one.
    pub(crate) fn keys(&self) -> (Vec<Source>, bool) {
        let given = self.config.sources.iter();
        let mut sources: Vec<Source> =
            given.map(|s| Source { name: s.name.clone(), write_key: s.write_key.clone() }).collect();
        let mut is_open = sources.is_empty() && self.config.listen.ip().is_loopback();
        for key in self.cached.snapshot().records::<WriteKey>() {
            is_open = false;
            match key {
                Ok(key) if key.revoked => {}
                Ok(key) => sources.push(Source { name: key.name, write_key: key.key.expose().to_owned() }),
                Err(error) => tracing::error!(%error, "a write key of the catalog cannot be read and is not taken"),
            }
        }
        (sources, is_open)
    }

    /// What the properties of events must look like, as it is written.
    pub(crate) fn tracking_plans(&self) -> Vec<TrackingPlan> {
        plans::read(&self.cached.snapshot())
    }

    /// Refuses to open a door beyond the loopback that nobody could use.
    ///
    /// # Errors
    /// When there is no write key.
    pub(crate) fn refuse_a_door_without_keys(&self) -> anyhow::Result<()> {
        let (sources, is_open) = self.keys();
        if sources.is_empty() && !is_open && !self.config.listen.ip().is_loopback() {
            bail!(
                "refusing to listen on {} without write keys: run `millrace keys add NAME` with the same configuration, set \
                 MILLRACE_WRITE_KEYS=NAME:KEY, or listen on 127.0.0.1",
                self.config.listen
            );
        }
        Ok(())
    }

    /// How long the log is kept.
    pub(crate) fn retention(&self) -> Retention {
        let settings = self.settings();
        Retention {
            log_days: self.config.retention_days.or(settings.retention_days),
            slate_days: self.config.slate_retention_days.or(settings.slate_retention_days).unwrap_or(SLATE_DAYS),
        }
    }

    /// The share of home feeds that are recorded.
    pub(crate) fn slate_sample_rate(&self) -> f64 {
        self.config.slate_sample_rate.or(self.settings().slate_sample_rate).unwrap_or(1.0)
    }

    fn settings(&self) -> Settings {
        let found = self.cached.snapshot().record::<Settings>(PLATFORM);
        found
            .unwrap_or_else(|error| {
                tracing::error!(%error, "the settings of the catalog cannot be read: defaults are used");
                None
            })
            .unwrap_or_default()
    }

    /// Hands on what changes, until it is dropped.
    pub(crate) async fn follow(self: Arc<Self>, collector: Arc<Collector>, slates: Arc<Slates>) {
        let mut content = self.cached.watch();
        let mut planned = self.tracking_plans();
        while content.changed().await.is_ok() {
            let now = self.tracking_plans();
            // Compiling takes a while, and most changes are of other things.
            if now != planned {
                collector.set_plans(plans::compile(&now));
                planned = now;
            }
            let (sources, is_open) = self.keys();
            collector.set_keys(sources, is_open);
            slates.set_rate(self.slate_sample_rate());
        }
    }

    /// Lets go of the catalog.
    pub(crate) async fn close(&self) {
        self.catalog.close().await;
    }
}
