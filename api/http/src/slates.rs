//! Where what was served goes: a seam, because an answer must not know the log.

use millrace_events::ServedSlate;

/// Takes what was served. An answer never waits for it and never fails because of it.
pub trait SlateSink: Send + Sync + 'static {
    /// The share of slates, above 0 to 1, that are recorded when they are served to `viewer`; `None` when none is, so that no
    /// record is made.
    fn wants(&self, viewer: &str) -> Option<f64>;

    /// Takes a record, and returns at once: what it cannot keep it drops and counts.
    fn record(&self, slate: ServedSlate);
}

/// Records nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSlates;

impl SlateSink for NoSlates {
    fn wants(&self, _viewer: &str) -> Option<f64> {
        None
    }

    fn record(&self, _slate: ServedSlate) {}
}
