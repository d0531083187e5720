use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use async_trait::async_trait;
use bytes::Bytes;
use millrace_embedded::Embedded;
use millrace_events::{
    Action, ActionKind, Derived, Envelope, Kind, Link, LogTime, Micros, Position, Topic, TopicPartition, partition_of,
};
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::person::{HOPS_MAX, Links, Person, Relatives};
use millrace_feature_store::views::{self, ALIASES, IDENTITY, IdentityRecord};
use millrace_feature_store::{OnlineStore, OnlineWrite};
use millrace_log::toy::ToyLog;
use millrace_log::{Append, EventLog, Record};
use millrace_ranking::{HomeQuery, Ranker, RankerOptions};
use millrace_warehouse::Table;
use millrace_warehouse::toy::ToyWarehouse;
use proptest::prelude::*;
use prost::Message;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Identity, link_of};
use crate::archive::{ArchiveOptions, ArchiveSeams, Archived, Archiver};
use crate::job::{LinkedId, Row, Stage, Writes};
use crate::jobs::{DerivedStage, stage_of};
use crate::runner::{Board, Gate, Seams, Timer, Worker, WorkerOptions};
use crate::state::toy::ToyStateStore;
use crate::state::{State, StateStore};
use crate::verify::{Replay, Report};

const OF: TopicPartition = TopicPartition::new(Topic::UserEvents, 0);

/// Links (alias, person, time) in the order in which they arrive, and the rows that they lead to.
async fn check(links: &[(&str, &str, Micros)], rows: &[(&str, &str, Micros)], identities: &[(&str, &str, Micros)]) {
    let stage = DerivedStage::new(1, 1, vec![Box::new(Identity)]);
    let mut state = State::new(OF, ToyStateStore::new().open(OF).await.unwrap());
    let (mut writes, mut previous, mut offset) = (Writes::default(), None, 0);
    for &(alias, person, event_time_us) in links {
        for key in [alias, person] {
            let position = Position { generation: 1, partition: 0, offset, index: 0 };
            let link = Link { alias_id: alias.to_owned(), person_id: person.to_owned() };
            let derived = Derived {
                position,
                previous: previous.replace(position),
                log_time_us: 1_000,
                actor: person.to_owned(),
                event_time_us,
                link: Some(link),
                ..Derived::default()
            };
            let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), derived.encode_to_vec().into());
            stage.apply(OF, Record { offset, time: LogTime(1_000), key, value }, &mut state, &mut writes).unwrap();
            offset += 1;
        }
    }
    let row = |row: &Row| match row {
        Row::Identity(LinkedId { alias_id, person_id, linked_at_us }) => {
            (alias_id.clone(), person_id.clone(), *linked_at_us)
        }
        Row::EngagementWindow(window) => panic!("no window should close: {window:?}"),
    };
    let made: Vec<_> = writes.rows.iter().map(|(_, made)| row(made)).collect();
    let owned = |all: &[(&str, &str, Micros)]| -> Vec<(String, String, Micros)> {
        all.iter().map(|(alias, person, at)| ((*alias).to_owned(), (*person).to_owned(), *at)).collect()
    };
    assert_eq!(made, owned(rows));
    let mut online: Vec<_> = writes.take_online().into_iter().filter_map(identity).collect();
    online.sort_unstable();
    assert_eq!(online, owned(identities));
}

fn identity(write: OnlineWrite) -> Option<(String, String, Micros)> {
    let OnlineWrite::Put { key, value, .. } = write else { return None };
    assert_eq!(key.view, IDENTITY);
    let IdentityRecord { person_id, linked_at_us } = IdentityRecord::decode(value).unwrap();
    Some((String::from_utf8(key.entity.to_vec()).unwrap(), person_id, linked_at_us))
}

