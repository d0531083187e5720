//! The way of a batch into the database: plan, store, cache, trim.

use bytes::Bytes;
use millrace_embedded::{Batch, Durability, Slice};
use rustc_hash::{FxHashMap, FxHashSet};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Shared, insert, newest_key, read_failed, read_item, read_member, retry, version_of};
use crate::online::keys::{HEADER_BYTES, descending, list_prefix, put_header, record_key};
use crate::online::marks::Marks;
use crate::online::{Error, ErrorKind, ListKey, OnlineWrite, RecordKey, Result, Version, wins};
use crate::views::bound_of;

/// How many items beyond the bound of a list a trim drops at most; the next one goes on.
const TRIM_ITEMS: usize = 1_024;

/// What a batch makes of the store, at most one change for each key.
#[derive(Default)]
struct Plan<'a> {
    records: Vec<RecordChange<'a>>,
    members: Vec<MemberChange>,
    record_at: FxHashMap<Slice, usize>,
    member_at: FxHashMap<Slice, usize>,
}

struct RecordChange<'a> {
    record: &'a RecordKey,
    key: Slice,
    /// That of the last write that won, at first the stored one.
    version: Option<Version>,
    value: Option<&'a Bytes>,
    changed: bool,
    /// In the cache, or looked up: likely to be asked for again.
    warm: bool,
}

struct MemberChange {
    key: Slice,
    /// How much of the key is the list's.
    prefix: usize,
    /// That of the last write that won, at first the stored one; of bounded lists none is stored.
    version: Option<Version>,
    /// The score on disk.
    before: Option<i64>,
    score: Option<i64>,
    changed: bool,
}

impl Shared {
    pub(super) fn write(&self, batch: &[OnlineWrite]) -> Result<()> {
        let mut marks = self.writer();
        let epoch = self.check_epoch();
        marks.check_epoch(epoch);
        let Plan { mut records, mut members, .. } = self.plan(batch, &mut marks)?;
        records.retain(|change| change.changed);
        members.retain(|change| change.changed);
        // Neighbours of a list together, for its head.
        members.sort_unstable_by(|a, b| a.key.cmp(&b.key));

        let (mut writes, warm) = self.writes_of(&records, &members);
        self.raise(&mut marks, &records, &mut writes);
        if !writes.is_empty()
            && let Err(e) = self.embedded.write_as_of(epoch, writes, Durability::Ordered)
        {
            self.forget(&records, &members);
            marks.clear();
            return Err(retry("write a batch to the online store", e));
        }
        if self.embedded.epoch() != epoch {
            self.forget(&records, &members);
            return Err(Error::new(
                ErrorKind::Retry,
                "cannot write a batch to the online store: the database was reopened meanwhile; repeat it",
            ));
        }
        self.cache_records(&records, warm);
        self.cache_members(&members);
        self.trim(&members)?;
        drop(marks);
        Ok(())
    }

