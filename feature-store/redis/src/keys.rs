//! The bytes in Redis: names of keys, slots of the cluster, and stored values.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `<prefix>r:<view>:<entity>` | string | a record: flag, version, value |
//! | `<prefix>l:{<view>:<entity>}` | sorted set, all scores 0 | the items of a list: descending score, member |
//! | `<prefix>v:{<view>:<entity>}` | hash by member | version and descending score, or version alone: removed; of a bounded list the score alone |
//! | `<prefix>t:{<view>:<entity>}` | sorted set | when members were removed, in seconds, to forget them one day |
//! | `<prefix>epoch:{<number>}` | string | a guard: see `guard` |
//!
//! Scores are bytes within the member because those of a sorted set are doubles: exact up to 2^53 only. The three keys of a
//! list share a hash tag, so that a script may touch all of them. Braces in entities are escaped: whoever chooses ids must
//! not choose slots.

use bytes::Bytes;
use millrace_feature_store::online::{ListKey, RecordKey, Version};

/// How many slots a cluster has.
pub(crate) const SLOTS: u16 = 16_384;

/// The flag and the version: what a record begins with.
pub(crate) const HEADER_BYTES: usize = 1 + VERSION_BYTES;
/// Generation and offset, big-endian.
pub(crate) const VERSION_BYTES: usize = 12;
/// A score, of which the lesser bytes are the higher score.
pub(crate) const SCORE_BYTES: usize = 8;

const ALIVE: u8 = 0;
const TOMBSTONE: u8 = 1;

/// Makes names of keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: String,
}

/// The keys of a list.
pub(crate) struct ListNames {
    pub(crate) items: Vec<u8>,
    pub(crate) states: Vec<u8>,
    pub(crate) graves: Vec<u8>,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(crate) fn record(&self, key: &RecordKey) -> Vec<u8> {
        self.name("r:", key.view, &key.entity, "")
    }

    pub(crate) fn items(&self, list: &ListKey) -> Vec<u8> {
        self.name("l:{", list.view, &list.entity, "}")
    }

    pub(crate) fn list(&self, list: &ListKey) -> ListNames {
        let name = |kind| self.name(kind, list.view, &list.entity, "}");
        ListNames { items: name("l:{"), states: name("v:{"), graves: name("t:{") }
    }

    pub(crate) fn guard(&self, tag: u32) -> Vec<u8> {
        format!("{}epoch:{{{tag}}}", self.prefix).into_bytes()
    }

    /// A pattern of `SCAN` for all records.
    pub(crate) fn records_pattern(&self) -> String {
        format!("{}r:*", self.literal())
    }

    /// A pattern of `SCAN` for the items of all lists.
    pub(crate) fn items_pattern(&self) -> String {
        format!("{}l:*", self.literal())
    }

    /// Patterns of `SCAN` for whatever is content, or belongs to it.
    pub(crate) fn content_pattern(&self) -> String {
        format!("{}[rlvt]:*", self.literal())
    }

    pub(crate) fn read_record(&self, name: &[u8]) -> Option<RecordKey> {
        let (view, entity) = self.read(name, b"r:", b"")?;
        Some(RecordKey { view, entity })
    }

    pub(crate) fn read_items(&self, name: &[u8]) -> Option<ListKey> {
        let (view, entity) = self.read(name, b"l:{", b"}")?;
        Some(ListKey { view, entity })
    }

