//! A small, fixed content of every table, over which each named query has a golden file.
//!
//! It holds what queries get wrong: late events, letters that were refused twice, nulls, days before 1970, a leap day,
//! weeks and months that begin on different days, text beyond ASCII and JSON that must be looked into; and of who is who
//! chains, circles, people who share a device and chains that are longer than they are followed.

use millrace_events::{Topic, parse_rfc3339};

use crate::tables::{
    DeadLetterRow, DeadLettersBuilder, EngagementWindowRow, EngagementWindowsBuilder, EventRow, EventsBuilder,
    IdentitiesBuilder, IdentityRow, ServedSlateRow, ServedSlatesBuilder,
};
use crate::{Block, Source, Table};

const SECOND_US: i64 = 1_000_000;

/// Partitions of every topic here.
const PARTITIONS: u32 = 2;

/// The content of `table`, as the calls of [`crate::Warehouse::commit`] that bring it there, in order.
pub fn commits(table: Table) -> Vec<Vec<Block>> {
    match table {
        Table::Events => halves(Topic::Actions, EVENTS, |row| row.partition, events),
        Table::EngagementWindows => halves(Topic::ReactionEvents, WINDOWS, |row| row.partition, windows),
        Table::Identities => halves(Topic::UserEvents, IDENTITIES, |row| row.partition, identities),
        Table::ServedSlates => halves(Topic::ServedSlates, SLATES, |row| row.partition, slates),
        Table::DeadLetters => halves(Topic::DeadLetters, LETTERS, |_| 0, letters),
    }
}

/// Two commits with a block of each partition, so that there are several files for a day. Offsets count within a
/// partition.
fn halves<R: Copy>(
    topic: Topic,
    rows: &[R],
    partition_of: impl Fn(&R) -> u32,
    build: impl Fn(&[(u64, R)]) -> arrow_array::RecordBatch,
) -> Vec<Vec<Block>> {
    let mut commits = vec![Vec::new(), Vec::new()];
    for partition in 0..topic.partitions(PARTITIONS) {
        let own: Vec<(u64, R)> = (0..).zip(rows.iter().copied().filter(|row| partition_of(row) == partition)).collect();
        let (first, second) = own.split_at(own.len() / 2);
        let mut start = 0;
        for (commit, half) in commits.iter_mut().zip([first, second]) {
            let end = start + half.len() as u64;
            let source = Source { generation: 0, topic, partition };
            commit.push(Block { source, start, end, rows: vec![build(half)] });
            start = end;
        }
    }
    commits
}

fn time(text: &str) -> i64 {
    parse_rfc3339(text).expect("the times below are RFC 3339")
}

/// An action. What is empty is null.
#[derive(Clone, Copy)]
struct Event {
    partition: u32,
    at: &'static str,
    /// Seconds until it arrived.
    delay_s: i64,
    event: &'static str,
    actor: &'static str,
    post: &'static str,
    target: &'static str,
    tag: &'static str,
    properties: &'static str,
    robot: bool,
    violation: &'static str,
}

const fn event(
    partition: u32,
    at: &'static str,
    delay_s: i64,
    event: &'static str,
    actor: &'static str,
    post: &'static str,
) -> Event {
    Event {
        partition,
        at,
        delay_s,
        event,
        actor,
        post,
        target: "",
        tag: "",
        properties: "{}",
        robot: false,
        violation: "",
    }
}

impl Event {
    const fn target(mut self, target: &'static str) -> Self {
        self.target = target;
        self
    }

    const fn tag(mut self, tag: &'static str) -> Self {
        self.tag = tag;
        self
    }

    const fn properties(mut self, properties: &'static str) -> Self {
        self.properties = properties;
        self
    }

    const fn robot(mut self) -> Self {
        self.robot = true;
        self
    }

    const fn violation(mut self, violation: &'static str) -> Self {
        self.violation = violation;
        self
    }
}