#[tokio::test]
async fn the_earliest_link_wins_whenever_it_arrives() {
    check(&[], &[], &[]).await;
    check(&[("d", "ann", 5)], &[("d", "ann", 5)], &[("d", "ann", 5)]).await;
    // Again, and a second person on the device.
    check(&[("d", "ann", 5), ("d", "ann", 6), ("d", "bob", 7)], &[("d", "ann", 5)], &[("d", "ann", 5)]).await;
    // The first one's was late.
    let late = [("d", "bob", 7), ("d", "ann", 5)];
    check(&late, &late, &[("d", "ann", 5)]).await;
    // The same person, known for longer.
    let longer = [("d", "ann", 7), ("d", "ann", 5)];
    check(&longer, &longer, &[("d", "ann", 5)]).await;
    // At one time the id decides.
    check(&[("d", "ann", 5), ("d", "bob", 5)], &[("d", "ann", 5)], &[("d", "ann", 5)]).await;
    let tie = [("d", "bob", 5), ("d", "ann", 5)];
    check(&tie, &tie, &[("d", "ann", 5)]).await;
    let both = [("d", "ann", 5), ("e", "bob", 5)];
    check(&both, &both, &both).await;
}

#[test]
fn only_calls_that_say_who_is_who_link() {
    let envelope = |kind: Kind, user: &str, anonymous: &str, previous: &str| Envelope {
        kind: kind as i32,
        user_id: user.to_owned(),
        anonymous_id: anonymous.to_owned(),
        previous_id: previous.to_owned(),
        ..Envelope::default()
    };
    let check = |kind, user, anonymous, previous, expected: Option<(&str, &str)>| {
        let link = link_of(&envelope(kind, user, anonymous, previous));
        let link = link.as_ref().map(|link| (link.alias_id.as_str(), link.person_id.as_str()));
        assert_eq!(link, expected, "{kind:?} {user} {anonymous} {previous}");
    };
    check(Kind::Identify, "ann", "d", "", Some(("d", "ann")));
    check(Kind::Alias, "ann", "", "before", Some(("before", "ann")));
    // Where an alias is sent from is not whom it names.
    check(Kind::Alias, "ann", "d", "before", Some(("before", "ann")));
    check(Kind::Identify, "ann", "", "", None);
    check(Kind::Identify, "", "d", "", None);
    check(Kind::Identify, "ann", "ann", "", None);
    check(Kind::Alias, "ann", "", "ann", None);
    for kind in [Kind::Track, Kind::Page, Kind::Screen, Kind::Group] {
        check(kind, "ann", "d", "before", None);
    }
}

const GENERATION: u32 = 1;
const PARTITIONS: u32 = 3;
const SECOND: Micros = 1_000_000;
const BEGIN: Micros = 100_000 * SECOND;
/// How much log time passes between two events.
const STEP: Micros = 20 * SECOND;
/// When every partition is told the time for the last time.
const END: Micros = BEGIN + 10_000 * SECOND;

/// Users and devices. Each may be said to be each: chains, circles and rivals come about by themselves.
const IDS: [&str; 7] = ["ann", "bob", "cid", "device-1", "device-2", "device-3", "phone"];
const AUTHORS: [&str; 2] = ["wil", "xav"];
const POSTS: usize = 6;

/// One event of the test: what, by which id, to which other id, post and author, how long before it arrives, how often it is sent.
type Drawn = (usize, usize, usize, usize, Micros, usize);

fn drawn() -> impl Strategy<Value = Drawn> {
    // Times are rough, so that many are equal; some events are late.
    (0..16_usize, 0..IDS.len(), 0..IDS.len(), 0..POSTS, 0..10_i64, 1..3_usize)
}

fn post(nth: usize) -> String {
    format!("p{nth}")
}

/// All events, each with the log time it is stamped with: first the posts, then what was drawn.
fn envelopes(drawn: &[Drawn]) -> Vec<(Envelope, Micros, usize)> {
    let mut events = Vec::new();
    for nth in 0..POSTS {
        let created = acted(AUTHORS[nth % 2], ActionKind::PostCreated, &post(nth), "");
        events.push((created, 0, 1));
    }
    events.extend(drawn.iter().map(|&event| (envelope(event), event.4, event.5)));
    let stamped = (0..).zip(events).map(|(nth, (event, behind, times))| {
        let log_time = BEGIN + nth * STEP;
        let event_time_us = (log_time - behind * 60 * SECOND) / (30 * SECOND) * (30 * SECOND);
        let message_id = format!("m{nth}");
        (Envelope { message_id, source: "test".to_owned(), event_time_us, ..event }, log_time, times)
    });
    stamped.collect()
}

