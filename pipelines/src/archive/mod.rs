//! The archive: what the log and the jobs lead to becomes rows of the warehouse, each exactly once, seconds later.
//!
//! Stage 1 does not wait for the warehouse, and the warehouse does not trust stage 1's memory: the archiver reads the log
//! again, from the offset that the warehouse itself records for a partition up to the one that the job has committed, leaves
//! out what the job's state says is a duplicate, marks what it says is a robot's, and commits rows and offset together. What a job makes itself (closed
//! windows) waits in its state, committed with the offset that led to it, until the warehouse has it.
//!
//! Blocks are cut where the committed offset happens to be. The alternative, cuts that are a function of the log, is needed
//! where rows and offset are not one commit; here a repeated, competing or half-done attempt is refused by the recorded
//! offset, wherever it was cut.

mod block;
mod rows;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_events::{Envelope, Kind, LogTime, Topic, TopicPartition, decode};
use millrace_failpoints::reach;
use millrace_log::{EventLog, Offset, Record};
use millrace_warehouse::{Block, Maintained, Source, Table, Warehouse};

use crate::error::{Error, Result};
use crate::runner::{Board, Timer};
use crate::state::StateStore;

pub use block::row_of_action;
pub(crate) use block::{Cut, cut};
pub(crate) use rows::{
    ROWS_PER_VALUE, RowsValue, Swept, before, left_out_key, left_out_table, robot_key, robots_table, rows_key,
    rows_table, swept_key, swept_offset,
};
pub use status::{ArchiveStatus, Archived, TableStatus};

/// The tables, and the topic whose records lead to their rows.
pub const SOURCES: [(Table, Topic); 5] = [
    (Table::Events, Topic::Actions),
    (Table::EngagementWindows, Topic::ReactionEvents),
    (Table::Identities, Topic::UserEvents),
    (Table::ServedSlates, Topic::ServedSlates),
    (Table::DeadLetters, Topic::DeadLetters),
];

/// Bounds of the archiver.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// How long it rests when it has caught up: with a commit of the job and one of the warehouse it is what makes an
    /// event visible to queries.
    pub rest: Duration,
    /// How long it rests after a failure.
    pub failure_rest: Duration,
    /// How many records of one partition go into one block...
    pub block_records_max: usize,
    /// ...and how many bytes of them.
    pub block_bytes_max: usize,
    /// How many dates the rows of one commit may have: each is a file.
    pub dates_max: usize,
    /// After so many records without a row the warehouse is told all the same, so that they can be trimmed.
    pub empty_records_max: u64,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self {
            rest: Duration::from_millis(1_000),
            failure_rest: Duration::from_secs(1),
            block_records_max: 16_384,
            block_bytes_max: 8 * 1024 * 1024,
            dates_max: 256,
            empty_records_max: 50_000,
        }
    }
}

/// Up to so many records that are not archived are looked at one by one when asked how many are owed...
const LOOK_AT_RECORDS: u64 = 256;
/// ...and about so many bytes of them.
const LOOK_AT_BYTES: usize = 64 * 1024;

/// What the archiver touches.
#[derive(Clone)]
pub struct ArchiveSeams {
    /// Where actions, slates and dead letters are read.
    pub log: Arc<dyn EventLog>,
    /// What jobs left out, and rows that they made.
    pub states: Arc<dyn StateStore>,
    /// Where rows go.
    pub warehouse: Arc<dyn Warehouse>,
    /// How far the jobs have committed.
    pub board: Board,
    /// Waiting.
    pub timer: Arc<dyn Timer>,
}

/// Fills the warehouse from the partitions that are worked on here: those of the board. The slates of a partition belong to
/// whoever works on its actions, dead letters to whoever works on the first. Should two processes believe that a partition
/// is theirs, the warehouse refuses one of them.
pub struct Archiver {
    seams: ArchiveSeams,
    generation: u32,
    options: ArchiveOptions,
    archived: Archived,
    status: Arc<Mutex<ArchiveStatus>>,
    /// Held during a commit, and by whoever needs the warehouse to stand still.
    turn: tokio::sync::Mutex<()>,
    /// Held during maintenance; see `turn`.
    maintenance: tokio::sync::Mutex<()>,
    places: Mutex<BTreeMap<(Table, TopicPartition), Place>>,
    rounds: AtomicU32,
}

