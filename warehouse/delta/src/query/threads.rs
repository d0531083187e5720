//! The threads that queries run on.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// How far below the rest of the process queries stand, as `nice` counts. Whoever answers feeds or takes events in gets
/// the processor at once when it wants it; queries get what is left, which is everything on a quiet machine.
const NICE: i32 = 10;

/// How many threads read files at most; more reads wait.
const READERS: usize = 4;

/// A runtime of its own: a query that keeps every thread busy delays other queries, and nothing else.
pub(super) struct Threads {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    pub(super) fn start(threads: usize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(READERS)
            .thread_name("queries")
            .on_thread_start(step_back)
            .enable_time()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    pub(super) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let runtime = self.runtime.as_ref().expect("it is taken when dropped, and nobody can call then");
        runtime.spawn(work)
    }

    #[cfg(test)]
    pub(super) fn tasks(&self) -> usize {
        self.runtime.as_ref().unwrap().metrics().num_alive_tasks()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Dropping a runtime waits for what it does, which async code must not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lowers the priority of the thread that calls, for work that may wait for feeds and ingest. On Linux priority belongs to a thread; elsewhere it would be that of
/// the whole process, so there queries keep the priority of everything else.
pub fn step_back() {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !cfg!(target_os = "linux") {
        return;
    }
    if let Err(error) = rustix::process::setpriority_process(None, NICE)
        && !SAID.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(%error, "work in the background runs at the priority of everything else, because its own could not be lowered");
    }
}
