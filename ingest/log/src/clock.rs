//! The clock that stamps log time is a seam: the wall in production, the largest event time seen so far in a replay.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use millrace_events::{LogTime, Micros};

/// Reads the time that the log stamps on what is appended.
pub trait Clock: Send + Sync + 'static {
    /// The log time of an event that says it happened at `event_time`.
    fn stamp(&self, event_time: Micros) -> LogTime;

    /// The log time now, for what carries no event time (ticks).
    fn now(&self) -> LogTime;

    /// When a request was received: the server's own clock, for skew correction. Equal to [`Clock::now`] on wall time.
    fn received(&self) -> Micros {
        self.now().0
    }

    /// True when time is read off the events, so that an event may not be clamped to "now".
    fn is_replay(&self) -> bool {
        false
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn stamp(&self, _event_time: Micros) -> LogTime {
        self.now()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
    fn now(&self) -> LogTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        LogTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// Time as told by the events: the largest event time seen so far. For demos, tests and back-tests on old logs.
#[derive(Debug)]
pub struct ReplayClock {
    seen: AtomicI64,
}

impl ReplayClock {
    /// Starts at `from`: the newest log time already in the log, so that a restart does not go back.
    pub fn new(from: LogTime) -> Self {
        Self { seen: AtomicI64::new(from.0) }
    }
}

impl Clock for ReplayClock {
    fn stamp(&self, event_time: Micros) -> LogTime {
        let before = self.seen.fetch_max(event_time, Ordering::Relaxed);
        LogTime(before.max(event_time))
    }

    fn now(&self) -> LogTime {
        LogTime(self.seen.load(Ordering::Relaxed))
    }

    fn received(&self) -> Micros {
        WallClock.now().0
    }

    fn is_replay(&self) -> bool {
        true
    }
}
