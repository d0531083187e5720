//! What `/v1/status` says, and who knows it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Knows how far everything is. Implemented where everything is known: in the binary.
#[async_trait]
pub trait StatusSource: Send + Sync + 'static {
    /// How far everything is now.
    async fn status(&self) -> StatusReport;
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
