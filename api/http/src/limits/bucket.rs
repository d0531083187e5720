//! A token bucket that may be overdrawn, as one number: the time at which it will be full.

use std::fmt;
use std::str::FromStr;

/// So many seconds of its rate a bucket holds unless it is told otherwise.
pub const BURST_SECONDS: u32 = 10;

/// The fastest rate: an event a microsecond. Beyond it no limit is needed.
const PER_SECOND_MAX: u32 = 1_000_000;

/// The largest bucket.
const BURST_MAX: u32 = 1_000_000_000;

/// Nanoseconds of a second.
const NS_PER_SECOND: u64 = 1_000_000_000;

/// So many a second on average, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What flows in every second.
    pub per_second: u32,
    /// What the bucket holds.
    pub burst: u32,
}

/// A text that is no [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateError;

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a rate is a whole number a second, 1 to {PER_SECOND_MAX}, or RATE/BURST where not {BURST_SECONDS} times as many \
             may come at once: 500, or 500/2000"
        )
    }
}

impl std::error::Error for RateError {}

impl FromStr for Rate {
    type Err = RateError;

    /// `RATE`, or `RATE/BURST`.
    fn from_str(text: &str) -> Result<Self, RateError> {
        let (rate, burst) = text.split_once('/').map_or((text, None), |(rate, burst)| (rate, Some(burst)));
        let read = |text: &str| text.trim().parse::<u32>().map_err(|_| RateError);
        let per_second = read(rate)?;
        let burst = burst.map_or(Ok(per_second.saturating_mul(BURST_SECONDS)), read)?;
        let is_rate = (1..=PER_SECOND_MAX).contains(&per_second) && (1..=BURST_MAX).contains(&burst);
        if is_rate { Ok(Self { per_second, burst }) } else { Err(RateError) }
    }
}

/// A rate under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meter {
    name: &'static str,
    rate: Rate,
    /// In how many nanoseconds one flows in.
    one_ns: u64,
    /// In how many an empty bucket fills.
    all_ns: u64,
}

impl Meter {
    pub(crate) fn new(name: &'static str, rate: Rate) -> Self {
        let one_ns = NS_PER_SECOND / u64::from(rate.per_second.clamp(1, PER_SECOND_MAX));
        Self { name, rate, one_ns, all_ns: one_ns * u64::from(rate.burst.clamp(1, BURST_MAX)) }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// In how many seconds an empty bucket fills.
    pub(crate) fn window_s(&self) -> u64 {
        self.all_ns.div_ceil(NS_PER_SECOND)
    }

    /// What the bucket says to one that asks now, without taking anything.
    pub(crate) fn look(&self, bucket: Bucket, now_ns: u64) -> Verdict {
        let missing_ns = bucket.full_ns.saturating_sub(now_ns);
        Verdict { meter: *self, missing_ns, is_let_in: missing_ns.saturating_add(self.one_ns) <= self.all_ns }
    }

    /// Takes `cost` out of the bucket, into debt if it must, when anything is in it.
    pub(crate) fn take(&self, bucket: &mut Bucket, cost: u32, now_ns: u64) -> Verdict {
        let before = self.look(*bucket, now_ns);
        if before.is_let_in {
            let cost_ns = self.one_ns.saturating_mul(u64::from(cost));
            bucket.full_ns = bucket.full_ns.max(now_ns).saturating_add(cost_ns);
            return Verdict { is_let_in: true, ..self.look(*bucket, now_ns) };
        }
        before
    }
}

/// A bucket, which is full at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// When it will be full, in nanoseconds.
    pub(crate) full_ns: u64,
}

/// Whether one request is let in, and what is left in the bucket then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    meter: Meter,
    /// How long until the bucket is full.
    missing_ns: u64,
    is_let_in: bool,
}

impl Verdict {
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(crate) fn is_let_in(&self) -> bool {
        self.is_let_in
    }

    /// How many the bucket still holds; none when it is in debt.
    pub(crate) fn remaining(&self) -> u64 {
        self.meter.all_ns.saturating_sub(self.missing_ns) / self.meter.one_ns
    }

    /// In how many seconds it is full again.
    pub(crate) fn full_in_s(&self) -> u64 {
        self.missing_ns.div_ceil(NS_PER_SECOND)
    }

    /// In how many seconds one is let in again. Never 0, which clients take for no wait at all.
    pub(crate) fn retry_after_s(&self) -> u32 {
        let over_ns = (self.missing_ns + self.meter.one_ns).saturating_sub(self.meter.all_ns);
        u32::try_from(over_ns.div_ceil(NS_PER_SECOND)).unwrap_or(u32::MAX).max(1)
    }
}
