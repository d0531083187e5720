//! The jobs, one file each, named by what they make; and which topic each reads.

mod activity;
mod authors;
mod derived;
mod engagement;
mod graph;
mod identity;
mod posts;
mod robots;
mod sources;
mod stage_one;
mod trends;

use std::sync::Arc;

use millrace_events::Topic;

pub use authors::Authors;
pub use derived::DerivedStage;
pub use engagement::Engagement;
pub use graph::Graph;
pub use identity::Identity;
pub use posts::Posts;
pub use robots::ROBOT_FOR_US;
pub use stage_one::{ALLOWED_LATENESS_US, StageOne, StageOneOptions, TAGS_MAX};
pub use trends::Trends;

use crate::job::{Job, Stage};

/// Tables of job state, per topic. Numbers are on disk and are never reused; 0 and 255 are the store's and the root's.
pub(crate) mod tables {
    /// `actions`: segments of remembered ids.
    pub(crate) const DEDUP_SEGMENTS: u8 = 2;
    /// `actions`: remembered ids by segment.
    pub(crate) const DEDUP_IDS: u8 = 3;
    /// `actions`: how fast actors are.
    pub(crate) const PACES: u8 = 4;
    /// `actions`: what came in by source, all under one key.
    pub(crate) const SOURCES: u8 = 5;
    /// `user-events`: what a user does to another (follow, block, mute).
    pub(crate) const EDGES: u8 = 16;
    /// `user-events`: what others do to a user.
    pub(crate) const EDGES_BACK: u8 = 17;
    /// `user-events`: follower and following counts.
    pub(crate) const USERS: u8 = 18;
    /// `user-events`: posts by author.
    pub(crate) const AUTHORED: u8 = 19;
    /// `user-events`: whose an id is.
    pub(crate) const IDENTITIES: u8 = 20;
    /// `reaction-events`: posts.
    pub(crate) const POSTS: u8 = 16;
    /// `reaction-events`: totals by post.
    pub(crate) const TOTALS: u8 = 17;
    /// `reaction-events`: who likes a post now.
    pub(crate) const LIKES: u8 = 18;
    /// `reaction-events`: the viewers of a post, as a sketch.
    pub(crate) const VIEWERS: u8 = 19;
    /// `reaction-events`: which posts have a window open, by when it closes.
    pub(crate) const WINDOWS_DUE: u8 = 24;
    /// `reaction-events`: open windows that do not stand in their post's totals.
    pub(crate) const WINDOWS_ELSEWHERE: u8 = 25;
    /// `tag-events` and `reaction-events`: where trends stand.
    pub(crate) const TRENDS: u8 = 32;
    /// The same: counts of tags or posts.
    pub(crate) const TRENDS_HISTORIES: u8 = 33;
    /// The same: counts by second of what is busy, by hour.
    pub(crate) const TRENDS_SECONDS: u8 = 34;
    /// The same: what is watched, by window.
    pub(crate) const TRENDS_POOLS: u8 = 35;
    /// The same: what happened ahead of the clock.
    pub(crate) const TRENDS_AHEAD: u8 = 36;
}

/// The stage that reads `topic`, for a log with `partitions` partitions; `None` when no job reads it.
pub fn stage_of(topic: Topic, generation: u32, partitions: u32) -> Option<Arc<dyn Stage>> {
    match topic {
        Topic::Actions => Some(Arc::new(StageOne::new(StageOneOptions::new(generation, partitions)))),
        Topic::UserEvents => {
            let jobs: Vec<Box<dyn Job>> = vec![Box::new(Graph), Box::new(Authors), Box::new(Identity)];
            Some(Arc::new(DerivedStage::new(generation, partitions, jobs)))
        }
        Topic::ReactionEvents => {
            let jobs: Vec<Box<dyn Job>> = vec![Box::new(Posts), Box::new(Engagement), Box::new(Trends::posts())];
            Some(Arc::new(DerivedStage::new(generation, partitions, jobs)))
        }
        Topic::TagEvents => Some(Arc::new(DerivedStage::new(generation, partitions, vec![Box::new(Trends::tags())]))),
        Topic::DeadLetters | Topic::ServedSlates => None,
    }
}

#[cfg(test)]
mod tests;
