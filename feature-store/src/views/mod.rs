//! Every record and list of the online store: its number, its key, its fields. The single definition.
//!
//! Values are Protobuf; fields are added, never repurposed. Numbers of views are on disk and are never reused.

use bytes::{BufMut, Bytes, BytesMut};
use millrace_events::{PostContent, TopicPartition, Window};
use prost::Message;

use crate::online::{Error, ErrorKind, ListKey, RecordKey};

/// Record: a post, by post id. Written by `posts` on `reaction-events`. See [`PostRecord`].
pub const POST: u8 = 1;
/// Record: the totals of a post, by post id. Written by `engagement`. See [`EngagementRecord`].
pub const ENGAGEMENT: u8 = 2;
/// Record: a user, by user id. Written by `graph`. See [`UserRecord`].
pub const USER: u8 = 3;
/// Record: viewer × post, see [`seen_key`]. Written by stage 1. See [`SeenRecord`].
pub const SEEN: u8 = 4;
/// Record: how far a partition of a topic has been applied, see [`progress_key`]. Written by the runner; not content.
pub const PROGRESS: u8 = 5;

/// Record: what rises in one partition, see [`trends_key`]. Written by `trends`. See [`TrendsRecord`].
pub const TRENDS: u8 = 6;

/// Record: whose an id is, by that id. Written by `identity`. See [`IdentityRecord`], and [`crate::person`] for what follows
/// from it.
pub const IDENTITY: u8 = 7;

/// List: the posts of an author, by author id; score is the time of creation in microseconds, member the post id.
/// Written by `authors`.
pub const AUTHOR_POSTS: u8 = 32;
/// List: whom a user follows; score is the event time of the follow in microseconds, member the followed user.
/// Written by `graph`, like the three below.
pub const FOLLOWING: u8 = 33;
/// List: whom a user blocks.
pub const BLOCKED: u8 = 34;
/// List: by whom a user is blocked.
pub const BLOCKED_BY: u8 = 35;
/// List: whom a user mutes.
pub const MUTED: u8 = 36;
/// List: what a viewer last reacted to, see [`reaction_member`]; score is the latest event time in microseconds. Only the first
/// [`REACTIONS_MAX`] are content; older ones may be dropped. An unlike is a member of its own: a like counts when no unlike
/// of the same post has a later or equal score. Written by stage 1.
pub const REACTIONS: u8 = 37;

/// List: the newest posts of one partition of `reaction-events`, see [`fresh_key`]; score is the time of creation in
/// microseconds, member the post id. Only the first [`FRESH_MAX`] are content. A member may have been deleted since: the
/// post's own record says so. What a robot wrote is not listed. Written by `posts`.
pub const FRESH: u8 = 38;

/// List: ids that were said to belong to this one, by this one; score is the latest event time at which that was said, in
/// microseconds, member the other id. Only the first [`ALIASES_MAX`] are content. A member is a claim: it is true while the
/// member's own [`IDENTITY`] says the same. Written by `identity`.
pub const ALIASES: u8 = 39;

/// List: edges that a user no longer has, or never had when they were taken back, by user, see [`undone_member`]; score is the
/// latest event time of that in microseconds. Only the first [`UNDONE_MAX`] are content. It does not say that the edge is not
/// there now: the edge's own list does. It is for a person with several ids, of whom one may take back what another did.
/// Written by `graph`.
pub const UNDONE: u8 = 40;

/// How many ids that are said to belong to one are kept: those that were last.
pub const ALIASES_MAX: usize = 32;

/// How many of the edges that a user took back are kept: the last ones.
pub const UNDONE_MAX: usize = 256;

/// How many of a viewer's last reactions are kept.
pub const REACTIONS_MAX: usize = 256;

/// How many of a partition's newest posts are kept.
pub const FRESH_MAX: usize = 256;

/// Lists of which only a head is kept: the view and its length. Their members are never removed and keep their highest
/// score: what has fallen off the end would otherwise have to come back.
pub const BOUNDED_LISTS: &[(u8, usize)] =
    &[(REACTIONS, REACTIONS_MAX), (FRESH, FRESH_MAX), (ALIASES, ALIASES_MAX), (UNDONE, UNDONE_MAX)];

/// How many items of a list in `view` exist for readers: its bound, or [`usize::MAX`].
pub fn bound_of(view: u8) -> usize {
    BOUNDED_LISTS.iter().find(|(bounded, _)| *bounded == view).map_or(usize::MAX, |(_, bound)| *bound)
}

/// A post as serving shows it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PostRecord {
    /// Who wrote it.
    #[prost(string, tag = "1")]
    pub author_id: String,
    /// Event time of its creation, microseconds.
    #[prost(sint64, tag = "2")]
    pub created_at_us: i64,
    /// Event time of its last edit, microseconds; 0 when never edited.
    #[prost(sint64, tag = "3")]
    pub edited_at_us: i64,
    /// Deleted by its author: the content is gone.
    #[prost(bool, tag = "4")]
    pub deleted: bool,
    /// What it says.
    #[prost(message, optional, tag = "5")]
    pub content: Option<PostContent>,
    /// A robot wrote it. An edit by a robot does not make it one's.
    #[prost(bool, tag = "6")]
    pub robot: bool,
}

