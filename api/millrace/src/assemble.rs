//! Turns a configuration into running components. The only place that knows every name.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use millrace_collector::{Bounds as CollectorBounds, Collector, CollectorOptions, Key};
use millrace_embedded::{Embedded, Options as EmbeddedOptions};
use millrace_events::{LogTime, Topic, TopicPartition, format_rfc3339};
use millrace_feature_store::OnlineStore;
use millrace_feature_store::views::{self, SourceCounts};
use millrace_http::{JobPartition, LogPartition, Readiness, StatusReport, StatusSource, WarehouseStatus};
use millrace_log::{Clock, EventLog, Group, Member, Offset, ReplayClock, WallClock};
use millrace_log_kafka::{GroupOptions, KafkaLog};
use millrace_pipelines::archive::{ArchiveStatus, Archiver};
use millrace_pipelines::jobs::stage_of;
use millrace_pipelines::runner::{Board, PartitionStatus, Timer};
use millrace_ranking::{Ranker, RankerOptions};
use millrace_spool::Spool;
use prost::Message;

use crate::config::{ClockMode, Config, Role};
use crate::jobs::Jobs;
use crate::log::{self, Opened};
use crate::online::Online;
use crate::states::States;

/// The generation of positions and versions. Another partition count, topic or order of records is another generation.
pub(crate) const GENERATION: u32 = 2;

/// How long a shutdown may write tables, so that the next start is quick; without them it replays the journal.
const FLUSH_GRACE: Duration = Duration::from_secs(3);

/// How long nothing must come in before it is called quiet.
const QUIET: Duration = Duration::from_secs(15);

/// How often idle partitions of `actions` are told the time, and it is looked whether anything came.
const TICK: Duration = Duration::from_secs(1);
/// For each so many partitions they are told as often less: a tick goes from every partition to every partition of three
/// topics, and 64 of them would tell each other the time 12,288 times a second.
const TICK_PARTITIONS: u32 = 16;
/// When nothing has come for so long...
const NIGHT_AFTER: Duration = Duration::from_secs(60);
/// ...they are told only so often.
const NIGHT_TICK: Duration = Duration::from_secs(10);

/// How long the log may take to say how far a partition goes, for somebody who wants to know now.
const TELL_MAX: Duration = Duration::from_secs(2);

/// The archive tries again after a failure, but a command that waits for it gives up after so many looks, 20 ms apart.
const ARCHIVE_FAILS_MAX: u32 = 500;

/// The stores of this process.
pub(crate) struct Stores {
    pub(crate) embedded: Arc<Embedded>,
    pub(crate) log: Arc<dyn EventLog>,
    /// The log again, where it is on Kafka.
    pub(crate) kafka: Option<Arc<KafkaLog>>,
    /// Which log it is.
    pub(crate) log_name: String,
    pub(crate) online: Online,
    pub(crate) states: States,
}

impl Stores {
    /// Opens what the configuration names; a data directory is made when it is not there.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let embedded = opened_database(config).await?;
        let opened = log::open(config, &embedded).await?;
        Self::over(config, embedded, opened).await
    }

    /// The same for a server, which may start while its log is away.
    pub(crate) async fn open_to_serve(config: &Config) -> anyhow::Result<Self> {
        let embedded = opened_database(config).await?;
        let opened = log::open_to_serve(config, &embedded).await?;
        Self::over(config, embedded, opened).await
    }

    async fn over(config: &Config, embedded: Arc<Embedded>, opened: Opened) -> anyhow::Result<Self> {
        let Opened { log, kafka, name } = opened;
        let online = Online::open(config, &embedded)?;
        let states = States::open(config, &embedded, &name).await?;
        Ok(Self { embedded, log, kafka, log_name: name, online, states })
    }

    /// This process among those that share the work. Without shared job state there are no others.
    pub(crate) fn member(&self) -> anyhow::Result<Box<dyn Member>> {
        match (&self.kafka, &self.states) {
            (Some(kafka), States::Shared(_)) => Ok(Box::new(kafka.join(&GroupOptions::default())?)),
            _ => Ok(self.alone()),
        }
    }

    /// This process with everything to itself.
    pub(crate) fn alone(&self) -> Box<dyn Member> {
        Box::new(Group::new(worked_partitions(self.log.partitions())).join())
    }

    /// Finishes what was accepted and makes everything durable.
    pub(crate) fn close(&self) {
        self.log.close();
        if let Err(error) = self.embedded.flush(FLUSH_GRACE) {
            tracing::warn!(%error, "the last flush failed; what was acknowledged is safe, the rest is done again");
        }
    }
}

