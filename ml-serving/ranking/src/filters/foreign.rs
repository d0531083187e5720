//! A post id that stands in the list of somebody who did not write it: the id was taken when they created theirs.

use crate::hydrate::{Hydrated, Viewer};

pub(crate) fn check(_: &Viewer, candidate: &Hydrated) -> Option<&'static str> {
    let author = candidate.post.as_ref().map(|post| post.author_id.as_str());
    (author != Some(candidate.candidate.author_id.as_str())).then_some("somebody else wrote the post with this id")
}
