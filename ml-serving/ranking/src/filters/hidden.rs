//! A post that the viewer hid.

use crate::hydrate::{Hydrated, Viewer};

pub(crate) fn check(_: &Viewer, candidate: &Hydrated) -> Option<&'static str> {
    candidate.seen.is_some_and(|seen| seen.hidden).then_some("the viewer hid the post")
}