/// The totals of a post. Likes are the actors who like it now; unique viewers an estimate; the rest count every event.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EngagementRecord {
    /// Views, every one.
    #[prost(uint64, tag = "1")]
    pub views: u64,
    /// Distinct viewers, a HyperLogLog estimate (relative standard error 1.6 %).
    #[prost(uint64, tag = "2")]
    pub unique_viewers: u64,
    /// Clicks.
    #[prost(uint64, tag = "3")]
    pub clicks: u64,
    /// Actors who like it now.
    #[prost(uint64, tag = "4")]
    pub likes: u64,
    /// Comments.
    #[prost(uint64, tag = "5")]
    pub comments: u64,
    /// Shares.
    #[prost(uint64, tag = "6")]
    pub shares: u64,
    /// Saves.
    #[prost(uint64, tag = "7")]
    pub saves: u64,
    /// Hides.
    #[prost(uint64, tag = "8")]
    pub hides: u64,
    /// Reports.
    #[prost(uint64, tag = "9")]
    pub reports: u64,
    /// What it drew in the tumbling windows that it was last touched in, one or two of each width, oldest first. Where the
    /// clock has passed the end of a window, it is no longer the present one.
    #[prost(message, repeated, tag = "16")]
    pub windows: Vec<WindowCounts>,
}

/// What a post drew within one tumbling window, from events on time.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct WindowCounts {
    /// Which window: the number of [`Window`].
    #[prost(uint32, tag = "1")]
    pub window: u32,
    /// Where it starts, microseconds.
    #[prost(sint64, tag = "2")]
    pub start_us: i64,
    /// Views.
    #[prost(uint64, tag = "3")]
    pub views: u64,
    /// Clicks.
    #[prost(uint64, tag = "4")]
    pub clicks: u64,
    /// Likes that took effect.
    #[prost(uint64, tag = "5")]
    pub likes: u64,
    /// Likes taken back.
    #[prost(uint64, tag = "6")]
    pub unlikes: u64,
    /// Comments.
    #[prost(uint64, tag = "7")]
    pub comments: u64,
    /// Shares.
    #[prost(uint64, tag = "8")]
    pub shares: u64,
    /// Saves.
    #[prost(uint64, tag = "9")]
    pub saves: u64,
    /// Hides.
    #[prost(uint64, tag = "10")]
    pub hides: u64,
    /// Reports.
    #[prost(uint64, tag = "11")]
    pub reports: u64,
}

/// An account.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct UserRecord {
    /// How many follow this user now.
    #[prost(uint64, tag = "1")]
    pub followers: u64,
    /// How many this user follows now.
    #[prost(uint64, tag = "2")]
    pub following: u64,
}

/// That a viewer has met a post.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct SeenRecord {
    /// Hidden by the viewer, as opposed to only seen.
    #[prost(bool, tag = "1")]
    pub hidden: bool,
}

/// Whose an id is: of all that was said about it the earliest, and of what was said at one time the person whose id comes
/// first.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct IdentityRecord {
    /// The id it belongs to, which may belong to another itself.
    #[prost(string, tag = "1")]
    pub person_id: String,
    /// Event time of the `identify` or `alias` that said so, microseconds.
    #[prost(sint64, tag = "2")]
    pub linked_at_us: i64,
}

/// How far a partition has been applied.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ProgressRecord {
    /// The next offset to apply.
    #[prost(uint64, tag = "1")]
    pub next: u64,
    /// The clock of the partition: what is online is complete up to this log time. Microseconds.
    #[prost(sint64, tag = "2")]
    pub clock_us: i64,
    /// What came in by source, in the order of names; only of the partitions of `actions`.
    #[prost(message, repeated, tag = "3")]
    pub sources: Vec<SourceCounts>,
}

/// What one source sent to one partition of `actions`, as of its clock: since the log began, or, for a data directory that is
/// older than these counts, since they began.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SourceCounts {
    /// The name of the write key; empty for all those together that are too many to be counted by name.
    #[prost(string, tag = "1")]
    pub source: String,
    /// Events that were let through.
    #[prost(uint64, tag = "2")]
    pub accepted: u64,
    /// Events that were dropped because they had come before.
    #[prost(uint64, tag = "3")]
    pub duplicates: u64,
    /// Of the accepted ones, those that came too late for their windows.
    #[prost(uint64, tag = "4")]
    pub late: u64,
    /// Of the accepted ones, those that no person did.
    #[prost(uint64, tag = "5")]
    pub robots: u64,
    /// Of the accepted ones, those that depart from their tracking plan, which keeps them.
    #[prost(uint64, tag = "6")]
    pub violations: u64,
    /// Of the accepted ones, those that no job could apply, such as a follow of oneself; each left a dead letter.
    #[prost(uint64, tag = "7")]
    pub refused: u64,
    /// Log time of the last one that came, whatever became of it. Microseconds.
    #[prost(sint64, tag = "8")]
    pub last_us: i64,
}

