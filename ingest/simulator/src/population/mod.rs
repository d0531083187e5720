//! A seeded population that behaves: people register, follow those who are followed already, write, look, like, argue and
//! change their minds.
//!
//! A person registers when they first act, so any number of events gives a believable history: a short run has few people, not
//! a queue of registrations. Attention is uneven on purpose. Low numbers are more active, followed people are followed more,
//! recent posts are seen more, and every few minutes another tag is in fashion: hot keys and bursts are what breaks a feed.
//!
//! A longer run starts with the shorter one, call by call, and a share of duplicates changes nothing about the calls it repeats.
//! That makes runs comparable: same counters with and without duplicates is a test.

use std::borrow::Cow;
use std::collections::VecDeque;

use millrace_events::{Kind, Micros};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use xxhash_rust::xxh3::xxh3_64;

use crate::call::{Call, Properties};

mod vocabulary;

use vocabulary::{LANGS, REASONS, TAGS};

/// The most users of one population; each takes a few hundred bytes.
pub const USERS_MAX: u32 = 10_000_000;

/// The highest mean rate, in events per second of event time: one each nanosecond.
pub const RATE_MAX: u32 = 1_000_000_000;

/// The most accounts that one simulated person follows, beyond which old ones are forgotten here (not unfollowed).
const FOLLOWING_MAX: usize = 256;

/// The most accounts that one simulated person remembers having blocked or muted.
const SHUNNED_MAX: usize = 16;

/// The most posts of one author that are still edited, deleted or found through the author.
const OWN_POSTS_MAX: usize = 8;

/// Posts that can still be met; an older post is out of sight.
const POSTS_IN_SIGHT: usize = 1 << 16;

/// Likes that can still be taken back.
const LIKES_REMEMBERED: usize = 1 << 13;

/// Ends of follow edges to draw from, so that the followed are followed more.
const EDGE_ENDS_MAX: usize = 1 << 20;

/// How many calls later, at most, a duplicate comes.
const DUPLICATE_DISTANCE: usize = 256;

/// How long one tag is in fashion.
const FASHION_NS: u64 = 5 * 60 * 1_000_000_000;

/// Which history to make. Every field changes the calls, save `events` (how far it goes) and `duplicates` (which repeats some).
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The same seed and options give the same bytes.
    pub seed: u64,
    /// How many people there are at most, 1 to [`USERS_MAX`].
    pub users: u32,
    /// How many different calls to make.
    pub events: u64,
    /// The time of the first call.
    pub start_us: Micros,
    /// Mean number of calls per second of event time, 1 to [`RATE_MAX`].
    pub rate: u32,
    /// The share of calls that come a second time, byte for byte, a little later: 0 to 1.
    pub duplicates: f64,
}

impl Default for Options {
    /// A thousand people on the first of January 2026, a hundred calls per second.
    fn default() -> Self {
        Self { seed: 1, users: 1_000, events: 100_000, start_us: 1_767_225_600_000_000, rate: 100, duplicates: 0.0 }
    }
}

/// The calls of a population, in the order of event time (duplicates come late).
pub struct Population {
    options: Options,
    /// In every id, so that two different histories never meet in one.
    tag: String,
    rng: SmallRng,
    now_ns: u64,
    made: u64,
    users: Vec<User>,
    /// Users who have registered, in the order they did.
    registered: Vec<u32>,
    edge_ends: Vec<u32>,
    posts: VecDeque<Post>,
    /// The number of the first post of `posts`.
    first_post: u64,
    likes: VecDeque<(u32, u64)>,
    /// What the person who is acting will do next.
    plan: VecDeque<Step>,
    duplicates: Duplicates,
}

#[derive(Default)]
struct User {
    registered: bool,
    following: Vec<u32>,
    shunned: Vec<u32>,
    posts: VecDeque<u64>,
}

struct Post {
    author: u32,
    deleted: bool,
}

