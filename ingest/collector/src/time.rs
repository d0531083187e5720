//! When an event happened, and what the log stamps on it.

use millrace_events::{LogTime, Micros, parse_rfc3339};
use millrace_log::Clock;

use crate::json::Raw;
use crate::refusal::{Reason, Rejection};

/// A client's clock that is wrong by less than this is taken as right: the way here takes time too. Microseconds.
pub const SKEW_IGNORED_US: Micros = 60 * 1_000_000;

/// How far ahead of the server's own clock an event of a replay may be. Beyond it the replay's clock, which never goes
/// back, would make everything that follows late. Microseconds.
pub const REPLAY_AHEAD_MAX_US: Micros = 24 * 60 * 60 * 1_000_000;

/// The times that the events of one request share.
pub(crate) struct Stamps<'c> {
    clock: &'c dyn Clock,
    pub(crate) received: Micros,
    /// On wall time a request is one moment; in a replay each event is its own.
    moment: Option<LogTime>,
}

impl<'c> Stamps<'c> {
    pub(crate) fn new(clock: &'c dyn Clock) -> Self {
        let moment = (!clock.is_replay()).then(|| clock.now());
        Self { clock, received: clock.received(), moment }
    }

    /// The log time now, for what carries no event time. `None` in a replay that has seen no event.
    pub(crate) fn now(&self) -> Option<LogTime> {
        Some(self.moment.unwrap_or_else(|| self.clock.now())).filter(|&now| now != LogTime::MIN)
    }

    /// Event time and log time of an event, from the times that its client sent. Moves a replay's clock: call it once for
    /// each event that is accepted, in order.
    ///
    /// # Errors
    /// In a replay, when the event's time would spoil the clock for those after it.
    pub(crate) fn stamp(
        &self,
        original: Option<Micros>,
        sent_at: Option<Micros>,
    ) -> Result<(Micros, LogTime), Rejection> {
        let Some(moment) = self.moment else {
            let event_time = self.replayed(original)?;
            return Ok((event_time, self.clock.stamp(event_time)));
        };
        let event_time = match (original, sent_at) {
            (None, _) => self.received,
            (Some(original), None) => original,
            (Some(original), Some(sent_at)) => corrected(self.received, original, sent_at),
        };
        Ok((event_time.min(moment.0), moment))
    }

    /// The event time in a replay.
    fn replayed(&self, original: Option<Micros>) -> Result<Micros, Rejection> {
        let Some(event_time) = original else {
            return self.now().map(|now| now.0).ok_or_else(|| {
                Rejection::new(
                    Reason::MissingTimestamp,
                    "a replay needs timestamps: no event before this one told what time it is",
                )
            });
        };
        if event_time > self.received.saturating_add(REPLAY_AHEAD_MAX_US) {
            let detail = "timestamp lies in the future: a replay takes events up to a day ahead of the server's clock";
            return Err(Rejection::new(Reason::InvalidTimestamp, detail));
        }
        Ok(event_time)
    }

    /// True when `sentAt` matters. A replay takes times as sent: the skew of a client years ago cannot be known now.
    pub(crate) fn corrects_skew(&self) -> bool {
        self.moment.is_some()
    }
}

/// As Segment corrects: how long before sending it happened, counted back from when it was received.
fn corrected(received: Micros, original: Micros, sent_at: Micros) -> Micros {
    if received.saturating_sub(sent_at).saturating_abs() < SKEW_IGNORED_US {
        return original;
    }
    received.saturating_sub(sent_at.saturating_sub(original))
}

/// The time in `field`, when there is one.
pub(crate) fn time(field: &'static str, raw: Option<Raw<'_>>) -> Result<Option<Micros>, Rejection> {
    let Some(raw) = raw else { return Ok(None) };
    let parsed = raw.string().and_then(|text| parse_rfc3339(&text).ok());
    parsed.map(Some).ok_or_else(|| {
        Rejection::new(
            Reason::InvalidTimestamp,
            format!("{field} must be RFC 3339 with a zone, such as 2026-01-31T12:00:00.000Z"),
        )
    })
}

#[cfg(test)]
mod tests;
