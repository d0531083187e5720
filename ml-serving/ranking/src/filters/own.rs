//! A home feed shows what others wrote.

use crate::hydrate::{Hydrated, Viewer};

pub(crate) fn check(viewer: &Viewer, candidate: &Hydrated) -> Option<&'static str> {
    viewer.is(candidate.author()).then_some("the viewer wrote the post")
}
