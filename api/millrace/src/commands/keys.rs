//! `millrace keys`: who may send events.

use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args as ClapArgs, Subcommand};
use millrace_catalog::{Expect, PAGE_MAX, Record, Secret, WriteKey, read, read_record, write_record};

use crate::assemble::random_token;
use crate::catalog;
use crate::commands::client::{note, say};
use crate::config::{Config, ConfigArgs};

/// Adds, lists and revokes write keys; servers follow within seconds
#[derive(ClapArgs, Clone, Debug)]
#[command(
    after_help = "They are in the catalog: in the data directory, or where --catalog says. A server need not run.\n\n\
    Exit codes: 0 done · 2 could not\n\n\
    Example: millrace keys add web --data-dir ./data"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Adds a key and prints it
    Add {
        /// Its name, which events carry as their source
        name: String,
        /// The key, when it is not to be made: at least 8 characters
        #[arg(long, env = "MILLRACE_NEW_KEY", hide_env_values = true)]
        key: Option<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Lists the keys by name, without the keys themselves
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Takes a key no longer
    Revoke {
        /// Its name
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// Does it.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Add { name, key, config } => add(&Config::load(&config)?, name, key).await,
        What::List { config } => list(&Config::load(&config)?).await,
        What::Revoke { name, config } => revoke(&Config::load(&config)?, &name).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

async fn add(config: &Config, name: String, key: Option<String>) -> anyhow::Result<()> {
    let catalog = catalog::open_or_make(config).await?;
    let (key, is_made) = match key {
        Some(key) => (key, false),
        None => (random_token()?, true),
    };
    let created_at_ms = catalog.head().await?.now_ms;
    let record = WriteKey { name, key: Secret::new(key.clone()), created_at_ms, revoked: false };
    let added = write_record(catalog.as_ref(), &record, Expect::Absent).await;
    catalog.close().await;
    added.with_context(|| format!("cannot add the write key {:?}", record.name))?;
    note(&format!("{} may send events from now on; servers know within seconds", record.name));
    if is_made {
        say(&key)?;
    }
    Ok(())
}

async fn list(config: &Config) -> anyhow::Result<()> {
    let catalog = catalog::open_or_make(config).await?;
    let mut after: Option<String> = None;
    loop {
        let page = catalog.list(WriteKey::KIND, after.as_deref(), PAGE_MAX).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        for entry in &page {
            let key: WriteKey = read(entry)?;
            let state = if key.revoked { "revoked" } else { "taken" };
            say(&format!("{:<8} {} {}", state, millrace_events::format_rfc3339(key.created_at_ms * 1_000), key.name))?;
        }
    }
    catalog.close().await;
    Ok(())
}

async fn revoke(config: &Config, name: &str) -> anyhow::Result<()> {
    let catalog = catalog::open_or_make(config).await?;
    let found = read_record::<WriteKey>(catalog.as_ref(), name).await?;
    let (key, revision) = found.with_context(|| format!("there is no write key {name}: see `millrace keys list`"))?;
    ensure!(!key.revoked, "the write key {name} is revoked already");
    write_record(catalog.as_ref(), &WriteKey { revoked: true, ..key }, Expect::Revision(revision)).await?;
    catalog.close().await;
    note(&format!("{name} is refused from now on; servers know within seconds"));
    Ok(())
}
