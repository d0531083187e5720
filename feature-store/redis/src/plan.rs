//! What a batch comes to: for each record and member the one write that wins, and the scripts that apply them.
//!
//! Because at most one write of each key is left, the scripts of a batch may run in any order, at once and again.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use millrace_feature_store::online::{ListKey, OnlineWrite, RecordKey, Version, wins};
use millrace_feature_store::views::bound_of;
use redis::{Cmd, Script};

use crate::keys::{Keys, descending, slot_of, stored_member, stored_record};

/// How many records one call of a script sets at most: while it runs, nobody else is served.
const SCRIPT_RECORDS_MAX: usize = 64;
/// How many members of a list one call of a script sets at most.
const SCRIPT_MEMBERS_MAX: usize = 128;
/// How many bytes of values one call of a script carries, unless one value is larger.
const SCRIPT_BYTES_MAX: usize = 256 * 1024;
/// What a key costs in memory beside its bytes.
const ENTRY_BYTES: usize = 128;

/// The winning write of each record and member. Its maps are those of the standard library because clients choose ids: with
/// many that collide, a faster hash would be a slow one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    records: HashMap<RecordKey, (Version, Option<Bytes>)>,
    lists: HashMap<ListKey, HashMap<Bytes, (Version, Option<i64>)>>,
    bytes: usize,
}

/// A command and the slot that decides which server of a cluster it goes to.
pub(crate) struct Op {
    pub(crate) slot: u16,
    pub(crate) cmd: Cmd,
    /// About how long it is, in bytes.
    pub(crate) bytes: usize,
}

/// The scripts of this crate. Redis knows them by their SHA-1.
pub(crate) struct Scripts {
    pub(crate) records: Script,
    pub(crate) members: Script,
    pub(crate) bounded: Script,
    pub(crate) confirm: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            records: Script::new(RECORDS),
            members: Script::new(MEMBERS),
            bounded: Script::new(BOUNDED),
            confirm: Script::new(CONFIRM),
        }
    }
}

/// The sources of all scripts, to load them into a server.
pub(crate) const SOURCES: [&str; 4] = [RECORDS, MEMBERS, BOUNDED, CONFIRM];

const RECORDS: &str = include_str!("records.lua");
const MEMBERS: &str = include_str!("members.lua");
const BOUNDED: &str = include_str!("bounded.lua");
const CONFIRM: &str = include_str!("confirm.lua");

/// What the making of scripts needs to know.
pub(crate) struct Shape {
    pub(crate) keys: Keys,
    pub(crate) scripts: Scripts,
    /// How long tombstones stay, in seconds.
    pub(crate) tombstone_s: u64,
    /// Without a cluster all keys may be in one call.
    pub(crate) cluster: bool,
}

impl Plan {
    pub(crate) fn of(batch: Vec<OnlineWrite>) -> Self {
        let mut plan = Self::default();
        for write in batch {
            match write {
                OnlineWrite::Put { key, value, version } => plan.set_record(key, version, Some(value)),
                OnlineWrite::Delete { key, version } => plan.set_record(key, version, None),
                OnlineWrite::Insert { list, item, version } => {
                    plan.set_member(list, item.member, version, Some(item.score));
                }
                OnlineWrite::Remove { list, member, version } => plan.set_member(list, member, version, None),
            }
        }
        plan
    }

