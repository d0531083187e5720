//! An object store on local disk that has stored what it says it has stored.
//!
//! `object_store`'s own [`LocalFileSystem`] syncs nothing: after a power cut a renamed file may be empty. Reading and listing
//! are left to it; writing is done here.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// What stands between the name of a file and the number of an attempt to write it. [`LocalFileSystem`] never lists such
/// names.
const ATTEMPT: char = '#';

/// The files below a directory, with durable writes.
///
/// A put writes a file beside its destination, syncs it, gives it its name and syncs the directory, so a name stands for the
/// whole content or nothing, at any moment, also after a power cut. Deletes are not synced: what comes back was garbage.
#[derive(Debug)]
pub(crate) struct DurableStore {
    files: LocalFileSystem,
    attempts: Arc<AtomicU64>,
}

impl DurableStore {
    /// The directory must be there.
    pub(crate) fn new(dir: &FsPath) -> Result<Self> {
        Ok(Self { files: LocalFileSystem::new_with_prefix(dir)?, attempts: Arc::default() })
    }

    /// Deletes what interrupted puts left below `dir`. Nobody may be writing there.
    pub(crate) fn clean(dir: &FsPath) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                Self::clean(&path)?;
            } else if is_attempt(&path) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn attempt(&self, location: &Path) -> Result<Attempt> {
        let destination = self.files.path_to_filesystem(location)?;
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        Attempt::begin(destination, number).map_err(generic)
    }
}

impl fmt::Display for DurableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("durable local disk")
    }
}

/// A file that does not have its name yet. Dropped without it, it is deleted.
#[derive(Debug)]
struct Attempt {
    file: Arc<File>,
    path: PathBuf,
    destination: PathBuf,
    named: bool,
}

impl Attempt {
    fn begin(destination: PathBuf, number: u64) -> io::Result<Self> {
        let mut name = destination.clone().into_os_string();
        name.push(format!("{ATTEMPT}{number}"));
        let path = PathBuf::from(name);
        let create = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = match create() {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                create_dirs(parent(&path))?;
                create()?
            }
            other => other?,
        };
        Ok(Self { file: Arc::new(file), path, destination, named: false })
    }

    /// Makes the content durable, then gives it its name, then makes that durable.
    fn finish(mut self, mode: &PutMode) -> Result<PutResult> {
        self.file.sync_all().map_err(generic)?;
        match mode {
            PutMode::Create => fs::hard_link(&self.path, &self.destination).map_err(|e| self.already(e))?,
            PutMode::Overwrite => fs::rename(&self.path, &self.destination).map_err(generic)?,
            PutMode::Update(_) => return Err(unsupported("an update of a version")),
        }
        self.named = matches!(mode, PutMode::Overwrite);
        sync_dir(parent(&self.destination)).map_err(generic)?;
        Ok(PutResult { e_tag: None, version: None })
    }

    fn already(&self, error: io::Error) -> Error {
        if error.kind() == ErrorKind::AlreadyExists {
            return Error::AlreadyExists { path: self.destination.display().to_string(), source: Box::new(error) };
        }
        generic(error)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.named {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "an unfinished file stays until the next open");
        }
    }
}

/// Parts of known order, written where they belong as they come.
#[derive(Debug)]
struct Upload {
    attempt: Option<Arc<Attempt>>,
    end: u64,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let attempt = self.attempt.clone();
        let mut at = self.end;
        self.end += data.content_length() as u64;
        Box::pin(blocking(move || {
            let attempt = attempt.ok_or_else(|| unsupported("a part after the end"))?;
            for piece in &data {
                attempt.file.write_all_at(piece, at).map_err(generic)?;
                at += piece.len() as u64;
            }
            Ok(())
        }))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let attempt = self.attempt.take().and_then(Arc::into_inner);
        let attempt = attempt.ok_or_else(|| unsupported("an end before all parts are written"))?;
        blocking(move || attempt.finish(&PutMode::Overwrite)).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.attempt = None;
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for DurableStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        if !opts.attributes.is_empty() {
            return Err(unsupported("attributes"));
        }
        let files = (self.files.path_to_filesystem(location)?, self.attempts.fetch_add(1, Ordering::Relaxed));
        blocking(move || {
            let attempt = Attempt::begin(files.0, files.1).map_err(generic)?;
            payload.iter().try_for_each(|piece| attempt.file.as_ref().write_all(piece)).map_err(generic)?;
            attempt.finish(&opts.mode)
        })
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload { attempt: Some(Arc::new(self.attempt(location)?)), end: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.files.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        sorted(self.files.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        let from = self.files.path_to_filesystem(from)?;
        let to = self.attempt(to)?;
        blocking(move || {
            let mut from = File::open(&from).map_err(|e| not_found(e, &from))?;
            io::copy(&mut from, &mut to.file.as_ref()).map_err(generic)?;
            to.finish(&mode).map(drop)
        })
        .await
    }
}

/// By name, as every remote object store lists: deltalake relies on it, and a directory has no order.
fn sorted(objects: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
    let listed = async move {
        let mut listed: Vec<ObjectMeta> = objects.try_collect().await?;
        listed.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok::<_, Error>(stream::iter(listed.into_iter().map(Ok)))
    };
    stream::once(listed).try_flatten().boxed()
}

/// Creates a directory, and what is missing above it, durably.
pub(crate) fn create_dirs(dir: &FsPath) -> io::Result<()> {
    match fs::create_dir(dir) {
        Ok(()) => sync_dir(parent(dir)),
        // Whoever made it may have been killed before its name was durable.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => sync_dir(parent(dir)),
        Err(e) if e.kind() == ErrorKind::NotFound && dir.parent().is_some() => {
            create_dirs(parent(dir))?;
            create_dirs(dir)
        }
        Err(e) => Err(e),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &FsPath) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn parent(path: &FsPath) -> &FsPath {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => FsPath::new("."),
    }
}

fn is_attempt(path: &FsPath) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let number = name.and_then(|name| name.rsplit_once(ATTEMPT)).map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

fn generic(source: io::Error) -> Error {
    Error::Generic { store: "durable local disk", source: Box::new(source) }
}

fn not_found(source: io::Error, path: &FsPath) -> Error {
    if source.kind() == ErrorKind::NotFound {
        return Error::NotFound { path: path.display().to_string(), source: Box::new(source) };
    }
    generic(source)
}

fn unsupported(what: &str) -> Error {
    Error::NotSupported { source: format!("durable local disk does not take {what}").into() }
}

#[cfg(test)]
mod tests;
