//! What the job keeps beside counts.

use std::cmp::Ordering;
use std::sync::Arc;

use millrace_events::Window;
use millrace_feature_store::views::{TRENDS_MAX, TrendItem};
use prost::encoding::{decode_varint, encode_varint};
use rustc_hash::FxHashSet;

use super::{POOL_MAX, width_s};
use crate::operators::generations::Turn;
use crate::operators::rate::rising;
use crate::state::StateValue;

/// Where the job stands in its partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The second of the first record: before it, no past is known.
    pub(super) since: Option<i64>,
    /// The newest second counted in; it can be ahead of the clock.
    pub(super) newest: i64,
    /// The second of the last evaluation.
    pub(super) evaluated: i64,
    /// Records counted since the last evaluation.
    pub(super) waiting: u64,
    /// Members of all pools after the last evaluation.
    pub(super) members: u64,
    /// Records counted and seconds entered.
    pub(super) steps: u64,
    pub(super) histories: Turn,
    pub(super) seconds: Turn,
    /// What the next evaluation looks at.
    pub(super) touched: FxHashSet<Arc<str>>,
}

/// The present generations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    pub(super) histories: u64,
    pub(super) seconds: u64,
}

impl Standing {
    pub(super) fn turns(&self) -> Turns {
        Turns { histories: self.histories.now, seconds: self.seconds.now }
    }
}

/// What is watched for one window, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pool {
    pub(super) members: Vec<Member>,
}

/// A thing and its counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: Arc<str>,
    /// Within the window.
    pub(super) count: u64,
    /// Before it.
    pub(super) past: u64,
    /// Both hold until the clock reaches this second.
    pub(super) until: i64,
}

impl Pool {
    /// Drops what is too much, and lists what rises, best first.
    pub(super) fn rank(&mut self, window: Window, past_s: i64) -> Vec<TrendItem> {
        let width = width_s(window) as f64;
        let score = |member: &Member| thousandths(rising(member.count, member.past, width, past_s as f64));
        let mut ranked: Vec<(f64, Member)> = self.members.drain(..).map(|member| (score(&member), member)).collect();
        ranked.sort_unstable_by(best_first);
        ranked.truncate(POOL_MAX);
        let item = |(score, member): &(f64, Member)| {
            let baseline = if past_s > 0 { member.past as f64 * width / past_s as f64 } else { 0.0 };
            TrendItem { id: member.id.to_string(), count: member.count, baseline: thousandths(baseline), score: *score }
        };
        let items = ranked.iter().take(TRENDS_MAX).take_while(|(score, _)| *score > 0.0).map(item).collect();
        self.members.extend(ranked.into_iter().map(|(_, member)| member));
        self.members.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        items
    }
}

fn best_first((score, a): &(f64, Member), (other, b): &(f64, Member)) -> Ordering {
    other.total_cmp(score).then_with(|| b.count.cmp(&a.count)).then_with(|| a.id.cmp(&b.id))
}

/// Cut to what means something, which also hides how far a platform's logarithm is from the next one's.
fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl StateValue for Standing {
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut take = || decode_varint(&mut bytes).ok();
        let (has_since, since) = (take()?, take()?.cast_signed());
        let (newest, evaluated) = (take()?.cast_signed(), take()?.cast_signed());
        let (waiting, members, steps) = (take()?, take()?, take()?);
        let (histories, seconds) = (Turn::decode(&mut bytes)?, Turn::decode(&mut bytes)?);
        let mut touched = FxHashSet::default();
        while !bytes.is_empty() {
            touched.insert(take_id(&mut bytes)?);
        }
        Some(Self {
            since: (has_since == 1).then_some(since),
            newest,
            evaluated,
            waiting,
            members,
            steps,
            histories,
            seconds,
            touched,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let since = self.since.unwrap_or_default().cast_unsigned();
        for n in [
            u64::from(self.since.is_some()),
            since,
            self.newest.cast_unsigned(),
            self.evaluated.cast_unsigned(),
            self.waiting,
            self.members,
            self.steps,
        ] {
            encode_varint(n, out);
        }
        self.histories.encode(out);
        self.seconds.encode(out);
        self.touched.iter().for_each(|id| put_id(id, out));
    }

    fn weight(&self) -> usize {
        self.touched.iter().map(|id| id.len() + ID_BYTES).sum()
    }
}

impl StateValue for Pool {
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut members = Vec::new();
        while !bytes.is_empty() {
            let id = take_id(&mut bytes)?;
            let mut take = || decode_varint(&mut bytes).ok();
            members.push(Member { id, count: take()?, past: take()?, until: take()?.cast_signed() });
        }
        Some(Self { members })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for member in &self.members {
            put_id(&member.id, out);
            [member.count, member.past, member.until.cast_unsigned()].iter().for_each(|n| encode_varint(*n, out));
        }
    }

    fn weight(&self) -> usize {
        self.members.iter().map(|member| member.id.len() + ID_BYTES + size_of::<Member>()).sum()
    }
}

/// What an id takes beside its text: the counts before it and a place in a table.
const ID_BYTES: usize = 40;

fn put_id(id: &str, out: &mut Vec<u8>) {
    encode_varint(id.len() as u64, out);
    out.extend_from_slice(id.as_bytes());
}

fn take_id(bytes: &mut &[u8]) -> Option<Arc<str>> {
    let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
    let (id, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(id).ok().map(Arc::from)
}
