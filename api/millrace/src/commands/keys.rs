//! `millrace keys`: who may send events and read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args as ClapArgs, Subcommand};
use millrace_catalog::{
    ApiKey, Catalog, Entry, Expect, HashedKey, KeyKind, KeyUse, OldKey, PAGE_MAX, Record, Scope, hash_clear_keys, read,
    read_record, write_record,
};
use millrace_collector::{self as collector, is_mistyped, make_key};
use millrace_events::format_rfc3339;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::assemble::random_bytes;
use crate::catalog;
use crate::commands::client::{note, say};
use crate::config::{Config, ConfigArgs};

/// Holds a key that is not to be made.
const NEW_KEY: &str = "MILLRACE_NEW_KEY";
/// How much of standard input is taken for a key, in bytes: more than any key has.
const INPUT_BYTES_MAX: u64 = 1_024;
/// For how long an old key may be taken beside its successor.
const OVERLAP_MAX: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Makes, lists, rotates and revokes keys; servers follow within seconds
#[derive(ClapArgs, Clone)]
#[command(
    after_help = "They are in the catalog: in the data directory, or where --catalog says. A server need not run. Of a key its hash is\n\
    kept, so it is shown once: on standard output, alone.\n\n\
    A write key is public and may only send events. A secret key may do what its scopes say:\n\
    \x20 events:write   send events\n\
    \x20 feeds:read     read feeds, posts and trends\n\
    \x20 queries:read   ask named queries\n\
    \x20 status:read    status, metrics, the API's description\n\
    \x20 admin          all of that, and the log, backups and verification\n\n\
    Exit codes: 0 done · 2 could not\n\n\
    Example: millrace keys create web --data-dir ./data\n\
    Example: millrace keys create app --kind secret --scope feeds:read --scope events:write\n\
    Example: millrace keys rotate web --overlap 24h"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Clone)]
