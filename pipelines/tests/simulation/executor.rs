//! A single-threaded executor whose only source of order is a seed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Tasks of processes that can be frozen and killed between any two of their awaits.
pub(crate) struct Executor {
    pub(crate) random: SmallRng,
    tasks: Vec<Task>,
}

struct Task {
    process: u32,
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Flag>,
    frozen: bool,
    done: bool,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Executor {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), tasks: Vec::new() }
    }

    pub(crate) fn spawn(&mut self, process: u32, future: impl Future<Output = ()> + 'static) {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        self.tasks.push(Task { process, future: Box::pin(future), woken, frozen: false, done: false });
    }

    /// The process stops being scheduled; what it sent before goes on without it.
    pub(crate) fn freeze(&mut self, process: u32, frozen: bool) {
        self.tasks.iter_mut().filter(|t| t.process == process).for_each(|t| t.frozen = frozen);
    }

    /// The process is gone, wherever its tasks were.
    pub(crate) fn kill(&mut self, process: u32) {
        self.tasks.retain(|t| t.process != process);
    }

    /// Polls one task that can go on; false when there is none.
    pub(crate) fn step(&mut self) -> bool {
        let ready: Vec<usize> = (0..self.tasks.len())
            .filter(|i| {
                let task = &self.tasks[*i];
                !task.done && !task.frozen && task.woken.0.load(Ordering::Relaxed)
            })
            .collect();
        if ready.is_empty() {
            return false;
        }
        let task = &mut self.tasks[ready[self.random.random_range(0..ready.len())]];
        task.woken.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(task.woken.clone());
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            task.done = true;
        }
        true
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// Gives every other task a chance to run, and the simulation a chance to kill this one.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
