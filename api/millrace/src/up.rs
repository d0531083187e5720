//! `millrace up`: every role in this process, until a signal.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use millrace_collector::Collector;
use millrace_http::{Access, Api, ApiState, ServeOptions, serve};
use millrace_pipelines::archive::Archived;
use millrace_spool::Spool;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::archive::{self, LiveQueries};
use crate::assemble::{self, Status, Stores};
use crate::catalog::{Decisions, DoorKeys};
use crate::commands::backup::live::LiveBackup;
use crate::commands::backup::take::{Quiesce, Source, Still};
use crate::commands::local::LocalDoor;
use crate::config::{Backend, ClockMode, Config, ConfigArgs, Role};
use crate::handles;
use crate::jobs::Jobs;
use crate::online::{self, Online};
use crate::retention::{self, Trimmer};
use crate::slates::{SlateWriter, Slates};
use crate::spool;
use crate::verifier::LiveVerifier;

/// How long the stores may take to close before the process ends without waiting for them.
const CLOSE_GRACE: Duration = Duration::from_secs(8);

/// Starts the platform and serves until Ctrl-C
#[derive(Args, Clone, Debug)]
#[command(after_help = "Everything runs in this process on a local directory; no server is needed beside it.\n\n\
    Exit codes: 0 stopped by a signal, nothing lost · 2 could not start\n\n\
    Example: millrace up --data-dir ./data --listen 127.0.0.1:8080")]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config)?;
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    let platform = Platform::start(config).await?;
    platform.say(&listener)?;
    platform.serve(listener, stop_signal()?).await;
    crate::commands::client::note("stopped; nothing that was acknowledged is lost");
    Ok(ExitCode::SUCCESS)
}

/// The running platform.
pub(crate) struct Platform {
    config: Config,
    stores: Stores,
    spool: Option<Arc<Spool>>,
    jobs: Option<Jobs>,
    api: Api,
    collector: Arc<Collector>,
    status: Arc<Status>,
    slate_writer: SlateWriter,
    decisions: Arc<Decisions>,
    /// Tasks that produce or maintain; they stop first.
    helpers: Vec<tokio::task::JoinHandle<()>>,
}

impl Platform {
    /// Starts consumers first, then what produces.
    pub(crate) async fn start(config: Config) -> anyhow::Result<Self> {
        let stores = Stores::open_to_serve(&config).await?;
        let admin_token = admin_token(&config.data_dir)?;
        let decisions = Decisions::read(&config).await?;
        decisions.refuse_a_door_without_keys()?;
        let warehouse = archive::open(&config).await?;
        let archived = Archived::default();
        let spool = spool::open(&config, &stores).await?;
        let clock = assemble::clock(&config, stores.log.as_ref(), spool.as_deref()).await?;
        let (mut jobs, mut archiver) = (None, None);
        if assemble::runs(&config, Role::Pipelines) {
            let mut started = Jobs::start(&stores, &archived, stores.member()?)?;
            archiver = Some(archive::start(&stores, &mut started, warehouse.clone(), archived.clone()));
            let trimmer = Trimmer {
                log: stores.log.clone(),
                clock: clock.clone(),
                needed_from: retention::needed_from(started.board.clone(), archived),
                retention: Box::new({
                    let decisions = decisions.clone();
                    move || decisions.retention()
                }),
            };
            started.spawn(trimmer.run());
            if let Online::Redis(redis) = &stores.online {
                started.spawn(online::keep_filled(
                    redis.clone(),
                    config.clone(),
                    stores.log.clone(),
                    started.board.clone(),
                ));
            }
            jobs = Some(started);
        }
        let (slates, slate_writer) = Slates::start(stores.log.clone(), clock.clone(), decisions.slate_sample_rate());
        let keys = decisions.keys();
        let is_open = Arc::new(AtomicBool::new(keys.all_may_read));
        let keys = (keys.keys, keys.any_may_send);
        let collector = assemble::collector(stores.log.clone(), spool.clone(), clock, keys)?;
        let door_keys = DoorKeys::of(decisions.clone(), &collector, is_open.clone());
        collector.set_plans(crate::plans::compile(&decisions.tracking_plans()));
        let ranker = assemble::ranker(stores.online.store(), stores.log.partitions());
        let status = Arc::new(Status::new(&stores, jobs.as_ref(), archiver.clone()).with_spool(spool.clone()));
        let state = ApiState {
            collector: collector.clone(),
            body_bytes_max: millrace_collector::BODY_BYTES_MAX,
            ranker,
            status: status.clone(),
            log: stores.log.clone(),
            readiness: status.clone(),
            verifier: Arc::new(LiveVerifier {
                config: config.clone(),
                log: stores.log.clone(),
                online: stores.online.store(),
                warehouse: warehouse.clone(),
                status: status.clone(),
                gate: jobs.as_ref().map(|jobs| jobs.gate.clone()),
                last: Arc::default(),
            }),
            slates: slates.clone(),
            queries: Some(Arc::new(LiveQueries { warehouse, archiver: archiver.clone() })),
            backups: Arc::new(LiveBackup::new(
                Source {
                    config: config.clone(),
                    embedded: stores.embedded.clone(),
                    partitions: stores.log.partitions(),
                    archive: archiver.map_or(Arc::new(Still) as Arc<dyn Quiesce>, |archiver| archiver),
                },
                config.backup_dir.clone(),
            )),
            metrics: crate::metrics::source(collector.clone(), slates.clone(), status.clone()),
            access: Access { api_token: config.api_token.clone(), admin_token, is_open },
            limits: config.limits.clone(),
        };
        let quiet = assemble::flush_when_quiet(collector.clone(), stores.embedded.clone());
        let mut helpers = vec![
            tokio::spawn(assemble::tick(collector.clone(), stores.log.partitions())),
            tokio::spawn(quiet),
            tokio::spawn(decisions.clone().follow(collector.clone(), door_keys, slates)),
            tokio::spawn(decisions.clone().remember_uses()),
        ];
        helpers.extend(spool.as_ref().map(|spool| tokio::spawn(spool.drain())));
        let api = Api::new(state);
        Ok(Self { config, stores, spool, jobs, api, collector, status, slate_writer, decisions, helpers })
    }