/// 2024-02-29 is a Thursday and a leap day, 2024-03-04 a Monday.
const EVENTS: &[Event] = &[
    event(0, "1969-12-31T23:30:00Z", 60, "search_performed", "old", ""),
    event(0, "2024-02-29T22:10:00Z", 1, "user_registered", "ada", ""),
    event(0, "2024-02-29T22:59:59.999999Z", 1, "post_created", "ada", "p1")
        .properties(r#"{"post_id":"p1","text":"hi","tags":["rust","Zürich","rust"]}"#),
    event(1, "2024-02-29T23:00:00Z", 0, "user_registered", "zoë", ""),
    event(1, "2024-02-29T23:00:00Z", 2, "post_created", "zoë", "пост")
        .properties(r#"{"tags":["Zürich","日本"],"post_id":"пост","nested":{"tags":["not one"]}}"#),
    event(1, "2024-02-29T23:05:00Z", 2, "post_created", "zoë", "p3").properties(r#"{"post_id":"p3","tags":[]}"#),
    event(0, "2024-02-29T23:30:00Z", 1, "user_followed", "ada", "").target("zoë"),
    event(1, "2024-02-29T23:40:00Z", 1, "user_followed", "bob", "").target("zoë"),
    event(0, "2024-02-29T23:59:59Z", 3, "post_viewed", "ada", "пост")
        .properties(r#"{"post_id":"пост","dwell_ms":900}"#),
    event(0, "2024-03-01T00:00:00Z", 1, "post_viewed", "ada", "пост"),
    event(0, "2024-03-01T00:00:01Z", 1, "post_liked", "ada", "пост"),
    event(1, "2024-03-01T00:10:00Z", 1, "post_viewed", "bob", "пост"),
    event(1, "2024-03-01T00:10:05Z", 1, "post_liked", "bob", "пост"),
    event(1, "2024-03-01T00:10:06Z", 1, "post_unliked", "bob", "пост"),
    event(1, "2024-03-01T00:10:07Z", 1, "post_liked", "bob", "пост"),
    // Exactly as late as is allowed, and one microsecond more.
    event(1, "2024-03-01T00:20:00Z", 300, "post_viewed", "anon-1", "p1"),
    event(0, "2024-03-01T00:20:00.000001Z", 301, "post_viewed", "anon-2", "p1"),
    event(1, "2024-03-01T01:00:00Z", 1, "post_clicked", "bob", "p1"),
    event(1, "2024-03-01T01:00:01Z", 1, "post_commented", "bob", "p1"),
    event(0, "2024-03-01T01:30:00Z", 1, "post_shared", "ada", "пост"),
    event(0, "2024-03-01T01:30:00Z", 1, "post_saved", "ada", "p3"),
    event(1, "2024-03-01T02:00:00Z", 1, "tag_followed", "bob", "").tag("rust").properties(r#"{"tag":"rust"}"#),
    event(1, "2024-03-01T02:00:00Z", 1, "tag_followed", "zoë", "").tag("Zürich").properties(r#"{"tag":"Zürich"}"#),
    event(1, "2024-03-01T02:30:00Z", 1, "tag_unfollowed", "bob", "").tag("rust").properties(r#"{"tag":"rust"}"#),
    event(0, "2024-03-01T02:45:00Z", 1, "post_created", "ada", "p4")
        .properties(r#"{"post_id":"p4","tags":["rust","say \"hi\", ok"]}"#),
    event(1, "2024-03-01T02:50:00Z", 1, "post_created", "bob", "p5")
        .properties(r#"{"post_id":"p5","tags":["rust"]}"#)
        .robot(),
    // A Sunday, then the Monday after it.
    event(0, "2024-03-03T23:59:59.999999Z", 1, "user_unfollowed", "ada", "").target("zoë"),
    event(1, "2024-03-04T00:00:00Z", 1, "user_followed", "ada", "").target("zoë"),
    event(0, "2024-03-04T00:30:00Z", 1, "user_followed", "ada", "").target("bob"),
    event(0, "2024-03-04T09:00:00Z", 7_200, "post_liked", "zoë", "p1"),
    event(0, "2024-03-04T09:10:00Z", 90_000, "post_liked", "zoë", "p3"),
    event(1, "2024-03-04T09:15:00Z", 400, "post_viewed", "bob", "p3").robot(),
    event(1, "2024-03-04T09:20:00Z", 1, "post_reported", "bob", "p3").robot(),
    event(1, "2024-03-04T09:20:01Z", 1, "post_hidden", "bob", "p3").robot(),
    event(1, "2024-03-04T09:30:00Z", 1, "Checkout Done", "anon-1", "").violation("/total: type").robot(),
    event(1, "2024-03-04T09:31:00Z", 1, "Checkout Done", "anon-1", "").violation("/total: type"),
    event(0, "2024-04-01T00:00:00Z", 1, "post_viewed", "ada", "p1").violation("/post_id: pattern"),
    event(0, "2024-04-01T00:00:00Z", 1, "post_viewed", "ada", "p3"),
];

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn events(rows: &[(u64, Event)]) -> arrow_array::RecordBatch {
    let mut builder = EventsBuilder::with_capacity(rows.len());
    for (offset, row) in rows {
        let is_anonymous = row.actor.starts_with("anon");
        builder.push(EventRow {
            message_id: &format!("m-{}-{offset}", row.partition),
            source: if is_anonymous { "web" } else { "app" },
            event: row.event,
            actor_id: row.actor,
            user_id: Some(row.actor).filter(|_| !is_anonymous),
            anonymous_id: Some(row.actor).filter(|_| is_anonymous),
            post_id: some(row.post),
            target_id: some(row.target),
            tag: some(row.tag),
            slate: None,
            event_time: time(row.at),
            ingest_time: time(row.at) + row.delay_s * SECOND_US,
            properties: row.properties,
            context: "{}",
            topic: Topic::Actions.as_str(),
            partition: row.partition,
            offset: *offset,
            robot: row.robot,
            violation: some(row.violation),
        });
    }
    builder.finish()
}

#[derive(Clone, Copy)]
struct Window {
    partition: u32,
    window: millrace_events::Window,
    start: &'static str,
    post: &'static str,
    /// Views, clicks, likes, unlikes, comments, shares, saves, hides, reports.
    counts: [u64; 9],
}

const fn window(
    partition: u32,
    window: millrace_events::Window,
    start: &'static str,
    post: &'static str,
    counts: [u64; 9],
) -> Window {
    Window { partition, window, start, post, counts }
}

const WINDOWS: &[Window] = {
    use millrace_events::Window::{Day, FiveMinutes, Hour};
    &[
        window(0, Hour, "2024-02-29T23:00:00Z", "пост", [1, 0, 0, 0, 0, 0, 0, 0, 0]),
        window(0, Hour, "2024-03-01T00:00:00Z", "пост", [2, 0, 2, 1, 0, 0, 0, 0, 0]),
        window(1, Hour, "2024-03-01T00:00:00Z", "p1", [1, 0, 0, 0, 0, 0, 0, 0, 0]),
        window(1, FiveMinutes, "2024-03-01T00:20:00Z", "p1", [1, 0, 0, 0, 0, 0, 0, 0, 0]),
        window(1, Hour, "2024-03-01T01:00:00Z", "p1", [0, 1, 0, 0, 1, 0, 0, 0, 0]),
        window(0, Hour, "2024-03-01T01:00:00Z", "пост", [0, 0, 0, 0, 0, 1, 0, 0, 0]),
        window(0, Day, "2024-02-29T00:00:00Z", "пост", [1, 0, 0, 0, 0, 0, 0, 0, 0]),
        window(0, Day, "2024-03-01T00:00:00Z", "пост", [2, 0, 2, 1, 0, 1, 0, 0, 0]),
        window(1, Day, "2024-03-04T00:00:00Z", "p3", [0, 0, 0, 0, 0, 0, 0, 1, 1]),
    ]
};

fn windows(rows: &[(u64, Window)]) -> arrow_array::RecordBatch {
    const LATENESS_US: i64 = 5 * 60 * SECOND_US;
    let mut builder = EngagementWindowsBuilder::with_capacity(rows.len());
    for (offset, row) in rows {
        let window_end = time(row.start) + row.window.width_us();
        let [views, clicks, likes, unlikes, comments, shares, saves, hides, reports] = row.counts;
        builder.push(EngagementWindowRow {
            window: row.window.as_str(),
            window_start: time(row.start),
            window_end,
            post_id: row.post,
            views,
            clicks,
            likes,
            unlikes,
            comments,
            shares,
            saves,
            hides,
            reports,
            closed_at: window_end + LATENESS_US + 1,
            topic: Topic::ReactionEvents.as_str(),
            partition: row.partition,
            offset: *offset,
            index: 0,
        });
    }
    builder.finish()
}

#[derive(Clone, Copy)]
struct Identity {
    partition: u32,
    alias: &'static str,
    person: &'static str,
    at: &'static str,
}

const fn identity(partition: u32, alias: &'static str, person: &'static str, at: &'static str) -> Identity {
    Identity { partition, alias, person, at }
}

/// In the order in which a job would have made them: a row for an id comes only with a link of earlier, or of the same time
/// and to a lesser id.
const IDENTITIES: &[Identity] = &[
    // Known as somebody else's until an earlier link arrived, and then until one of the same time did.
    identity(1, "anon-1", "ada", "2024-03-04T09:40:00Z"),
    identity(1, "anon-1", "bob", "2024-03-01T00:30:00Z"),
    identity(1, "anon-1", "ada", "2024-03-01T00:30:00Z"),
    // A chain: what was anonymous belongs to somebody who became another, who became another.
    identity(0, "anon-2", "zo", "2024-03-01T00:21:00Z"),
    identity(0, "zo", "zoe", "2024-03-02T00:00:00Z"),
    identity(1, "zoe", "zoë", "2024-03-03T00:00:00Z"),
    // Circles, with a tail: two, three and four.
    identity(0, "o", "old", "1969-12-31T23:00:00Z"),
    identity(1, "old", "o", "1969-12-31T23:30:00Z"),
    identity(0, "c3", "c1", "2024-03-01T00:00:00Z"),
    identity(0, "c1", "c2", "2024-03-01T00:00:00Z"),
    identity(1, "c2", "c3", "2024-03-01T00:00:00Z"),
    identity(1, "c0", "c2", "2024-03-01T00:00:00Z"),
    identity(0, "d1", "d4", "2024-03-01T00:00:00Z"),
    identity(0, "d4", "d3", "2024-03-01T00:00:00Z"),
    identity(1, "d3", "d2", "2024-03-01T00:00:00Z"),
    identity(1, "d2", "d1", "2024-03-01T00:00:00Z"),
    // Six in a row: the last is as far from the first as links are followed, and one more.
    identity(0, "f0", "f1", "2024-03-01T00:00:00Z"),
    identity(1, "f1", "f2", "2024-03-01T00:00:00Z"),
    identity(0, "f2", "f3", "2024-03-01T00:00:00Z"),
    identity(1, "f3", "f4", "2024-03-01T00:00:00Z"),
    identity(0, "f4", "f5", "2024-03-01T00:00:00Z"),
];

fn identities(rows: &[(u64, Identity)]) -> arrow_array::RecordBatch {
    let mut builder = IdentitiesBuilder::with_capacity(rows.len());
    for (offset, row) in rows {
        builder.push(IdentityRow {
            alias_id: row.alias,
            person_id: row.person,
            linked_at: time(row.at),
            topic: Topic::UserEvents.as_str(),
            partition: row.partition,
            offset: *offset,
        });
    }
    builder.finish()
}

#[derive(Clone, Copy)]
struct Slate {
    partition: u32,
    slate: &'static str,
    at: &'static str,
    model: &'static str,
    sample_rate: f64,
    post: &'static str,
    reason: &'static str,
    position: Option<u32>,
    filter: Option<&'static str>,
}

const fn slate(partition: u32, slate: &'static str, at: &'static str, model: &'static str, sample_rate: f64) -> Slate {
    Slate { partition, slate, at, model, sample_rate, post: "", reason: "", position: None, filter: None }
}

impl Slate {
    const fn served(mut self, post: &'static str, reason: &'static str, position: u32) -> Self {
        (self.post, self.reason, self.position) = (post, reason, Some(position));
        self
    }

    const fn filtered(mut self, post: &'static str, reason: &'static str, filter: &'static str) -> Self {
        (self.post, self.reason, self.filter) = (post, reason, Some(filter));
        self
    }

    const fn left_over(mut self, post: &'static str, reason: &'static str) -> Self {
        (self.post, self.reason) = (post, reason);
        self
    }
}

const SLATES: &[Slate] = {
    const A: Slate = slate(0, "sl_a", "2024-02-29T23:59:00Z", "baseline", 1.0);
    const B: Slate = slate(1, "sl_b", "2024-03-01T00:01:00Z", "baseline", 0.25);
    const C: Slate = slate(1, "sl_c", "2024-03-04T12:00:00Z", "challenger", 0.25);
    &[
        A.served("p1", "follows", 0),
        A.served("пост", "trending", 1),
        A.filtered("p3", "follows", "seen"),
        A.filtered("p4", "trending", "blocked"),
        A.left_over("p5", "fresh"),
        B.served("пост", "follows", 0),
        B.filtered("p1", "follows", "seen"),
        B.filtered("p3", "fresh", "seen"),
        B.left_over("p4", "fresh"),
        C.served("p5", "fresh", 0),
        C.served("p4", "follows", 1),
        C.left_over("p1", "follows"),
    ]
};

fn slates(rows: &[(u64, Slate)]) -> arrow_array::RecordBatch {
    let mut builder = ServedSlatesBuilder::with_capacity(rows.len());
    for (offset, row) in rows {
        let part = |value: f64| Some(value).filter(|_| row.filter.is_none());
        builder.push(ServedSlateRow {
            slate: row.slate,
            viewer_id: "bob",
            served_at: time(row.at),
            as_of: Some(time(row.at) - SECOND_US).filter(|_| row.slate != "sl_a"),
            model: row.model,
            model_version: "1",
            sample_rate: row.sample_rate,
            position: row.position,
            post_id: row.post,
            author_id: "ada",
            reason: row.reason,
            score: part(0.5),
            recency: part(0.25),
            affinity: part(0.0),
            engagement: part(1.0),
            diversity: part(1.0),
            filter: row.filter,
            topic: Topic::ServedSlates.as_str(),
            partition: row.partition,
            offset: *offset,
            index: 0,
        });
    }
    builder.finish()
}

#[derive(Clone, Copy)]
struct Letter {
    id: &'static str,
    at: &'static str,
    reason: &'static str,
    refused_by: &'static str,
}

const fn letter(id: &'static str, at: &'static str, reason: &'static str, refused_by: &'static str) -> Letter {
    Letter { id, at, reason, refused_by }
}

const LETTERS: &[Letter] = &[
    letter("c-1", "2024-02-29T23:59:59Z", "missing_property", "collector"),
    letter("c-2", "2024-03-01T00:00:00Z", "missing_property", "collector"),
    letter("c-3", "2024-03-01T00:00:01Z", "wrong_type", "collector"),
    letter("j-1", "2024-03-01T01:00:00Z", "not_the_author", "posts"),
    letter("j-2", "2024-03-01T01:00:01Z", "not_the_author", "posts"),
    // Refused again after a crash, the last one on another day.
    letter("j-1", "2024-03-01T01:00:02Z", "not_the_author", "posts"),
    letter("j-2", "2024-03-02T00:00:00Z", "not_the_author", "posts"),
    letter("j-3", "2024-03-02T00:00:00Z", "wrong_type", "engagement"),
];

fn letters(rows: &[(u64, Letter)]) -> arrow_array::RecordBatch {
    let mut builder = DeadLettersBuilder::with_capacity(rows.len());
    for (offset, row) in rows {
        builder.push(DeadLetterRow {
            id: row.id,
            reason: row.reason,
            detail: "send it as documented, \"post_id\" included",
            source: "app",
            refused_by: row.refused_by,
            log_time: time(row.at),
            payload_bytes: 120,
            truncated: false,
            topic: Topic::DeadLetters.as_str(),
            partition: 0,
            offset: *offset,
        });
    }
    builder.finish()
}