/// The database of a data directory in which nothing was left half done.
async fn opened_database(config: &Config) -> anyhow::Result<Arc<Embedded>> {
    crate::unfinished::refuse(&config.data_dir, None)?;
    let config = config.clone();
    tokio::task::spawn_blocking(move || database(&config)).await?
}

/// Opens the database of a data directory.
fn database(config: &Config) -> anyhow::Result<Arc<Embedded>> {
    make_private(&config.data_dir)?;
    let dir = config.database_dir();
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make the database directory {}", dir.display()))?;
    Ok(Embedded::open(&dir, EmbeddedOptions::default())?)
}

/// Makes a directory when it is not there. Only the owner reads what people did.
pub(crate) fn make_private(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the data directory {}", dir.display()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(dir, mode).with_context(|| format!("cannot make {} private", dir.display()))?;
    }
    Ok(())
}

/// A secret that nobody guesses: 192 random bits, hexadecimal.
pub(crate) fn random_token() -> anyhow::Result<String> {
    Ok(random_bytes::<24>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Bytes that nobody guesses.
pub(crate) fn random_bytes<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0_u8; N];
    let mut random = std::fs::File::open("/dev/urandom").context("cannot open the system's random source")?;
    random.read_exact(&mut bytes).context("cannot read the system's random source")?;
    Ok(bytes)
}

/// Every partition that a job reads.
pub(crate) fn worked_partitions(partitions: u32) -> Vec<TopicPartition> {
    [Topic::Actions, Topic::UserEvents, Topic::ReactionEvents, Topic::TagEvents]
        .into_iter()
        .flat_map(|topic| (0..topic.partitions(partitions)).map(move |p| TopicPartition::new(topic, p)))
        .collect()
}

/// Waits by the runtime's own timer.
pub(crate) struct TokioTimer;

