//! What callers, the thread that writes and the task that drains know of each other.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_events::LogTime;
use millrace_log::{Append, Error, ErrorKind, Result};
use tokio::sync::{Notify, oneshot, watch};

use crate::segments::Leftovers;
use crate::{Spooled, frame};

/// How many bytes may wait for the spool's disk. Beyond it the disk is slower than what comes in.
const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many batches may be left when those who come begin to wait for the way to be straight.
const HAND_OVER_BATCHES_MAX: u64 = 256;

/// Which way an append goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Into the log: nothing is kept.
    Straight,
    /// What is left is going into the log, all of it: in a moment the way is straight again.
    HandingOver,
    /// Behind what is kept.
    Kept,
}

/// A batch that is to be kept.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) batch: Vec<Append>,
    pub(crate) bytes: usize,
    /// Tells whether the log took it after all: it was tried there first, and did not answer in time.
    pub(crate) straggler: Option<oneshot::Receiver<bool>>,
    pub(crate) answer: oneshot::Sender<Result<()>>,
}

/// What the thread that writes has to do.
#[derive(Debug)]
pub(crate) enum Next {
    /// Keep these.
    Requests,
    /// Look whether the disk takes anything again.
    Probe,
    /// End.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    bytes_max: u64,
    state: Mutex<State>,
    /// Signalled when there is something to write, and when it is closed.
    changed: Condvar,
    way: watch::Sender<Way>,
    /// Rung when something was kept, and when it is closed.
    bell: Notify,
    closing: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<Request>,
    queued_bytes: usize,
    /// Batches in the queue and on disk that are not in the log yet.
    batches: u64,
    spooled: Spooled,
    /// A batch did not fit since the last file was deleted.
    full: bool,
    closed: bool,
    /// Batches on disk whose first try has not ended.
    stragglers: HashMap<u64, oneshot::Receiver<bool>>,
}

impl Queue {
    pub(crate) fn new(bytes_max: u64, leftovers: &Leftovers) -> Self {
        let Leftovers { batches, events, bytes, oldest, .. } = *leftovers;
        let spooled = Spooled { bytes, events, oldest, ..Spooled::default() };
        let way = if batches == 0 { Way::Straight } else { Way::Kept };
        Self {
            bytes_max,
            state: Mutex::new(State { batches, spooled, ..State::default() }),
            changed: Condvar::new(),
            way: watch::Sender::new(way),
            bell: Notify::new(),
            closing: watch::Sender::new(false),
        }
    }

    pub(crate) fn way(&self) -> Way {
        *self.way.borrow()
    }

    /// Waits while all that is left is going into the log.
    pub(crate) async fn handed_over(&self) {
        let mut way = self.way.subscribe();
        // The sender lives as long as this.
        drop(way.wait_for(|way| *way != Way::HandingOver).await);
    }

    /// Queues a batch behind everything that is kept. The result comes when it is durable.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] at once when it cannot be kept now.
    pub(crate) fn push(
        &self,
        batch: Vec<Append>,
        straggler: Option<oneshot::Receiver<bool>>,
    ) -> Result<oneshot::Receiver<Result<()>>> {
        let bytes = frame::bytes_of(&batch);
        let mut state = self.state();
        state.takes(bytes, self.bytes_max)?;
        let (answer, answered) = oneshot::channel();
        state.requests.push_back(Request { batch, bytes, straggler, answer });
        state.queued_bytes += bytes;
        state.batches += 1;
        self.go(Way::Kept);
        drop(state);
        self.changed.notify_all();
        Ok(answered)
    }

    /// True while a batch would be kept.
    pub(crate) fn takes_more(&self) -> bool {
        let state = self.state();
        !state.closed && !state.full && state.spooled.failing.is_none()
    }