    /// Adds the writes of another plan.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (key, (version, value)) in &other.records {
            self.set_record(key.clone(), *version, value.clone());
        }
        for (list, members) in &other.lists {
            for (member, (version, score)) in members {
                self.set_member(list.clone(), member.clone(), *version, *score);
            }
        }
    }

    /// About how much memory it holds, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many records and members it sets.
    pub(crate) fn len(&self) -> usize {
        self.records.len() + self.lists.values().map(HashMap::len).sum::<usize>()
    }

    fn set_record(&mut self, key: RecordKey, version: Version, value: Option<Bytes>) {
        let len = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        match self.records.get_mut(&key) {
            None => {
                self.bytes += ENTRY_BYTES + key.entity.len() + len(&value);
                self.records.insert(key, (version, value));
            }
            Some(stored) if stored.0 < version => {
                self.bytes = self.bytes + len(&value) - len(&stored.1);
                *stored = (version, value);
            }
            Some(_) => {}
        }
    }

    fn set_member(&mut self, list: ListKey, member: Bytes, version: Version, score: Option<i64>) {
        let view = list.view;
        let list_bytes = ENTRY_BYTES + list.entity.len();
        let members = self.lists.entry(list).or_insert_with(|| {
            self.bytes += list_bytes;
            HashMap::new()
        });
        let stored = members.get(&member).copied();
        if wins(view, stored, version, score) {
            if stored.is_none() {
                self.bytes += ENTRY_BYTES + member.len();
            }
            members.insert(member, (version, score));
        }
    }

    /// The scripts that apply it, of the keys whose slots are wanted.
    pub(crate) fn ops(&self, shape: &Shape, wanted: impl Fn(u16) -> bool) -> Vec<Op> {
        let mut ops = Vec::new();
        self.record_ops(shape, &wanted, &mut ops);
        for (list, members) in &self.lists {
            let names = shape.keys.list(list);
            let slot = if shape.cluster { slot_of(&names.items) } else { 0 };
            if !wanted(slot) {
                continue;
            }
            let bound = bound_of(list.view);
            let members: Vec<_> = members.iter().collect();
            for some in members.chunks(SCRIPT_MEMBERS_MAX) {
                let script = if bound == usize::MAX { &shape.scripts.members } else { &shape.scripts.bounded };
                let mut op = Op::script(slot, script, if bound == usize::MAX { 3 } else { 2 });
                op.arg(&names.items);
                op.arg(&names.states);
                if bound == usize::MAX {
                    op.arg(&names.graves);
                    op.arg(shape.tombstone_s.to_string().as_bytes());
                } else {
                    op.arg(bound.to_string().as_bytes());
                }
                for (member, (version, score)) in some {
                    op.arg(member);
                    match score {
                        Some(score) if bound != usize::MAX => op.arg(&descending(*score)),
                        score => op.arg(&stored_member(*version, *score)),
                    }
                }
                ops.push(op);
            }
        }
        ops
    }

    fn record_ops(&self, shape: &Shape, wanted: &impl Fn(u16) -> bool, ops: &mut Vec<Op>) {
        let mut by_slot: BTreeMap<u16, Vec<_>> = BTreeMap::new();
        for (key, (version, value)) in &self.records {
            let name = shape.keys.record(key);
            let slot = if shape.cluster { slot_of(&name) } else { 0 };
            if wanted(slot) {
                by_slot.entry(slot).or_default().push((name, stored_record(*version, value.as_deref())));
            }
        }
        let tombstone_ms = (shape.tombstone_s * 1_000).to_string();
        for (slot, records) in by_slot {
            let mut rest = &records[..];
            while !rest.is_empty() {
                let mut bytes = 0;
                let fits = rest.iter().take(SCRIPT_RECORDS_MAX).take_while(|(name, stored)| {
                    let first = bytes == 0;
                    bytes += name.len() + stored.len();
                    first || bytes <= SCRIPT_BYTES_MAX
                });
                let (some, after) = rest.split_at(fits.count());
                rest = after;
                let mut op = Op::script(slot, &shape.scripts.records, some.len());
                for (name, _) in some {
                    op.arg(name);
                }
                op.arg(tombstone_ms.as_bytes());
                for (_, stored) in some {
                    op.arg(stored);
                }
                ops.push(op);
            }
        }
    }
}

impl Op {
    pub(crate) fn new(slot: u16, name: &str) -> Self {
        Self { slot, cmd: redis::cmd(name), bytes: name.len() }
    }

    /// A command on one key.
    pub(crate) fn on(shape: &Shape, name: &str, key: &[u8]) -> Self {
        let mut op = Self::new(if shape.cluster { slot_of(key) } else { 0 }, name);
        op.arg(key);
        op
    }

    pub(crate) fn script(slot: u16, script: &Script, keys: usize) -> Self {
        let mut op = Self::new(slot, "EVALSHA");
        op.arg(script.get_hash().as_bytes());
        op.arg(keys.to_string().as_bytes());
        op
    }

    pub(crate) fn arg(&mut self, bytes: &[u8]) {
        self.cmd.arg(bytes);
        self.bytes += bytes.len() + 8;
    }
}

#[cfg(test)]
mod tests;
