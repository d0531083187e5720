//! What is wrong with a Postgres, before it shows.

use std::sync::atomic::AtomicBool;

use sqlx::Row as _;
use sqlx::postgres::PgSslMode;

use crate::statements::{Statements as _, check_version};
use crate::store::{Engine as _, Store};
use crate::{Finding, Level, Result};

use super::Postgres;
use super::target::Target;

/// The oldest version that is still looked after and has what is used here: 13, as Postgres numbers it.
const VERSION_MIN: i32 = 13_00_00;
/// By how much its clock may differ from ours, milliseconds. Only people compare times of both.
const SKEW_MS_MAX: i64 = 2_000;

struct Facts {
    version: i32,
    is_replica: bool,
    encoding: String,
    durable: bool,
    is_encrypted: bool,
    now_ms: i64,
    may_create_schema: bool,
    schema_exists: bool,
    may_use_schema: bool,
    may_create_tables: bool,
    /// Of tables that are there, whether each may be read and written.
    may_write: bool,
    applied: Option<i64>,
}

pub(crate) async fn check(store: &Store<Postgres>, target: &Target, now_ms: i64) -> Vec<Finding> {
    let calm = AtomicBool::new(false);
    let ask = async {
        let mut lease = store.pool.lease().await?;
        let row = sqlx::query(FACTS).bind(&target.schema).fetch_one(&mut *lease.connection()).await?;
        let may_read: bool = row.try_get("may_read_versions")?;
        // A version that may not be read shows as a missing permission.
        let applied = if may_read { lease.connection().version().await? } else { None };
        lease.give_back();
        let facts = Facts {
            version: row.try_get("version")?,
            is_replica: row.try_get("is_replica")?,
            encoding: row.try_get("encoding")?,
            durable: row.try_get("durable")?,
            is_encrypted: row.try_get("is_encrypted")?,
            now_ms: row.try_get("now_ms")?,
            may_create_schema: row.try_get("may_create_schema")?,
            schema_exists: row.try_get("schema_exists")?,
            may_use_schema: row.try_get("may_use_schema")?,
            may_create_tables: row.try_get("may_create_tables")?,
            may_write: row.try_get("may_write")?,
            applied,
        };
        Ok(facts)
    };
    let facts: Result<Facts> = store.within("look at the server", store.limit, &calm, ask).await;
    match facts {
        Ok(facts) => judge(&facts, target, now_ms),
        Err(error) => vec![Finding::bad(Level::Fault, error.to_string(), cure(&error))],
    }
}

fn cure(error: &crate::Error) -> &'static str {
    match (error.cure(), error.kind()) {
        (Some(cure), _) => cure,
        (None, crate::ErrorKind::Retry) => "start Postgres, or correct host and port in the URL",
        _ => "see the message",
    }
}

const FACTS: &str = "SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS is_replica, \
     current_setting('server_encoding') AS encoding, \
     current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off' AS durable, \
     coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS is_encrypted, \
     (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms, \
     has_database_privilege(current_database(), 'CREATE') AS may_create_schema, \
     n.oid IS NOT NULL AS schema_exists, \
     coalesce(has_schema_privilege(n.oid, 'USAGE'), false) AS may_use_schema, \
     coalesce(has_schema_privilege(n.oid, 'CREATE'), false) AS may_create_tables, \
     coalesce((SELECT bool_and(has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') \
       AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')) FROM pg_class c \
       WHERE c.relnamespace = n.oid AND c.relname IN ('catalog_state', 'catalog_entries')), true) AS may_write, \
     coalesce((SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') FROM pg_class c \
       WHERE c.relnamespace = n.oid AND c.relname = 'catalog_migrations'), true) AS may_read_versions \
     FROM (SELECT $1::text AS schema) AS wanted LEFT JOIN pg_namespace n ON n.nspname = wanted.schema";

fn judge(facts: &Facts, target: &Target, now_ms: i64) -> Vec<Finding> {
    let fault = |what: String, cure: &str| Finding::bad(Level::Fault, what, cure);
    let mut findings = vec![Finding::fine(format!("{} answers", target.place))];
    let version = format!("Postgres {}.{}", facts.version / 10_000, facts.version % 10_000);
    findings.push(if facts.version >= VERSION_MIN {
        Finding::fine(version)
    } else {
        fault(version, "upgrade Postgres to 13 or later")
    });
    if facts.is_replica {
        findings.push(fault("it is a replica, which cannot be written".to_owned(), "name the primary in the URL"));
    }
    if facts.encoding != "UTF8" {
        let what = format!("the database holds text as {}", facts.encoding);
        findings.push(fault(what, "make the database with ENCODING 'UTF8'"));
    }
    if !facts.durable {
        let cure = "set fsync and synchronous_commit to on: what was answered may be lost else";
        findings.push(Finding::bad(Level::Warning, "commits are not durable", cure));
    }
    findings.push(schema(facts));
    findings.push(permissions(facts, target));
    findings.extend(encryption(facts, target));
    let skew_ms = facts.now_ms.saturating_sub(now_ms);
    findings.push(if skew_ms.abs() <= SKEW_MS_MAX {
        Finding::fine(format!("its clock is {skew_ms} ms from ours"))
    } else {
        let cure = "let a time service set the clocks of both machines";
        Finding::bad(Level::Warning, format!("its clock is {skew_ms} ms from ours"), cure)
    });
    findings
}

fn schema(facts: &Facts) -> Finding {
    let known = Postgres::MIGRATIONS.len();
    match facts.applied {
        None => Finding::bad(Level::Warning, "there is no catalog yet", "start millrace: it is made then"),
        Some(applied) => match check_version(applied, Postgres::MIGRATIONS) {
            Err(newer) => Finding::bad(Level::Fault, newer.to_string(), "upgrade this millrace"),
            Ok(()) if usize::try_from(applied) == Ok(known) => Finding::fine(format!("schema {applied} is the newest")),
            Ok(()) => {
                let what = format!("the schema is {applied}, the newest is {known}");
                Finding::bad(Level::Warning, what, "start this millrace: it brings the schema up to date")
            }
        },
    }
}

fn permissions(facts: &Facts, target: &Target) -> Finding {
    let schema = &target.schema;
    let fault = |what: &str, cure: String| Finding::bad(Level::Fault, what, cure);
    if !facts.schema_exists {
        return if facts.may_create_schema {
            Finding::fine(format!("the schema {schema} can be made"))
        } else {
            let cure = format!("CREATE SCHEMA {schema} AUTHORIZATION <the user>, or grant it CREATE on the database");
            fault("the schema is not there and may not be made", cure)
        };
    }
    if !facts.may_use_schema || !facts.may_create_tables {
        let cure = format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO <the user>");
        return fault("the schema may not be used or changed", cure);
    }
    if !facts.may_write {
        let cure = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO <the user>");
        return fault("the tables may not be read and written", cure);
    }
    Finding::fine("the schema and its tables may be read, written and changed")
}

fn encryption(facts: &Facts, target: &Target) -> Option<Finding> {
    if !target.remote {
        return None;
    }
    let warning = |what: &str, cure: &str| Finding::bad(Level::Warning, what, cure);
    let cure = "add sslmode=verify-full to the URL, and sslrootcert= with the authority of the server";
    Some(match (facts.is_encrypted, target.ssl_mode) {
        (false, _) => warning("what goes over the network is not encrypted, keys included", cure),
        (true, PgSslMode::VerifyFull) => {
            Finding::fine("the connection is encrypted, and the server has proved its name")
        }
        (true, _) => warning("the connection is encrypted, but the server has not proved its name", cure),
    })
}

#[cfg(test)]
mod tests;
