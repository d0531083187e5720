//! A post id that stands in the list of somebody who did not write it: the id was taken when they created theirs.

use crate::hydrate::{Hydrated, Viewer};

pub(crate) fn check(_: &Viewer, candidate: &Hydrated) -> Option<&'static str> {
    candidate.is_foreign().then_some("somebody else wrote the post with this id")
}