fn envelope((what, who, other, nth, _, _): Drawn) -> Envelope {
    use ActionKind::*;
    let (who, other, author) = (IDS[who], IDS[other], AUTHORS[nth % 2]);
    let about_post = |kind| acted(who, kind, &post(nth), "");
    let about_author = |kind| acted(who, kind, "", author);
    match what {
        0..=3 => {
            let (user_id, anonymous_id) = (who.to_owned(), other.to_owned());
            Envelope { kind: Kind::Identify as i32, user_id, anonymous_id, ..Envelope::default() }
        }
        4 => {
            let (user_id, previous_id) = (who.to_owned(), other.to_owned());
            Envelope { kind: Kind::Alias as i32, user_id, previous_id, ..Envelope::default() }
        }
        5 | 6 => about_post(PostViewed),
        7 => about_post(PostHidden),
        8 | 9 => about_post(PostLiked),
        10 => about_post(PostUnliked),
        11 => about_author(UserFollowed),
        12 => about_author(UserUnfollowed),
        13 => about_author(UserBlocked),
        14 => about_author(UserUnblocked),
        _ => about_author(UserMuted),
    }
}

/// What somebody does, who is anonymous on a device.
fn acted(who: &str, kind: ActionKind, post: &str, target: &str) -> Envelope {
    let action =
        Action { kind: kind as i32, post_id: post.to_owned(), target_id: target.to_owned(), ..Action::default() };
    let is_device = who.starts_with("device");
    let (user_id, anonymous_id) = if is_device { ("", who) } else { (who, "") };
    Envelope {
        kind: Kind::Track as i32,
        event: kind.as_str().to_owned(),
        user_id: user_id.to_owned(),
        anonymous_id: anonymous_id.to_owned(),
        action: Some(action),
        ..Envelope::default()
    }
}

/// A stage of the platform: its stores, and how batches are cut.
struct Bench {
    online: ToyStore,
    states: ToyStateStore,
    board: Board,
    random: SmallRng,
}

struct NoTimer;

#[async_trait]
impl Timer for NoTimer {
    async fn pause(&self, _duration: Duration) {}
}

impl Bench {
    fn new(seed: u64) -> Self {
        Self {
            online: ToyStore::new(),
            states: ToyStateStore::new(),
            board: Board::new(),
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// Runs the jobs of a partition to its end, with batches cut anywhere.
    async fn work(&mut self, log: &ToyLog, of: TopicPartition) {
        let seams = Seams {
            log: Arc::new(log.clone()),
            online: Arc::new(self.online.clone()),
            states: Arc::new(self.states.clone()),
            timer: Arc::new(NoTimer),
            gate: Gate::default(),
            archived: Archived::default(),
        };
        let options = WorkerOptions {
            read_bytes: self.random.random_range(1..4_000),
            writes_max: self.random.random_range(1..50),
            commit_records: self.random.random_range(1..40),
            commit_keys: self.random.random_range(1..50),
            ..WorkerOptions::default()
        };
        let end = log.bounds(of).await.unwrap().end;
        let stage = stage_of(of.topic, GENERATION, PARTITIONS).unwrap();
        let worker = Worker::new(of, GENERATION, stage, seams, options, self.board.clone());
        worker.run_until(end).await.unwrap();
        self.board.update(of, |status| (status.committed, status.applied) = (end, end));
    }

    /// Stage 1 on each partition of `actions`; then its outputs, in an order that keeps only that of each source, are what
    /// the other topics hold.
    async fn play(&mut self, actions: &[Append]) -> ToyLog {
        let log = ToyLog::new(PARTITIONS);
        log.append(actions.to_vec()).await.unwrap();
        let mut published: BTreeMap<TopicPartition, Vec<Vec<Record>>> = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let of = TopicPartition::new(Topic::Actions, partition);
            let own = ToyLog::new(PARTITIONS);
            own.append(actions.iter().filter(|action| action.to == of).cloned().collect()).await.unwrap();
            self.work(&own, of).await;
            for to in derived() {
                published.entry(to).or_default().push(own.records(to));
            }
        }
        for (to, mut sources) in published {
            sources.iter_mut().for_each(|records| records.reverse());
            loop {
                sources.retain(|records| !records.is_empty());
                if sources.is_empty() {
                    break;
                }
                let nth = self.random.random_range(0..sources.len());
                let Some(Record { time, key, value, .. }) = sources[nth].pop() else { break };
                log.append(vec![Append { to, time, key, value }]).await.unwrap();
            }
            self.work(&log, to).await;
        }
        log
    }
}

fn derived() -> impl Iterator<Item = TopicPartition> {
    let partitions = |topic| (0..PARTITIONS).map(move |partition| TopicPartition::new(topic, partition));
    Topic::DERIVED.into_iter().flat_map(partitions)
}

/// What one interleaving led to.
struct Outcome {
    log: ToyLog,
    online: ToyStore,
    warehouse: ToyWarehouse,
}

async fn run(actions: &[Append], seed: u64) -> Outcome {
    let mut bench = Bench::new(seed);
    let log = bench.play(actions).await;
    let warehouse = ToyWarehouse::new();
    let seams = ArchiveSeams {
        log: Arc::new(log.clone()),
        states: Arc::new(bench.states),
        warehouse: Arc::new(warehouse.clone()),
        board: bench.board,
        timer: Arc::new(NoTimer),
    };
    Archiver::new(seams, GENERATION, ArchiveOptions::default(), Archived::default()).catch_up().await.unwrap();
    Outcome { log, online: bench.online, warehouse }
}

/// Replays what an interleaving was recorded as, and compares.
async fn replay(outcome: &Outcome) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let scratch = Embedded::open(dir.path(), millrace_embedded::Options::default()).unwrap();
    let log: Arc<dyn EventLog> = Arc::new(outcome.log.clone());
    let mut replay = Replay::new(log.clone(), GENERATION, &scratch).unwrap();
    let actions = (0..PARTITIONS).map(|partition| TopicPartition::new(Topic::Actions, partition));
    let mut ends = BTreeMap::new();
    for of in actions.chain(derived()) {
        ends.insert(of, log.bounds(of).await.unwrap().end);
    }
    replay.advance(&ends).await.unwrap();
    replay.compare(&outcome.online, Some(Arc::new(outcome.warehouse.clone())), || {}).await.unwrap()
}

