//! What rises: tags by their use in posts, posts by what people do with them, over five minutes, an hour and a day,
//! each against its own past, so that a burst beats a constant giant.
//!
//! **What is counted.** Events on time that are no robot's and whose event time lies in `(as_of − w, as_of]`, where
//! `as_of` is the clock of the partition cut to a whole second. Of a post: likes, comments, shares and saves. Views and clicks follow from
//! being shown, and showing what trends would feed back into what trends. Every like counts, also one that repeats or
//! that is taken back later: the state of likes is another job's, and a count that sinks could not be an event count.
//! Counts are exact for what is listed, whatever the order in which events came.
//!
//! **How much it rises.** [`crate::operators::rate`]: the score bounds the probability that something whose rate is
//! at most twice that of its past shows so much: `10^−score` for one evaluation. So among `M` evaluations of things
//! that do not rise at most `M·10^−s` score `s` or more in expectation, for every `s` of 1 or more; serving calls
//! rising what scores 3. What is looked at every second is not as many evaluations as seconds: two that share most of
//! their window are nearly one. The bound is for independent events. People are burstier, and a crowd that answers
//! itself is what a trend is. The past reaches back one hour for five minutes, a day for an hour, a week for a day,
//! from the hour in which that begins, but never beyond the first record of the partition. A daily rhythm stays below
//! twice the mean of its day, mostly.
//!
//! **When.** Lists are brought up to date by ticks, and by records with which the clock enters a new second, when
//! enough of them have come to be worth it: in a replay the clock leaps with every record. As a partition that comes
//! to rest is told the time by a tick, what it shows at rest is exact as of its clock. All this is a function of the
//! records, one by one, so that where a batch is cut cannot show and a replay lists the same.
//!
//! **What is looked at.** A count only grows by a record, so those touched since the last time are counted again, and
//! the members of a pool: those with the highest scores, several times as many as are listed. A member's count is
//! only read again at the second in which an event enters or leaves one of its windows. Something that fell out of a
//! full pool can come back by a record only; that takes more than [`POOL_MAX`] things with as many or more surprising
//! events in one partition, and it is the only approximation here: what is listed is exact.

use std::mem;
use std::sync::Arc;

use millrace_events::{ActionKind, LogTime, Micros, Window};
use millrace_feature_store::views::{self, TrendKind, TrendsRecord};
use prost::Message;
use rustc_hash::FxHashSet;

use super::tables;
use crate::Result;
use crate::job::{Advance, Input, Job, Writes};
use crate::operators::due::{Due, DueAt};
use crate::operators::generations::Generations;
use crate::operators::history::{HOUR_S, History, Point, Seconds, hour_of};
use crate::state::{State, StateKey};

use values::{Member, Pool, Standing, Turns};

mod values;

/// Fewer events than this in a window are no trend.
const COUNT_MIN: u64 = 3;

/// How many things are watched per partition and window: what is listed and what may be listed next.
const POOL_MAX: usize = 256;

/// Without a tick, an evaluation is worth a record for each so many members of the pools.
const MEMBERS_PER_RECORD: u64 = 32;

/// How many touched things wait for the next evaluation in memory; more wait on disk.
const TOUCHED_MAX: usize = 8 * 1024;

/// An event that is this far ahead of the clock, because its source is, waits on disk until the clock is near. Seconds.
const AHEAD_S: i64 = 60;

/// How many of those that waited are looked at together.
const DUE_MAX: usize = 4 * 1024;

/// A generation of counts lasts for this many steps at least: several times the records between two commits.
const GENERATION_STEPS: u64 = 200_000;

const SECOND_US: Micros = 1_000_000;

/// See the module.
pub struct Trends {
    kind: TrendKind,
    histories: Generations,
    seconds: Generations,
    ahead: Due,
}

impl Trends {
    /// Tags, by their use in posts. Runs on `tag-events`.
    pub fn tags() -> Self {
        Self::new(TrendKind::Tags, GENERATION_STEPS)
    }

    /// Posts, by what people do with them. Runs on `reaction-events`.
    pub fn posts() -> Self {
        Self::new(TrendKind::Posts, GENERATION_STEPS)
    }

    fn new(kind: TrendKind, steps_min: u64) -> Self {
        let longest = width_s(Window::Day);
        // The past of a day begins with an hour, up to one earlier; and an event may be late without being late.
        let histories = longest + past_s(Window::Day) + 2 * HOUR_S;
        let seconds = longest + 2 * HOUR_S;
        let generations = |table, width_s| Generations { table, width_s, steps_min };
        Self {
            kind,
            histories: generations(tables::TRENDS_HISTORIES, histories),
            seconds: generations(tables::TRENDS_SECONDS, seconds),
            ahead: Due::new(tables::TRENDS_AHEAD),
        }
    }

    fn counts(&self, kind: ActionKind) -> bool {
        match self.kind {
            TrendKind::Tags => kind == ActionKind::PostCreated,
            TrendKind::Posts => matches!(
                kind,
                ActionKind::PostLiked | ActionKind::PostCommented | ActionKind::PostShared | ActionKind::PostSaved
            ),
        }
    }

