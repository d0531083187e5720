//! The files of a spool: segments, each named by the number of its first batch, written in order and deleted whole.
//!
//! What was drained is not written down: it is repeated from the beginning of its segment after a crash, and stage 1 drops
//! the repetition. So there is nothing here that two writes must agree on.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind as IoErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millrace_events::LogTime;
use millrace_log::{Error, ErrorKind, Result};

use crate::frame::{self, Found, Numbered, SEGMENT_HEADER};

/// How the names of segments end.
const EXTENSION: &str = "spool";

/// The files. Whoever holds it may wait for the disk.
#[derive(Debug)]
pub(crate) struct Segments {
    dir: PathBuf,
    /// The directory, open to be synced.
    dir_file: File,
    segment_bytes: u64,
    free_bytes_min: u64,
    /// Oldest first.
    list: VecDeque<Segment>,
    /// The last of the list, while it is written to.
    active: Option<File>,
    /// The number of the next batch.
    next: u64,
    /// A write failed, and what it may have left is not cut off yet: nothing may be written behind it.
    torn: bool,
}

/// What is durable in one file.
#[derive(Clone, Copy, Debug)]
struct Segment {
    first: u64,
    /// The number after its last batch.
    next: u64,
    bytes: u64,
}

/// A place in a spool: from here on nothing is in the log yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The first batch of the segment.
    segment: u64,
    /// Where its next frame begins.
    at: u64,
}

/// What an earlier process left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    pub(crate) batches: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest: Option<LogTime>,
    pub(crate) newest: Option<LogTime>,
    /// Bytes of a last write that nobody was told of.
    pub(crate) cut_bytes: u64,
}

impl Segments {
    /// Reads what is in `dir` and cuts off a last write that was never answered.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when something is damaged that was acknowledged; [`ErrorKind::Retry`] when the disk says no.
    pub(crate) fn open(dir: &Path, segment_bytes: u64, free_bytes_min: u64) -> Result<(Self, Leftovers)> {
        let dir_file = File::open(dir).map_err(|e| failed("open", dir, e))?;
        let (list, active) = (VecDeque::new(), None);
        let dir = dir.to_path_buf();
        let mut segments = Self { dir, dir_file, segment_bytes, free_bytes_min, list, active, next: 0, torn: false };
        let leftovers = segments.look_over()?;
        Ok((segments, leftovers))
    }

    fn look_over(&mut self) -> Result<Leftovers> {
        let mut leftovers = Leftovers::default();
        let names = names(&self.dir)?;
        for (nth, first) in names.iter().enumerate() {
            let is_last = nth + 1 == names.len();
            if nth > 0 && *first != self.next {
                let message = format!("batches {} to {first} are missing before it", self.next);
                return Err(self.damaged(*first, &message));
            }
            self.next = *first;
            self.look_into(*first, is_last, &mut leftovers)?;
        }
        Ok(leftovers)
    }

    fn look_into(&mut self, first: u64, is_last: bool, leftovers: &mut Leftovers) -> Result<()> {
        let path = self.path(first);
        let bytes = Bytes::from(fs::read(&path).map_err(|e| failed("read", &path, e))?);
        let mut end = 0;
        if bytes.starts_with(&SEGMENT_HEADER) {
            end = SEGMENT_HEADER.len();
            while let Found::Frame { batches, next } = frame::read(&bytes, end) {
                if batches.first().is_none_or(|batch| batch.number != self.next) {
                    return Err(self.damaged(first, &format!("the frame at byte {end} is not the next one")));
                }
                batches.iter().for_each(|batch| leftovers.count(batch));
                self.next += batches.len() as u64;
                end = next;
            }
        }
        if end < bytes.len() || end == 0 {
            if !is_last || frame::any_from(&bytes, end) {
                return Err(self.damaged(first, &format!("there is no whole frame at byte {end}, but others follow")));
            }
            leftovers.cut_bytes = (bytes.len() - end) as u64;
        }
        self.list.push_back(Segment { first, next: self.next, bytes: end as u64 });
        self.torn = is_last && (end < bytes.len() || self.next == first);
        if self.torn {
            self.cut().map_err(|e| failed("cut the end off", &path, e))?;
        }
        leftovers.bytes = self.bytes();
        Ok(())
    }

