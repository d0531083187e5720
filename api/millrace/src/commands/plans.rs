//! `millrace plans`: what the properties of events must look like.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use millrace_catalog::{Expect, OnViolation, PAGE_MAX, Record, TrackingPlan, read, read_record, write_record};
use millrace_collector::{PLANS_MAX, SCHEMA_BYTES_MAX};
use millrace_events::fold_name;
use serde_json::Value;

use crate::catalog;
use crate::commands::client::{note, say};
use crate::config::{Config, ConfigArgs};
use crate::plans::compile_one;

/// How much of a file with a sample is read, bytes: an event may be half as large.
const SAMPLE_BYTES_MAX: u64 = 64 * 1024;

/// Sets, shows and tries tracking plans: JSON Schema for the properties of an event; servers follow within seconds
#[derive(ClapArgs, Clone, Debug)]
#[command(
    after_help = "They are in the catalog: in the data directory, or where --catalog says. A server need not run. A plan is for \
    track calls of its name, or for page or screen calls; events without one are not checked.\n\n\
    Exit codes: 0 done · 1 the sample departs from the schema · 2 could not\n\n\
    Examples: millrace plans set \"Order Placed\" --schema order.json --on-violation refuse\n          \
    millrace plans check \"Order Placed\" sample.json --schema order.json"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone, Debug)]
