//! What the HTTP surface adds to an event: `cargo bench -p millrace-http --bench ingest`.
//!
//! In process and over a log that answers at once, so it is the surface and the collector without a socket or a disk.
//! One sample is one request.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up should stop")]

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use divan::{Bencher, black_box};
use millrace_collector::{Collector, CollectorOptions};
use millrace_events::{LogTime, TopicPartition};
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::views::SourceCounts;
use millrace_http::{
    Access, Api, ApiState, Backup, BackupTaker, Readiness, StatusReport, StatusSource, Verification, Verifier,
};
use millrace_log::{Append, Bounds, EventLog, Offset, Record, Result, WallClock};
use millrace_ranking::{Ranker, RankerOptions};
use tokio::runtime::Builder;

fn main() {
    divan::main();
}

/// Takes everything and keeps nothing.
struct Nowhere;

#[async_trait]
impl EventLog for Nowhere {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Offset>> {
        Ok(vec![0; black_box(batch).len()])
    }

    async fn read(&self, _: TopicPartition, _: Offset, _: usize) -> Result<Vec<Record>> {
        Ok(Vec::new())
    }

    async fn wait(&self, _: TopicPartition, _: Offset) -> Result<()> {
        Ok(())
    }

    async fn bounds(&self, _: TopicPartition) -> Result<Bounds> {
        Ok(Bounds { start: 0, end: 0, last_time: None::<LogTime> })
    }

    async fn trim(&self, _: TopicPartition, _: Offset) -> Result<()> {
        Ok(())
    }

    fn partitions(&self) -> u32 {
        4
    }
}

struct Process;

#[async_trait]
impl StatusSource for Process {
    async fn status(&self) -> StatusReport {
        StatusReport::default()
    }

    async fn sources(&self) -> Vec<SourceCounts> {
        Vec::new()
    }
}

impl Readiness for Process {
    fn missing(&self) -> Vec<String> {
        Vec::new()
    }
}

impl BackupTaker for Process {
    fn begin(&self, dest: &str) -> std::result::Result<Backup, String> {
        Err(dest.to_owned())
    }

    fn state(&self) -> Backup {
        Backup { state: "none", ..Backup::default() }
    }
}

impl Verifier for Process {
    fn begin(&self) -> Verification {
        Verification::default()
    }

    fn state(&self) -> Verification {
        Verification::default()
    }
}

fn api() -> Api {
    let log = Arc::new(Nowhere);
    let options = CollectorOptions { accept_any_key: true, ..CollectorOptions::default() };
    Api::new(ApiState {
        collector: Arc::new(Collector::new(log.clone(), Arc::new(WallClock), options)),
        body_bytes_max: millrace_collector::BODY_BYTES_MAX,
        ranker: Arc::new(Ranker::new(Arc::new(ToyStore::new()), 4, RankerOptions::default())),
        slates: Arc::new(millrace_http::NoSlates),
        status: Arc::new(Process),
        log,
        readiness: Arc::new(Process),
        verifier: Arc::new(Process),
        backups: Arc::new(Process),
        queries: None,
        metrics: Arc::new(String::new),
        access: Access { api_token: None, admin_token: "x".to_owned(), is_open: Arc::new(true.into()) },
        limits: millrace_http::LimitOptions::default(),
    })
}

const EVENT: &str = r#"{"type":"track","event":"Post Liked","userId":"user-12345","messageId":"0196f0e2-8a57-7c6e-9d0f-8a4b5c6d7e8f","timestamp":"2026-01-01T00:00:00.000Z","sentAt":"2026-01-01T00:00:00.100Z","properties":{"post_id":"post-6789","slate":"sl_0123456789abcdef","position":3},"context":{"library":{"name":"analytics-python","version":"2.4.0"}}}"#;

fn request(path: &str, body: Body) -> Request<Body> {
    let request = Request::post(path).header("authorization", "Basic d2s6").header("content-type", "application/json");
    request.body(body).unwrap()
}

#[divan::bench(args = ["/v1/track", "/v1/m", "/healthz"], sample_count = 2_000, sample_size = 16)]
fn single(bencher: Bencher, path: &str) {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let api = api();
    bencher
        .with_inputs(|| request(path, Body::from(EVENT)))
        .bench_local_values(|request| runtime.block_on(api.answer(request)));
}
