//! All content in the order of its keys, from a server that has no order.
//!
//! A pass reads the names of all keys and keeps the first of them that are due, as many as fit into a window; pages are served
//! from it until it is empty, then the next pass begins. So the memory is bounded, and the cost of a walk is one pass (about
//! a second per million keys) for each window that the names fill. What is created within a window while it is walked is not
//! found by that walk; a scan that does not go on where the last one ended begins a pass of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use millrace_feature_store::online::{Content, ListKey, RecordKey, Result};
use millrace_feature_store::views::bound_of;
use redis::{Pipeline, Value};

use crate::failure::retry;
use crate::keys::Keys;
use crate::plan::Op;
use crate::read;
use crate::server::Server;
use crate::shared::Shared;

/// How many bytes of names a window holds, and of members of one list: more need another pass.
pub(crate) const WINDOW_BYTES: usize = 32 * 1024 * 1024;
/// What an entry of these costs beside its bytes.
const ENTRY_BYTES: usize = 64;
/// How many records are read at once.
const RECORDS_AT_ONCE: usize = 1_000;
/// How many lists are read at once.
const LISTS_AT_ONCE: usize = 64;
/// How many items of each: longer lists are read for themselves.
const ITEMS_AT_ONCE: usize = 256;
/// How many items of a long list are read at once.
const LONG_ITEMS_AT_ONCE: usize = 10_000;
/// How many keys a server looks at for one call of `SCAN`.
const SCAN_COUNT: usize = 1_000;

/// Where a walk through the content is.
pub(crate) struct Walk {
    /// What the last page ended with.
    last: Option<Content>,
    records: Option<Names<RecordKey>>,
    lists: Names<ListKey>,
    /// Lists whose members are due, in order.
    loaded: VecDeque<Members>,
    window_bytes: usize,
}

/// Names of keys that are due, in order.
struct Names<K> {
    due: VecDeque<K>,
    after: Option<K>,
    /// No others come behind those that are due.
    complete: bool,
    window_bytes: usize,
}

/// Members of a list that are due, in order.
struct Members {
    list: ListKey,
    due: VecDeque<(Bytes, i64)>,
    after: Option<Bytes>,
    complete: bool,
}

impl<K> Names<K> {
    fn after(after: Option<K>, window_bytes: usize) -> Self {
        Self { due: VecDeque::new(), after, complete: false, window_bytes }
    }
}

impl Walk {
    /// A walk that goes on after this content. `window_bytes` is [`WINDOW_BYTES`], less in tests.
    pub(crate) fn after(after: Option<&Content>, window_bytes: usize) -> Self {
        let (records, lists, loaded) = match after {
            None => (Some(None), None, None),
            Some(Content::Record(key, _)) => (Some(Some(key.clone())), None, None),
            Some(Content::Member(list, member, _)) => {
                let rest =
                    Members { list: list.clone(), due: VecDeque::new(), after: Some(member.clone()), complete: false };
                (None, Some(list.clone()), Some(rest))
            }
        };
        Self {
            last: after.cloned(),
            records: records.map(|after| Names::after(after, window_bytes)),
            lists: Names::after(lists, window_bytes),
            loaded: loaded.into_iter().collect(),
            window_bytes,
        }
    }

    /// True when a scan after this content is the next page of this walk.
    pub(crate) fn goes_on_after(&self, after: Option<&Content>) -> bool {
        after.is_some() && self.last.as_ref() == after
    }

    /// The next page.
    pub(crate) async fn page(&mut self, shared: &Arc<Shared>, limit: usize) -> Result<Vec<Content>> {
        let mut found = Vec::new();
        while found.len() < limit && self.records.is_some() {
            self.some_records(shared, limit, &mut found).await?;
        }
        while found.len() < limit && self.some_members(shared, limit, &mut found).await? {}
        if let Some(last) = found.last() {
            self.last = Some(last.clone());
        }
        Ok(found)
    }

