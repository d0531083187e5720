//! How calls reach the server: some late, some twice, some from devices whose clock is wrong.
//!
//! None of it changes what happened. The calls of a history are the same with and without, so the counters that come out must be
//! the same too: that is what these disturbances are for. Each has randomness of its own.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap, VecDeque};

use millrace_events::Micros;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::Options;
use super::taste::hash;
use crate::call::Call;

/// The most calls that devices hold back at a time; beyond it the device that would be back first is back.
const HELD_MAX: usize = 1 << 16;

/// The shortest time that a device is away. Longer than the five minutes after which an event counts as late.
const AWAY_MIN_NS: u64 = 6 * 60 * 1_000_000_000;

/// How often the shortest time is doubled at most: from 6 minutes to between 6.4 and 12.8 hours.
const AWAY_DOUBLINGS_MAX: u32 = 6;

/// The most calls that are sent a second time in one go.
const RETRIED_MAX: usize = 64;

/// How many calls later, at most, a retry comes.
const RETRY_DISTANCE: usize = 256;

/// The least that a wrong clock is wrong, in microseconds.
const SKEW_MIN_US: i64 = 2 * 60 * 1_000_000;

/// How often the least is doubled at most: up to 4.3 hours, and as much again in between.
const SKEW_DOUBLINGS_MAX: u64 = 6;

/// A call as it is sent, with who sends it.
pub(super) struct Made {
    pub(super) user: u32,
    pub(super) call: Call,
    /// Others can only react to it when the server has it, so it is never held back.
    pub(super) is_awaited: bool,
}

/// What was late, by how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lateness {
    /// Calls that were held back for any time.
    pub(super) held: u64,
    /// Of these, late by more than one minute, five minutes, one hour.
    pub(super) over: [u64; 3],
    pub(super) delay_us_max: u64,
    pub(super) delay_us_sum: u128,
}

/// The thresholds of [`Lateness::over`], in microseconds.
pub(super) const OVER_US: [u64; 3] = [60_000_000, 300_000_000, 3_600_000_000];

/// Devices that are away for a while and send what they noted when they are back.
pub(super) struct Late {
    share: f64,
    rng: SmallRng,
    offered: u64,
    /// Until when a device is away.
    away: HashMap<u32, u64>,
    held: BinaryHeap<Reverse<Held>>,
    pub(super) lateness: Lateness,
}

struct Held {
    until_ns: u64,
    number: u64,
    made: Made,
}

impl Held {
    /// By when it is sent, then by when it was made: a device sends in the order in which it noted.
    fn rank(&self) -> (u64, u64) {
        (self.until_ns, self.number)
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl Late {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            share: options.late,
            rng: SmallRng::seed_from_u64(options.seed ^ 0x5eed_1a7e),
            offered: 0,
            away: HashMap::new(),
            held: BinaryHeap::new(),
            lateness: Lateness::default(),
        }
    }

    /// Nothing is ever held.
    pub(super) fn is_idle(&self) -> bool {
        self.share <= 0.0
    }

    /// The call when it goes out now, else it is kept. A device goes away whenever fewer calls were held than asked for, so the
    /// share is met however long the history is.
    pub(super) fn pass(&mut self, made: Made, now_ns: u64) -> Option<Made> {
        self.offered += 1;
        if made.is_awaited {
            return Some(made);
        }
        let until_ns = match self.away.get(&made.user) {
            Some(&until) if until > now_ns => until,
            _ if self.lateness.held as f64 >= self.share * self.offered as f64 => return Some(made),
            _ => self.leave(made.user, now_ns),
        };
        self.held.push(Reverse(Held { until_ns, number: self.offered, made }));
        self.lateness.held += 1;
        None
    }

    fn leave(&mut self, user: u32, now_ns: u64) -> u64 {
        if self.away.len() >= HELD_MAX {
            self.away.retain(|_, until| *until > now_ns);
        }
        let least = AWAY_MIN_NS << self.rng.random_range(0..=AWAY_DOUBLINGS_MAX);
        let until_ns = now_ns.saturating_add(least).saturating_add(self.rng.random_range(0..least));
        self.away.insert(user, until_ns);
        until_ns
    }

    /// A call whose device is back.
    pub(super) fn due(&mut self, now_ns: u64, now_us: Micros) -> Option<Made> {
        let first = self.held.peek()?;
        if first.0.until_ns <= now_ns || self.held.len() > HELD_MAX { self.rest(now_us) } else { None }
    }

