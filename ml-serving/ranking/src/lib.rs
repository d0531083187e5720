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
mod cursor;
mod error;
mod feed;
mod filters;
mod hydrate;
mod posts;
mod scorers;
mod selectors;
mod slate;
mod sources;

use std::fmt;
use std::sync::Arc;

use millrace_feature_store::OnlineStore;

pub use author::{AuthorItem, AuthorPage, AuthorQuery};
pub use blend::Weights;
pub use error::{Error, ErrorKind};
pub use feed::HomeQuery;
pub use posts::Engagement;
pub use slate::{Explain, Filtered, MODEL, Model, Parts, ScoreParts, Slate, SlateItem, SourceReport};

/// The result of every call here.
pub type Result<T> = std::result::Result<T, Error>;

/// The most items that one answer holds.
pub const LIMIT_MAX: usize = 100;

/// The most followed authors that are asked for posts: those followed last.
pub const AUTHORS_MAX: usize = 2_000;

/// The most candidates of one feed: the newest. It also bounds the length of a cursor, which lists what is still to come.
pub const CANDIDATES_MAX: usize = 500;

/// The most blocks, and the most mutes, that are read for one viewer; should there ever be more, the oldest are not seen.
pub const RELATIONS_MAX: usize = 100_000;

/// What a [`Ranker`] can be told; the defaults are what the platform runs with.
#[derive(Clone, Copy, Debug)]
pub struct RankerOptions {
    /// How the parts of a score are weighed.
    pub weights: Weights,
    /// A stopwatch in microseconds, for the times in an explanation. It never influences an answer. The default stands still.
    pub stopwatch_us: fn() -> u64,
}

impl Default for RankerOptions {
    fn default() -> Self {
        Self { weights: Weights::default(), stopwatch_us: || 0 }
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
