//! Bursts: a tag or a post that rises at a known time, for a known time, by a known factor.
//!
//! The history is cut into stretches of equal length. The first is calm, so that there is a baseline; each further one has one
//! burst at a place that the seed decides, odd ones of a tag, even ones of a post. The schedule does not depend on how long the
//! history is, so a longer run starts with the shorter one.

use super::Options;
use super::taste::hash;

/// The most that one tag or post gets of all draws while it bursts, in millionths: the rest of the world goes on.
pub(super) const SHARE_MAX: u64 = 500_000;

/// What a thing that is hardly ever used is taken to get of all draws, in millionths, so that a factor has something to multiply.
pub(super) const SHARE_FLOOR: u64 = 1_000;

/// One burst; times in nanoseconds of event time since the start.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Burst {
    pub(super) target: Target,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    /// Uses of the tag, or reactions to the post, per hour before it rose.
    pub(super) baseline_per_hour: f64,
    /// Uses of the tag, or reactions to the post, from start to end.
    pub(super) events: u64,
    /// Of all draws of a tag or a post, in millionths, how many are turned to the target on top of what it gets anyway.
    pub(super) share: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An index of the tags.
    Tag(usize),
    /// The number of a post, and its author.
    Post(u64, u32),
}

/// The bursts so far, and the one that goes on.
#[derive(Default)]
pub(super) struct Bursts {
    pub(super) past: Vec<Burst>,
    /// The last of `past` has not ended.
    is_on: bool,
    /// When the next starts; never again when there is none.
    next_ns: Option<u64>,
}

impl Bursts {
    pub(super) fn new(options: &Options) -> Self {
        Self { next_ns: start(options, 1), ..Self::default() }
    }

    /// The one that goes on.
    pub(super) fn now(&self) -> Option<&Burst> {
        if self.is_on { self.past.last() } else { None }
    }

    pub(super) fn now_mut(&mut self) -> Option<&mut Burst> {
        if self.is_on { self.past.last_mut() } else { None }
    }

    /// Ends what is over; returns the number, from 1, of a burst that is due, when it starts and when it ends.
    pub(super) fn turn(&mut self, now_ns: u64, options: &Options) -> Option<(usize, u64, u64)> {
        if self.now().is_some_and(|burst| burst.end_ns <= now_ns) {
            self.is_on = false;
        }
        let start_ns = self.next_ns.filter(|&start| start <= now_ns)?;
        Some((self.past.len() + 1, start_ns, start_ns.saturating_add(length_ns(options))))
    }

    /// The one that [`Bursts::turn`] called for.
    pub(super) fn begin(&mut self, burst: Burst, options: &Options) {
        self.past.push(burst);
        self.is_on = true;
        self.next_ns = start(options, self.past.len() + 1);
    }
}

/// What to add, in millionths of all draws, so that something that gets `natural` millionths of them gets `factor` times that.
/// Turned draws come off the natural ones of the target too, which is why it is divided by the rest.
pub(super) fn added_share(natural: u64, factor: f64) -> u64 {
    let natural = natural.clamp(SHARE_FLOOR, SHARE_MAX) as f64 / 1e6;
    let added = (factor - 1.0) * natural / (1.0 - natural) * 1e6;
    if added > 0.0 { (added as u64).min(SHARE_MAX) } else { 0 }
}

fn length_ns(options: &Options) -> u64 {
    u64::from(options.burst_seconds.min(options.burst_every_seconds)) * 1_000_000_000
}

/// When burst `number`, from 1, starts.
fn start(options: &Options, number: usize) -> Option<u64> {
    if number > options.bursts as usize {
        return None;
    }
    let stretch_ns = u64::from(options.burst_every_seconds) * 1_000_000_000;
    let room_ns = stretch_ns - length_ns(options);
    let at = (number as u64).checked_mul(stretch_ns)?;
    at.checked_add(hash(options.seed, b'b', number as u64) % room_ns.max(1))
}
