//! Which log time the records before an offset reached.
//!
//! Several processes append to one partition, so no writer knows the log time of the record before its own: records stand
//! in Kafka as they were stamped, and the reader raises each to the highest before it. That is a function of the partition
//! alone, so every reader finds the same log time wherever it begins, if it knows the highest before its first record.
//! Reading everything for it would take for ever; the broker has an index of timestamps that answers almost all of it: a
//! record below `before` with a timestamp of `t` or later exists when the first such record is below `before`.

use millrace_log::{Offset, Result};

use crate::wire::timestamp_of;

/// How many records are read back before the broker is asked. Most of the time the highest is among them.
pub(super) const WINDOW: Offset = 64;
/// The largest timestamp that a log time has.
const TIMESTAMP_MAX: i64 = i64::MAX / 1000;

/// The highest log time before some offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct High {
    /// Log time, microseconds.
    pub(super) time_us: i64,
    /// The newest record that was stamped with it, which therefore none before it exceeds.
    pub(super) at: Offset,
}

impl High {
    /// Takes one more record in.
    pub(super) fn raise(high: Option<High>, at: Offset, time_us: i64) -> High {
        match high {
            Some(high) if high.time_us > time_us => high,
            _ => High { time_us, at },
        }
    }
}

/// What the search asks of a partition.
pub(super) trait History {
    /// The stamps of the records from `from`, at least one, none from `until` on. `from` is below `until`.
    async fn stamps(&mut self, from: Offset, until: Offset) -> Result<Vec<i64>>;

    /// The first record with this timestamp or a later one, in milliseconds.
    async fn first_since(&mut self, timestamp: i64) -> Result<Option<Offset>>;
}

/// The highest of the records from `start` to `before`; `None` when there are none.
pub(super) async fn high_before(history: &mut impl History, start: Offset, before: Offset) -> Result<Option<High>> {
    let window = before.saturating_sub(WINDOW).max(start);
    let near = scan(history, window, before, None).await?;
    let Some(high) = near.filter(|_| window > start) else { return Ok(near) };
    let below = |found: Option<Offset>| found.filter(|offset| *offset < before);
    let timestamp = timestamp_of(high.time_us);
    let Some(first) = below(history.first_since(timestamp).await?) else {
        // There is one, for it was just read: the index is not to be trusted now (segments below the start are going).
        tracing::warn!(start, before, "the broker's index of timestamps is off: reading all of the partition");
        return scan(history, start, before, None).await;
    };
    let (timestamp, first) = match below(history.first_since(timestamp + 1).await?) {
        None => (timestamp, first),
        Some(later) => latest(history, timestamp + 1, later, before).await?,
    };
    // The broker does not tell microseconds apart: all that share the millisecond are looked at.
    if timestamp == timestamp_of(high.time_us) && first >= window {
        return Ok(near);
    }
    scan(history, first, before, None).await
}

/// The latest timestamp that a record below `before` has, and the first record since then. One of `timestamp` is at `first`.
async fn latest(
    history: &mut impl History,
    mut timestamp: i64,
    mut first: Offset,
    before: Offset,
) -> Result<(i64, Offset)> {
    let mut beyond = None;
    let mut step = 1_i64;
    loop {
        let probe = match beyond {
            None => timestamp.saturating_add(step).min(TIMESTAMP_MAX + 1),
            Some(beyond) => timestamp + (beyond - timestamp) / 2,
        };
        if probe == timestamp {
            return Ok((timestamp, first));
        }
        match history.first_since(probe).await? {
            Some(offset) if offset < before => (timestamp, first) = (probe, offset),
            _ => beyond = Some(probe),
        }
        step = step.saturating_mul(2);
    }
}

/// Takes the records from `from` to `until` in.
pub(super) async fn scan(
    history: &mut impl History,
    mut from: Offset,
    until: Offset,
    mut high: Option<High>,
) -> Result<Option<High>> {
    while from < until {
        for stamp in history.stamps(from, until).await? {
            high = Some(High::raise(high, from, stamp));
            from += 1;
        }
    }
    Ok(high)
}

#[cfg(test)]
mod tests;
