//! What the front door has done since the process started.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use millrace_events::LogTime;

use crate::refusal::{Code, Reason};

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

/// The counters of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceCounters {
    /// What happened to what came from it; it has no ticks.
    pub counters: CollectorCounters,
    /// Log time of the last request that was answered with an [`crate::Accepted`]; `None` before the first.
    pub last_seen: Option<LogTime>,
}

/// The counters of everything together and of each source.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) total: Counters,
    /// Only the names of keys come in here, so there are no more than keys.
    sources: RwLock<BTreeMap<String, Arc<Source>>>,
    /// Of requests that were refused before it was known whose they are.
    nobody: Counters,
}

#[derive(Debug, Default)]
struct Source {
    counters: Counters,
    /// 0 before the first.
    last_seen_us: AtomicI64,
}

impl Tally {
    /// A request was answered.
    pub(crate) fn answered(&self, source: &str, at: LogTime, answered: &Answered<'_>) {
        let of = self.source(source);
        for counters in [&self.total, &of.counters] {
            counters.answered(answered);
        }
        of.last_seen_us.fetch_max(at.0, Ordering::Relaxed);
    }

    /// A request was refused; `source` is known when its key was.
    pub(crate) fn refused(&self, source: Option<&str>, code: &str) {
        self.total.refused(code);
        match source {
            Some(source) => self.source(source).counters.refused(code),
            None => self.nobody.refused(code),
        }
    }

    /// Each source's, by name.
    pub(crate) fn by_source(&self) -> BTreeMap<String, SourceCounters> {
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        let read = |of: &Arc<Source>| SourceCounters {
            counters: of.counters.read(),
            last_seen: Some(of.last_seen_us.load(Ordering::Relaxed)).filter(|&us| us != 0).map(LogTime),
        };
        sources.iter().map(|(name, of)| (name.clone(), read(of))).collect()
    }

    /// Those of requests that were refused before it was known whose they are.
    pub(crate) fn of_nobody(&self) -> CollectorCounters {
        self.nobody.read()
    }

    fn source(&self, name: &str) -> Arc<Source> {
        if let Some(of) = self.sources.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return of.clone();
        }
        self.sources.write().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default().clone()
    }
}

/// What became of a request that was answered.
pub(crate) struct Answered<'a> {
    pub(crate) accepted: u32,
    pub(crate) violations: u32,
    pub(crate) rejected: &'a [Reason],
    pub(crate) bytes: usize,
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
    fn answered(&self, answered: &Answered<'_>) {
        add(&self.requests, 1);
        add(&self.accepted, u64::from(answered.accepted));
        add(&self.violations, u64::from(answered.violations));
        add(&self.bytes, answered.bytes as u64);
        for &reason in answered.rejected {
            add(&self.rejected[reason as usize], 1);
        }
    }

    fn refused(&self, code: &str) {
        let known = Code::ALL.iter().find(|known| known.as_str() == code);
        debug_assert!(known.is_some(), "{code} is not counted");
        if let Some(known) = known {
            add(&self.refused[*known as usize], 1);
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
