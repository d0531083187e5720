//! A seeded population that behaves: people register, follow those who share their tastes, write, look, like, argue and change
//! their minds.
//!
//! A person registers when they first act, so any number of events gives a believable history: a short run has few people, not
//! a queue of registrations. Attention is uneven on purpose. Low numbers are more active, followed people are followed more,
//! recent posts are seen more: hot keys are what breaks a feed.
//!
//! Behaviour has causes that are known afterwards, so that what a platform finds out can be scored ([`Truth`]): hidden tastes
//! ([`Taste`]) decide whom people follow, what they like and how long they look; robots press on like machines; tags and posts
//! burst at known times; the day has its rhythm.
//!
//! What happens and how it is reported are kept apart. A longer run starts with the shorter one, and late senders, retries and
//! wrong clocks change nothing about the calls that they hold back, repeat or misdate. That makes runs comparable: same
//! counters with and without is a test.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};

use millrace_events::Micros;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use xxhash_rust::xxh3::xxh3_64;

use crate::call::{Call, Properties};

mod burst;
mod delivery;
mod rhythm;
mod taste;
mod truth;
mod vocabulary;

use burst::{Burst, Bursts, Target};
use delivery::{Duplicates, Late, Made, Skew};
use rhythm::{ACTIVITY_MAX, Rhythm};
pub use taste::{TOPICS, Taste};
pub use truth::Truth;

use vocabulary::{LANGS, REASONS, TAGS};

/// The most users of one population; each takes a few hundred bytes.
pub const USERS_MAX: u32 = 10_000_000;

/// The highest mean rate, in events per second of event time: one each nanosecond.
pub const RATE_MAX: u32 = 1_000_000_000;

/// The most robots of one population; never more than half of the users.
pub const ROBOTS_MAX: u32 = 10_000;

/// The most calls that one robot makes per minute.
pub const ROBOT_PACE_MAX: u32 = 60_000;

/// The most bursts of one history.
pub const BURSTS_MAX: u32 = 100_000;

/// The highest factor of a burst. However high, half of all attention is left to the others.
pub const BURST_FACTOR_MAX: f64 = 10_000.0;

/// The most accounts that one simulated person follows.
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

/// How many times people are drawn at most until one is awake.
const TRIES_AWAKE: usize = 8;

/// How many accounts or tags somebody looks at before they choose the one that suits them best.
const CHOICE: usize = 3;

/// A post that bursts is one of so many newest.
const BURST_POSTS: u64 = 2048;

/// A robot writes a post with a link this often, counted in its calls; between, it likes one post after the other.
const ROBOT_LINK_EVERY: u64 = 10;

/// Which history to make. Every field changes the calls, save `events` (how far it goes) and the last three, which change how
/// calls are sent and not what happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The same seed and options give the same bytes.
    pub seed: u64,
    /// How many people there are at most, robots included, 1 to [`USERS_MAX`].
    pub users: u32,
    /// How many different calls to make.
    pub events: u64,
    /// The time of the first call.
    pub start_us: Micros,
    /// Mean number of calls of people per second of event time, 1 to [`RATE_MAX`]; those of robots come on top. With a rhythm it
    /// is the mean over a day.
    pub rate: u32,
    /// How much of the difference between day and night there is, 0 to 1.
    pub rhythm: f64,
    /// How many of the users are robots, up to half of them and [`ROBOTS_MAX`].
    pub robots: u32,
    /// Calls per minute of one robot, 1 to [`ROBOT_PACE_MAX`].
    pub robot_pace: u32,
    /// How many bursts there are at most, up to [`BURSTS_MAX`]; odd ones of a tag, even ones of a post.
    pub bursts: u32,
    /// How many times its usual rate a tag or post has while it bursts, 1 to [`BURST_FACTOR_MAX`].
    pub burst_factor: f64,
    /// How long a burst takes, in seconds of event time; at most `burst_every_seconds`.
    pub burst_seconds: u32,
    /// Each stretch of this many seconds has one burst, after a first one that has none.
    pub burst_every_seconds: u32,
    /// The share of calls that devices hold back, for minutes to hours: 0 to 1.
    pub late: f64,
    /// The share of calls that come a second time, in whole batches, byte for byte, a little later: 0 to 1.
    pub duplicates: f64,
    /// The share of people whose clock is wrong, by minutes to hours: 0 to 1. Not for a server in replay time, whose clock goes
    /// by what events say and would run ahead with them.
    pub skewed: f64,
}

