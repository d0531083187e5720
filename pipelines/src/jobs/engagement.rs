//! The totals of a post, and what it drew in tumbling windows of five minutes, an hour and a day. A like is a state of
//! (actor, post); distinct viewers are a sketch; the rest counts every event.
//!
//! Windows count events on time, by event time; likes that took effect and likes taken back are apart, because a window
//! may see one without the other. Distinct viewers are not kept per window: a sketch for each would cost more than all the
//! counts together.
//!
//! A post's windows stand in the same value as its totals, so counting them writes no key more. Which posts have a window
//! open is a list that is due when the window closes ([`Due`]): then each post's counts are read and become a row. What is
//! published is, for each width, the latest window that the post was touched in and the one directly before: it follows
//! from the events alone, whichever source they came from first and whenever a window closes.

use bytes::Bytes;
use millrace_events::{ActionKind, Derived, LogTime, Micros, Window};
use millrace_feature_store::RecordKey;
use millrace_feature_store::views::{self, EngagementRecord, WindowCounts};
use prost::Message;

use super::{ALLOWED_LATENESS_US, tables};
use crate::job::{Advance, ClosedWindow, Input, Job, Row, Writes};
use crate::operators::distinct::Distinct;
use crate::operators::due::{Due, DueAt};
use crate::state::{Present, State, StateKey, StateValue};
use crate::{Error, Result};

/// How many rows one record leads to at most; windows with more posts close over several steps of the clock.
const CLOSE_ROWS_MAX: usize = 16_384;

/// Windows that close with one record end within so much of the first of them: a row has a date, and what one record leads
/// to goes into one commit of the warehouse, which takes a bounded number of dates. Only a clock that leaps notices.
const CLOSE_SPAN_US: Micros = 100 * 24 * 3_600 * 1_000_000;

/// How many windows of one width stay in a post's value. More are open only while source partitions are far apart in time;
/// the oldest then have keys of their own.
const INLINE_WINDOWS_MAX: usize = 8;

/// Which posts have a window open, by when it closes.
const OPEN: Due = Due::new(tables::WINDOWS_DUE);

/// See the module.
pub struct Engagement;

impl Job for Engagement {
    fn name(&self) -> &'static str {
        "engagement"
    }

    fn apply(&self, input: &Input<'_>, state: &mut State, writes: &mut Writes) -> Result<()> {
        let record = input.record;
        let Some(change) = change(record, input.key, state)? else { return Ok(()) };
        if change == Change::View {
            state.entry::<Distinct>(&viewers_key(input.key.as_bytes()))?.insert(&record.actor);
        }
        let totals = state.entry::<Totals>(&totals_key(input.key.as_bytes()))?;
        totals.count(change);
        let counted = Window::ALL.map(|window| {
            let start_us = window.start_of(record.event_time_us);
            let counted = if record.late { Counted::Here } else { totals.count_window(change, window, start_us) };
            (window, start_us, counted)
        });
        writes.put_later(views::record(views::ENGAGEMENT, input.key));
        for (window, start_us, counted) in counted {
            match counted {
                Counted::Here => {}
                Counted::First => {
                    OPEN.push(state, due_at(window, start_us), input.key)?;
                    make_room(state, input.key, window)?;
                }
                Counted::Elsewhere => count_elsewhere(state, input.key, change, window, start_us)?,
            }
        }
        Ok(())
    }

    fn value(&self, key: &RecordKey, state: &mut State) -> Result<Option<Bytes>> {
        if key.view != views::ENGAGEMENT {
            return Ok(None);
        }
        let viewers = state.get::<Distinct>(&viewers_key(&key.entity))?.map_or(0, Distinct::estimate);
        let totals = state.get::<Totals>(&totals_key(&key.entity))?;
        Ok(totals.map(|totals| totals.published(viewers).into()))
    }

    fn advance(&self, advance: Advance, state: &mut State, writes: &mut Writes) -> Result<()> {
        let Some(first_us) = OPEN.first(state)? else { return Ok(()) };
        let until = LogTime(advance.to.0.min(first_us.saturating_add(CLOSE_SPAN_US)));
        for (due, post_id) in OPEN.take(state, until, CLOSE_ROWS_MAX)? {
            let counts = closed_counts(state, due, &post_id)?;
            writes.row(Row::EngagementWindow(ClosedWindow { post_id, counts, closed_at: advance.to }));
        }
        Ok(())
    }
}

