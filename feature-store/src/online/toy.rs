//! The laws of the online store at their plainest: two ordered maps behind a lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Content, Error, ErrorKind, ListItem, ListKey, OnlineStore, OnlineWrite, RecordKey, Result, Version, check_batch,
    wins,
};
use crate::views::{PROGRESS, bound_of};

/// An online store in memory, for tests and for the simulation. Clones share what is stored.
#[derive(Clone, Default)]
pub struct ToyStore {
    shared: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    /// `None` is a tombstone, here and below.
    records: BTreeMap<RecordKey, (Version, Option<Bytes>)>,
    members: BTreeMap<ListKey, BTreeMap<Bytes, (Version, Option<i64>)>>,
    failures: usize,
}

impl ToyStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// All content in key order, except the progress of partitions, which depends on how batches were cut.
    pub fn content(&self) -> Vec<Content> {
        self.lock().content(|view| view != PROGRESS)
    }

    /// Makes the next `n` writes answer [`ErrorKind::Retry`] after applying none, half or all of their batch, in turn.
    pub fn fail_next(&self, n: usize) {
        self.lock().failures = n;
    }

    /// A store of its own that holds what this one holds now.
    pub fn snapshot(&self) -> Self {
        Self { shared: Arc::new(Mutex::new(self.lock().clone())) }
    }

    /// Makes this store, and all its clones, hold what `earlier` holds: what a crash does to writes that were not durable.
    pub fn restore(&self, earlier: &Self) {
        let state = earlier.lock().clone();
        *self.lock() = state;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, write: OnlineWrite) {
        match write {
            OnlineWrite::Put { key, value, version } => self.put_record(key, version, Some(value)),
            OnlineWrite::Delete { key, version } => self.put_record(key, version, None),
            OnlineWrite::Insert { list, item, version } => {
                self.put_member(list, item.member, version, Some(item.score));
            }
            OnlineWrite::Remove { list, member, version } => {
                self.put_member(list, member, version, None);
            }
        }
    }

    fn put_record(&mut self, key: RecordKey, version: Version, value: Option<Bytes>) {
        if self.records.get(&key).is_none_or(|(stored, _)| *stored < version) {
            self.records.insert(key, (version, value));
        }
    }

    fn put_member(&mut self, list: ListKey, member: Bytes, version: Version, score: Option<i64>) {
        let view = list.view;
        let members = self.members.entry(list).or_default();
        if wins(view, members.get(&member).copied(), version, score) {
            members.insert(member, (version, score));
        }
    }

    fn ranked(&self, list: &ListKey) -> Vec<ListItem> {
        let Some(members) = self.members.get(list) else { return Vec::new() };
        let alive = members.iter().filter_map(|(member, (_, score))| Some((member.clone(), (*score)?)));
        let mut items: Vec<ListItem> = alive.map(|(member, score)| ListItem { score, member }).collect();
        items.sort_by(ListItem::rank);
        items.truncate(bound_of(list.view));
        items
    }

    fn content(&self, wanted: impl Fn(u8) -> bool) -> Vec<Content> {
        let records = self.records.iter().filter(|(key, _)| wanted(key.view));
        let mut content: Vec<Content> =
            records.filter_map(|(key, (_, value))| Some(Content::Record(key.clone(), value.clone()?))).collect();
        for list in self.members.keys().filter(|list| wanted(list.view)) {
            let mut items = self.ranked(list);
            items.sort_by(|a, b| a.member.cmp(&b.member));
            content.extend(items.into_iter().map(|item| Content::Member(list.clone(), item.member, item.score)));
        }
        content
    }
}

#[async_trait]
impl OnlineStore for ToyStore {
    async fn write(&self, batch: Vec<OnlineWrite>) -> Result<()> {
        check_batch(&batch)?;
        let mut state = self.lock();
        let fails = state.failures > 0;
        let applied = if fails { batch.len() * (state.failures % 3) / 2 } else { batch.len() };
        state.failures = state.failures.saturating_sub(1);
        for write in batch.into_iter().take(applied) {
            state.apply(write);
        }
        if fails {
            return Err(Error::new(ErrorKind::Retry, "cannot write a batch: told to fail; repeat it"));
        }
        Ok(())
    }

    async fn get(&self, keys: &[RecordKey]) -> Result<Vec<Option<Bytes>>> {
        let state = self.lock();
        Ok(keys.iter().map(|key| state.records.get(key).and_then(|(_, value)| value.clone())).collect())
    }

    async fn heads(&self, lists: &[ListKey], limit: usize) -> Result<Vec<Vec<ListItem>>> {
        let state = self.lock();
        let head = |list| state.ranked(list).into_iter().take(limit).collect();
        Ok(lists.iter().map(head).collect())
    }

    async fn page(&self, list: &ListKey, after: Option<&ListItem>, limit: usize) -> Result<Vec<ListItem>> {
        let items = self.lock().ranked(list).into_iter();
        let rest = items.filter(|item| after.is_none_or(|after| item.rank(after).is_gt()));
        Ok(rest.take(limit).collect())
    }

    async fn scan(&self, after: Option<&Content>, limit: usize) -> Result<Vec<Content>> {
        let content = self.lock().content(|_| true).into_iter();
        let rest = content.filter(|content| after.is_none_or(|after| content.cmp_key(after).is_gt()));
        Ok(rest.take(limit).collect())
    }
}
