//! The bounded queue between those who append and the one thread that commits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_events::Topic;
use tokio::sync::oneshot;

use crate::{Append, Error, ErrorKind, Offset, Result};

/// How many times the bounds of the queue it may hold for the sake of appends that are not what clients send: what follows
/// from an action must go on while clients keep the queue full, or nothing that is in the log would ever be processed.
const RESERVE_FACTOR: usize = 2;

/// One call to `append`.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) batch: Vec<Append>,
    pub(super) bytes: usize,
    pub(super) answer: oneshot::Sender<Result<Vec<Offset>>>,
}

impl Request {
    /// True for what clients send, as opposed to what the pipelines make of it.
    fn is_intake(&self) -> bool {
        self.batch.iter().any(|append| append.to.topic == Topic::Actions)
    }

    /// Tells the caller to repeat it later.
    pub(super) fn refuse(self) {
        // Nobody waits for the answer when the caller was cancelled.
        drop(self.answer.send(Err(failing())));
    }
}

/// What the log can do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Everything.
    Open,
    /// Reading; writing failed and is being tried again.
    Failing,
    /// Reading; the disk does not hold what it acknowledged, and only a person can say what to do.
    Broken,
    /// Reading; this process is ending.
    Closed,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Next {
    /// Commit these.
    Requests,
    /// Nothing came for a while.
    Idle,
    /// Nothing will ever come.
    Closed,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    bytes_max: usize,
    requests_max: usize,
    state: Mutex<State>,
    /// Signalled when the queue is no longer empty and when the phase changes.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    requests: VecDeque<Request>,
    bytes: usize,
    phase: Phase,
}

impl Queue {
    pub(super) fn new(bytes_max: usize, requests_max: usize) -> Self {
        let state = State { requests: VecDeque::new(), bytes: 0, phase: Phase::Open };
        Self { bytes_max, requests_max, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Queues a request, or says at once why not.
    pub(super) fn push(&self, request: Request) -> Result<()> {
        let mut state = self.state();
        match state.phase {
            Phase::Open => {}
            Phase::Failing => return Err(failing()),
            Phase::Broken => {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    "cannot append: the disk lost records that were acknowledged",
                ));
            }
            Phase::Closed => return Err(Error::new(ErrorKind::Retry, "cannot append: the log is closed")),
        }
        let factor = if request.is_intake() { 1 } else { RESERVE_FACTOR };
        let (bytes_max, requests_max) =
            (self.bytes_max.saturating_mul(factor), self.requests_max.saturating_mul(factor));
        if state.bytes.saturating_add(request.bytes) > bytes_max || state.requests.len() >= requests_max {
            return Err(Error::new(ErrorKind::Retry, "cannot append: the log's queue is full; try again in a moment"));
        }
        state.bytes += request.bytes;
        state.requests.push_back(request);
        let was_empty = state.requests.len() == 1;
        drop(state);
        if was_empty {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Moves what is queued into `into`, up to about `bytes_max` bytes; waits up to `patience` for something to come.
    pub(super) fn take(&self, into: &mut Vec<Request>, bytes_max: usize, patience: Duration) -> Next {
        let waiting = |state: &mut State| state.requests.is_empty() && state.phase != Phase::Closed;
        let waited = self.changed.wait_timeout_while(self.state(), patience, waiting);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(request) = state.requests.pop_front() else { break };
            bytes += request.bytes;
            into.push(request);
        }
        state.bytes -= bytes;
        match (into.is_empty(), state.phase) {
            (false, _) => Next::Requests,
            (true, Phase::Closed) => Next::Closed,
            (true, _) => Next::Idle,
        }
    }

    /// Enters `phase` and answers what is queued, unless it is an open one. A closed queue stays closed.
    pub(super) fn enter(&self, phase: Phase) {
        let refused = {
            let mut state = self.state();
            if state.phase != Phase::Closed {
                state.phase = phase;
            }
            if phase == Phase::Open || phase == Phase::Closed {
                VecDeque::new()
            } else {
                state.bytes = 0;
                std::mem::take(&mut state.requests)
            }
        };
        refused.into_iter().for_each(Request::refuse);
        self.changed.notify_all();
    }

    /// Answers what is queued and closes: for a thread that ends without having been told to.
    pub(super) fn abandon(&self) {
        self.enter(Phase::Failing);
        self.enter(Phase::Closed);
    }

    /// Waits for `pause`, or until the queue is closed; true when it is closed.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let waiting = |state: &mut State| state.phase != Phase::Closed;
        let waited = self.changed.wait_timeout_while(self.state(), pause, waiting);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.phase == Phase::Closed
    }

    /// How many bytes of what clients send may wait: also the bound of one request.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    pub(super) fn phase(&self) -> Phase {
        self.state().phase
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failing() -> Error {
    Error::new(ErrorKind::Retry, "the log cannot write to its disk now; it goes on by itself when the disk allows")
}
