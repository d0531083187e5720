//! Metrics in Prometheus text format: what the crates record, and gauges read at the time of asking.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use millrace_collector::Collector;
use millrace_http::MetricsSource;

use crate::assemble::Status;
use crate::slates::Slates;

/// Installs the recorder, once per process, and renders it with the gauges of this platform.
pub(crate) fn source(collector: Arc<Collector>, slates: Arc<Slates>, status: Arc<Status>) -> MetricsSource {
    let handle = recorder();
    Arc::new(move || {
        let mut text = handle.as_ref().map(PrometheusHandle::render).unwrap_or_default();
        // Writing to a string cannot fail.
        if gauges(&mut text, &collector, &slates, &status).is_err() {
            tracing::error!("metrics could not be rendered");
        }
        text
    })
}

/// Bounds of the buckets of a request's duration, seconds: around what is promised for feeds and ingest.
const DURATION_BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];

/// How often samples are folded into their buckets, so that they do not pile up when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

fn recorder() -> Option<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), &DURATION_BUCKETS);
    let installed = builder.map_err(|e| e.to_string()).and_then(|b| b.install_recorder().map_err(|e| e.to_string()));
    match installed {
        Ok(handle) => {
            let upkeep = handle.clone();
            tokio::spawn(async move {
                let mut every = tokio::time::interval(UPKEEP);
                loop {
                    every.tick().await;
                    upkeep.run_upkeep();
                }
            });
            Some(handle)
        }
        // A second platform in the same process shares the first one's recorder, but cannot render it.
        Err(error) => {
            tracing::debug!(error, "metrics are recorded by another platform of this process");
            None
        }
    }
}

fn gauges(out: &mut String, collector: &Collector, slates: &Slates, status: &Status) -> std::fmt::Result {
    let counters = collector.counters();
    header(out, "millrace_collector_requests_total", "counter", "Requests to the front door.")?;
    writeln!(out, "millrace_collector_requests_total {}", counters.requests)?;
    header(out, "millrace_collector_events_accepted_total", "counter", "Events durable in the log.")?;
    writeln!(out, "millrace_collector_events_accepted_total {}", counters.accepted)?;
    header(out, "millrace_collector_violations_total", "counter", "Events kept that depart from their tracking plan.")?;
    writeln!(out, "millrace_collector_violations_total {}", counters.violations)?;
    header(out, "millrace_collector_ticks_total", "counter", "Ticks of idle partitions.")?;
    writeln!(out, "millrace_collector_ticks_total {}", counters.ticks)?;
    header(out, "millrace_collector_events_rejected_total", "counter", "Events in dead-letters, by reason.")?;
    for (reason, count) in &counters.rejected {
        writeln!(out, "millrace_collector_events_rejected_total{{reason=\"{reason}\"}} {count}")?;
    }
    header(out, "millrace_collector_requests_refused_total", "counter", "Requests refused whole, by code.")?;
    for (code, count) in &counters.refused {
        writeln!(out, "millrace_collector_requests_refused_total{{code=\"{code}\"}} {count}")?;
    }
    let served = slates.counts();
    header(out, "millrace_api_slates_total", "counter", "Served slates by what became of their record.")?;
    for (what, count) in [
        ("accepted", served.accepted),
        ("dropped", served.dropped),
        ("failed", served.failed),
        ("written", served.written),
    ] {
        writeln!(out, "millrace_api_slates_total{{what=\"{what}\"}} {count}")?;
    }
    header(
        out,
        "millrace_api_slate_candidates_left_out_total",
        "counter",
        "Candidates left out of too large records.",
    )?;
    writeln!(out, "millrace_api_slate_candidates_left_out_total {}", served.left_out)?;
    if let Some(spool) = &status.spool {
        crate::spool::gauges(out, spool)?;
    }
    if let Some(archive) = status.archive() {
        header(out, "millrace_warehouse_lag_records", "gauge", "Records whose rows are not archived, by table.")?;
        for (table, of) in &archive.tables {
            writeln!(out, "millrace_warehouse_lag_records{{table=\"{table}\"}} {}", of.lag)?;
        }
    }
    let known = status.board.as_ref().map(millrace_pipelines::runner::Board::all).unwrap_or_default();
    header(out, "millrace_pipelines_applied_offset", "gauge", "The next record to apply, by topic and partition.")?;
    for (of, part) in &known {
        writeln!(
            out,
            "millrace_pipelines_applied_offset{{topic=\"{}\",partition=\"{}\"}} {}",
            of.topic, of.partition, part.applied
        )?;
    }
    header(out, "millrace_pipelines_restarts_total", "counter", "Restarts from the last commit after a failure.")?;
    for (of, part) in &known {
        writeln!(
            out,
            "millrace_pipelines_restarts_total{{topic=\"{}\",partition=\"{}\"}} {}",
            of.topic, of.partition, part.restarts
        )?;
    }
    header(out, "millrace_pipelines_records_total", "counter", "Records by what became of them.")?;
    for (of, part) in &known {
        for (what, count) in &part.counts {
            writeln!(
                out,
                "millrace_pipelines_records_total{{topic=\"{}\",partition=\"{}\",what=\"{what}\"}} {count}",
                of.topic, of.partition
            )?;
        }
    }
    if let Some(usage) = crate::measure::usage(std::process::id()) {
        header(out, "process_cpu_seconds_total", "counter", "User and system time.")?;
        writeln!(out, "process_cpu_seconds_total {}", usage.cpu.as_secs_f64())?;
        header(out, "process_resident_memory_bytes", "gauge", "Resident memory.")?;
        writeln!(out, "process_resident_memory_bytes {}", usage.resident_bytes)?;
    }
    Ok(())
}

pub(crate) fn header(out: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}
