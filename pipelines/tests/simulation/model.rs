//! What must come out, computed from the list of events in the plainest way.

use std::collections::{BTreeMap, BTreeSet};

use millrace_events::{Action, ActionKind, Envelope, Kind, Window, partition_of};
use millrace_feature_store::online::Content;
use millrace_feature_store::views::{self, EngagementRecord, IdentityRecord, PostRecord, UserRecord, WindowCounts};
use millrace_pipelines::operators::distinct::Distinct;
use prost::Message;
use rand::Rng;
use rand::rngs::SmallRng;

use super::PARTITIONS;
use super::jobs::{WINDOW_US, WINDOWS};

/// One event, the log time it must be stamped with at least, and how often the client sends it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) envelope: Envelope,
    pub(crate) log_time: i64,
}

const USERS: usize = 4;
const POSTS_PER_USER: usize = 2;

pub(crate) fn user(n: usize) -> String {
    format!("u{n}")
}

/// Anonymous ids: nobody acts by them here, they are only said to be somebody's.
const DEVICES: usize = 2;

fn post(author: usize, n: usize) -> String {
    format!("p{author}.{n}")
}

/// A small world in which everything collides: few users, few posts, retries, late events, events out of order.
pub(crate) fn events(random: &mut SmallRng, count: usize) -> Vec<Sent> {
    let mut sent: Vec<Sent> = Vec::new();
    let mut now = 1_000_000_000;
    for n in 0..count {
        now += random.random_range(0..20_000_000);
        if !sent.is_empty() && random.random_range(0..8) == 0 {
            let again = random.random_range(0..sent.len());
            let again = Sent { log_time: now, ..sent[again].clone() };
            sent.push(again);
            continue;
        }
        let actor = random.random_range(0..USERS);
        let kinds = [
            ActionKind::PostCreated,
            ActionKind::PostEdited,
            ActionKind::PostDeleted,
            ActionKind::UserFollowed,
            ActionKind::UserUnfollowed,
            ActionKind::UserBlocked,
            ActionKind::UserUnblocked,
            ActionKind::UserMuted,
            ActionKind::PostViewed,
            ActionKind::PostViewed,
            ActionKind::PostLiked,
            ActionKind::PostLiked,
            ActionKind::PostUnliked,
            ActionKind::PostCommented,
            ActionKind::PostShared,
            ActionKind::PostHidden,
        ];
        let kind = kinds[random.random_range(0..kinds.len())];
        let behind = match random.random_range(0..10) {
            0 => random.random_range(0..1_200_000_000),
            1..4 => random.random_range(0..200_000_000),
            _ => random.random_range(0..5_000_000),
        };
        let common = Envelope {
            message_id: format!("m{n}"),
            source: "sim".to_owned(),
            user_id: user(actor),
            event_time_us: now - behind,
            ..Envelope::default()
        };
        if random.random_range(0..8) == 0 {
            sent.push(Sent { envelope: link(random, common), log_time: now });
            continue;
        }
        let by_author = matches!(kind, ActionKind::PostCreated | ActionKind::PostEdited | ActionKind::PostDeleted);
        let author = if by_author { actor } else { random.random_range(0..USERS) };
        let target = (actor + random.random_range(1..USERS)) % USERS;
        let action = Action {
            kind: kind as i32,
            post_id: post(author, random.random_range(0..POSTS_PER_USER)),
            target_id: user(target),
            ..Action::default()
        };
        let envelope =
            Envelope { kind: Kind::Track as i32, event: kind.as_str().to_owned(), action: Some(action), ..common };
        sent.push(Sent { envelope, log_time: now });
    }
    sent
}

/// A device or a user is said to be the one who sends this.
fn link(random: &mut SmallRng, common: Envelope) -> Envelope {
    let other = match random.random_range(0..USERS + DEVICES) {
        n if n < USERS => user(n),
        n => format!("d{}", n - USERS),
    };
    // Rough times, so that some are equal.
    let event_time_us = common.event_time_us / 60_000_000 * 60_000_000;
    if random.random_range(0..3) == 0 {
        Envelope { kind: Kind::Alias as i32, previous_id: other, event_time_us, ..common }
    } else {
        Envelope { kind: Kind::Identify as i32, anonymous_id: other, event_time_us, ..common }
    }
}

/// Whose each id is, and since when.
pub(crate) type Identities = BTreeMap<String, (String, i64)>;

/// Windows by post, width and start.
pub(crate) type Windows = BTreeMap<(String, u32, i64), WindowCounts>;

/// What these events lead to.
pub(crate) struct Expected {
    /// The present.
    pub(crate) content: BTreeSet<Content>,
    /// Every window of every post, once all have closed.
    pub(crate) windows: Windows,
    /// Whose each id is.
    pub(crate) identities: Identities,
}