#[derive(Clone, Copy)]
enum Step {
    Register(u32),
    Follow(u32),
    Unfollow(u32),
    Block(u32),
    Unblock(u32),
    Mute(u32),
    Unmute(u32),
    Write(u32),
    Edit(u32),
    Delete(u32),
    React(u32, u64, Reaction),
    Unlike(u32, u64),
    Search(u32),
    FollowTag(u32),
    UnfollowTag(u32),
    OpenApp(u32),
}

#[derive(Clone, Copy)]
enum Reaction {
    View,
    Click,
    Like,
    Comment,
    Share,
    Save,
    Hide,
    Report,
}

/// What else a person does who has seen a post, per thousand views.
const AFTER_A_VIEW: [(u32, Reaction); 7] = [
    (180, Reaction::Click),
    (160, Reaction::Like),
    (45, Reaction::Comment),
    (30, Reaction::Share),
    (20, Reaction::Save),
    (6, Reaction::Hide),
    (2, Reaction::Report),
];

impl Population {
    /// The history of `options`; values outside their range are moved to its end.
    pub fn new(mut options: Options) -> Self {
        options.users = options.users.clamp(1, USERS_MAX);
        options.rate = options.rate.clamp(1, RATE_MAX);
        options.duplicates = if options.duplicates > 0.0 { options.duplicates.min(1.0) } else { 0.0 };
        let named = format!("{} {} {} {}", options.seed, options.users, options.start_us, options.rate);
        Self {
            tag: format!("{:08x}", xxh3_64(named.as_bytes()) >> 32),
            rng: SmallRng::seed_from_u64(options.seed),
            now_ns: 0,
            made: 0,
            users: (0..options.users).map(|_| User::default()).collect(),
            registered: Vec::new(),
            edge_ends: Vec::new(),
            posts: VecDeque::new(),
            first_post: 0,
            likes: VecDeque::new(),
            plan: VecDeque::new(),
            duplicates: Duplicates::new(&options),
            options,
        }
    }

    fn make(&mut self) -> Call {
        // Twice the mean at most, so that the mean holds; integers, so that every machine gets the same times.
        let gap_ns_mean = 1_000_000_000 / u64::from(self.options.rate);
        if self.made > 0 {
            self.now_ns += self.rng.random_range(0..=2 * gap_ns_mean);
        }
        loop {
            if let Some(step) = self.plan.pop_front()
                && let Some(call) = self.take(step)
            {
                self.made += 1;
                return call;
            }
            if self.plan.is_empty() {
                self.visit();
            }
        }
    }

    /// Somebody opens the app: decides who and what they will do.
    fn visit(&mut self) {
        let user = self.somebody();
        if !self.users[user as usize].registered {
            self.plan.push_back(Step::Register(user));
            for _ in 0..self.rng.random_range(2..=10) {
                self.plan.push_back(Step::Follow(user));
            }
            self.plan.push_back(Step::Write(user));
            return;
        }
        let plan = match self.rng.random_range(0..1000) {
            0..700 => return self.look_around(user),
            700..880 => Step::Write(user),
            880..895 => Step::Edit(user),
            895..902 => Step::Delete(user),
            902..950 => Step::Follow(user),
            950..958 => Step::Unfollow(user),
            958..961 => Step::Block(user),
            961..962 => Step::Unblock(user),
            962..966 => Step::Mute(user),
            966..968 => Step::Unmute(user),
            968..982 => Step::Search(user),
            982..988 => Step::FollowTag(user),
            988..990 => Step::UnfollowTag(user),
            _ => Step::OpenApp(user),
        };
        self.plan.push_back(plan);
    }

    /// A few posts are seen; some get a reaction.
    fn look_around(&mut self, user: u32) {
        for _ in 0..self.rng.random_range(1..=8) {
            let Some(post) = self.some_post(user) else { continue };
            self.plan.push_back(Step::React(user, post, Reaction::View));
            for (per_thousand, reaction) in AFTER_A_VIEW {
                if self.rng.random_range(0..1000) < per_thousand {
                    self.plan.push_back(Step::React(user, post, reaction));
                }
            }
        }
        if self.rng.random_range(0..100) < 6
            && let Some(at) = self.likes.len().checked_sub(1)
        {
            let (who, post) = self.likes.swap_remove_back(self.rng.random_range(0..=at)).expect("the index is within");
            self.plan.push_back(Step::Unlike(who, post));
        }
    }

