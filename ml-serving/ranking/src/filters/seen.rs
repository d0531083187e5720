//! A post that the viewer has already seen.

use crate::hydrate::{Hydrated, Viewer};

pub(crate) fn check(_: &Viewer, candidate: &Hydrated) -> Option<&'static str> {
    candidate.seen.is_some().then_some("the viewer has seen the post")
}
