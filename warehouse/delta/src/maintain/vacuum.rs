//! Deletes what nobody can need any more.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use millrace_warehouse::{Maintained, Result};
use object_store::ObjectStore;

use crate::log;
use crate::table::{Change, DeltaTable, Garbage, now_ms};

/// How many files one round deletes of one table.
const DELETES_MAX: usize = 1_000;

/// Deletes files that left the table, or never belonged to it, longer ago than the retention, and that no query here holds.
pub(super) async fn vacuum(table: &DeltaTable, done: &mut Maintained) -> Result<()> {
    // Nobody may be between writing a file and naming it.
    let writer = table.writer().await?;
    let retention_ms = i64::try_from(table.retention.as_millis()).unwrap_or(i64::MAX);
    let until_ms = now_ms().saturating_sub(retention_ms);
    let due = |garbage: &Garbage| garbage.since_ms <= until_ms && !held(garbage);
    if table.is_shared() && table.lock().garbage.values().any(|garbage| garbage.unnamed && due(garbage)) {
        // Another process may be. After this entry it will find that the files which it is about to name are too old; what it
        // named before is not garbage any more.
        let fence = [log::commit_info("VACUUM START", now_ms())];
        writer.add(&fence, Change::default(), |_| Ok(())).await?;
    }
    let paths: Vec<_> = {
        let state = table.lock();
        let due = state.garbage.iter().filter(|(_, garbage)| due(garbage));
        due.take(DELETES_MAX).map(|(path, garbage)| (path.clone(), garbage.location.clone())).collect()
    };
    let locations = stream::iter(paths.iter().map(|(_, location)| Ok(location.clone())).collect::<Vec<_>>());
    let mut answers = table.store.delete_stream(locations.boxed());
    let mut failed = None;
    for (path, _) in &paths {
        match answers.next().await {
            Some(Ok(_)) => done.files_deleted += 1,
            Some(Err(object_store::Error::NotFound { .. })) => {}
            Some(Err(e)) => {
                failed = Some(e);
                continue;
            }
            None => break,
        }
        table.lock().garbage.remove(path);
    }
    failed.map_or(Ok(()), |e| Err(table.error("delete files of", e)))
}

fn held(garbage: &Garbage) -> bool {
    garbage.file.as_ref().is_some_and(|file| Arc::strong_count(file) > 1)
}
