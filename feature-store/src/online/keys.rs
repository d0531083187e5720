//! The bytes on disk: keys whose order is the order of [`OnlineStore::scan`](super::OnlineStore::scan), and headers.

use super::{ListKey, RecordKey, Version};

/// A version and whether the rest is there: what every stored value begins with.
pub(super) const HEADER_BYTES: usize = 13;

const ALIVE: u8 = 0;
const TOMBSTONE: u8 = 1;

/// A zero inside an entity is followed by this byte, the end of an entity is zero and `END`. Unlike a length in front,
/// this keeps the order of entities of different length, and no list is a prefix of another.
const INSIDE: u8 = 0xff;
const END: u8 = 0;

/// Replaces `out` by the key of a record.
pub(super) fn record_key(out: &mut Vec<u8>, key: &RecordKey) {
    out.clear();
    out.push(key.view);
    out.extend_from_slice(&key.entity);
}

/// The record with this key.
pub(super) fn read_record_key(key: &[u8]) -> Option<RecordKey> {
    let (&view, entity) = key.split_first()?;
    Some(RecordKey { view, entity: entity.to_vec().into() })
}

/// Replaces `out` by what the keys of all members of a list begin with.
pub(super) fn list_prefix(out: &mut Vec<u8>, list: &ListKey) {
    out.clear();
    out.push(list.view);
    for (i, part) in list.entity.split(|byte| *byte == 0).enumerate() {
        if i > 0 {
            out.extend_from_slice(&[0, INSIDE]);
        }
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&[0, END]);
}

/// The list that this key of a member, or of a list's item, belongs to, and the length of its prefix.
pub(super) fn read_list_prefix(key: &[u8]) -> Option<(ListKey, usize)> {
    let (&view, rest) = key.split_first()?;
    let mut entity = Vec::new();
    let mut at = 0;
    loop {
        let zero = at + rest.get(at..)?.iter().position(|byte| *byte == 0)?;
        entity.extend_from_slice(&rest[at..zero]);
        at = zero + 2;
        match *rest.get(zero + 1)? {
            INSIDE => entity.push(0),
            END => return Some((ListKey { view, entity: entity.into() }, 1 + at)),
            _ => return None,
        }
    }
}

/// The first key after all that begin with `prefix`, which comes from [`list_prefix`].
pub(super) fn after_list(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = END + 1;
    }
    end
}

/// A score as bytes whose ascending order is descending score.
pub(super) fn descending(score: i64) -> [u8; 8] {
    (!(score.cast_unsigned() ^ (1 << 63))).to_be_bytes()
}

/// The score in bytes from [`descending`].
pub(super) fn read_descending(bytes: &[u8]) -> Option<i64> {
    Some((!u64::from_be_bytes(bytes.try_into().ok()?) ^ (1 << 63)).cast_signed())
}

/// Appends a header.
pub(super) fn put_header(out: &mut Vec<u8>, version: Version, alive: bool) {
    out.push(if alive { ALIVE } else { TOMBSTONE });
    out.extend_from_slice(&version.generation.to_be_bytes());
    out.extend_from_slice(&version.offset.to_be_bytes());
}

/// The version, and the value unless it is a tombstone.
pub(super) fn read_header(stored: &[u8]) -> Option<(Version, Option<&[u8]>)> {
    let (header, value) = stored.split_at_checked(HEADER_BYTES)?;
    let generation = u32::from_be_bytes(header[1..5].try_into().ok()?);
    let offset = u64::from_be_bytes(header[5..].try_into().ok()?);
    match header[0] {
        ALIVE => Some((Version { generation, offset }, Some(value))),
        TOMBSTONE => Some((Version { generation, offset }, None)),
        _ => None,
    }
}
