//! What readers see of one partition.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_embedded::{Batch as Writes, Durability, Embedded, Slice, Snapshot, Space};
use millrace_events::TopicPartition;
use tokio::sync::watch;

use super::batch::{Batch, Taken, base_of, key_of};
use super::{space_name, storage};
use crate::{Bounds, Error, ErrorKind, Offset, Record, Result};

/// The most batches fetched from disk at once.
const FETCH_BATCHES_MAX: usize = 64;
/// The most bytes that one read takes, whatever it asks for.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many batches one write of a trim deletes.
const TRIM_BATCHES: usize = 1024;

/// One partition of one topic.
pub(super) struct Partition {
    pub(super) name: TopicPartition,
    pub(super) space: Space,
    tail_bytes_max: usize,
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
    /// Held while trimming: two at once would count each other's deletes.
    trimming: Mutex<()>,
}

/// What waiters wait for.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    end: Offset,
    closed: bool,
}

/// Only what is durable is ever in here.
#[derive(Debug, Default)]
struct State {
    bounds: Bounds,
    /// The newest batches, oldest first, without a gap up to the end.
    tail: VecDeque<Batch>,
    tail_bytes: usize,
}

impl Partition {
    /// The partition as it is on disk.
    pub(super) fn open(name: TopicPartition, space: Space, meta: &Space, tail_bytes_max: usize) -> Result<Self> {
        // The trimmed start is only a hint where to look, so that opening does not walk over what was deleted.
        let hint = match meta.get(start_key(name)).map_err(|e| storage(name, e))? {
            Some(value) => base_of(&value)?,
            None => 0,
        };
        let first = space.keys(Bound::Included(&key_of(hint)), Bound::Unbounded, 1).map_err(|e| storage(name, e))?;
        let start = first.first().map_or(Ok(0), |key| base_of(key))?;
        let mut bounds = Bounds { start, ..Bounds::default() };
        if let Some(last) = newest(name, &space)? {
            bounds.end = last.end();
            bounds.last_time = Some(last.last_time);
        }
        let (progress, _) = watch::channel(Progress { end: bounds.end, closed: false });
        let state = Mutex::new(State { bounds, ..State::default() });
        Ok(Self { name, space, tail_bytes_max, state, progress, trimming: Mutex::default() })
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.state().bounds
    }

    /// The newest batch on disk, published or not.
    pub(super) fn newest(&self) -> Result<Option<Batch>> {
        newest(self.name, &self.space)
    }

    /// The first stored pair at or after `from`.
    pub(super) fn stored_from(&self, from: Offset) -> Result<Option<(Slice, Slice)>> {
        let found = self.space.range(Bound::Included(&key_of(from)), Bound::Unbounded, 1);
        Ok(found.map_err(|e| storage(self.name, e))?.pop())
    }

    /// Makes durable batches visible; they continue at the end.
    pub(super) fn publish(&self, batches: impl Iterator<Item = Batch>) {
        let end = {
            let mut state = self.state();
            for batch in batches {
                debug_assert_eq!(batch.base, state.bounds.end);
                state.bounds.end = batch.end();
                state.bounds.last_time = Some(batch.last_time);
                state.tail_bytes += batch.bytes.len();
                state.tail.push_back(batch);
            }
            while state.tail_bytes > self.tail_bytes_max {
                let Some(oldest) = state.tail.pop_front() else { break };
                state.tail_bytes -= oldest.bytes.len();
            }
            state.bounds.end
        };
        self.progress.send_modify(|progress| progress.end = end);
    }

    /// Makes visible what a failed write turned out to have left on disk, now that it is durable.
    pub(super) fn publish_recovered(&self, newest: &Batch) {
        {
            let mut state = self.state();
            state.bounds.end = newest.end();
            state.bounds.last_time = Some(newest.last_time);
            // The recovered batches are on disk only, so the tail would have a gap.
            state.tail.clear();
            state.tail_bytes = 0;
        }
        self.progress.send_modify(|progress| progress.end = newest.end());
    }

