//! One worker runs the jobs of one topic partition.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{Either, poll_immediate, select};
use millrace_events::{Topic, TopicPartition};
use millrace_failpoints::reach;
use millrace_feature_store::{OnlineStore, OnlineWrite, Version, views};
use millrace_log::{Append, ErrorKind, EventLog, Offset, Record};
use prost::Message;

use super::{Board, Gate, Stop};
use crate::archive::{
    Archived, ROWS_PER_VALUE, RowsValue, Swept, before, left_out_key, left_out_table, robot_key, robots_table,
    rows_key, rows_table, swept_key,
};
use crate::error::{Error, Result};
use crate::job::{Stage, Writes};
use crate::state::{Present, State, StateStore};

/// Waits, so that the worker needs no runtime of its own and a simulation can put virtual time here.
#[async_trait]
pub trait Timer: Send + Sync + 'static {
    /// Returns after `duration`, or whenever a simulation likes.
    async fn pause(&self, duration: Duration);
}

/// Everything a worker touches.
#[derive(Clone)]
pub struct Seams {
    /// Where records come from and go to.
    pub log: Arc<dyn EventLog>,
    /// The present.
    pub online: Arc<dyn OnlineStore>,
    /// Job state.
    pub states: Arc<dyn StateStore>,
    /// Waiting.
    pub timer: Arc<dyn Timer>,
    /// Where workers are held for a moment when all of them must agree on one.
    pub gate: Gate,
    /// What need not be kept for the warehouse any longer.
    pub archived: Archived,
}

/// Bounds of a worker.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// How much one read takes, bytes.
    pub read_bytes: usize,
    /// After how many collected writes the outputs of a batch are flushed, whatever is left of it.
    pub writes_max: usize,
    /// State is committed at the latest after so many records...
    pub commit_records: u64,
    /// ...or so many changed keys...
    pub commit_keys: usize,
    /// ...or so many rows for the warehouse...
    pub commit_rows: usize,
    /// ...or when nothing came for this long...
    pub commit_idle: Duration,
    /// ...or after this long, however much comes: the archive waits for commits, and what is not committed is done again
    /// after a crash.
    pub commit_every: Duration,
    /// How many keys that the warehouse no longer needs one commit removes.
    pub sweep_keys: usize,
    /// The pause before the log is asked again to take what is published.
    pub publish_pause: Duration,
    /// The pause before a restart from the last commit.
    pub restart_pause: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            read_bytes: 1024 * 1024,
            writes_max: 20_000,
            commit_records: 20_000,
            commit_keys: 50_000,
            commit_rows: 65_536,
            commit_idle: Duration::from_millis(200),
            commit_every: Duration::from_secs(1),
            sweep_keys: 20_000,
            publish_pause: Duration::from_millis(20),
            restart_pause: Duration::from_millis(250),
        }
    }
}

/// How far a worker goes.
#[derive(Clone, Copy)]
enum Goal<'a> {
    /// To this offset.
    Offset(Offset),
    /// Until it is told to stop.
    Stop(&'a Stop),
}

impl Goal<'_> {
    fn offset(self) -> Option<Offset> {
        match self {
            Goal::Offset(end) => Some(end),
            Goal::Stop(_) => None,
        }
    }

    fn is_stopped(self) -> bool {
        matches!(self, Goal::Stop(stop) if stop.is_set())
    }

    async fn stopped(self) {
        match self {
            Goal::Offset(_) => std::future::pending().await,
            Goal::Stop(stop) => stop.wait().await,
        }
    }
}

/// Runs the jobs of one topic partition, exactly once by effect.
///
/// One step is: read, apply, publish, await every acknowledgement, write online, then (now and then) commit state and
/// offset together. Any failure drops what was not committed and starts again from the last commit: outputs may be
/// repeated, which positions and versions make harmless; they are never skipped.
pub struct Worker {
    of: TopicPartition,
    generation: u32,
    stage: Arc<dyn Stage>,
    seams: Seams,
    options: WorkerOptions,
    board: Board,
}

impl Worker {
    /// A worker for `of`.
    pub fn new(
        of: TopicPartition,
        generation: u32,
        stage: Arc<dyn Stage>,
        seams: Seams,
        options: WorkerOptions,
        board: Board,
    ) -> Self {
        Self { of, generation, stage, seams, options, board }
    }

