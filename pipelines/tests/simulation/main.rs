//! Deterministic simulation: the real runner and the real jobs over toy seams, one thread, virtual time, one seed.
//!
//! Every seed draws a small world and a schedule: processes die between any two awaits, machines die and lose what was not
//! synced, workers freeze and wake up after another has taken over, appends are torn and repeated, acknowledgements come
//! back in any order, batches are cut anywhere. Whatever happens, the present must equal what a plain model computes from
//! the events that were acknowledged, and what a replay of the topics gives.
//!
//! `MILLRACE_SIMULATION_SEEDS=N` runs more seeds; `MILLRACE_SIMULATION_SEED=S` runs one.

#![expect(clippy::unwrap_used, reason = "tests: a failure is a panic")]

mod executor;
mod jobs;
mod model;
mod seams;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use executor::{Executor, yield_now};
use millrace_events::{DeadLetter, Derived, Envelope, LogTime, Topic, TopicPartition, partition_of};
use millrace_feature_store::online::Content;
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::views::{TRENDS, WindowCounts};
use millrace_log::toy::ToyLog;
use millrace_log::{Append, EventLog};
use millrace_pipelines::runner::{Board, Stop, Worker, WorkerOptions};
use millrace_pipelines::state::toy::ToyStateStore;
use model::Sent;
use prost::Message;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const GENERATION: u32 = 1;
const PARTITIONS: u32 = 2;
const STEPS_MAX: usize = 400_000;

/// A law broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// All laws hold.
    None,
    /// State is committed although what was published is not acknowledged.
    CommitBeforePublish,
    /// Consumers do not look at positions.
    NoPositions,
    /// Windows close where a batch begins.
    CloseByBatch,
}

/// What the machine under the processes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    /// The log, the stores and the state are services that outlive any process; workers can become zombies.
    Cluster,
    /// One process on one machine with one journal: a power cut takes whatever came after the last sync, of everything.
    Embedded,
}

struct World {
    executor: Executor,
    log: ToyLog,
    online: ToyStore,
    states: ToyStateStore,
    machine: Machine,
    mutant: Mutant,
    next_process: u32,
    board: Board,
    /// Embedded: the stores as of the last sync of the journal.
    synced: Option<(ToyStore, ToyStateStore)>,
    feed: Rc<RefCell<Feed>>,
}

/// The client: sends its events in order, one call at a time, and sends a call again until it is acknowledged.
#[derive(Default)]
struct Feed {
    calls: Vec<Vec<Sent>>,
    acknowledged: usize,
}

impl World {
    fn new(seed: u64, mutant: Mutant) -> (Self, Vec<Sent>) {
        let mut executor = Executor::new(seed);
        let count = 20 + executor.below(100);
        let events = model::events(&mut executor.random, count);
        let mut calls = Vec::new();
        let mut rest = events.as_slice();
        while !rest.is_empty() {
            let take = (1 + executor.below(6)).min(rest.len());
            calls.push(rest[..take].to_vec());
            rest = &rest[take..];
        }
        let machine = if executor.chance(2) { Machine::Embedded } else { Machine::Cluster };
        let world = Self {
            executor,
            log: ToyLog::manual(PARTITIONS),
            online: ToyStore::new(),
            states: ToyStateStore::new(),
            machine,
            mutant,
            next_process: 1,
            board: Board::new(),
            synced: None,
            feed: Rc::new(RefCell::new(Feed { calls, acknowledged: 0 })),
        };
        (world, events)
    }

    fn options(&mut self) -> WorkerOptions {
        let random = &mut self.executor.random;
        WorkerOptions {
            read_bytes: random.random_range(1..2_000),
            writes_max: random.random_range(1..40),
            commit_records: random.random_range(1..30),
            commit_keys: random.random_range(1..200),
            commit_rows: random.random_range(1..20),
            commit_idle: Duration::from_millis(1),
            commit_every: Duration::from_millis(1),
            sweep_keys: random.random_range(1..20),
            publish_pause: Duration::from_millis(1),
            restart_pause: Duration::from_millis(1),
        }
    }