    fn take(&mut self, step: Step) -> Option<Call> {
        match step {
            Step::Register(user) => Some(self.register(user)),
            Step::Follow(user) => self.follow(user),
            Step::Unfollow(user) => self.unfollow(user),
            Step::Block(user) => self.shun(user, "user_blocked"),
            Step::Mute(user) => self.shun(user, "user_muted"),
            Step::Unblock(user) => self.forgive(user, "user_unblocked"),
            Step::Unmute(user) => self.forgive(user, "user_unmuted"),
            Step::Write(user) => Some(self.write(user)),
            Step::Edit(user) => self.edit(user),
            Step::Delete(user) => self.delete(user),
            Step::React(user, post, reaction) => self.react(user, post, reaction),
            Step::Unlike(user, post) => {
                self.post(post)?;
                Some(self.call(user, "post_unliked", self.about(post)))
            }
            Step::Search(user) => {
                let query = vocabulary::query(&mut self.rng);
                let results = self.rng.random_range(0..40);
                Some(self.call(
                    user,
                    "search_performed",
                    Properties::new().text("query", &query).number("results", results),
                ))
            }
            Step::FollowTag(user) => Some(self.with_tag(user, "tag_followed")),
            Step::UnfollowTag(user) => Some(self.with_tag(user, "tag_unfollowed")),
            Step::OpenApp(user) => {
                let seconds = self.rng.random_range(1..3_600);
                Some(self.call(user, "app_opened", Properties::new().number("seconds_away", seconds)))
            }
        }
    }

    fn register(&mut self, user: u32) -> Call {
        self.users[user as usize].registered = true;
        self.registered.push(user);
        let name = vocabulary::handle(user);
        let locale = LANGS[self.rng.random_range(0..LANGS.len())];
        self.call(
            user,
            "user_registered",
            Properties::new().text("handle", &name).text("name", &name.replace('_', " ")).text("locale", locale),
        )
    }

    fn follow(&mut self, user: u32) -> Option<Call> {
        let by_edge = !self.edge_ends.is_empty() && self.rng.random_range(0..10) < 7;
        let target = if by_edge {
            self.edge_ends[self.rng.random_range(0..self.edge_ends.len())]
        } else {
            self.registered[self.rng.random_range(0..self.registered.len())]
        };
        let following = &mut self.users[user as usize].following;
        if target == user || following.contains(&target) {
            return None;
        }
        if following.len() == FOLLOWING_MAX {
            following.swap_remove(0);
        }
        following.push(target);
        if self.edge_ends.len() < EDGE_ENDS_MAX {
            self.edge_ends.push(target);
        }
        Some(self.aimed(user, "user_followed", target))
    }

    fn unfollow(&mut self, user: u32) -> Option<Call> {
        let at = self.index(self.users[user as usize].following.len())?;
        let target = self.users[user as usize].following.swap_remove(at);
        Some(self.aimed(user, "user_unfollowed", target))
    }

    fn shun(&mut self, user: u32, event: &'static str) -> Option<Call> {
        let target = self.registered[self.rng.random_range(0..self.registered.len())];
        let shunned = &mut self.users[user as usize].shunned;
        if target == user || shunned.contains(&target) || shunned.len() == SHUNNED_MAX {
            return None;
        }
        shunned.push(target);
        Some(self.aimed(user, event, target))
    }

    fn forgive(&mut self, user: u32, event: &'static str) -> Option<Call> {
        let at = self.index(self.users[user as usize].shunned.len())?;
        let target = self.users[user as usize].shunned.swap_remove(at);
        Some(self.aimed(user, event, target))
    }

