//! A home feed shows what others wrote.

use crate::hydrate::{Hydrated, Viewer};

pub(crate) fn check(viewer: &Viewer, candidate: &Hydrated) -> Option<&'static str> {
    (candidate.author() == viewer.id).then_some("the viewer wrote the post")
}
