//! `millrace doctor`: looks at every engine that the configuration names, and says what to do.

use std::fmt;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use millrace_catalog::{Catalog, PostgresCatalog, PostgresOptions};
use millrace_clickhouse::ClickHouseOptions;
use millrace_log::{Clock, WallClock};
use millrace_log_kafka::{KafkaLog, Severity};
use millrace_objects::Target;
use millrace_redis::{RedisOnlineStore, RedisOptions};
use millrace_slatedb::{SlateOptions, SlateStateStore};
use serde::Serialize;

use crate::commands::client::say;
use crate::config::{Backend, Config, ConfigArgs};
use crate::log::kafka_options;

/// Looks at every engine that is configured, and says what to do
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = "Changes nothing anywhere. Give it the options of `millrace up`.\n\n\
    Exit codes: 0 all is as it should be · 1 something is to be done · 2 could not run\n\n\
    Example: millrace doctor --log kafka://broker:9092 --online redis://cache:6379")]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the findings as JSON, one a line
    #[arg(long)]
    json: bool,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Fine,
    /// It works; something will hurt one day.
    Warning,
    /// It does not work, or loses data.
    Fault,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    store: &'static str,
    level: Level,
    what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.level {
            Level::Fine => "ok",
            Level::Warning => "warning",
            Level::Fault => "FAULT",
        };
        write!(f, "{mark:<8} {:<10} {}", self.store, self.what)?;
        match &self.cure {
            Some(cure) => write!(f, "\n{:<20}do: {cure}", ""),
            None => Ok(()),
        }
    }
}

/// Looks.
///
/// # Errors
/// When the configuration cannot be.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config)?;
    let mut findings = log(&config).await;
    findings.extend(online(&config).await);
    findings.extend(warehouse(&config).await);
    findings.extend(state(&config).await);
    findings.extend(catalog(&config).await);
    for finding in &findings {
        say(&if args.json { serde_json::to_string(finding)? } else { finding.to_string() })?;
    }
    let is_well = findings.iter().all(|finding| finding.level == Level::Fine);
    Ok(ExitCode::from(u8::from(!is_well)))
}

fn in_data_dir(store: &'static str, config: &Config) -> Finding {
    Finding {
        store,
        level: Level::Fine,
        what: format!("in the data directory {}", config.data_dir.display()),
        cure: None,
    }
}

/// What could not be looked at.
fn unreachable(store: &'static str, error: &dyn std::error::Error) -> Finding {
    let mut what = error.to_string();
    if let Some(source) = error.source() {
        what = format!("{what}: {source}");
    }
    let cure = Some("check the URL, the user and the network, and that the engine runs".to_owned());
    Finding { store, level: Level::Fault, what, cure }
}

async fn log(config: &Config) -> Vec<Finding> {
    const STORE: &str = "log";
    let Backend::Engine { url, .. } = &config.log else { return vec![in_data_dir(STORE, config)] };
    let found = match kafka_options(config, url) {
        Ok(options) => KafkaLog::check(&options).await,
        Err(error) => Err(error),
    };
    let findings = match found {
        Ok(findings) => findings,
        Err(error) => return vec![unreachable(STORE, &error)],
    };
    let told = findings.into_iter().map(|finding| Finding {
        store: STORE,
        level: match finding.severity {
            Severity::Fine => Level::Fine,
            Severity::Risk => Level::Warning,
            Severity::Broken => Level::Fault,
        },
        what: finding.what,
        cure: Some(finding.cure).filter(|cure| !cure.is_empty()),
    });
    told.collect()
}

async fn online(config: &Config) -> Vec<Finding> {
    const STORE: &str = "online";
    let Backend::Engine { url, .. } = &config.online else { return vec![in_data_dir(STORE, config)] };
    let store = match RedisOnlineStore::open(url, RedisOptions::default()) {
        Ok(store) => store,
        Err(error) => return vec![unreachable(STORE, &error)],
    };
    let told = store.check().await.into_iter().map(|finding| Finding {
        store: STORE,
        level: match finding.level {
            millrace_redis::Level::Fine => Level::Fine,
            millrace_redis::Level::Warning => Level::Warning,
            millrace_redis::Level::Fault => Level::Fault,
        },
        what: finding.what,
        cure: finding.cure,
    });
    told.collect()
}

async fn warehouse(config: &Config) -> Vec<Finding> {
    const STORE: &str = "warehouse";
    let Backend::Engine { url, scheme } = &config.warehouse else { return vec![in_data_dir(STORE, config)] };
    if *scheme == "s3" {
        return objects(STORE, &config.warehouse, url).await;
    }
    let found = millrace_clickhouse::check(url, &ClickHouseOptions::default()).await;
    let told = found.into_iter().map(|finding| Finding {
        store: STORE,
        level: match finding.level {
            millrace_clickhouse::Level::Fine => Level::Fine,
            millrace_clickhouse::Level::Warning => Level::Warning,
            millrace_clickhouse::Level::Fault => Level::Fault,
        },
        what: format!("{}: {}", finding.subject, finding.says),
        cure: finding.cure,
    });
    told.collect()
}

async fn state(config: &Config) -> Vec<Finding> {
    const STORE: &str = "state";
    let Backend::Engine { url, .. } = &config.state else { return vec![in_data_dir(STORE, config)] };
    let mut findings = objects(STORE, &config.state, url).await;
    if findings.iter().all(|finding| finding.level == Level::Fine) {
        let opened = SlateStateStore::open(url, SlateOptions::default()).await;
        findings.extend(opened.err().map(|error| unreachable(STORE, &error)));
    }
    findings
}

/// What an object store must let anybody do who keeps something there.
async fn objects(store: &'static str, at: &Backend, url: &str) -> Vec<Finding> {
    let checked = async { Target::parse(url)?.check().await };
    match checked.await {
        Ok(()) => vec![Finding {
            store,
            level: Level::Fine,
            what: format!("{at} can be read and written, and refuses what is there already"),
            cure: None,
        }],
        Err(error) => {
            let found = unreachable(store, &error);
            let cure = error.cure().map(str::to_owned).or(found.cure);
            vec![Finding { cure, ..found }]
        }
    }
}

async fn catalog(config: &Config) -> Vec<Finding> {
    const STORE: &str = "catalog";
    let Backend::Engine { url, .. } = &config.catalog else { return vec![in_data_dir(STORE, config)] };
    let catalog = match PostgresCatalog::open_lazy(url, PostgresOptions::default()) {
        Ok(catalog) => catalog,
        Err(error) => return vec![unreachable(STORE, &error)],
    };
    let told = catalog.check(WallClock.now().0 / 1_000).await.into_iter().map(|finding| Finding {
        store: STORE,
        level: match finding.level {
            millrace_catalog::Level::Fine => Level::Fine,
            millrace_catalog::Level::Warning => Level::Warning,
            millrace_catalog::Level::Fault => Level::Fault,
        },
        what: finding.what,
        cure: finding.cure,
    });
    let told = told.collect();
    catalog.close().await;
    told
}