/// What these events lead to. `log_times` is the log time that each distinct event was really stamped with
/// the first time it reached the log: lateness is decided by it.
pub(crate) fn expected(sent: &[Sent], log_times: &BTreeMap<String, i64>) -> Expected {
    let mut seen = BTreeSet::new();
    let mut posts: BTreeMap<String, PostRecord> = BTreeMap::new();
    let mut authored: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    let mut authored_ever: BTreeSet<String> = BTreeSet::new();
    let mut totals: BTreeMap<String, EngagementRecord> = BTreeMap::new();
    let mut viewers: BTreeMap<String, Distinct> = BTreeMap::new();
    let mut likes: BTreeSet<(String, String)> = BTreeSet::new();
    let mut edges: BTreeMap<(u8, String, String), i64> = BTreeMap::new();
    let mut follows: BTreeMap<String, UserRecord> = BTreeMap::new();
    let mut met: BTreeMap<(String, String), bool> = BTreeMap::new();
    let mut reactions: BTreeMap<(String, bytes::Bytes), i64> = BTreeMap::new();
    let mut windows: BTreeMap<(i64, String), u64> = BTreeMap::new();
    let mut drawn = Windows::new();
    let mut identities = Identities::new();
    let mut aliases: BTreeMap<(String, String), i64> = BTreeMap::new();
    let mut undone: BTreeMap<(String, bytes::Bytes), i64> = BTreeMap::new();
    for Sent { envelope, .. } in sent {
        if !seen.insert(envelope.message_id.clone()) {
            continue;
        }
        let Some(action) = &envelope.action else {
            identify(envelope, &mut identities, &mut aliases);
            continue;
        };
        let (actor, target, post) = (&envelope.user_id, &action.target_id, &action.post_id);
        let at = envelope.event_time_us;
        let kind = action.kind();
        let late = log_times[&envelope.message_id] - at > millrace_pipelines::jobs::ALLOWED_LATENESS_US;
        let to_post = !matches!(
            kind,
            ActionKind::UserFollowed
                | ActionKind::UserUnfollowed
                | ActionKind::UserBlocked
                | ActionKind::UserUnblocked
                | ActionKind::UserMuted
        );
        if to_post && !late {
            *windows.entry((at.div_euclid(WINDOW_US) * WINDOW_US, post.clone())).or_default() += 1;
        }
        let mut draw = |count: fn(&mut WindowCounts)| {
            for window in Window::ALL.into_iter().filter(|_| !late) {
                let start_us = at.div_euclid(window.width_us()) * window.width_us();
                let counts = drawn.entry((post.clone(), window as u32, start_us)).or_default();
                *counts = WindowCounts { window: window as u32, start_us, ..*counts };
                count(counts);
            }
        };
        let mut edge = |view: u8, from: &String, to: &String, on: bool| -> bool {
            let key = (view, from.clone(), to.clone());
            let was = edges.contains_key(&key);
            if on && !was {
                edges.insert(key, at);
            } else if !on {
                edges.remove(&key);
            }
            was != on
        };
        match kind {
            ActionKind::PostCreated if !posts.contains_key(post) => {
                let record = PostRecord { author_id: actor.clone(), created_at_us: at, ..PostRecord::default() };
                posts.insert(post.clone(), record);
                if authored_ever.insert(post.clone()) {
                    authored.entry(actor.clone()).or_default().insert(post.clone(), at);
                }
            }
            ActionKind::PostEdited => {
                if let Some(record) = posts.get_mut(post).filter(|r| !r.deleted) {
                    record.edited_at_us = at;
                    record.content.get_or_insert_default();
                }
            }
            ActionKind::PostDeleted => {
                if let Some(record) = posts.get_mut(post).filter(|r| !r.deleted) {
                    record.deleted = true;
                    record.content = None;
                    authored.entry(actor.clone()).or_default().remove(post);
                }
            }
            ActionKind::UserFollowed | ActionKind::UserUnfollowed => {
                let on = kind == ActionKind::UserFollowed;
                if !on {
                    raise(&mut undone, actor, views::undone_member(views::FOLLOWING, target), at);
                }
                if edge(views::FOLLOWING, actor, target, on) {
                    let add = if on { 1 } else { u64::MAX };
                    let from = &mut follows.entry(actor.clone()).or_default().following;
                    *from = from.wrapping_add(add);
                    let to = &mut follows.entry(target.clone()).or_default().followers;
                    *to = to.wrapping_add(add);
                }
            }
            ActionKind::UserBlocked | ActionKind::UserUnblocked => {
                let on = kind == ActionKind::UserBlocked;
                if !on {
                    raise(&mut undone, actor, views::undone_member(views::BLOCKED, target), at);
                    raise(&mut undone, target, views::undone_member(views::BLOCKED_BY, actor), at);
                }
                edge(views::BLOCKED, actor, target, on);
                edge(views::BLOCKED_BY, target, actor, on);
            }
            ActionKind::UserMuted => {
                edge(views::MUTED, actor, target, true);
            }
            ActionKind::PostViewed => {
                totals.entry(post.clone()).or_default().views += 1;
                draw(|counts| counts.views += 1);
                let sketch = viewers.entry(post.clone()).or_default();
                sketch.insert(actor);
                totals.entry(post.clone()).or_default().unique_viewers = sketch.estimate();
                met.insert((actor.clone(), post.clone()), false);
            }
            ActionKind::PostLiked => {
                if likes.insert((post.clone(), actor.clone())) {
                    totals.entry(post.clone()).or_default().likes += 1;
                    draw(|counts| counts.likes += 1);
                }
                raise(&mut reactions, actor, views::reaction_member(kind, post), at);
            }
            ActionKind::PostUnliked => {
                if likes.remove(&(post.clone(), actor.clone())) {
                    totals.entry(post.clone()).or_default().likes -= 1;
                    draw(|counts| counts.unlikes += 1);
                }
                raise(&mut reactions, actor, views::reaction_member(kind, post), at);
            }
            ActionKind::PostCommented => {
                totals.entry(post.clone()).or_default().comments += 1;
                draw(|counts| counts.comments += 1);
                raise(&mut reactions, actor, views::reaction_member(kind, post), at);
            }
            ActionKind::PostShared => {
                totals.entry(post.clone()).or_default().shares += 1;
                draw(|counts| counts.shares += 1);
                raise(&mut reactions, actor, views::reaction_member(kind, post), at);
            }
            ActionKind::PostHidden => {
                totals.entry(post.clone()).or_default().hides += 1;
                draw(|counts| counts.hides += 1);
                met.insert((actor.clone(), post.clone()), true);
            }
            _ => {}
        }
    }
    let mut content = BTreeSet::new();
    let mut record = |key, value: Vec<u8>| content.insert(Content::Record(key, value.into()));
    for (id, value) in &posts {
        record(views::record(views::POST, id), value.encode_to_vec());
    }
    let newest = posts.iter().map(|(id, post)| {
        let list = views::fresh_key(partition_of(id.as_bytes(), PARTITIONS));
        Content::Member(list, id.clone().into(), post.created_at_us)
    });
    for (id, value) in &mut totals {
        value.windows = latest(&drawn, id);
        record(views::record(views::ENGAGEMENT, id), value.encode_to_vec());
    }
    for (id, value) in &follows {
        record(views::record(views::USER, id), value.encode_to_vec());
    }
    for (alias, (person, at)) in &identities {
        let identity = IdentityRecord { person_id: person.clone(), linked_at_us: *at };
        record(views::record(views::IDENTITY, alias), identity.encode_to_vec());
    }
    for ((viewer, post), hidden) in &met {
        record(views::seen_key(viewer, post), views::SeenRecord { hidden: *hidden }.encode_to_vec());
    }
    for ((start, key), count) in &windows {
        let entity = format!("{start:020}-{key}").into();
        record(millrace_feature_store::RecordKey { view: WINDOWS, entity }, count.to_string().into_bytes());
    }
    content.extend(newest);
    for (author, posts) in &authored {
        for (post, at) in posts {
            content.insert(Content::Member(views::list(views::AUTHOR_POSTS, author), post.clone().into(), *at));
        }
    }
    for ((view, from, to), at) in &edges {
        content.insert(Content::Member(views::list(*view, from), to.clone().into(), *at));
    }
    for ((person, alias), at) in &aliases {
        content.insert(Content::Member(views::list(views::ALIASES, person), alias.clone().into(), *at));
    }
    for ((user, member), at) in &undone {
        content.insert(Content::Member(views::list(views::UNDONE, user), member.clone(), *at));
    }
    for ((viewer, member), at) in &reactions {
        content.insert(Content::Member(views::list(views::REACTIONS, viewer), member.clone(), *at));
    }
    Expected { content, windows: drawn, identities }
}