    async fn some_records(&mut self, shared: &Arc<Shared>, limit: usize, found: &mut Vec<Content>) -> Result<()> {
        let Some(names) = &mut self.records else { return Ok(()) };
        if names.due.is_empty() {
            if names.complete {
                self.records = None;
                return Ok(());
            }
            names.fill(shared).await?;
        }
        let some = names.due.len().min(RECORDS_AT_ONCE).min(limit - found.len());
        let some: Vec<RecordKey> = names.due.drain(..some).collect();
        names.after = some.last().cloned().or(names.after.take());
        let values = read::records(shared, "scan records", &some).await?;
        found.extend(some.into_iter().zip(values).filter_map(|(key, value)| Some(Content::Record(key, value?))));
        Ok(())
    }

    /// False at the end.
    async fn some_members(&mut self, shared: &Arc<Shared>, limit: usize, found: &mut Vec<Content>) -> Result<bool> {
        if let Some(members) = self.loaded.front_mut() {
            if members.due.is_empty() && !members.complete {
                members.fill(shared, self.window_bytes).await?;
            }
            let some = members.due.len().min(limit - found.len());
            for (member, score) in members.due.drain(..some) {
                members.after = Some(member.clone());
                found.push(Content::Member(members.list.clone(), member, score));
            }
            if members.due.is_empty() && members.complete {
                self.loaded.pop_front();
            }
            return Ok(true);
        }
        if self.lists.due.is_empty() {
            if self.lists.complete {
                return Ok(false);
            }
            self.lists.fill(shared).await?;
        }
        let some = self.lists.due.len().min(LISTS_AT_ONCE);
        let some: Vec<ListKey> = self.lists.due.drain(..some).collect();
        self.lists.after = some.last().cloned().or(self.lists.after.take());
        let heads = read::heads(shared, "scan lists", &some, ITEMS_AT_ONCE).await?;
        for (list, items) in some.into_iter().zip(heads) {
            let complete = items.len() < ITEMS_AT_ONCE.min(bound_of(list.view)) || bound_of(list.view) <= ITEMS_AT_ONCE;
            let mut due: Vec<_> = items.into_iter().map(|item| (item.member, item.score)).collect();
            due.sort_unstable();
            let due = if complete { due.into() } else { VecDeque::new() };
            self.loaded.push_back(Members { list, due, after: None, complete });
        }
        Ok(true)
    }
}

/// A key whose names can be told from all others.
trait Named: Ord + Clone {
    fn pattern(keys: &Keys) -> String;
    fn read(keys: &Keys, name: &[u8]) -> Option<Self>;
    fn bytes(&self) -> usize;
}

impl Named for RecordKey {
    fn pattern(keys: &Keys) -> String {
        keys.records_pattern()
    }

    fn read(keys: &Keys, name: &[u8]) -> Option<Self> {
        keys.read_record(name)
    }

    fn bytes(&self) -> usize {
        self.entity.len() + ENTRY_BYTES
    }
}

impl Named for ListKey {
    fn pattern(keys: &Keys) -> String {
        keys.items_pattern()
    }

    fn read(keys: &Keys, name: &[u8]) -> Option<Self> {
        keys.read_items(name)
    }

    fn bytes(&self) -> usize {
        self.entity.len() + ENTRY_BYTES
    }
}

impl<K: Named> Names<K> {
    /// Reads the names of all keys, and keeps the first that are due.
    async fn fill(&mut self, shared: &Arc<Shared>) -> Result<()> {
        let keys = &shared.shape.keys;
        let mut first: BTreeSet<K> = BTreeSet::new();
        let (mut bytes, mut complete) = (0, true);
        let mut pass = Pass::begin(shared, K::pattern(keys)).await?;
        while let Some(names) = pass.next(shared).await? {
            for key in names.iter().filter_map(|name| K::read(keys, name)) {
                let behind = first.last().is_some_and(|last| key > *last);
                if self.after.as_ref().is_some_and(|after| key <= *after) || !complete && behind {
                    continue;
                }
                let size = key.bytes();
                bytes += if first.insert(key) { size } else { 0 };
                while bytes > self.window_bytes
                    && let Some(last) = first.pop_last()
                {
                    bytes -= last.bytes();
                    complete = false;
                }
            }
        }
        self.due = first.into_iter().collect();
        self.complete = complete;
        Ok(())
    }
}