    fn start_workers(&mut self) -> u32 {
        let process = self.next_process;
        self.next_process += 1;
        let log = self.log.as_process(process);
        let early = self.mutant == Mutant::CommitBeforePublish;
        for topic in [Topic::Actions, Topic::UserEvents, Topic::ReactionEvents] {
            for partition in 0..PARTITIONS {
                let of = TopicPartition::new(topic, partition);
                let stage = jobs::stage(topic, GENERATION, PARTITIONS, self.mutant).unwrap();
                let seams = seams::seams(&log, &self.online, &self.states, early);
                let options = self.options();
                let worker = Worker::new(of, GENERATION, stage, seams, options, self.board.clone());
                self.executor.spawn(process, async move {
                    // It tells the board why it ends.
                    let _ended = worker.run(&Stop::default()).await;
                });
            }
        }
        process
    }

    fn start_feeder(&mut self) -> u32 {
        let process = self.next_process;
        self.next_process += 1;
        let (log, feed) = (self.log.as_process(process), self.feed.clone());
        self.executor.spawn(process, async move {
            loop {
                let call = {
                    let feed = feed.borrow();
                    feed.calls.get(feed.acknowledged).cloned()
                };
                let Some(call) = call else { return };
                let mut batch: Vec<Append> = call.iter().map(append).collect();
                if let Some(last) = call.last().filter(|last| last.log_time % 3 == 0) {
                    batch.extend((0..PARTITIONS).map(|partition| tick(partition, last.log_time)));
                }
                if log.append(batch).await.is_ok() {
                    feed.borrow_mut().acknowledged += 1;
                }
                yield_now().await;
            }
        });
        process
    }

    /// One step of the schedule; false when nothing is left to do.
    fn step(&mut self) -> bool {
        let random = &mut self.executor.random;
        if random.random_range(0..3) == 0 {
            let mut draw = SmallRng::seed_from_u64(random.random());
            if self.log_step(&mut draw) {
                return true;
            }
        }
        if self.executor.step() {
            return true;
        }
        let mut draw = SmallRng::seed_from_u64(self.executor.random.random());
        self.log_step(&mut draw)
    }

    fn log_step(&mut self, draw: &mut SmallRng) -> bool {
        let written = self.log.written();
        let moved = self.log.step(|n| draw.random_range(0..n));
        // Only a write syncs the journal and all that came before it; an answer does not.
        if self.machine == Machine::Embedded && self.log.written() > written {
            self.synced = Some((self.online.snapshot(), self.states.snapshot()));
        }
        moved
    }

    /// The database failed a write and was opened again under its live users: what was not synced may be gone.
    fn reopen(&mut self) {
        self.states.reopen();
        self.lose_unsynced();
    }

    fn kill(&mut self, process: u32) {
        self.executor.kill(process);
        let mut draw = SmallRng::seed_from_u64(self.executor.random.random());
        self.log.crash(process, |n| draw.random_range(0..n));
    }

    fn power_cut(&mut self, processes: &[u32]) {
        for process in processes {
            self.kill(*process);
        }
        self.lose_unsynced();
    }

    fn lose_unsynced(&mut self) {
        // What came after the last sync may have reached the disk or not; what came before has.
        let lost = self.executor.chance(2);
        match &self.synced {
            Some((online, states)) if lost => {
                self.online.restore(online);
                self.states.restore(states);
            }
            None if lost => {
                self.online.restore(&ToyStore::new());
                self.states.restore(&ToyStateStore::new());
            }
            _ => {}
        }
    }

