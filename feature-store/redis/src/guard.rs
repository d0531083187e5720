//! Guards: small keys, spread over the slots, by which a server shows that it still has what it had.
//!
//! A guard holds a random id, and whether the store was whole when it was last confirmed. One that is gone, or has another id
//! than we know, means that its server was flushed, replaced by an empty one, or started without its data. A new guard is
//! `building` until somebody has rebuilt the store and confirms it, also when everybody who knew the loss has died meanwhile.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use uuid::Uuid;

use crate::keys::{SLOTS, slot_of};

/// How many slots lie between two guards: a server with at least as many in one range has one.
const GUARD_EVERY: u16 = 256;

const BUILDING: &str = "building:";
const WHOLE: &str = "whole:";

/// A guard as it stands in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    pub(crate) id: String,
    pub(crate) whole: bool,
}

impl Guard {
    /// A guard of a store that nobody has filled yet.
    pub(crate) fn new() -> Self {
        // Not seeded: two processes that notice one loss must not make the same. It never reaches content.
        Self { id: Uuid::new_v4().simple().to_string(), whole: false }
    }

    pub(crate) fn text(&self) -> String {
        format!("{}{}", if self.whole { WHOLE } else { BUILDING }, self.id)
    }

    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let whole = text.starts_with(WHOLE);
        let id = text.strip_prefix(WHOLE).or_else(|| text.strip_prefix(BUILDING))?;
        Some(Self { id: id.to_owned(), whole })
    }
}

/// The guards that we know, by slot.
pub(crate) type Guards = BTreeMap<u16, Guard>;

/// The slots that have a guard and the number that leads there as a hash tag. Without a cluster there is the first only.
pub(crate) fn places(cluster: bool) -> &'static [(u16, u32)] {
    static PLACES: OnceLock<Vec<(u16, u32)>> = OnceLock::new();
    let places = PLACES.get_or_init(|| {
        let mut found: BTreeMap<u16, u32> = BTreeMap::new();
        for tag in 0.. {
            let slot = slot_of(tag.to_string().as_bytes());
            if slot.is_multiple_of(GUARD_EVERY) {
                found.entry(slot).or_insert(tag);
            }
            if found.len() == usize::from(SLOTS / GUARD_EVERY) {
                break;
            }
        }
        found.into_iter().collect()
    });
    if cluster { places } else { &places[..1] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_of_slots_has_a_guard() {
        let places = places(true);
        assert_eq!(places.len(), 64);
        for (i, (slot, tag)) in places.iter().enumerate() {
            assert_eq!(usize::from(*slot), i * 256);
            assert_eq!(slot_of(format!("any:epoch:{{{tag}}}").as_bytes()), *slot);
        }
    }

    #[test]
    fn guards_read_back() {
        let new = Guard::new();
        assert_ne!(new, Guard::new());
        assert_eq!(Guard::read(new.text().as_bytes()), Some(new.clone()));
        let whole = Guard { whole: true, ..new };
        assert_eq!(Guard::read(whole.text().as_bytes()), Some(whole));
        assert_eq!(Guard::read(b"other"), None);
        assert_eq!(Guard::read(b"\xff"), None);
    }
}
