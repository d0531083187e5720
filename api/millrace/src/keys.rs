//! The keys of this process at one moment, and what it remembers of their use.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_catalog::{
    ApiKey, Catalog, ErrorKind, Expect, HashedKey, KeyKind, KeyUse, Result, Scope, Snapshot, read_record, write_record,
};
use millrace_collector::{self as collector, CoarseClock, Key, KeyHash, LastUse, Scopes};

use crate::config::Config;

/// Of how many names one round writes when their keys were used; the others come in the next.
const NAMES_PER_ROUND_MAX: usize = 1_000;
/// How often it is tried to write a use while others write the same one.
const ATTEMPTS_MAX: u32 = 3;
/// What somebody else has written in this time is good enough: not each of many processes writes each key.
const GOOD_ENOUGH_MS: i64 = 60_000;

/// Who may send and read at one moment.
#[derive(Debug)]
pub(crate) struct KeySet {
    /// The keys that are taken.
    pub(crate) keys: Vec<Key>,
    /// Any other key may send events too: on the loopback, as long as there has never been one that may.
    pub(crate) any_may_send: bool,
    /// Anybody may read: on the loopback, as long as there is no API token and has never been a key that reads.
    pub(crate) all_may_read: bool,
    /// After how long one of them is taken no longer.
    pub(crate) ends_in: Option<Duration>,
}

impl KeySet {
    /// Puts together what the configuration and the catalog say. What the configuration says comes first.
    pub(crate) fn at(now_ms: i64, config: &Config, catalog: &Snapshot, uses: &Uses) -> Self {
        let is_loopback = config.listen.ip().is_loopback();
        let mut set = Self {
            keys: config.sources.iter().map(|source| Key::write(&source.name, &source.write_key)).collect(),
            any_may_send: is_loopback && config.sources.is_empty(),
            all_may_read: is_loopback && config.api_token.is_none(),
            ends_in: None,
        };
        for record in catalog.records::<ApiKey>() {
            match record {
                Ok(record) => set.take(now_ms, &record, uses),
                Err(error) => {
                    // Nobody knows what it would be for.
                    (set.any_may_send, set.all_may_read) = (false, false);
                    tracing::error!(%error, "a key of the catalog cannot be read and is not taken");
                }
            }
        }
        set
    }

    fn take(&mut self, now_ms: i64, record: &ApiKey, uses: &Uses) {
        let scopes = scopes(record);
        self.any_may_send &= !scopes.allow(collector::Scope::EventsWrite);
        self.all_may_read &= !scopes.reads();
        for HashedKey { id, hash } in record.taken(now_ms) {
            let used = uses.of(&record.name, id);
            let hash = KeyHash::new(hash.0);
            self.keys.push(Key { name: record.name.as_str().into(), hash, scopes, used });
        }
        let ends_ms = record.old.iter().map(|old| old.taken_until_ms - now_ms).filter(|&left_ms| left_ms > 0).min();
        let ends_in = ends_ms.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
        self.ends_in = [self.ends_in, ends_in].into_iter().flatten().min();
    }

    /// True when a key lets its holder do this.
    pub(crate) fn any_may(&self, may: impl Fn(Scopes) -> bool) -> bool {
        self.keys.iter().any(|key| may(key.scopes))
    }
}

fn scopes(record: &ApiKey) -> Scopes {
    let scope = |scope: &Scope| match scope {
        Scope::EventsWrite => collector::Scope::EventsWrite,
        Scope::FeedsRead => collector::Scope::FeedsRead,
        Scope::QueriesRead => collector::Scope::QueriesRead,
        Scope::StatusRead => collector::Scope::StatusRead,
        Scope::Admin => collector::Scope::Admin,
    };
    match record.kind {
        KeyKind::Write => Scopes::WRITE,
        KeyKind::Secret => record.scopes.iter().map(scope).collect(),
    }
}

/// When the keys of the catalog were used last, as far as this process has seen.
#[derive(Default)]
pub(crate) struct Uses {
    clock: CoarseClock,
    /// By name and id.
    seen: Mutex<BTreeMap<(String, String), Seen>>,
}