impl Members {
    /// Reads all items of the list, and keeps the first members that are due.
    async fn fill(&mut self, shared: &Arc<Shared>, window_bytes: usize) -> Result<()> {
        let mut first: BTreeMap<Bytes, i64> = BTreeMap::new();
        let (mut bytes, mut complete) = (0, true);
        let mut last = None;
        let mut left = bound_of(self.list.view);
        while left > 0 {
            let items =
                read::page(shared, "scan lists", &self.list, last.as_ref(), LONG_ITEMS_AT_ONCE.min(left)).await?;
            let Some(item) = items.last() else { break };
            last = Some(item.clone());
            left = left.saturating_sub(items.len());
            for item in items {
                if self.after.as_ref().is_some_and(|after| item.member <= *after) {
                    continue;
                }
                bytes += item.member.len() + ENTRY_BYTES;
                first.insert(item.member, item.score);
                while bytes > window_bytes
                    && let Some((member, _)) = first.pop_last()
                {
                    bytes -= member.len() + ENTRY_BYTES;
                    complete = false;
                }
            }
        }
        self.due = first.into_iter().collect();
        self.complete = complete;
        Ok(())
    }
}

/// A pass over all names of keys that match a pattern.
struct Pass {
    pattern: String,
    servers: VecDeque<Arc<Server>>,
    cursor: Vec<u8>,
}

/// Where a pass over a server begins, and what it says at its end.
const CURSOR_END: &[u8] = b"0";

impl Pass {
    async fn begin(shared: &Arc<Shared>, pattern: String) -> Result<Self> {
        let servers = shared.known_map().await?.servers.iter().cloned().collect();
        Ok(Self { pattern, servers, cursor: CURSOR_END.to_vec() })
    }

    /// Some more names, some of them perhaps for the second time; `None` at the end.
    async fn next(&mut self, shared: &Arc<Shared>) -> Result<Option<Vec<Vec<u8>>>> {
        let Some(server) = self.servers.front() else { return Ok(None) };
        let link = shared.link(server).await?;
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SCAN").arg(&self.cursor[..]).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(SCAN_COUNT);
        let answer = shared.all_ok("scan", server, &link, &pipeline).await;
        if answer.is_err() {
            server.drop_link(&link);
        }
        let (cursor, names) = read_names(answer?.pop())
            .ok_or_else(|| retry(format!("cannot scan: the answer of Redis at {} makes no sense", server.address)))?;
        if cursor == CURSOR_END {
            self.servers.pop_front();
        }
        self.cursor = cursor;
        Ok(Some(names))
    }
}

fn read_names(answer: Option<Value>) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let Some(Value::Array(parts)) = answer else { return None };
    let [Value::BulkString(cursor), Value::Array(names)] = <[Value; 2]>::try_from(parts).ok()? else { return None };
    let names = names.into_iter().map(|name| match name {
        Value::BulkString(name) => Some(name),
        _ => None,
    });
    Some((cursor, names.collect::<Option<_>>()?))
}

/// Deletes whatever is content, or belongs to it.
pub(crate) async fn delete_all(shared: &Arc<Shared>) -> Result<()> {
    let mut pass = Pass::begin(shared, shared.shape.keys.content_pattern()).await?;
    while let Some(names) = pass.next(shared).await? {
        let ops: Vec<Op> = names.iter().map(|name| Op::on(&shared.shape, "UNLINK", name)).collect();
        shared.run("delete content", &ops, false).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