    /// Moves what is queued into `into`, up to about `bytes_max` bytes; where the disk failed, waits no longer than `probe`.
    pub(crate) fn take(&self, into: &mut Vec<Request>, bytes_max: usize, probe: Duration) -> Next {
        let idle = |state: &mut State| state.requests.is_empty() && !state.closed;
        let mut state = self.state();
        if state.spooled.failing.is_some() {
            state = self.changed.wait_timeout_while(state, probe, idle).unwrap_or_else(PoisonError::into_inner).0;
        } else {
            state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        }
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(request) = state.requests.pop_front() else { break };
            bytes += request.bytes;
            into.push(request);
        }
        match (into.is_empty(), state.closed) {
            (false, _) => Next::Requests,
            (true, true) => Next::Closed,
            (true, false) => Next::Probe,
        }
    }

    /// These are durable, the first with this number, in so many bytes. Called before anybody can read them.
    pub(crate) fn kept(&self, requests: Vec<Request>, first: u64, bytes: u64) {
        let mut answers = Vec::with_capacity(requests.len());
        let mut state = self.state();
        state.spooled.bytes += bytes;
        state.spooled.failing = None;
        for (number, request) in (first..).zip(requests) {
            state.queued_bytes -= request.bytes;
            state.spooled.events += request.batch.len() as u64;
            state.spooled.kept_events += request.batch.len() as u64;
            if state.spooled.oldest.is_none() {
                state.spooled.oldest = oldest_of(&request.batch);
            }
            if let Some(straggler) = request.straggler {
                state.stragglers.insert(number, straggler);
            }
            answers.push(request.answer);
        }
        drop(state);
        for answer in answers {
            // The caller may have gone.
            drop(answer.send(Ok(())));
        }
        self.bell.notify_one();
    }

    /// These are not, and the disk takes nothing now.
    pub(crate) fn not_kept(&self, requests: Vec<Request>, why: &str) {
        let mut state = self.state();
        if state.spooled.failing.is_none() {
            tracing::warn!(why, "the spool cannot be written: events are refused while the log takes none");
        }
        state.spooled.failing = Some(why.to_owned());
        state.queued_bytes -= requests.iter().map(|request| request.bytes).sum::<usize>();
        state.batches -= requests.len() as u64;
        self.go_straight_when_empty(&state);
        drop(state);
        for request in requests {
            let error = Error::new(ErrorKind::Retry, format!("cannot keep a batch in the spool now: {why}"));
            drop(request.answer.send(Err(error)));
        }
    }

    /// The disk takes something again.
    pub(crate) fn recovered(&self) {
        self.state().spooled.failing = None;
        tracing::info!("the spool can be written again");
    }

    /// What came of the first try of a batch that is about to be drained.
    pub(crate) fn straggler(&self, number: u64) -> Option<oneshot::Receiver<bool>> {
        self.state().stragglers.remove(&number)
    }

    /// The log takes what is kept quickly, and little is left: whoever comes waits for the rest of it, instead of queueing
    /// behind others for ever.
    pub(crate) fn hand_over(&self) {
        let state = self.state();
        if (1..=HAND_OVER_BATCHES_MAX).contains(&state.batches) {
            self.go(Way::HandingOver);
        }
    }

    /// The log does not take what is left: nobody waits for it.
    pub(crate) fn not_handed_over(&self) {
        let _state = self.state();
        self.go(Way::Kept);
    }

    /// What stands at the head now.
    pub(crate) fn at_head(&self, batch: &[Append]) {
        self.state().spooled.oldest = oldest_of(batch);
    }

    /// The log has so many batches of so many events, and so many bytes of files are gone.
    pub(crate) fn drained(&self, batches: u64, events: u64, freed: u64) {
        let mut state = self.state();
        state.batches -= batches;
        state.full &= freed == 0;
        let spooled = &mut state.spooled;
        spooled.bytes -= freed;
        spooled.events -= events;
        spooled.drained_events += events;
        spooled.stuck = None;
        if spooled.events == 0 {
            spooled.oldest = None;
        }
        self.go_straight_when_empty(&state);
    }

    /// Why the log will never take what stands at the head.
    pub(crate) fn stuck(&self, why: &str) {
        let mut state = self.state();
        if state.spooled.stuck.is_none() {
            tracing::error!(why, "the log refuses what the spool holds: it waits there");
        }
        state.spooled.stuck = Some(why.to_owned());
    }

    pub(crate) fn spooled(&self) -> Spooled {
        self.state().spooled.clone()
    }

    /// Takes nothing more.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
        self.closing.send_replace(true);
        self.bell.notify_one();
    }

    /// Waits until something was kept since the last time, or it is closed.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Waits until it is closed.
    pub(crate) async fn closed(&self) {
        let mut closing = self.closing.subscribe();
        // The sender lives as long as this.
        drop(closing.wait_for(|closing| *closing).await);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Called with the state locked, so that the way and what is kept change together.
    fn go(&self, way: Way) {
        self.way.send_if_modified(|now| std::mem::replace(now, way) != way);
    }

    fn go_straight_when_empty(&self, state: &State) {
        if state.batches == 0 {
            self.go(Way::Straight);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn takes(&mut self, bytes: usize, bytes_max: u64) -> Result<()> {
        let refused =
            |why: String| Err(Error::new(ErrorKind::Retry, format!("cannot keep a batch in the spool: {why}")));
        if self.closed {
            return refused("it is closed".to_owned());
        }
        if let Some(why) = &self.spooled.failing {
            return refused(why.clone());
        }
        if self.spooled.bytes + (self.queued_bytes + bytes) as u64 > bytes_max {
            self.full = true;
            return refused(format!("it is full, at most {bytes_max} bytes wait for the log"));
        }
        if self.queued_bytes + bytes > QUEUE_BYTES_MAX {
            return refused("its disk is slower than what comes in".to_owned());
        }
        Ok(())
    }
}

fn oldest_of(batch: &[Append]) -> Option<LogTime> {
    batch.first().map(|append| append.time)
}
