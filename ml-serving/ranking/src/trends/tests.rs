use std::sync::Arc;

use millrace_events::{LogTime, Window};
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::views::{self, PostRecord, TrendItem, TrendKind, TrendsRecord};
use millrace_feature_store::{OnlineStore as _, OnlineWrite, RecordKey, Version};
use prost::Message;

use super::Trends;
use crate::{Ranker, RankerOptions};

const PARTITIONS: u32 = 3;

async fn put(store: &ToyStore, key: RecordKey, value: impl Message) {
    let version = Version { generation: 0, offset: 1 };
    store.write(vec![OnlineWrite::Put { key, value: value.encode_to_vec().into(), version }]).await.unwrap();
}

/// Id, score and count of a trend.
type Item<'a> = (&'a str, f64, u64);

/// A store with these lists, of one partition each: the clock and the items.
async fn listed(kind: TrendKind, lists: &[(i64, &[Item<'_>])]) -> (ToyStore, Ranker) {
    let store = ToyStore::new();
    for (partition, (clock_us, items)) in (0..).zip(lists) {
        let item = |&(id, score, count): &Item<'_>| TrendItem { id: id.to_owned(), count, baseline: 0.5, score };
        let record = TrendsRecord { clock_us: *clock_us, items: items.iter().map(item).collect() };
        put(&store, views::trends_key(kind, Window::Hour, partition), record).await;
    }
    let ranker = Ranker::new(Arc::new(store.clone()), PARTITIONS, RankerOptions::default());
    (store, ranker)
}

fn ids(trends: &Trends) -> Vec<&str> {
    trends.items.iter().map(|trend| trend.id.as_str()).collect()
}

#[tokio::test]
async fn lists_of_all_partitions_are_one() {
    let lists: [(i64, &[_]); 3] =
        [(9, &[("b", 7.0, 4), ("a", 2.0, 9)]), (7, &[("d", 2.0, 9), ("c", 2.0, 10)]), (8, &[])];
    let (_, ranker) = listed(TrendKind::Tags, &lists).await;
    let trends = ranker.trending_tags(Window::Hour, 10).await.unwrap();
    assert_eq!(ids(&trends), ["b", "c", "a", "d"]);
    assert_eq!(trends.as_of, Some(LogTime(7)));
    assert_eq!(trends.items.iter().map(|trend| trend.is_rising()).collect::<Vec<_>>(), [true, false, false, false]);
    assert_eq!(ids(&ranker.trending_tags(Window::Hour, 2).await.unwrap()), ["b", "c"]);
    assert!(ranker.trending_tags(Window::Day, 10).await.unwrap().items.is_empty());
    assert!(ranker.trending_posts(Window::Hour, 10).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn there_is_no_time_until_every_partition_has_told_one() {
    let (_, ranker) = listed(TrendKind::Tags, &[(9, &[("a", 7.0, 4)]), (9, &[])]).await;
    let trends = ranker.trending_tags(Window::Hour, 10).await.unwrap();
    assert_eq!((trends.as_of, ids(&trends)), (None, vec!["a"]));
}

#[tokio::test]
async fn posts_that_are_gone_leave_their_place_to_the_next() {
    let rising =
        [("gone", 9.0, 9), ("never", 8.0, 9), ("p", 7.0, 9), ("gone too", 6.0, 9), ("q", 5.0, 9), ("r", 4.0, 9)];
    let (store, ranker) = listed(TrendKind::Posts, &[(9, &rising)]).await;
    for (id, deleted) in [("gone", true), ("p", false), ("gone too", true), ("q", false), ("r", false)] {
        let post = PostRecord { author_id: format!("author of {id}"), deleted, ..PostRecord::default() };
        put(&store, views::record(views::POST, id), post).await;
    }
    for (limit, expected) in [(1, &["p"][..]), (2, &["p", "q"]), (9, &["p", "q", "r"])] {
        let trends = ranker.trending_posts(Window::Hour, limit).await.unwrap();
        assert_eq!(ids(&trends), expected);
        assert!(trends.items.iter().all(|trend| trend.author_id == Some(format!("author of {}", trend.id))));
    }
}
