//! Who may see a post. Each filter is one rule; it gives a reason to remove a candidate, or none.

mod blocked;
mod deleted;
mod foreign;
mod hidden;
mod missing;
mod muted;
mod own;
mod robot;
mod seen;

use crate::hydrate::{Hydrated, Viewer};

/// A candidate that may not be shown.
#[derive(Debug)]
pub(crate) struct Removed {
    pub(crate) hydrated: Hydrated,
    /// The filter that removed it.
    pub(crate) filter: &'static str,
    /// In words.
    pub(crate) why: &'static str,
}

/// One rule: why `candidate` may not be shown to `viewer`, or `None` when it may.
type Filter = fn(viewer: &Viewer, candidate: &Hydrated) -> Option<&'static str>;

/// Every filter, in the order in which they are asked; the first that objects is the one reported.
const FILTERS: &[(&str, Filter)] = &[
    ("missing", missing::check),
    ("foreign", foreign::check),
    ("deleted", deleted::check),
    ("own", own::check),
    ("blocked", blocked::check),
    ("muted", muted::check),
    ("robot", robot::check),
    ("hidden", hidden::check),
    ("seen", seen::check),
];

/// Splits candidates into what may be shown, in the same order, and what was removed and why.
pub(crate) fn filter(viewer: &Viewer, candidates: Vec<Hydrated>) -> (Vec<Hydrated>, Vec<Removed>) {
    let mut kept = Vec::with_capacity(candidates.len());
    let mut removed = Vec::new();
    for hydrated in candidates {
        let objection = FILTERS.iter().find_map(|(name, check)| Some((*name, check(viewer, &hydrated)?)));
        match objection {
            Some((filter, why)) => removed.push(Removed { hydrated, filter, why }),
            None => kept.push(hydrated),
        }
    }
    (kept, removed)
}

#[cfg(test)]
mod tests;
