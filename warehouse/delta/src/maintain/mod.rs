//! What keeps the tables quick to read and small on disk. Each part does a bounded piece of work per call.

mod checkpoint;
mod merge;
mod vacuum;

use std::collections::HashSet;
use std::sync::Arc;

use millrace_warehouse::{Error, ErrorKind, Maintained, Result};

use crate::table::{DeltaTable, Tables};

/// What one round of maintenance tells the next.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Files that are too large in memory to be merged, by path.
    oversized: HashSet<String>,
}

/// One round over all tables, to the end also when the caller is gone. A second caller waits for the first.
pub(crate) async fn maintain(tables: &Arc<Tables>) -> Result<Maintained> {
    let tables = tables.clone();
    let round = tokio::spawn(async move { round(&tables).await });
    round.await.map_err(|e| Error::with_source(ErrorKind::Retry, "interrupted maintenance of the warehouse", e))?
}

/// A table that cannot be maintained now does not keep the others from it.
async fn round(tables: &Tables) -> Result<Maintained> {
    let mut rounds = tables.rounds.lock().await;
    let mut done = Maintained::default();
    let mut failed = Ok(());
    for table in tables.all() {
        failed = failed.and(one(table, &mut rounds, &mut done).await);
    }
    failed.map(|()| done)
}

async fn one(table: &DeltaTable, rounds: &mut Rounds, done: &mut Maintained) -> Result<()> {
    table.follow().await?;
    // What cannot be merged still gets its checkpoints, and what is gone its disk space back.
    let merged = merge::merge(table, &mut rounds.oversized, done).await;
    let written = checkpoint::checkpoint(table, done).await;
    merged.and(written).and(vacuum::vacuum(table, done).await)
}
