//! A post that its author took back.

use crate::hydrate::{Hydrated, Viewer};

pub(crate) fn check(_: &Viewer, candidate: &Hydrated) -> Option<&'static str> {
    candidate.post.as_ref().is_some_and(|post| post.deleted).then_some("the author deleted the post")
}
