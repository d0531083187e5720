//! Verifies a running platform: replays beside it, then holds its jobs for the moment of the comparison.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use millrace_feature_store::OnlineStore;
use millrace_http::{Verification, Verifier};
use millrace_log::EventLog;
use millrace_pipelines::runner::Gate;
use millrace_pipelines::verify::Report;
use millrace_warehouse::Warehouse;

use crate::assemble::{Status, worked_partitions};
use crate::commands::verify::Scratch;
use crate::config::Config;

/// How long to wait for every job to stand at a commit.
const HOLD_WITHIN: Duration = Duration::from_secs(30);

/// Verifies this process. Clones share how the last verification went.
#[derive(Clone)]
pub(crate) struct LiveVerifier {
    pub(crate) config: Config,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) online: Arc<dyn OnlineStore>,
    pub(crate) warehouse: Arc<dyn Warehouse>,
    pub(crate) status: Arc<Status>,
    pub(crate) gate: Option<Gate>,
    pub(crate) last: Arc<Mutex<Verification>>,
}

impl LiveVerifier {
    async fn compare(&self) -> anyhow::Result<Report> {
        let gate = self.gate.as_ref().context("no jobs run in this process: ask the one with the role pipelines")?;
        let workers: Vec<_> = self.status.applied().into_keys().collect();
        ensure!(
            workers.len() == worked_partitions(self.log.partitions()).len(),
            "other processes work on some of the partitions, and cannot be held from here: stop all of them and run `millrace \
             verify` with the same configuration"
        );
        let mut scratch = Scratch::within(&self.config, self.log.clone())?;
        // Most of the replay happens while the jobs go on; only what came meanwhile is replayed while they are held.
        scratch.replay.advance(&self.status.applied()).await?;
        let held = tokio::time::timeout(HOLD_WITHIN, gate.close(&workers)).await;
        let held = held.context("the jobs did not come to a commit in time")?;
        scratch.replay.advance(&self.status.applied()).await?;
        let warehouse = Some(self.warehouse.clone());
        Ok(scratch.replay.compare(self.online.as_ref(), warehouse, move || drop(held)).await?)
    }

    fn last(&self) -> MutexGuard<'_, Verification> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verifier for LiveVerifier {
    fn begin(&self) -> Verification {
        let mut last = self.last();
        if last.state == "running" {
            return last.clone();
        }
        *last = Verification { state: "running", ..Verification::default() };
        let verifier = self.clone();
        tokio::spawn(async move {
            let outcome = verifier.compare().await.and_then(|report| Ok(serde_json::to_value(report)?));
            *verifier.last() = match outcome {
                Ok(report) => Verification { state: "done", report: Some(report), error: None },
                Err(error) => Verification { state: "failed", report: None, error: Some(format!("{error:#}")) },
            };
        });
        last.clone()
    }

    fn state(&self) -> Verification {
        let last = self.last().clone();
        if last.state.is_empty() { Verification { state: "none", ..last } } else { last }
    }
}
