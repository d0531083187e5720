//! The causes behind a history, for scoring what a platform made of it.

use std::io::{self, Write};

use millrace_events::{Micros, format_rfc3339};
use serde_json::{Value, json};

use super::burst::{Burst, Target};
use super::delivery::{OVER_US, Skew};
use super::rhythm::ZONES;
use super::{Population, TOPICS, user_id};

/// Raised when a field changes its meaning; fields may be added without.
const VERSION: u32 = 1;

/// What is behind the calls of a [`Population`]; [`Truth::write_json`] is its published form, described in the crate's README.
pub struct Truth<'p> {
    population: &'p Population,
}

impl<'p> Truth<'p> {
    pub(super) fn of(population: &'p Population) -> Self {
        Self { population }
    }

    /// Writes one JSON object, a user a line, so that it takes no memory however many there are.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let parts = [
            ("options", self.options()),
            ("span", self.span()),
            ("totals", self.totals()),
            ("late", self.late()),
            ("duplicates", json!({"sent": self.population.duplicates.repeated})),
            ("skewed", self.skewed()),
            ("bursts", self.population.bursts.past.iter().map(|burst| self.burst(burst)).collect()),
            ("tags", self.tags()),
        ];
        write!(
            out,
            "{{\n\"version\": {VERSION},\n\"seed\": {},\n\"topics\": {TOPICS},\n",
            self.population.options.seed
        )?;
        for (name, value) in parts {
            writeln!(out, "\"{name}\": {value},")?;
        }
        out.write_all(b"\"users\": [")?;
        for (i, &user) in self.population.registered.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(out, "{comma}\n{}", self.user(user))?;
        }
        out.write_all(b"\n]\n}\n")
    }

    fn options(&self) -> Value {
        let options = &self.population.options;
        json!({
            "users": options.users, "events": options.events, "start": format_rfc3339(options.start_us),
            "pace": options.rate, "rhythm": options.rhythm, "robots": options.robots, "robot_pace": options.robot_pace,
            "bursts": options.bursts, "burst_factor": options.burst_factor, "burst_seconds": options.burst_seconds,
            "burst_every_seconds": options.burst_every_seconds, "late_share": options.late,
            "duplicate_share": options.duplicates, "skewed_share": options.skewed,
        })
    }

    fn span(&self) -> Value {
        json!({"start": format_rfc3339(self.population.options.start_us), "end": format_rfc3339(self.population.now_us())})
    }

    fn totals(&self) -> Value {
        let mut totals = self.population.totals.clone();
        totals.sort_unstable();
        let events: u64 = totals.iter().map(|(_, count)| count).sum();
        let actions: serde_json::Map<String, Value> =
            totals.into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect();
        json!({"events": events, "actions": actions})
    }

    fn late(&self) -> Value {
        let lateness = &self.population.late.lateness;
        let over: serde_json::Map<String, Value> = OVER_US
            .iter()
            .zip(lateness.over)
            .map(|(us, count)| (format!("over_{}s", us / 1_000_000), json!(count)))
            .collect();
        let sent = lateness.held.max(1);
        json!({
            "held": lateness.held, "over": over, "delay_ms_max": lateness.delay_us_max / 1000,
            "delay_ms_mean": u64::try_from(lateness.delay_us_sum / u128::from(sent) / 1000).unwrap_or(u64::MAX),
        })
    }

    fn skewed(&self) -> Value {
        let clocks: Vec<Skew> =
            self.population.registered.iter().filter_map(|&user| Skew::of(&self.population.options, user)).collect();
        let ahead = clocks.iter().filter(|skew| skew.offset_us > 0).count();
        json!({
            "users": clocks.len(), "ahead": ahead, "behind": clocks.len() - ahead,
            "with_sent_at": clocks.iter().filter(|skew| skew.sends_sent_at).count(),
            "offset_ms_max": clocks.iter().map(|skew| skew.offset_us.abs() / 1000).max().unwrap_or(0),
            "events": self.population.misdated,
        })
    }

    fn burst(&self, burst: &Burst) -> Value {
        let (kind, id, author) = match burst.target {
            Target::Tag(index) => ("tag", self.population.tags[index].name.to_owned(), None),
            Target::Post(number, author) => ("post", self.population.post_id(number), Some(user_id(author))),
        };
        let from = self.population.options.start_us;
        let at = |ns: u64| from.saturating_add(Micros::try_from(ns / 1000).unwrap_or(Micros::MAX));
        // One that the end of the history cut short has lasted until then.
        let lasted_ns = burst.end_ns.min(self.population.now_ns).saturating_sub(burst.start_ns).max(1);
        json!({
            "kind": kind, "id": id, "author_id": author, "start": format_rfc3339(at(burst.start_ns)),
            "end": format_rfc3339(at(burst.end_ns)), "complete": burst.end_ns <= self.population.now_ns,
            "factor": self.population.options.burst_factor, "added_share": burst.share as f64 / 1e6,
            "baseline_per_hour": burst.baseline_per_hour, "events": burst.events,
            "per_hour": burst.events as f64 * 3.6e12 / lasted_ns as f64,
        })
    }

    fn tags(&self) -> Value {
        let tags = self.population.tags.iter();
        tags.map(|tag| json!({"id": tag.name, "taste": tag.taste.0, "uses": tag.uses})).collect()
    }

    fn user(&self, number: u32) -> Value {
        let user = &self.population.users[number as usize];
        let skew = Skew::of(&self.population.options, number);
        json!({
            "id": user_id(number), "taste": user.taste.0, "utc_offset_minutes": ZONES[usize::from(user.zone)].0,
            "robot": user.robot, "follows": user.following.len(),
            "clock_offset_ms": skew.map(|skew| skew.offset_us / 1000), "sends_sent_at": skew.map(|skew| skew.sends_sent_at),
        })
    }
}