/// Of all that is said about an id the earliest counts, at one time the least person; whose end it is told keeps the latest.
fn identify(envelope: &Envelope, identities: &mut Identities, aliases: &mut BTreeMap<(String, String), i64>) {
    let is_alias = envelope.kind() == Kind::Alias;
    let alias = if is_alias { &envelope.previous_id } else { &envelope.anonymous_id };
    let (person, at) = (&envelope.user_id, envelope.event_time_us);
    if alias == person {
        return;
    }
    let known = identities.entry(alias.clone()).or_insert_with(|| (person.clone(), at));
    if (at, person) < (known.1, &known.0) {
        *known = (person.clone(), at);
    }
    let claim = aliases.entry((person.clone(), alias.clone())).or_insert(at);
    *claim = at.max(*claim);
}

/// What is published of a post's windows: of each width the latest, and the one directly before it.
fn latest(drawn: &Windows, post: &str) -> Vec<WindowCounts> {
    let mut latest = Vec::new();
    for window in Window::ALL {
        let of = |start_us| drawn.get(&(post.to_owned(), window as u32, start_us)).copied();
        let starts = drawn.keys().filter(|(id, width, _)| id == post && *width == window as u32);
        let Some(last) = starts.map(|(_, _, start_us)| *start_us).max() else { continue };
        latest.extend(of(last - window.width_us()));
        latest.extend(of(last));
    }
    latest
}

fn raise(reactions: &mut BTreeMap<(String, bytes::Bytes), i64>, actor: &str, member: bytes::Bytes, at: i64) {
    let score = reactions.entry((actor.to_owned(), member)).or_insert(at);
    *score = at.max(*score);
}