    /// Runs until `stop`, then commits and closes its state; or until the partition cannot go on: it has a new owner, or
    /// what is stored is not what was written. Other failures are retried from the last commit, for ever.
    ///
    /// # Errors
    /// Why the partition cannot go on.
    pub async fn run(&self, stop: &Stop) -> Result<()> {
        let jobs = self.stage.jobs();
        self.board.update(self.of, |status| status.jobs = jobs);
        loop {
            let Err(error) = self.run_from_commit(Goal::Stop(stop)).await else { return Ok(()) };
            let text = chain(&error);
            self.board.update(self.of, |status| {
                status.error = Some(text.clone());
                status.restarts += 1;
                status.stopped = error.is_final();
                status.waits_for_log = error.is_of_a_log_that_is_away();
            });
            if error.is_final() {
                tracing::error!(partition = %self.of, error = text, "partition stopped");
                return Err(error);
            }
            if stop.is_set() {
                // What is not committed is done again by whoever comes next.
                tracing::warn!(partition = %self.of, error = text, "partition ends at its last commit");
                return Ok(());
            }
            tracing::warn!(partition = %self.of, error = text, "partition restarts from its last commit");
            self.seams.timer.pause(self.options.restart_pause).await;
        }
    }

    /// Applies everything below `end`, commits, and returns: for replays.
    ///
    /// # Errors
    /// The first failure.
    pub async fn run_until(&self, end: Offset) -> Result<()> {
        self.run_from_commit(Goal::Offset(end)).await
    }

    async fn run_from_commit(&self, goal: Goal<'_>) -> Result<()> {
        let until = goal.offset();
        let mut state = State::new(self.of, self.seams.states.open(self.of).await?);
        let mut next = state.offset();
        let bounds = self.seams.log.bounds(self.of).await?;
        if next > bounds.end {
            return Err(Error::BeyondEnd { of: self.of, committed: next, end: bounds.end });
        }
        self.report(&mut state, next, 0)?;
        let (mut uncommitted, mut owed, mut swept) = (0, 0, 0);
        let mut writes = Writes::default();
        // Runs from the first record that is not committed.
        let mut age = None;
        loop {
            if until.is_some_and(|end| next >= end) || goal.is_stopped() {
                self.commit(next, &mut state, &mut swept).await?;
                self.report(&mut state, next, 0)?;
                return state.close().await;
            }
            if until.is_none() && self.seams.gate.is_closed() {
                self.commit(next, &mut state, &mut swept).await?;
                (uncommitted, owed, age) = (0, 0, None);
                self.report(&mut state, next, owed)?;
                self.seams.gate.pass(self.of).await;
            }
            let records = self.seams.log.read(self.of, next, self.options.read_bytes).await?;
            if records.is_empty() {
                if uncommitted == 0 {
                    self.wait(next, goal).await?;
                } else if self.idle(next, goal).await? {
                    self.commit(next, &mut state, &mut swept).await?;
                    (uncommitted, owed, age) = (0, 0, None);
                    self.report(&mut state, next, owed)?;
                }
                continue;
            }
            for record in records {
                if until.is_some_and(|end| record.offset >= end) {
                    break;
                }
                let offset = record.offset;
                let applied = self.apply(record, &mut state, &mut writes).map(|rows| owed += rows);
                if let Err(error) = applied {
                    if error.is_about_record() {
                        // What came before it is good: it must not be done again with every restart.
                        self.flush(offset, &mut state, &mut writes).await?;
                        state.commit(offset).await?;
                    }
                    return Err(error);
                }
                next = offset + 1;
                uncommitted += 1;
                if writes.len() >= self.options.writes_max {
                    self.flush(next, &mut state, &mut writes).await?;
                }
                let owes_much = owed >= self.options.commit_rows;
                if owes_much || state.dirty() >= self.options.commit_keys {
                    self.flush(next, &mut state, &mut writes).await?;
                    self.commit(next, &mut state, &mut swept).await?;
                    (uncommitted, owed, age) = (0, 0, None);
                }
            }
            self.flush(next, &mut state, &mut writes).await?;
            let timer = age.get_or_insert_with(|| self.seams.timer.pause(self.options.commit_every));
            let is_old = until.is_none() && poll_immediate(timer).await.is_some();
            if is_old || uncommitted >= self.options.commit_records || state.dirty() >= self.options.commit_keys {
                self.commit(next, &mut state, &mut swept).await?;
                (uncommitted, owed, age) = (0, 0, None);
            }
            self.report(&mut state, next, owed)?;
        }
    }

    /// Applies a record; how many rows it led to.
    fn apply(&self, record: Record, state: &mut State, writes: &mut Writes) -> Result<usize> {
        self.stage.apply(self.of, record, state, writes)?;
        // What the warehouse is owed is state: committed with the offset that led to it, and kept until it is archived.
        for offset in writes.left_out.drain(..) {
            state.put(&left_out_key(offset), Present);
        }
        for offset in writes.robots.drain(..) {
            state.put(&robot_key(offset), Present);
        }
        let (mut nth, owed) = (0, writes.rows.len());
        while let Some((offset, _)) = writes.rows.first() {
            let offset = *offset;
            let rows = writes.rows.drain(..writes.rows.len().min(ROWS_PER_VALUE)).map(|(_, row)| row).collect();
            state.put(&rows_key(offset, nth), RowsValue { rows });
            nth += 1;
        }
        Ok(owed)
    }