    fn damaged(&self, first: u64, why: &str) -> Error {
        let path = self.path(first);
        let message = format!(
            "{} is damaged: {why}. It holds events that were acknowledged, and nothing is left out in silence: check the \
             disk, move this file and those with larger numbers elsewhere, start until the spool is empty, and put back \
             what is whole of them",
            path.display()
        );
        Error::new(ErrorKind::Corrupt, message)
    }

    fn path(&self, first: u64) -> PathBuf {
        self.dir.join(format!("{first:020}.{EXTENSION}"))
    }

    /// How many bytes the files have.
    fn bytes(&self) -> u64 {
        self.list.iter().map(|segment| segment.bytes).sum()
    }

    /// The number of the next batch.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Writes a frame of so many batches, the first of which is [`Segments::next`], and makes it durable. By how many bytes
    /// that made the files larger.
    ///
    /// # Errors
    /// When it is not: nothing of it is there then, or is cut off before anything else is written.
    pub(crate) fn write(&mut self, frame: &[u8], batches: u32) -> io::Result<u64> {
        self.allows(frame.len() as u64)?;
        let written = self.try_write(frame, batches);
        if written.is_err() {
            self.torn = true;
            if let Err(error) = self.cut() {
                tracing::warn!(%error, dir = %self.dir.display(), "what a failed write left in the spool is not cut off yet");
            }
        }
        written
    }

    /// Whether the disk takes so many bytes more: what a failed write left is cut off, and enough is free.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn allows(&mut self, bytes: u64) -> io::Result<()> {
        self.cut()?;
        let disk = rustix::fs::fstatvfs(&self.dir_file)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.free_bytes_min.saturating_add(bytes) {
            let message = format!("only {free} bytes are free on its disk, and {} stay free", self.free_bytes_min);
            return Err(io::Error::new(IoErrorKind::StorageFull, message));
        }
        Ok(())
    }

    fn try_write(&mut self, frame: &[u8], batches: u32) -> io::Result<u64> {
        if self.list.back().is_none_or(|segment| segment.bytes >= self.segment_bytes) {
            self.active = None;
        }
        let is_new = self.active.is_none();
        if is_new {
            self.begin()?;
        }
        let (Some(file), Some(segment)) = (&self.active, self.list.back_mut()) else {
            return Err(io::Error::other("no segment is open"));
        };
        file.write_all_at(frame, segment.bytes)?;
        file.sync_data()?;
        if is_new {
            self.dir_file.sync_all()?;
        }
        segment.bytes += frame.len() as u64;
        segment.next += u64::from(batches);
        self.next = segment.next;
        Ok(frame.len() as u64 + if is_new { SEGMENT_HEADER.len() as u64 } else { 0 })
    }

    /// Begins a segment, which is durable with its first frame.
    fn begin(&mut self) -> io::Result<()> {
        let path = self.path(self.next);
        // One of this name was never answered for: its first write failed.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let bytes = SEGMENT_HEADER.len() as u64;
        self.list.push_back(Segment { first: self.next, next: self.next, bytes });
        file.write_all_at(&SEGMENT_HEADER, 0)?;
        self.active = Some(file);
        Ok(())
    }

    /// Takes back what a failed write may have left: the next frame stands where it would have without it.
    fn cut(&mut self) -> io::Result<()> {
        if !self.torn {
            return Ok(());
        }
        self.active = None;
        if let Some(&Segment { first, next, bytes }) = self.list.back() {
            let path = self.path(first);
            if first == next {
                unlink(&path)?;
                self.list.pop_back();
            } else {
                let file = OpenOptions::new().write(true).open(&path)?;
                file.set_len(bytes)?;
                file.sync_all()?;
            }
            self.dir_file.sync_all()?;
        }
        self.torn = false;
        Ok(())
    }

    /// Where reading begins.
    pub(crate) fn start(&self) -> Place {
        let segment = self.list.front().map_or(self.next, |segment| segment.first);
        Place { segment, at: SEGMENT_HEADER.len() as u64 }
    }

    /// The durable part of a segment from `place` on, at least a frame of it, or of the next one when there is no more in
    /// this; where it begins, and its file. `None` at the end.
    pub(crate) fn from(&self, place: Place) -> Option<(Place, u64, PathBuf)> {
        let later = |segment: &&Segment| {
            segment.first > place.segment || (segment.first == place.segment && segment.bytes > place.at)
        };
        let segment = self.list.iter().find(later)?;
        let at = if segment.first == place.segment { place.at } else { SEGMENT_HEADER.len() as u64 };
        (segment.bytes > at).then(|| (Place { segment: segment.first, at }, segment.bytes, self.path(segment.first)))
    }

    /// Deletes the segments of which every batch has a number below `next`: the log has them. How many bytes they had.
    pub(crate) fn drained(&mut self, next: u64) -> u64 {
        let mut freed = 0;
        while let Some(&Segment { first, next: end, bytes }) = self.list.front() {
            // One that is being made has no batch yet.
            if end > next || first == end {
                break;
            }
            self.list.pop_front();
            if self.list.is_empty() {
                self.active = None;
            }
            let path = self.path(first);
            if let Err(error) = unlink(&path) {
                tracing::warn!(%error, path = %path.display(), "a drained file of the spool stays: it is drained again after a restart");
            }
            freed += bytes;
        }
        // Files that come back in part after a power cut would look like damage.
        if freed > 0
            && let Err(error) = self.dir_file.sync_all()
        {
            tracing::warn!(%error, dir = %self.dir.display(), "the directory of the spool could not be synced");
        }
        freed
    }
}

