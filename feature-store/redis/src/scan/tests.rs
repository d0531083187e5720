use std::time::Duration;

use millrace_engines::redis::{CURE, Redis, URL};
use millrace_feature_store::OnlineStore;
use millrace_feature_store::online::conformance::{at, delete, insert, put};
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::views::{FOLLOWING, POST, REACTIONS, list, record};

use super::*;
use crate::{RedisOnlineStore, RedisOptions};

/// However small the window: every piece of content once, in order.
#[tokio::test]
async fn a_walk_of_many_windows_has_all_content() {
    let server = if std::env::var_os(URL).is_some() { None } else { Redis::start() };
    let Some(url) = std::env::var(URL).ok().or(server.as_ref().map(Redis::url)) else {
        return millrace_engines::skip("Redis", CURE);
    };
    let prefix = format!("scan{}:", std::process::id());
    let options = RedisOptions { prefix, heartbeat: Duration::from_secs(60), ..RedisOptions::default() };
    let store = RedisOnlineStore::open(&url, options).unwrap();
    let mut batch = Vec::new();
    for i in 0..400 {
        let key = record(POST, &format!("p{}", (i * 7919) % 400));
        batch.push(put(&key, "v", at(1)));
        if i % 3 == 0 {
            batch.push(delete(&key, at(2)));
        }
        batch.push(insert(&list(FOLLOWING, &format!("u{}", i % 90)), i, &format!("m{i}"), at(1)));
        batch.push(insert(&list(REACTIONS, "viewer"), i, &format!("m{i}"), at(1)));
    }
    // Longer than what is read of a list at once.
    for i in 0..2_000 {
        batch.push(insert(&list(FOLLOWING, "u5"), i % 17, &format!("long{}", (i * 7919) % 2_000), at(1)));
    }
    let toy = ToyStore::new();
    toy.write(batch.clone()).await.unwrap();
    store.write(batch).await.unwrap();
    let want = toy.content();
    for (window_bytes, limit) in [(200, 7), (2_000, 64), (10_000, 1), (10_000, 10_000), (WINDOW_BYTES, 50)] {
        let mut walk = Walk::after(None, window_bytes);
        let mut found = Vec::new();
        loop {
            let page = walk.page(&store.shared, limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found.len(), want.len(), "with windows of {window_bytes} bytes and pages of {limit}");
        assert_eq!(found, want, "with windows of {window_bytes} bytes and pages of {limit}");
        for from in [0, 100, 300, want.len() - 1_500] {
            let page = Walk::after(Some(&want[from]), window_bytes).page(&store.shared, 5).await.unwrap();
            assert_eq!(page, want[from + 1..from + 6], "from {from} with windows of {window_bytes} bytes");
        }
    }
    store.clear().await.unwrap();
}
