//! All content in the order of its keys, for whoever compares stores.

use std::ops::Bound;

use bytes::Bytes;

use super::{Shared, corrupt, newest_key, read_failed, read_member};
use crate::online::keys::{after_list, list_prefix, read_header, read_list_prefix, read_record_key, record_key};
use crate::online::{Content, ListKey, RecordKey, Result};
use crate::views::BOUNDED_LISTS;

/// How many pairs are read at once.
const SCAN_PAIRS: usize = 1_024;

/// A member of a list, as the place where a scan goes on.
type MemberPlace<'a> = (&'a ListKey, &'a Bytes);

impl Shared {
    pub(super) fn scan(&self, after: Option<&Content>, limit: usize) -> Result<Vec<Content>> {
        let mut found = Vec::new();
        match after {
            Some(Content::Member(list, member, _)) => self.scan_lists(Some((list, member)), limit, &mut found)?,
            Some(Content::Record(key, _)) => {
                self.scan_records(Some(key), limit, &mut found)?;
                self.scan_lists(None, limit, &mut found)?;
            }
            None => {
                self.scan_records(None, limit, &mut found)?;
                self.scan_lists(None, limit, &mut found)?;
            }
        }
        Ok(found)
    }

    fn scan_records(&self, after: Option<&RecordKey>, limit: usize, found: &mut Vec<Content>) -> Result<()> {
        let mut from = newest_key(u8::MAX).to_vec();
        if let Some(key) = after {
            record_key(&mut from, key);
        }
        while found.len() < limit {
            let pairs =
                self.records.range(Bound::Excluded(&from), Bound::Unbounded, SCAN_PAIRS).map_err(read_failed)?;
            for (key, stored) in &pairs {
                if found.len() == limit {
                    return Ok(());
                }
                if let (_, Some(value)) = read_header(stored).ok_or_else(corrupt)? {
                    let key = read_record_key(key).ok_or_else(corrupt)?;
                    found.push(Content::Record(key, Bytes::copy_from_slice(value)));
                }
            }
            match pairs.into_iter().next_back() {
                Some((last, _)) => from = last.to_vec(),
                None => break,
            }
        }
        Ok(())
    }

    /// Bounded lists have no members on disk, only items: their views are scanned for themselves, where their turn comes.
    fn scan_lists(&self, after: Option<MemberPlace<'_>>, limit: usize, found: &mut Vec<Content>) -> Result<()> {
        let mut bounded: Vec<(u8, usize)> = BOUNDED_LISTS.to_vec();
        bounded.sort_unstable();
        let mut first = 0;
        for (view, bound) in bounded {
            self.scan_members(first, Some(view), after, limit, found)?;
            self.scan_bounded(view, bound, after, limit, found)?;
            first = view.saturating_add(1);
        }
        self.scan_members(first, None, after, limit, found)
    }

    /// The members of the lists in the views from `first` on, before `end`.
    fn scan_members(
        &self,
        first: u8,
        end: Option<u8>,
        after: Option<MemberPlace<'_>>,
        limit: usize,
        found: &mut Vec<Content>,
    ) -> Result<()> {
        let mut from = vec![first];
        if let Some((list, member)) = after.filter(|(list, _)| list.view >= first) {
            list_prefix(&mut from, list);
            from.extend_from_slice(member);
        }
        let end = end.map(|view| [view]);
        let to = end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
        while found.len() < limit && end.is_none_or(|end| from[..] < end[..]) {
            let pairs = self.members.range(Bound::Excluded(&from), to, SCAN_PAIRS).map_err(read_failed)?;
            for (key, stored) in &pairs {
                if found.len() == limit {
                    return Ok(());
                }
                if let (_, Some(score)) = read_member(stored)? {
                    let (list, prefix) = read_list_prefix(key).ok_or_else(corrupt)?;
                    found.push(Content::Member(list, Bytes::copy_from_slice(&key[prefix..]), score));
                }
            }
            match pairs.into_iter().next_back() {
                Some((last, _)) => from = last.to_vec(),
                None => break,
            }
        }
        Ok(())
    }

    /// The members of the lists in one bounded view, list by list: those within the bound, in the order of members.
    fn scan_bounded(
        &self,
        view: u8,
        bound: usize,
        after: Option<MemberPlace<'_>>,
        limit: usize,
        found: &mut Vec<Content>,
    ) -> Result<()> {
        let mut from = vec![view];
        let after = after.filter(|(list, _)| list.view >= view);
        if let Some((list, _)) = after {
            list_prefix(&mut from, list);
        }
        while found.len() < limit {
            let next = self.lists.range(Bound::Excluded(&from), Bound::Unbounded, 1).map_err(read_failed)?;
            let Some((key, _)) = next.first() else { break };
            let (list, prefix) = read_list_prefix(key).ok_or_else(corrupt)?;
            if list.view != view {
                break;
            }
            let mut items = self.read_head(&key[..prefix], bound)?.items(bound);
            items.sort_unstable_by(|a, b| a.member.cmp(&b.member));
            if let Some((_, member)) = after.filter(|(of, _)| **of == list) {
                items.retain(|item| item.member > *member);
            }
            let room = limit - found.len();
            found.extend(
                items.into_iter().take(room).map(|item| Content::Member(list.clone(), item.member, item.score)),
            );
            from = after_list(&key[..prefix]);
        }
        Ok(())
    }
}
