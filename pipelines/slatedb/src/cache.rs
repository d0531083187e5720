//! The blocks that partitions keep in memory: one bounded cache for all of a store.

use async_trait::async_trait;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use slatedb::db_cache::{CachedEntry, CachedKey, DbCache};

/// What an entry costs beside its content, in bytes: key, slot, counters.
const ENTRY_BYTES: u64 = 128;

/// A block of SlateDB as it comes by default.
const BLOCK_BYTES: u64 = 4096;

pub(crate) struct BlockCache {
    entries: Cache<CachedKey, CachedEntry, ByBytes>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<CachedKey, CachedEntry> for ByBytes {
    fn weight(&self, _key: &CachedKey, value: &CachedEntry) -> u64 {
        value.size() as u64 + ENTRY_BYTES
    }
}

impl BlockCache {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let entries = usize::try_from(bytes_max / (BLOCK_BYTES + ENTRY_BYTES)).unwrap_or(usize::MAX).max(1);
        Self { entries: Cache::with_weighter(entries, bytes_max, ByBytes) }
    }

    /// How many bytes it holds, with what entries cost beside their content.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.weight()
    }

    fn get(&self, key: &CachedKey) -> Result<Option<CachedEntry>, slatedb::Error> {
        Ok(self.entries.get(key))
    }
}

#[async_trait]
impl DbCache for BlockCache {
    async fn get_block(&self, key: &CachedKey) -> Result<Option<CachedEntry>, slatedb::Error> {
        self.get(key)
    }

    async fn get_index(&self, key: &CachedKey) -> Result<Option<CachedEntry>, slatedb::Error> {
        self.get(key)
    }

    async fn get_filter(&self, key: &CachedKey) -> Result<Option<CachedEntry>, slatedb::Error> {
        self.get(key)
    }

    async fn get_stats(&self, key: &CachedKey) -> Result<Option<CachedEntry>, slatedb::Error> {
        self.get(key)
    }

    async fn insert(&self, key: CachedKey, value: CachedEntry) {
        self.entries.insert(key, value);
    }

    async fn remove(&self, key: &CachedKey) {
        self.entries.remove(key);
    }

    fn entry_count(&self) -> u64 {
        self.entries.len() as u64
    }
}