    /// Counts one event of `id`.
    fn count(&self, id: &str, second: i64, turns: Turns, clock: Option<i64>, state: &mut State) -> Result<()> {
        let history = self.histories.entry::<History>(state, turns.histories, id.as_bytes())?;
        history.add(second);
        let before = |width_s| clock.map_or(i64::MIN, |clock| clock.saturating_sub(width_s));
        let spilled = history.shorten(hour_of(before(self.histories.width_s)), before(self.seconds.width_s));
        if let Some((hour, seconds)) = spilled {
            self.seconds.entry::<Seconds>(state, turns.seconds, &seconds_id(hour, id))?.merge(&seconds);
        }
        Ok(())
    }

    /// The next evaluation looks at `id`, of which something happened in `second`; when that is far ahead, a later one.
    fn touch(&self, id: &str, second: i64, clock: Option<i64>, state: &mut State) -> Result<()> {
        let is_near = clock.is_some_and(|clock| second <= clock.saturating_add(AHEAD_S));
        let touched = &mut standing(state)?.touched;
        let mut due = second;
        if is_near {
            if touched.contains(id) {
                return Ok(());
            }
            if touched.len() < TOUCHED_MAX {
                touched.insert(Arc::from(id));
                return Ok(());
            }
        } else {
            // A little early and then it waits in memory: as many lists as seconds would be many.
            due = second.div_euclid(AHEAD_S).saturating_mul(AHEAD_S);
        }
        self.ahead.push(state, DueAt { at_us: due.saturating_mul(SECOND_US), kind: 0 }, id)
    }

    /// Brings the lists up to date as of the second `as_of`.
    fn evaluate(&self, as_of: i64, state: &mut State, writes: &mut Writes) -> Result<()> {
        let standing = standing(state)?;
        let (since, turns) = (standing.since.unwrap_or(as_of), standing.turns());
        let mut touched = mem::take(&mut standing.touched);
        let keys = Window::ALL.map(|window| StateKey::new(tables::TRENDS_POOLS).last(&[window as u8]));
        let mut pools: [Pool; 3] = Default::default();
        for (pool, key) in pools.iter_mut().zip(&keys) {
            *pool = state.get::<Pool>(key)?.cloned().unwrap_or_default();
            touched.extend(pool.members.iter().filter(|member| member.until <= as_of).map(|member| member.id.clone()));
        }
        loop {
            let due = self.ahead.take(state, LogTime(as_of.saturating_mul(SECOND_US)), DUE_MAX)?;
            let is_last = due.len() < DUE_MAX;
            touched.extend(due.into_iter().map(|(_, id)| Arc::from(id)));
            self.look_at(mem::take(&mut touched), as_of, turns, &mut pools, state)?;
            if is_last {
                break;
            }
        }
        let mut members = 0;
        for ((window, mut pool), key) in Window::ALL.into_iter().zip(pools).zip(keys) {
            let items = pool.rank(window, past_width_s(window, as_of, since));
            let record = TrendsRecord { clock_us: as_of.saturating_mul(SECOND_US), items };
            let list = views::trends_key(self.kind, window, state.of().partition);
            writes.put(list, record.encode_to_vec().into());
            members += pool.members.len() as u64;
            if state.get::<Pool>(&key)? != Some(&pool) {
                state.put(&key, pool);
            }
        }
        self.end(as_of, members, state)
    }

    /// Counts these again and puts each where it belongs: into the pools or out of them, and back among those that wait
    /// when something of it is about to happen.
    fn look_at(
        &self,
        touched: FxHashSet<Arc<str>>,
        as_of: i64,
        turns: Turns,
        pools: &mut [Pool; 3],
        state: &mut State,
    ) -> Result<()> {
        let mut counted: [Vec<Member>; 3] = Default::default();
        // In an order of their own: which of too many have to wait must not hang on how a set is laid out in memory.
        let mut ids: Vec<&Arc<str>> = touched.iter().collect();
        ids.sort_unstable();
        for id in ids {
            let (now, next) = self.measure(id, as_of, turns, state)?;
            for (counted, measured) in counted.iter_mut().zip(now) {
                if measured.count >= COUNT_MIN {
                    counted.push(Member { id: id.clone(), ..measured });
                }
            }
            if let Some(second) = next.filter(|second| *second <= as_of + AHEAD_S) {
                self.touch(id, second, Some(as_of), state)?;
            }
        }
        for (pool, counted) in pools.iter_mut().zip(counted) {
            pool.members.retain(|member| !touched.contains(&member.id));
            pool.members.extend(counted);
        }
        Ok(())
    }

