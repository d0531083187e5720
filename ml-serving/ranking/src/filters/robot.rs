//! A post by a robot that the viewer did not ask for. Who follows a robot sees what it writes.

use crate::hydrate::{Hydrated, Viewer};
use crate::sources::Source;

pub(crate) fn check(_: &Viewer, candidate: &Hydrated) -> Option<&'static str> {
    let is_robots = candidate.post.as_ref().is_some_and(|post| post.robot);
    let was_asked_for = candidate.candidate.source == Source::Follows;
    (is_robots && !was_asked_for).then_some("a robot wrote the post, and the viewer does not follow it")
}
