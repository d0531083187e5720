//! What the front door has done since the process started.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::refusal::{Code, Reason, Refusal};

/// A reading of the counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorCounters {
    /// Requests that were answered with an [`crate::Accepted`].
    pub requests: u64,
    /// Events that are in the log.
    pub accepted: u64,
    /// Bytes of the bodies of those requests, after decompression.
    pub bytes: u64,
    /// Accepted events that depart from their tracking plan, which keeps them.
    pub violations: u64,
    /// Ticks of idle partitions.
    pub ticks: u64,
    /// Events in `dead-letters`, by [`Reason`]; every reason is there, zeros included.
    pub rejected: Vec<(&'static str, u64)>,
    /// Whole requests that were refused, by the code of the refusal, zeros included.
    pub refused: Vec<(&'static str, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    accepted: AtomicU64,
    violations: AtomicU64,
    bytes: AtomicU64,
    ticks: AtomicU64,
    rejected: [AtomicU64; Reason::ALL.len()],
    refused: [AtomicU64; Code::ALL.len()],
}

impl Counters {
    pub(crate) fn answered(&self, accepted: u32, bytes: usize) {
        add(&self.requests, 1);
        add(&self.accepted, u64::from(accepted));
        add(&self.bytes, bytes as u64);
    }

    pub(crate) fn violated(&self, events: u32) {
        add(&self.violations, u64::from(events));
    }

    pub(crate) fn rejected(&self, reason: Reason) {
        add(&self.rejected[reason as usize], 1);
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        if let Some(code) = Code::ALL.iter().find(|code| code.as_str() == refusal.code) {
            add(&self.refused[*code as usize], 1);
        }
    }

    pub(crate) fn ticked(&self, ticks: usize) {
        add(&self.ticks, ticks as u64);
    }

    pub(crate) fn read(&self) -> CollectorCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CollectorCounters {
            requests: get(&self.requests),
            accepted: get(&self.accepted),
            violations: get(&self.violations),
            bytes: get(&self.bytes),
            ticks: get(&self.ticks),
            rejected: Reason::ALL.iter().map(|&r| (r.as_str(), get(&self.rejected[r as usize]))).collect(),
            refused: Code::ALL.iter().map(|&c| (c.as_str(), get(&self.refused[c as usize]))).collect(),
        }
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
