//! What people and tags are about: the cause behind whom they follow, what they like and how long they look.
//!
//! A taste says how the attention of one person (or the content of one post or tag) divides over [`TOPICS`] topics, in percent.
//! Two tastes are as close as they overlap. Everything is integers, so that every machine makes the same people.

use xxhash_rust::xxh3::xxh3_64;

/// How many topics there are.
pub const TOPICS: usize = 8;

/// The percent of a person's attention that goes to their first topic, from and to; the second gets about half of the rest.
const FIRST_OF_PERSON: (u64, u64) = (45, 70);

/// The percent of a tag that is its first topic, from and to.
const FIRST_OF_TAG: (u64, u64) = (70, 90);

/// Percent of each topic; the sum is 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taste(pub [u8; TOPICS]);

impl Taste {
    /// The taste of a person, from the hash of who they are.
    pub(super) fn of_person(hash: u64) -> Self {
        Self::drawn(hash, hash % TOPICS as u64, FIRST_OF_PERSON)
    }

    /// The taste of the tag `index`; the topics are dealt out in turn, so that each has its tags.
    pub(super) fn of_tag(seed: u64, index: usize) -> Self {
        let hash = hash(seed, b't', index as u64);
        Self::drawn(hash, (index as u64).wrapping_add(seed) % TOPICS as u64, FIRST_OF_TAG)
    }

    fn drawn(hash: u64, first: u64, (least, most): (u64, u64)) -> Self {
        let share = least + (hash >> 8) % (most - least + 1);
        let second = (first + 1 + (hash >> 24) % (TOPICS as u64 - 1)) % TOPICS as u64;
        let mut percent = [0_u8; TOPICS];
        let mut left = 100 - share;
        percent[first as usize] = share as u8;
        percent[second as usize] = (left / 2) as u8;
        left -= left / 2;
        // The rest goes round, from a place of its own.
        for i in 0..left {
            percent[((hash >> 40) + i) as usize % TOPICS] += 1;
        }
        Self(percent)
    }

    /// The mean of several; `None` of none. What rounding leaves goes to the first topic.
    pub(super) fn mean(tastes: impl Iterator<Item = Taste>) -> Option<Self> {
        let mut sums = [0_u32; TOPICS];
        let mut count = 0;
        for taste in tastes {
            count += 1;
            for (sum, percent) in sums.iter_mut().zip(taste.0) {
                *sum += u32::from(percent);
            }
        }
        if count == 0 {
            return None;
        }
        let mut percent = sums.map(|sum| (sum / count) as u8);
        let given: u8 = percent.iter().sum();
        percent[0] += 100 - given;
        Some(Self(percent))
    }

    /// How much two overlap, 0 to 100: the sum over the topics of the lesser percent.
    pub fn overlap(&self, other: &Taste) -> u32 {
        self.0.iter().zip(other.0).map(|(&a, b)| u32::from(a.min(b))).sum()
    }
}

/// A number that only the seed, the kind of thing and its number decide.
pub(super) fn hash(seed: u64, kind: u8, number: u64) -> u64 {
    let mut bytes = [0; 17];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8] = kind;
    bytes[9..].copy_from_slice(&number.to_le_bytes());
    xxh3_64(&bytes)
}
