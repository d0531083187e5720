//! What is due when: ids in lists, each list taken out once the clock has reached its time.
//!
//! A list is written in chunks of some kilobytes: however long it grows, adding to it changes only its last chunk, and
//! taking from it reads one chunk at a time. Where chunks end follows from what was added and from nothing else, so commits
//! and restarts do not show.

use millrace_events::{LogTime, Micros};
use prost::encoding::{decode_varint, encode_varint};

use crate::state::{State, StateKey, StateValue};
use crate::{Error, Result};

/// A chunk with this many bytes is full. It bounds what a commit writes again to add one id.
const CHUNK_BYTES: usize = 8 * 1024;

/// Lists of ids by the time they are due, in one table of the state.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    table: u8,
}

/// A list: when it is due, and what for. Lists are taken in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueAt {
    /// The clock at which the list is due, microseconds.
    pub at_us: Micros,
    /// Tells lists of the same time apart.
    pub kind: u8,
}

impl Due {
    /// Lists whose state lives in this table.
    pub const fn new(table: u8) -> Self {
        Self { table }
    }

    /// Adds an id to the end of a list.
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn push(&self, state: &mut State, due: DueAt, id: &str) -> Result<()> {
        let last = last_chunk(state, self.table, due)?;
        let chunk = state.entry::<Ids>(&chunk_key(self.table, due, last))?;
        encode_varint(id.len() as u64, &mut chunk.bytes);
        chunk.bytes.extend_from_slice(id.as_bytes());
        if chunk.bytes.len() >= CHUNK_BYTES {
            next_chunk(state, self.table, due)?;
        }
        Ok(())
    }

    /// Takes out up to `limit` ids of the lists that are due: list by list, each in the order of adding. What is left is
    /// taken by the next call.
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn take(&self, state: &mut State, clock: LogTime, limit: usize) -> Result<Vec<(DueAt, String)>> {
        let mut taken = Vec::new();
        while let Some(list) = first_due(state, self.table, clock)?
            && taken.len() < limit
        {
            let key = chunk_key(self.table, list.due, list.first);
            let mut read = usize::try_from(list.taken).unwrap_or(usize::MAX);
            // The last chunk of a list has nothing in it when the one before was just full.
            let end = match state.get::<Ids>(&key)? {
                Some(chunk) => chunk.take(&mut read, limit - taken.len(), |id| taken.push((list.due, id.to_owned()))),
                None => Some(true),
            };
            match end {
                Some(true) => drop_chunk(state, self.table, list)?,
                Some(false) => set_taken(state, self.table, list.due, read as u64)?,
                None => return Err(Error::corrupt("a chunk of ids that are due", state.of())),
            }
        }
        Ok(taken)
    }

    /// When the first list is due, whether or not that is over.
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn first(&self, state: &mut State) -> Result<Option<Micros>> {
        let lists = state.get::<Lists>(&StateKey::new(self.table))?;
        Ok(lists.and_then(|lists| lists.lists.first()).map(|list| list.due.at_us))
    }

    /// True while a list is there: it has not been taken to its end.
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn is_open(&self, state: &mut State, due: DueAt) -> Result<bool> {
        let lists = state.get::<Lists>(&StateKey::new(self.table))?;
        Ok(lists.is_some_and(|lists| lists.place(due).is_ok()))
    }
}

/// Ids, each with its length before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ids {
    bytes: Vec<u8>,
}

impl Ids {
    /// Hands out up to `limit` ids from `read` on and moves it; true when none is left, `None` when the bytes are not ids.
    fn take(&self, read: &mut usize, limit: usize, mut to: impl FnMut(&str)) -> Option<bool> {
        let mut rest = self.bytes.get(*read..)?;
        for _ in 0..limit {
            if rest.is_empty() {
                break;
            }
            let (id, after) = split_key(rest)?;
            to(std::str::from_utf8(id).ok()?);
            rest = after;
        }
        *read = self.bytes.len() - rest.len();
        Some(rest.is_empty())
    }
}

/// A key with its length before it, and what follows.
pub(super) fn split_key(mut bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
    bytes.split_at_checked(len)
}

impl StateValue for Ids {
    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self { bytes: bytes.to_vec() })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }

    fn weight(&self) -> usize {
        self.bytes.capacity()
    }
}