    /// Serves until `stop`, then stops producers before consumers.
    pub(crate) async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()> + Send) {
        let options = ServeOptions::for_connections(handles::for_connections());
        serve(self.api.clone(), listener, options, stop).await;
        self.stop().await;
    }

    /// The front door of this process, for a command that brings its own events.
    pub(crate) fn door(&self) -> Arc<LocalDoor> {
        let authorization = "Basic ZGV2Og==".to_owned();
        Arc::new(LocalDoor { collector: self.collector.clone(), status: self.status.clone(), authorization })
    }

    /// Stops what produces, then what consumes, and makes everything durable.
    pub(crate) async fn stop(self) {
        self.helpers.iter().for_each(tokio::task::JoinHandle::abort);
        if let Some(spool) = self.spool {
            spool::close(spool).await;
        }
        self.slate_writer.stop().await;
        if let Some(jobs) = self.jobs {
            jobs.stop().await;
        }
        self.decisions.close().await;
        let stores = self.stores;
        let closing = tokio::task::spawn_blocking(move || stores.close());
        match tokio::time::timeout(CLOSE_GRACE, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => tracing::error!("closing the stores panicked"),
            Err(_) => {
                tracing::warn!("the disk does not answer; what was acknowledged is on it, the rest is done again")
            }
        }
    }

    /// A line for each store that is not in the data directory, and for the spool.
    fn places(&self) -> String {
        let stores = [
            ("log", &self.config.log),
            ("state", &self.config.state),
            ("online", &self.config.online),
            ("warehouse", &self.config.warehouse),
            ("catalog", &self.config.catalog),
        ];
        let away = stores.into_iter().filter(|(_, at)| **at != Backend::Embedded);
        let places: String = away.map(|(store, at)| format!("  {store:<8} {at}\n")).collect();
        places + &self.spool.as_deref().map(spool::line).unwrap_or_default()
    }

    /// Says in a few lines what runs where, and how to try it.
    fn say(&self, listener: &TcpListener) -> anyhow::Result<()> {
        let address = listener.local_addr()?;
        let roles: Vec<String> = self.config.roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
        let clock = match self.config.clock {
            ClockMode::Wall => "wall time",
            ClockMode::Replay => "replay time",
        };
        let known = self.decisions.keys();
        let key = if known.any_may_send { "dev" } else { "YOUR_WRITE_KEY" };
        let keys = match known.keys.len() {
            _ if known.any_may_send => "any write key (loopback development)".to_owned(),
            0 => "no key: make one with `millrace keys create NAME`".to_owned(),
            n => format!("{n} key(s)"),
        };
        let text = format!(
            "millrace {} listens on http://{address}\n\
             \x20 roles    {} · {clock} · {keys}\n\
             \x20 data     {}; {} partitions\n\
             {}\
             \x20 look     http://{address}/v1/status  /readyz  /metrics  /openapi.json\n\
             try it:\n\
             \x20 curl -su {key}: http://{address}/v1/track -H 'content-type: application/json' \\\n\
             \x20   -d '{{\"userId\":\"ada\",\"event\":\"Post Created\",\"properties\":{{\"post_id\":\"p1\",\"text\":\"hello\"}}}}'\n\
             \x20 curl -s http://{address}/v1/posts/p1/engagement",
            env!("CARGO_PKG_VERSION"),
            roles.join(", "),
            self.config.data_dir.display(),
            self.stores.log.partitions(),
            self.places(),
        );
        crate::commands::client::say(&text)?;
        Ok(())
    }
}

/// Resolves on SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut term = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// The administrator's token: from `MILLRACE_ADMIN_TOKEN`, or made once and kept, readable by the owner only.
fn admin_token(data_dir: &Path) -> anyhow::Result<String> {
    if let Ok(token) = std::env::var("MILLRACE_ADMIN_TOKEN") {
        anyhow::ensure!(token.trim().len() >= 16, "MILLRACE_ADMIN_TOKEN is shorter than 16 characters");
        return Ok(token.trim().to_owned());
    }
    let path = data_dir.join("admin-token");
    if let Ok(token) = std::fs::read_to_string(&path)
        && token.trim().len() >= 16
    {
        return Ok(token.trim().to_owned());
    }
    let token = assemble::random_token()?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(&path).with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(file, "{token}").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(token)
}