impl Default for Options {
    /// A thousand people on the first of January 2026, a hundred calls per second, each sent once and at once: no robots, no
    /// bursts, and night like day.
    fn default() -> Self {
        Self {
            seed: 1,
            users: 1_000,
            events: 100_000,
            start_us: 1_767_225_600_000_000,
            rate: 100,
            rhythm: 0.0,
            robots: 0,
            robot_pace: 30,
            bursts: 0,
            burst_factor: 20.0,
            burst_seconds: 120,
            burst_every_seconds: 300,
            late: 0.0,
            duplicates: 0.0,
            skewed: 0.0,
        }
    }
}

impl Options {
    /// Values outside their range are moved to its end.
    fn clamped(mut self) -> Self {
        // Not `clamp`, which passes what is no number.
        let share = |share: f64| if share > 0.0 { share.min(1.0) } else { 0.0 };
        self.users = self.users.clamp(1, USERS_MAX);
        self.rate = self.rate.clamp(1, RATE_MAX);
        self.rhythm = share(self.rhythm);
        self.robots = self.robots.min(self.users / 2).min(ROBOTS_MAX);
        self.robot_pace = self.robot_pace.clamp(1, ROBOT_PACE_MAX);
        self.bursts = self.bursts.min(BURSTS_MAX);
        self.burst_factor = if self.burst_factor > 1.0 { self.burst_factor.min(BURST_FACTOR_MAX) } else { 1.0 };
        self.burst_every_seconds = self.burst_every_seconds.max(1);
        self.burst_seconds = self.burst_seconds.clamp(1, self.burst_every_seconds);
        self.late = share(self.late);
        self.duplicates = share(self.duplicates);
        self.skewed = share(self.skewed);
        self
    }

    /// What stands in every id, so that two different histories never meet in one.
    fn tag(&self) -> String {
        let Self { seed, users, start_us, rate, rhythm, robots, robot_pace, .. } = self;
        let Self { bursts, burst_factor, burst_seconds, burst_every_seconds, .. } = self;
        let people = format!("{seed} {users} {start_us} {rate} {rhythm} {robots} {robot_pace}");
        let named = format!("{people} {bursts} {burst_factor} {burst_seconds} {burst_every_seconds}");
        format!("{:08x}", xxh3_64(named.as_bytes()) >> 32)
    }
}

/// The calls of a population, in the order in which they are sent: that of event time, save what is late or comes again.
pub struct Population {
    options: Options,
    /// In every id.
    tag: String,
    rng: SmallRng,
    now_ns: u64,
    /// When people act next, while a robot is before them.
    next_ns: Option<u64>,
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
    robots: Robots,
    tags: Vec<Tag>,
    /// How many tags were put on posts for their own sake.
    tags_used: u64,
    bursts: Bursts,
    rhythm: Rhythm,
    /// Different calls made, by name.
    totals: Vec<(&'static str, u64)>,
    /// Those of them that come from a device with a wrong clock.
    misdated: u64,
    /// Made, and not yet sent because something that is due goes first.
    pending: Option<Made>,
    late: Late,
    duplicates: Duplicates,
}

struct User {
    taste: Taste,
    /// An index of the zones in `rhythm`.
    zone: u8,
    robot: bool,
    registered: bool,
    following: Vec<u32>,
    shunned: Vec<u32>,
    posts: VecDeque<u64>,
}

impl User {
    fn new(seed: u64, number: u32) -> Self {
        let hash = taste::hash(seed, b'u', u64::from(number));
        Self {
            taste: Taste::of_person(hash),
            zone: Rhythm::zone(hash),
            robot: false,
            registered: false,
            following: Vec::new(),
            shunned: Vec::new(),
            posts: VecDeque::new(),
        }
    }
}

struct Post {
    author: u32,
    deleted: bool,
    /// How often it was seen, liked and so on.
    reactions: u32,
    made_ns: u64,
    taste: Taste,
}

struct Tag {
    name: &'static str,
    taste: Taste,
    /// How often it was put on a post for its own sake, not because it burst.
    uses: u64,
}

/// Accounts that act at equal distances, whatever the hour.
#[derive(Default)]
struct Robots {
    users: Vec<u32>,
    /// The distance between two calls of any of them.
    gap_ns: u64,
    calls: u64,
    /// For each, the number of the post that it likes next.
    likes_next: Vec<u64>,
}

impl Robots {
    fn new(options: &Options, users: &mut [User]) -> Self {
        let mut chosen = HashSet::new();
        let all = users.len() as u64;
        for number in 0_u64.. {
            if chosen.len() == options.robots as usize {
                break;
            }
            chosen.insert((taste::hash(options.seed, b'r', number) % all) as usize);
        }
        let mut robots: Vec<u32> = chosen.into_iter().map(|index| index as u32).collect();
        robots.sort_unstable();
        for &robot in &robots {
            users[robot as usize].robot = true;
        }
        let pace = u64::from(options.robot_pace) * robots.len().max(1) as u64;
        Self { likes_next: vec![0; robots.len()], users: robots, gap_ns: 60_000_000_000 / pace, calls: 0 }
    }

