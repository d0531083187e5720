//! What the tests run on: one server and one cluster for all tests of a binary, each test with a prefix of its own; and
//! servers for tests that break theirs.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use millrace_engines::redis::{CLUSTER_URL, CURE, Redis, RedisCluster, URL};
use millrace_redis::{RedisOnlineStore, RedisOptions};

/// The URL of the server that all tests share; without one the test is to end.
pub(crate) fn single() -> Option<String> {
    static SERVER: OnceLock<Option<Mutex<Redis>>> = OnceLock::new();
    if let Ok(url) = std::env::var(URL) {
        return Some(url);
    }
    let server = SERVER.get_or_init(|| Redis::start().map(Mutex::new));
    told(server.as_ref().map(|server| server.lock().unwrap().url()))
}

/// The URL of the cluster that all tests share; without one the test is to end.
pub(crate) fn cluster() -> Option<String> {
    static CLUSTER: OnceLock<Option<RedisCluster>> = OnceLock::new();
    if let Ok(url) = std::env::var(CLUSTER_URL) {
        return Some(url);
    }
    told(CLUSTER.get_or_init(|| RedisCluster::start(0)).as_ref().map(RedisCluster::url))
}

/// A server that the test may break.
pub(crate) fn own(arguments: &[&str]) -> Option<Redis> {
    told(Redis::start_with(arguments))
}

/// A cluster that the test may break.
pub(crate) fn own_cluster(replicas: usize) -> Option<RedisCluster> {
    told(RedisCluster::start(replicas))
}

fn told<T>(engine: Option<T>) -> Option<T> {
    if engine.is_none() {
        millrace_engines::skip("Redis", CURE);
    }
    engine
}

/// An empty store, under a prefix that nobody else has.
pub(crate) fn open(url: &str) -> Arc<RedisOnlineStore> {
    open_with(url, &options())
}

/// A store with these options: with those of another store, as another process would open it.
pub(crate) fn open_with(url: &str, options: &RedisOptions) -> Arc<RedisOnlineStore> {
    RedisOnlineStore::open(url, options.clone()).unwrap()
}

/// Short times, and a prefix of its own.
pub(crate) fn options() -> RedisOptions {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("t{}-{}:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    RedisOptions { prefix, heartbeat: Duration::from_millis(100), ..RedisOptions::default() }
}
