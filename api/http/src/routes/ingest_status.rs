//! What came in, by source.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use millrace_collector::CollectorCounters;
use millrace_events::format_rfc3339;
use millrace_feature_store::views::SourceCounts;

use crate::api::Shared;
use crate::error::Problem;
use crate::status::{DoorCounts, IngestStatus, SourceStatus};

/// What came in, by source: the name of the write key it was sent with.
#[utoipa::path(get, path = "/v1/ingest/status", tag = "operations", responses(
    (status = 200, body = IngestStatus), (status = "4XX", body = Problem), (status = "5XX", body = Problem),
))]
pub(crate) async fn ingest_status(State(shared): State<Arc<Shared>>) -> Json<IngestStatus> {
    let collector = &shared.state.collector;
    let mut answer = IngestStatus {
        since: format_rfc3339(shared.since_us),
        unattributed: not_zero(&collector.counters_of_nobody().refused),
        ..IngestStatus::default()
    };
    for SourceCounts { source, accepted, duplicates, late, robots, violations, refused, last_us } in
        shared.state.status.sources().await
    {
        let last_seen = Some(format_rfc3339(last_us));
        let door = DoorCounts::default();
        let of = SourceStatus { accepted, duplicates, late, robots, violations, unapplied: refused, last_seen, door };
        if source.is_empty() {
            answer.others = Some(of);
        } else {
            answer.sources.insert(source, of);
        }
    }
    for (name, of) in collector.counters_by_source() {
        let CollectorCounters { requests, accepted, violations, rejected, refused, .. } = of.counters;
        answer.sources.entry(name).or_default().door = DoorCounts {
            requests,
            events: accepted,
            violations,
            rejected: not_zero(&rejected),
            refused: not_zero(&refused),
            last_seen: of.last_seen.map(|time| format_rfc3339(time.0)),
        };
    }
    Json(answer)
}

fn not_zero(counts: &[(&'static str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().filter(|(_, count)| *count > 0).map(|(name, count)| ((*name).to_owned(), *count)).collect()
}
