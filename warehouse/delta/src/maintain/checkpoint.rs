//! Keeps the log short: what it adds up to, in one file, and no entries before it.

use deltalake_core::checkpoints::{cleanup_expired_logs_for, create_checkpoint};
use millrace_warehouse::{Maintained, Result};
use tokio::runtime::Handle;

use crate::table::{DeltaTable, blocking, now_ms};

/// How many entries the log may grow before they are summed up: so many small files a reader opens at most, beside those of
/// one round.
const ENTRIES: u64 = 100;

/// Writes a checkpoint when it is time, and deletes entries before it that are older than the retention.
pub(super) async fn checkpoint(table: &DeltaTable, done: &mut Maintained) -> Result<()> {
    let since = {
        let state = table.lock();
        state.version - state.checkpoint.unwrap_or(0)
    };
    if since < ENTRIES {
        return Ok(());
    }
    let failed = |e| table.error("write a checkpoint of", e);
    let delta = table.open_delta().await.map_err(failed)?;
    let version = delta.snapshot().map_err(failed)?.version();
    // deltalake computes it on the thread that asks.
    let handle = Handle::current();
    let summed = delta.clone();
    let written = blocking(move || Ok(handle.block_on(create_checkpoint(&summed, None)))).await?;
    written.map_err(failed)?;
    table.lock().checkpoint = Some(version);
    done.checkpoints += 1;

    let retention_ms = i64::try_from(table.retention.as_millis()).unwrap_or(i64::MAX);
    let until_ms = now_ms().saturating_sub(retention_ms);
    let deleted = cleanup_expired_logs_for(version, &*delta.log_store(), until_ms, None).await;
    done.files_deleted += deleted.map_err(|e| table.error("delete old entries of", e))? as u64;
    Ok(())
}
