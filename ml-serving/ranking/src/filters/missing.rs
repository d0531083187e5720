//! A post that is listed but has no record: its creation was applied for the author and not yet for the post.

use crate::hydrate::{Hydrated, Viewer};

pub(crate) fn check(_: &Viewer, candidate: &Hydrated) -> Option<&'static str> {
    candidate.post.is_none().then_some("the post is not known yet")
}
