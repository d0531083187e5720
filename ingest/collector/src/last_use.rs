//! When a key was used last, at next to no cost for the request that uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A clock that stands still until somebody moves it: a request looks at it instead of asking the system. Clones are the
/// same clock. 0 is before all.
#[derive(Clone, Debug, Default)]
pub struct CoarseClock(Arc<AtomicU64>);

impl CoarseClock {
    /// Moves it: to be called every second or so.
    pub fn set(&self, now_s: u64) {
        self.0.store(now_s, Ordering::Relaxed);
    }

    fn now_s(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// When a key was used last, by a [`CoarseClock`]. Clones are the same memory, so that it outlives the keys of a moment.
#[derive(Clone, Debug, Default)]
pub struct LastUse {
    at_s: Arc<AtomicU64>,
    clock: CoarseClock,
}

impl LastUse {
    /// Never yet, by this clock.
    pub fn by(clock: &CoarseClock) -> Self {
        Self { at_s: Arc::default(), clock: clock.clone() }
    }

    /// When, in seconds; `None` when it never was.
    pub fn at_s(&self) -> Option<u64> {
        Some(self.at_s.load(Ordering::Relaxed)).filter(|&at_s| at_s > 0)
    }

    /// Now. All requests of a second write the same, and only the first of them writes: cores that read the same memory do
    /// not wait for each other.
    pub fn touch(&self) {
        let now_s = self.clock.now_s();
        if self.at_s.load(Ordering::Relaxed) != now_s {
            self.at_s.store(now_s, Ordering::Relaxed);
        }
    }
}
