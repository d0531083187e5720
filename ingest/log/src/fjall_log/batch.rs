//! What one commit stores for one partition: a batch of records as one value.
//!
//! A value per batch instead of one per record is what makes an append cheap: the database sees a few large values, and a
//! reader shares the bytes of a batch instead of copying its records out.
//!
//! Layout, integers big endian: format (1 byte), record count (4), log time of the first and of the last record (8 + 8),
//! then per record three LEB128 numbers (key length, value length, log time since the record before it), key and value.
//! The key in the database is the offset of the first record, so offsets are not repeated in the value.

use bytes::Bytes;
use millrace_embedded::Slice;
use millrace_events::LogTime;

use crate::{Error, ErrorKind, Offset, Record, Result};

/// The number of this layout.
const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 1 + 4 + 8 + 8;
/// The longest LEB128 form of a 64-bit number.
const VARINT_BYTES_MAX: usize = 10;
/// What a record costs a reader beside its key and value: bounds a read of records that are empty.
const RECORD_BYTES: usize = 32;
/// A buffer that grew beyond this, for one huge record, is given back after the batch.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// A batch as stored. Clones share the bytes.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// The offset of its first record.
    pub(super) base: Offset,
    /// How many records it holds, at least one.
    pub(super) count: u32,
    /// The log time of its last record.
    pub(super) last_time: LogTime,
    /// The stored value.
    pub(super) bytes: Bytes,
}

impl Batch {
    /// Reads the header of a stored value.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when this is not a batch.
    pub(super) fn parse(base: Offset, value: Slice) -> Result<Self> {
        let header: &[u8; HEADER_BYTES] = value.first_chunk().ok_or_else(|| corrupt(base, "it is too short"))?;
        let [format, c0, c1, c2, c3, _, _, _, _, _, _, _, _, last_time @ ..] = header;
        if *format != FORMAT {
            return Err(corrupt(base, "it has a format that this version does not know"));
        }
        let count = u32::from_be_bytes([*c0, *c1, *c2, *c3]);
        if count == 0 {
            return Err(corrupt(base, "it is empty"));
        }
        let last_time = LogTime(i64::from_be_bytes(*last_time));
        Ok(Self { base, count, last_time, bytes: Bytes::from_owner(value) })
    }

    /// The offset after its last record.
    pub(super) fn end(&self) -> Offset {
        self.base.saturating_add(u64::from(self.count))
    }
}

/// The key of a batch in the database.
pub(super) fn key_of(base: Offset) -> [u8; 8] {
    base.to_be_bytes()
}

/// The offset that a key of the database stands for.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is not the key of a batch.
pub(super) fn base_of(key: &[u8]) -> Result<Offset> {
    let key = key.try_into().map_err(|_| Error::new(ErrorKind::Corrupt, "a key of the log is not an offset"))?;
    Ok(Offset::from_be_bytes(key))
}

/// Collects records into the layout above. Its buffer is used again for every batch.
#[derive(Debug, Default)]
pub(super) struct Builder {
    buffer: Vec<u8>,
    count: u32,
    first_time: LogTime,
    last_time: LogTime,
}

impl Builder {
    /// Adds a record; its log time must not be before that of the record before it.
    pub(super) fn push(&mut self, time: LogTime, key: &[u8], value: &[u8]) {
        if self.count == 0 {
            self.buffer.clear();
            self.buffer.resize(HEADER_BYTES, 0);
            self.first_time = time;
            self.last_time = time;
        }
        self.buffer.reserve(3 * VARINT_BYTES_MAX + key.len() + value.len());
        put_varint(&mut self.buffer, key.len() as u64);
        put_varint(&mut self.buffer, value.len() as u64);
        put_varint(&mut self.buffer, time.0.wrapping_sub(self.last_time.0).cast_unsigned());
        self.buffer.extend_from_slice(key);
        self.buffer.extend_from_slice(value);
        self.count += 1;
        self.last_time = time;
    }

    /// How large the batch is so far.
    pub(super) fn bytes(&self) -> usize {
        if self.count == 0 { 0 } else { self.buffer.len() }
    }