/// Whose each id is, by the rows of the warehouse: the one with the earliest time, of several the last.
fn archived(warehouse: &ToyWarehouse) -> BTreeMap<String, (String, Micros)> {
    let mut identities: BTreeMap<String, (String, Micros)> = BTreeMap::new();
    for batch in warehouse.rows(Table::Identities) {
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let times = batch.column_by_name("linked_at").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
        let (aliases, persons) = (text("alias_id"), text("person_id"));
        for row in 0..batch.num_rows() {
            let (alias, at) = (aliases.value(row).to_owned(), times.value(row));
            let known = identities.entry(alias).or_insert_with(|| (String::new(), Micros::MAX));
            if at <= known.1 {
                *known = (persons.value(row).to_owned(), at);
            }
        }
    }
    identities
}

/// Reads a person as serving does.
async fn person(online: &ToyStore, id: &str) -> Person {
    let mut relatives = Relatives::of(id);
    loop {
        let wanted = relatives.wanted();
        if wanted.is_empty() {
            return relatives.person();
        }
        for id in wanted {
            let identity = online.get(&[views::record(IDENTITY, &id)]).await.unwrap().remove(0);
            let aliases = online.heads(&[views::list(ALIASES, &id)], views::ALIASES_MAX).await.unwrap().remove(0);
            relatives.insert(id, Links::decode(identity, aliases).unwrap());
        }
    }
}

/// Posts with their scores, as `viewer` is served them.
async fn feed(online: &ToyStore, viewer: &str) -> Vec<(String, String)> {
    let ranker = Ranker::new(Arc::new(online.clone()), PARTITIONS, RankerOptions::default());
    let query = HomeQuery { viewer: viewer.to_owned(), limit: 100, cursor: None, explain: false, record_rate: None };
    let slate = ranker.home(query).await.unwrap();
    slate.items.into_iter().map(|item| (item.post_id, format!("{} {:.6}", item.reason, item.score))).collect()
}

/// Whose each id is, the plainest way: of all that was said the earliest, at one time the least id.
fn plain(events: &[(Envelope, Micros, usize)]) -> BTreeMap<String, (String, Micros)> {
    let mut identities: BTreeMap<String, (String, Micros)> = BTreeMap::new();
    for (event, _, _) in events {
        let alias = match event.kind() {
            Kind::Identify => &event.anonymous_id,
            Kind::Alias => &event.previous_id,
            _ => continue,
        };
        if *alias == event.user_id {
            continue;
        }
        let said = (event.user_id.clone(), event.event_time_us);
        let known = identities.entry(alias.clone()).or_insert_with(|| said.clone());
        if (said.1, &said.0) < (known.1, &known.0) {
            *known = said;
        }
    }
    identities
}