impl Leftovers {
    fn count(&mut self, Numbered { batch, .. }: &Numbered) {
        self.batches += 1;
        self.events += batch.len() as u64;
        for append in batch {
            self.oldest = Some(self.oldest.unwrap_or(append.time));
            self.newest = self.newest.max(Some(append.time));
        }
    }
}

/// The batches that stand in a file from a place to its durable end, and the place after them.
///
/// # Errors
/// When it cannot be read, or is not what was written.
pub(crate) fn read(place: Place, end: u64, path: &Path) -> io::Result<(Vec<Numbered>, Place)> {
    let file = File::open(path)?;
    let mut bytes = vec![0; usize::try_from(end - place.at).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, place.at)?;
    let (bytes, mut at, mut all) = (Bytes::from(bytes), 0, Vec::new());
    loop {
        match frame::read(&bytes, at) {
            Found::Frame { batches, next } => {
                all.extend(batches);
                at = next;
            }
            Found::End => break,
            Found::Broken => return Err(io::Error::new(IoErrorKind::InvalidData, "it does not hold what was written")),
        }
    }
    Ok((all, Place { segment: place.segment, at: place.at + at as u64 }))
}

/// True when there are files with batches in a directory that may not be there.
pub(crate) fn any(dir: &Path) -> bool {
    names(dir).is_ok_and(|names| !names.is_empty())
}

/// The numbers that segments are named by, in order.
fn names(dir: &Path) -> Result<Vec<u64>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| failed("list", dir, e))? {
        let path = entry.map_err(|e| failed("list", dir, e))?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            names.push(number.ok_or_else(|| {
                let message = format!("{} is not named as a file of a spool is: move it away", path.display());
                Error::new(ErrorKind::Corrupt, message)
            })?);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn unlink(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != IoErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(crate) fn failed(attempted: &str, path: &Path, error: io::Error) -> Error {
    Error::with_source(ErrorKind::Retry, format!("cannot {attempted} {}: {error}", path.display()), error)
}

#[cfg(test)]
mod tests;