    /// When the next one acts.
    fn next_ns(&self) -> Option<u64> {
        (!self.users.is_empty()).then(|| (self.calls + 1).saturating_mul(self.gap_ns))
    }
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
    /// By whom, which post, and how well it suits them.
    View(u32, u64, u32),
    React(u32, u64, Reaction),
    Unlike(u32, u64),
    Search(u32),
    FollowTag(u32),
    UnfollowTag(u32),
    OpenApp(u32),
}

#[derive(Clone, Copy)]
enum Reaction {
    Click,
    Like,
    Comment,
    Share,
    Save,
    Hide,
    Report,
}

/// What else a person does who has seen a post that suits them as posts do on average, per thousand views.
const AFTER_A_VIEW: [(u32, Reaction); 7] = [
    (180, Reaction::Click),
    (160, Reaction::Like),
    (45, Reaction::Comment),
    (30, Reaction::Share),
    (20, Reaction::Save),
    (6, Reaction::Hide),
    (2, Reaction::Report),
];

/// How well posts suit those who see them, on average: [`Taste::overlap`].
const OVERLAP_MEAN: u32 = 40;

/// How long somebody looks at a post that suits them not at all, and for each point of overlap longer, in milliseconds; then
/// chance makes it between a quarter and seven quarters of that.
const DWELL_MS: (u32, u32) = (1_500, 200);

impl Reaction {
    /// How likely it is with so much overlap: what shows liking grows with it, what shows dislike falls.
    fn suited(self, per_thousand: u32, overlap: u32) -> u32 {
        match self {
            Reaction::Hide | Reaction::Report => per_thousand * (100 - overlap) / (100 - OVERLAP_MEAN),
            _ => per_thousand * overlap / OVERLAP_MEAN,
        }
    }
}

impl Population {
    /// The history of `options`; values outside their range are moved to its end.
    pub fn new(options: Options) -> Self {
        let options = options.clamped();
        let seed = options.seed;
        let mut users: Vec<User> = (0..options.users).map(|number| User::new(seed, number)).collect();
        let tags = TAGS.iter().enumerate().map(|(i, name)| Tag { name, taste: Taste::of_tag(seed, i), uses: 0 });
        Self {
            tag: options.tag(),
            rng: SmallRng::seed_from_u64(seed),
            now_ns: 0,
            next_ns: None,
            made: 0,
            robots: Robots::new(&options, &mut users),
            users,
            registered: Vec::new(),
            edge_ends: Vec::new(),
            posts: VecDeque::new(),
            first_post: 0,
            likes: VecDeque::new(),
            plan: VecDeque::new(),
            tags: tags.collect(),
            tags_used: 0,
            bursts: Bursts::new(&options),
            rhythm: Rhythm::new(options.rhythm, options.start_us),
            totals: Vec::new(),
            misdated: 0,
            pending: None,
            late: Late::new(&options),
            duplicates: Duplicates::new(&options),
            options,
        }
    }

    /// What is behind the calls so far. Complete once the last call was taken.
    pub fn truth(&self) -> Truth<'_> {
        Truth::of(self)
    }

    fn make(&mut self) -> Made {
        loop {
            let people_ns = self.people_next_ns();
            let made = match self.robots.next_ns() {
                Some(robot_ns) if robot_ns <= people_ns => {
                    self.next_ns = Some(people_ns);
                    self.now_ns = robot_ns;
                    self.turn_bursts();
                    self.robot_acts()
                }
                _ => {
                    self.next_ns = None;
                    self.now_ns = people_ns;
                    self.turn_bursts();
                    Some(self.people_act())
                }
            };
            if let Some(made) = made {
                self.made += 1;
                return made;
            }
        }
    }

