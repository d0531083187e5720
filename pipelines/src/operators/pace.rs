//! Whose pace is above a limit: a leaky bucket per key and limit, in a bounded number of pages.
//!
//! A bucket drains at the rate of its limit, and each act that counts fills it by one. Who fills it above the brim is over
//! the limit, from that act on and for some time after the last that did. What is remembered of a bucket is when it will be
//! empty, one number, which no clock has to touch while nothing comes (the generic cell rate algorithm of ITU-T I.371 keeps
//! the same).
//!
//! Keys share pages by their hash, and an act reads and writes one page. A bucket that is empty makes room by itself when
//! its page is next added to, so nothing has to be swept; a page that is full of others forgets the emptiest of them, whose
//! key then begins anew. So state is bounded however many keys come, nobody is ever taken for faster than they are, and only
//! in a crowd of more than [`PAGES`] · [`BUCKETS_MAX`] busy keys a slow one of those over their limit may be missed.

use millrace_events::LogTime;
use xxhash_rust::xxh3::xxh3_64;

use crate::Result;
use crate::state::{State, StateKey, StateValue};

/// How many pages there are.
pub const PAGES: u64 = 1_024;

/// How many buckets a page holds.
pub const BUCKETS_MAX: usize = 32;

/// How many limits a key has.
pub const LIMITS: usize = 2;

const MINUTE_US: i64 = 60_000_000;

/// A pace that may be kept up, and what may come beside it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How much drains in a minute, 1 or more.
    pub per_minute: i64,
    /// How much the bucket holds.
    pub beside: i64,
}

impl Limit {
    const fn drain_us(self) -> i64 {
        MINUTE_US / self.per_minute
    }
}

/// Limits on the pace of keys, in one table of the state.
#[derive(Clone, Copy, Debug)]
pub struct Paces {
    /// The table.
    pub table: u8,
    /// The limits, each with a bucket of its own.
    pub limits: [Limit; LIMITS],
    /// For how long a key is over after an act that was above a brim, microseconds.
    pub keep_us: i64,
}

impl Paces {
    /// True when `key` is over at `time`, after an act that counts against the limits that `counts` says, perhaps none.
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn is_over(&self, state: &mut State, key: &str, time: LogTime, counts: [bool; LIMITS]) -> Result<bool> {
        let (id, now) = (xxh3_64(key.as_bytes()), time.0);
        let page = StateKey::new(self.table).last(&(id % PAGES).to_be_bytes());
        if counts == [false; LIMITS] {
            let page = state.get::<Page>(&page)?;
            return Ok(page.and_then(|page| page.find(id)).is_some_and(|bucket| bucket.over_until > now));
        }
        let bucket = state.entry::<Page>(&page)?.bucket(id, now);
        for nth in (0..LIMITS).filter(|nth| counts[*nth]) {
            let Limit { beside, .. } = self.limits[nth];
            let drain_us = self.limits[nth].drain_us();
            let brim = now.saturating_add(beside.saturating_mul(drain_us));
            let filled = bucket.empty_at[nth].max(now).saturating_add(drain_us);
            if filled > brim {
                bucket.over_until = now.saturating_add(self.keep_us);
            }
            // What spills is gone: who stops is below the brim after one drain, however much it was.
            bucket.empty_at[nth] = filled.min(brim.saturating_add(drain_us));
        }
        Ok(bucket.over_until > now)
    }
}

/// The buckets of a key, times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    id: u64,
    empty_at: [i64; LIMITS],
    over_until: i64,
}

impl Bucket {
    fn is_busy(&self, now: i64) -> bool {
        self.over_until > now || self.empty_at.iter().any(|at| *at > now)
    }

    /// How much is lost with it: what is least goes first.
    fn rank(&self, now: i64) -> (bool, i64, u64) {
        let fullest = self.empty_at.iter().copied().max().unwrap_or(i64::MIN);
        (self.over_until > now, fullest, self.id)
    }
}

/// Buckets of keys whose hashes meet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Page {
    buckets: Vec<Bucket>,
}

impl Page {
    fn find(&self, id: u64) -> Option<&Bucket> {
        self.buckets.iter().find(|bucket| bucket.id == id)
    }

    fn bucket(&mut self, id: u64, now: i64) -> &mut Bucket {
        let at = match self.buckets.iter().position(|bucket| bucket.id == id) {
            Some(at) => at,
            None => {
                self.make_room(now);
                self.buckets.push(Bucket { id, empty_at: [i64::MIN; LIMITS], over_until: i64::MIN });
                self.buckets.len() - 1
            }
        };
        &mut self.buckets[at]
    }

    fn make_room(&mut self, now: i64) {
        self.buckets.retain(|bucket| bucket.is_busy(now));
        if self.buckets.len() < BUCKETS_MAX {
            return;
        }
        let least = self.buckets.iter().enumerate().min_by_key(|(_, bucket)| bucket.rank(now)).map(|(at, _)| at);
        if let Some(at) = least {
            self.buckets.swap_remove(at);
        }
    }
}

/// Four numbers of eight bytes.
const BUCKET_BYTES: usize = (2 + LIMITS) * 8;

impl StateValue for Page {
    fn decode(bytes: &[u8]) -> Option<Self> {
        if !bytes.len().is_multiple_of(BUCKET_BYTES) {
            return None;
        }
        let mut buckets = Vec::with_capacity(bytes.len() / BUCKET_BYTES);
        for bucket in bytes.chunks_exact(BUCKET_BYTES) {
            let mut numbers = bucket.chunks_exact(8).map(|c| c.try_into().map(u64::from_le_bytes));
            let mut take = || numbers.next()?.ok();
            let (id, over_until) = (take()?, take()?.cast_signed());
            let empty_at = [take()?.cast_signed(), take()?.cast_signed()];
            buckets.push(Bucket { id, empty_at, over_until });
        }
        Some(Self { buckets })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |n: u64| out.extend_from_slice(&n.to_le_bytes());
        for Bucket { id, empty_at, over_until } in &self.buckets {
            put(*id);
            put(over_until.cast_unsigned());
            empty_at.iter().for_each(|at| put(at.cast_unsigned()));
        }
    }

    fn weight(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }
}

#[cfg(test)]
mod tests;
