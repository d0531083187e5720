//! Numbered migrations, each applied once, and what options ask of the tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{RecordBatch, StringArray, UInt32Array};
use arrow_schema::{DataType, Field, Schema};
use millrace_warehouse::{Error, ErrorKind, Result, Table};
use xxhash_rust::xxh3::xxh3_64;

use crate::client::Server;
use crate::columns::rows_table;
use crate::error::invalid;
use crate::stream::{convert, encode};
use crate::{ClickHouseOptions, check};

/// A file of `migrations/`. What was released is never edited: what comes later is a file of its own.
struct Migration {
    number: u32,
    name: &'static str,
    text: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "tables", text: include_str!("../migrations/0001_tables.sql") },
    Migration { number: 2, name: "marks", text: include_str!("../migrations/0002_marks.sql") },
    Migration { number: 3, name: "identities", text: include_str!("../migrations/0003_identities.sql") },
];

/// The number of the newest one.
pub(crate) const NEWEST: u32 = MIGRATIONS[MIGRATIONS.len() - 1].number;

/// The settings of every table: what was inserted is on disk before that is answered, and a month that has been quiet for an
/// hour is merged into one part, which is read as fast as if there was nothing to replace.
const SETTINGS: &str = "fsync_after_insert = 1, fsync_part_directory = 1, min_age_to_force_merge_seconds = 3600, \
                        min_age_to_force_merge_on_partition_only = 1";

/// The most days that a row may be kept, for a bound that is no bound.
const KEEP_DAYS_MAX: u32 = 36_500;

/// Creates the database and what is missing in it. Several processes may do so at once: each statement does nothing when its
/// work is done.
pub(crate) async fn migrate(server: &Server, options: &ClickHouseOptions) -> Result<()> {
    check_days(&options.keep_days)?;
    if let Some(name) = &server.cluster {
        let found = check::cluster(server, name).await;
        if let Some(cure) = found.cure {
            return Err(invalid(format!("cannot use the cluster {name}: {}; {cure}", found.says)));
        }
    }
    let (database, on_cluster) = (quoted(&server.database), on_cluster(server));
    server.execute("create the database", &format!("CREATE DATABASE IF NOT EXISTS {database}{on_cluster}")).await?;
    let columns = "number UInt32, name String, checksum String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)";
    let engine = engine(server, "ReplacingMergeTree");
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {database}.migrations{on_cluster} ({columns}) ENGINE = {engine} ORDER BY number"
    );
    server.execute("create the table of migrations", &sql).await?;
    let applied = applied(server).await?;
    refuse_strangers(&server.database, &applied)?;
    for migration in MIGRATIONS.iter().filter(|migration| !applied.contains_key(&migration.number)) {
        apply(server, migration).await?;
    }
    for table in Table::ALL {
        keep(server, table, options.keep_days.get(&table).copied()).await?;
    }
    Ok(())
}

fn check_days(keep_days: &BTreeMap<Table, u32>) -> Result<()> {
    match keep_days.iter().find(|(_, days)| !(1..=KEEP_DAYS_MAX).contains(*days)) {
        Some((table, days)) => {
            Err(invalid(format!("{table} cannot be kept for {days} days: choose from 1 to {KEEP_DAYS_MAX}")))
        }
        None => Ok(()),
    }
}

/// Checksums of what the database had applied, by number.
pub(crate) async fn applied(server: &Server) -> Result<BTreeMap<u32, String>> {
    let query = server.statement("SELECT number, checksum FROM migrations FINAL ORDER BY number");
    let schema = Arc::new(Schema::new(vec![
        Field::new("number", DataType::UInt32, false),
        Field::new("checksum", DataType::Utf8, false),
    ]));
    let mut applied = BTreeMap::new();
    for batch in server.ask("read which migrations were applied", query).await? {
        let batch = convert(&batch, &schema)?;
        let numbers = batch.column(0).as_primitive::<UInt32Type>().values().iter().copied();
        let checksums = batch.column(1).as_string::<i32>().iter().flatten().map(str::to_owned);
        applied.extend(numbers.zip(checksums));
    }
    Ok(applied)
}