    fn name(&self, kind: &str, view: u8, entity: &[u8], end: &str) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.prefix.len() + kind.len() + 4 + entity.len() + end.len());
        name.extend_from_slice(self.prefix.as_bytes());
        name.extend_from_slice(kind.as_bytes());
        name.extend_from_slice(view.to_string().as_bytes());
        name.push(b':');
        for &byte in entity {
            match byte {
                b'{' => name.extend_from_slice(b"%7b"),
                b'}' => name.extend_from_slice(b"%7d"),
                b'%' => name.extend_from_slice(b"%25"),
                _ => name.push(byte),
            }
        }
        name.extend_from_slice(end.as_bytes());
        name
    }

    fn read(&self, name: &[u8], kind: &[u8], end: &[u8]) -> Option<(u8, Bytes)> {
        let rest = name.strip_prefix(self.prefix.as_bytes())?.strip_prefix(kind)?.strip_suffix(end)?;
        let colon = rest.iter().position(|byte| *byte == b':')?;
        let view = std::str::from_utf8(&rest[..colon]).ok()?.parse().ok()?;
        let mut entity = Vec::with_capacity(rest.len() - colon);
        let mut rest = &rest[colon + 1..];
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if byte != b'%' {
                entity.push(byte);
                continue;
            }
            let (escaped, after) = rest.split_at_checked(2)?;
            entity.push(match escaped {
                b"7b" => b'{',
                b"7d" => b'}',
                b"25" => b'%',
                _ => return None,
            });
            rest = after;
        }
        Some((view, entity.into()))
    }

    /// The prefix for a pattern, in which some characters have a meaning.
    fn literal(&self) -> String {
        self.prefix.chars().flat_map(|c| if "*?[]\\^-".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
    }
}

/// The slot of a key: CRC16 (XMODEM) of its hash tag, or of all of it when it has none.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').map(|close| &rest[..close])
    });
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    hashed.iter().fold(0, |crc, byte| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)]) % SLOTS
}

static CRC16: [u16; 256] = crc16_table();

const fn crc16_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// What is stored for a record.
pub(crate) fn stored_record(version: Version, value: Option<&[u8]>) -> Vec<u8> {
    let mut stored = Vec::with_capacity(HEADER_BYTES + value.map_or(0, <[u8]>::len));
    stored.push(if value.is_some() { ALIVE } else { TOMBSTONE });
    put_version(&mut stored, version);
    stored.extend_from_slice(value.unwrap_or_default());
    stored
}

/// The value of a stored record, `None` for a tombstone; an error when it is none of ours.
pub(crate) fn read_record(stored: Vec<u8>) -> Result<Option<Bytes>, Garbage> {
    match stored.first() {
        Some(&ALIVE) if stored.len() >= HEADER_BYTES => Ok(Some(Bytes::from(stored).slice(HEADER_BYTES..))),
        Some(&TOMBSTONE) if stored.len() == HEADER_BYTES => Ok(None),
        _ => Err(Garbage),
    }
}

/// What is stored for a member of a list: with its score, or without because it was removed.
pub(crate) fn stored_member(version: Version, score: Option<i64>) -> Vec<u8> {
    let mut stored = Vec::with_capacity(VERSION_BYTES + SCORE_BYTES);
    put_version(&mut stored, version);
    if let Some(score) = score {
        stored.extend_from_slice(&descending(score));
    }
    stored
}

/// An item as it stands in its sorted set.
pub(crate) fn stored_item(score: i64, member: &[u8]) -> Vec<u8> {
    [&descending(score), member].concat()
}

/// The score and the member of a stored item.
pub(crate) fn read_item(stored: Vec<u8>) -> Result<(i64, Bytes), Garbage> {
    let score = stored.first_chunk().ok_or(Garbage)?;
    let score = (!u64::from_be_bytes(*score) ^ (1 << 63)).cast_signed();
    Ok((score, Bytes::from(stored).slice(SCORE_BYTES..)))
}

/// A score as bytes whose ascending order is descending score.
pub(crate) fn descending(score: i64) -> [u8; SCORE_BYTES] {
    (!(score.cast_unsigned() ^ (1 << 63))).to_be_bytes()
}

fn put_version(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(&version.generation.to_be_bytes());
    out.extend_from_slice(&version.offset.to_be_bytes());
}

/// Stored bytes that this crate did not write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Garbage;

#[cfg(test)]
mod tests;