    fn run(&mut self) {
        let mut workers = self.start_workers();
        let mut feeder = self.start_feeder();
        let mut zombie: Option<(u32, usize)> = None;
        let mut faults = self.executor.below(8);
        for step in 0..STEPS_MAX {
            if faults > 0 && self.executor.chance(120) {
                faults -= 1;
                match (self.machine, self.executor.below(4)) {
                    (Machine::Embedded, 0) => self.reopen(),
                    (Machine::Embedded, 1) => self.log.fail_next(1),
                    (Machine::Embedded, 2) => self.online.fail_next(1),
                    (Machine::Embedded, _) => {
                        self.power_cut(&[workers, feeder]);
                        workers = self.start_workers();
                        feeder = self.start_feeder();
                    }
                    (Machine::Cluster, 0) => {
                        self.kill(feeder);
                        feeder = self.start_feeder();
                    }
                    (Machine::Cluster, 1) => {
                        self.kill(workers);
                        workers = self.start_workers();
                    }
                    (Machine::Cluster, 2) => self.log.fail_next(1),
                    (Machine::Cluster, _) if zombie.is_none() => {
                        self.executor.freeze(workers, true);
                        zombie = Some((workers, step + self.executor.below(3_000)));
                        workers = self.start_workers();
                    }
                    _ => self.online.fail_next(1),
                }
            }
            if let Some((process, until)) = zombie
                && step >= until
            {
                self.executor.freeze(process, false);
                zombie = None;
            }
            if !self.step() {
                match zombie.take() {
                    Some((process, _)) => self.executor.freeze(process, false),
                    None => return,
                }
            }
        }
        panic!("the simulation did not come to rest in {STEPS_MAX} steps: {:#?}", self.board.all());
    }

    /// Ticks far in the future close every window; then everything comes to rest again.
    fn close(&mut self) {
        self.log.fail_next(0);
        for partition in 0..PARTITIONS {
            let tick = tick(partition, 1 << 60);
            let log = self.log.as_process(self.next_process);
            self.executor.spawn(self.next_process, async move {
                log.append(vec![tick]).await.unwrap();
            });
        }
        for _ in 0..STEPS_MAX {
            if !self.step() {
                return;
            }
        }
        panic!("the simulation did not come to rest after its last ticks");
    }

    /// The log time that each distinct event was stamped with when it first reached the log.
    fn log_times(&self) -> BTreeMap<String, i64> {
        let mut times = BTreeMap::new();
        for partition in 0..PARTITIONS {
            for record in self.log.records(TopicPartition::new(Topic::Actions, partition)) {
                let envelope = Envelope::decode(record.value).unwrap();
                if !envelope.message_id.is_empty() {
                    times.entry(envelope.message_id).or_insert(record.time.0);
                }
            }
        }
        times
    }

    /// The closed windows that wait for the warehouse, in the state of the partitions that closed them: nothing takes them
    /// away here, so at the end it is all of them.
    fn closed_windows(&self) -> Result<model::Windows, String> {
        let mut windows = model::Windows::new();
        for partition in 0..PARTITIONS {
            let of = TopicPartition::new(Topic::ReactionEvents, partition);
            let values = self.states.values(of).into_iter().filter(|(key, _)| key.first() == Some(&ROWS_TABLE));
            for row in values.flat_map(|(_, value)| RowsMessage::decode(value).unwrap().windows) {
                let at = (row.post_id, row.counts.window, row.counts.start_us);
                if windows.insert(at.clone(), row.counts).is_some() {
                    return Err(format!("{at:?} closed twice"));
                }
            }
        }
        Ok(windows)
    }

    /// What the rows that wait for the warehouse say of each id: the last one, which is the best of them.
    fn identities(&self) -> Result<model::Identities, String> {
        let mut identities = model::Identities::new();
        for partition in 0..PARTITIONS {
            let of = TopicPartition::new(Topic::UserEvents, partition);
            let values = self.states.values(of).into_iter().filter(|(key, _)| key.first() == Some(&ROWS_TABLE));
            for row in values.flat_map(|(_, value)| RowsMessage::decode(value).unwrap().identities) {
                let said = (row.person_id, row.linked_at_us);
                if let Some(before) = identities.insert(row.alias_id.clone(), said.clone())
                    && (before.1, &before.0) <= (said.1, &said.0)
                {
                    return Err(format!("{} is {said:?}, which is no better than {before:?}", row.alias_id));
                }
            }
        }
        Ok(identities)
    }