    /// When people act next.
    fn people_next_ns(&mut self) -> u64 {
        if let Some(next_ns) = self.next_ns {
            return next_ns;
        }
        if self.made == 0 {
            return 0;
        }
        // Twice the mean at most, so that the mean holds; integers, so that every machine gets the same times.
        let gap_ns_mean =
            1_000_000_000 / u64::from(self.options.rate) * 1000 / u64::from(self.rhythm.whole(self.now_ns));
        self.now_ns.saturating_add(self.rng.random_range(0..=2 * gap_ns_mean))
    }

    fn people_act(&mut self) -> Made {
        loop {
            if let Some(step) = self.plan.pop_front()
                && let Some(made) = self.take(step)
            {
                return made;
            }
            if self.plan.is_empty() {
                self.visit();
            }
        }
    }

    /// The robot whose turn it is writes a link or likes the next post; `None` when there is nothing to like.
    fn robot_acts(&mut self) -> Option<Made> {
        let robots = &mut self.robots;
        let turn = (robots.calls % robots.users.len() as u64) as usize;
        let round = robots.calls / robots.users.len() as u64;
        robots.calls += 1;
        let robot = robots.users[turn];
        if !self.users[robot as usize].registered {
            return Some(self.register(robot));
        }
        if round % ROBOT_LINK_EVERY == 1 {
            return Some(self.write_link(robot));
        }
        // One that cannot keep up goes on with what is new.
        let newest = self.first_post + self.posts.len() as u64;
        let next = self.robots.likes_next[turn].max(newest.saturating_sub(BURST_POSTS));
        let number = (next..newest).find(|&number| self.post(number).is_some_and(|post| post.author != robot));
        self.robots.likes_next[turn] = number.map_or(newest, |number| number + 1);
        let number = number?;
        self.reacted(number);
        Some(self.call(robot, "post_liked", self.about(number)))
    }

    /// Starts the burst that is due.
    fn turn_bursts(&mut self) {
        while let Some((number, start_ns, end_ns)) = self.bursts.turn(self.now_ns, &self.options) {
            let burst = self.burst_of(number, start_ns, end_ns);
            self.bursts.begin(burst, &self.options);
        }
    }

    fn burst_of(&mut self, number: usize, start_ns: u64, end_ns: u64) -> Burst {
        let per_hour = |count: u64, ns: u64| count as f64 * 3.6e12 / ns.max(1) as f64;
        let post = if number.is_multiple_of(2) { self.post_to_burst() } else { None };
        let (target, baseline_per_hour, natural) = match post {
            Some(number) => {
                let post = &self.posts[(number - self.first_post) as usize];
                let age_ns = self.now_ns - post.made_ns;
                (Target::Post(number, post.author), per_hour(u64::from(post.reactions), age_ns), 0)
            }
            None => {
                let index = self.rng.random_range(0..self.tags.len());
                let uses = self.tags[index].uses;
                (Target::Tag(index), per_hour(uses, start_ns), uses * 1_000_000 / self.tags_used.max(1))
            }
        };
        let share = burst::added_share(natural, self.options.burst_factor);
        Burst { target, start_ns, end_ns, baseline_per_hour, events: 0, share }
    }

