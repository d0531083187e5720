//! The spool of this door: what it keeps on its own disk while the log does not take it.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::ensure;
use millrace_events::format_rfc3339;
use millrace_http::SpoolStatus;
use millrace_log::EventLog;
use millrace_spool::{Spool, SpoolOptions, Spooled, has_leftovers};

use crate::assemble::{self, Stores};
use crate::commands::client::note;
use crate::config::Config;
use crate::metrics::header;

/// How many characters of a random token make a name that no other door has.
const NAME_CHARS: usize = 16;

/// Opens the spool, where the configuration has one, and says what an earlier process left in it.
pub(crate) async fn open(config: &Config, stores: &Stores) -> anyhow::Result<Option<Arc<Spool>>> {
    let Some((dir, bytes_max)) = config.spool() else {
        refuse_leftovers(config)?;
        return Ok(None);
    };
    assemble::make_private(&dir)?;
    let options = SpoolOptions { bytes_max, ..SpoolOptions::new(dir, stores.log_name.clone()) };
    let log = stores.log.clone();
    // Reads what was left, up to its bound.
    let spool = tokio::task::spawn_blocking(move || Spool::open(log, options)).await??;
    let Spooled { events, .. } = spool.spooled();
    if events > 0 {
        note(&format!(
            "{events} records were left in the spool at {}: they go into the log first",
            spool.dir().display()
        ));
    }
    Ok(Some(spool))
}

/// Refuses to go on without what an earlier door has acknowledged.
///
/// # Errors
/// When there is something in the spool.
pub(crate) fn refuse_leftovers(config: &Config) -> anyhow::Result<()> {
    let dir = config.spool_dir.clone().unwrap_or_else(|| config.data_dir.join("spool"));
    ensure!(
        !has_leftovers(&dir),
        "the spool in {} holds events that were acknowledged and are not in the log yet: run `millrace up` with the role \
         `collector` and the same options until `millrace status --wait-caught-up` ends, then do this",
        dir.display()
    );
    Ok(())
}

/// A name for this door that no other process has or had: part of the ids that it mints.
pub(crate) fn door_name() -> anyhow::Result<String> {
    Ok(assemble::random_token()?.chars().take(NAME_CHARS).collect())
}

/// Takes nothing more; what is left stays for the next start, and is told of.
pub(crate) async fn close(spool: Arc<Spool>) {
    let closing = spool.clone();
    if tokio::task::spawn_blocking(move || closing.close()).await.is_err() {
        tracing::error!("closing the spool panicked");
    }
    if !spool.is_empty() {
        let Spooled { events, .. } = spool.spooled();
        let dir = spool.dir().display();
        note(&format!("{events} records that the log did not take stay in {dir}: the next start brings them in"));
    }
}

/// What `up` says about it.
pub(crate) fn line(spool: &Spool) -> String {
    format!("  spool    {}; at most {} MiB while the log is away\n", spool.dir().display(), spool.bytes_max() >> 20)
}

/// What waits; `None` when nothing does and nothing is wrong.
pub(crate) fn status(spool: &Spool) -> Option<SpoolStatus> {
    let is_empty = spool.is_empty();
    let Spooled { bytes, events, oldest, stuck, failing, .. } = spool.spooled();
    let error = stuck.or(failing);
    (!is_empty || error.is_some()).then(|| SpoolStatus {
        bytes,
        events,
        oldest: oldest.map(|time| format_rfc3339(time.0)),
        error,
    })
}

/// What it holds, for Prometheus.
pub(crate) fn gauges(out: &mut String, spool: &Spool) -> std::fmt::Result {
    let Spooled { bytes, events, kept_events, drained_events, .. } = spool.spooled();
    for (name, kind, help, value) in [
        ("millrace_spool_bytes", "gauge", "Size of what the log did not take yet.", bytes),
        ("millrace_spool_events", "gauge", "Records that the log did not take yet.", events),
        ("millrace_spool_kept_events_total", "counter", "Records that the log did not take at once.", kept_events),
        ("millrace_spool_drained_events_total", "counter", "Records that it took afterwards.", drained_events),
    ] {
        header(out, name, kind, help)?;
        writeln!(out, "{name} {value}")?;
    }
    Ok(())
}
