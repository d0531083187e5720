//! The buckets of addresses, in a table that never grows.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use super::bucket::{Bucket, Meter, Verdict};
use crate::address::Address;

/// How many addresses are remembered. Beyond it the one that has asked least of late is forgotten for a new one, among the
/// few that share its row.
pub const ADDRESSES_MAX: usize = 65_536;

/// How many addresses share a row: two cache lines.
const ROW: usize = 8;

/// Buckets by address. Which row an address is in depends on chance at the start of the process, so that nobody can fill
/// somebody else's on purpose.
pub(crate) struct Addresses {
    meter: Meter,
    chance: RandomState,
    rows: Box<[Mutex<[Entry; ROW]>]>,
}

/// The bucket of an address. The hash stands for it: two that share one share a bucket too, which nobody will see.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    hash: u64,
    bucket: Bucket,
}

impl Addresses {
    pub(crate) fn new(meter: Meter) -> Self {
        let rows = std::iter::repeat_with(Mutex::default).take(ADDRESSES_MAX / ROW).collect();
        Self { meter, chance: RandomState::new(), rows }
    }

    /// Counts a request of `ip`.
    pub(crate) fn take(&self, ip: IpAddr, now_ns: u64) -> Verdict {
        let hash = self.chance.hash_one(Address::of(ip));
        #[expect(clippy::cast_possible_truncation, reason = "which bits of a hash choose the row does not matter")]
        let nth = hash as usize % self.rows.len();
        let mut row = self.rows[nth].lock().unwrap_or_else(PoisonError::into_inner);
        // The fullest bucket says least: forgetting it gives the least away.
        let known = row.iter().position(|entry| entry.hash == hash);
        let least = || (0..ROW).min_by_key(|nth| row[*nth].bucket.full_ns).unwrap_or_default();
        let nth = known.unwrap_or_else(least);
        if row[nth].hash != hash {
            row[nth] = Entry { hash, bucket: Bucket::default() };
        }
        self.meter.take(&mut row[nth].bucket, 1, now_ns)
    }
}