/// The lists that were begun and not yet taken to their end, in the order in which they are due. There are a handful; only
/// where source partitions are far apart in time, as many as windows lie between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists {
    lists: Vec<List>,
}

/// A list that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) due: DueAt,
    /// The first chunk that is still there.
    pub(super) first: u64,
    /// The chunk that is added to.
    pub(super) last: u64,
    /// How much of it was taken already, in the unit of whoever takes.
    pub(super) taken: u64,
}

impl Lists {
    fn place(&self, due: DueAt) -> std::result::Result<usize, usize> {
        // Nearly always the last ones.
        match self.lists.iter().rposition(|list| list.due <= due) {
            Some(at) if self.lists[at].due == due => Ok(at),
            Some(at) => Err(at + 1),
            None => Err(0),
        }
    }
}

/// The chunk of a list that is added to; begins the list when it is new.
pub(super) fn last_chunk(state: &mut State, table: u8, due: DueAt) -> Result<u64> {
    let key = StateKey::new(table);
    if let Some(lists) = state.get::<Lists>(&key)?
        && let Ok(at) = lists.place(due)
    {
        return Ok(lists.lists[at].last);
    }
    let lists = state.entry::<Lists>(&key)?;
    if let Err(at) = lists.place(due) {
        lists.lists.insert(at, List { due, first: 0, last: 0, taken: 0 });
    }
    Ok(0)
}

/// The last chunk of a list is full: what follows is added to a new one.
pub(super) fn next_chunk(state: &mut State, table: u8, due: DueAt) -> Result<()> {
    change(state, table, due, |list| list.last += 1)
}

/// Notes how much of a list was taken.
pub(super) fn set_taken(state: &mut State, table: u8, due: DueAt, taken: u64) -> Result<()> {
    change(state, table, due, |list| list.taken = taken)
}

/// The first list that the clock has reached.
pub(super) fn first_due(state: &mut State, table: u8, clock: LogTime) -> Result<Option<List>> {
    let lists = state.get::<Lists>(&StateKey::new(table))?;
    Ok(lists.and_then(|lists| lists.lists.first()).filter(|list| list.due.at_us <= clock.0).copied())
}

/// Deletes the first chunk of a list, and the list with its last.
pub(super) fn drop_chunk(state: &mut State, table: u8, list: List) -> Result<()> {
    state.remove(&chunk_key(table, list.due, list.first));
    if list.first < list.last {
        return change(state, table, list.due, |list| {
            list.first += 1;
            list.taken = 0;
        });
    }
    let lists = state.entry::<Lists>(&StateKey::new(table))?;
    lists.lists.retain(|other| other.due != list.due);
    Ok(())
}

fn change(state: &mut State, table: u8, due: DueAt, change: impl FnOnce(&mut List)) -> Result<()> {
    let lists = state.entry::<Lists>(&StateKey::new(table))?;
    if let Ok(at) = lists.place(due) {
        change(&mut lists.lists[at]);
    }
    Ok(())
}

/// The key of a chunk. It is longer than that of the lists, which is the table alone.
pub(super) fn chunk_key(table: u8, due: DueAt, chunk: u64) -> StateKey {
    StateKey::new(table).number(due.at_us.cast_unsigned()).last(&[due.kind]).number(chunk)
}

impl StateValue for Lists {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lists = Vec::with_capacity(bytes.len() / LIST_BYTES);
        for chunk in bytes.chunks(LIST_BYTES) {
            let chunk: &[u8; LIST_BYTES] = chunk.try_into().ok()?;
            let u64_at = |i: usize| chunk[i..i + 8].try_into().map(u64::from_le_bytes).ok();
            let due = DueAt { at_us: u64_at(1)?.cast_signed(), kind: chunk[0] };
            lists.push(List { due, first: u64_at(9)?, last: u64_at(17)?, taken: u64_at(25)? });
        }
        Some(Self { lists })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for list in &self.lists {
            out.push(list.due.kind);
            out.extend_from_slice(&list.due.at_us.to_le_bytes());
            [list.first, list.last, list.taken].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        }
    }

    fn weight(&self) -> usize {
        self.lists.capacity() * size_of::<List>()
    }
}

/// Kind, time, first and last chunk, what was taken.
const LIST_BYTES: usize = 1 + 8 + 3 * 8;
