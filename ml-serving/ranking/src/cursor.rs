//! Cursors: where a reader goes on, in the reader's own hands.
//!
//! Order moves between two pages: scores change with every like, and new posts push old ones out of the head of a list.
//! So a home cursor does not say where in a moving order the reader was; it carries the rest of the order itself, as
//! fixed when the first page was served. An entry names a post of a followed author by its place in that author's list (time,
//! and hashes of author and post), from which the next page finds it whatever has arrived since; a stranger's post by its
//! id, because the lists that brought it forget. Nothing is kept on the server, so a cursor survives a restart and works on
//! any machine.
//!
//! A forged cursor gains nothing: it can name posts, which anybody can read by their id, and every filter runs again.
//! The checksum covers the owner, so that a cursor used for somebody else, cut or altered is refused and not misread.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use millrace_events::{ID_BYTES_MAX, check_id};
use millrace_feature_store::ListItem;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::sources::Source;
use crate::{CANDIDATES_MAX, Error, FOLLOWED_CANDIDATES_MAX, Result};

/// The longest cursor, in characters. An order within [`ORDER_BYTES_MAX`] fits also when every entry is at its widest; usual
/// ones, of posts stamped to the millisecond, stay below the 8 kB that common proxies allow a request line.
const TEXT_MAX: usize = 16 * 1024;

/// How many bytes the entries of an order may take, by [`Entry::cost`]: what is ranked behind that is not served. It is as
/// much as the posts of followed authors take by themselves, and holds some 150 strangers' posts with ids of 36 bytes.
pub(crate) const ORDER_BYTES_MAX: usize = LISTED_BYTES * FOLLOWED_CANDIDATES_MAX;
/// About what an entry in an author's list takes.
const LISTED_BYTES: usize = 12;
/// About what an entry takes beside its id.
const NAMED_BYTES: usize = 4;

/// The first byte: what kind of cursor, and which version of its layout.
const HOME: u8 = 3;
const AUTHOR: u8 = 2;
/// Home cursors as they were before strangers' posts were in feeds: entries have no [`Source`].
const HOME_V1: u8 = 1;

/// What says, in the lowest bits beside the difference of scores, which source brought an entry.
const SOURCES: [Source; 3] = [Source::Follows, Source::Trending, Source::Fresh];
const SOURCE_BITS: u32 = 2;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Which.
    pub(crate) post: EntryPost,
    /// Its score in the slate, in millionths; never above that of the entry before.
    pub(crate) score: u32,
}

/// How an entry names its post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryPost {
    /// By its place in the list of an author whom the viewer follows: [`Source::Follows`].
    Listed(Listed),
    /// By its id.
    Named {
        /// What brought it; never [`Source::Follows`].
        source: Source,
        /// Which.
        post_id: String,
    },
}

/// A place in an author's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// [`author_hash`] of whose list it is.
    pub(crate) author: u16,
    /// [`post_hash`] of the post.
    pub(crate) post: u32,
    /// Its score in that list.
    pub(crate) listed_us: i64,
}

impl Entry {
    /// About how many bytes of a cursor it takes. Depends on nothing but the entry, so that an order is cut at the same
    /// place whatever the size of its pages.
    pub(crate) fn cost(&self) -> usize {
        match &self.post {
            EntryPost::Listed(_) => LISTED_BYTES,
            EntryPost::Named { post_id, .. } => NAMED_BYTES + post_id.len(),
        }
    }

    fn source(&self) -> Source {
        match self.post {
            EntryPost::Listed(_) => Source::Follows,
            EntryPost::Named { source, .. } => source,
        }
    }
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
        let listed =
            || self.rest.iter().filter_map(|entry| if let EntryPost::Listed(l) = &entry.post { Some(l) } else { None });
        let newest = listed().map(|l| l.listed_us).max().unwrap_or_default();
        // Exact: the difference of two i64, taken as unsigned, always fits.
        let age = |listed: &Listed| newest.wrapping_sub(listed.listed_us) as u64;
        let unit = UNITS.iter().position(|u| listed().all(|l| age(l).is_multiple_of(*u)));
        let unit = unit.unwrap_or(UNITS.len() - 1);
        let mut score = self.rest.first().map_or(0, |e| e.score);

