//! Counts per key and one-minute tumbling window, the benchmark that stream engines are compared by: through the real log,
//! runner and state, on one partition, until every window has closed.
//!
//! Event i has one of 100,000 keys and the time i ms. The result is the number of (key, window) pairs, the number of events
//! in them, and a sum over hashes of pairs, so that it can be held against other engines' figure by figure.

use std::sync::Arc;

use anyhow::ensure;
use millrace_events::{ActionKind, Derived, LogTime, Position, Topic, TopicPartition};
use millrace_log::Append;
use millrace_pipelines::jobs::{ALLOWED_LATENESS_US, DerivedStage};
use millrace_pipelines::operators::window::{Closed, TumblingCount};
use millrace_pipelines::runner::{Board, Gate, Seams, Worker};
use millrace_pipelines::state::{State, StateKey, StateValue};
use millrace_pipelines::{Advance, Input, Job, Writes};
use prost::Message;

use super::{Args, Meter, Spent};
use crate::assemble::{GENERATION, Stores, TokioTimer};
use crate::config::Config;

/// How many keys there are.
const KEYS: u64 = 100_000;
/// Width of a window, milliseconds.
const WINDOW_MS: u64 = 60_000;
/// How many records one append carries while the log is filled.
const APPEND_RECORDS: u64 = 2_000;
/// One partition is one worker: what is measured is the cost of an event, not how partitions spread over cores.
const OF: TopicPartition = TopicPartition::new(Topic::ReactionEvents, 0);

const COUNT: TumblingCount =
    TumblingCount { table: 1, width_us: (WINDOW_MS * 1_000) as i64, lateness_us: ALLOWED_LATENESS_US };

/// What all closed windows come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Pairs of key and window.
    pub(super) rows: u64,
    /// Events in them.
    pub(super) total: u64,
    /// The sum over pairs of mix(key · 1000003 + window start in ms) · count, modulo 2^64.
    pub(super) sum: u64,
}

/// What it took.
pub(super) struct Measured {
    pub(super) tally: Tally,
    pub(super) spent: Spent,
}

/// Fills a log of one partition, works it off, and measures the second part.
pub(super) async fn run(args: &Args, config: Config, events: u64) -> anyhow::Result<Measured> {
    fill(&config, events).await?;
    let stores = Stores::open(&config).await?;
    let meter = Meter::own(args)?;
    let seams = Seams {
        log: stores.log.clone(),
        online: stores.online.store(),
        states: stores.states.store(),
        timer: Arc::new(TokioTimer),
        gate: Gate::default(),
        archived: Default::default(),
    };
    let stage = Arc::new(DerivedStage::new(GENERATION, 1, vec![Box::new(Counts)]));
    let worker = Worker::new(OF, GENERATION, stage, seams, stores.states.worker_options(), Board::new());
    worker.run_until(stores.log.bounds(OF).await?.end).await?;
    let spent = meter.read()?;
    let mut state = State::new(OF, stores.states.store().open(OF).await?);
    let tally = state.get::<Tally>(&tally_key())?.copied().unwrap_or_default();
    stores.close();
    ensure!(tally.total == events, "{} of {events} events are in closed windows", tally.total);
    Ok(Measured { tally, spent })
}

/// The events as stage 1 would send them, and a tick that closes everything.
async fn fill(config: &Config, events: u64) -> anyhow::Result<()> {
    let stores = Stores::open(config).await?;
    let mut next = 0;
    while next <= events {
        let until = (next + APPEND_RECORDS).min(events + 1);
        stores.log.append((next..until).map(|i| record(i, i == events)).collect()).await?;
        next = until;
    }
    stores.close();
    Ok(())
}

fn record(i: u64, is_last: bool) -> Append {
    let key = if is_last { String::new() } else { format!("u{}", mix(i) % KEYS) };
    let position = |offset| Position { generation: GENERATION, partition: 0, offset, index: 0 };
    let event_time_us = (i * 1_000).cast_signed();
    let after_all = event_time_us + COUNT.width_us + COUNT.lateness_us;
    let derived = Derived {
        position: position(i),
        previous: i.checked_sub(1).map(position),
        log_time_us: if is_last { after_all } else { event_time_us },
        tick: is_last,
        kind: ActionKind::PostViewed as i32,
        event_time_us,
        ..Derived::default()
    };
    Append { to: OF, time: LogTime(derived.log_time_us), key: key.into(), value: derived.encode_to_vec().into() }
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014), after a step of its counter.
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The job: it counts, and adds up what closed.
struct Counts;

impl Job for Counts {
    fn name(&self) -> &'static str {
        "window-count"
    }

    fn apply(&self, input: &Input<'_>, state: &mut State, _writes: &mut Writes) -> millrace_pipelines::Result<()> {
        // An event that came too late would be missing from the total.
        COUNT.add(state, input.key, input.record.event_time_us, input.clock).map(|_counted| ())
    }

    fn advance(&self, advance: Advance, state: &mut State, _writes: &mut Writes) -> millrace_pipelines::Result<()> {
        loop {
            let closed = COUNT.close(state, advance.to)?;
            if closed.is_empty() {
                return Ok(());
            }
            let tally = state.entry::<Tally>(&tally_key())?;
            closed.iter().for_each(|window| tally.add(window));
        }
    }
}

fn tally_key() -> StateKey {
    StateKey::new(2)
}

impl Tally {
    fn add(&mut self, window: &Closed) {
        // Anything else than a key of ours would show in the sum.
        let key = window.key.strip_prefix('u').and_then(|n| n.parse().ok()).unwrap_or(u64::MAX);
        let start_ms = (window.start_us / 1_000).cast_unsigned();
        self.rows += 1;
        self.total += window.count;
        let hash = mix(key.wrapping_mul(1_000_003).wrapping_add(start_ms));
        self.sum = self.sum.wrapping_add(hash.wrapping_mul(window.count));
    }
}

impl StateValue for Tally {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(8).map(|c| c.try_into().map(u64::from_le_bytes));
        let mut take = || numbers.next()?.ok();
        Some(Self { rows: take()?, total: take()?, sum: take()? })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        [self.rows, self.total, self.sum].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[tokio::test]
    async fn it_counts_what_a_plain_recount_counts() {
        const EVENTS: u64 = 130_000;
        let args = super::super::tests::args(&["window-count"]).unwrap();
        let place = super::super::Place::fresh(&args).unwrap().with_partitions(1);
        let measured = run(&args, place.config().unwrap(), EVENTS).await.unwrap();
        let mut windows: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for i in 0..EVENTS {
            *windows.entry((mix(i) % KEYS, i / WINDOW_MS * WINDOW_MS)).or_default() += 1;
        }
        let sum = windows.iter().map(|((key, start), count)| mix(key * 1_000_003 + start).wrapping_mul(*count));
        let sum = sum.fold(0, u64::wrapping_add);
        assert_eq!(measured.tally, Tally { rows: windows.len() as u64, total: EVENTS, sum });
    }
}
