//! What `/v1/status` says, and who knows it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use millrace_feature_store::views::SourceCounts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Knows how far everything is. Implemented where everything is known: in the binary.
#[async_trait]
pub trait StatusSource: Send + Sync + 'static {
    /// How far everything is now.
    async fn status(&self) -> StatusReport;

    /// What stage 1 saw of each source, over all partitions, in the order of names; see [`SourceCounts::source`].
    async fn sources(&self) -> Vec<SourceCounts>;
}

/// What came in, by source. Also read back by `millrace status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IngestStatus {
    /// When this process began to count what stands under `door` and `unattributed`, RFC 3339.
    pub since: String,
    /// The name of a write key → what came with it.
    pub sources: BTreeMap<String, SourceStatus>,
    /// The same of those together that are too many to be counted by name; absent where all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<SourceStatus>,
    /// Why → how many requests this door refused before it was known whose they are: without a key, with one that is not
    /// known, with one in a body that cannot be read, or because there was no place for them.
    pub unattributed: BTreeMap<String, u64>,
}

/// What came from one source. What does not stand under `door` is counted by stage 1 once for each event, whichever door it
/// came in by and however often anything restarted; it follows the log by moments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceStatus {
    /// Events that were let through.
    pub accepted: u64,
    /// Events that were dropped because they had come before.
    pub duplicates: u64,
    /// Of the accepted ones, those that came too late for windows and trends.
    pub late: u64,
    /// Of the accepted ones, those that no person did.
    pub robots: u64,
    /// Of the accepted ones, those that depart from their tracking plan, which keeps them.
    pub violations: u64,
    /// Of the accepted ones, those that no job could apply, such as a follow of oneself; each left a dead letter.
    pub unapplied: u64,
    /// Log time of the last event, whatever became of it, RFC 3339; null before the first.
    pub last_seen: Option<String>,
    /// What the asked process answered.
    pub door: DoorCounts,
}

/// What the door of one process answered to one source since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoorCounts {
    /// Requests that were answered 2xx.
    pub requests: u64,
    /// Events of them that are in the log, duplicates among them.
    pub events: u64,
    /// Of these, those that depart from their tracking plan.
    pub violations: u64,
    /// Why → how many events went to dead letters.
    pub rejected: BTreeMap<String, u64>,
    /// Why → how many whole requests were refused.
    pub refused: BTreeMap<String, u64>,
    /// When the last request was answered 2xx, log time, RFC 3339; null before the first.
    pub last_seen: Option<String>,
}

/// How far the log and the jobs are. Also read back by `millrace status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Status)]
pub struct StatusReport {
    /// Topic → partition → what it holds.
    // Keys of JSON objects are strings, whatever they are here.
    #[schema(value_type = BTreeMap<String, BTreeMap<String, LogPartition>>)]
    pub log: BTreeMap<String, BTreeMap<u32, LogPartition>>,
    /// Job → partition → how far it is.
    #[schema(value_type = BTreeMap<String, BTreeMap<String, JobPartition>>)]
    pub jobs: BTreeMap<String, BTreeMap<u32, JobPartition>>,
    /// Job → how many late events it has counted.
    pub late: BTreeMap<String, u64>,
    /// How far the archive is; absent when it does not run here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warehouse: Option<WarehouseStatus>,
    /// Whether the online store has what the log says; absent where it is in the data directory, which does not forget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<OnlineStatus>,
    /// What this door keeps until the log takes it; absent where it keeps nothing, and at doors that have no spool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spool: Option<SpoolStatus>,
    /// Everything that was acknowledged is visible everywhere, in queries too: as far as this process knows, for other doors
    /// may keep something in spools of their own.
    pub caught_up: bool,
}

/// What was acknowledged at this door and is not in the log yet, because the log did not take it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpoolStatus {
    /// How many bytes its files have.
    pub bytes: u64,
    /// How many records wait.
    pub events: u64,
    /// The log time of the oldest, RFC 3339; null when none waits.
    pub oldest: Option<String>,
    /// Why nothing more can be kept, or nothing brought in; null when all is well.
    pub error: Option<String>,
}

/// How the online store is, as far as the process that was asked knows. A loss is noticed within a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OnlineStatus {
    /// False while it cannot be reached, and from when it lost what it held until it was filled again from the log: feeds and
    /// counters may lack what is older then.
    pub whole: bool,
}

/// How far the archive is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WarehouseStatus {
    /// Records in the log whose rows are not in the warehouse yet, over all tables.
    pub lag: u64,
    /// The same by table.
    pub tables: BTreeMap<String, u64>,
    /// Every action up to this log time is visible to queries, RFC 3339; null before the first.
    pub as_of: Option<String>,
    /// Why the archive waits; null when it does not.
    pub error: Option<String>,
}

/// What a partition of the log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogPartition {
    /// The oldest offset still there.
    pub start: u64,
    /// One past the newest record.
    pub end: u64,
}

/// How far a job is in a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobPartition {
    /// The next offset to apply after a restart.
    pub committed: u64,
    /// One past the newest record.
    pub end: u64,
    /// `end` − `committed`.
    pub lag: u64,
    /// The log time up to which its effects are complete, RFC 3339; null before the first record.
    pub clock: Option<String>,
}
