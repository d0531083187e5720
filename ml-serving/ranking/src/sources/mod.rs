//! Where candidates come from. A source names posts and nothing more: whether one may be shown is for the filters.
//!
//! Sources are asked at the same time. A post that several bring has one reason, the first of them in the order of [`Source`].

pub(crate) mod followed;
pub(crate) mod fresh;
pub(crate) mod trending;

use rustc_hash::FxHashSet;

/// Who brought a post. What a viewer asked for by following somebody goes before what others make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    /// The authors followed wrote it.
    Follows,
    /// It rises now.
    Trending,
    /// It is new.
    Fresh,
}

impl Source {
    /// The public name, as in `reason`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Source::Follows => "follows",
            Source::Trending => "trending",
            Source::Fresh => "fresh",
        }
    }
}

/// A post that a source proposes.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) post_id: String,
    pub(crate) source: Source,
    /// The author in whose list it stands; the post's own record decides whether that is its author. Absent where the list
    /// is nobody's.
    pub(crate) listed_by: Option<String>,
    /// The time of creation by the list that it stands in, microseconds; 0 where the list does not say.
    pub(crate) listed_us: i64,
}

/// The candidates of lists that are nobody's, each post once, for the first that brought it.
pub(crate) fn merge(trending: Vec<Candidate>, fresh: Vec<Candidate>) -> Vec<Candidate> {
    let mut known = FxHashSet::default();
    let mut merged = Vec::with_capacity(trending.len() + fresh.len());
    for candidate in trending.into_iter().chain(fresh) {
        if known.insert(candidate.post_id.clone()) {
            merged.push(candidate);
        }
    }
    merged
}
