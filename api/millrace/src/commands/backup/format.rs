//! What a backup is on disk: `MANIFEST.json`, written last; `db/`, the records of the database in compressed chunks; and
//! `warehouse/`, its files as they are.
//!
//! A chunk is one zstd frame over records of one space in order of key: the length of the key and of the value (4 bytes
//! each, little endian), key, value. The database's own files would be quicker to copy, but only this is one moment of a
//! database that is being written, and only this can be read by a version that stores differently.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use millrace_log::Offset;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// The number of this format.
pub(crate) const FORMAT: u32 = 1;

/// What is written last, so that a backup without it is none.
pub(crate) const MANIFEST: &str = "MANIFEST.json";

/// The folder of the chunks.
pub(crate) const CHUNKS: &str = "db";

/// The folder of the warehouse's files.
pub(crate) const WAREHOUSE: &str = "warehouse";

/// After so many bytes of records another chunk begins.
pub(crate) const CHUNK_BYTES: u64 = 64 * 1024 * 1024;

/// The largest key or value that is believed, in bytes; the log's batches are the largest there are.
const PART_BYTES_MAX: u32 = 256 * 1024 * 1024;

/// The largest manifest that is believed, in bytes.
const MANIFEST_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// How much is read or hashed at a time, in bytes.
const BUFFER_BYTES: usize = 256 * 1024;

/// Events repeat themselves; more effort makes little smaller and takes time from a server under load.
const COMPRESSION: i32 = 1;

/// What is in a backup, and of which moment.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// The version of the program.
    pub(crate) version: String,
    /// The generation of positions and versions.
    pub(crate) generation: u32,
    /// Partitions of every topic.
    pub(crate) partitions: u32,
    /// When the moment was, RFC 3339, by the machine's clock.
    pub(crate) taken_at: String,
    /// How long the archive stood still for it, microseconds.
    pub(crate) pause_us: u64,
    /// By topic and partition: what the log holds and up to where the jobs have committed.
    pub(crate) offsets: BTreeMap<String, Place>,
    /// The spaces of the database, empty ones included.
    pub(crate) spaces: Vec<String>,
    /// The records of the database, in the order to load them.
    pub(crate) chunks: Vec<Chunk>,
    /// The catalog, when there was one.
    #[serde(default)]
    pub(crate) catalog: Option<Entry>,
    /// The files of the warehouse.
    pub(crate) warehouse: Vec<Entry>,
    /// True: everything above is on disk.
    pub(crate) complete: bool,
}

/// Where a partition stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The oldest offset in the log.
    pub(crate) start: Offset,
    /// One past the newest.
    pub(crate) end: Offset,
    /// The next record that a job applies; absent where no job reads.
    pub(crate) committed: Option<Offset>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Its path within the backup.
    pub(crate) path: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// XXH3-128 of its content, hexadecimal: finds damage, not forgery.
    pub(crate) xxh3: String,
}

/// A file of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// The file.
    #[serde(flatten)]
    pub(crate) file: Entry,
    /// The space they belong to.
    pub(crate) space: String,
    /// How many there are.
    pub(crate) records: u64,
}

impl Manifest {
    /// The manifest of the backup in `dir`, if it is one that this version can restore.
    ///
    /// # Errors
    /// When it is not; the error says why and what to do.
    pub(crate) fn read(dir: &Path, generation: u32) -> anyhow::Result<Self> {
        let path = dir.join(MANIFEST);
        let unfinished = || format!("{} is not a complete backup: it was stopped while it was taken", dir.display());
        ensure!(dir.is_dir(), "there is no backup in {}", dir.display());
        ensure!(path.exists(), "{}, for it has no {MANIFEST}; delete it and restore another", unfinished());
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut text = Vec::new();
        file.take(MANIFEST_BYTES_MAX)
            .read_to_end(&mut text)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let manifest: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is damaged; restore another backup", path.display()))?;
        ensure!(
            manifest.format == FORMAT,
            "{} has format {}, this version reads {FORMAT}: restore it with version {}",
            dir.display(),
            manifest.format,
            manifest.version
        );
        ensure!(manifest.complete, "{}; delete it and restore another", unfinished());
        ensure!(
            manifest.generation == generation,
            "{} is of generation {}, this version continues {generation}: restore it with version {}",
            dir.display(),
            manifest.generation,
            manifest.version
        );
        Ok(manifest)
    }

    /// Writes it, complete, after everything else is on disk.
    ///
    /// # Errors
    /// When the disk says no.
    pub(crate) fn write(mut self, dir: &Path) -> anyhow::Result<Self> {
        self.complete = true;
        let written = dir.join("MANIFEST.json.part");
        let write = || {
            let mut file = BufWriter::new(File::create_new(&written)?);
            serde_json::to_writer_pretty(&mut file, &self)?;
            file.write_all(b"\n")?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            std::fs::rename(&written, dir.join(MANIFEST))?;
            crate::unfinished::sync_dir(dir)
        };
        write().with_context(|| format!("cannot write {MANIFEST} in {}", dir.display()))?;
        Ok(self)
    }

    /// Every file of the backup.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Entry> {
        self.chunks.iter().map(|chunk| &chunk.file).chain(&self.catalog).chain(&self.warehouse)
    }

    /// The size of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files().map(|file| file.bytes).sum()
    }

    /// How many records of the database there are.
    pub(crate) fn records(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.records).sum()
    }
}

