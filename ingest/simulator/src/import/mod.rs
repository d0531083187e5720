//! Recorded logs as calls: files in the order given, lines in the order of the file, unless a format says otherwise.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

pub mod gharchive;
mod retime;
pub mod segment;
pub mod stackexchange;

pub use retime::Retime;

/// The longest line that is read. A push with thousands of commits is a few hundred kilobytes.
pub const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A file that cannot be read, or a line in it that is no event.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file could not be opened or read. The import cannot go on.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// One line is not an event. The lines after it still come.
    #[error("{path}:{line}: {reason}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

impl ImportError {
    /// True when only one line is lost.
    pub fn is_one_line(&self) -> bool {
        matches!(self, ImportError::Line { .. })
    }
}

/// The lines of several files, each plain or gzip (told by its first bytes, not by its name).
struct Lines {
    waiting: std::vec::IntoIter<PathBuf>,
    open: Option<OpenFile>,
    buffer: Vec<u8>,
}

struct OpenFile {
    path: PathBuf,
    line: u64,
    reader: Box<dyn BufRead + Send>,
}

/// Where a line stands, for messages about it.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a Path,
    line: u64,
}

impl Place<'_> {
    fn error(&self, reason: impl Into<String>) -> ImportError {
        ImportError::Line { path: self.path.to_owned(), line: self.line, reason: reason.into() }
    }
}

impl Lines {
    fn new(paths: Vec<PathBuf>) -> Self {
        Self { waiting: paths.into_iter(), open: None, buffer: Vec::new() }
    }

    /// The next line that is not blank, without its end, and where it stands; `None` after the last file.
    fn next(&mut self) -> Option<Result<(Place<'_>, &[u8]), ImportError>> {
        loop {
            if self.open.is_none() {
                let path = self.waiting.next()?;
                match open(&path) {
                    Ok(reader) => self.open = Some(OpenFile { path, line: 0, reader }),
                    Err(source) => return Some(Err(ImportError::Read { path, source })),
                }
            }
            let file = self.open.as_mut()?;
            self.buffer.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            match (&mut file.reader).take(limit).read_until(b'\n', &mut self.buffer) {
                Err(source) => {
                    let path = file.path.clone();
                    self.open = None;
                    return Some(Err(ImportError::Read { path, source }));
                }
                Ok(0) => {
                    self.open = None;
                    continue;
                }
                Ok(_) => file.line += 1,
            }
            if self.buffer.len() > LINE_BYTES_MAX && !self.buffer.ends_with(b"\n") {
                if let Err(source) = skip_line(&mut file.reader) {
                    return Some(Err(ImportError::Read { path: file.path.clone(), source }));
                }
                let reason = format!("the line is longer than {LINE_BYTES_MAX} bytes");
                return Some(Err(Place { path: &file.path, line: file.line }.error(reason)));
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        let file = self.open.as_ref()?;
        Some(Ok((Place { path: &file.path, line: file.line }, self.buffer.trim_ascii())))
    }
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
    let mut reader = BufReader::with_capacity(64 * 1024, File::open(path)?);
    if reader.fill_buf()?.starts_with(GZIP_MAGIC) {
        return Ok(Box::new(BufReader::with_capacity(64 * 1024, MultiGzDecoder::new(reader))));
    }
    Ok(Box::new(reader))
}

fn skip_line(reader: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(());
        }
        let end = chunk.iter().position(|&b| b == b'\n');
        let used = end.map_or(chunk.len(), |at| at + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
