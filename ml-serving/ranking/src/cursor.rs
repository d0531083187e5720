//! Cursors: where a reader goes on, in the reader's own hands.
//!
//! Order moves between two pages: scores change with every like, and new posts push old ones out of the head of a list.
//! So a home cursor does not say where in a moving order the reader was; it carries the rest of the order itself, as
//! fixed when the first page was served. Each entry names a post by its place in its author's list (time, and hashes of
//! author and post), from which the next page finds it whatever has arrived since. Nothing is kept on the server, so a
//! cursor survives a restart and works on any machine.
//!
//! A forged cursor gains nothing: it can only name posts of authors whom the viewer follows, and every filter runs again.
//! The checksum covers the owner, so that a cursor used for somebody else, cut or altered is refused and not misread.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use millrace_events::ID_BYTES_MAX;
use millrace_feature_store::ListItem;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{CANDIDATES_MAX, Error, Result};

/// The longest cursor, in characters: 500 entries at their widest fit with room to spare, and usual ones, of posts stamped to
/// the millisecond, stay below the 8 kB that common proxies allow a request line.
const TEXT_MAX: usize = 16 * 1024;

/// The first byte: what kind of cursor, and which version of its layout.
const HOME: u8 = 1;
const AUTHOR: u8 = 2;

/// Times are written in the coarsest of these units, in microseconds, that keeps them exact.
const UNITS: [u64; 3] = [1_000_000, 1_000, 1];

/// The rest of a ranked order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HomeCursor {
    /// The hash that names the slate.
    pub(crate) slate: u64,
    /// The position of the first entry.
    pub(crate) position: usize,
    /// What is still to come, best first.
    pub(crate) rest: Vec<Entry>,
}

/// One post still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// [`author_hash`] of whose list it stands in.
    pub(crate) author: u16,
    /// [`post_hash`] of the post.
    pub(crate) post: u32,
    /// Its score in that list.
    pub(crate) listed_us: i64,
    /// Its score in the slate, in millionths; never above that of the entry before.
    pub(crate) score: u32,
}

/// Narrows down whose list an entry stands in. Two authors of one hash cost a read more, no mistake: the post decides.
pub(crate) fn author_hash(author: &str) -> u16 {
    (xxh3_64(author.as_bytes()) >> 48) as u16
}

/// Tells apart the posts that one author wrote in one microsecond.
pub(crate) fn post_hash(post: &str) -> u32 {
    (xxh3_64(post.as_bytes()) >> 32) as u32
}

impl HomeCursor {
    /// The cursor as text, for `viewer` only.
    pub(crate) fn encode(&self, viewer: &str) -> String {
        let newest = self.rest.iter().map(|e| e.listed_us).max().unwrap_or_default();
        // Exact: the difference of two i64, taken as unsigned, always fits.
        let age = |entry: &Entry| newest.wrapping_sub(entry.listed_us) as u64;
        let unit = UNITS.iter().position(|u| self.rest.iter().all(|e| age(e).is_multiple_of(*u)));
        let unit = unit.unwrap_or(UNITS.len() - 1);
        let mut score = self.rest.first().map_or(0, |e| e.score);

        let mut body = Vec::with_capacity(48 + self.rest.len() * 14);
        body.extend_from_slice(&self.slate.to_le_bytes());
        put_varint(&mut body, self.position as u64);
        put_varint(&mut body, self.rest.len() as u64);
        body.push(unit as u8);
        body.extend_from_slice(&newest.to_le_bytes());
        put_varint(&mut body, u64::from(score));
        for entry in &self.rest {
            put_varint(&mut body, u64::from(score.saturating_sub(entry.score)));
            score = entry.score;
            body.extend_from_slice(&entry.author.to_le_bytes());
            body.extend_from_slice(&entry.post.to_le_bytes());
            put_varint(&mut body, age(entry) / UNITS[unit]);
        }
        seal(HOME, viewer, &body)
    }

    /// Reads what [`HomeCursor::encode`] wrote for the same viewer.
    pub(crate) fn decode(text: &str, viewer: &str) -> Result<Self> {
        let body = open(HOME, viewer, text)?;
        let mut reader = Reader(&body);
        Self::read(&mut reader).filter(|_| reader.0.is_empty()).ok_or_else(invalid)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let slate = u64::from_le_bytes(reader.take()?);
        let position = usize::try_from(reader.varint()?).ok().filter(|p| *p <= CANDIDATES_MAX)?;
        let count = usize::try_from(reader.varint()?).ok().filter(|c| *c <= CANDIDATES_MAX)?;
        let [unit] = reader.take()?;
        let unit = *UNITS.get(usize::from(unit))?;
        let newest = i64::from_le_bytes(reader.take()?);
        let mut score = u32::try_from(reader.varint()?).ok()?;
        let mut rest = Vec::with_capacity(count);
        for _ in 0..count {
            score = score.checked_sub(u32::try_from(reader.varint()?).ok()?)?;
            let author = u16::from_le_bytes(reader.take()?);
            let post = u32::from_le_bytes(reader.take()?);
            let age = reader.varint()?.checked_mul(unit)?;
            rest.push(Entry { author, post, listed_us: newest.wrapping_sub(age as i64), score });
        }
        Some(Self { slate, position, rest })
    }
}

/// The last item of a page of an author's list, as text, for `author` only.
pub(crate) fn encode_author(author: &str, last: &ListItem) -> String {
    let mut body = Vec::with_capacity(8 + last.member.len());
    body.extend_from_slice(&last.score.to_le_bytes());
    body.extend_from_slice(&last.member);
    seal(AUTHOR, author, &body)
}

/// Reads what [`encode_author`] wrote for the same author.
pub(crate) fn decode_author(author: &str, text: &str) -> Result<ListItem> {
    let body = open(AUTHOR, author, text)?;
    let mut reader = Reader(&body);
    let score = i64::from_le_bytes(reader.take().ok_or_else(invalid)?);
    if reader.0.is_empty() || reader.0.len() > ID_BYTES_MAX {
        return Err(invalid());
    }
    Ok(ListItem { score, member: Bytes::copy_from_slice(reader.0) })
}

fn seal(kind: u8, owner: &str, body: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(5 + body.len());
    bytes.push(kind);
    bytes.extend_from_slice(&checksum(kind, owner, body).to_le_bytes());
    bytes.extend_from_slice(body);
    URL_SAFE_NO_PAD.encode(bytes)
}

fn open(kind: u8, owner: &str, text: &str) -> Result<Vec<u8>> {
    if text.len() > TEXT_MAX {
        return Err(invalid());
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
    let mut reader = Reader(&bytes);
    let is_kind = reader.take() == Some([kind]);
    let sum = reader.take().map(u32::from_le_bytes);
    if !is_kind || sum != Some(checksum(kind, owner, reader.0)) {
        return Err(invalid());
    }
    bytes.drain(..5);
    Ok(bytes)
}

fn checksum(kind: u8, owner: &str, body: &[u8]) -> u32 {
    let seed = xxh3_64_with_seed(owner.as_bytes(), u64::from(kind));
    xxh3_64_with_seed(body, seed) as u32
}

fn invalid() -> Error {
    Error::invalid("invalid_cursor", "this cursor was not given for this query; start again without one")
}

/// LEB128: seven bits a byte, least first.
fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
