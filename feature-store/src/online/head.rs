//! The first items of a list, as one packed buffer.
//!
//! One buffer rather than a vector of items, because an item of its own costs two allocations and some hundred bytes:
//! packed, the cache holds several times more lists, and a write copies a few kilobytes instead of counting references.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::ListItem;

/// The score, and the length of the member.
const ITEM_HEADER_BYTES: usize = 8 + 2;

/// The first items of a list, best first. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Head {
    packed: Bytes,
    count: usize,
    /// The most items that were asked for at once: what grows longer is cut to it.
    asked: usize,
    /// True when the list has no items after these.
    complete: bool,
}

impl Head {
    /// Packs the first items of a list, of which `asked` were asked for.
    pub(super) fn pack<'a>(items: impl Iterator<Item = (i64, &'a [u8])>, asked: usize) -> Self {
        let mut packed = BytesMut::new();
        let mut count = 0;
        for (score, member) in items.take(asked) {
            put(&mut packed, score, member);
            count += 1;
        }
        Self { packed: packed.freeze(), count, asked, complete: count < asked }
    }

    /// True when it knows the first `limit` items.
    pub(super) fn has(&self, limit: usize) -> bool {
        self.complete || self.count >= limit
    }

    /// The first `limit` items.
    pub(super) fn items(&self, limit: usize) -> Vec<ListItem> {
        let mut rest = self.packed.clone();
        let count = self.count.min(limit);
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            let score = rest.get_i64();
            let len = usize::from(rest.get_u16());
            items.push(ListItem { score, member: rest.split_to(len) });
        }
        items
    }

    /// The head after members got the given score, or none; `None` when it no longer knows the first item.
    ///
    /// `changes` are sorted by member. Applying a change twice is the same as once.
    pub(super) fn apply(&self, changes: &[(&[u8], Option<i64>)]) -> Option<Self> {
        let mut fresh: Vec<(i64, &[u8])> = changes.iter().filter_map(|(m, score)| Some(((*score)?, *m))).collect();
        fresh.sort_unstable_by(rank);
        // What stands behind the last known item of an incomplete head stands behind items that are not known.
        if !self.complete {
            let last = self.iter().last()?;
            fresh.retain(|item| rank(item, &last).is_le());
        }
        let changed = |member: &[u8]| changes.binary_search_by(|(m, _)| (*m).cmp(member)).is_ok();
        let mut kept = self.iter().filter(|(_, member)| !changed(member)).peekable();
        let mut fresh = fresh.into_iter().peekable();

        let mut packed = BytesMut::with_capacity(self.packed.len() + changes.len() * (ITEM_HEADER_BYTES + 32));
        let mut count = 0;
        while count < self.asked {
            let next = match (kept.peek(), fresh.peek()) {
                (Some(a), Some(b)) if rank(b, a).is_lt() => fresh.next(),
                (Some(_), _) => kept.next(),
                (None, _) => fresh.next(),
            };
            let Some((score, member)) = next else { break };
            put(&mut packed, score, member);
            count += 1;
        }
        let cut = kept.peek().is_some() || fresh.peek().is_some();
        let complete = self.complete && !cut;
        let known = complete || count > 0;
        known.then(|| Self { packed: packed.freeze(), count, asked: self.asked, complete })
    }

    /// The score of a member, when it is among these items.
    pub(super) fn score_of(&self, member: &[u8]) -> Option<i64> {
        self.iter().find(|(_, of)| *of == member).map(|(score, _)| score)
    }

    /// How much memory it holds, in bytes.
    pub(super) fn weight(&self) -> usize {
        self.packed.len()
    }

    fn iter(&self) -> impl Iterator<Item = (i64, &[u8])> {
        let mut rest = &self.packed[..];
        (0..self.count).map(move |_| {
            let score = rest.get_i64();
            let len = usize::from(rest.get_u16());
            let (member, after) = rest.split_at(len);
            rest = after;
            (score, member)
        })
    }
}

fn put(packed: &mut BytesMut, score: i64, member: &[u8]) {
    packed.reserve(ITEM_HEADER_BYTES + member.len());
    packed.put_i64(score);
    // Members have at most `KEY_BYTES_MAX` bytes.
    packed.put_u16(u16::try_from(member.len()).unwrap_or(u16::MAX));
    packed.put_slice(member);
}

fn rank(a: &(i64, &[u8]), b: &(i64, &[u8])) -> std::cmp::Ordering {
    b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1))
}