enum What {
    /// Sets the plan of an event, in place of the one it had
    Set {
        /// The name of the event, however it is written
        event: String,
        /// The file with the schema; - is the standard input
        #[arg(long)]
        schema: PathBuf,
        /// What becomes of an event that departs from it
        #[arg(long, value_enum, default_value = "mark")]
        on_violation: Consequence,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Lists the plans by event
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Shows the schema of an event
    Show {
        /// The name of the event
        event: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Deletes the plan of an event, which is not checked any more
    Delete {
        /// The name of the event
        event: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Compares the properties in a file with a plan, without a server
    Check {
        /// The name of the event
        event: String,
        /// The file with the properties, a JSON object; - is the standard input
        properties: PathBuf,
        /// A schema that is not set yet, instead of the plan of the catalog
        #[arg(long)]
        schema: Option<PathBuf>,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Consequence {
    /// It is kept and says how it departs: see the query violations_by_event
    Mark,
    /// It is a dead letter with the reason plan_violation
    Refuse,
}

impl From<Consequence> for OnViolation {
    fn from(consequence: Consequence) -> Self {
        match consequence {
            Consequence::Mark => Self::Mark,
            Consequence::Refuse => Self::Refuse,
        }
    }
}

/// Does it.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Set { event, schema, on_violation, config } => {
            set(&Config::load(&config)?, &event, &schema, on_violation.into()).await?;
        }
        What::List { config } => list(&Config::load(&config)?).await?,
        What::Show { event, config } => show(&Config::load(&config)?, &event).await?,
        What::Delete { event, config } => delete(&Config::load(&config)?, &event).await?,
        What::Check { event, properties, schema, config } => {
            return check(&config, &event, &properties, schema.as_deref()).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(config: &Config, event: &str, schema: &Path, on_violation: OnViolation) -> anyhow::Result<()> {
    let plan = TrackingPlan { event: folded(event)?, schema: json_in(schema, SCHEMA_BYTES_MAX as u64)?, on_violation };
    compile_one(&plan).with_context(|| format!("cannot take the schema in {}", schema.display()))?;
    let catalog = catalog::open_or_make(config).await?;
    let written = async {
        let is_new = catalog.get(TrackingPlan::KIND, &plan.event).await?.is_none();
        if is_new {
            let plans = all(catalog.as_ref()).await?.len();
            ensure!(plans < PLANS_MAX, "there are {PLANS_MAX} plans already: delete one first");
        }
        write_record(catalog.as_ref(), &plan, Expect::Any).await?;
        Ok(())
    }
    .await;
    catalog.close().await;
    written.with_context(|| format!("cannot set the plan of {}", plan.event))?;
    note(&format!("{} is checked from now on; servers know within seconds", plan.event));
    Ok(())
}

async fn list(config: &Config) -> anyhow::Result<()> {
    let catalog = catalog::open_or_make(config).await?;
    let plans = all(catalog.as_ref()).await;
    catalog.close().await;
    for (plan, updated_ms) in plans? {
        let consequence = match plan.on_violation {
            OnViolation::Mark => "mark",
            OnViolation::Refuse => "refuse",
        };
        say(&format!("{consequence:<6} {} {}", millrace_events::format_rfc3339(updated_ms * 1_000), plan.event))?;
    }
    Ok(())
}

/// Every plan, and when it was changed last.
async fn all(catalog: &dyn millrace_catalog::Catalog) -> anyhow::Result<Vec<(TrackingPlan, i64)>> {
    let (mut plans, mut after): (Vec<(TrackingPlan, i64)>, Option<String>) = (Vec::new(), None);
    loop {
        let page = catalog.list(TrackingPlan::KIND, after.as_deref(), PAGE_MAX).await?;
        let Some(last) = page.last() else { return Ok(plans) };
        after = Some(last.name.clone());
        for entry in &page {
            plans.push((read(entry)?, entry.updated_ms));
        }
    }
}

async fn show(config: &Config, event: &str) -> anyhow::Result<()> {
    say(&serde_json::to_string_pretty(&found(config, &folded(event)?).await?.schema)?)?;
    Ok(())
}

async fn delete(config: &Config, event: &str) -> anyhow::Result<()> {
    let event = folded(event)?;
    let catalog = catalog::open_or_make(config).await?;
    let deleted = catalog.delete(TrackingPlan::KIND, &event, Expect::Any).await;
    catalog.close().await;
    ensure!(deleted?.is_some(), "there is no plan of {event}: see `millrace plans list`");
    note(&format!("{event} is not checked any more; servers know within seconds"));
    Ok(())
}

async fn check(config: &ConfigArgs, event: &str, sample: &Path, schema: Option<&Path>) -> anyhow::Result<ExitCode> {
    let event = folded(event)?;
    let plan = match schema {
        Some(schema) => {
            let schema = json_in(schema, SCHEMA_BYTES_MAX as u64)?;
            TrackingPlan { event: event.clone(), schema, on_violation: OnViolation::Mark }
        }
        None => found(&Config::load(config)?, &event).await?,
    };
    let compiled = compile_one(&plan).with_context(|| format!("the plan of {event} is no schema"))?;
    let properties = json_in(sample, SAMPLE_BYTES_MAX)?;
    ensure!(properties.is_object(), "{} holds no JSON object: properties are one", sample.display());
    match compiled.violation(&properties.to_string()) {
        None => {
            note("as planned");
            Ok(ExitCode::SUCCESS)
        }
        Some(violation) => {
            say(&violation)?;
            Ok(ExitCode::from(1))
        }
    }
}

async fn found(config: &Config, event: &str) -> anyhow::Result<TrackingPlan> {
    let catalog = catalog::open_or_make(config).await?;
    let found = read_record::<TrackingPlan>(catalog.as_ref(), event).await;
    catalog.close().await;
    let (plan, _) = found?.with_context(|| format!("there is no plan of {event}: see `millrace plans list`"))?;
    Ok(plan)
}

fn folded(event: &str) -> anyhow::Result<String> {
    let folded = fold_name(event).into_owned();
    ensure!(!folded.is_empty(), "the name of an event has a letter or a digit");
    Ok(folded)
}

fn json_in(path: &Path, bytes_max: u64) -> anyhow::Result<Value> {
    let name = path.display();
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(bytes_max + 1).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("cannot open {name}"))?;
        file.take(bytes_max + 1).read_to_string(&mut text)
    };
    read.with_context(|| format!("cannot read {name}"))?;
    ensure!(text.len() as u64 <= bytes_max, "{name} is longer than {bytes_max} bytes");
    serde_json::from_str(&text).with_context(|| format!("{name} is not JSON"))
}
