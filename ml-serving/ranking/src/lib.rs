//! Decides: which posts a viewer is shown, and in which order.
//!
//! A home feed is one straight function ([`Ranker::home`], in `feed.rs`) over stages that each have a folder:
//! `sources` bring candidates, `hydrate` reads what is known about them, `filters` say who may see a post, `scorers` put
//! numbers on it, `blend` makes one score of them, `selectors` order the slate. May-show and where-ranked never mix: a
//! filter gives no score, a scorer drops nothing. The feed is pulled at read from the followed authors' own lists, not
//! pushed into one list per viewer, so an unfollow, a block or a deletion acts on the very next answer.
//!
//! "Now" is the log's clock as of which the present is complete, so a replayed log is served as it was. This crate must
//! never know HTTP, a wall clock, the log or who writes the online store.

mod as_of;
mod author;
mod blend;
mod budget;
mod cursor;
mod error;
mod feed;
mod filters;
mod hydrate;
mod later;
mod person;
mod posts;
mod record;
mod scorers;
mod selectors;
mod slate;
mod sources;
mod trends;

use std::fmt;
use std::sync::Arc;

use millrace_feature_store::OnlineStore;

pub use author::{AuthorItem, AuthorPage, AuthorQuery};
pub use blend::Weights;
pub use budget::Pause;
#[cfg(feature = "testing")]
pub use cursor::testing;
pub use error::{Error, ErrorKind};
pub use feed::HomeQuery;
pub use posts::Engagement;
pub use slate::{Explain, Filtered, MODEL, Model, Parts, ScoreParts, Slate, SlateItem, SourceReport};
pub use trends::{RISING_SCORE, Trend, Trends};

/// The result of every call here.
pub type Result<T> = std::result::Result<T, Error>;

/// The most items that one answer holds.
pub const LIMIT_MAX: usize = 100;

/// The most followed authors that are asked for posts: those followed last.
pub const AUTHORS_MAX: usize = 2_000;

/// The most candidates that the followed authors bring: the newest.
pub const FOLLOWED_CANDIDATES_MAX: usize = 500;

/// The most candidates that rise: those that rise most.
pub const TRENDING_CANDIDATES_MAX: usize = 200;

/// The most candidates that are only new: the newest.
pub const FRESH_CANDIDATES_MAX: usize = 200;

/// The most candidates of one feed.
pub const CANDIDATES_MAX: usize = FOLLOWED_CANDIDATES_MAX + TRENDING_CANDIDATES_MAX + FRESH_CANDIDATES_MAX;

/// The most blocks, and the most mutes, that are read for one viewer; should there ever be more, the oldest are not seen.
pub const RELATIONS_MAX: usize = 100_000;

/// [`RankerOptions::budget_us`] when nothing else is said: some ten times what a feed takes at the 99th percentile, so that only
/// a store that hangs costs a viewer the posts of those they follow.
pub const BUDGET_US: u64 = 100_000;

/// What a [`Ranker`] can be told; the defaults are what the platform runs with.
#[derive(Clone)]
pub struct RankerOptions {
    /// How the parts of a score are weighed.
    pub weights: Weights,
    /// How long the first page of a feed may wait for what it can do without, microseconds. What is not there in time is left
    /// out and reported.
    pub budget_us: u64,
    /// A stopwatch in microseconds, for the budget and for the times in an explanation. The default stands still.
    pub stopwatch_us: fn() -> u64,
    /// Ends after the time it is given: how the budget is kept. The default never ends, so that everything is waited for.
    pub pause: Pause,
}

impl Default for RankerOptions {
    fn default() -> Self {
        Self {
            weights: Weights::default(),
            budget_us: BUDGET_US,
            stopwatch_us: || 0,
            pause: Arc::new(|_| Box::pin(std::future::pending())),
        }
    }
}

impl fmt::Debug for RankerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RankerOptions");
        shown.field("weights", &self.weights).field("budget_us", &self.budget_us).finish_non_exhaustive()
    }
}

/// Answers what to show. Holds no state of its own.
#[derive(Clone)]
pub struct Ranker {
    store: Arc<dyn OnlineStore>,
    partitions: u32,
    options: RankerOptions,
}

impl Ranker {
    /// A ranker over the present in `store`, whose topics have `partitions` partitions.
    pub fn new(store: Arc<dyn OnlineStore>, partitions: u32, options: RankerOptions) -> Self {
        Self { store, partitions, options }
    }
}

impl fmt::Debug for Ranker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ranker").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
