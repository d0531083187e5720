//! Values that expire: two generations of keys, of which the older goes whole.
//!
//! What is written goes into the present generation, after what the one before holds of it was copied. So a value
//! that nobody has written for a whole generation is in neither of the two, and expiry is the removal of everything
//! under one prefix, a few keys at a time: no list of what is due, no reading of values. Why generations and not
//! periods of time: the clock of a partition can leap by years, and no source is bound to be in the same period as
//! the others.

use prost::encoding::{decode_varint, encode_varint};

use crate::Result;
use crate::state::{State, StateKey, StateValue};

/// How many keys of a generation that went are deleted at a time.
const SWEEP_KEYS: usize = 1_024;

/// Two generations of keys in one table of the state.
#[derive(Clone, Copy, Debug)]
pub struct Generations {
    /// The table.
    pub table: u8,
    /// A generation lasts at least this long, seconds...
    pub width_s: i64,
    /// ...and for at least so many steps. Only committed keys can be removed by prefix, so there have to be more than
    /// records between two commits.
    pub steps_min: u64,
}

/// Which generation it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Its number.
    pub now: u64,
    /// The second and the step from which on it lasts.
    began: Option<(i64, u64)>,
    /// The last key deleted of the one before the one before; empty at first.
    sweeping: Option<Vec<u8>>,
}

impl Generations {
    /// The value of `id` to change.
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn entry<'a, T: StateValue + Default + Clone>(
        &self,
        state: &'a mut State,
        turn: u64,
        id: &[u8],
    ) -> Result<&'a mut T> {
        let key = self.key(turn, id);
        if turn > 0
            && !state.contains::<T>(&key)?
            && let Some(before) = state.get::<T>(&self.key(turn - 1, id))?.cloned()
        {
            state.put(&key, before);
        }
        state.entry::<T>(&key)
    }

    /// The value of `id`.
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn get<'a, T: StateValue>(&self, state: &'a mut State, turn: u64, id: &[u8]) -> Result<Option<&'a T>> {
        let key = self.key(turn, id);
        if turn == 0 || state.contains::<T>(&key)? { state.get(&key) } else { state.get(&self.key(turn - 1, id)) }
    }

    /// Begins a new generation when the present one has lasted long enough: what was written before it began is then
    /// out of date, `newest` included, the newest second that was written about. It can be ahead of the clock.
    pub fn turn(&self, turn: &mut Turn, second: i64, newest: i64, step: u64) {
        let (since, steps) = *turn.began.get_or_insert((second.max(newest), step));
        let is_over = second.saturating_sub(since) >= self.width_s && step - steps >= self.steps_min;
        if !is_over || turn.sweeping.is_some() {
            return;
        }
        turn.now += 1;
        turn.began = Some((second.max(newest), step));
        turn.sweeping = (turn.now >= 2).then(Vec::new);
    }

    /// Deletes a few keys of the generation that nobody reads any more.
    ///
    /// # Errors
    /// When state cannot be read.
    pub fn sweep(&self, state: &mut State, turn: &mut Turn) -> Result<()> {
        let Some(after) = &turn.sweeping else { return Ok(()) };
        let last = state.remove_prefix(&self.key(turn.now.saturating_sub(2), &[]), after, SWEEP_KEYS)?;
        turn.sweeping = last.map(|key| key.to_vec());
        Ok(())
    }

    fn key(&self, turn: u64, id: &[u8]) -> StateKey {
        StateKey::new(self.table).number(turn).last(id)
    }
}

impl Turn {
    /// Reads what [`Turn::encode`] wrote.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut take = || decode_varint(bytes).ok();
        let (now, has_begun) = (take()?, take()?);
        let (second, step) = (take()?.cast_signed(), take()?);
        let sweeping = match take()? {
            0 => None,
            length => {
                let (key, rest) = bytes.split_at_checked(usize::try_from(length - 1).ok()?)?;
                *bytes = rest;
                Some(key.to_vec())
            }
        };
        Some(Self { now, began: (has_begun == 1).then_some((second, step)), sweeping })
    }

    /// Writes it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (second, step) = self.began.unwrap_or_default();
        [self.now, u64::from(self.began.is_some()), second.cast_unsigned(), step]
            .iter()
            .for_each(|n| encode_varint(*n, out));
        encode_varint(self.sweeping.as_ref().map_or(0, |key| key.len() as u64 + 1), out);
        out.extend_from_slice(self.sweeping.as_deref().unwrap_or_default());
    }
}
