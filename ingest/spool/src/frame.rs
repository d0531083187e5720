//! How batches stand in a segment.
//!
//! A frame is what one sync made durable: the batches of a group, one after the other, under one checksum. So whatever a
//! power cut leaves of a frame that nobody was told of is one broken frame at the very end, and a broken frame with a whole
//! one behind it is damage.
//!
//! Layout, integers big endian: mark (4 bytes), length of the batches (4), number of the first batch (8), how many (4),
//! checksum of all of this and of the batches (8), the batches. A batch: how many records (4), then per record topic (1),
//! partition (4), log time (8), lengths of key and value (4 + 4), key, value.

use bytes::{Buf, BufMut, Bytes};
use millrace_events::{LogTime, Topic, TopicPartition};
use millrace_log::Append;
use xxhash_rust::xxh3::Xxh3;

/// What every segment begins with: a word, and the number of this layout.
pub(crate) const SEGMENT_HEADER: [u8; 8] = *b"mr-spl\0\x01";
/// What every frame begins with: rare in what people send, so that a look for frames behind a broken one is quick.
const MARK: [u8; 4] = [0xf5, b'M', b'S', 0xfa];
const CHECKED_BYTES: usize = 4 + 4 + 8 + 4;
const HEADER_BYTES: usize = CHECKED_BYTES + 8;
/// What a record costs beside its key and value, and a batch beside its records.
const RECORD_BYTES: usize = 1 + 4 + 8 + 4 + 4;
const BATCH_BYTES: usize = 4;

/// A batch and its number: batches are numbered in the order in which they were taken, from 0, without gaps.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) batch: Vec<Append>,
}

/// What stands at a place of a segment.
#[derive(Debug)]
pub(crate) enum Found {
    /// A whole frame, and where the next one begins.
    Frame { batches: Vec<Numbered>, next: usize },
    /// The segment ends here.
    End,
    /// Something that is no frame.
    Broken,
}

/// How many bytes a batch takes in a frame.
pub(crate) fn bytes_of(batch: &[Append]) -> usize {
    let records = batch.iter().map(|append| RECORD_BYTES + append.key.len() + append.value.len());
    BATCH_BYTES + records.sum::<usize>()
}

/// Appends a frame with these batches, the first of which has the number `first`.
///
/// `None`, and nothing is appended, when they are more than a frame can count: groups are bounded far below that.
pub(crate) fn write<'a>(to: &mut Vec<u8>, first: u64, batches: impl Iterator<Item = &'a [Append]>) -> Option<u32> {
    let start = to.len();
    to.resize(start + HEADER_BYTES, 0);
    let mut count = 0_u32;
    for batch in batches {
        to.put_u32(u32::try_from(batch.len()).ok()?);
        batch.iter().try_for_each(|append| record(to, append))?;
        count += 1;
    }
    let bytes = u32::try_from(to.len() - start - HEADER_BYTES).ok()?;
    let mut header = &mut to[start..start + HEADER_BYTES];
    header.put_slice(&MARK);
    header.put_u32(bytes);
    header.put_u64(first);
    header.put_u32(count);
    let check = checksum(&to[start..start + CHECKED_BYTES], &to[start + HEADER_BYTES..]);
    to[start + CHECKED_BYTES..start + HEADER_BYTES].copy_from_slice(&check.to_be_bytes());
    Some(count)
}

fn record(to: &mut Vec<u8>, append: &Append) -> Option<()> {
    to.put_u8(append.to.topic as u8);
    to.put_u32(append.to.partition);
    to.put_i64(append.time.0);
    to.put_u32(u32::try_from(append.key.len()).ok()?);
    to.put_u32(u32::try_from(append.value.len()).ok()?);
    to.put_slice(&append.key);
    to.put_slice(&append.value);
    Some(())
}

/// Reads what stands at `at`. The batches share the bytes of the segment.
pub(crate) fn read(segment: &Bytes, at: usize) -> Found {
    if at >= segment.len() {
        return Found::End;
    }
    match frame(segment, at) {
        Some((batches, next)) => Found::Frame { batches, next },
        None => Found::Broken,
    }
}

/// True when a whole frame begins somewhere from `at` on.
pub(crate) fn any_from(segment: &Bytes, at: usize) -> bool {
    let rest = segment.get(at..).unwrap_or_default();
    let marks = rest.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    marks.into_iter().any(|(place, _)| frame(segment, at + place).is_some())
}

fn frame(segment: &Bytes, at: usize) -> Option<(Vec<Numbered>, usize)> {
    let header = segment.get(at..at.checked_add(HEADER_BYTES)?)?;
    let checked = &header[..CHECKED_BYTES];
    let mut fields = header.strip_prefix(&MARK)?;
    let bytes = fields.get_u32() as usize;
    let (first, count, check) = (fields.get_u64(), fields.get_u32(), fields.get_u64());
    let start = at + HEADER_BYTES;
    let next = start.checked_add(bytes)?;
    if checksum(checked, segment.get(start..next)?) != check {
        return None;
    }
    let mut rest = segment.slice(start..next);
    let mut batches = Vec::new();
    for nth in 0..count {
        batches.push(Numbered { number: first.checked_add(u64::from(nth))?, batch: batch(&mut rest)? });
    }
    rest.is_empty().then_some((batches, next))
}

fn batch(rest: &mut Bytes) -> Option<Vec<Append>> {
    let count = rest.try_get_u32().ok()?;
    let mut batch = Vec::new();
    for _ in 0..count {
        let topic = rest.try_get_u8().ok()?;
        let topic = Topic::ALL.into_iter().find(|known| *known as u8 == topic)?;
        let to = TopicPartition::new(topic, rest.try_get_u32().ok()?);
        let time = LogTime(rest.try_get_i64().ok()?);
        let (key, value) = (rest.try_get_u32().ok()? as usize, rest.try_get_u32().ok()? as usize);
        if rest.len() < key.checked_add(value)? {
            return None;
        }
        batch.push(Append { to, time, key: rest.split_to(key), value: rest.split_to(value) });
    }
    Some(batch)
}

fn checksum(header: &[u8], body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(header);
    hasher.update(body);
    hasher.digest()
}

#[cfg(test)]
mod tests;