    /// Nothing will be published any more.
    pub(super) fn close(&self) {
        self.progress.send_modify(|progress| progress.closed = true);
    }

    /// Waits until the end lies beyond `from`.
    pub(super) async fn wait(&self, from: Offset) -> Result<()> {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.end > from || progress.closed).await;
        match reached {
            Ok(progress) if progress.end > from => Ok(()),
            _ => Err(Error::new(ErrorKind::Retry, format!("cannot wait for {}: the log is closed", self.name))),
        }
    }

    /// Reads from memory; `None` when the records are on disk only.
    pub(super) fn read_tail(&self, from: Offset, bytes_max: usize) -> Result<Option<Vec<Record>>> {
        let bytes_max = bytes_max.min(READ_BYTES_MAX);
        let (end, batches) = {
            let state = self.state();
            let bounds = self.check(&state, from)?;
            if from == bounds.end {
                return Ok(Some(Vec::new()));
            }
            if state.tail.front().is_none_or(|oldest| from < oldest.base) {
                return Ok(None);
            }
            let first = state.tail.partition_point(|batch| batch.end() <= from);
            // A batch is at least as large as what is read out of it, but the first one may be wanted only from its end.
            let mut enough = bytes_max;
            let mut batches = Vec::new();
            for (nth, batch) in state.tail.range(first..).enumerate() {
                batches.push(batch.clone());
                if nth > 0 {
                    enough = enough.saturating_sub(batch.bytes.len());
                }
                if enough == 0 {
                    break;
                }
            }
            (bounds.end, batches)
        };
        let mut taken = Taken::new(from, end, bytes_max);
        for batch in &batches {
            taken.take(batch)?;
        }
        Ok(Some(taken.into_records()))
    }

    /// Reads from the database. Blocks.
    pub(super) fn read_disk(&self, from: Offset, bytes_max: usize) -> Result<Vec<Record>> {
        let end = self.check(&self.state(), from)?.end;
        let mut taken = Taken::new(from, end, bytes_max.min(READ_BYTES_MAX));
        if taken.is_full() {
            return Ok(Vec::new());
        }
        let containing = self.space.range_back(Bound::Unbounded, Bound::Included(&key_of(from)), 1);
        let Some((key, value)) = containing.map_err(|e| storage(self.name, e))?.pop() else {
            return Err(self.gone(from));
        };
        let batch = Batch::parse(base_of(&key)?, value)?;
        taken.take(&batch)?;
        let mut steps = Steps::default();
        steps.met(batch.bytes.len());
        while !taken.is_full() {
            let limit = steps.next(taken.bytes_left());
            let after = Bound::Included(key_of(taken.next()));
            let pairs = self.space.range(after.as_ref().map(<[u8; 8]>::as_slice), Bound::Unbounded, limit);
            let pairs = pairs.map_err(|e| storage(self.name, e))?;
            if pairs.is_empty() {
                return Err(self.gone(taken.next()));
            }
            for (key, value) in pairs {
                let batch = Batch::parse(base_of(&key)?, value)?;
                steps.met(batch.bytes.len());
                if batch.base != taken.next() && taken.next() < self.bounds().start {
                    // Trimmed while it was being read: what was taken is still true.
                    return Ok(taken.into_records());
                }
                taken.take(&batch)?;
                if taken.is_full() {
                    break;
                }
            }
        }
        Ok(taken.into_records())
    }

    /// Deletes the batches wholly below `before`; the newest always stays, so that offsets and log time go on from it. Blocks.
    pub(super) fn trim(&self, embedded: &Embedded, meta: &Space, before: Offset) -> Result<()> {
        let _one_at_a_time = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Bounds { start, end, .. } = self.bounds();
            let before = before.min(end);
            if before <= start {
                return Ok(());
            }
            let from = key_of(start);
            let keys = self.space.keys(Bound::Included(&from), Bound::Included(&key_of(before)), TRIM_BATCHES + 1);
            let mut keys = keys.map_err(|e| storage(self.name, e))?;
            // A batch lies below `before` when the next one begins there or earlier.
            let Some(kept) = keys.pop() else { return Ok(()) };
            if keys.is_empty() {
                return Ok(());
            }
            let new_start = base_of(&kept)?;
            // Readers first: they must find either the records or the answer that they are gone.
            self.state().bounds.start = new_start;
            let mut writes = Writes::default();
            for key in keys {
                writes.delete(&self.space, key);
            }
            writes.put(meta, start_key(self.name), key_of(new_start).as_slice());
            embedded.write(writes, Durability::Ordered).map_err(|e| storage(self.name, e))?;
        }
    }

    fn check(&self, state: &State, from: Offset) -> Result<Bounds> {
        let Bounds { start, end, .. } = state.bounds;
        if from < start || from > end {
            let message = format!("cannot read {} from {from}: it holds {start} to before {end}", self.name);
            return Err(Error::new(ErrorKind::OutOfRange, message));
        }
        Ok(state.bounds)
    }

    /// The error for a record that should be there: it was trimmed a moment ago, or the log has a hole.
    fn gone(&self, offset: Offset) -> Error {
        match self.check(&self.state(), offset) {
            Err(trimmed) => trimmed,
            Ok(_) => Error::new(ErrorKind::Corrupt, format!("offset {offset} of {} is not on disk", self.name)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many batches a read fetches at a time. How large they are shows only once they are in memory, so the steps begin at
/// one and double: ticks make batches of a few bytes, and what follows them may be thousands of times as large.
#[derive(Debug, Default)]
pub(super) struct Steps {
    last: usize,
    largest: usize,
}

impl Steps {
    /// Notes the size of a batch that was fetched.
    pub(super) fn met(&mut self, bytes: usize) {
        self.largest = self.largest.max(bytes);
    }

    /// How many to fetch next when `bytes_left` are wanted.
    pub(super) fn next(&mut self, bytes_left: usize) -> usize {
        // No more than are wanted if they are like the largest one so far.
        let wanted = (bytes_left / self.largest.max(1)).max(1);
        self.last = (self.last * 2).clamp(1, FETCH_BATCHES_MAX).min(wanted);
        self.last
    }
}

/// What a partition holds in a snapshot: what [`Partition::open`] would find there.
pub(super) fn bounds_in(snapshot: &Snapshot, name: TopicPartition, meta: &str) -> Result<Bounds> {
    let space = space_name(name);
    let hint = match snapshot.get(meta, start_key(name)).map_err(|e| storage(name, e))? {
        Some(value) => base_of(&value)?,
        None => 0,
    };
    let Some((base, value)) = snapshot.last(&space).map_err(|e| storage(name, e))? else {
        return Ok(Bounds::default());
    };
    let last = Batch::parse(base_of(&base)?, value)?;
    let before = hint.checked_sub(1).map(key_of);
    let first = snapshot.page(&space, before.as_ref().map(<[u8; 8]>::as_slice), 1).map_err(|e| storage(name, e))?;
    let start = first.first().map_or(Ok(last.base), |(key, _)| base_of(key))?;
    Ok(Bounds { start, end: last.end(), last_time: Some(last.last_time) })
}

fn newest(name: TopicPartition, space: &Space) -> Result<Option<Batch>> {
    let mut last = space.range_back(Bound::Unbounded, Bound::Unbounded, 1).map_err(|e| storage(name, e))?;
    last.pop().map(|(key, value)| Batch::parse(base_of(&key)?, value)).transpose()
}

/// Where the trimmed start of a partition is kept.
fn start_key(name: TopicPartition) -> String {
    format!("start/{name}")
}
