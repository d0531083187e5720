//! A block hides both ways.

use crate::hydrate::{Hydrated, Viewer};

pub(crate) fn check(viewer: &Viewer, candidate: &Hydrated) -> Option<&'static str> {
    let author = candidate.author();
    if viewer.blocked.contains(author) {
        return Some("the viewer blocks the author");
    }
    viewer.blocked_by.contains(author).then_some("the author blocks the viewer")
}
