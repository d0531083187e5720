//! The catalog of this process, in the data directory or on Postgres: keys and settings, which change while it runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use millrace_catalog::{
    ApiKey, Cached, CachedOptions, Catalog, PLATFORM, PostgresCatalog, PostgresOptions, Record, Revision, Settings,
    Snapshot, SqliteCatalog, SqliteOptions, TrackingPlan,
};
use millrace_collector::{Collector, LatestKeys, Scope, Scopes};
use millrace_log::{Clock as _, WallClock};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::config::{Backend, Config, Retention, Role, SLATE_DAYS};
use crate::keys::{KeySet, Uses};
use crate::plans;
use crate::slates::Slates;

/// The catalog in a data directory.
pub(crate) const FILE: &str = "catalog.db";

/// The last content of a catalog elsewhere, so that a process can start while that is away.
const COPY: &str = "catalog-copy.json";

/// How long keys stay as they are without anybody looking at the time again: this machine may have slept.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How often it is remembered what time it is, for the uses of keys.
const TELL_TIME: Duration = Duration::from_secs(1);
/// In how many of those the uses of keys are written into the catalog once.
const TOLD_PER_WRITE: u32 = 60;
/// How long that may take at the end.
const LAST_WRITE_MAX: Duration = Duration::from_secs(2);
/// How long a request waits for what the catalog says about a key that is not known.
const LOOK_MAX: Duration = Duration::from_millis(500);

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
    uses: Uses,
}

impl Decisions {
    /// Reads the catalog, or the last known content while it is away.
    pub(crate) async fn read(config: &Config) -> anyhow::Result<Arc<Self>> {
        let catalog = open(config).await?;
        let mut options = CachedOptions::new([ApiKey::KIND, Settings::KIND, TrackingPlan::KIND]);
        options.copy = (config.catalog != Backend::Embedded).then(|| config.data_dir.join(COPY));
        let cached = Cached::start(catalog.clone(), options).await;
        let cached = cached.with_context(|| format!("cannot read the catalog at {}", config.catalog))?;
        let decisions = Self { config: config.clone(), catalog, cached, uses: Uses::default() };
        decisions.uses.tell_time(decisions.now_ms());
        decisions.warn_of_clear_keys();
        Ok(Arc::new(decisions))
    }

    /// Who may send and read now.
    pub(crate) fn keys(&self) -> KeySet {
        self.keys_of(&self.cached.snapshot())
    }

    fn keys_of(&self, snapshot: &Snapshot) -> KeySet {
        KeySet::at(self.now_ms(), &self.config, snapshot, &self.uses)
    }

    /// They are taken; only commands write them anew, so that servers of an earlier version still know them while they are
    /// replaced one after the other.
    fn warn_of_clear_keys(&self) {
        let snapshot = self.cached.snapshot();
        let count = snapshot.records::<ApiKey>().flatten().filter(ApiKey::was_in_clear).count();
        if count > 0 {
            tracing::warn!(
                "the catalog holds {count} key(s) in clear, from an earlier version: once all servers are of this one, rotate them \
                 with `millrace keys rotate NAME`; whatever `keys` writes next hashes all of them"
            );
        }
    }

    /// What the properties of events must look like, as it is written.
    pub(crate) fn tracking_plans(&self) -> Vec<TrackingPlan> {
        plans::read(&self.cached.snapshot())
    }

    /// The clock of the database, which also tells when a key ends. Until it was asked, that of this machine.
    fn now_ms(&self) -> i64 {
        self.cached.state().now_ms().unwrap_or_else(|| WallClock.now().0 / 1_000)
    }