    /// Compares each write with what is stored and with the earlier writes of the batch.
    fn plan<'a>(&self, batch: &'a [OnlineWrite], marks: &mut Marks) -> Result<Plan<'a>> {
        let mut plan = Plan::default();
        let mut key = Vec::new();
        for write in batch {
            match write {
                OnlineWrite::Put { key: record, value, version } => {
                    record_key(&mut key, record);
                    self.plan_record(&mut plan, marks, (record, &key), *version, Some(value))?;
                }
                OnlineWrite::Delete { key: record, version } => {
                    record_key(&mut key, record);
                    self.plan_record(&mut plan, marks, (record, &key), *version, None)?;
                }
                OnlineWrite::Insert { list, item, version } => {
                    let prefix = member_key(&mut key, list, &item.member);
                    self.plan_member(&mut plan, &key, prefix, *version, Some(item.score))?;
                }
                OnlineWrite::Remove { list, member, version } => {
                    let prefix = member_key(&mut key, list, member);
                    self.plan_member(&mut plan, &key, prefix, *version, None)?;
                }
            }
        }
        Ok(plan)
    }

    fn plan_record<'a>(
        &self,
        plan: &mut Plan<'a>,
        marks: &mut Marks,
        (record, key): (&'a RecordKey, &[u8]),
        version: Version,
        value: Option<&'a Bytes>,
    ) -> Result<()> {
        let at = match plan.record_at.get(key) {
            Some(&at) => at,
            None => {
                let (stored, warm) = self.stored_record(record, key, version, marks)?;
                let key = Slice::from(key);
                plan.record_at.insert(key.clone(), plan.records.len());
                plan.records.push(RecordChange { record, key, version: stored, value: None, changed: false, warm });
                plan.records.len() - 1
            }
        };
        let change = &mut plan.records[at];
        if change.version.is_none_or(|stored| stored < version) {
            change.version = Some(version);
            change.value = value;
            change.changed = true;
        }
        Ok(())
    }

    fn plan_member(
        &self,
        plan: &mut Plan<'_>,
        key: &[u8],
        prefix: usize,
        version: Version,
        score: Option<i64>,
    ) -> Result<()> {
        let at = match plan.member_at.get(key) {
            Some(&at) => at,
            None => {
                let (stored, before) = self.stored_member(key)?;
                let key = Slice::from(key);
                plan.member_at.insert(key.clone(), plan.members.len());
                let change = MemberChange { key, prefix, version: stored, before, score: before, changed: false };
                plan.members.push(change);
                plan.members.len() - 1
            }
        };
        let change = &mut plan.members[at];
        if wins(change.view(), change.version.map(|stored| (stored, change.score)), version, score) {
            change.version = Some(version);
            change.score = score;
            change.changed = true;
        }
        Ok(())
    }

    /// The stored version of a record, as far as it matters to `version`, and whether the record is warm.
    fn stored_record(
        &self,
        record: &RecordKey,
        key: &[u8],
        version: Version,
        marks: &mut Marks,
    ) -> Result<(Option<Version>, bool)> {
        let newest = || match self.records.get(newest_key(record.view)).map_err(read_failed)? {
            Some(stored) => version_of(&stored),
            None => Ok(None),
        };
        // Also for a cached record, since its new version is going to raise the marks.
        let is_newest = marks.is_newest(record, version, newest)?;
        if let Some(stored) = self.record_cache.get(key) {
            return Ok((version_of(&stored)?, true));
        }
        if is_newest {
            return Ok((None, false));
        }
        match self.records.get(key).map_err(read_failed)? {
            Some(stored) => Ok((version_of(&stored)?, true)),
            None => Ok((None, false)),
        }
    }

    fn stored_member(&self, key: &[u8]) -> Result<(Option<Version>, Option<i64>)> {
        if bound_of(key[0]) != usize::MAX {
            return Ok((None, None));
        }
        match self.members.get(key).map_err(read_failed)? {
            Some(stored) => read_member(&stored).map(|(version, score)| (Some(version), score)),
            None => Ok((None, None)),
        }
    }

    /// The batch for the database, and the new values of the warm records, in their order.
    fn writes_of(&self, records: &[RecordChange<'_>], members: &[MemberChange]) -> (Batch, Vec<Bytes>) {
        let mut writes = Batch::default();
        let mut warm = Vec::new();
        let mut buffer = Vec::new();
        for change in records {
            buffer.clear();
            put_header(&mut buffer, change.version.unwrap_or_default(), change.value.is_some());
            buffer.extend_from_slice(change.value.map_or(&[][..], |value| value));
            writes.put(&self.records, change.key.clone(), &buffer[..]);
            if change.warm {
                warm.push(Bytes::copy_from_slice(&buffer));
            }
        }
        for change in members {
            if change.bound() == usize::MAX {
                buffer.clear();
                put_header(&mut buffer, change.version.unwrap_or_default(), change.score.is_some());
                if let Some(score) = change.score {
                    buffer.extend_from_slice(&score.to_be_bytes());
                }
                writes.put(&self.members, change.key.clone(), &buffer[..]);
            }
            if change.before == change.score {
                continue;
            }
            if let Some(score) = change.before {
                writes.delete(&self.lists, item_key(&mut buffer, change, score));
            }
            if let Some(score) = change.score {
                writes.put(&self.lists, item_key(&mut buffer, change, score), &[][..]);
            }
        }
        (writes, warm)
    }

    /// Notes the versions of a batch before it is stored, and in it the newest of each view for the next start.
    fn raise(&self, marks: &mut Marks, records: &[RecordChange<'_>], writes: &mut Batch) {
        let mut newest: FxHashMap<u8, Version> = FxHashMap::default();
        for change in records {
            if let Some(version) = change.version
                && marks.raise(change.record, version)
            {
                newest.insert(change.record.view, version);
            }
        }
        let mut buffer = Vec::with_capacity(HEADER_BYTES);
        for (view, version) in newest {
            buffer.clear();
            put_header(&mut buffer, version, false);
            writes.put(&self.records, newest_key(view), &buffer[..]);
        }
    }

    fn cache_records(&self, records: &[RecordChange<'_>], warm: Vec<Bytes>) {
        let mut warm = warm.into_iter();
        for change in records {
            match if change.warm { warm.next() } else { None } {
                Some(stored) => insert(&self.record_cache, &change.key, stored),
                // Most new records, like a view of a post, are not asked for soon.
                None => drop(self.record_cache.remove(&change.key[..])),
            }
        }
    }

    fn cache_members(&self, members: &[MemberChange]) {
        for of_list in members.chunk_by(|a, b| a.list() == b.list()) {
            let list = of_list[0].list();
            let bounded = of_list[0].bound() != usize::MAX;
            let head = self.head_cache.get(list).and_then(|head| {
                let changes = of_list.iter().map(|change| (change.member(), change.score));
                // Of a bounded list nothing was read, so the change may be to what the member has surpassed already.
                let news = changes.filter(|(member, score)| !bounded || head.score_of(member) < *score);
                head.apply(&news.collect::<Vec<_>>())
            });
            match head {
                Some(head) => insert(&self.head_cache, list, head),
                None => drop(self.head_cache.remove(list)),
            }
        }
    }

    fn forget(&self, records: &[RecordChange<'_>], members: &[MemberChange]) {
        for change in records {
            self.record_cache.remove(&change.key[..]);
        }
        for change in members {
            self.head_cache.remove(change.list());
        }
    }

    /// Drops what readers no longer see of the bounded lists that the batch made longer, on average once in as many
    /// inserts as the bound: a count for each list would be memory for each viewer.
    fn trim(&self, members: &[MemberChange]) -> Result<()> {
        let mut writes = Batch::default();
        for of_list in members.chunk_by(|a, b| a.list() == b.list()) {
            let (list, bound) = (of_list[0].list(), of_list[0].bound());
            if bound == usize::MAX || !of_list.iter().any(|change| change.starts_trim(bound)) {
                continue;
            }
            let pairs = self.lists.prefix(list, bound + TRIM_ITEMS).map_err(read_failed)?;
            let mut met = FxHashSet::default();
            for (key, _) in &pairs {
                let (_, member) = read_item(&key[list.len()..])?;
                if met.len() == bound || !met.insert(member) {
                    writes.delete(&self.lists, key.clone());
                }
            }
        }
        if writes.is_empty() {
            return Ok(());
        }
        self.embedded.write(writes, Durability::Ordered).map_err(|e| retry("trim a list of the online store", e))
    }
}

impl MemberChange {
    fn view(&self) -> u8 {
        self.key[0]
    }

    fn bound(&self) -> usize {
        bound_of(self.view())
    }

    fn list(&self) -> &[u8] {
        &self.key[..self.prefix]
    }

    fn member(&self) -> &[u8] {
        &self.key[self.prefix..]
    }

    /// True for one in `bound` inserts; which ones cannot be foreseen by who chooses the members.
    fn starts_trim(&self, bound: usize) -> bool {
        let seed = self.version.map_or(0, |version| version.offset);
        xxh3_64_with_seed(&self.key, seed).is_multiple_of(bound as u64)
    }
}

/// Replaces `out` by the key of a member, and answers how much of it is the list's.
fn member_key(out: &mut Vec<u8>, list: &ListKey, member: &[u8]) -> usize {
    list_prefix(out, list);
    let prefix = out.len();
    out.extend_from_slice(member);
    prefix
}

fn item_key(buffer: &mut Vec<u8>, change: &MemberChange, score: i64) -> Slice {
    buffer.clear();
    buffer.extend_from_slice(change.list());
    buffer.extend_from_slice(&descending(score));
    buffer.extend_from_slice(change.member());
    buffer[..].into()
}
