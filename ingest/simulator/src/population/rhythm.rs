//! Day and night: how active people are by the hour of their own day, and so how busy the whole is.
//!
//! A table and linear interpolation instead of a cosine: integers give every machine the same times.

use millrace_events::Micros;

/// How much more or less active a person is by the hour of their day, in thousandths of the mean. The mean of the table is
/// 1000. Low before dawn, a little rise at noon, high in the evening, as social networks report it.
const HOURS: [u32; 24] = [
    700, 440, 280, 200, 180, 240, 420, 720, 950, 1050, 1100, 1150, 1250, 1180, 1120, 1130, 1200, 1330, 1500, 1680,
    1800, 1720, 1500, 1160,
];

/// The most that [`Rhythm::activity`] can be.
pub(super) const ACTIVITY_MAX: u32 = 1800;

/// Where people live: minutes east of UTC, and of a hundred people how many.
pub(super) const ZONES: [(i32, u32); 6] = [(-480, 15), (-300, 20), (0, 15), (60, 25), (330, 10), (540, 15)];

const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;

/// How far the whole is from the mean is worked out once in so many nanoseconds of event time.
const REFRESH_NS: u64 = 60 * 1_000_000_000;

pub(super) struct Rhythm {
    /// How much of the difference between day and night there is, in thousandths; 0 is none.
    strength: i64,
    start_us: Micros,
    /// Until when, in nanoseconds from the start, `whole` holds.
    fresh_until_ns: u64,
    whole: u32,
}

impl Rhythm {
    /// `strength` from 0, every hour the same, to 1, the whole curve.
    pub(super) fn new(strength: f64, start_us: Micros) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "clamped to 0..=1000")]
        let strength = (strength.clamp(0.0, 1.0) * 1000.0) as i64;
        Self { strength, start_us, fresh_until_ns: 0, whole: 1000 }
    }

    pub(super) fn is_flat(&self) -> bool {
        self.strength == 0
    }

    /// The zone of a person, from the hash of who they are: an index of [`ZONES`].
    pub(super) fn zone(hash: u64) -> u8 {
        let mut left = (hash >> 32) % 100;
        for (index, (_, share)) in (0..).zip(ZONES) {
            match left.checked_sub(u64::from(share)) {
                None => return index,
                Some(rest) => left = rest,
            }
        }
        0
    }

    /// How active people of a zone are, in thousandths of the mean.
    pub(super) fn activity(&self, zone: u8, now_ns: u64) -> u32 {
        let utc_us = self.start_us.saturating_add(i64::try_from(now_ns / 1000).unwrap_or(i64::MAX));
        let offset_us = i64::from(ZONES[usize::from(zone)].0) * 60_000_000;
        let of_day_us = utc_us.saturating_add(offset_us).rem_euclid(DAY_US);
        let hour = (of_day_us / HOUR_US) as usize;
        let (this, next) = (i64::from(HOURS[hour]), i64::from(HOURS[(hour + 1) % 24]));
        let curve = this + (next - this) * (of_day_us % HOUR_US) / HOUR_US;
        u32::try_from(1000 + (curve - 1000) * self.strength / 1000).unwrap_or(0)
    }

    /// How busy everybody together is, in thousandths of the mean.
    pub(super) fn whole(&mut self, now_ns: u64) -> u32 {
        if !self.is_flat() && now_ns >= self.fresh_until_ns {
            let zones = (0..).zip(ZONES);
            self.whole = zones.map(|(zone, (_, share))| self.activity(zone, now_ns) * share).sum::<u32>() / 100;
            self.fresh_until_ns = now_ns.saturating_add(REFRESH_NS);
        }
        self.whole.max(1)
    }
}
