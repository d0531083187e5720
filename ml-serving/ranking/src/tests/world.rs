//! A small world, written as pipelines would write it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millrace_events::{ActionKind, PostContent, Topic, TopicPartition, Window, partition_of};
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::views::{
    self, EngagementRecord, IdentityRecord, PostRecord, ProgressRecord, SeenRecord, TrendItem, TrendKind, TrendsRecord,
};
use millrace_feature_store::{ListItem, OnlineStore as _, OnlineWrite, RecordKey, Version};
use prost::Message;

use crate::{HomeQuery, Ranker, RankerOptions, Slate};

pub(crate) const HOUR_US: i64 = 3600 * 1_000_000;
/// The clock of a world that nobody set: 2026-01-01.
pub(crate) const NOW_US: i64 = 1_767_225_600_000_000;
const PARTITIONS: u32 = 2;

pub(crate) struct World {
    store: ToyStore,
    pub(crate) ranker: Ranker,
    writes: u64,
    /// What rises, by partition and window.
    rising: BTreeMap<(u32, Window), Vec<TrendItem>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let mut world = Self::unapplied();
        world.clock(NOW_US).await;
        world
    }

    /// A world of which nothing has been applied.
    pub(crate) fn unapplied() -> Self {
        let store = ToyStore::new();
        let ranker = Ranker::new(Arc::new(store.clone()), PARTITIONS, RankerOptions::default());
        Self { store, ranker, writes: 0, rising: BTreeMap::new() }
    }

    /// What is stored.
    pub(crate) fn store(&self) -> ToyStore {
        self.store.clone()
    }

    fn version(&mut self) -> Version {
        self.writes += 1;
        Version { generation: 0, offset: self.writes }
    }

    async fn put(&mut self, key: RecordKey, value: impl Message) {
        let write = OnlineWrite::Put { key, value: value.encode_to_vec().into(), version: self.version() };
        self.store.write(vec![write]).await.unwrap();
    }

    pub(crate) async fn insert(&mut self, view: u8, of: &str, member: impl Into<Bytes>, score: i64) {
        let item = ListItem { score, member: member.into() };
        let write = OnlineWrite::Insert { list: views::list(view, of), item, version: self.version() };
        self.store.write(vec![write]).await.unwrap();
    }

    pub(crate) async fn remove(&mut self, view: u8, of: &str, member: &str) {
        let member = Bytes::copy_from_slice(member.as_bytes());
        let write = OnlineWrite::Remove { list: views::list(view, of), member, version: self.version() };
        self.store.write(vec![write]).await.unwrap();
    }

    pub(crate) async fn clock(&mut self, clock_us: i64) {
        for topic in Topic::DERIVED {
            for partition in 0..PARTITIONS {
                let key = views::progress_key(TopicPartition::new(topic, partition));
                self.put(key, ProgressRecord { next: 1, clock_us, sources: Vec::new() }).await;
            }
        }
    }

    /// A post in its author's list and with its record.
    pub(crate) async fn post(&mut self, author: &str, id: &str, created_us: i64) {
        self.insert(views::AUTHOR_POSTS, author, id.to_owned(), created_us).await;
        self.record(author, id, created_us, false).await;
    }

    /// The record of a post; an author named so is a robot.
    pub(crate) async fn record(&mut self, author: &str, id: &str, created_us: i64, deleted: bool) {
        let content = PostContent { text: format!("I am {id}"), ..PostContent::default() };
        let post = PostRecord {
            author_id: author.to_owned(),
            created_at_us: created_us,
            edited_at_us: 0,
            deleted,
            content: (!deleted).then_some(content),
            robot: author.starts_with("robot"),
        };
        self.put(views::record(views::POST, id), post).await;
    }

    /// A post among the newest of its partition.
    pub(crate) async fn fresh(&mut self, id: &str, created_us: i64) {
        let list = views::fresh_key(partition_of(id.as_bytes(), PARTITIONS));
        let item = ListItem { score: created_us, member: id.to_owned().into() };
        let write = OnlineWrite::Insert { list, item, version: self.version() };
        self.store.write(vec![write]).await.unwrap();
    }

    /// Posts that rise, each in its partition, beside those that rose before.
    pub(crate) async fn trend(&mut self, window: Window, posts: &[(&str, f64)]) {
        for &(id, score) in posts {
            let partition = partition_of(id.as_bytes(), PARTITIONS);
            let items = self.rising.entry((partition, window)).or_default();
            items.push(TrendItem { id: id.to_owned(), count: 9, baseline: 1.0, score });
            items.sort_by(|a, b| b.score.total_cmp(&a.score));
            let items = items.clone();
            self.put_trends(views::trends_key(TrendKind::Posts, window, partition), items).await;
        }
    }

    pub(crate) async fn put_trends(&mut self, key: RecordKey, items: Vec<TrendItem>) {
        self.put(key, TrendsRecord { clock_us: NOW_US, items }).await;
    }

    pub(crate) async fn engagement(&mut self, id: &str, totals: EngagementRecord) {
        self.put(views::record(views::ENGAGEMENT, id), totals).await;
    }

    pub(crate) async fn seen(&mut self, viewer: &str, id: &str, hidden: bool) {
        self.put(views::seen_key(viewer, id), SeenRecord { hidden }).await;
    }

    pub(crate) async fn relate(&mut self, view: u8, who: &str, whom: &str) {
        self.insert(view, who, whom.to_owned(), NOW_US).await;
    }

    /// An id that belongs to another, as the person's end and its own end keep it.
    pub(crate) async fn link(&mut self, alias: &str, person: &str, at_us: i64) {
        let identity = IdentityRecord { person_id: person.to_owned(), linked_at_us: at_us };
        self.put(views::record(views::IDENTITY, alias), identity).await;
        self.claim(alias, person, at_us).await;
    }

    /// An id that is said to belong to another, at the other's end.
    pub(crate) async fn claim(&mut self, alias: &str, person: &str, at_us: i64) {
        self.insert(views::ALIASES, person, alias.to_owned(), at_us).await;
    }

    /// An edge that was taken back, or was never there.
    pub(crate) async fn undo(&mut self, view: u8, who: &str, whom: &str, at_us: i64) {
        self.insert(views::UNDONE, who, views::undone_member(view, whom), at_us).await;
    }

    pub(crate) async fn react(&mut self, viewer: &str, kind: ActionKind, id: &str) {
        self.insert(views::REACTIONS, viewer, views::reaction_member(kind, id), NOW_US).await;
    }

    pub(crate) async fn home(&self, viewer: &str, limit: usize, cursor: Option<String>) -> Slate {
        let query = HomeQuery { viewer: viewer.to_owned(), limit, cursor, explain: true, record_rate: None };
        self.ranker.home(query).await.unwrap()
    }
}

pub(crate) fn ids(slate: &Slate) -> Vec<&str> {
    slate.items.iter().map(|item| item.post_id.as_str()).collect()
}