    /// Ends the batch that begins at `base`; `None` when nothing was pushed. The slice is the value to store and shares its
    /// bytes with the batch.
    pub(super) fn finish(&mut self, base: Offset) -> Option<(Batch, Slice)> {
        if self.count == 0 {
            return None;
        }
        let header = &mut self.buffer[..HEADER_BYTES];
        header[0] = FORMAT;
        header[1..5].copy_from_slice(&self.count.to_be_bytes());
        header[5..13].copy_from_slice(&self.first_time.0.to_be_bytes());
        header[13..].copy_from_slice(&self.last_time.0.to_be_bytes());
        let value = Slice::from(self.buffer.as_slice());
        let bytes = Bytes::from_owner(value.clone());
        let batch = Batch { base, count: self.count, last_time: self.last_time, bytes };
        self.reset();
        Some((batch, value))
    }

    /// Forgets what was pushed.
    pub(super) fn reset(&mut self) {
        self.count = 0;
        self.buffer.clear();
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
    }
}

/// The records that one call to `read` takes out of batches.
#[derive(Debug)]
pub(super) struct Taken {
    next: Offset,
    end: Offset,
    bytes_left: usize,
    full: bool,
    records: Vec<Record>,
}

impl Taken {
    /// Nothing yet of the records from `from` to before `end`, at most about `bytes_max` bytes.
    pub(super) fn new(from: Offset, end: Offset, bytes_max: usize) -> Self {
        Self { next: from, end, bytes_left: bytes_max, full: from >= end, records: Vec::new() }
    }

    /// Takes what is wanted of `batch`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the batch does not decode, or does not hold the record wanted next.
    pub(super) fn take(&mut self, batch: &Batch) -> Result<()> {
        if self.full {
            return Ok(());
        }
        if self.next < batch.base || self.next >= batch.end() {
            return Err(corrupt(batch.base, &format!("offset {} should be in it", self.next)));
        }
        let mut cursor = Cursor { base: batch.base, bytes: &batch.bytes, at: HEADER_BYTES };
        let mut time = cursor.first_time()?;
        for offset in batch.base..batch.end() {
            let (key_bytes, value_bytes) = (cursor.length()?, cursor.length()?);
            time = LogTime(time.0.wrapping_add(cursor.varint()?.cast_signed()));
            let (key, value) = (cursor.range(key_bytes)?, cursor.range(value_bytes)?);
            if offset < self.next {
                continue;
            }
            let cost = key_bytes + value_bytes + RECORD_BYTES;
            if offset >= self.end || (cost > self.bytes_left && !self.records.is_empty()) {
                self.full = true;
                return Ok(());
            }
            self.bytes_left = self.bytes_left.saturating_sub(cost);
            self.next = offset + 1;
            let (key, value) = (batch.bytes.slice(key), batch.bytes.slice(value));
            self.records.push(Record { offset, time, key, value });
        }
        if cursor.at != batch.bytes.len() {
            return Err(corrupt(batch.base, "there are bytes after its last record"));
        }
        self.full = self.bytes_left == 0 || self.next >= self.end;
        Ok(())
    }

    /// True when no more is wanted.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// The offset wanted next.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    /// How many bytes are still wanted.
    pub(super) fn bytes_left(&self) -> usize {
        self.bytes_left
    }

    /// What was taken.
    pub(super) fn into_records(self) -> Vec<Record> {
        self.records
    }
}

struct Cursor<'a> {
    base: Offset,
    bytes: &'a Bytes,
    at: usize,
}

impl Cursor<'_> {
    fn first_time(&self) -> Result<LogTime> {
        let time = self.bytes.get(5..13).and_then(|bytes| bytes.first_chunk());
        let time = time.ok_or_else(|| corrupt(self.base, "it is too short"))?;
        Ok(LogTime(i64::from_be_bytes(*time)))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut number = 0;
        for nth in 0..VARINT_BYTES_MAX {
            let Some(&byte) = self.bytes.get(self.at) else { break };
            self.at += 1;
            number |= u64::from(byte & 0x7f) << (7 * nth);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(corrupt(self.base, "it ends inside a number"))
    }

    fn length(&mut self) -> Result<usize> {
        usize::try_from(self.varint()?).map_err(|_| corrupt(self.base, "a length is too large"))
    }

    fn range(&mut self, length: usize) -> Result<std::ops::Range<usize>> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| corrupt(self.base, "it ends inside a record"))?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }
}

fn put_varint(buffer: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        buffer.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    buffer.push(number as u8);
}

fn corrupt(base: Offset, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("cannot read the batch of records at offset {base}: {what}"))
}