enum What {
    /// Makes a key and prints it
    #[command(visible_alias = "add")]
    Create {
        /// Its name, which events carry as their source
        name: String,
        /// What it is for: write or secret
        #[arg(long, default_value = "write", value_parser = named::<KeyKind>)]
        kind: KeyKind,
        /// What a secret key may do; give it once for each
        #[arg(long = "scope", value_parser = named::<Scope>)]
        scopes: Vec<Scope>,
        #[command(flatten)]
        given: Given,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Lists names, when their keys were used last, and what they may do
    List {
        /// Print them as JSON, one a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Makes another key for a name and prints it; events stay those of one source
    Rotate {
        /// The name
        name: String,
        /// For how long the key before is taken too: a number and s, m, h or d, or 0
        #[arg(long, default_value = "24h", value_parser = duration)]
        overlap: Duration,
        #[command(flatten)]
        given: Given,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Takes the keys of a name no longer
    Revoke {
        /// The name
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// A key that somebody brings.
#[derive(ClapArgs, Clone)]
struct Given {
    /// Take the key from standard input (-) instead of making one, or set MILLRACE_NEW_KEY; a write key of at least 8 characters
    #[arg(long, value_name = "-")]
    key: Option<String>,
}

/// Does it.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Create { name, kind, scopes, given, config } => {
            create(&Config::load(&config)?, name, kind, scopes.into_iter().collect(), &given).await
        }
        What::List { json, config } => list(&Config::load(&config)?, json).await,
        What::Rotate { name, overlap, given, config } => rotate(&Config::load(&config)?, &name, overlap, &given).await,
        What::Revoke { name, config } => revoke(&Config::load(&config)?, &name).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

/// What is known under this name in the catalog.
fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    // It says which names there are.
    serde_json::from_value(Value::from(name)).map_err(|error| error.to_string())
}

fn duration(text: &str) -> Result<Duration, String> {
    const WHY: &str = "give a number and s, m, h or d, as in 24h; at most 90d";
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_s = match &text[number.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "" if number == "0" => 1,
        _ => return Err(WHY.to_owned()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_s));
    let duration = seconds.map(Duration::from_secs).filter(|duration| *duration <= OVERLAP_MAX);
    duration.ok_or_else(|| WHY.to_owned())
}

impl Given {
    /// The key that was brought, if any.
    fn key(&self) -> anyhow::Result<Option<String>> {
        let key = match self.key.as_deref() {
            None => std::env::var(NEW_KEY).ok().filter(|key| !key.is_empty()),
            Some("-") => {
                let mut text = String::new();
                let read = std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_string(&mut text);
                read.context("cannot read a key from standard input")?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            Some(_) => bail!(
                "what is on a command line is seen by everybody on this machine: give the key in the variable {NEW_KEY}, or on \
                 standard input with --key -"
            ),
        };
        if key.as_ref().is_some_and(|key| is_mistyped(key.as_bytes())) {
            bail!("invalid key: its checksum is wrong; was it copied whole?");
        }
        Ok(key)
    }
}

/// A key that was made, as text, or the one that was brought, which nobody needs to be told.
fn new_key(kind: KeyKind, given: &Given) -> anyhow::Result<(HashedKey, Option<String>)> {
    let Some(key) = given.key()? else {
        let kind = match kind {
            KeyKind::Write => collector::KeyKind::Write,
            KeyKind::Secret => collector::KeyKind::Secret,
        };
        let key = make_key(kind, &random_bytes()?);
        return Ok((HashedKey::of(&key)?, Some(key)));
    };
    ensure!(kind == KeyKind::Write, "a secret key is made, never brought: what people think of can be guessed");
    ensure!(!key.starts_with("mr_sk_"), "this is a secret key, and a write key stands in pages for all to see");
    Ok((HashedKey::of(&key)?, None))
}

async fn create(
    config: &Config,
    name: String,
    kind: KeyKind,
    scopes: BTreeSet<Scope>,
    given: &Given,
) -> anyhow::Result<()> {
    let (hashed, key) = new_key(kind, given)?;
    let catalog = catalog::open_or_make(config).await?;
    refuse_a_known(catalog.as_ref(), &hashed).await?;
    let record = ApiKey::new(name, kind, scopes, hashed, catalog.head().await?.now_ms);
    let added = write_record(catalog.as_ref(), &record, Expect::Absent).await;
    added.with_context(|| format!("cannot make a key for {:?}", record.name))?;
    let may = match record.kind {
        KeyKind::Write => "send events".to_owned(),
        KeyKind::Secret => format!("use {}", scopes_of(&record).join(", ")),
    };
    note(&format!("{} may {may} from now on; servers know within seconds", record.name));
    finish(catalog.as_ref(), key).await
}

async fn rotate(config: &Config, name: &str, overlap: Duration, given: &Given) -> anyhow::Result<()> {
    let catalog = catalog::open_or_make(config).await?;
    let (mut record, revision) = find(catalog.as_ref(), name).await?;
    let (hashed, key) = new_key(record.kind, given)?;
    refuse_a_known(catalog.as_ref(), &hashed).await?;
    let now_ms = catalog.head().await?.now_ms;
    let until_ms = now_ms.saturating_add(i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX));
    record.rotate(hashed, now_ms, until_ms)?;
    let written = write_record(catalog.as_ref(), &record, Expect::Revision(revision)).await;
    written.with_context(|| format!("cannot rotate the key of {name:?}"))?;
    let until = if overlap.is_zero() {
        "is refused from now on".to_owned()
    } else {
        format!("is taken until {}", time(until_ms))
    };
    note(&format!("{name} has a new key; the one before {until}; servers know within seconds"));
    finish(catalog.as_ref(), key).await
}

async fn revoke(config: &Config, name: &str) -> anyhow::Result<()> {
    let catalog = catalog::open_or_make(config).await?;
    let (mut record, revision) = find(catalog.as_ref(), name).await?;
    ensure!(!record.revoked, "the key {name} is revoked already");
    record.revoke();
    write_record(catalog.as_ref(), &record, Expect::Revision(revision)).await?;
    note(&format!("{name} is refused from now on; servers know within seconds"));
    finish(catalog.as_ref(), None).await
}

/// Says the key that was made. After that nothing may fail any more: nobody else knows it.
async fn finish(catalog: &dyn Catalog, key: Option<String>) -> anyhow::Result<()> {
    if let Some(key) = key {
        say(&key)?;
    }
    match hash_clear_keys(catalog).await {
        Ok(0) => {}
        Ok(count) => note(&format!("{count} key(s) that an earlier version kept in clear are kept as hashes now")),
        Err(error) => note(&format!("keys that an earlier version kept in clear may still be kept so: {error}")),
    }
    catalog.close().await;
    Ok(())
}

async fn find(catalog: &dyn Catalog, name: &str) -> anyhow::Result<(ApiKey, millrace_catalog::Revision)> {
    let found = read_record::<ApiKey>(catalog, name).await?;
    found.with_context(|| format!("there is no key {name}: see `millrace keys list`"))
}

/// Refuses a key that is that of a name already: of two names with one key nobody knows which one sends.
async fn refuse_a_known(catalog: &dyn Catalog, key: &HashedKey) -> anyhow::Result<()> {
    for entry in entries(catalog, ApiKey::KIND).await? {
        let Ok(record) = read::<ApiKey>(&entry) else { continue };
        let mut known = std::iter::once(&record.key).chain(record.old.iter().map(|old| &old.key));
        ensure!(known.all(|known| known.hash != key.hash), "this is a key of {} already", record.name);
    }
    Ok(())
}

async fn entries(catalog: &dyn Catalog, kind: &str) -> anyhow::Result<Vec<Entry>> {
    let (mut found, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = catalog.list(kind, after.as_deref(), PAGE_MAX).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.name.clone());
        found.extend(page);
    }
}

async fn list(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let catalog = catalog::open_or_make(config).await?;
    let now_ms = catalog.head().await?.now_ms;
    if !as_json {
        say(&row(["STATE", "KIND", "ID", "SINCE", "LAST USED", "SCOPES", "NAME"]))?;
    }
    let mut uses = records::<KeyUse>(catalog.as_ref()).await?;
    for record in records::<ApiKey>(catalog.as_ref()).await?.into_values() {
        let uses = uses.remove(&record.name).unwrap_or_default();
        let old: Vec<&OldKey> = record.old.iter().filter(|old| now_ms < old.taken_until_ms).collect();
        if as_json {
            say(&as_value(&record, &old, &uses).to_string())?;
            continue;
        }
        for line in lines(&record, &old, &uses) {
            say(&line)?;
        }
    }
    catalog.close().await;
    Ok(())
}

/// The records of a kind by name. One that somebody has spoiled hides no other.
async fn records<R: Record>(catalog: &dyn Catalog) -> anyhow::Result<BTreeMap<String, R>> {
    let mut found = BTreeMap::new();
    for entry in entries(catalog, R::KIND).await? {
        match read::<R>(&entry) {
            Ok(record) => drop(found.insert(entry.name, record)),
            Err(error) => note(&error.to_string()),
        }
    }
    Ok(found)
}

/// The lines of a name: one for its newest key, and one for each that ends.
fn lines(record: &ApiKey, old: &[&OldKey], uses: &KeyUse) -> Vec<String> {
    let used = |key: &HashedKey| uses.used_at_ms.get(&key.id).map_or_else(|| "never".to_owned(), |&at_ms| time(at_ms));
    let scopes = scopes_of(record).join(",");
    let kind = kind_of(record);
    let since = time(record.rotated_at_ms.unwrap_or(record.created_at_ms));
    let newest = row([state_of(record), kind, &record.key.id, &since, &used(&record.key), &scopes, &record.name]);
    let ending = old.iter().map(|old| {
        let until = format!("until {}", time(old.taken_until_ms));
        row(["old", kind, &old.key.id, &until, &used(&old.key), &scopes, &record.name])
    });
    std::iter::once(newest).chain(ending).collect()
}

fn row([state, kind, id, since, used, scopes, name]: [&str; 7]) -> String {
    format!("{state:<8} {kind:<7} {id:<16} {since:<30} {used:<24} {scopes:<14} {name}")
}

fn as_value(record: &ApiKey, old: &[&OldKey], uses: &KeyUse) -> Value {
    let used = |key: &HashedKey| uses.used_at_ms.get(&key.id).map(|&at_ms| time(at_ms));
    let old: Vec<Value> = old
        .iter()
        .map(|old| json!({"id": old.key.id, "taken_until": time(old.taken_until_ms), "last_used_at": used(&old.key)}))
        .collect();
    json!({
        "name": record.name,
        "kind": kind_of(record),
        "scopes": scopes_of(record),
        "state": state_of(record),
        "id": record.key.id,
        "created_at": time(record.created_at_ms),
        "rotated_at": record.rotated_at_ms.map(time),
        "last_used_at": used(&record.key),
        "old": old,
    })
}

fn state_of(record: &ApiKey) -> &'static str {
    if record.revoked { "revoked" } else { "active" }
}

fn kind_of(record: &ApiKey) -> &'static str {
    match record.kind {
        KeyKind::Write => "write",
        KeyKind::Secret => "secret",
    }
}

/// What it may do, by name: a write key may write.
fn scopes_of(record: &ApiKey) -> Vec<String> {
    let scopes = match record.kind {
        KeyKind::Write => BTreeSet::from([Scope::EventsWrite]),
        KeyKind::Secret => record.scopes.clone(),
    };
    let name = |scope| serde_json::to_value(scope).ok()?.as_str().map(str::to_owned);
    scopes.into_iter().filter_map(name).collect()
}

fn time(at_ms: i64) -> String {
    format_rfc3339(at_ms.saturating_mul(1_000))
}

#[cfg(test)]
mod tests;
