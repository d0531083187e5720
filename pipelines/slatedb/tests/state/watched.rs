//! An object store that counts what it is asked, and that can hold writes back.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use millrace_slatedb::object_store::path::Path;
use millrace_slatedb::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

/// How many requests of each kind there were. Lists cost as much as puts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) puts: u64,
    pub(crate) gets: u64,
    pub(crate) lists: u64,
    pub(crate) deletes: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Watched {
    store: Arc<dyn ObjectStore>,
    puts: AtomicU64,
    gets: AtomicU64,
    lists: AtomicU64,
    deletes: Arc<AtomicU64>,
    /// While it is true, puts wait before they go out.
    holding: watch::Sender<bool>,
    held: watch::Sender<u64>,
}

impl Watched {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self {
            store,
            puts: AtomicU64::default(),
            gets: AtomicU64::default(),
            lists: AtomicU64::default(),
            deletes: Arc::default(),
            holding: watch::Sender::new(false),
            held: watch::Sender::new(0),
        })
    }

    pub(crate) fn requests(&self) -> Requests {
        Requests {
            puts: self.puts.load(Ordering::Relaxed),
            gets: self.gets.load(Ordering::Relaxed),
            lists: self.lists.load(Ordering::Relaxed),
            deletes: self.deletes.load(Ordering::Relaxed),
        }
    }

    /// Holds puts back from now on, or lets them all go.
    #[allow(dead_code, reason = "not every user of this module holds")]
    pub(crate) fn hold(&self, holding: bool) {
        self.holding.send_replace(holding);
    }

    /// Waits until so many puts were held back in all.
    #[allow(dead_code, reason = "as above")]
    pub(crate) async fn held(&self, count: u64) {
        self.held.subscribe().wait_for(|held| *held >= count).await.expect("its sender is here");
    }

    async fn may_put(&self) {
        self.puts.fetch_add(1, Ordering::Relaxed);
        let mut holding = self.holding.subscribe();
        if *holding.borrow() {
            self.held.send_modify(|held| *held += 1);
            holding.wait_for(|holding| !holding).await.expect("its sender is here");
        }
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.may_put().await;
        self.store.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        // Its parts and its end are requests too; a table of ours has one part.
        self.puts.fetch_add(2, Ordering::Relaxed);
        self.may_put().await;
        self.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.store.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.gets.fetch_add(ranges.len() as u64, Ordering::Relaxed);
        self.store.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let deletes = self.deletes.clone();
        let counted = locations.inspect(move |_| {
            deletes.fetch_add(1, Ordering::Relaxed);
        });
        self.store.delete_stream(counted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.store.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.store.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.store.copy_opts(from, to, options).await
    }
}
