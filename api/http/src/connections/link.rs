//! What is known of one connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{HEAD_TIMEOUT, IDLE_TIMEOUT, STALL_TIMEOUT};
use crate::address::Address;

/// No answer waits for its reader.
const FLOWING: u64 = u64::MAX;

/// What a connection is doing, the lower the sooner it is closed for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It owes a head: it is new, or has sent a part of one.
    Head,
    /// It was answered and is silent.
    Idle,
    /// A request is in progress.
    Busy,
    /// It has to go.
    Closed,
}

impl Phase {
    const ALL: [Phase; 4] = [Phase::Head, Phase::Idle, Phase::Busy, Phase::Closed];
}

/// How long a connection has waited, to be compared with others: the least goes first.
pub(super) type Waiting = (u8, u64);

/// One connection, as it tells of itself.
#[derive(Debug)]
pub(crate) struct Link {
    id: u64,
    address: Address,
    started: Instant,
    /// The phase in the lowest two bits, and since when, in milliseconds: one word, because they change together.
    state: AtomicU64,
    /// Since when an answer waits for its reader, in milliseconds.
    stalled_ms: AtomicU64,
    closed: Notify,
}

impl Link {
    pub(super) fn new(id: u64, address: Address, started: Instant) -> Self {
        let link = Self {
            id,
            address,
            started,
            state: AtomicU64::new(0),
            stalled_ms: AtomicU64::new(FLOWING),
            closed: Notify::new(),
        };
        link.state.store(link.word(Phase::Head), Ordering::Release);
        link
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn address(&self) -> Address {
        self.address
    }

    /// Returns when the connection has to be closed.
    pub(crate) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Bytes came in.
    pub(super) fn received(&self) {
        let state = self.state.load(Ordering::Acquire);
        if phase(state) == Phase::Idle {
            self.change(state, Phase::Head);
        }
    }

    /// An answer could go on its way, or could not.
    pub(super) fn sent(&self, is_flowing: bool) {
        let was = self.stalled_ms.load(Ordering::Relaxed);
        if is_flowing != (was == FLOWING) {
            self.stalled_ms.store(if is_flowing { FLOWING } else { self.now_ms() }, Ordering::Relaxed);
        }
    }

    /// A head is complete. False when the connection was closed in that moment: the request counts as never received.
    pub(crate) fn begin(&self) -> bool {
        loop {
            let state = self.state.load(Ordering::Acquire);
            if phase(state) == Phase::Closed {
                return false;
            }
            if self.change(state, Phase::Busy) {
                return true;
            }
        }
    }

    /// The answer is complete.
    fn end(&self) {
        let state = self.state.load(Ordering::Acquire);
        if phase(state) == Phase::Busy {
            self.change(state, Phase::Idle);
        }
    }

    /// How long it has waited without a request in progress.
    pub(super) fn waits(&self) -> Option<Waiting> {
        let state = self.state.load(Ordering::Acquire);
        let phase = phase(state);
        (phase < Phase::Busy).then_some((phase as u8, since_ms(state)))
    }

    /// Closes it when it still waits as it did.
    pub(super) fn close_if_waits(&self, (as_phase, since_ms): Waiting) -> bool {
        let state = since_ms << 2 | u64::from(as_phase);
        self.close(state, "for_another")
    }

    /// Closes it when its client has taken too long. True when it is closed.
    pub(super) fn close_if_slow(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        let waited_ms = |since_ms: u64| u128::from(self.now_ms().saturating_sub(since_ms));
        let is_stalled = waited_ms(self.stalled_ms.load(Ordering::Relaxed)) >= STALL_TIMEOUT.as_millis();
        match phase(state) {
            Phase::Closed => true,
            _ if is_stalled => self.close(state, "unread"),
            Phase::Head if waited_ms(since_ms(state)) >= HEAD_TIMEOUT.as_millis() => self.close(state, "slow_head"),
            Phase::Idle if waited_ms(since_ms(state)) >= IDLE_TIMEOUT.as_millis() => self.close(state, "idle"),
            Phase::Head | Phase::Idle | Phase::Busy => false,
        }
    }

    fn close(&self, state: u64, why: &'static str) -> bool {
        let done = self.change(state, Phase::Closed);
        if done {
            metrics::counter!("millrace_api_connections_closed_total", "why" => why).increment(1);
            self.closed.notify_one();
        }
        done
    }

    fn change(&self, from: u64, to: Phase) -> bool {
        self.state.compare_exchange(from, self.word(to), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn word(&self, phase: Phase) -> u64 {
        self.now_ms() << 2 | phase as u64
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn phase(state: u64) -> Phase {
    Phase::ALL[(state & 3) as usize]
}

fn since_ms(state: u64) -> u64 {
    state >> 2
}

/// The body of an answer; the request is in progress until the last of it was taken.
pub(crate) struct Answered {
    body: Body,
    link: Arc<Link>,
}

impl Answered {
    pub(crate) fn new(body: Body, link: Arc<Link>) -> Self {
        Self { body, link }
    }
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.link.end();
    }
}
