//! Every bound of the adapter, and what follows from them for SlateDB.

use std::time::Duration;

use slatedb::Settings;
use slatedb::config::{
    CompactionWorkerOptions, CompactorOptions, GarbageCollectorDirectoryOptions, GarbageCollectorOptions,
};

use crate::{Error, Result};

/// How often SlateDB repeats a request that failed, each time after a second at most, before the partition is given up. The
/// client repeats below it too.
const RETRIES_MAX: u32 = 20;

/// How large the tables are that a merge writes, in bytes.
const SST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How state is kept. The defaults are for commits every few seconds on S3.
#[derive(Clone, Debug)]
pub struct SlateOptions {
    /// Which generation of positions the state belongs to: part of every path, so that a new one begins empty.
    pub generation: u32,
    /// How many threads work for all partitions of the store.
    pub threads: usize,
    /// How many bytes of blocks, indexes and filters all partitions of the store keep in memory together.
    pub cache_bytes_max: u64,
    /// How many bytes of one partition's commits stay in memory before they are written as a table of their own; up to four
    /// times as many when the object store is slow.
    pub memtable_bytes_max: usize,
    /// After how many commits they are written as a table anyway: about as many objects a new owner reads before it begins,
    /// after an owner that did not close the partition.
    pub commits_before_table: u64,
    /// After how long a commit is given up. It may still have happened: the partition has to be opened again.
    pub commit_timeout: Duration,
    /// After how long opening a partition, closing it or looking at it from outside is given up.
    pub open_timeout: Duration,
    /// After how long a read is given up.
    pub read_timeout: Duration,
    /// How often an owner looks whether it still is one, and takes over what was compacted. A commit learns of a new owner in
    /// any case.
    pub poll_every: Duration,
    /// How often an owner looks for tables to merge.
    pub compact_every: Duration,
    /// How often an owner removes objects that nothing names any more.
    pub collect_every: Duration,
    /// How old such an object must be. A former owner that reads for longer than this without a commit may miss one.
    pub collect_age_min: Duration,
}

impl Default for SlateOptions {
    fn default() -> Self {
        Self {
            generation: 0,
            threads: 2,
            cache_bytes_max: 64 * 1024 * 1024,
            memtable_bytes_max: 16 * 1024 * 1024,
            commits_before_table: 64,
            commit_timeout: Duration::from_secs(30),
            open_timeout: Duration::from_secs(60),
            read_timeout: Duration::from_secs(30),
            poll_every: Duration::from_secs(30),
            compact_every: Duration::from_secs(60),
            collect_every: Duration::from_secs(1_800),
            collect_age_min: Duration::from_secs(600),
        }
    }
}

impl SlateOptions {
    /// Refuses what SlateDB would panic on, or what would never do anything.
    pub(crate) fn check(&self) -> Result<()> {
        let numbers = [
            ("threads", self.threads as u64),
            ("memtable_bytes_max", self.memtable_bytes_max as u64),
            ("commits_before_table", self.commits_before_table),
        ];
        let times = [
            ("commit_timeout", self.commit_timeout),
            ("open_timeout", self.open_timeout),
            ("read_timeout", self.read_timeout),
            ("poll_every", self.poll_every),
            ("compact_every", self.compact_every),
            ("collect_every", self.collect_every),
        ];
        let zero = numbers.iter().filter(|(_, number)| *number == 0).map(|(name, _)| name);
        match zero.chain(times.iter().filter(|(_, time)| time.is_zero()).map(|(name, _)| name)).next() {
            Some(name) => Err(Error::invalid(format!("{name} of the job state is 0: it must be more"))),
            None => Ok(()),
        }
    }

    /// The settings of a partition's database. `conditional` is false where the object store cannot replace an object only if
    /// it is still the same.
    pub(crate) fn settings(&self, conditional: bool) -> Settings {
        let collect = GarbageCollectorDirectoryOptions {
            interval: Some(self.collect_every),
            min_age: self.collect_age_min,
            dry_run: false,
        };
        Settings {
            // A commit asks for its own flush: a timer would only add requests and waiting.
            flush_interval: None,
            manifest_poll_interval: self.poll_every,
            manifest_update_timeout: self.open_timeout,
            l0_sst_size_bytes: self.memtable_bytes_max,
            max_unflushed_bytes: self.memtable_bytes_max.saturating_mul(4),
            compactor_options: Some(CompactorOptions {
                poll_interval: self.compact_every,
                manifest_update_timeout: self.open_timeout,
                max_concurrent_compactions: 1,
                worker: Some(CompactionWorkerOptions {
                    max_concurrent_compactions: 1,
                    compactions_poll_interval: self.compact_every,
                    max_sst_size: SST_BYTES_MAX,
                    object_store_max_retries: Some(RETRIES_MAX),
                    ..CompactionWorkerOptions::default()
                }),
                object_store_max_retries: Some(RETRIES_MAX),
                ..CompactorOptions::default()
            }),
            garbage_collector_options: Some(GarbageCollectorOptions {
                manifest_options: Some(collect),
                wal_options: Some(collect),
                // A fence that is gone lets a former owner through, however late it comes. They are empty, one per opening.
                wal_fence_options: None,
                compacted_options: Some(collect),
                compactions_options: Some(collect),
                // No partition is a clone of another.
                detach_options: None,
                metric_level: None,
                boundary_files_enabled: conditional,
                object_store_max_retries: Some(RETRIES_MAX),
            }),
            object_store_max_retries: Some(RETRIES_MAX),
            ..Settings::default()
        }
    }
}
