//! Stage 1: every action passes here once. Drops duplicates, decides lateness and who is a robot, keeps what is keyed by the
//! actor, and writes the re-keyed topics, each record with its position and the one before it.

use millrace_events::{
    Action, ActionKind, Derived, Envelope, ID_BYTES_MAX, Kind, Link, LogTime, Position, Topic, TopicPartition, decode,
    partition_of,
};
use millrace_feature_store::views::SourceCounts;
use millrace_log::Record;

use super::{activity, identity, robots, sources, tables};
use crate::error::Result;
use crate::job::{Publish, Stage, Writes};
use crate::operators::dedup::{Dedup, DedupBounds, message_identity};
use crate::state::{State, StateValue};

/// An event is late when log time is this much above its event time, microseconds.
pub const ALLOWED_LATENESS_US: i64 = 5 * 60 * 1_000_000;

/// A destination that got nothing for this much log time is told the time, microseconds...
const CLOCK_FORWARD_US: i64 = 1_000_000;
/// ...but not more often than once in so many records, however far apart they are.
const CLOCK_FORWARD_RECORDS: u64 = 64;

/// How many tags of one post are counted: its first ones. The post itself keeps all of them.
pub const TAGS_MAX: usize = 32;

/// What stage 1 must know of its deployment.
#[derive(Clone, Copy, Debug)]
pub struct StageOneOptions {
    /// The generation that positions carry.
    pub generation: u32,
    /// Partitions of the re-keyed topics.
    pub partitions: u32,
    /// How long ids are remembered.
    pub dedup: DedupBounds,
}

impl StageOneOptions {
    /// The defaults for a deployment.
    pub fn new(generation: u32, partitions: u32) -> Self {
        Self { generation, partitions, dedup: DedupBounds::default() }
    }
}

/// See the module.
pub struct StageOne {
    options: StageOneOptions,
    dedup: Dedup,
}

/// Where stage 1 stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Standing {
    clock: Option<LogTime>,
    accepted: u64,
    duplicates: u64,
    late: u64,
    refused: u64,
    records: u64,
    forwarded_at: u64,
    destinations: Vec<Destination>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Destination {
    last: Option<Position>,
    told: Option<LogTime>,
    /// The time that it was told by its last record, when that carried nothing else.
    ticked: Option<LogTime>,
}

impl StageOne {
    /// Stage 1 for a deployment.
    pub fn new(options: StageOneOptions) -> Self {
        let dedup = Dedup::new(tables::DEDUP_SEGMENTS, tables::DEDUP_IDS, options.dedup);
        Self { options, dedup }
    }

    fn accept(&self, envelope: &Envelope, time: LogTime, state: &mut State, writes: &mut Writes) -> Result<()> {
        let late = time.0.saturating_sub(envelope.event_time_us) > ALLOWED_LATENESS_US;
        if !envelope.minted_id {
            let id = message_identity(&envelope.source, envelope.key(), &envelope.message_id);
            if !self.dedup.first_time(state, id, time)? {
                standing(state)?.duplicates += 1;
                sources::counts(&envelope.source, time, state)?.duplicates += 1;
                writes.leave_out();
                return Ok(());
            }
        }
        let robot = robots::is_robot(envelope, late, time, state)?;
        if robot && !envelope.robot {
            writes.mark_robot();
        }
        let now = standing(state)?;
        now.accepted += 1;
        now.late += u64::from(late);
        let of_source = sources::counts(&envelope.source, time, state)?;
        of_source.accepted += 1;
        of_source.late += u64::from(late);
        of_source.robots += u64::from(robot);
        of_source.violations += u64::from(!envelope.violation.is_empty());
        let actor = envelope.key();
        let common = Derived {
            log_time_us: time.0,
            late,
            actor: actor.to_owned(),
            event_time_us: envelope.event_time_us,
            robot,
            ..Derived::default()
        };
        if let Some(link) = identity::link_of(envelope) {
            return self.link(link, common, state, writes);
        }
        let Some(action) = &envelope.action else { return Ok(()) };
        activity::apply(actor, action, envelope.event_time_us, writes);
        let record = Derived {
            kind: action.kind,
            post_id: action.post_id.clone(),
            target_id: action.target_id.clone(),
            dwell_ms: action.dwell_ms,
            content: envelope.personal.as_ref().and_then(|p| p.content.clone()),
            ..common
        };
        self.rekey(&envelope.source, action, record, state, writes)
    }

    /// Sends a link to both of its ends.
    fn link(&self, link: Link, common: Derived, state: &mut State, writes: &mut Writes) -> Result<()> {
        let Link { alias_id, person_id } = link.clone();
        let record = Derived { link: Some(link), ..common };
        self.send(Topic::UserEvents, &alias_id, record.clone(), state, writes)?;
        self.send(Topic::UserEvents, &person_id, record, state, writes)
    }