/// What a record changes about its post.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    View,
    Click,
    Like,
    Unlike,
    Comment,
    Share,
    Save,
    Hide,
    Report,
}

/// What the record changes; `None` when it is no reaction, or a like or unlike of what was so already.
fn change(record: &Derived, post_id: &str, state: &mut State) -> Result<Option<Change>> {
    let change = match record.kind() {
        ActionKind::PostViewed => Change::View,
        ActionKind::PostClicked => Change::Click,
        ActionKind::PostLiked => Change::Like,
        ActionKind::PostUnliked => Change::Unlike,
        ActionKind::PostCommented => Change::Comment,
        ActionKind::PostShared => Change::Share,
        ActionKind::PostSaved => Change::Save,
        ActionKind::PostHidden => Change::Hide,
        ActionKind::PostReported => Change::Report,
        _ => return Ok(None),
    };
    if matches!(change, Change::Like | Change::Unlike) {
        let key = StateKey::new(tables::LIKES).part(post_id).last(record.actor.as_bytes());
        let on = change == Change::Like;
        if state.contains::<Present>(&key)? == on {
            return Ok(None);
        }
        if on {
            state.put(&key, Present);
        } else {
            state.remove(&key);
        }
    }
    Ok(Some(change))
}

/// Where a window of a post was counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    /// In the post's value, or nowhere because the record is late.
    Here,
    /// In the post's value, for the first time: it must be listed as open.
    First,
    /// Not yet: it is older than all of the many windows in the post's value.
    Elsewhere,
}

/// Totals but for distinct viewers, and the windows of the post that are open, by width and start; of each width the last two even when closed.
#[derive(Clone, Default)]
struct Totals(EngagementRecord);

impl Totals {
    fn count(&mut self, change: Change) {
        let totals = &mut self.0;
        match change {
            Change::View => totals.views += 1,
            Change::Click => totals.clicks += 1,
            Change::Like => totals.likes += 1,
            Change::Unlike => totals.likes = totals.likes.saturating_sub(1),
            Change::Comment => totals.comments += 1,
            Change::Share => totals.shares += 1,
            Change::Save => totals.saves += 1,
            Change::Hide => totals.hides += 1,
            Change::Report => totals.reports += 1,
        }
    }

    fn count_window(&mut self, change: Change, window: Window, start_us: Micros) -> Counted {
        let windows = &mut self.0.windows;
        let (of, at) = (window as u32, (window as u32, start_us));
        let place = windows.partition_point(|counts| (counts.window, counts.start_us) < at);
        if let Some(counts) = windows.get_mut(place).filter(|counts| (counts.window, counts.start_us) == at) {
            count_in(counts, change);
            return Counted::Here;
        }
        let is_oldest = place == 0 || windows[place - 1].window != of;
        let same_width = windows[place..].iter().take_while(|counts| counts.window == of).count();
        if is_oldest && same_width >= INLINE_WINDOWS_MAX {
            return Counted::Elsewhere;
        }
        let mut counts = WindowCounts { window: of, start_us, ..WindowCounts::default() };
        count_in(&mut counts, change);
        // Exactly: most posts have three windows, and what is cached is counted in bytes.
        windows.reserve_exact(1);
        windows.insert(place, counts);
        Counted::First
    }

    /// The windows of one width, oldest first.
    fn of_width(&self, window: Window) -> &[WindowCounts] {
        let of = window as u32;
        let from = self.0.windows.partition_point(|counts| counts.window < of);
        let to = self.0.windows.partition_point(|counts| counts.window <= of);
        &self.0.windows[from..to]
    }

    /// The record as it is served: with an estimate that is made once for a batch and not for every view.
    fn published(&self, unique_viewers: u64) -> Vec<u8> {
        let now = |window| {
            let windows = self.of_width(window);
            &windows[old(windows, window).len()..]
        };
        let windows = Window::ALL.into_iter().flat_map(now).copied().collect();
        EngagementRecord { unique_viewers, windows, ..self.0 }.encode_to_vec()
    }
}

/// The windows before the latest and the one directly before it: they are not published, and kept only while open.
fn old(windows: &[WindowCounts], window: Window) -> &[WindowCounts] {
    let Some(latest) = windows.last() else { return windows };
    let from = latest.start_us.saturating_sub(window.width_us());
    &windows[..windows.partition_point(|counts| counts.start_us < from)]
}