    /// A call that is still held, at the end of the history.
    pub(super) fn rest(&mut self, now_us: Micros) -> Option<Made> {
        let Reverse(Held { mut made, .. }) = self.held.pop()?;
        made.call.due_us = now_us;
        let delay_us = u64::try_from(now_us.saturating_sub(made.call.time_us)).unwrap_or(0);
        self.lateness.delay_us_sum += u128::from(delay_us);
        self.lateness.delay_us_max = self.lateness.delay_us_max.max(delay_us);
        for (count, over) in self.lateness.over.iter_mut().zip(OVER_US) {
            *count += u64::from(delay_us > over);
        }
        Some(made)
    }
}

/// Batches that come again, byte for byte, as from a client that did not hear the answer.
pub(super) struct Duplicates {
    share: f64,
    rng: SmallRng,
    sent: u64,
    /// Calls of the batch that is being noted; empty when it is not repeated.
    batch: Vec<Call>,
    is_repeated: bool,
    /// How many calls it has yet to get.
    batch_left: usize,
    /// When each is due, counted in calls sent.
    waiting: VecDeque<(u64, Call)>,
    /// Calls that went out a second time.
    pub(super) repeated: u64,
}

impl Duplicates {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            share: options.duplicates,
            rng: SmallRng::seed_from_u64(options.seed ^ 0x5eed_d0b1),
            sent: 0,
            batch: Vec::new(),
            is_repeated: false,
            batch_left: 0,
            waiting: VecDeque::new(),
            repeated: 0,
        }
    }

    /// Notes a call that goes out, should its batch come again.
    pub(super) fn note(&mut self, call: &Call) {
        if self.share <= 0.0 {
            return;
        }
        self.sent += 1;
        if self.batch_left == 0 {
            self.batch_left = self.rng.random_range(1..=RETRIED_MAX);
            self.is_repeated = self.rng.random_bool(self.share);
        }
        if self.is_repeated {
            self.batch.push(call.clone());
        }
        self.batch_left -= 1;
        if self.batch_left == 0 {
            self.close_batch();
        }
    }

    fn close_batch(&mut self) {
        let due = self.sent + self.rng.random_range(0..RETRY_DISTANCE) as u64;
        self.waiting.extend(self.batch.drain(..).map(|call| (due, call)));
    }

    /// A call that comes again now.
    pub(super) fn due(&mut self) -> Option<Call> {
        if self.waiting.front()?.0 > self.sent {
            return None;
        }
        self.repeated += 1;
        self.waiting.pop_front().map(|(_, call)| call)
    }

    /// A call that still has to come again, at the end of the history.
    pub(super) fn rest(&mut self) -> Option<Call> {
        self.close_batch();
        let (_, call) = self.waiting.pop_front()?;
        self.repeated += 1;
        Some(call)
    }
}

/// A device whose clock is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Skew {
    /// What the device shows, less what it is.
    pub(super) offset_us: Micros,
    /// It says when it sent, by its own clock, so that the server can correct.
    pub(super) sends_sent_at: bool,
}

impl Skew {
    /// The wrong clock of `user`, if it is one of the share that has one.
    pub(super) fn of(options: &Options, user: u32) -> Option<Self> {
        if options.skewed <= 0.0 {
            return None;
        }
        let drawn = hash(options.seed, b's', u64::from(user));
        // 53 bits are what a float holds exactly.
        if (drawn >> 11) as f64 / (1_u64 << 53) as f64 >= options.skewed {
            return None;
        }
        let drawn = hash(options.seed, b'o', u64::from(user));
        let least = SKEW_MIN_US << ((drawn >> 8) % (SKEW_DOUBLINGS_MAX + 1));
        let offset_us = least + i64::try_from((drawn >> 16) % least as u64).unwrap_or(0);
        Some(Self { offset_us: if drawn & 1 == 0 { offset_us } else { -offset_us }, sends_sent_at: drawn & 2 == 0 })
    }

    /// The call as the device sends it.
    pub(super) fn apply(self, call: &mut Call) {
        call.time_us = call.time_us.saturating_add(self.offset_us);
        if self.sends_sent_at {
            call.sent_at_us = Some(call.due_us.saturating_add(self.offset_us));
        }
    }
}
