//! `millrace settings`: what may change while servers run.

use std::process::ExitCode;

use anyhow::ensure;
use clap::{Args as ClapArgs, Subcommand};
use millrace_catalog::{Expect, PLATFORM, Settings, read_record, write_record};

use crate::catalog;
use crate::commands::client::say;
use crate::config::{Config, ConfigArgs};

/// Shows or changes settings; servers follow within seconds
#[derive(ClapArgs, Clone, Debug)]
#[command(
    after_help = "They are in the catalog: in the data directory, or where --catalog says. A server need not run. What a server\n\
    was given by flag, variable or file comes first there.\n\n\
    Exit codes: 0 done · 2 could not\n\n\
    Example: millrace settings set --set-slate-sample-rate 0.1 --data-dir ./data"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Prints them as JSON; what is left out has its default
    Show {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Changes those that are given, and prints all
    Set {
        /// The share of home feeds that are recorded, 0 to 1
        #[arg(long, value_name = "SHARE")]
        set_slate_sample_rate: Option<f64>,
        /// For how many days the log is kept
        #[arg(long, value_name = "DAYS")]
        set_retention_days: Option<f64>,
        /// For how many days recorded slates are kept in it
        #[arg(long, value_name = "DAYS")]
        set_slate_retention_days: Option<f64>,
        /// Goes back to the default of all others first
        #[arg(long)]
        reset: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// Does it.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Show { config } => {
            let catalog = catalog::open_or_make(&Config::load(&config)?).await?;
            let found = read_record::<Settings>(catalog.as_ref(), PLATFORM).await?;
            catalog.close().await;
            say(&serde_json::to_string(&found.map(|(settings, _)| settings).unwrap_or_default())?)?;
        }
        What::Set { set_slate_sample_rate, set_retention_days, set_slate_retention_days, reset, config } => {
            let given = [set_slate_sample_rate, set_retention_days, set_slate_retention_days];
            ensure!(reset || given.iter().any(Option::is_some), "nothing to set: see `millrace settings set --help`");
            let catalog = catalog::open_or_make(&Config::load(&config)?).await?;
            // Seen and changed as one: whoever changes it meanwhile is not overwritten, and this is to be given again.
            let (old, expect) = match read_record::<Settings>(catalog.as_ref(), PLATFORM).await? {
                Some((settings, revision)) => (settings, Expect::Revision(revision)),
                None => (Settings::default(), Expect::Absent),
            };
            let old = if reset { Settings::default() } else { old };
            let settings = Settings {
                slate_sample_rate: set_slate_sample_rate.or(old.slate_sample_rate),
                retention_days: set_retention_days.or(old.retention_days),
                slate_retention_days: set_slate_retention_days.or(old.slate_retention_days),
            };
            let written = write_record(catalog.as_ref(), &settings, expect).await;
            catalog.close().await;
            written?;
            say(&serde_json::to_string(&settings)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
