//! The newest version of many records, so that most writes need not read what they replace.
//!
//! A record whose version is above that of every record of its bucket is above its own stored one, whatever that is. The
//! records of a bucket have one owner, so in the order of the log this holds for each write; a repetition, or a partition
//! count that does not divide [`BUCKETS`], costs the read.

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64;

use super::{RecordKey, Version};
use crate::views;

/// A multiple of 1 to 10 and of 12, 14, 15 and 16: of the usual partition counts.
const BUCKETS: usize = 5_040;

/// The marks of all views that were written since the start, or since a failure.
#[derive(Default)]
pub(super) struct Marks {
    views: FxHashMap<u8, View>,
    epoch: u64,
}

struct View {
    /// At the start those of all buckets are the newest stored one of the view.
    buckets: Box<[Option<Version>]>,
    newest: Option<Version>,
}

impl Marks {
    /// Begins anew when the database is another one than the marks were made for: what raised them may be gone from it.
    pub(super) fn check_epoch(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.clear();
            self.epoch = epoch;
        }
    }

    /// Begins anew: the marks must never be above what is stored, or the newest of a view would not be stored again.
    pub(super) fn clear(&mut self) {
        self.views.clear();
    }

    /// True when `key` has no stored version that is `version` or above. `load` reads the newest stored version of any
    /// record of the view, and is called once for each view.
    pub(super) fn is_newest<E>(
        &mut self,
        key: &RecordKey,
        version: Version,
        load: impl FnOnce() -> Result<Option<Version>, E>,
    ) -> Result<bool, E> {
        let view = match self.views.get(&key.view) {
            Some(view) => view,
            None => {
                let newest = load()?;
                let view = View { buckets: vec![newest; BUCKETS].into(), newest };
                self.views.entry(key.view).or_insert(view)
            }
        };
        Ok(view.buckets[bucket(key)] < Some(version))
    }

    /// Notes a version of a record that [`Marks::is_newest`] was asked about, before it is stored. True when it is the newest
    /// of its view.
    pub(super) fn raise(&mut self, key: &RecordKey, version: Version) -> bool {
        let Some(view) = self.views.get_mut(&key.view) else { return false };
        let mark = &mut view.buckets[bucket(key)];
        *mark = (*mark).max(Some(version));
        let newest = view.newest < Some(version);
        view.newest = view.newest.max(Some(version));
        newest
    }
}

fn bucket(key: &RecordKey) -> usize {
    (xxh3_64(views::owner(key)) % BUCKETS as u64) as usize
}