    /// The counts of `id` in each window as of `as_of`, and no later than the next second in which something of it
    /// happened.
    fn measure(&self, id: &str, as_of: i64, turns: Turns, state: &mut State) -> Result<([Member; 3], Option<i64>)> {
        let Some(history) = self.histories.get::<History>(state, turns.histories, id.as_bytes())? else {
            return Ok(Default::default());
        };
        let starts = Window::ALL.map(|window| as_of - width_s(window));
        let pasts = Window::ALL.map(|window| history.since(past_hour(window, as_of)));
        let mut points = starts.map(|t| history.point(t));
        let mut end = history.point(as_of);
        for (point, t) in points.iter_mut().zip(starts).chain([(&mut end, as_of)]) {
            self.add_spilled(point, t, id, turns, state)?;
        }
        let mut members: [Member; 3] = Default::default();
        for (at, window) in Window::ALL.into_iter().enumerate() {
            let (start, (since, first)) = (points[at], pasts[at]);
            let leaves = start.next.map(|second| second + width_s(window));
            let passes = first.map(|hour| (hour + 1) * HOUR_S + width_s(window) + past_s(window));
            members[at] = Member {
                id: Arc::default(),
                count: start.after.saturating_sub(end.after),
                past: since.saturating_sub(start.after),
                until: [leaves, end.next, passes].into_iter().flatten().min().unwrap_or(i64::MAX),
            };
        }
        Ok((members, end.next))
    }

    fn add_spilled(&self, point: &mut Point, t: i64, id: &str, turns: Turns, state: &mut State) -> Result<()> {
        if point.is_spilled {
            let key = seconds_id(hour_of(t), id);
            if let Some(seconds) = self.seconds.get::<Seconds>(state, turns.seconds, &key)? {
                seconds.add_to(point, t);
            }
        }
        Ok(())
    }

    /// Ends an evaluation: deletes a little of what nobody reads any more.
    fn end(&self, as_of: i64, members: u64, state: &mut State) -> Result<()> {
        let now = standing(state)?;
        (now.members, now.waiting, now.evaluated) = (members, 0, as_of);
        let (steps, newest) = (now.steps, now.newest);
        let (mut histories, mut seconds) = (now.histories.clone(), now.seconds.clone());
        for (generations, turn) in [(&self.histories, &mut histories), (&self.seconds, &mut seconds)] {
            generations.sweep(state, turn)?;
            generations.turn(turn, as_of, newest, steps);
        }
        let now = standing(state)?;
        (now.histories, now.seconds) = (histories, seconds);
        Ok(())
    }
}

impl Job for Trends {
    fn name(&self) -> &'static str {
        match self.kind {
            TrendKind::Tags => "tag-trends",
            TrendKind::Posts => "post-trends",
        }
    }

    fn apply(&self, input: &Input<'_>, state: &mut State, _writes: &mut Writes) -> Result<()> {
        let record = input.record;
        if record.late || record.robot || !self.counts(record.kind()) {
            return Ok(());
        }
        let clock = input.clock.map(second_of);
        let second = record.event_time_us.saturating_add(SECOND_US - 1).div_euclid(SECOND_US);
        let now = standing(state)?;
        now.since.get_or_insert(second_of(LogTime(record.log_time_us)));
        now.waiting += 1;
        now.steps += 1;
        now.newest = now.newest.max(second);
        let turns = now.turns();
        self.count(input.key, second, turns, clock, state)?;
        self.touch(input.key, second, clock, state)
    }

    fn advance(&self, advance: Advance, state: &mut State, writes: &mut Writes) -> Result<()> {
        let second = second_of(advance.to);
        let is_new = advance.from.map(second_of) != Some(second);
        if !is_new && !advance.by_tick {
            return Ok(());
        }
        let now = standing(state)?;
        now.since.get_or_insert(second);
        now.steps += 1;
        let is_worth_it = now.waiting.saturating_mul(MEMBERS_PER_RECORD) >= now.members;
        // A tick within the second can be the last for long: what came since belongs to the second too, and a record that
        // was not worth it may have brought the second.
        let is_stale = now.waiting > 0 || now.evaluated != second;
        let is_due = if is_new { advance.by_tick || advance.from.is_none() || is_worth_it } else { is_stale };
        if is_due { self.evaluate(second, state, writes) } else { Ok(()) }
    }
}

fn standing(state: &mut State) -> Result<&mut Standing> {
    state.entry::<Standing>(&StateKey::new(tables::TRENDS))
}

fn second_of(time: LogTime) -> i64 {
    time.0.div_euclid(SECOND_US)
}

fn width_s(window: Window) -> i64 {
    window.width_us() / SECOND_US
}

/// How far the past of a window reaches back before it.
fn past_s(window: Window) -> i64 {
    match window {
        Window::FiveMinutes => HOUR_S,
        Window::Hour => 24 * HOUR_S,
        Window::Day => 7 * 24 * HOUR_S,
    }
}

/// The hour with which the past of a window begins.
fn past_hour(window: Window, as_of: i64) -> i64 {
    hour_of(as_of - width_s(window) - past_s(window))
}

/// How much of the past of a window is known, seconds: cut to a sixtieth of the window, so that scores stand still
/// while nothing happens.
fn past_width_s(window: Window, as_of: i64, since: i64) -> i64 {
    let begin = (past_hour(window, as_of) * HOUR_S - 1).max(since);
    let step = width_s(window) / 60;
    (as_of - width_s(window) - begin).max(0) / step * step
}

fn seconds_id(hour: i64, id: &str) -> Vec<u8> {
    [&hour.to_be_bytes()[..], id.as_bytes()].concat()
}

#[cfg(test)]
mod tests;
