//! An object store of the newer library, for libraries that know the older one.
//!
//! No release of deltalake and DataFusion has the `object_store` that everything else here uses. Both versions say the same, so
//! this only passes on. A client of the older version was the alternative: another set of timeouts, retries and certificates.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use millrace_objects::object_store as next;
use next::path::Path as NextPath;
use next::{MultipartUpload as _, ObjectStore as _};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UpdateVersion,
    UploadPart,
};

/// A store behind it.
#[derive(Debug)]
pub(crate) struct Remote(pub(crate) Arc<dyn next::ObjectStore>);

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[async_trait]
impl ObjectStore for Remote {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        plain(opts.attributes.is_empty() && opts.tags.encoded().is_empty())?;
        let mode = match opts.mode {
            PutMode::Overwrite => next::PutMode::Overwrite,
            PutMode::Create => next::PutMode::Create,
            PutMode::Update(UpdateVersion { e_tag, version }) => {
                next::PutMode::Update(next::UpdateVersion { e_tag, version })
            }
        };
        put(self.0.put_opts(&forth(location)?, pieces(payload), mode.into()).await)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        plain(opts.attributes.is_empty() && opts.tags.encoded().is_empty())?;
        let options = next::PutMultipartOptions::default();
        let upload = self.0.put_multipart_opts(&forth(location)?, options).await.map_err(error)?;
        Ok(Box::new(Upload(upload)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let options = next::GetOptions {
            if_match: options.if_match,
            if_none_match: options.if_none_match,
            if_modified_since: options.if_modified_since,
            if_unmodified_since: options.if_unmodified_since,
            range: options.range.map(|range| match range {
                GetRange::Bounded(range) => next::GetRange::Bounded(range),
                GetRange::Offset(from) => next::GetRange::Offset(from),
                GetRange::Suffix(last) => next::GetRange::Suffix(last),
            }),
            version: options.version,
            head: options.head,
            ..next::GetOptions::default()
        };
        let got = self.0.get_opts(&forth(location)?, options).await.map_err(error)?;
        let (meta, range) = (meta(got.meta.clone())?, got.range.clone());
        let payload = GetResultPayload::Stream(got.into_stream().map_err(error).boxed());
        Ok(GetResult { payload, meta, range, attributes: Default::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(&forth(location)?, ranges).await.map_err(error)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let generic = |error| next::Error::Generic { store: "remote", source: Box::new(error) };
        let locations = locations.map(move |location| location.and_then(|at| forth(&at)).map_err(generic)).boxed();
        self.0.delete_stream(locations).map(|deleted| back(&deleted.map_err(error)?)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match prefix.map(forth).transpose() {
            Ok(prefix) => self.0.list(prefix.as_ref()).map(|found| meta(found.map_err(error)?)).boxed(),
            Err(failed) => futures::stream::once(async { Err(failed) }).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match prefix.map(forth).transpose().and_then(|prefix| Ok((prefix, forth(offset)?))) {
            Ok((prefix, offset)) => {
                let found = self.0.list_with_offset(prefix.as_ref(), &offset);
                found.map(|found| meta(found.map_err(error)?)).boxed()
            }
            Err(failed) => futures::stream::once(async { Err(failed) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.0.list_with_delimiter(prefix.map(forth).transpose()?.as_ref()).await.map_err(error)?;
        Ok(ListResult {
            common_prefixes: listed.common_prefixes.iter().map(back).collect::<Result<_>>()?,
            objects: listed.objects.into_iter().map(meta).collect::<Result<_>>()?,
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mode = match options.mode {
            CopyMode::Overwrite => next::CopyMode::Overwrite,
            CopyMode::Create => next::CopyMode::Create,
        };
        let options = next::CopyOptions { mode, ..next::CopyOptions::default() };
        self.0.copy_opts(&forth(from)?, &forth(to)?, options).await.map_err(error)
    }
}

#[derive(Debug)]
struct Upload(Box<dyn next::MultipartUpload>);

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.0.put_part(pieces(data));
        Box::pin(async move { part.await.map_err(error) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        put(self.0.complete().await)
    }

    async fn abort(&mut self) -> Result<()> {
        self.0.abort().await.map_err(error)
    }
}

fn pieces(payload: PutPayload) -> next::PutPayload {
    payload.into_iter().collect()
}

fn put(done: next::Result<next::PutResult>) -> Result<PutResult> {
    let done = done.map_err(error)?;
    Ok(PutResult { e_tag: done.e_tag, version: done.version })
}

fn forth(path: &Path) -> Result<NextPath> {
    NextPath::parse(path.as_ref()).map_err(|failed| generic(Box::new(failed)))
}

fn back(path: &NextPath) -> Result<Path> {
    Ok(Path::parse(path.as_ref())?)
}

fn meta(found: next::ObjectMeta) -> Result<ObjectMeta> {
    Ok(ObjectMeta {
        location: back(&found.location)?,
        last_modified: found.last_modified,
        size: found.size,
        e_tag: found.e_tag,
        version: found.version,
    })
}

/// Nothing here asks for more than bytes; what would be lost on the way is refused.
fn plain(is: bool) -> Result<()> {
    if is {
        return Ok(());
    }
    Err(Error::NotSupported { source: "attributes and tags are not passed on".into() })
}

/// What callers tell apart stays apart.
fn error(error: next::Error) -> Error {
    match error {
        next::Error::NotFound { path, source } => Error::NotFound { path, source },
        next::Error::AlreadyExists { path, source } => Error::AlreadyExists { path, source },
        next::Error::Precondition { path, source } => Error::Precondition { path, source },
        next::Error::NotModified { path, source } => Error::NotModified { path, source },
        next::Error::NotSupported { source } => Error::NotSupported { source },
        next::Error::PermissionDenied { path, source } => Error::PermissionDenied { path, source },
        next::Error::Unauthenticated { path, source } => Error::Unauthenticated { path, source },
        other => generic(Box::new(other)),
    }
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic { store: "object store", source }
}

#[cfg(test)]
mod tests;
