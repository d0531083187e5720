//! The task that takes what is kept back into the log, from its head, in the order in which it came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millrace_failpoints::reach;
use millrace_log::{Append, ErrorKind, EventLog, Result};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use crate::frame::{Numbered, bytes_of};
use crate::queue::Queue;
use crate::segments::{self, Place};
use crate::writer::{Files, lock};

/// How much goes into the log at once: more than a request, so that a spool empties faster than it fills, and little enough
/// for any log to queue.
const CHUNK_BYTES: usize = 1024 * 1024;
const CHUNK_RECORDS: usize = 5_000;
/// Between two looks at a log that is away, and two tries at one that refuses.
const PAUSE: Duration = Duration::from_millis(100);
/// So soon a chunk is in a log that people can wait for: a part of how long a batch is tried.
const QUICK: Duration = Duration::from_millis(100);

/// See the module.
pub(crate) struct Drain {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) files: Files,
    /// Read from a file, and not in the log yet.
    ahead: VecDeque<Numbered>,
    /// Where reading goes on.
    place: Place,
    /// The last chunk was in the log soon: those who come may wait for the rest.
    is_quick: bool,
}

/// What goes into the log at once.
#[derive(Default)]
struct Chunk {
    appends: Vec<Append>,
    /// Batches that it covers, with those that the log has already, their events, and the number after the last.
    batches: u64,
    events: u64,
    next: u64,
}

/// The spool is closed: what is left waits for the next process.
struct Closed;

type Step<T> = std::result::Result<T, Closed>;

impl Drain {
    pub(crate) fn new(log: Arc<dyn EventLog>, queue: Arc<Queue>, files: Files, place: Place) -> Self {
        Self { log, queue, files, ahead: VecDeque::new(), place, is_quick: false }
    }

    /// Works until the spool is closed.
    pub(crate) async fn run(mut self) {
        while self.step().await.is_ok() {}
    }

    async fn step(&mut self) -> Step<()> {
        while self.ahead.is_empty() {
            self.read_ahead().await?;
        }
        while !self.log.healthy() {
            self.pause().await?;
        }
        let chunk = self.cut().await?;
        if self.is_quick {
            self.queue.hand_over();
        }
        let begun = Instant::now();
        self.pour(&chunk.appends).await?;
        self.is_quick = begun.elapsed() < QUICK;
        reach("spool-drained");
        self.forget(chunk).await;
        Ok(())
    }

    /// Reads what is durable behind what was read before; waits when there is nothing.
    async fn read_ahead(&mut self) -> Step<()> {
        if self.queue.is_closed() {
            return Err(Closed);
        }
        let (files, place) = (self.files.clone(), self.place);
        let read = spawn_blocking(move || {
            let found = lock(&files).from(place);
            found.map(|(place, end, path)| segments::read(place, end, &path).map_err(|error| (path, error)))
        });
        match read.await {
            Ok(Some(Ok((batches, place)))) => {
                self.ahead = batches.into();
                self.place = place;
            }
            Ok(None) => self.queue.rung().await,
            Ok(Some(Err((path, error)))) => {
                self.queue.stuck(&format!("{} cannot be read: {error}", path.display()));
                self.pause().await?;
            }
            // The runtime is ending.
            Err(_) => return Err(Closed),
        }
        if let Some(Numbered { batch, .. }) = self.ahead.front() {
            self.queue.at_head(batch);
        }
        Ok(())
    }

    /// Takes a chunk off the head. Of a batch that was tried in the log before, it waits until it is known what came of
    /// that, as long as the log takes to say: what is there already is not written again.
    async fn cut(&mut self) -> Step<Chunk> {
        let mut chunk = Chunk::default();
        let mut bytes = 0;
        while let Some(Numbered { number, batch }) = self.ahead.front() {
            let (batch_bytes, records) = (bytes_of(batch), batch.len());
            let is_full = bytes + batch_bytes > CHUNK_BYTES || chunk.appends.len() + records > CHUNK_RECORDS;
            if is_full && chunk.batches > 0 {
                break;
            }
            let is_there = self.was_taken(*number).await?;
            let Some(Numbered { number, batch }) = self.ahead.pop_front() else { break };
            chunk.batches += 1;
            chunk.events += records as u64;
            chunk.next = number + 1;
            if !is_there {
                bytes += batch_bytes;
                chunk.appends.extend(batch);
            }
        }
        Ok(chunk)
    }

    async fn was_taken(&self, number: u64) -> Step<bool> {
        let Some(straggler) = self.queue.straggler(number) else { return Ok(false) };
        tokio::select! {
            // One that is gone did not say.
            taken = straggler => Ok(taken.unwrap_or(false)),
            () = self.queue.closed() => Err(Closed),
        }
    }

    /// Appends all of it, in order, however often that takes.
    async fn pour(&self, mut appends: &[Append]) -> Step<()> {
        let mut size = appends.len();
        while !appends.is_empty() {
            let piece = &appends[..size.min(appends.len())];
            match self.append(piece).await? {
                Ok(()) => appends = &appends[piece.len()..],
                // As one call it may be too large for a log that takes its parts.
                Err(error) if error.kind() == ErrorKind::Invalid && piece.len() > 1 => size = piece.len() / 2,
                Err(error) => {
                    self.queue.not_handed_over();
                    if error.kind() == ErrorKind::Retry {
                        tracing::debug!(%error, "the log does not take what the spool holds yet");
                    } else {
                        self.queue.stuck(&error.to_string());
                    }
                    self.pause().await?;
                    while !self.log.healthy() {
                        self.pause().await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// As long as the log takes to say. An append that is not waited for to its end is repeated by the next process.
    async fn append(&self, piece: &[Append]) -> Step<Result<()>> {
        if let Err(error) = crate::told_to_refuse("spool-draining") {
            return Ok(Err(error));
        }
        tokio::select! {
            answer = self.log.append(piece.to_vec()) => Ok(answer.map(drop)),
            () = self.queue.closed() => Err(Closed),
        }
    }

    /// The log has these: their files go, once it has all of a file.
    async fn forget(&self, chunk: Chunk) {
        let (files, next) = (self.files.clone(), chunk.next);
        let deleted = spawn_blocking(move || lock(&files).drained(next));
        // Only at the end of the runtime it is not run.
        let Ok(freed) = deleted.await else { return };
        self.queue.drained(chunk.batches, chunk.events, freed);
        if let Some(Numbered { batch, .. }) = self.ahead.front() {
            self.queue.at_head(batch);
        }
    }

    /// Waits a moment, unless the spool is closed.
    async fn pause(&self) -> Step<()> {
        match timeout(PAUSE, self.queue.closed()).await {
            Ok(()) => Err(Closed),
            Err(_) => Ok(()),
        }
    }
}