    /// Sends the record to everyone it concerns.
    fn rekey(
        &self,
        source: &str,
        action: &Action,
        record: Derived,
        state: &mut State,
        writes: &mut Writes,
    ) -> Result<()> {
        let actor = record.actor.clone();
        let kind = action.kind();
        match kind {
            ActionKind::UserFollowed
            | ActionKind::UserUnfollowed
            | ActionKind::UserBlocked
            | ActionKind::UserUnblocked
            | ActionKind::UserMuted
            | ActionKind::UserUnmuted
                if action.target_id == actor =>
            {
                standing(state)?.refused += 1;
                sources::counts(source, LogTime(record.log_time_us), state)?.refused += 1;
                let detail = format!("{} needs a target_id other than its actor", action.kind().as_str());
                writes.refuse(Topic::Actions, "stage-one", "self_target", detail, Default::default());
                Ok(())
            }
            ActionKind::UserMuted | ActionKind::UserUnmuted => {
                self.send(Topic::UserEvents, &actor, record, state, writes)
            }
            ActionKind::UserFollowed
            | ActionKind::UserUnfollowed
            | ActionKind::UserBlocked
            | ActionKind::UserUnblocked => {
                self.send(Topic::UserEvents, &actor, record.clone(), state, writes)?;
                self.send(Topic::UserEvents, &action.target_id, record, state, writes)
            }
            ActionKind::PostCreated | ActionKind::PostEdited | ActionKind::PostDeleted => {
                let by_author = Derived { content: None, ..record.clone() };
                self.send(Topic::UserEvents, &actor, by_author, state, writes)?;
                if kind == ActionKind::PostCreated {
                    self.tag(&record, state, writes)?;
                }
                self.send(Topic::ReactionEvents, &action.post_id, record, state, writes)
            }
            ActionKind::PostViewed
            | ActionKind::PostClicked
            | ActionKind::PostLiked
            | ActionKind::PostUnliked
            | ActionKind::PostShared
            | ActionKind::PostHidden
            | ActionKind::PostSaved
            | ActionKind::PostCommented
            | ActionKind::PostReported => self.send(Topic::ReactionEvents, &action.post_id, record, state, writes),
            ActionKind::Custom
            | ActionKind::UserRegistered
            | ActionKind::SearchPerformed
            | ActionKind::TagFollowed
            | ActionKind::TagUnfollowed => Ok(()),
        }
    }

    /// One record for each tag that a post uses, once however often it names it.
    fn tag(&self, record: &Derived, state: &mut State, writes: &mut Writes) -> Result<()> {
        let tags = record.content.as_ref().map_or(&[][..], |content| content.tags.as_slice());
        for (nth, tag) in tags.iter().enumerate().take(TAGS_MAX) {
            if tag.is_empty() || tag.len() > ID_BYTES_MAX || tags[..nth].contains(tag) {
                continue;
            }
            let used = Derived { content: None, ..record.clone() };
            self.send(Topic::TagEvents, tag, used, state, writes)?;
        }
        Ok(())
    }

    fn send(&self, topic: Topic, key: &str, record: Derived, state: &mut State, writes: &mut Writes) -> Result<()> {
        let to = TopicPartition::new(topic, partition_of(key.as_bytes(), self.options.partitions));
        let now = standing(state)?;
        self.send_to(to, key, record, now, writes);
        Ok(())
    }

    fn send_to(&self, to: TopicPartition, key: &str, mut record: Derived, now: &mut Standing, writes: &mut Writes) {
        let destination = self.destination(to, now);
        record.position = writes.next_position();
        record.previous = destination.last;
        destination.last = Some(record.position);
        destination.told = Some(LogTime(record.log_time_us));
        destination.ticked = destination.told.filter(|_| record.tick);
        writes.publish.push(Publish { to, key: bytes::Bytes::copy_from_slice(key.as_bytes()), record });
    }