/// Tables that this version did not make are not for it to write.
pub(crate) fn refuse_strangers(database: &str, applied: &BTreeMap<u32, String>) -> Result<()> {
    for (number, checksum) in applied {
        let Some(migration) = MIGRATIONS.iter().find(|migration| migration.number == *number) else {
            let message = format!(
                "the database {database} has migration {number} and this version knows {NEWEST}: run the version that made it, \
                 or a newer one"
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        };
        if *checksum != migration.checksum() {
            let message = format!(
                "migration {number} ({}) of the database {database} was another one than this version has: run the version \
                 that made it, or use another database",
                migration.name
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
    }
    Ok(())
}

async fn apply(server: &Server, migration: &Migration) -> Result<()> {
    let Migration { number, name, .. } = migration;
    let attempt = format!("apply migration {number} ({name})");
    for statement in migration.statements(server) {
        server.execute(&attempt, &statement).await?;
    }
    let row = RecordBatch::try_from_iter([
        ("number", Arc::new(UInt32Array::from(vec![*number])) as _),
        ("name", Arc::new(StringArray::from(vec![*name])) as _),
        ("checksum", Arc::new(StringArray::from(vec![migration.checksum()])) as _),
    ]);
    let row = row
        .and_then(|row| encode(&row.schema(), &[row]))
        .map_err(|e| Error::with_source(ErrorKind::Corrupt, attempt.clone(), e))?;
    server.insert(&attempt, "INSERT INTO migrations (number, name, checksum) FORMAT ArrowStream", row).await
}

impl Migration {
    fn checksum(&self) -> String {
        format!("{:016x}", xxh3_64(self.text.as_bytes()))
    }

    /// Its statements, for this database. Comments stay: the server keeps none of them.
    fn statements(&self, server: &Server) -> Vec<String> {
        let text = self
            .text
            .replace(" @on_cluster", &on_cluster(server))
            .replace("@database", &quoted(&server.database))
            .replace("@replacing", &engine(server, "ReplacingMergeTree"))
            .replace("@settings", SETTINGS);
        text.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
    }
}

/// An engine of the MergeTree family; in a cluster the one that replicates.
fn engine(server: &Server, name: &str) -> String {
    format!("{}{name}", if server.cluster.is_some() { "Replicated" } else { "" })
}

/// For DDL: on all servers.
fn on_cluster(server: &Server) -> String {
    server.cluster.as_ref().map(|cluster| format!(" ON CLUSTER {}", quoted(cluster))).unwrap_or_default()
}

/// A name that was checked when the server was named.
fn quoted(name: &str) -> String {
    format!("`{name}`")
}

/// Makes the server forget rows of `table` so many days after their date, or never.
async fn keep(server: &Server, table: Table, days: Option<u32>) -> Result<()> {
    let name = rows_table(table);
    let query = server
        .statement("SELECT engine_full FROM system.tables WHERE database = {database:String} AND name = {name:String}")
        .param("database", &server.database)
        .param("name", &name);
    let attempt = format!("read for how long {table} is kept");
    let mut engine = String::new();
    for batch in server.ask(&attempt, query).await? {
        engine.extend(batch.column(0).as_string::<i32>().iter().flatten());
    }
    let alter = match days {
        Some(days) if !engine.contains(&format!("TTL event_date + toIntervalDay({days})")) => {
            format!("MODIFY TTL event_date + toIntervalDay({days})")
        }
        None if engine.contains(" TTL ") => "REMOVE TTL".to_owned(),
        _ => return Ok(()),
    };
    let sql = format!("ALTER TABLE {}.{name}{} {alter}", quoted(&server.database), on_cluster(server));
    server.execute(&format!("set for how long {table} is kept"), &sql).await
}

#[cfg(test)]
mod tests;