    /// Refuses to open a door beyond the loopback that nobody could use, and to answer there what nobody could ask.
    ///
    /// # Errors
    /// When there is no key for it.
    pub(crate) fn refuse_a_door_without_keys(&self) -> anyhow::Result<()> {
        let listen = self.config.listen;
        if listen.ip().is_loopback() {
            return Ok(());
        }
        let keys = self.keys();
        if !keys.any_may(|scopes| scopes.allow(Scope::EventsWrite)) {
            bail!(
                "refusing to listen on {listen} without write keys: run `millrace keys create NAME` with the same configuration, \
                 set MILLRACE_WRITE_KEYS=NAME:KEY, or listen on 127.0.0.1"
            );
        }
        let answers = self.config.roles.contains(&Role::Api) && self.config.api_token.is_none();
        if answers && !keys.any_may(Scopes::reads) {
            bail!(
                "refusing to listen on {listen} without a key that reads: run `millrace keys create NAME --kind secret --scope \
                 feeds:read` with the same configuration, set MILLRACE_API_TOKEN, or listen on 127.0.0.1"
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

    /// Hands on what changes, and what ends by the clock, until it is dropped. What ends does so on time while the catalog is
    /// away too.
    pub(crate) async fn follow(self: Arc<Self>, collector: Arc<Collector>, keys: Arc<DoorKeys>, slates: Arc<Slates>) {
        let mut content = self.cached.watch();
        let mut planned = self.tracking_plans();
        loop {
            let ends_in = keys.hand_over();
            let now = self.tracking_plans();
            // Compiling takes a while, and most changes are of other things.
            if now != planned {
                collector.set_plans(plans::compile(&now));
                planned = now;
            }
            slates.set_rate(self.slate_sample_rate());
            tokio::select! {
                changed = content.changed() => if changed.is_err() { return },
                () = sleep(ends_in.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN)) => {}
            }
        }
    }

    /// Remembers when keys are used, and writes it down now and then, until it is dropped.
    pub(crate) async fn remember_uses(self: Arc<Self>) {
        let mut every = interval(TELL_TIME);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for _ in 0..TOLD_PER_WRITE {
                every.tick().await;
                self.uses.tell_time(self.now_ms());
            }
            self.uses.write(self.catalog.as_ref(), false).await;
        }
    }

    /// Writes down what it remembers, and lets go of the catalog.
    pub(crate) async fn close(&self) {
        if timeout(LAST_WRITE_MAX, self.uses.write(self.catalog.as_ref(), true)).await.is_err() {
            tracing::warn!("the catalog does not answer: when keys were used last stays unknown to it");
        }
        self.catalog.close().await;
    }
}

/// The keys that a door has, which are handed to it whenever they change, and when it looks for one that it does not know.
pub(crate) struct DoorKeys {
    decisions: Arc<Decisions>,
    /// It knows us as where to look.
    collector: Weak<Collector>,
    all_may_read: Arc<AtomicBool>,
    /// Of what content the door has the keys. Locked while they are made and handed over, so that older ones never replace newer.
    handed_over: Mutex<Option<Revision>>,
}

impl DoorKeys {
    /// Has the door look in the catalog for what it does not know.
    pub(crate) fn of(
        decisions: Arc<Decisions>,
        collector: &Arc<Collector>,
        all_may_read: Arc<AtomicBool>,
    ) -> Arc<Self> {
        let handed_over = Mutex::default();
        let keys = Arc::new(Self { decisions, collector: Arc::downgrade(collector), all_may_read, handed_over });
        collector.look_for_keys_in(keys.clone());
        keys
    }

    /// Hands over those of this moment, and tells after how long one of them ends.
    fn hand_over(&self) -> Option<Duration> {
        let mut handed_over = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        self.hand_over_to(&mut handed_over)
    }

    /// The same, unless the door has those of the content that there is now.
    fn hand_over_newer(&self) {
        let mut handed_over = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        if *handed_over != Some(self.decisions.cached.snapshot().revision()) {
            self.hand_over_to(&mut handed_over);
        }
    }

    fn hand_over_to(&self, handed_over: &mut Option<Revision>) -> Option<Duration> {
        let snapshot = self.decisions.cached.snapshot();
        let KeySet { keys, any_may_send, all_may_read, ends_in } = self.decisions.keys_of(&snapshot);
        if let Some(collector) = self.collector.upgrade() {
            collector.set_keys(keys, any_may_send);
        }
        self.all_may_read.store(all_may_read, Ordering::Relaxed);
        *handed_over = Some(snapshot.revision());
        ends_in
    }
}

#[async_trait]
impl LatestKeys for DoorKeys {
    /// While the catalog is away the last known keys are those that there are.
    async fn update(&self) -> bool {
        let is_away = || self.decisions.cached.state().is_stale;
        if !is_away() && timeout(LOOK_MAX, self.decisions.cached.refresh()).await.is_err() {
            return is_away();
        }
        self.hand_over_newer();
        true
    }
}