fn plain_person(identities: &BTreeMap<String, (String, Micros)>, id: &str) -> String {
    let mut path = vec![id];
    while path.len() <= HOPS_MAX {
        let Some((parent, _)) = identities.get(path[path.len() - 1]) else { break };
        if let Some(at) = path.iter().position(|passed| passed == parent) {
            return path[at..].iter().min().unwrap().to_string();
        }
        path.push(parent);
    }
    path[path.len() - 1].to_owned()
}

/// The records of `actions` that these events are, and the last time everybody is told.
fn appends(events: &[(Envelope, Micros, usize)]) -> Vec<Append> {
    let mut appends = Vec::new();
    for (event, log_time, times) in events {
        let key = event.key().to_owned();
        let to = TopicPartition::new(Topic::Actions, partition_of(key.as_bytes(), PARTITIONS));
        let value: Bytes = event.encode_to_vec().into();
        let append = Append { to, time: LogTime(*log_time), key: key.into(), value };
        appends.extend(std::iter::repeat_n(append, *times));
    }
    let value: Bytes = Envelope::tick().encode_to_vec().into();
    appends.extend((0..PARTITIONS).map(|partition| {
        let to = TopicPartition::new(Topic::Actions, partition);
        Append { to, time: LogTime(END), key: Bytes::new(), value: value.clone() }
    }));
    appends
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the partitions of `actions` interleave, and wherever batches are cut: everything is the same, each id has the
    /// same person, each person the same feed under each of their ids, nobody is served what one of their ids saw or hid, and
    /// the warehouse says the same.
    #[test]
    fn who_is_who_does_not_depend_on_the_order(
        drawn in prop::collection::vec(drawn(), 1..50),
        seeds in (any::<u64>(), any::<u64>()),
    ) {
        block_on(async {
            let events = envelopes(&drawn);
            let actions = appends(&events);
            let identities = plain(&events);
            let (first, second) = (run(&actions, seeds.0).await, run(&actions, seeds.1).await);
            prop_assert_eq!(&first.online.content(), &second.online.content());
            prop_assert_eq!(&archived(&first.warehouse), &identities);
            prop_assert_eq!(&archived(&second.warehouse), &identities);

            let mut feeds = BTreeMap::new();
            for id in IDS {
                let person = person(&first.online, id).await;
                prop_assert_eq!(&person.person_id, &plain_person(&identities, id), "{}", id);
                let ids: BTreeSet<&str> = person.ids.iter().map(|id| id.id.as_str()).collect();
                let expected: BTreeSet<&str> =
                    IDS.into_iter().filter(|other| plain_person(&identities, other) == person.person_id).collect();
                prop_assert_eq!(&ids, &expected, "{}", id);

                let feed = feed(&first.online, id).await;
                for (event, _, _) in &events {
                    let met = matches!(event.action_kind(), ActionKind::PostViewed | ActionKind::PostHidden);
                    let post = event.action.as_ref().map_or("", |action| &action.post_id);
                    let is_served = feed.iter().any(|(served, _)| served == post);
                    prop_assert!(!(met && is_served && ids.contains(event.key())), "{} was served {}", id, post);
                }
                let known = feeds.entry(person.person_id).or_insert_with(|| feed.clone());
                prop_assert_eq!(known, &feed, "{}", id);
            }
            Ok(())
        })?;
    }
}

proptest! {
    // Each has databases of its own on the disk.
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// A replay of what was recorded is equal, and so are two recordings of the same events: by the hash of all content.
    #[test]
    fn a_replay_has_the_same_hash_whatever_the_order_was(
        drawn in prop::collection::vec(drawn(), 20..50),
        seeds in (any::<u64>(), any::<u64>()),
    ) {
        block_on(async {
            let actions = appends(&envelopes(&drawn));
            let first = replay(&run(&actions, seeds.0).await).await;
            let second = replay(&run(&actions, seeds.1).await).await;
            prop_assert_eq!((first.difference, second.difference), (None, None));
            prop_assert_eq!(first.content_hash, second.content_hash);
            Ok(())
        })?;
    }
}