impl Entry {
    /// What the file `path` within `dir` is now; it is made durable on the way.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn of(dir: &Path, path: String) -> anyhow::Result<Self> {
        let full = dir.join(&path);
        let read = || {
            let mut file = File::open(&full)?;
            file.sync_all()?;
            let mut hashed = Hashed::new(io::sink());
            let mut buffer = vec![0; BUFFER_BYTES];
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    n => hashed.write_all(&buffer[..n])?,
                }
            }
            io::Result::Ok(hashed)
        };
        let hashed = read().with_context(|| format!("cannot read {}", full.display()))?;
        Ok(Self { path, bytes: hashed.bytes, xxh3: hashed.digest() })
    }

    /// Where it is in the backup `dir`.
    ///
    /// # Errors
    /// When the path leads out of the backup.
    pub(crate) fn within(&self, dir: &Path) -> anyhow::Result<PathBuf> {
        let path = Path::new(&self.path);
        let stays = path.components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(stays && !self.path.is_empty(), "{MANIFEST} is damaged: it names the file {:?}", self.path);
        Ok(dir.join(path))
    }

    /// Compares the file with what the manifest says about it.
    ///
    /// # Errors
    /// When it is not what was written.
    pub(crate) fn check(&self, dir: &Path) -> anyhow::Result<()> {
        let path = self.within(dir)?;
        let found = Self::of(dir, self.path.clone())?;
        ensure!(
            found.bytes == self.bytes,
            "{} is damaged: it has {} bytes instead of {}; restore another backup",
            path.display(),
            found.bytes,
            self.bytes
        );
        ensure!(
            found.xxh3 == self.xxh3,
            "{} is damaged: its content is not what was written; restore another backup",
            path.display()
        );
        Ok(())
    }
}

/// Hashes and counts what goes through.
struct Hashed<W> {
    inner: W,
    hasher: Xxh3,
    bytes: u64,
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Xxh3::new(), bytes: 0 }
    }

    fn digest(&self) -> String {
        format!("{:032x}", self.hasher.digest128())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes one chunk.
pub(crate) struct ChunkWriter {
    path: String,
    space: String,
    out: zstd::Encoder<'static, Hashed<BufWriter<File>>>,
    records: u64,
    raw_bytes: u64,
}

impl ChunkWriter {
    /// Begins the chunk number `number` of the backup in `dir`.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(crate) fn create(dir: &Path, number: usize, space: &str) -> anyhow::Result<Self> {
        let path = format!("{CHUNKS}/{number:06}.zst");
        let make = || {
            let file = File::create_new(dir.join(&path))?;
            zstd::Encoder::new(Hashed::new(BufWriter::with_capacity(BUFFER_BYTES, file)), COMPRESSION)
        };
        let out = make().with_context(|| format!("cannot make {path} in {}", dir.display()))?;
        Ok(Self { path, space: space.to_owned(), out, records: 0, raw_bytes: 0 })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        for part in [key, value] {
            let length = u32::try_from(part.len()).ok().filter(|length| *length <= PART_BYTES_MAX);
            let length = length.with_context(|| format!("a part of a record in {} is too large", self.space))?;
            self.out.write_all(&length.to_le_bytes()).with_context(|| self.failed())?;
        }
        for part in [key, value] {
            self.out.write_all(part).with_context(|| self.failed())?;
        }
        self.records += 1;
        self.raw_bytes += (key.len() + value.len()) as u64;
        Ok(())
    }

    /// Bytes of keys and values so far.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Ends it, durably.
    ///
    /// # Errors
    /// When the disk says no.
    pub(crate) fn finish(self) -> anyhow::Result<Chunk> {
        let failed = self.failed();
        let finish = || {
            let hashed = self.out.finish()?;
            let (bytes, xxh3) = (hashed.bytes, hashed.digest());
            hashed.inner.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            io::Result::Ok(Entry { path: self.path, bytes, xxh3 })
        };
        let file = finish().with_context(|| failed)?;
        Ok(Chunk { file, space: self.space, records: self.records })
    }

    fn failed(&self) -> String {
        format!("cannot write {}", self.path)
    }
}

/// Reads one chunk.
pub(crate) struct ChunkReader<'a> {
    chunk: &'a Chunk,
    input: zstd::Decoder<'static, BufReader<File>>,
    left: u64,
}

impl<'a> ChunkReader<'a> {
    /// Opens a chunk of the backup in `dir`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn open(dir: &Path, chunk: &'a Chunk) -> anyhow::Result<Self> {
        let path = chunk.file.within(dir)?;
        let open = || zstd::Decoder::new(File::open(&path)?);
        let input = open().with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { chunk, input, left: chunk.records })
    }

    /// The next record; `None` after the last one, which must be the end of the file.
    ///
    /// # Errors
    /// When the chunk is not what the manifest says.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<(Vec<u8>, Vec<u8>)>> {
        if self.left == 0 {
            let more = self.input.read(&mut [0]).with_context(|| self.damaged())?;
            ensure!(more == 0, "{}: it holds more records than it should", self.damaged());
            return Ok(None);
        }
        self.left -= 1;
        let (key, value) = (self.length()?, self.length()?);
        Ok(Some((self.part(key)?, self.part(value)?)))
    }

    fn length(&mut self) -> anyhow::Result<u32> {
        let mut length = [0; 4];
        self.input.read_exact(&mut length).with_context(|| self.damaged())?;
        match u32::from_le_bytes(length) {
            length if length <= PART_BYTES_MAX => Ok(length),
            _ => bail!("{}: a record is too large", self.damaged()),
        }
    }

    fn part(&mut self, length: u32) -> anyhow::Result<Vec<u8>> {
        let mut part = vec![0; length as usize];
        self.input.read_exact(&mut part).with_context(|| self.damaged())?;
        Ok(part)
    }

    fn damaged(&self) -> String {
        format!("{} of the backup is damaged", self.chunk.file.path)
    }
}

#[cfg(test)]
mod tests;