    /// A post of the newest, by a person, that is there.
    fn post_to_burst(&mut self) -> Option<u64> {
        let len = self.posts.len() as u64;
        let age_max = len.min(BURST_POSTS).checked_sub(1)?;
        (0..16)
            .map(|_| self.first_post + len - 1 - self.rng.random_range(0..=age_max))
            .collect::<Vec<u64>>()
            .into_iter()
            .find(|&number| self.post(number).is_some_and(|post| !self.users[post.author as usize].robot))
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

    /// A few posts are seen; some get a reaction, the more the better they suit.
    fn look_around(&mut self, user: u32) {
        for _ in 0..self.rng.random_range(1..=8) {
            let Some(number) = self.some_post(user) else { continue };
            let Some(post) = self.post(number) else { continue };
            let overlap = self.users[user as usize].taste.overlap(&post.taste);
            self.plan.push_back(Step::View(user, number, overlap));
            for (per_thousand, reaction) in AFTER_A_VIEW {
                if self.rng.random_range(0..1000) < reaction.suited(per_thousand, overlap) {
                    self.plan.push_back(Step::React(user, number, reaction));
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

    fn take(&mut self, step: Step) -> Option<Made> {
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
            Step::View(user, post, overlap) => self.view(user, post, overlap),
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

    fn register(&mut self, user: u32) -> Made {
        self.users[user as usize].registered = true;
        self.registered.push(user);
        let name = vocabulary::handle(user);
        let locale = LANGS[self.rng.random_range(0..LANGS.len())];
        let properties =
            Properties::new().text("handle", &name).text("name", &name.replace('_', " ")).text("locale", locale);
        Made { is_awaited: true, ..self.call(user, "user_registered", properties) }
    }

    fn follow(&mut self, user: u32) -> Option<Made> {
        if self.users[user as usize].following.len() == FOLLOWING_MAX {
            return None;
        }
        let mut target = self.somebody_known();
        // Not always: people also follow whom everybody follows.
        if self.rng.random_range(0..10) < 8 {
            let taste = self.users[user as usize].taste;
            let mut best = taste.overlap(&self.users[target as usize].taste);
            for _ in 1..CHOICE {
                let other = self.somebody_known();
                let overlap = taste.overlap(&self.users[other as usize].taste);
                if overlap > best {
                    (best, target) = (overlap, other);
                }
            }
        }
        let following = &mut self.users[user as usize].following;
        if target == user || following.contains(&target) {
            return None;
        }
        following.push(target);
        if self.edge_ends.len() < EDGE_ENDS_MAX {
            self.edge_ends.push(target);
        }
        Some(self.aimed(user, "user_followed", target))
    }

    /// Mostly by who is followed already.
    fn somebody_known(&mut self) -> u32 {
        let by_edge = !self.edge_ends.is_empty() && self.rng.random_range(0..10) < 7;
        let among = if by_edge { &self.edge_ends } else { &self.registered };
        among[self.rng.random_range(0..among.len())]
    }

    fn unfollow(&mut self, user: u32) -> Option<Made> {
        let at = self.index(self.users[user as usize].following.len())?;
        let target = self.users[user as usize].following.swap_remove(at);
        Some(self.aimed(user, "user_unfollowed", target))
    }

    fn shun(&mut self, user: u32, event: &'static str) -> Option<Made> {
        let target = self.registered[self.rng.random_range(0..self.registered.len())];
        let shunned = &mut self.users[user as usize].shunned;
        if target == user || shunned.contains(&target) || shunned.len() == SHUNNED_MAX {
            return None;
        }
        shunned.push(target);
        Some(self.aimed(user, event, target))
    }

    fn forgive(&mut self, user: u32, event: &'static str) -> Option<Made> {
        let at = self.index(self.users[user as usize].shunned.len())?;
        let target = self.users[user as usize].shunned.swap_remove(at);
        Some(self.aimed(user, event, target))
    }

    fn write(&mut self, user: u32) -> Made {
        // Drawn before the post is there, so that nothing answers itself.
        let answered = if self.rng.random_range(0..100) < 10 { self.some_post(user) } else { None };
        let tags = self.some_tags(user);
        for index in tags.iter() {
            if let Some(Burst { target: Target::Tag(at), events, .. }) = self.bursts.now_mut()
                && *at == index
            {
                *events += 1;
            }
        }
        let taste = Taste::mean(tags.iter().map(|index| self.tags[index].taste));
        let number = self.add_post(user, taste.unwrap_or(self.users[user as usize].taste));
        let mut properties = self.content(number, &tags);
        if let Some(answered) = answered {
            let link = if self.rng.random_range(0..10) < 7 { "reply_to" } else { "repost_of" };
            properties = properties.text(link, &self.post_id(answered));
        }
        Made { is_awaited: true, ..self.call(user, "post_created", properties) }
    }

    /// What a robot writes: always a link, never a tag.
    fn write_link(&mut self, robot: u32) -> Made {
        let number = self.add_post(robot, self.users[robot as usize].taste);
        let properties = self.about(number).text("text", "Look at this.").list("tags", []).text("kind", "link");
        let properties = properties.text("url", &format!("https://example.org/{}/{number}", self.tag));
        Made { is_awaited: true, ..self.call(robot, "post_created", properties) }
    }

    fn add_post(&mut self, author: u32, taste: Taste) -> u64 {
        if self.posts.len() == POSTS_IN_SIGHT {
            self.posts.pop_front();
            self.first_post += 1;
        }
        let number = self.first_post + self.posts.len() as u64;
        self.posts.push_back(Post { author, deleted: false, reactions: 0, made_ns: self.now_ns, taste });
        let own = &mut self.users[author as usize].posts;
        if own.len() == OWN_POSTS_MAX {
            own.pop_front();
        }
        own.push_back(number);
        number
    }

    fn edit(&mut self, user: u32) -> Option<Made> {
        let at = self.index(self.users[user as usize].posts.len())?;
        let number = self.users[user as usize].posts[at];
        self.post(number)?;
        let tags = self.own_tags(user);
        let properties = self.content(number, &tags);
        Some(self.call(user, "post_edited", properties))
    }

    fn delete(&mut self, user: u32) -> Option<Made> {
        let at = self.index(self.users[user as usize].posts.len())?;
        let number = self.users[user as usize].posts[at];
        if self.bursts.now().is_some_and(|burst| burst.target == Target::Post(number, user)) {
            // Nobody takes down what everybody looks at.
            return None;
        }
        self.users[user as usize].posts.remove(at);
        self.post(number)?;
        let index = usize::try_from(number - self.first_post).ok()?;
        self.posts[index].deleted = true;
        Some(self.call(user, "post_deleted", self.about(number)))
    }

    fn view(&mut self, user: u32, post: u64, overlap: u32) -> Option<Made> {
        self.post(post)?;
        self.reacted(post);
        let (least, more) = DWELL_MS;
        let dwell_ms = (least + more * overlap) * self.rng.random_range(250..1_750) / 1_000;
        Some(self.call(user, "post_viewed", self.about(post).number("dwell_ms", u64::from(dwell_ms))))
    }

    fn react(&mut self, user: u32, post: u64, reaction: Reaction) -> Option<Made> {
        self.post(post)?;
        self.reacted(post);
        let about = self.about(post);
        let (event, properties) = match reaction {
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

    /// Counts a reaction to a post that is there.
    fn reacted(&mut self, number: u64) {
        self.posts[(number - self.first_post) as usize].reactions += 1;
        if let Some(Burst { target: Target::Post(at, _), events, .. }) = self.bursts.now_mut()
            && *at == number
        {
            *events += 1;
        }
    }

    fn with_tag(&mut self, user: u32, event: &'static str) -> Made {
        let index = self.suiting_tag(user);
        self.call(user, event, Properties::new().text("tag", self.tags[index].name))
    }

    fn aimed(&mut self, user: u32, event: &'static str, target: u32) -> Made {
        self.call(user, event, Properties::new().text("target_id", &user_id(target)))
    }

    fn about(&self, post: u64) -> Properties {
        Properties::new().text("post_id", &self.post_id(post))
    }

    fn content(&mut self, post: u64, tags: &Tags) -> Properties {
        let words = self.rng.random_range(3..16);
        let text = vocabulary::sentence(&mut self.rng, words);
        let lang = LANGS[self.rng.random_range(0..LANGS.len())];
        let kind = match self.rng.random_range(0..100) {
            0..74 => "text",
            74..88 => "image",
            88..93 => "video",
            _ => "link",
        };
        let names = tags.iter().map(|index| self.tags[index].name);
        let properties = self.about(post).text("text", &text).list("tags", names).text("lang", lang).text("kind", kind);
        match kind {
            "link" => properties.text("url", &format!("https://example.org/{}/{post}", self.tag)),
            _ => properties,
        }
    }

    fn call(&mut self, user: u32, event: &'static str, properties: Properties) -> Made {
        match self.totals.iter_mut().find(|(name, _)| *name == event) {
            Some((_, count)) => *count += 1,
            None => self.totals.push((event, 1)),
        }
        let message_id = format!("sim-{}-{}", self.tag, self.made);
        let call = Call::track(message_id, user_id(user), Cow::Borrowed(event), properties, self.now_us());
        Made { user, call, is_awaited: false }
    }

    /// The clock stands still at the end of what a timestamp can say.
    fn now_us(&self) -> Micros {
        let elapsed_us = Micros::try_from(self.now_ns / 1_000).unwrap_or(Micros::MAX);
        self.options.start_us.saturating_add(elapsed_us)
    }

    /// A person, awake if one is found soon. Low numbers come more often: the first tenth acts about a third of the time.
    fn somebody(&mut self) -> u32 {
        let users = self.options.users;
        let mut person = 0;
        for _ in 0..TRIES_AWAKE {
            let rng = &mut self.rng;
            person = rng.random_range(0..users).min(rng.random_range(0..users)).min(rng.random_range(0..users));
            let User { zone, robot, .. } = self.users[person as usize];
            let is_awake =
                self.rhythm.is_flat() || rng.random_range(0..ACTIVITY_MAX) < self.rhythm.activity(zone, self.now_ns);
            if !robot && is_awake {
                return person;
            }
        }
        // At most half of all are robots, so this ends.
        while self.users[person as usize].robot {
            person = (person + 1) % users;
        }
        person
    }

    /// A post that `user` comes across: mostly by somebody they follow, mostly recent, never by somebody they shun.
    fn some_post(&mut self, user: u32) -> Option<u64> {
        if let Some(Burst { target: Target::Post(number, author), share, .. }) = self.bursts.now().cloned()
            && author != user
            && self.rng.random_range(0..1_000_000) < share
        {
            return Some(number);
        }
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

    /// Up to three tags for a new post: what suits its author, and now and then what everybody talks about.
    fn some_tags(&mut self, user: u32) -> Tags {
        let mut tags = self.own_tags(user);
        self.tags_used += tags.len() as u64;
        for index in tags.iter() {
            self.tags[index].uses += 1;
        }
        if let Some(&Burst { target: Target::Tag(index), share, .. }) = self.bursts.now() {
            for place in 0..tags.len() {
                if self.rng.random_range(0..1_000_000) < share {
                    tags.replace(place, index);
                }
            }
        }
        tags
    }

    fn own_tags(&mut self, user: u32) -> Tags {
        let mut tags = Tags::default();
        for _ in 0..self.rng.random_range(0..=Tags::MAX) {
            let index = self.suiting_tag(user);
            tags.add(index);
        }
        tags
    }

    /// The one of a few that suits `user` best. The first tags are met more.
    fn suiting_tag(&mut self, user: u32) -> usize {
        let taste = self.users[user as usize].taste;
        let all = self.tags.len();
        let met = [(); CHOICE].map(|()| self.rng.random_range(0..all).min(self.rng.random_range(0..all)));
        met.into_iter().max_by_key(|&index| taste.overlap(&self.tags[index].taste)).unwrap_or(0)
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

/// The tags of one post, each once, as indices.
#[derive(Default)]
struct Tags {
    indices: [usize; Tags::MAX],
    len: usize,
}

impl Tags {
    const MAX: usize = 3;

    fn len(&self) -> usize {
        self.len
    }

    fn iter(&self) -> impl Iterator<Item = usize> + use<> {
        self.indices.into_iter().take(self.len)
    }

    fn add(&mut self, index: usize) {
        if self.len < Self::MAX && !self.iter().any(|there| there == index) {
            self.indices[self.len] = index;
            self.len += 1;
        }
    }

    fn replace(&mut self, place: usize, index: usize) {
        if !self.iter().any(|there| there == index) {
            self.indices[place] = index;
        }
    }
}

impl Iterator for Population {
    type Item = Call;

    fn next(&mut self) -> Option<Call> {
        loop {
            if let Some(again) = self.duplicates.due() {
                return Some(again);
            }
            if let Some(late) = self.late.due(self.now_ns, self.now_us()) {
                return Some(self.send(late));
            }
            let made = match self.pending.take() {
                Some(made) => made,
                None if self.made < self.options.events => {
                    let made = self.make();
                    if self.late.is_idle() {
                        return Some(self.send(made));
                    }
                    // Devices that are back by the time of this call send first: their order is that of their calls.
                    self.pending = Some(made);
                    continue;
                }
                None => {
                    let late = self.late.rest(self.now_us());
                    return late.map(|late| self.send(late)).or_else(|| self.duplicates.rest());
                }
            };
            if let Some(made) = self.late.pass(made, self.now_ns) {
                return Some(self.send(made));
            }
        }
    }
}

impl Population {
    fn send(&mut self, made: Made) -> Call {
        let mut call = made.call;
        if let Some(skew) = Skew::of(&self.options, made.user) {
            skew.apply(&mut call);
            self.misdated += 1;
        }
        self.duplicates.note(&call);
        call
    }
}

#[cfg(test)]
mod tests;