    fn write(&mut self, user: u32) -> Call {
        if self.posts.len() == POSTS_IN_SIGHT {
            self.posts.pop_front();
            self.first_post += 1;
        }
        // Drawn before the post is there, so that nothing answers itself.
        let answered = if self.rng.random_range(0..100) < 10 { self.some_post(user) } else { None };
        let number = self.first_post + self.posts.len() as u64;
        self.posts.push_back(Post { author: user, deleted: false });
        let own = &mut self.users[user as usize].posts;
        if own.len() == OWN_POSTS_MAX {
            own.pop_front();
        }
        own.push_back(number);
        let mut properties = self.content(number);
        if let Some(answered) = answered {
            let link = if self.rng.random_range(0..10) < 7 { "reply_to" } else { "repost_of" };
            properties = properties.text(link, &self.post_id(answered));
        }
        self.call(user, "post_created", properties)
    }

    fn edit(&mut self, user: u32) -> Option<Call> {
        let at = self.index(self.users[user as usize].posts.len())?;
        let number = self.users[user as usize].posts[at];
        self.post(number)?;
        let properties = self.content(number);
        Some(self.call(user, "post_edited", properties))
    }

    fn delete(&mut self, user: u32) -> Option<Call> {
        let at = self.index(self.users[user as usize].posts.len())?;
        let number = self.users[user as usize].posts.remove(at)?;
        self.post(number)?;
        let index = usize::try_from(number - self.first_post).ok()?;
        self.posts[index].deleted = true;
        Some(self.call(user, "post_deleted", self.about(number)))
    }

    fn react(&mut self, user: u32, post: u64, reaction: Reaction) -> Option<Call> {
        self.post(post)?;
        let about = self.about(post);
        let (event, properties) = match reaction {
            Reaction::View => ("post_viewed", about.number("dwell_ms", self.rng.random_range(150..20_000))),
            Reaction::Click => ("post_clicked", about),
            Reaction::Like => {
                if self.likes.len() == LIKES_REMEMBERED {
                    self.likes.pop_front();
                }
                self.likes.push_back((user, post));
                ("post_liked", about)
            }
            Reaction::Comment => {
                let words = self.rng.random_range(2..9);
                let text = vocabulary::sentence(&mut self.rng, words);
                let id = format!("c{}-{}", self.tag, self.made);
                ("post_commented", about.text("comment_id", &id).text("text", &text))
            }
            Reaction::Share => ("post_shared", about),
            Reaction::Save => ("post_saved", about),
            Reaction::Hide => ("post_hidden", about),
            Reaction::Report => {
                ("post_reported", about.text("reason", REASONS[self.rng.random_range(0..REASONS.len())]))
            }
        };
        Some(self.call(user, event, properties))
    }

    fn with_tag(&mut self, user: u32, event: &'static str) -> Call {
        let tag = self.some_tag();
        self.call(user, event, Properties::new().text("tag", tag))
    }

    fn aimed(&self, user: u32, event: &'static str, target: u32) -> Call {
        self.call(user, event, Properties::new().text("target_id", &user_id(target)))
    }

    fn about(&self, post: u64) -> Properties {
        Properties::new().text("post_id", &self.post_id(post))
    }

    fn content(&mut self, post: u64) -> Properties {
        let words = self.rng.random_range(3..16);
        let text = vocabulary::sentence(&mut self.rng, words);
        let tags: Vec<&str> = (0..self.rng.random_range(0..4)).map(|_| self.some_tag()).collect();
        let lang = LANGS[self.rng.random_range(0..LANGS.len())];
        let kind = match self.rng.random_range(0..100) {
            0..74 => "text",
            74..88 => "image",
            88..93 => "video",
            _ => "link",
        };
        let properties = self.about(post).text("text", &text).list("tags", tags).text("lang", lang).text("kind", kind);
        match kind {
            "link" => properties.text("url", &format!("https://example.org/{}/{post}", self.tag)),
            _ => properties,
        }
    }

    fn call(&self, user: u32, event: &'static str, properties: Properties) -> Call {
        // The clock stands still at the end of what a timestamp can say.
        let elapsed_us = Micros::try_from(self.now_ns / 1_000).unwrap_or(Micros::MAX);
        Call {
            kind: Kind::Track,
            message_id: format!("sim-{}-{}", self.tag, self.made),
            user_id: user_id(user),
            event: Cow::Borrowed(event),
            properties: properties.end(),
            time_us: self.options.start_us.saturating_add(elapsed_us),
        }
    }

