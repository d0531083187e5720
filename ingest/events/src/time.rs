//! Time as the log knows it: microseconds since 1970 in UTC.

use std::fmt;

use jiff::Timestamp;

/// Microseconds since the Unix epoch, UTC. Used for event time, which is the client's clock.
pub type Micros = i64;

/// A reading of the log's clock, in microseconds since the Unix epoch: stamped at append, monotone per partition.
///
/// Windows, expiry and dedup horizons compare these and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTime(pub Micros);

impl LogTime {
    /// Before every record.
    pub const MIN: LogTime = LogTime(i64::MIN);
    /// After every record.
    pub const MAX: LogTime = LogTime(i64::MAX);
}

impl fmt::Display for LogTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_rfc3339(self.0))
    }
}

/// A timestamp that is not RFC 3339.
#[derive(Debug, thiserror::Error)]
#[error("not an RFC 3339 timestamp with a time zone, such as 2026-01-31T12:00:00.000Z")]
pub struct TimeError;

/// Reads an RFC 3339 timestamp as microseconds; finer digits are cut off.
///
/// # Errors
/// When `text` is not RFC 3339 or names no zone.
pub fn parse_rfc3339(text: &str) -> Result<Micros, TimeError> {
    text.parse::<Timestamp>().map(|t| t.as_microsecond()).map_err(|_| TimeError)
}

/// Writes microseconds as RFC 3339 in UTC, for example `2026-01-31T12:00:00.123456Z`.
///
/// A value outside the years 0 to 9999 is written as the nearest of the two ends.
pub fn format_rfc3339(micros: Micros) -> String {
    let clamped =
        Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 { Timestamp::MIN } else { Timestamp::MAX });
    clamped.to_string()
}