    fn destination<'a>(&self, to: TopicPartition, now: &'a mut Standing) -> &'a mut Destination {
        let count = Topic::DERIVED.len() * self.options.partitions as usize;
        if now.destinations.len() < count {
            now.destinations.resize(count, Destination::default());
        }
        let nth = Topic::DERIVED.iter().position(|t| *t == to.topic).unwrap_or(0);
        &mut now.destinations[nth * self.options.partitions as usize + to.partition as usize]
    }

    /// Tells the time to destinations that heard nothing lately: always on a tick, else now and then. A tick is passed on also
    /// where an event has told the same time before: it says that this is all for now, and jobs bring up to date what they
    /// put off while events came. In a replay time can stand still, so each event that follows a tick makes room for another.
    /// A function of the records alone, so that a replay sends the same.
    fn forward_clock(&self, time: LogTime, is_tick: bool, state: &mut State, writes: &mut Writes) -> Result<()> {
        let now = standing(state)?;
        if !is_tick && now.records < now.forwarded_at + CLOCK_FORWARD_RECORDS {
            return Ok(());
        }
        now.forwarded_at = now.records;
        for topic in Topic::DERIVED {
            for partition in 0..self.options.partitions {
                let to = TopicPartition::new(topic, partition);
                let Destination { told, ticked, .. } = *self.destination(to, now);
                let waited = told.is_none_or(|told| time.0.saturating_sub(told.0) >= CLOCK_FORWARD_US);
                if waited || (is_tick && ticked < Some(time)) {
                    let tick = Derived { log_time_us: time.0, tick: true, ..Derived::default() };
                    self.send_to(to, "", tick, now, writes);
                }
            }
        }
        Ok(())
    }
}

impl Stage for StageOne {
    fn jobs(&self) -> Vec<&'static str> {
        vec!["stage-one"]
    }

    fn apply(&self, of: TopicPartition, record: Record, state: &mut State, writes: &mut Writes) -> Result<()> {
        writes.begin(self.options.generation, of.partition, record.offset, record.time);
        let now = standing(state)?;
        now.records += 1;
        now.clock = Some(record.time);
        let is_tick = match decode::<Envelope>("an action", record.value.clone()) {
            Ok(envelope) if envelope.kind() == Kind::Tick => true,
            Ok(envelope) => {
                self.accept(&envelope, record.time, state, writes)?;
                false
            }
            Err(error) => {
                standing(state)?.refused += 1;
                writes.leave_out();
                writes.refuse(of.topic, "stage-one", "undecodable", error.to_string(), record.value);
                false
            }
        };
        self.forward_clock(record.time, is_tick, state, writes)
    }

    fn clock(&self, state: &mut State) -> Result<Option<LogTime>> {
        Ok(standing(state)?.clock)
    }

    fn sources(&self, state: &mut State) -> Result<Vec<SourceCounts>> {
        sources::all(state)
    }

    fn counts(&self, state: &mut State) -> Result<Vec<(&'static str, u64)>> {
        let now = standing(state)?;
        Ok(vec![
            ("accepted", now.accepted),
            ("duplicates", now.duplicates),
            ("late", now.late),
            ("refused", now.refused),
        ])
    }
}

fn standing(state: &mut State) -> Result<&mut Standing> {
    state.root::<Standing>()
}

impl StateValue for Standing {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(8).map(|c| c.try_into().map(u64::from_le_bytes));
        let mut take = || numbers.next()?.ok();
        let mut standing = Standing {
            clock: (take()? == 1).then_some(LogTime(0)),
            accepted: 0,
            duplicates: 0,
            late: 0,
            refused: 0,
            records: 0,
            forwarded_at: 0,
            destinations: Vec::new(),
        };
        let clock = take()?.cast_signed();
        standing.clock = standing.clock.map(|_| LogTime(clock));
        standing.accepted = take()?;
        standing.duplicates = take()?;
        standing.late = take()?;
        standing.refused = take()?;
        standing.records = take()?;
        standing.forwarded_at = take()?;
        for _ in 0..take()? {
            let (known, told, ticked) = (take()?, take()?.cast_signed(), take()?.cast_signed());
            let (generation_index, partition, offset) = (take()?, take()?, take()?);
            let position = Position {
                generation: u32::try_from(generation_index >> 32).ok()?,
                partition: u32::try_from(partition).ok()?,
                offset,
                index: u32::try_from(generation_index & 0xffff_ffff).ok()?,
            };
            let last = (known & 1 == 1).then_some(position);
            standing.destinations.push(Destination {
                last,
                told: last.map(|_| LogTime(told)),
                ticked: (known & 2 == 2).then_some(LogTime(ticked)),
            });
        }
        Some(standing)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |n: u64| out.extend_from_slice(&n.to_le_bytes());
        put(u64::from(self.clock.is_some()));
        put(self.clock.unwrap_or_default().0.cast_unsigned());
        [self.accepted, self.duplicates, self.late, self.refused, self.records, self.forwarded_at]
            .into_iter()
            .for_each(&mut put);
        put(self.destinations.len() as u64);
        for destination in &self.destinations {
            let last = destination.last.unwrap_or_default();
            put(u64::from(destination.last.is_some()) | u64::from(destination.ticked.is_some()) << 1);
            put(destination.told.unwrap_or_default().0.cast_unsigned());
            put(destination.ticked.unwrap_or_default().0.cast_unsigned());
            put(u64::from(last.generation) << 32 | u64::from(last.index));
            put(u64::from(last.partition));
            put(last.offset);
        }
    }
}
