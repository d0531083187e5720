//! Whether appends get through, as [`EventLog::healthy`](millrace_log::EventLog::healthy) answers without waiting.
//!
//! An append that is not acknowledged in its time says so late, and when nobody appends, nothing says anything. So an append
//! that stalls counts at once, and a thread asks the cluster whenever there is a reason to suspect something, until it
//! answers as it should: whoever sends no appends to an unhealthy log sees it get well all the same.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millrace_log::{Error, ErrorKind, Result};

/// An append that waits for longer stalls.
pub(crate) const STALL: Duration = Duration::from_secs(3);
/// The pause between two questions to a cluster that did not answer as it should.
const PAUSE: Duration = Duration::from_secs(1);

/// What is known of the way to the cluster.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// How many appends stall.
    stalled: AtomicUsize,
    /// Since an append failed, or the cluster did not answer as it should.
    away: AtomicBool,
    suspicions: Mutex<Suspicions>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Suspicions {
    raised: u64,
    /// Those before this one were looked into.
    settled: u64,
    closed: bool,
}

/// An append that stalls, until it is dropped.
pub(crate) struct Stalled<'a>(&'a Health);

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.stalled.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Health {
    pub(crate) fn is_well(&self) -> bool {
        !self.away.load(Ordering::Relaxed) && self.stalled.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn stalled(&self) -> Stalled<'_> {
        self.stalled.fetch_add(1, Ordering::Relaxed);
        Stalled(self)
    }

    /// An append failed: unhealthy until something goes well.
    pub(crate) fn failed(&self) {
        self.away.store(true, Ordering::Relaxed);
        self.suspect();
    }

    /// A record was acknowledged. Called for each.
    pub(crate) fn delivered(&self) {
        if self.away.load(Ordering::Relaxed) {
            self.away.store(false, Ordering::Relaxed);
        }
    }

    /// The client says that it has no broker, which may mean no more than that connections were idle: the cluster is asked.
    pub(crate) fn suspect(&self) {
        self.lock().raised += 1;
        self.bell.notify_all();
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_all();
    }

    /// Asks with `answers` whenever something is suspected, until it is true, on a thread that ends with
    /// [`Health::close`].
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] when no thread can be had.
    pub(crate) fn watch(self: &Arc<Self>, answers: impl Fn() -> bool + Send + 'static) -> Result<JoinHandle<()>> {
        let health = self.clone();
        let thread = thread::Builder::new().name("kafka-health".to_owned()).spawn(move || health.look_into(answers));
        thread.map_err(|e| Error::with_source(ErrorKind::Retry, "cannot start the thread that watches the cluster", e))
    }

    fn look_into(&self, answers: impl Fn() -> bool) {
        loop {
            let idle = |now: &mut Suspicions| now.raised == now.settled && !now.closed;
            let now = self.bell.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            if now.closed {
                return;
            }
            let raised = now.raised;
            drop(now);
            let well = answers();
            let mut now = self.lock();
            if !well {
                self.away.store(true, Ordering::Relaxed);
                let waited = self.bell.wait_timeout_while(now, PAUSE, |now| !now.closed);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
                continue;
            }
            // What failed meanwhile is looked into next.
            now.settled = raised;
            if now.raised == raised {
                self.away.store(false, Ordering::Relaxed);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Suspicions> {
        self.suspicions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