    /// Each partition's jobs over its own topic from the start, in one go, beside what happened live.
    fn replay(&self) -> Result<BTreeSet<Content>, String> {
        let (online, states) = (ToyStore::new(), ToyStateStore::new());
        let mut republished = Vec::new();
        let mut refused = BTreeSet::new();
        for topic in [Topic::Actions, Topic::UserEvents, Topic::ReactionEvents] {
            for partition in 0..PARTITIONS {
                let of = TopicPartition::new(topic, partition);
                let own = ToyLog::new(PARTITIONS);
                let records = self.log.records(of);
                let end = records.len() as u64;
                for r in records {
                    let append = Append { to: of, time: r.time, key: r.key, value: r.value };
                    block_on(own.append(vec![append])).unwrap();
                }
                let stage = jobs::stage(topic, GENERATION, PARTITIONS, Mutant::None).unwrap();
                let seams = seams::seams(&own, &online, &states, false);
                let worker = Worker::new(of, GENERATION, stage, seams, WorkerOptions::default(), Board::new());
                block_on(worker.run_until(end)).map_err(|e| format!("replay of {of}: {e}"))?;
                refused.extend(dead_letters(&own));
                if topic == Topic::Actions {
                    republished.push(own);
                }
            }
        }
        // What stage 1 publishes on replay is what stands in the topics, per source partition, duplicates dropped.
        for topic in Topic::DERIVED {
            for partition in 0..PARTITIONS {
                let of = TopicPartition::new(topic, partition);
                for (source, own) in republished.iter().enumerate() {
                    let live = chain(&self.log, of, source as u32);
                    let again = chain(own, of, source as u32);
                    if live != again {
                        let first = live.iter().zip(&again).find(|(a, b)| a != b);
                        let (ours, theirs) = (live.len(), again.len());
                        return Err(format!("{of} from source {source}: {ours} live, {theirs} replayed: {first:#?}"));
                    }
                }
            }
        }
        let live = dead_letters(&self.log);
        if live != refused {
            return Err(format!("refused live {live:?}, on replay {refused:?}"));
        }
        Ok(online.content().into_iter().collect())
    }
}

/// The table in which the runner keeps rows until the warehouse has them, and what its values look like.
const ROWS_TABLE: u8 = 254;

