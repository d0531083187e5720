//! What every reader of a re-keyed topic does before its jobs: decode, drop duplicates, stop at gaps, keep the clock.

use bytes::Bytes;
use millrace_events::{Derived, LogTime, TopicPartition, decode};
use millrace_feature_store::RecordKey;
use millrace_log::Record;

use crate::error::{Error, Result};
use crate::job::{Advance, Input, Job, Stage, Writes};
use crate::operators::marks::{Marks, Verdict};
use crate::state::{State, StateValue};

/// Jobs on one re-keyed topic.
pub struct DerivedStage {
    generation: u32,
    sources: u32,
    jobs: Vec<Box<dyn Job>>,
}

/// What a partition counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    applied: u64,
    late: u64,
    duplicates: u64,
}

impl DerivedStage {
    /// Runs `jobs`, in this order, on a topic re-keyed from `sources` partitions.
    pub fn new(generation: u32, sources: u32, jobs: Vec<Box<dyn Job>>) -> Self {
        Self { generation, sources, jobs }
    }
}

/// Where a partition stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Standing {
    counts: Counts,
    marks: Marks,
}

impl Stage for DerivedStage {
    fn jobs(&self) -> Vec<&'static str> {
        self.jobs.iter().map(|job| job.name()).collect()
    }

    fn apply(&self, of: TopicPartition, record: Record, state: &mut State, writes: &mut Writes) -> Result<()> {
        writes.begin(self.generation, of.partition, record.offset, record.time);
        let derived: Derived = match decode("a re-keyed record", record.value.clone()) {
            Ok(derived) => derived,
            // Written by stage 1 and by nobody else: whatever this is, going on could skip an effect.
            Err(_) => return Err(Error::bad_record("a re-keyed record", of, record.offset)),
        };
        let key =
            std::str::from_utf8(&record.key).map_err(|_| Error::bad_record("keyed by text", of, record.offset))?;
        let Standing { counts, marks } = state.root::<Standing>()?;
        let clock = marks.clock(self.sources);
        match marks.admit(&derived) {
            Verdict::Duplicate => {
                counts.duplicates += 1;
                return Ok(());
            }
            Verdict::Gap => {
                let source_partition = derived.position.partition;
                return Err(Error::Gap { of, offset: record.offset, source_partition });
            }
            Verdict::Fork => {
                let at = derived.position;
                let message = format!(
                    "{of} at {}: source partition {} offset {} leaves out a record it sent before; \
                     two versions of stage 1 wrote to this generation: rebuild the re-keyed topics under a new one",
                    record.offset, at.partition, at.offset
                );
                return Err(Error::BadRecord(message));
            }
            Verdict::Next => {}
        }
        let after = marks.clock(self.sources);
        if !derived.tick {
            counts.applied += 1;
            counts.late += u64::from(derived.late);
            let input = Input { record: &derived, key, clock };
            for job in &self.jobs {
                job.apply(&input, state, writes)?;
            }
        }
        if let Some(after) = after.filter(|after| clock != Some(*after) || derived.tick) {
            for job in &self.jobs {
                job.advance(Advance { from: clock, to: after, by_tick: derived.tick }, state, writes)?;
            }
        }
        Ok(())
    }

    fn value(&self, key: &RecordKey, state: &mut State) -> Result<Bytes> {
        for job in &self.jobs {
            if let Some(value) = job.value(key, state)? {
                return Ok(value);
            }
        }
        Err(Error::Corrupt(format!("no job makes the record {key:?}")))
    }

    fn clock(&self, state: &mut State) -> Result<Option<LogTime>> {
        Ok(state.root::<Standing>()?.marks.clock(self.sources))
    }

    fn counts(&self, state: &mut State) -> Result<Vec<(&'static str, u64)>> {
        let counts = state.root::<Standing>()?.counts;
        Ok(vec![("applied", counts.applied), ("late", counts.late), ("duplicates", counts.duplicates)])
    }
}

impl StateValue for Standing {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (counts, marks) = bytes.split_at_checked(COUNTS_BYTES)?;
        let mut numbers = counts.chunks_exact(8).map(|c| c.try_into().map(u64::from_le_bytes));
        let mut take = || numbers.next()?.ok();
        let counts = Counts { applied: take()?, late: take()?, duplicates: take()? };
        Some(Self { counts, marks: Marks::decode(marks)? })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for n in [self.counts.applied, self.counts.late, self.counts.duplicates] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        self.marks.encode(out);
    }
}

/// Three numbers of eight bytes.
const COUNTS_BYTES: usize = 3 * 8;
