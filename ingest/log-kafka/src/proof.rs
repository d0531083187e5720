//! Whether the cluster is the one that it must be, for a log that was opened before its cluster could be asked.

use std::sync::Arc;
use std::time::Duration;

use millrace_log::{Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::identity;
use crate::topics::Topics;

/// The pause between two questions to a cluster that did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// How often in a row it must say that it is another, or has other topics: one that is only just starting may not know its own.
const REFUSED_MAX: u32 = 10;

/// What is known by now: nothing, that it is the right one, or why it is not.
#[derive(Debug)]
pub(crate) struct Proof(watch::Sender<Option<std::result::Result<(), String>>>);

impl Proof {
    /// Of a log whose cluster was asked before it was opened.
    pub(crate) fn given() -> Self {
        Self(watch::Sender::new(Some(Ok(()))))
    }

    /// Of one that is asked later.
    pub(crate) fn wanted() -> Self {
        Self(watch::Sender::new(None))
    }

    pub(crate) fn is_given(&self) -> bool {
        matches!(*self.0.borrow(), Some(Ok(())))
    }

    /// # Errors
    /// [`ErrorKind::Retry`] until the cluster has answered; [`ErrorKind::Invalid`] for good when it is another one.
    pub(crate) fn check(&self) -> Result<()> {
        match &*self.0.borrow() {
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => Err(Error::new(ErrorKind::Invalid, why.clone())),
            None => {
                Err(Error::new(ErrorKind::Retry, "the cluster has not answered yet since this process was started"))
            }
        }
    }

    /// The same, after waiting for an answer as long as any question waits.
    ///
    /// # Errors
    /// As of [`Self::check`].
    pub(crate) async fn await_answer(&self, patience: Duration) -> Result<()> {
        if !self.is_given() {
            let mut known = self.0.subscribe();
            // Whether it came in time is seen next.
            drop(timeout(patience, known.wait_for(Option::is_some)).await);
        }
        self.check()
    }

    /// Asks until the cluster says that it is `expected`, and its topics are there; or, again and again, that it is not.
    pub(crate) async fn find(self: Arc<Self>, topics: Arc<Topics>, expected: String) {
        let (mut refused, mut told) = (0, String::new());
        let found = loop {
            let error = match prove(&topics, &expected).await {
                Ok(()) => break Ok(()),
                Err(error) => error,
            };
            refused = if error.kind() == ErrorKind::Retry { 0 } else { refused + 1 };
            let why = error.to_string();
            if refused == REFUSED_MAX {
                break Err(why);
            }
            // Each reason once: there may be days of it.
            if why != told {
                tracing::warn!(%error, "the log cannot be used yet");
                told = why;
            }
            sleep(PAUSE).await;
        };
        match &found {
            Ok(()) => tracing::warn!(log = expected, "the log answers"),
            Err(error) => tracing::error!(error, "the log cannot be used: stop this process and correct the cause"),
        }
        self.0.send_replace(Some(found));
    }
}

async fn prove(topics: &Topics, expected: &str) -> Result<()> {
    let found = identity(&topics.options, &topics.asking).await?;
    if found != expected {
        let why = format!("this log is `{found}`, and what is kept here follows `{expected}`: give --log as it was");
        return Err(Error::new(ErrorKind::Invalid, why));
    }
    topics.ensure().await
}