        let mut body = Vec::with_capacity(48 + self.rest.iter().map(Entry::cost).sum::<usize>());
        body.extend_from_slice(&self.slate.to_le_bytes());
        put_varint(&mut body, self.position as u64);
        put_varint(&mut body, self.rest.len() as u64);
        body.push(unit as u8);
        body.extend_from_slice(&newest.to_le_bytes());
        put_varint(&mut body, u64::from(score));
        for entry in &self.rest {
            let below = u64::from(score.saturating_sub(entry.score));
            put_varint(&mut body, below << SOURCE_BITS | entry.source() as u64);
            score = entry.score;
            match &entry.post {
                EntryPost::Listed(listed) => {
                    body.extend_from_slice(&listed.author.to_le_bytes());
                    body.extend_from_slice(&listed.post.to_le_bytes());
                    put_varint(&mut body, age(listed) / UNITS[unit]);
                }
                EntryPost::Named { post_id, .. } => {
                    put_varint(&mut body, post_id.len() as u64);
                    body.extend_from_slice(post_id.as_bytes());
                }
            }
        }
        seal(HOME, viewer, &body)
    }

    /// Reads what [`HomeCursor::encode`] wrote for the same viewer, now or in an earlier version.
    pub(crate) fn decode(text: &str, viewer: &str) -> Result<Self> {
        let (kind, body) = open(&[HOME, HOME_V1], viewer, text)?;
        let mut reader = Reader(&body);
        Self::read(&mut reader, kind).filter(|_| reader.0.is_empty()).ok_or_else(invalid)
    }

    fn read(reader: &mut Reader<'_>, kind: u8) -> Option<Self> {
        let slate = u64::from_le_bytes(reader.take()?);
        let position = usize::try_from(reader.varint()?).ok().filter(|p| *p <= CANDIDATES_MAX)?;
        let count = usize::try_from(reader.varint()?).ok().filter(|c| *c <= CANDIDATES_MAX)?;
        let [unit] = reader.take()?;
        let unit = *UNITS.get(usize::from(unit))?;
        let newest = i64::from_le_bytes(reader.take()?);
        let mut score = u32::try_from(reader.varint()?).ok()?;
        let mut rest = Vec::with_capacity(count);
        for _ in 0..count {
            let step = reader.varint()?;
            let (below, source) = match kind {
                HOME_V1 => (step, Source::Follows),
                _ => (step >> SOURCE_BITS, *SOURCES.get((step & ((1 << SOURCE_BITS) - 1)) as usize)?),
            };
            score = score.checked_sub(u32::try_from(below).ok()?)?;
            let post = match source {
                Source::Follows => {
                    let author = u16::from_le_bytes(reader.take()?);
                    let post = u32::from_le_bytes(reader.take()?);
                    let age = reader.varint()?.checked_mul(unit)?;
                    EntryPost::Listed(Listed { author, post, listed_us: newest.wrapping_sub(age as i64) })
                }
                _ => {
                    let len = usize::try_from(reader.varint()?).ok()?;
                    let post_id = str::from_utf8(reader.bytes(len)?).ok().filter(|id| check_id(id).is_ok())?;
                    EntryPost::Named { source, post_id: post_id.to_owned() }
                }
            };
            rest.push(Entry { post, score });
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
    let (_, body) = open(&[AUTHOR], author, text)?;
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

/// The kind, one of `kinds`, and the body.
fn open(kinds: &[u8], owner: &str, text: &str) -> Result<(u8, Vec<u8>)> {
    if text.len() > TEXT_MAX {
        return Err(invalid());
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
    let mut reader = Reader(&bytes);
    let [kind] = reader.take().ok_or_else(invalid)?;
    let sum = reader.take().map(u32::from_le_bytes);
    if !kinds.contains(&kind) || sum != Some(checksum(kind, owner, reader.0)) {
        return Err(invalid());
    }
    bytes.drain(..5);
    Ok((kind, bytes))
}

fn checksum(kind: u8, owner: &str, body: &[u8]) -> u32 {
    let seed = xxh3_64_with_seed(owner.as_bytes(), u64::from(kind));
    xxh3_64_with_seed(body, seed) as u32
}

fn invalid() -> Error {
    Error::invalid("invalid_cursor", "this cursor was not given for this query; start again without one")
}

/// For fuzzing: cursors made by somebody who knows the checksum.
#[cfg(feature = "testing")]
pub mod testing {
    use super::{AUTHOR, HOME, HOME_V1, HomeCursor, TEXT_MAX, decode_author, encode_author, seal};
    use crate::CANDIDATES_MAX;

    /// `body` as a cursor of each kind for `owner`.
    pub fn sealed_cursors(body: &[u8], owner: &str) -> [String; 3] {
        [HOME, HOME_V1, AUTHOR].map(|kind| seal(kind, owner, body))
    }

    /// Reads `text` as every kind of cursor.
    ///
    /// # Panics
    /// When it is one, and is beyond the bounds of a cursor, or another when it is written and read again.
    pub fn reread_cursor(text: &str, owner: &str) {
        if let Ok(home) = HomeCursor::decode(text, owner) {
            assert!(home.position <= CANDIDATES_MAX && home.rest.len() <= CANDIDATES_MAX, "a cursor is bounded");
            let again = home.encode(owner);
            // Times far apart, which nobody ranks, can make it longer than what is read.
            assert!(
                again.len() > TEXT_MAX || HomeCursor::decode(&again, owner).ok().as_ref() == Some(&home),
                "{home:?}"
            );
        }
        if let Ok(last) = decode_author(owner, text) {
            assert_eq!(decode_author(owner, &encode_author(owner, &last)).ok().as_ref(), Some(&last), "{last:?}");
        }
    }
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

    fn bytes(&mut self, len: usize) -> Option<&[u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
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
