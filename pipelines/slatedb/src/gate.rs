//! The way of one opening to the object store, which can be shut: whatever goes on for it in the background then ends.
//!
//! SlateDB has no handle that stops its tasks without waiting for the object store, and tasks of an owner that was given up
//! must neither go on for ever nor write any more.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use slatedb::object_store::path::Path;
use slatedb::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// An object store for as long as it is not shut. Clones share that.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    store: Arc<dyn ObjectStore>,
    shut: Arc<AtomicBool>,
}

impl Gate {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, shut: Arc::default() }
    }

    /// Lets nothing through any more. What is on its way already may arrive.
    pub(crate) fn shut(&self) {
        self.shut.store(true, Ordering::Release);
    }

    fn store(&self) -> Result<&Arc<dyn ObjectStore>> {
        if self.shut.load(Ordering::Acquire) {
            // Of all errors one that is not tried again.
            return Err(Error::NotSupported { source: "this opening of the partition was given up".into() });
        }
        Ok(&self.store)
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.store()?.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.store()?.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.store()?.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.store()?.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let gate = self.clone();
        let locations = locations.and_then(move |path| {
            let open = gate.store().map(|_| path);
            async move { open }
        });
        self.store.delete_stream(locations.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.store() {
            Ok(store) => store.list(prefix),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.store() {
            Ok(store) => store.list_with_offset(prefix, offset),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store()?.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store()?.copy_opts(from, to, options).await
    }
}