/// The partitions of the board, by the tables that they lead to.
type Owned = BTreeSet<(Table, TopicPartition)>;

/// Where a partition stands in a table.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The warehouse holds every row of what is below.
    recorded: Offset,
    /// Nothing from `recorded` up to here leads to a row.
    scanned: Offset,
    /// Log time of the last record below `scanned`.
    clock: Option<LogTime>,
}

/// Nothing is written to the warehouse, by commit or by maintenance, while this lives.
pub struct Held<'a> {
    _turn: tokio::sync::MutexGuard<'a, ()>,
    _maintenance: tokio::sync::MutexGuard<'a, ()>,
}

impl Archiver {
    /// An archiver of `generation`; `archived` tells the workers what they need not keep any longer.
    pub fn new(seams: ArchiveSeams, generation: u32, options: ArchiveOptions, archived: Archived) -> Self {
        Self {
            seams,
            generation,
            options,
            archived,
            status: Arc::default(),
            turn: tokio::sync::Mutex::default(),
            maintenance: tokio::sync::Mutex::default(),
            places: Mutex::default(),
            rounds: AtomicU32::new(0),
        }
    }

    /// Archives until the future is dropped. Failures are told by [`Archiver::report`] and tried again.
    pub async fn run(&self) {
        let mut known = false;
        loop {
            // What moves here may have been archived by another since.
            known &= self.is_current();
            let done = if known { self.round().await } else { self.resume().await.map(|()| true) };
            let rest = match done {
                Ok(more) => {
                    known = true;
                    self.status().error = None;
                    if more { Duration::ZERO } else { self.options.rest }
                }
                Err(error) => {
                    let text = crate::runner::chain(&error);
                    tracing::warn!(error = text, "the archive waits");
                    self.status().error = Some(text);
                    // Whatever happened, the warehouse knows where it stands.
                    known = false;
                    self.options.failure_rest
                }
            };
            if !rest.is_zero() {
                self.seams.timer.pause(rest).await;
            }
        }
    }

    /// Archives everything that is there, once.
    ///
    /// # Errors
    /// The first failure.
    pub async fn catch_up(&self) -> Result<()> {
        self.resume().await?;
        while self.round().await? {}
        Ok(())
    }

    /// Merges, checkpoints and deletes in the warehouse, once: where the first partition is worked on, since one process
    /// suffices and two would do the same work.
    ///
    /// # Errors
    /// When the warehouse could not; nothing is lost.
    pub async fn maintain(&self) -> millrace_warehouse::Result<Maintained> {
        if !self.seams.board.leads() {
            return Ok(Maintained::default());
        }
        let _maintenance = self.maintenance.lock().await;
        self.seams.warehouse.maintain().await
    }

