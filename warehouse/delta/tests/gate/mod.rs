//! An object store between a table and its log: it holds entries back, or loses the answers to them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use millrace_objects::object_store::memory::InMemory;
use millrace_objects::object_store::path::Path;
use millrace_objects::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate {
    store: Arc<InMemory>,
    holding: watch::Sender<bool>,
    held: watch::Sender<bool>,
    loses: AtomicBool,
}

impl Gate {
    pub(crate) fn new(store: Arc<InMemory>) -> Arc<Self> {
        let (holding, held) = (watch::Sender::new(false), watch::Sender::new(false));
        Arc::new(Self { store, holding, held, loses: AtomicBool::new(false) })
    }

    /// Holds entries back from now on, or lets them go.
    pub(crate) fn hold(&self, holding: bool) {
        self.holding.send_replace(holding);
    }

    /// Waits until one is held back.
    pub(crate) async fn held(&self) {
        self.held.subscribe().wait_for(|held| *held).await.unwrap();
    }

    /// From now on a client asks twice for each entry, and hears the second answer; or no longer.
    pub(crate) fn lose_answers(&self, loses: bool) {
        self.loses.store(loses, Ordering::Relaxed);
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gate")
    }
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if !location.as_ref().ends_with(".json") {
            return self.store.put_opts(location, payload, opts).await;
        }
        if *self.holding.borrow() {
            self.held.send_replace(true);
            self.holding.subscribe().wait_for(|holding| !holding).await.unwrap();
        }
        let put = self.store.put_opts(location, payload, opts).await;
        if put.is_ok() && self.loses.load(Ordering::Relaxed) {
            return Err(Error::AlreadyExists {
                path: location.to_string(),
                source: "the first answer was lost".into(),
            });
        }
        put
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.store.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
