//! The buckets of write keys. There are as many as keys have been made, by people, so the table needs no bound of its own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bucket::{Bucket, Meter, Verdict};

/// Buckets by the name of the key.
pub(crate) struct Keys {
    requests: Option<Meter>,
    events: Option<Meter>,
    buckets: Mutex<HashMap<String, Buckets>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Buckets {
    requests: Bucket,
    events: Bucket,
}

impl Keys {
    pub(crate) fn new(requests: Option<Meter>, events: Option<Meter>) -> Self {
        Self { requests, events, buckets: Mutex::default() }
    }

    /// What the buckets of `source` say, without taking anything.
    pub(crate) fn look(&self, source: &str, now_ns: u64) -> [Option<Verdict>; 2] {
        let buckets = self.buckets().get(source).copied().unwrap_or_default();
        self.say(&buckets, now_ns)
    }

    /// Takes a request of so many events when both buckets let it in, and nothing when one does not.
    pub(crate) fn take(&self, source: &str, events: u32, now_ns: u64) -> [Option<Verdict>; 2] {
        let mut all = self.buckets();
        if !all.contains_key(source) {
            all.insert(source.to_owned(), Buckets::default());
        }
        let Some(buckets) = all.get_mut(source) else { return [None; 2] };
        let verdicts = self.say(buckets, now_ns);
        if verdicts.iter().flatten().any(|verdict| !verdict.is_let_in()) {
            return verdicts;
        }
        [
            self.requests.map(|meter| meter.take(&mut buckets.requests, 1, now_ns)),
            self.events.map(|meter| meter.take(&mut buckets.events, events, now_ns)),
        ]
    }

    fn say(&self, buckets: &Buckets, now_ns: u64) -> [Option<Verdict>; 2] {
        [
            self.requests.map(|meter| meter.look(buckets.requests, now_ns)),
            self.events.map(|meter| meter.look(buckets.events, now_ns)),
        ]
    }

    fn buckets(&self) -> MutexGuard<'_, HashMap<String, Buckets>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