    /// Removes what the warehouse has, a bounded number of keys, then commits. Below `swept` nothing is left.
    async fn commit(&self, next: Offset, state: &mut State, swept: &mut Offset) -> Result<()> {
        let archived = self.seams.archived.get(self.of).min(next);
        if archived > *swept {
            let mut is_done = true;
            for table in [left_out_table(), robots_table(), rows_table()] {
                let (after, end) = (before(&table, *swept), table.number(archived));
                is_done &= state.remove_range(&after, &end, self.options.sweep_keys)? < self.options.sweep_keys;
            }
            // Committed with the removals: whoever reads it knows that the warehouse had everything below.
            state.put(&swept_key(), Swept(archived));
            if is_done {
                *swept = archived;
            }
        }
        reach("runner-committing");
        state.commit(next).await?;
        reach("runner-committed");
        Ok(())
    }

    /// Waits for a record, for the gate to close, or to be stopped.
    async fn wait(&self, next: Offset, goal: Goal<'_>) -> Result<()> {
        let disturbed = pin!(self.disturbed(goal));
        match select(self.seams.log.wait(self.of, next), disturbed).await {
            Either::Left((waited, _)) => waited.map_err(Error::from),
            Either::Right(_) => Ok(()),
        }
    }

    /// True when nothing came for a while, or when there is a reason not to wait for it.
    async fn idle(&self, next: Offset, goal: Goal<'_>) -> Result<bool> {
        let wait = self.seams.log.wait(self.of, next);
        let disturbed = pin!(self.disturbed(goal));
        let pause = select(self.seams.timer.pause(self.options.commit_idle), disturbed);
        match select(wait, pause).await {
            Either::Left((waited, _)) => waited.map(|()| false).map_err(Error::from),
            Either::Right(_) => Ok(true),
        }
    }

    /// Resolves when the gate closes or the worker is told to stop.
    async fn disturbed(&self, goal: Goal<'_>) {
        let (closing, stopped) = (pin!(self.seams.gate.closing()), pin!(goal.stopped()));
        select(closing, stopped).await;
    }

    /// Publishes, awaits every acknowledgement, then writes online: in this order, so that nobody sees a number whose
    /// consequences could still be lost.
    async fn flush(&self, next: Offset, state: &mut State, writes: &mut Writes) -> Result<()> {
        let mut batch = Vec::with_capacity(writes.publish.len() + writes.dead.len());
        for publish in writes.publish.drain(..) {
            batch.push(Append {
                to: publish.to,
                time: millrace_events::LogTime(publish.record.log_time_us),
                key: publish.key,
                value: publish.record.encode_to_vec().into(),
            });
        }
        for letter in writes.dead.drain(..) {
            batch.push(Append {
                to: TopicPartition::new(Topic::DeadLetters, 0),
                time: millrace_events::LogTime(letter.log_time_us),
                key: Bytes::copy_from_slice(&self.of.partition.to_be_bytes()),
                value: letter.encode_to_vec().into(),
            });
        }
        reach("runner-applied");
        if !batch.is_empty() {
            self.publish(batch).await?;
        }
        reach("runner-published");
        writes.settle(|key| self.stage.value(key, state))?;
        let mut online = writes.take_online();
        online.extend(self.progress(next, state)?);
        self.seams.online.write(online).await?;
        reach("runner-online");
        Ok(())
    }

    /// Appends until the log has taken it: a log that is busy or away is waited for, never passed by. Some of it may be
    /// appended twice then, which positions make harmless.
    async fn publish(&self, batch: Vec<Append>) -> Result<()> {
        loop {
            match self.seams.log.append(batch.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Retry => {
                    tracing::debug!(partition = %self.of, %error, "waiting for the log");
                    self.seams.timer.pause(self.options.publish_pause).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How far this partition is; nothing to say before its clock is known.
    fn progress(&self, next: Offset, state: &mut State) -> Result<Option<OnlineWrite>> {
        let Some(clock) = self.stage.clock(state)? else { return Ok(None) };
        let progress = views::ProgressRecord { next, clock_us: clock.0, sources: self.stage.sources(state)? };
        Ok(Some(OnlineWrite::Put {
            key: views::progress_key(self.of),
            value: progress.encode_to_vec().into(),
            version: Version { generation: self.generation, offset: next },
        }))
    }

    fn report(&self, state: &mut State, next: Offset, owed: usize) -> Result<()> {
        let clock = self.stage.clock(state)?;
        let counts = self.stage.counts(state)?;
        let sources = self.stage.sources(state)?;
        let committed = state.offset();
        self.board.update(self.of, |status| {
            status.committed = committed;
            status.applied = next;
            status.owed = owed as u64;
            status.clock = clock;
            status.counts = counts;
            status.sources = sources;
            status.error = None;
            status.waits_for_log = false;
            status.stopped = false;
        });
        Ok(())
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
