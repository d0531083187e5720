//! Topics and how keys find their partition.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_64;

/// The most partitions a topic may have.
pub const PARTITIONS_MAX: u32 = 1024;

/// A topic of the log. What each holds and how it is keyed is in `ARCHITECTURE.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Topic {
    /// Every accepted event as received, duplicates included, and ticks; keyed by the actor as sent.
    Actions = 1,
    /// What concerns a user (their posts, follows, blocks); keyed by that user.
    UserEvents = 2,
    /// What concerns a post (its life and the reactions to it); keyed by the post.
    ReactionEvents = 3,
    /// What could not be accepted or applied, with the reason. Always one partition.
    DeadLetters = 4,
    /// The use of a tag by a post; keyed by the tag.
    TagEvents = 5,
    /// What was served to a viewer, with every candidate; keyed by the viewer. No write key can write it.
    ServedSlates = 6,
}

impl Topic {
    /// Every topic, in the order of their numbers.
    pub const ALL: [Topic; 6] = [
        Topic::Actions,
        Topic::UserEvents,
        Topic::ReactionEvents,
        Topic::DeadLetters,
        Topic::TagEvents,
        Topic::ServedSlates,
    ];

    /// The topics that stage 1 derives from `actions`.
    pub const DERIVED: [Topic; 3] = [Topic::UserEvents, Topic::ReactionEvents, Topic::TagEvents];

    /// The public name, as in `millrace tail NAME`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Topic::Actions => "actions",
            Topic::UserEvents => "user-events",
            Topic::ReactionEvents => "reaction-events",
            Topic::DeadLetters => "dead-letters",
            Topic::TagEvents => "tag-events",
            Topic::ServedSlates => "served-slates",
        }
    }

    /// How many partitions this topic has when the deployment declares `partitions`.
    pub const fn partitions(self, partitions: u32) -> u32 {
        match self {
            Topic::DeadLetters => 1,
            _ => partitions,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A topic name that does not exist.
#[derive(Debug, thiserror::Error)]
#[error(
    "unknown topic {0:?}: use one of actions, user-events, reaction-events, dead-letters, tag-events, served-slates"
)]
pub struct UnknownTopic(String);

impl FromStr for Topic {
    type Err = UnknownTopic;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Topic::ALL.into_iter().find(|t| t.as_str() == name).ok_or_else(|| UnknownTopic(name.to_owned()))
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Topic,
    /// Its partition, from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub const fn new(topic: Topic, partition: u32) -> Self {
        Self { topic, partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The partition of `key` among `partitions`: a pure function of the bytes, so that a retry lands where the first try did.
///
/// XXH3-64 modulo the count. Changing this function is a new generation of the log.
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    debug_assert!(partitions > 0 && partitions <= PARTITIONS_MAX);
    let bucket = xxh3_64(key) % u64::from(partitions.max(1));
    u32::try_from(bucket).unwrap_or(0)
}
