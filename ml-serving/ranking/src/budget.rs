//! The time that an answer may take. What is not there when its share is over is left out, never waited for.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, Either, select};

use crate::RankerOptions;

/// Ends after the time it is given. A seam, because this crate knows neither a clock nor a runtime.
pub type Pause = Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// How much of the budget may have passed when a piece of work is given up, percent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Share {
    /// For what makes a feed better: the other half is left for what comes after it.
    Extra = 50,
    /// For what a feed is made of.
    Whole = 100,
}

/// The budget of one answer.
pub(crate) struct Budget<'a> {
    options: &'a RankerOptions,
    started_us: u64,
}

impl<'a> Budget<'a> {
    /// Starts counting.
    pub(crate) fn start(options: &'a RankerOptions) -> Self {
        Self { options, started_us: (options.stopwatch_us)() }
    }

    /// Microseconds since the start.
    pub(crate) fn elapsed_us(&self) -> u64 {
        (self.options.stopwatch_us)().saturating_sub(self.started_us)
    }

    /// What `work` leads to, unless `share` is over before that. Work that is done at once always counts, also when the
    /// budget is spent.
    pub(crate) async fn within<T>(&self, share: Share, work: impl Future<Output = T>) -> Option<T> {
        let until_us = self.options.budget_us / 100 * share as u64;
        let pause = async {
            let left_us = until_us.saturating_sub(self.elapsed_us());
            (self.options.pause)(Duration::from_micros(left_us)).await;
        };
        // The work is polled first, so a pause that is never needed is never made.
        match select(pin!(work), pin!(pause)).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }
}
