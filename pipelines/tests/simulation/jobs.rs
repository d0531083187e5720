//! A windowed job, so that the laws of closing are under test too, and the mutants of the stages.

use std::sync::Arc;

use bytes::Bytes;
use millrace_events::{Derived, LogTime, Position, Topic, TopicPartition};
use millrace_feature_store::RecordKey;
use millrace_log::Record;
use millrace_pipelines::jobs::{
    ALLOWED_LATENESS_US, Authors, DerivedStage, Engagement, Graph, Identity, Posts, stage_of,
};
use millrace_pipelines::operators::window::TumblingCount;
use millrace_pipelines::state::{State, StateKey, StateValue};
use millrace_pipelines::{Advance, Input, Job, Result, Stage, Writes};
use prost::Message;

use super::Mutant;

/// The view of closed windows: start, key.
pub(crate) const WINDOWS: u8 = 200;
/// The view of what could not be counted: there must be none.
pub(crate) const MISSED: u8 = 201;

pub(crate) const WINDOW_US: i64 = 60_000_000;

const COUNT: TumblingCount = TumblingCount { table: 100, width_us: WINDOW_US, lateness_us: ALLOWED_LATENESS_US };

/// Reactions on time per post and minute, written once when the window closes.
struct Windows {
    close_per_batch: bool,
}

impl Job for Windows {
    fn name(&self) -> &'static str {
        "windows"
    }

    fn apply(&self, input: &Input<'_>, state: &mut State, writes: &mut Writes) -> Result<()> {
        let record = input.record;
        if self.close_per_batch && writes.is_empty() {
            // The mutant: at a batch's first record, whatever is old by that record's own time is closed.
            self.close(LogTime(record.log_time_us + ALLOWED_LATENESS_US), state, writes)?;
        }
        if record.late {
            return Ok(());
        }
        let closed_before = input.clock.or(Some(LogTime(i64::MIN)));
        let clock =
            if self.close_per_batch { Some(LogTime(record.log_time_us + ALLOWED_LATENESS_US)) } else { closed_before };
        if !COUNT.add(state, input.key, record.event_time_us, clock)? {
            let entity = format!("{}-{}-{}", input.key, record.position.partition, record.position.offset);
            writes.put(RecordKey { view: MISSED, entity: entity.into() }, Bytes::from_static(b"missed"));
        }
        Ok(())
    }

    fn advance(&self, advance: Advance, state: &mut State, writes: &mut Writes) -> Result<()> {
        if self.close_per_batch {
            return Ok(());
        }
        self.close(advance.to, state, writes)
    }
}

impl Windows {
    fn close(&self, clock: LogTime, state: &mut State, writes: &mut Writes) -> Result<()> {
        loop {
            let closed = COUNT.close(state, clock)?;
            if closed.is_empty() {
                return Ok(());
            }
            for window in closed {
                let entity = format!("{:020}-{}", window.start_us, window.key);
                writes.put(RecordKey { view: WINDOWS, entity: entity.into() }, window.count.to_string().into());
            }
        }
    }
}

/// The mutant without positions: every record looks like the next one.
struct WithoutPositions(Arc<dyn Stage>);

#[derive(Clone, Copy)]
struct Last(u64);

impl StateValue for Last {
    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(u64::from_le_bytes(bytes)))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }
}

fn last_key(source: u32) -> StateKey {
    StateKey::new(101).number(source.into())
}

impl Stage for WithoutPositions {
    fn jobs(&self) -> Vec<&'static str> {
        self.0.jobs()
    }

    fn apply(&self, of: TopicPartition, mut record: Record, state: &mut State, writes: &mut Writes) -> Result<()> {
        if let Ok(mut derived) = Derived::decode(record.value.clone()) {
            let source = derived.position.partition;
            let before = state.get::<Last>(&last_key(source))?.map(|last| last.0);
            derived.position.offset = record.offset;
            derived.position.index = 0;
            derived.previous = before.map(|offset| Position { offset, ..derived.position });
            state.put(&last_key(source), Last(record.offset));
            record.value = derived.encode_to_vec().into();
        }
        self.0.apply(of, record, state, writes)
    }

    fn clock(&self, state: &mut State) -> Result<Option<LogTime>> {
        self.0.clock(state)
    }
}

/// The stage of a topic, as the mutant has it.
pub(crate) fn stage(topic: Topic, generation: u32, partitions: u32, mutant: Mutant) -> Option<Arc<dyn Stage>> {
    let derived: Arc<dyn Stage> = match topic {
        Topic::UserEvents => {
            let jobs: Vec<Box<dyn Job>> = vec![Box::new(Graph), Box::new(Authors), Box::new(Identity)];
            Arc::new(DerivedStage::new(generation, partitions, jobs))
        }
        Topic::ReactionEvents => {
            let windows = Windows { close_per_batch: mutant == Mutant::CloseByBatch };
            let jobs: Vec<Box<dyn Job>> = vec![Box::new(Posts), Box::new(Engagement), Box::new(windows)];
            Arc::new(DerivedStage::new(generation, partitions, jobs))
        }
        _ => return stage_of(topic, generation, partitions),
    };
    if mutant == Mutant::NoPositions { Some(Arc::new(WithoutPositions(derived))) } else { Some(derived) }
}
