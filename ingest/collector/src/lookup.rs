//! Looking once more before a key that is not known is refused: it may have been made a moment ago, and clients throw away what
//! is refused for its key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::key::KeyHash;

/// How many requests may wait at once: whoever has no key must not keep others out by having many requests wait.
pub(crate) const LOOKS_MAX: usize = 64;
/// For how long a key that was looked for in vain is refused without another look.
const IN_VAIN: Duration = Duration::from_secs(1);
/// How many of those are remembered.
const IN_VAIN_MAX: usize = 1024;

/// Where keys are made.
#[async_trait]
pub trait LatestKeys: Send + Sync {
    /// Hands what keys there are at this moment to [`Collector::set_keys`](crate::Collector::set_keys), if that is not what it
    /// was handed last. False when that cannot be told soon.
    async fn update(&self) -> bool;
}

/// What a look has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// The keys are those of this moment now.
    Updated,
    /// There is nothing to be found.
    Nothing,
    /// Nobody knows: too many look already, or there was no answer soon.
    Undecided,
}

/// See the module.
pub(crate) struct Lookup {
    latest: OnceLock<Arc<dyn LatestKeys>>,
    places: Semaphore,
    /// When keys were looked for in vain.
    in_vain: Mutex<HashMap<KeyHash, Instant>>,
}

impl Lookup {
    pub(crate) fn nowhere() -> Self {
        Self { latest: OnceLock::new(), places: Semaphore::new(LOOKS_MAX), in_vain: Mutex::default() }
    }

    /// Of several calls the first counts.
    pub(crate) fn look_in(&self, latest: Arc<dyn LatestKeys>) {
        drop(self.latest.set(latest));
    }

    pub(crate) async fn look_for(&self, key: KeyHash) -> Looked {
        let Some(latest) = self.latest.get().filter(|_| !self.is_in_vain(key)) else { return Looked::Nothing };
        let Ok(_place) = self.places.try_acquire() else { return Looked::Undecided };
        if latest.update().await { Looked::Updated } else { Looked::Undecided }
    }

    /// The keys of this moment are without it.
    pub(crate) fn was_in_vain(&self, key: KeyHash) {
        let now = Instant::now();
        let mut in_vain = self.in_vain.lock().unwrap_or_else(PoisonError::into_inner);
        if in_vain.len() >= IN_VAIN_MAX {
            in_vain.retain(|_, at| now - *at < IN_VAIN);
        }
        if in_vain.len() < IN_VAIN_MAX {
            in_vain.insert(key, now);
        }
    }

    fn is_in_vain(&self, key: KeyHash) -> bool {
        let in_vain = self.in_vain.lock().unwrap_or_else(PoisonError::into_inner);
        in_vain.get(&key).is_some_and(|at| at.elapsed() < IN_VAIN)
    }
}