fn count_in(counts: &mut WindowCounts, change: Change) {
    let count = match change {
        Change::View => &mut counts.views,
        Change::Click => &mut counts.clicks,
        Change::Like => &mut counts.likes,
        Change::Unlike => &mut counts.unlikes,
        Change::Comment => &mut counts.comments,
        Change::Share => &mut counts.shares,
        Change::Save => &mut counts.saves,
        Change::Hide => &mut counts.hides,
        Change::Report => &mut counts.reports,
    };
    *count += 1;
}

/// After a window was added to a post's value: those that closed go, and of too many the oldest moves to a key of its own.
fn make_room(state: &mut State, post_id: &str, window: Window) -> Result<()> {
    let key = totals_key(post_id.as_bytes());
    let Some(totals) = state.get::<Totals>(&key)? else { return Ok(()) };
    let windows = totals.of_width(window);
    let old: Vec<WindowCounts> = old(windows, window).to_vec();
    let mut left = windows.len();
    for counts in old {
        let is_open = OPEN.is_open(state, due_at(window, counts.start_us))?;
        if is_open && left <= INLINE_WINDOWS_MAX {
            // Windows of one width close in order, so what comes after is open too.
            return Ok(());
        }
        if is_open {
            state.put(&elsewhere_key(post_id, window, counts.start_us), Elsewhere(counts));
        }
        state.entry::<Totals>(&key)?.0.windows.retain(|other| *other != counts);
        left -= 1;
    }
    Ok(())
}

fn count_elsewhere(state: &mut State, post_id: &str, change: Change, window: Window, start_us: Micros) -> Result<()> {
    let counts = &mut state.entry::<Elsewhere>(&elsewhere_key(post_id, window, start_us))?.0;
    let is_first = counts.window == 0;
    counts.window = window as u32;
    counts.start_us = start_us;
    count_in(counts, change);
    if is_first {
        OPEN.push(state, due_at(window, start_us), post_id)?;
    }
    Ok(())
}

/// What a post drew in a window that closed. In the post's value it stays until another one needs the place: closing
/// reads and writes nothing.
fn closed_counts(state: &mut State, due: DueAt, post_id: &str) -> Result<WindowCounts> {
    let of = state.of();
    let lost = || Error::corrupt("the window of a post that is listed as open", of);
    let window = Window::ALL.into_iter().find(|window| *window as u8 == due.kind).ok_or_else(lost)?;
    let start_us = due.at_us - ALLOWED_LATENESS_US - window.width_us();
    if let Some(totals) = state.get::<Totals>(&totals_key(post_id.as_bytes()))?
        && let Some(counts) = totals.of_width(window).iter().find(|counts| counts.start_us == start_us)
    {
        return Ok(*counts);
    }
    let key = elsewhere_key(post_id, window, start_us);
    let counts = state.get::<Elsewhere>(&key)?.ok_or_else(lost)?.0;
    state.remove(&key);
    Ok(counts)
}

/// No record on time can arrive any more: see the design's clock of a partition.
fn due_at(window: Window, start_us: Micros) -> DueAt {
    let end_us = start_us.saturating_add(window.width_us());
    DueAt { at_us: end_us.saturating_add(ALLOWED_LATENESS_US), kind: window as u8 }
}

fn totals_key(post_id: &[u8]) -> StateKey {
    StateKey::new(tables::TOTALS).last(post_id)
}

fn viewers_key(post_id: &[u8]) -> StateKey {
    StateKey::new(tables::VIEWERS).last(post_id)
}

fn elsewhere_key(post_id: &str, window: Window, start_us: Micros) -> StateKey {
    StateKey::new(tables::WINDOWS_ELSEWHERE).part(post_id).number(start_us.cast_unsigned()).last(&[window as u8])
}

impl StateValue for Totals {
    fn decode(bytes: &[u8]) -> Option<Self> {
        EngagementRecord::decode(bytes).ok().map(Self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.encode_to_vec());
    }

    fn weight(&self) -> usize {
        size_of::<Self>() + self.0.windows.capacity() * size_of::<WindowCounts>()
    }
}

/// A window that does not stand in its post's value.
#[derive(Clone, Copy, Default)]
struct Elsewhere(WindowCounts);

impl StateValue for Elsewhere {
    fn decode(bytes: &[u8]) -> Option<Self> {
        WindowCounts::decode(bytes).ok().map(Self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.encode_to_vec());
    }

    fn weight(&self) -> usize {
        size_of::<Self>()
    }
}

#[cfg(test)]
mod tests;
