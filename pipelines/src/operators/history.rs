//! How often something happened, by the second: exact counts after any second, from a value that stays small.
//!
//! A second `k` holds what happened within `(k − 1, k]`, so that a window `(t − w, t]` of whole seconds is a
//! difference of two counts. Beside the seconds a history has a total for each hour. Its newest seconds stand in the
//! value itself; those of older hours are handed out to be kept under keys of their own once they are many, so that
//! something busy does not write its whole day again with every commit. Most things are not busy and never need a
//! second key.

use prost::encoding::{decode_varint, encode_varint};

use crate::state::StateValue;

/// Seconds of an hour.
pub const HOUR_S: i64 = 3600;

/// More seconds than this are not kept in the value, but for those of its newest hour.
const INLINE_MAX: usize = 96;

/// The hour that a second belongs to.
pub const fn hour_of(second: i64) -> i64 {
    second.div_euclid(HOUR_S)
}

/// Counts of one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    hours: Vec<Hour>,
    seconds: Seconds,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hour {
    hour: i64,
    total: u64,
    /// Some of its seconds were handed out.
    is_spilled: bool,
}

/// Counts by second, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seconds {
    counts: Vec<(i64, u64)>,
}

/// What a history knows about a second `t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// How many happened after it.
    pub after: u64,
    /// No later than the first second after it in which something happened; `None` when nothing did.
    pub next: Option<i64>,
    /// Some seconds of its hour stand under a key of their own: add them with [`Seconds::add_to`].
    pub is_spilled: bool,
}

impl History {
    /// Counts one event in `second`.
    pub fn add(&mut self, second: i64) {
        let hour = hour_of(second);
        match place(&self.hours, |h| h.hour, hour) {
            Ok(at) => self.hours[at].total += 1,
            Err(at) => self.hours.insert(at, Hour { hour, total: 1, is_spilled: false }),
        }
        self.seconds.add(second, 1);
    }

    /// Keeps a value that has become long short: drops hours before `hours_from` and seconds before `seconds_from`,
    /// which nobody must ask for any more. When that is not enough, the seconds of its oldest hour come out, to be
    /// kept under a key of that hour, together with what was kept there before.
    pub fn shorten(&mut self, hours_from: i64, seconds_from: i64) -> Option<(i64, Seconds)> {
        let counts = &mut self.seconds.counts;
        if counts.len() <= INLINE_MAX {
            return None;
        }
        self.hours.retain(|h| h.hour >= hours_from);
        counts.retain(|(second, _)| *second >= seconds_from);
        let (oldest, newest) = (hour_of(counts.first()?.0), hour_of(counts.last()?.0));
        if counts.len() <= INLINE_MAX || oldest == newest {
            return None;
        }
        let end = counts.partition_point(|(second, _)| hour_of(*second) == oldest);
        let spilled = counts.drain(..end).collect();
        if let Ok(at) = place(&self.hours, |h| h.hour, oldest) {
            self.hours[at].is_spilled = true;
        }
        Some((oldest, Seconds { counts: spilled }))
    }

    /// How many happened from `hour` on, and the first such hour.
    pub fn since(&self, hour: i64) -> (u64, Option<i64>) {
        let from = self.hours.partition_point(|h| h.hour < hour);
        (self.hours[from..].iter().map(|h| h.total).sum(), self.hours.get(from).map(|h| h.hour))
    }

    /// What is known about the second `t`, but for what was handed out.
    pub fn point(&self, t: i64) -> Point {
        let hour = hour_of(t);
        let mut point = Point::default();
        for later in self.hours.iter().rev().take_while(|h| h.hour >= hour) {
            if later.hour == hour {
                point.is_spilled = later.is_spilled;
            } else {
                point.after += later.total;
                point.next = Some(later.hour * HOUR_S);
            }
        }
        self.seconds.add_to(&mut point, t);
        point
    }
}

impl Seconds {
    fn add(&mut self, second: i64, count: u64) {
        match place(&self.counts, |(s, _)| *s, second) {
            Ok(at) => self.counts[at].1 += count,
            Err(at) => self.counts.insert(at, (second, count)),
        }
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Seconds) {
        other.counts.iter().for_each(|(second, count)| self.add(*second, *count));
    }

    /// Adds what happened after `t` and still within its hour.
    pub fn add_to(&self, point: &mut Point, t: i64) {
        let end = (hour_of(t) + 1) * HOUR_S;
        let from = self.counts.partition_point(|(second, _)| *second <= t);
        let mut first = None;
        for (second, count) in self.counts[from..].iter().take_while(|(second, _)| *second < end) {
            point.after += count;
            first = first.or(Some(*second));
        }
        point.next = [point.next, first].into_iter().flatten().min();
    }
}

/// Where `key` stands or belongs; nearly always at the end.
fn place<T>(sorted: &[T], key_of: impl Fn(&T) -> i64, key: i64) -> Result<usize, usize> {
    match sorted.last() {
        Some(last) if key_of(last) == key => Ok(sorted.len() - 1),
        Some(last) if key_of(last) > key => sorted.binary_search_by_key(&key, key_of),
        _ => Err(sorted.len()),
    }
}

impl StateValue for Seconds {
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let seconds = take_seconds(&mut bytes)?;
        bytes.is_empty().then_some(seconds)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_seconds(self, out);
    }

    fn weight(&self) -> usize {
        self.counts.capacity() * size_of::<(i64, u64)>()
    }
}

impl StateValue for History {
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut hours = Vec::new();
        let mut hour = 0_i64;
        for _ in 0..decode_varint(&mut bytes).ok()? {
            hour = hour.checked_add(unzigzag(decode_varint(&mut bytes).ok()?))?;
            let total = decode_varint(&mut bytes).ok()?;
            hours.push(Hour { hour, total: total >> 1, is_spilled: total & 1 == 1 });
        }
        let seconds = take_seconds(&mut bytes)?;
        bytes.is_empty().then_some(Self { hours, seconds })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode_varint(self.hours.len() as u64, out);
        let mut before = 0;
        for Hour { hour, total, is_spilled } in &self.hours {
            encode_varint(zigzag(hour - before), out);
            encode_varint(total << 1 | u64::from(*is_spilled), out);
            before = *hour;
        }
        put_seconds(&self.seconds, out);
    }

    fn weight(&self) -> usize {
        self.hours.capacity() * size_of::<Hour>() + self.seconds.weight()
    }
}

/// Differences are small, so they take a byte or two.
fn put_seconds(seconds: &Seconds, out: &mut Vec<u8>) {
    encode_varint(seconds.counts.len() as u64, out);
    let mut before = 0;
    for (second, count) in &seconds.counts {
        encode_varint(zigzag(second - before), out);
        encode_varint(*count, out);
        before = *second;
    }
}

fn take_seconds(bytes: &mut &[u8]) -> Option<Seconds> {
    let mut counts = Vec::new();
    let mut second = 0_i64;
    for _ in 0..decode_varint(bytes).ok()? {
        second = second.checked_add(unzigzag(decode_varint(bytes).ok()?))?;
        counts.push((second, decode_varint(bytes).ok()?));
    }
    Some(Seconds { counts })
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)).cast_unsigned()
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -((n & 1).cast_signed())
}

#[cfg(test)]
mod tests;
