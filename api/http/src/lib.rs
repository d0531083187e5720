//! Answers: the platform's HTTP surface.
//!
//! Routes stand by resource in `routes`, each with its wire types; errors become statuses in `error.rs` and nowhere else.
//! Ingest does not go through the router: its few fixed paths are matched first and answered by one function, because it
//! is the hot path and needs none of what reading needs. Bodies there are bytes, not typed extractors: real SDKs send
//! JSON as `text/plain`, as a form or without any content type, gzipped or in chunks.
//!
//! It must never know how an event is checked, how a feed is ranked or what stores them: those are the collector, the
//! ranker and traits.

mod access;
mod address;
mod api;
mod body;
mod connections;
mod cors;
mod error;
mod ingest;
mod limits;
mod metrics;
mod openapi;
mod query;
mod record_json;
mod remote_config;
mod routes;
mod serve;
mod settings;
mod slates;
mod status;
mod turned_away;
mod verdicts;

pub use access::Access;
pub use api::{ANSWER_TIMEOUT, Api, ApiState, INGEST_IN_FLIGHT_MAX, MetricsSource, READS_IN_FLIGHT_MAX, Readiness};
pub use body::{BODIES_BYTES_MAX, BODY_TIMEOUT, DRAIN_BYTES_MAX};
pub use connections::{HEAD_TIMEOUT, IDLE_TIMEOUT, STALL_TIMEOUT};
pub use ingest::path_of;
pub use ipnet::IpNet;
pub use limits::{ADDRESSES_MAX, BURST_SECONDS, HOPS_MAX, LimitOptions, Rate, RateError};
pub use openapi::openapi_json;
pub use record_json::record_json;
pub use routes::backup::{Backup, BackupTaker};
pub use routes::log::{LOG_ANSWER_BYTES_MAX, LOG_LIMIT_MAX, NEXT_OFFSET};
pub use routes::queries::{AS_OF, JSON_BYTES_MAX, JSON_ROWS_MAX, Queries};
pub use routes::verify::{Verification, Verifier};
pub use serve::{CONNECTIONS_MAX, HEAD_BYTES_MAX, Peer, ServeOptions, serve};
pub use slates::{NoSlates, SlateSink};
pub use status::{
    DoorCounts, IngestStatus, JobPartition, LogPartition, OnlineStatus, SourceStatus, SpoolStatus, StatusReport,
    StatusSource, WarehouseStatus,
};

#[cfg(test)]
mod tests;