#[async_trait]
impl Timer for TokioTimer {
    async fn pause(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The clock that stamps log time. In a replay it goes on from the newest log time, in the log or in the spool, so that a restart
/// does not go back.
pub(crate) async fn clock(
    config: &Config,
    log: &dyn EventLog,
    spool: Option<&Spool>,
) -> anyhow::Result<Arc<dyn Clock>> {
    if config.clock == ClockMode::Wall {
        return Ok(Arc::new(WallClock));
    }
    let mut newest = spool.and_then(Spool::newest_left).unwrap_or(LogTime::MIN);
    for partition in 0..log.partitions() {
        let bounds = log.bounds(TopicPartition::new(Topic::Actions, partition)).await?;
        newest = newest.max(bounds.last_time.unwrap_or(LogTime::MIN));
    }
    Ok(Arc::new(ReplayClock::new(newest)))
}

/// The front door over this log, and the spool before it, for these keys.
pub(crate) fn collector(
    log: Arc<dyn EventLog>,
    spool: Option<Arc<Spool>>,
    clock: Arc<dyn Clock>,
    (keys, accept_any_key): (Vec<Key>, bool),
) -> anyhow::Result<Arc<Collector>> {
    let options = CollectorOptions { keys, accept_any_key, bounds: CollectorBounds::default() };
    Ok(Arc::new(match spool {
        Some(spool) => Collector::new(spool, clock, options).named(crate::spool::door_name()?),
        None => Collector::new(log, clock, options),
    }))
}

/// The ranker over these stores.
pub(crate) fn ranker(online: Arc<dyn OnlineStore>, partitions: u32) -> Arc<Ranker> {
    let options = RankerOptions {
        stopwatch_us: crate::measure::stopwatch_us,
        pause: Arc::new(|duration| Box::pin(tokio::time::sleep(duration))),
        ..RankerOptions::default()
    };
    Arc::new(Ranker::new(online, partitions, options))
}

/// Ticks idle partitions until it is dropped: every second, seldom where there are many of them, and after a quiet minute
/// every ten, because a night without events would fill the disk with the time.
pub(crate) async fn tick(collector: Arc<Collector>, partitions: u32) {
    let mut every = tokio::time::interval(TICK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut seen, mut since_event, mut since_tick) = (0, Duration::ZERO, Duration::MAX);
    loop {
        every.tick().await;
        let accepted = collector.counters().accepted;
        since_event = if accepted == seen { since_event.saturating_add(TICK) } else { Duration::ZERO };
        seen = accepted;
        since_tick = since_tick.saturating_add(TICK);
        if since_tick < tick_every(partitions, since_event) {
            continue;
        }
        since_tick = Duration::ZERO;
        if let Err(error) = collector.tick_idle().await {
            tracing::debug!(%error, "a tick could not be appended; the next one says the same");
        }
    }
}

/// How often idle partitions are told the time, when nothing has come for so long.
fn tick_every(partitions: u32, since_event: Duration) -> Duration {
    let usual = TICK * partitions.div_ceil(TICK_PARTITIONS).max(1);
    if since_event > NIGHT_AFTER { usual.max(NIGHT_TICK) } else { usual }
}

/// After a burst, when nothing was accepted for a while, writes what is in memory into tables: once per quiet time. It
/// gives the memory back, and leaves little to replay after a crash.
pub(crate) async fn flush_when_quiet(collector: Arc<Collector>, embedded: Arc<Embedded>) {
    let mut every = tokio::time::interval(QUIET);
    let (mut seen, mut flushed) = (0, 0);
    loop {
        every.tick().await;
        let accepted = collector.counters().accepted;
        let is_quiet = accepted == seen;
        seen = accepted;
        if !is_quiet || accepted == flushed {
            continue;
        }
        let embedded = embedded.clone();
        match tokio::task::spawn_blocking(move || embedded.flush(FLUSH_GRACE)).await {
            Ok(Ok(())) => flushed = accepted,
            Ok(Err(error)) => tracing::debug!(%error, "a flush in a quiet moment failed; the next one tries again"),
            Err(error) => tracing::error!(%error, "a flush in a quiet moment panicked"),
        }
    }
}

/// What this process knows about itself.
pub(crate) struct Status {
    log: Arc<dyn EventLog>,
    kafka: Option<Arc<KafkaLog>>,
    online: Online,
    pub(crate) board: Option<Board>,
    archiver: Option<Arc<Archiver>>,
    pub(crate) spool: Option<Arc<Spool>>,
}

#[async_trait]
impl StatusSource for Status {
    async fn status(&self) -> StatusReport {
        // Before the log is looked at: what leaves the spool now is in the ends read after.
        let is_in_the_log = self.spool.as_deref().is_none_or(Spool::is_empty);
        let mut report = self.applied_report().await;
        report.caught_up &= is_in_the_log;
        report.spool = self.spool.as_deref().and_then(crate::spool::status);
        report.online = self.online.status();
        report.caught_up &= report.online.is_none_or(|online| online.whole);
        report
    }

    async fn sources(&self) -> Vec<SourceCounts> {
        let mut found: BTreeMap<String, SourceCounts> = BTreeMap::new();
        for of in self.worked(Topic::Actions).await.into_iter().flat_map(|(_, status)| status.sources) {
            let all = found
                .entry(of.source.clone())
                .or_insert_with(|| SourceCounts { source: of.source, ..SourceCounts::default() });
            all.accepted += of.accepted;
            all.duplicates += of.duplicates;
            all.late += of.late;
            all.robots += of.robots;
            all.violations += of.violations;
            all.refused += of.refused;
            all.last_us = all.last_us.max(of.last_us);
        }
        found.into_values().collect()
    }
}

impl Status {
    /// The status of these stores and of the jobs that run on them here, if any do.
    pub(crate) fn new(stores: &Stores, jobs: Option<&Jobs>, archiver: Option<Arc<Archiver>>) -> Self {
        Self {
            spool: None,
            log: stores.log.clone(),
            kafka: stores.kafka.clone(),
            online: stores.online.clone(),
            board: jobs.map(|jobs| jobs.board.clone()),
            archiver,
        }
    }

    /// The same with the spool before the log.
    pub(crate) fn with_spool(self, spool: Option<Arc<Spool>>) -> Self {
        Self { spool, ..self }
    }

    /// The report, of which `caught_up` says whether everything in the log is applied; whether the online store still has it
    /// is another question.
    async fn applied_report(&self) -> StatusReport {
        let mut report = StatusReport { caught_up: true, ..StatusReport::default() };
        // A log that leaves one question open leaves all open, each as long as it may.
        let mut is_told = true;
        // In the order of the stream: once stage 1 has applied everything, what it published is in the ends read after.
        for topic in Topic::ALL {
            let mut ends = BTreeMap::new();
            is_told = is_told && self.read_ends(topic, &mut ends).await;
            for (of, status) in self.worked(topic).await {
                // Where the log cannot be asked, nobody knows how far it goes.
                let held = ends.get(&of.partition);
                let end = held.map_or(status.applied, |held| held.end);
                report.caught_up &= held.is_some() && status.applied >= end;
                for job in &status.jobs {
                    let position = JobPartition {
                        committed: status.committed,
                        end,
                        lag: end.saturating_sub(status.applied),
                        clock: status.clock.map(|clock| format_rfc3339(clock.0)),
                    };
                    report.jobs.entry((*job).to_owned()).or_default().insert(of.partition, position);
                    let late = status.counts.iter().find(|(name, _)| *name == "late").map_or(0, |(_, count)| *count);
                    *report.late.entry((*job).to_owned()).or_default() += late;
                }
            }
            report.log.insert(topic.as_str().to_owned(), ends);
        }
        report.caught_up &= is_told;
        if let Some(archiver) = &self.archiver {
            let status = if is_told { archiver.report().await } else { archiver.last_report() };
            report.caught_up &= status.is_known && status.lag == 0;
            report.warehouse = Some(WarehouseStatus {
                lag: status.lag,
                tables: status.tables.iter().map(|(table, of)| (table.name().to_owned(), of.lag)).collect(),
                as_of: status.as_of.map(|time| format_rfc3339(time.0)),
                error: status.error,
            });
        }
        report
    }

    /// How far each partition of `topic` is that a job reads: by the board, and where another process works on it, by what
    /// that one writes online.
    async fn worked(&self, topic: Topic) -> Vec<(TopicPartition, PartitionStatus)> {
        let board = self.board.as_ref().map(Board::all).unwrap_or_default();
        let worked = worked_partitions(self.log.partitions()).into_iter().filter(|of| of.topic == topic);
        let (here, elsewhere): (Vec<_>, Vec<_>) = worked.partition(|of| board.contains_key(of));
        let mut found: Vec<_> = here.into_iter().map(|of| (of, board[&of].clone())).collect();
        if !elsewhere.is_empty() {
            let keys: Vec<_> = elsewhere.iter().map(|of| views::progress_key(*of)).collect();
            let told = self.online.store().get(&keys).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "how far others are cannot be read");
                vec![None; keys.len()]
            });
            found.extend(elsewhere.into_iter().zip(told).map(|(of, told)| (of, status_elsewhere(of, told))));
        }
        found
    }

    /// How far the archive was a moment ago, when it runs here.
    pub(crate) fn archive(&self) -> Option<ArchiveStatus> {
        self.archiver.as_ref().map(|archiver| archiver.last_report())
    }

    /// False when the log does not tell all of them now.
    async fn read_ends(&self, topic: Topic, ends: &mut BTreeMap<u32, LogPartition>) -> bool {
        for partition in 0..topic.partitions(self.log.partitions()) {
            let asked = self.log.bounds(TopicPartition::new(topic, partition));
            let Ok(Ok(bounds)) = tokio::time::timeout(TELL_MAX, asked).await else { return false };
            ends.insert(partition, LogPartition { start: bounds.start, end: bounds.end });
        }
        true
    }

    /// Waits until everything in the log is applied, whether or not the online store still has it.
    pub(crate) async fn caught_up(&self) -> anyhow::Result<()> {
        let mut failing = 0;
        loop {
            let status = self.applied_report().await;
            if status.caught_up {
                return Ok(());
            }
            let error = status.warehouse.and_then(|warehouse| warehouse.error);
            failing = if error.is_some() { failing + 1 } else { 0 };
            if let Some(error) = error.filter(|_| failing > ARCHIVE_FAILS_MAX) {
                anyhow::bail!("the archive cannot go on: {error}");
            }
            let stopped = self.board.as_ref().map(Board::all).unwrap_or_default();
            if let Some((of, status)) = stopped.into_iter().find(|(_, status)| status.stopped) {
                anyhow::bail!("{of} cannot go on: {}", status.error.unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where each worker stands: applied, published and online below it.
    pub(crate) fn applied(&self) -> BTreeMap<TopicPartition, Offset> {
        let known = self.board.as_ref().map(Board::all).unwrap_or_default();
        known.into_iter().map(|(of, status)| (of, status.applied)).collect()
    }
}

/// What a partition's progress says. Only its owner knows what is committed; nothing that others see hangs on it.
fn status_elsewhere(of: TopicPartition, told: Option<Bytes>) -> PartitionStatus {
    let jobs = stage_of(of.topic, GENERATION, 1).map(|stage| stage.jobs()).unwrap_or_default();
    let progress = told.and_then(|bytes| views::ProgressRecord::decode(bytes).ok());
    let Some(progress) = progress else { return PartitionStatus { jobs, ..PartitionStatus::default() } };
    let (next, clock, sources) = (progress.next, Some(LogTime(progress.clock_us)), progress.sources);
    PartitionStatus { jobs, committed: next, applied: next, clock, sources, ..PartitionStatus::default() }
}

impl Readiness for Status {
    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        // A door whose spool takes events is of use while the log is away.
        let takes_events = self.spool.as_deref().map_or_else(|| self.log.healthy(), EventLog::healthy);
        if !takes_events {
            missing.push("the log cannot be written: is the disk full, is a broker away?".to_owned());
        }
        missing.extend(self.kafka.as_deref().and_then(KafkaLog::refusal));
        let stuck = self.spool.as_deref().and_then(|spool| spool.spooled().stuck);
        missing.extend(stuck.map(|why| format!("the spool cannot be brought into the log: {why}")));
        let jobs = self.board.as_ref().map(Board::all).unwrap_or_default();
        missing.extend(troubles(jobs, self.spool.is_some()));
        missing
    }
}

/// What jobs miss. That they wait for the log is no reason to send events elsewhere where a spool takes them.
fn troubles(jobs: BTreeMap<TopicPartition, PartitionStatus>, has_spool: bool) -> impl Iterator<Item = String> {
    jobs.into_iter()
        .filter(move |(_, status)| !(has_spool && status.waits_for_log))
        .filter_map(|(of, status)| status.error.map(|error| format!("jobs of {of}: {error}")))
}

/// True when the role runs here.
pub(crate) fn runs(config: &Config, role: Role) -> bool {
    config.roles.contains(&role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_with_a_spool_is_ready_while_jobs_wait_for_the_log() {
        let of = |partition| TopicPartition::new(Topic::Actions, partition);
        let status = |error: &str, waits_for_log| PartitionStatus {
            error: Some(error.to_owned()),
            waits_for_log,
            ..PartitionStatus::default()
        };
        let jobs = BTreeMap::from([
            (of(0), status("the log is away", true)),
            (of(1), status("redis is away", false)),
            (of(2), PartitionStatus::default()),
        ]);
        assert_eq!(troubles(jobs.clone(), true).collect::<Vec<_>>(), ["jobs of actions/1: redis is away"]);
        assert_eq!(troubles(jobs, false).count(), 2);
    }

    #[test]
    fn many_partitions_and_a_quiet_night_are_told_the_time_less_often() {
        let (busy, quiet) = (Duration::ZERO, Duration::from_secs(61));
        let seconds = |partitions, since_event| tick_every(partitions, since_event).as_secs();
        assert_eq!([1, 4, 16, 17, 64].map(|partitions| seconds(partitions, busy)), [1, 1, 1, 2, 4]);
        assert_eq!([4, 64, 1024].map(|partitions| seconds(partitions, quiet)), [10, 10, 64]);
    }
}
