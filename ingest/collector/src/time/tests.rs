use millrace_log::ReplayClock;

use super::*;

const S: Micros = 1_000_000;
const NOW: Micros = 1_000_000 * S;

struct Fixed;

impl Clock for Fixed {
    fn stamp(&self, _event_time: Micros) -> LogTime {
        self.now()
    }

    fn now(&self) -> LogTime {
        LogTime(NOW)
    }
}

#[track_caller]
fn check(original: Option<Micros>, sent_at: Option<Micros>, event_time: Micros) {
    assert_eq!(Stamps::new(&Fixed).stamp(original, sent_at).unwrap(), (event_time, LogTime(NOW)));
}

#[test]
fn on_wall_time_skew_is_corrected_from_a_minute_on() {
    check(None, None, NOW);
    check(None, Some(NOW - 500 * S), NOW);
    check(Some(NOW - 5 * S), None, NOW - 5 * S);
    check(Some(NOW - 5 * S), Some(NOW - 59 * S), NOW - 5 * S);
    check(Some(NOW - 65 * S), Some(NOW - 60 * S), NOW - 5 * S);
    // A clock that is an hour ahead.
    check(Some(NOW + 3590 * S), Some(NOW + 3600 * S), NOW - 10 * S);
    // A queue sent late by a right clock is not skew.
    check(Some(NOW - 7200 * S), Some(NOW - S), NOW - 7200 * S);
}

#[test]
fn event_time_is_never_later_than_log_time() {
    check(Some(NOW + 30 * S), None, NOW);
    check(Some(NOW + 30 * S), Some(NOW + 30 * S), NOW);
    check(Some(NOW + 130 * S), Some(NOW + 100 * S), NOW);
    check(Some(Micros::MAX), Some(Micros::MIN), NOW);
    check(Some(Micros::MIN), Some(Micros::MAX), NOW - Micros::MAX);
}

#[test]
fn a_replay_takes_times_as_sent() {
    let clock = ReplayClock::new(LogTime::MIN);
    let stamps = Stamps::new(&clock);
    assert_eq!(stamps.now(), None);
    assert_eq!(stamps.stamp(Some(100 * S), Some(5 * S)).unwrap(), (100 * S, LogTime(100 * S)));
    assert_eq!(stamps.stamp(Some(50 * S), None).unwrap(), (50 * S, LogTime(100 * S)));
    assert_eq!(stamps.stamp(None, None).unwrap(), (100 * S, LogTime(100 * S)));
    assert_eq!(stamps.stamp(Some(101 * S), None).unwrap(), (101 * S, LogTime(101 * S)));
    assert_eq!(stamps.now(), Some(LogTime(101 * S)));
}

#[test]
fn no_event_spoils_the_clock_of_a_replay() {
    let clock = ReplayClock::new(LogTime::MIN);
    let stamps = Stamps::new(&clock);
    let refused = |original| stamps.stamp(original, None).unwrap_err().reason;
    let day_ahead = stamps.received + REPLAY_AHEAD_MAX_US;
    assert_eq!(refused(None), Reason::MissingTimestamp);
    assert_eq!(refused(Some(day_ahead + 1)), Reason::InvalidTimestamp);
    assert_eq!(refused(Some(Micros::MAX)), Reason::InvalidTimestamp);
    assert_eq!(stamps.now(), None, "nothing that was refused moves the clock");
    assert_eq!(stamps.stamp(Some(5 * S), None).unwrap(), (5 * S, LogTime(5 * S)));
    assert_eq!(stamps.stamp(None, None).unwrap(), (5 * S, LogTime(5 * S)));
    assert_eq!(stamps.stamp(Some(day_ahead), None).unwrap(), (day_ahead, LogTime(day_ahead)));
}
