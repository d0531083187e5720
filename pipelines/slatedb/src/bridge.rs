//! Between jobs, which read without awaiting, and SlateDB, which awaits.

use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::time::Duration;

use futures::FutureExt;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::task::JoinError;

/// The threads of a store. SlateDB works on them and on no other, so that a caller may block its own thread for it.
pub(crate) struct Bridge {
    /// Taken only when it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

/// The threads of the store ended, or the work on them panicked: what was asked was not answered.
#[derive(Debug, thiserror::Error)]
#[error("the work for it ended before it was done")]
pub(crate) struct Ended;

/// There was no answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}: is the object store reachable?")]
pub(crate) struct Late(pub(crate) Duration);

impl Bridge {
    pub(crate) fn new(threads: usize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            // Names are looked up and files are read there.
            .max_blocking_threads(threads.max(1) * 4)
            .thread_name("slatedb")
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Runs to its end on the threads of the store, also when nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Ended> {
        self.handle.spawn(future).await.map_err(ended)
    }

    /// To begin something that ends by itself.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits on the calling thread, of a runtime or not (only a `LocalSet` on several threads cannot be waited in: tokio
    /// forbids it). What needs no waiting costs no other thread.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        within: Duration,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<Result<T, Late>, Ended> {
        let mut future = Box::pin(future);
        let entered = self.handle.enter();
        let at_once = (&mut future).now_or_never();
        drop(entered);
        if let Some(done) = at_once {
            return Ok(Ok(done));
        }
        let (send, receive) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            let done = tokio::time::timeout(within, future).await.map_err(|_| Late(within));
            // Nobody waits only when the thread that did is gone.
            drop(send.send(done));
        });
        // On a thread of a runtime others wait for it, and that runtime can be told.
        let told = Handle::try_current().is_ok_and(|here| here.runtime_flavor() == RuntimeFlavor::MultiThread);
        let received = if told { tokio::task::block_in_place(|| receive.recv()) } else { receive.recv() };
        received.map_err(|_| Ended)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it could block a thread of a runtime, where that is forbidden.
            runtime.shutdown_background();
        }
    }
}

fn ended(error: JoinError) -> Ended {
    if error.is_panic() {
        tracing::error!(%error, "work for job state panicked");
    }
    Ended
}

#[cfg(test)]
mod tests;