struct Seen {
    used: LastUse,
    /// Up to when the catalog knows.
    told_s: u64,
}

impl Uses {
    /// Moves the clock by which uses are remembered: that of the database.
    pub(crate) fn tell_time(&self, now_ms: i64) {
        self.clock.set(u64::try_from(now_ms / 1_000).unwrap_or(0));
    }

    /// Where the use of a key is remembered: the same for as long as this process runs.
    fn of(&self, name: &str, id: &str) -> LastUse {
        let at = (name.to_owned(), id.to_owned());
        let mut seen = self.seen();
        seen.entry(at).or_insert_with(|| Seen { used: LastUse::by(&self.clock), told_s: 0 }).used.clone()
    }

    /// Writes into the catalog what it does not know, or what is much newer than what it knows; with `exactly`, all of it.
    pub(crate) async fn write(&self, catalog: &dyn Catalog, exactly: bool) {
        for (name, used_s) in self.news() {
            let used_at_ms: BTreeMap<String, i64> = used_s.iter().map(|(id, &at_s)| (id.clone(), ms(at_s))).collect();
            let good_enough_ms = if exactly { 0 } else { GOOD_ENOUGH_MS };
            match write_use(catalog, &name, &used_at_ms, good_enough_ms).await {
                Ok(true) => self.is_told(&name, &used_s),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "when the keys of {name:?} were used last cannot be written");
                    if matches!(error.kind(), ErrorKind::Retry | ErrorKind::Refused) {
                        return;
                    }
                }
            }
        }
    }

    /// By name and id, what the catalog does not know; what it has not been told for longest comes first.
    fn news(&self) -> Vec<(String, BTreeMap<String, u64>)> {
        let mut names = BTreeMap::<String, (u64, BTreeMap<String, u64>)>::new();
        for ((name, id), seen) in &*self.seen() {
            if let Some(at_s) = seen.used.at_s().filter(|&at_s| at_s > seen.told_s) {
                let (told_s, used_s) = names.entry(name.clone()).or_insert((u64::MAX, BTreeMap::new()));
                *told_s = seen.told_s.min(*told_s);
                used_s.insert(id.clone(), at_s);
            }
        }
        let mut news: Vec<_> = names.into_iter().collect();
        news.sort_by_key(|(_, (told_s, _))| *told_s);
        news.truncate(NAMES_PER_ROUND_MAX);
        news.into_iter().map(|(name, (_, used_s))| (name, used_s)).collect()
    }

    fn is_told(&self, name: &str, used_s: &BTreeMap<String, u64>) {
        let mut all = self.seen();
        for (id, &at_s) in used_s {
            if let Some(seen) = all.get_mut(&(name.to_owned(), id.clone())) {
                seen.told_s = at_s;
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<(String, String), Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ms(at_s: u64) -> i64 {
    i64::try_from(at_s).unwrap_or(i64::MAX).saturating_mul(1_000)
}

/// Writes when the keys of a name were used, unless somebody else has written nearly that: false, it is for a later round.
async fn write_use(
    catalog: &dyn Catalog,
    name: &str,
    used_at_ms: &BTreeMap<String, i64>,
    good_enough_ms: i64,
) -> Result<bool> {
    for _ in 0..ATTEMPTS_MAX {
        let (mut known, expect) = match read_record::<KeyUse>(catalog, name).await? {
            Some((known, revision)) => (known, Expect::Revision(revision)),
            None => (KeyUse { name: name.to_owned(), ..KeyUse::default() }, Expect::Absent),
        };
        let behind_ms = |(id, at_ms): (&String, &i64)| at_ms - known.used_at_ms.get(id).copied().unwrap_or(0);
        let behind_ms = used_at_ms.iter().map(behind_ms).max().unwrap_or(0);
        if behind_ms <= good_enough_ms {
            return Ok(behind_ms <= 0);
        }
        known.merge(used_at_ms);
        match write_record(catalog, &known, expect).await {
            Ok(_) => return Ok(true),
            // Another process was faster: look at what it has written.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