#[derive(Clone, PartialEq, Message)]
struct RowsMessage {
    #[prost(message, repeated, tag = "1")]
    windows: Vec<WindowMessage>,
    #[prost(message, repeated, tag = "2")]
    identities: Vec<IdentityMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct IdentityMessage {
    #[prost(string, tag = "1")]
    alias_id: String,
    #[prost(string, tag = "2")]
    person_id: String,
    #[prost(sint64, tag = "3")]
    linked_at_us: i64,
}

#[derive(Clone, PartialEq, Message)]
struct WindowMessage {
    #[prost(string, tag = "1")]
    post_id: String,
    #[prost(message, required, tag = "2")]
    counts: WindowCounts,
}

/// The ids and reasons of what was refused; a repetition after a crash has the same id.
fn dead_letters(log: &ToyLog) -> BTreeSet<(String, String)> {
    let records = log.records(TopicPartition::new(Topic::DeadLetters, 0));
    let letters = records.into_iter().map(|record| DeadLetter::decode(record.value).unwrap());
    letters.map(|letter| (letter.id, letter.reason)).collect()
}

/// The records of one source partition in one destination, duplicates dropped.
fn chain(log: &ToyLog, of: TopicPartition, source: u32) -> Vec<Derived> {
    let mut kept: Vec<Derived> = Vec::new();
    for record in log.records(of) {
        let derived = Derived::decode(record.value).unwrap();
        let is_next = kept.last().is_none_or(|last| last.position < derived.position);
        if derived.position.partition == source && is_next {
            kept.push(derived);
        }
    }
    kept
}

fn append(sent: &Sent) -> Append {
    let key = sent.envelope.key().to_owned();
    Append {
        to: TopicPartition::new(Topic::Actions, partition_of(key.as_bytes(), PARTITIONS)),
        time: LogTime(sent.log_time),
        key: key.into(),
        value: sent.envelope.encode_to_vec().into(),
    }
}

fn tick(partition: u32, time: i64) -> Append {
    let to = TopicPartition::new(Topic::Actions, partition);
    let value = Envelope::tick().encode_to_vec().into();
    Append { to, time: LogTime(time), key: Default::default(), value }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Runs one seed; the first law that does not hold.
fn check(seed: u64, mutant: Mutant) -> Result<(), String> {
    let (mut world, events) = World::new(seed, mutant);
    world.run();
    let acknowledged = world.feed.borrow().acknowledged == world.feed.borrow().calls.len();
    if !acknowledged {
        return Err("the client is still waiting".to_owned());
    }
    world.close();
    let live: BTreeSet<Content> = world.online.content().into_iter().collect();
    let expected = model::expected(&events, &world.log_times());
    // What rises depends on when the clock moved: it has a recount of its own beside its job, and the replay below.
    let is_modelled = |content: &&Content| !matches!(content, Content::Record(key, _) if key.view == TRENDS);
    first_difference("the model", &expected.content, &live.iter().filter(is_modelled).cloned().collect())?;
    let closed = world.closed_windows()?;
    if closed != expected.windows {
        let missing = expected.windows.iter().find(|(at, counts)| closed.get(at) != Some(counts));
        let extra = closed.iter().find(|(at, counts)| expected.windows.get(at) != Some(counts));
        return Err(format!("closed windows differ from the model: expected {missing:?}, found {extra:?}"));
    }
    let identities = world.identities()?;
    if identities != expected.identities {
        return Err(format!("persons differ from the model: expected {:?}, found {identities:?}", expected.identities));
    }
    let replayed = world.replay()?;
    first_difference("a replay", &replayed, &live)
}

fn first_difference(against: &str, expected: &BTreeSet<Content>, live: &BTreeSet<Content>) -> Result<(), String> {
    let missing = expected.difference(live).next();
    let extra = live.difference(expected).next();
    if missing.is_none() && extra.is_none() {
        return Ok(());
    }
    Err(format!("live differs from {against}: expected {missing:?}, found {extra:?}"))
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    if let Some(one) = number("MILLRACE_SIMULATION_SEED") {
        return one..one + 1;
    }
    0..number("MILLRACE_SIMULATION_SEEDS").unwrap_or(default)
}

#[test]
fn the_laws_hold_for_every_seed() {
    for seed in seeds(2_000) {
        if let Err(broken) = check(seed, Mutant::None) {
            panic!("seed {seed}: {broken}\nrepeat it with MILLRACE_SIMULATION_SEED={seed}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let (mut world, _) = World::new(seed, Mutant::None);
        world.run();
        Topic::ALL.map(|topic| world.log.records(TopicPartition::new(topic, 0)))
    };
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed));
    }
}

/// A simulation that cannot fail proves nothing: each law broken on purpose must be noticed.
fn noticed(mutant: Mutant) {
    let caught = (0..300).find(|seed| {
        let outcome = std::panic::catch_unwind(|| check(*seed, mutant));
        !matches!(outcome, Ok(Ok(())))
    });
    assert!(caught.is_some(), "{mutant:?} was not noticed in 300 seeds");
}

#[test]
fn committing_before_publishing_is_noticed() {
    noticed(Mutant::CommitBeforePublish);
}

#[test]
fn ignoring_positions_is_noticed() {
    noticed(Mutant::NoPositions);
}

#[test]
fn closing_by_batch_is_noticed() {
    noticed(Mutant::CloseByBatch);
}