/// What rises in one partition over one window, as of its clock.
#[derive(Clone, PartialEq, Message)]
pub struct TrendsRecord {
    /// Counts are exact within the window that ends here (log time, a whole second). Microseconds.
    #[prost(sint64, tag = "1")]
    pub clock_us: i64,
    /// Best first, at most [`TRENDS_MAX`].
    #[prost(message, repeated, tag = "2")]
    pub items: Vec<TrendItem>,
}

/// A tag or post and how much it rises.
#[derive(Clone, PartialEq, Message)]
pub struct TrendItem {
    /// The tag, or the post id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Events on time within the window that ends at the clock.
    #[prost(uint64, tag = "2")]
    pub count: u64,
    /// How many its own past leads to expect in such a window.
    #[prost(double, tag = "3")]
    pub baseline: f64,
    /// How surprising the count is against the baseline: what lists are ordered by, higher first.
    #[prost(double, tag = "4")]
    pub score: f64,
}

/// How many items a partition lists for one window.
pub const TRENDS_MAX: usize = 100;

/// What trends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TrendKind {
    /// Tags, by their use in posts; partitions of `tag-events`.
    Tags = 1,
    /// Posts, by the reactions to them; partitions of `reaction-events`.
    Posts = 2,
}

/// The key of what rises in a partition.
pub fn trends_key(kind: TrendKind, window: Window, partition: u32) -> RecordKey {
    let mut entity = BytesMut::with_capacity(6);
    entity.put_u8(kind as u8);
    entity.put_u8(window as u8);
    entity.put_u32(partition);
    RecordKey { view: TRENDS, entity: entity.freeze() }
}

/// The key of the newest posts of a partition of `reaction-events`.
pub fn fresh_key(partition: u32) -> ListKey {
    ListKey { view: FRESH, entity: Bytes::copy_from_slice(&partition.to_be_bytes()) }
}

/// A record's key in `view`.
pub fn record(view: u8, id: &str) -> RecordKey {
    RecordKey { view, entity: Bytes::copy_from_slice(id.as_bytes()) }
}

/// A list's key in `view`.
pub fn list(view: u8, id: &str) -> ListKey {
    ListKey { view, entity: Bytes::copy_from_slice(id.as_bytes()) }
}

/// The key of viewer × post: the viewer's length in one byte (ids are at most 200), the viewer, the post.
pub fn seen_key(viewer: &str, post: &str) -> RecordKey {
    let mut entity = BytesMut::with_capacity(1 + viewer.len() + post.len());
    entity.put_u8(u8::try_from(viewer.len()).unwrap_or(u8::MAX));
    entity.put_slice(viewer.as_bytes());
    entity.put_slice(post.as_bytes());
    RecordKey { view: SEEN, entity: entity.freeze() }
}

/// The part of a record's key that decides which partition of the log its writes come from.
pub fn owner(key: &RecordKey) -> &[u8] {
    let viewer = if key.view == SEEN { key.entity.split_first() } else { None };
    viewer.and_then(|(len, rest)| rest.get(..usize::from(*len))).unwrap_or(&key.entity)
}

/// The key of a partition's progress.
pub fn progress_key(of: TopicPartition) -> RecordKey {
    let mut entity = BytesMut::with_capacity(5);
    entity.put_u8(of.topic as u8);
    entity.put_u32(of.partition);
    RecordKey { view: PROGRESS, entity: entity.freeze() }
}

/// What a viewer did to a post, for affinity: the kind in one byte, then the post id.
pub fn reaction_member(kind: millrace_events::ActionKind, post: &str) -> Bytes {
    let mut member = BytesMut::with_capacity(1 + post.len());
    member.put_u8(u8::try_from(kind as i32).unwrap_or(0));
    member.put_slice(post.as_bytes());
    member.freeze()
}

/// An edge in [`UNDONE`]: the view of its list in one byte, then the user at the other end.
pub fn undone_member(view: u8, other: &str) -> Bytes {
    let mut member = BytesMut::with_capacity(1 + other.len());
    member.put_u8(view);
    member.put_slice(other.as_bytes());
    member.freeze()
}

/// Decodes the value of a record.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when the bytes are not that record.
pub fn decode<M: Message + Default>(what: &'static str, value: Bytes) -> Result<M, Error> {
    M::decode(value).map_err(|e| Error::with_source(ErrorKind::Corrupt, format!("cannot decode the {what} record"), e))
}
