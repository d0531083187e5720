//! Tells one worker that its partition moves away, or that the process ends.

use std::sync::Arc;

use tokio::sync::watch;

/// Set once, for good. Clones share it.
#[derive(Clone, Debug)]
pub struct Stop {
    set: Arc<watch::Sender<bool>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { set: Arc::new(watch::Sender::new(false)) }
    }
}

impl Stop {
    /// The worker commits what it has applied, closes its state and ends.
    pub fn set(&self) {
        self.set.send_replace(true);
    }

    /// True once it is set.
    pub fn is_set(&self) -> bool {
        *self.set.borrow()
    }

    /// Resolves when it is set.
    pub async fn wait(&self) {
        let mut set = self.set.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _set = set.wait_for(|set| *set).await;
    }
}