    /// Low numbers come more often: the first tenth of the people acts about a third of the time.
    fn somebody(&mut self) -> u32 {
        let users = self.options.users;
        self.rng.random_range(0..users).min(self.rng.random_range(0..users)).min(self.rng.random_range(0..users))
    }

    /// A post that `user` comes across: mostly by somebody they follow, mostly recent, never by somebody they shun.
    fn some_post(&mut self, user: u32) -> Option<u64> {
        let person = &self.users[user as usize];
        let followed = match person.following.len() {
            0 => None,
            n if self.rng.random_range(0..10) < 7 => {
                let friend = &self.users[person.following[self.rng.random_range(0..n)] as usize];
                friend.posts.len().checked_sub(1).map(|last| friend.posts[self.rng.random_range(0..=last)])
            }
            _ => None,
        };
        let number = match followed {
            Some(number) => number,
            None => {
                let last = u64::try_from(self.posts.len()).ok()?.checked_sub(1)?;
                let age = self
                    .rng
                    .random_range(0..=last)
                    .min(self.rng.random_range(0..=last))
                    .min(self.rng.random_range(0..=last));
                self.first_post + last - age
            }
        };
        let author = self.post(number)?.author;
        let met = author != user && !self.users[user as usize].shunned.contains(&author);
        met.then_some(number)
    }

    /// A fifth of the time the tag in fashion, else any, the first ones more.
    fn some_tag(&mut self) -> &'static str {
        let tags = TAGS.len();
        if self.rng.random_range(0..5) == 0 {
            let turn = self.now_ns / FASHION_NS;
            let hash = xxh3_64(&[self.options.seed.to_le_bytes(), turn.to_le_bytes()].concat());
            return TAGS[usize::try_from(hash % tags as u64).unwrap_or(0)];
        }
        TAGS[self.rng.random_range(0..tags).min(self.rng.random_range(0..tags))]
    }

    fn index(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.rng.random_range(0..len))
    }

    /// A post that is in sight and there.
    fn post(&self, number: u64) -> Option<&Post> {
        let index = usize::try_from(number.checked_sub(self.first_post)?).ok()?;
        self.posts.get(index).filter(|post| !post.deleted)
    }

    fn post_id(&self, number: u64) -> String {
        format!("p{}-{number}", self.tag)
    }
}

fn user_id(index: u32) -> String {
    format!("u{index}")
}

impl Iterator for Population {
    type Item = Call;

    fn next(&mut self) -> Option<Call> {
        if let Some(again) = self.duplicates.due() {
            return Some(again);
        }
        if self.made == self.options.events {
            return self.duplicates.rest();
        }
        let call = self.make();
        self.duplicates.note(&call);
        Some(call)
    }
}

/// Calls that come again. Its own randomness, so that the calls themselves are the same with and without.
struct Duplicates {
    share: f64,
    rng: SmallRng,
    made: u64,
    /// When each is due, counted in calls made.
    waiting: VecDeque<(u64, Call)>,
}

impl Duplicates {
    fn new(options: &Options) -> Self {
        Self {
            share: options.duplicates,
            rng: SmallRng::seed_from_u64(options.seed ^ 0x5eed_d0b1),
            made: 0,
            waiting: VecDeque::new(),
        }
    }

    fn note(&mut self, call: &Call) {
        self.made += 1;
        if self.share > 0.0 && self.rng.random_bool(self.share) {
            let distance = self.rng.random_range(0..DUPLICATE_DISTANCE) as u64;
            self.waiting.push_back((self.made + distance, call.clone()));
        }
    }

    fn due(&mut self) -> Option<Call> {
        match self.waiting.front() {
            Some((due, _)) if *due <= self.made => self.rest(),
            _ => None,
        }
    }

    fn rest(&mut self) -> Option<Call> {
        self.waiting.pop_front().map(|(_, call)| call)
    }
}

#[cfg(test)]
mod tests;
