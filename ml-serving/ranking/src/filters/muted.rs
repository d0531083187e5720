//! A mute hides one way.

use crate::hydrate::{Hydrated, Viewer};

pub(crate) fn check(viewer: &Viewer, candidate: &Hydrated) -> Option<&'static str> {
    viewer.muted.contains(candidate.author()).then_some("the viewer mutes the author")
}
