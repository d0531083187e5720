//! Ending clients in time.
//!
//! To end a client librdkafka waits for threads of its own, which may hang in a name server or a socket. Nobody here waits for
//! that without a bound: what takes longer goes on alone and ends with the process at the latest.

use std::ops::Deref;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long it takes at most to see off appends and end the producers.
pub(crate) const WRITER_CLOSE_MAX: Duration = Duration::from_secs(4);
/// And to end the readers.
pub(crate) const READER_CLOSE_MAX: Duration = Duration::from_secs(1);
/// And to end a client that has nothing to see off.
const CLIENT_CLOSE_MAX: Duration = Duration::from_millis(500);
/// And for a member to leave its group.
pub(crate) const LEAVE_MAX: Duration = Duration::from_secs(5);

/// Does this and waits for it, at most so long.
pub(crate) fn within(bound: Duration, what: &str, work: impl FnOnce() + Send + 'static) {
    if !ends(bound, what, work) {
        tracing::warn!(?bound, "{what} did not end in time: the cluster does not answer, they are left to end alone");
    }
}

/// False when it takes longer.
fn ends(bound: Duration, what: &str, work: impl FnOnce() + Send + 'static) -> bool {
    let (done, ended) = mpsc::channel();
    let started = thread::Builder::new().name("kafka-closing".to_owned()).spawn(move || {
        work();
        // Whoever waited may be gone.
        let _gone = done.send(());
    });
    match started.map(|_| ended.recv_timeout(bound)) {
        Ok(Ok(())) => return true,
        Ok(Err(mpsc::RecvTimeoutError::Timeout)) => return false,
        Ok(Err(mpsc::RecvTimeoutError::Disconnected)) => tracing::error!("{what} ended with a panic"),
        Err(error) => tracing::warn!(%error, "{what} cannot be waited for: there is no thread for it"),
    }
    true
}

/// A client that is waited for only briefly when it is dropped: whoever drops it may be in a hurry.
#[derive(Debug)]
pub(crate) struct Aside<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Aside<T> {
    pub(crate) fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> Deref for Aside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only dropping takes it")
    }
}

impl<T: Send + 'static> Drop for Aside<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        if !ends(CLIENT_CLOSE_MAX, "a client", move || drop(client)) {
            tracing::debug!("a client is left to end alone");
        }
    }
}

#[cfg(test)]
mod tests;
