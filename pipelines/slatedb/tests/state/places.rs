//! Where tests keep state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use millrace_engines::minio;
use millrace_events::TopicPartition;
use millrace_objects::Target;
use millrace_pipelines::Result;
use millrace_pipelines::state::conformance::Harness;
use millrace_pipelines::state::{PartitionState, StateStore};
use millrace_slatedb::object_store::ObjectStore;
use millrace_slatedb::object_store::memory::InMemory;
use millrace_slatedb::object_store::prefix::PrefixStore;
use millrace_slatedb::{SlateOptions, SlateStateStore};
use tempfile::TempDir;

/// A client of a prefix in MinIO, for tests that stand between.
pub(crate) fn client() -> Option<Arc<dyn ObjectStore>> {
    let target = Target::parse(&minio::prefix()?).unwrap();
    Some(Arc::new(PrefixStore::new(target.store, target.prefix)))
}

/// An object store that tests share by its handle, or a URL.
#[derive(Clone)]
pub(crate) enum Place {
    Memory(Arc<dyn ObjectStore>),
    Folder(Arc<TempDir>),
    Url(String),
}

impl Place {
    pub(crate) fn memory() -> Self {
        Self::Memory(Arc::new(InMemory::new()))
    }

    pub(crate) fn folder() -> Self {
        Self::Folder(Arc::new(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn minio() -> Option<Self> {
        minio::prefix().map(Self::Url)
    }

    /// As one more process would open it.
    pub(crate) async fn store(&self, options: SlateOptions) -> SlateStateStore {
        match self {
            Self::Memory(store) => SlateStateStore::on(store.clone(), "some/prefix", options).await.unwrap(),
            Self::Folder(folder) => {
                let url = format!("file://{}", folder.path().display());
                SlateStateStore::open(&url, options).await.unwrap()
            }
            Self::Url(url) => SlateStateStore::open(url, options).await.unwrap(),
        }
    }
}

/// One process.
pub(crate) struct One(pub(crate) Place);

#[async_trait]
impl Harness for One {
    async fn store(&self) -> Arc<dyn StateStore> {
        Arc::new(self.0.store(SlateOptions::default()).await)
    }

    async fn reopen(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        drop(store);
        Harness::store(self).await
    }
}

/// Three processes, of which each opening and each look takes the next: no two in a row share memory.
pub(crate) struct Several(pub(crate) Place);

struct Turns {
    stores: Vec<SlateStateStore>,
    turn: AtomicU64,
}

impl Turns {
    fn next(&self) -> &SlateStateStore {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.stores[usize::try_from(turn).unwrap() % self.stores.len()]
    }
}

#[async_trait]
impl StateStore for Turns {
    async fn open(&self, of: TopicPartition) -> Result<Box<dyn PartitionState>> {
        self.next().open(of).await
    }

    async fn peek(&self, of: TopicPartition, after: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        self.next().peek(of, after, limit).await
    }
}

#[async_trait]
impl Harness for Several {
    async fn store(&self) -> Arc<dyn StateStore> {
        let mut stores = Vec::new();
        for _ in 0..3 {
            stores.push(self.0.store(SlateOptions::default()).await);
        }
        Arc::new(Turns { stores, turn: AtomicU64::default() })
    }

    async fn reopen(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        drop(store);
        Harness::store(self).await
    }
}