    /// Waits until nothing writes to the warehouse, and keeps it so.
    pub async fn hold(&self) -> Held<'_> {
        let _maintenance = self.maintenance.lock().await;
        Held { _turn: self.turn.lock().await, _maintenance }
    }

    /// How far it is, compared with the log and the jobs as of now.
    pub async fn report(&self) -> ArchiveStatus {
        if let Err(error) = self.refresh().await {
            self.status().error = Some(crate::runner::chain(&error));
        }
        self.status().clone()
    }

    /// How far it was after the last round.
    pub fn last_report(&self) -> ArchiveStatus {
        self.status().clone()
    }

    /// Every action up to this log time is in the table of events, as of the last round; `None` before the first, and where
    /// some partitions were never worked on here.
    pub fn as_of(&self) -> Option<LogTime> {
        self.status().as_of
    }

    /// Asks the warehouse where every partition stands.
    async fn resume(&self) -> Result<()> {
        let owned = self.board_owns();
        let mut places = BTreeMap::new();
        for (table, topic) in SOURCES {
            let recorded = self.seams.warehouse.recorded(table).await?;
            for of in partitions(topic, self.seams.log.partitions()).filter(|of| owned.contains(&(table, *of))) {
                let at = match recorded.get(&self.source(of)) {
                    Some(&at) => at,
                    // Where no job needs its records, a log that was trimmed is archived from where it begins.
                    None if !is_worked(table) => self.seams.log.bounds(of).await?.start,
                    None => 0,
                };
                self.check(table, of, at).await?;
                let clock = self.clock_before(of, at).await?;
                places.insert((table, of), Place { recorded: at, scanned: at, clock });
                self.archived.set(of, at);
            }
        }
        *self.places() = places;
        Ok(())
    }

    /// True while the places are those of the partitions that are worked on here.
    fn is_current(&self) -> bool {
        self.places().keys().eq(&self.board_owns())
    }

    fn board_owns(&self) -> Owned {
        let board = self.seams.board.all();
        let mut owned = Owned::new();
        for (table, topic) in SOURCES {
            for of in partitions(topic, self.seams.log.partitions()) {
                let worked = if is_worked(table) { of } else { TopicPartition::new(Topic::Actions, of.partition) };
                if board.contains_key(&worked) {
                    owned.insert((table, of));
                }
            }
        }
        owned
    }

    /// Refuses to go on where the warehouse and the log are not of one piece: rows would be missing, or there twice.
    async fn check(&self, table: Table, of: TopicPartition, recorded: Offset) -> Result<()> {
        let bounds = self.seams.log.bounds(of).await?;
        if recorded > bounds.end {
            return Err(Error::Torn(format!(
                "{table} holds rows of {of} up to {recorded}, but the log ends at {}: the log was restored from an older copy; \
                 restore the whole data directory from one backup, or run `millrace rebuild warehouse`",
                bounds.end
            )));
        }
        let swept = swept_offset(self.seams.states.as_ref(), of).await?;
        let needed = if is_worked(table) { swept } else { 0 };
        if recorded < needed.max(bounds.start) {
            return Err(Error::Torn(format!(
                "{table} holds rows of {of} up to {recorded} only, and what led to those up to {} is gone: the warehouse was \
                 deleted, or restored from an older copy; run `millrace rebuild warehouse`, or restore the whole data \
                 directory from one backup",
                needed.max(bounds.start)
            )));
        }
        Ok(())
    }

    /// Archives what is there, one block for each partition at most; true when there is more.
    async fn round(&self) -> Result<bool> {
        let (mut more, mut failed) = (false, Ok(()));
        for (table, topic) in SOURCES {
            // A table that cannot go on does not keep the others from it.
            match self.table(table, topic).await {
                Ok(left) => more |= left,
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        self.refresh().await?;
        failed.map(|()| more)
    }

    async fn table(&self, table: Table, topic: Topic) -> Result<bool> {
        let _turn = self.turn.lock().await;
        let mut dates = BTreeSet::new();
        let (mut blocks, mut after, mut more) = (Vec::new(), Vec::new(), false);
        // Each round begins with another partition: dates that one of them needs many of are not always the others' loss.
        let count = topic.partitions(self.seams.log.partitions());
        let first = self.rounds.fetch_add(1, Ordering::Relaxed) % count;
        for of in (0..count).map(|nth| TopicPartition::new(topic, (first + nth) % count)) {
            let Some(place) = self.places().get(&(table, of)).copied() else { continue };
            let end = self.end(table, of).await?;
            if place.scanned >= end {
                continue;
            }
            let Cut { rows, next, clock } =
                cut(&self.seams, &self.options, table, of, place.scanned..end, &mut dates).await?;
            more |= next < end;
            let is_due = !rows.is_empty() || next - place.recorded >= self.options.empty_records_max;
            let moved = Place { scanned: next, clock: clock.or(place.clock), ..place };
            if is_due {
                blocks.push(Block { source: self.source(of), start: place.recorded, end: next, rows });
                after.push((of, Place { recorded: next, ..moved }));
            } else {
                after.push((of, moved));
            }
        }
        if !blocks.is_empty() {
            reach("archive-cut");
            self.seams.warehouse.commit(table, blocks).await?;
            reach("archive-committed");
        }
        for (of, place) in after {
            self.archived.set(of, place.recorded);
            self.places().insert((table, of), place);
        }
        Ok(more)
    }

    /// Up to where the rows of a partition are final: what its job committed, or all of it where no job decides.
    async fn end(&self, table: Table, of: TopicPartition) -> Result<Offset> {
        if is_worked(table) {
            return Ok(self.seams.board.get(of).map_or(0, |status| status.committed));
        }
        Ok(self.seams.log.bounds(of).await?.end)
    }

    async fn clock_before(&self, of: TopicPartition, offset: Offset) -> Result<Option<LogTime>> {
        let bounds = self.seams.log.bounds(of).await?;
        let Some(last) = offset.checked_sub(1).filter(|last| (bounds.start..bounds.end).contains(last)) else {
            return Ok(None);
        };
        let records = self.seams.log.read(of, last, 1).await?;
        Ok(records.first().map(|record| record.time))
    }

    /// Puts together what [`Archiver::report`] says.
    async fn refresh(&self) -> Result<()> {
        let places = self.places().clone();
        let is_current = !places.is_empty() && self.is_current();
        let mut status = ArchiveStatus { is_known: is_current, ..ArchiveStatus::default() };
        let mut as_of: Option<LogTime> = None;
        // Of partitions that others work on nobody here knows how far they are archived.
        let mut is_known =
            partitions(Topic::Actions, self.seams.log.partitions()).all(|of| places.contains_key(&(Table::Events, of)));
        for ((table, of), place) in places {
            // What is not committed has led to no row of a job yet.
            let end =
                if is_made_by_job(table) { self.end(table, of).await? } else { self.seams.log.bounds(of).await?.end };
            let mut lag = self.owed(table, of, place.scanned..end).await?;
            if is_made_by_job(table) {
                lag += self.seams.board.get(of).map_or(0, |status| status.owed);
            }
            status.tables.entry(table).or_default().lag += lag;
            status.lag += lag;
            if table == Table::Events && end > 0 {
                // Records of one request have one time: where more may follow, that time is not complete.
                let clock =
                    place.clock.map(|at| if place.scanned < end { LogTime(at.0.saturating_sub(1)) } else { at });
                is_known &= clock.is_some();
                as_of = as_of.map_or(clock, |least| clock.map(|clock| clock.min(least)));
            }
        }
        status.as_of = as_of.filter(|_| is_known);
        let mut shown = self.status();
        status.error = shown.error.take();
        // What was complete stays complete.
        status.as_of = status.as_of.max(shown.as_of);
        *shown = status;
        Ok(())
    }

    /// How many records of the range may lead to rows: of a short one ticks are left out, which come as long as the platform
    /// runs, and records that closed no window.
    async fn owed(&self, table: Table, of: TopicPartition, range: Range<Offset>) -> Result<u64> {
        let records = range.end.saturating_sub(range.start);
        if records == 0 || records > LOOK_AT_RECORDS {
            return Ok(records);
        }
        match table {
            Table::EngagementWindows | Table::Identities => {
                let found = self.seams.states.peek(of, &before(&rows_table(), range.start), 1).await?;
                let owed = found.first().filter(|(key, _)| key.starts_with(rows_table().as_bytes()));
                Ok(u64::from(owed.is_some()))
            }
            Table::Events => {
                let found = self.seams.log.read(of, range.start, LOOK_AT_BYTES).await?;
                let is_tick = |record: &Record| {
                    decode::<Envelope>("an action", record.value.clone()).is_ok_and(|e| e.kind() == Kind::Tick)
                };
                let ticks = found.iter().filter(|record| record.offset < range.end && is_tick(record)).count();
                Ok(records.saturating_sub(ticks as u64))
            }
            Table::ServedSlates | Table::DeadLetters => Ok(records),
        }
    }

    fn source(&self, of: TopicPartition) -> Source {
        Source { generation: self.generation, topic: of.topic, partition: of.partition }
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<(Table, TopicPartition), Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> MutexGuard<'_, ArchiveStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True when a job decides what the rows are.
fn is_worked(table: Table) -> bool {
    table == Table::Events || is_made_by_job(table)
}

/// True when a job makes the rows: they wait in its state.
fn is_made_by_job(table: Table) -> bool {
    matches!(table, Table::EngagementWindows | Table::Identities)
}

fn partitions(topic: Topic, count: u32) -> impl Iterator<Item = TopicPartition> {
    (0..topic.partitions(count)).map(move |partition| TopicPartition::new(topic, partition))
}

#[cfg(test)]
mod tests;
