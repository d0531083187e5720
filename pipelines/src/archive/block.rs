//! Cuts blocks: records, or rows that wait in state, into columns.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use arrow_array::RecordBatch;
use millrace_events::{DeadLetter, Envelope, Kind, LogTime, ServedSlate, TopicPartition, Window, decode};
use millrace_log::{Offset, Record};
use millrace_warehouse::Table;
use millrace_warehouse::tables::{
    DeadLetterRow, DeadLettersBuilder, EngagementWindowRow, EngagementWindowsBuilder, EventRow, EventsBuilder,
    IdentitiesBuilder, IdentityRow, ServedSlateRow, ServedSlatesBuilder, date_of,
};

use super::rows::{self, RowsValue, before, offset_of};
use super::{ArchiveOptions, ArchiveSeams, is_made_by_job};
use crate::error::{Error, Result};
use crate::job::{ClosedWindow, LinkedId, Row};
use crate::state::{StateKey, StateValue};

/// How much one read of the log takes, bytes.
const READ_BYTES: usize = 1024 * 1024;
/// How many values of the state one read takes: offsets...
const PEEK_VALUES: usize = 1_024;
/// ...and rows, a hundred kilobytes each.
const PEEK_ROWS: usize = 64;

/// A part of a partition, as rows.
pub(crate) struct Cut {
    pub(crate) rows: Vec<RecordBatch>,
    /// One past the last record that it covers.
    pub(crate) next: Offset,
    /// The log time of that record, where records were read.
    pub(crate) clock: Option<LogTime>,
}

/// Cuts from the start of `range`, at most to its end. `dates` are those of the whole commit.
pub(crate) async fn cut(
    seams: &ArchiveSeams,
    options: &ArchiveOptions,
    table: Table,
    of: TopicPartition,
    range: Range<Offset>,
    dates: &mut BTreeSet<i32>,
) -> Result<Cut> {
    let range = range.start..range.end.min(range.start + options.block_records_max as u64);
    if is_made_by_job(table) {
        return cut_rows(seams, options, table, of, range, dates).await;
    }
    let mut verdicts = match table {
        Table::Events => Verdicts::of(seams, of, &range).await?,
        _ => Verdicts::default(),
    };
    let mut cut = Cut { rows: Vec::new(), next: range.start, clock: None };
    let mut bytes = 0;
    while cut.next < range.end && bytes < options.block_bytes_max {
        let mut records = seams.log.read(of, cut.next, READ_BYTES).await?;
        records.retain(|record| record.offset < range.end);
        let Some(last) = records.last() else { break };
        let (next, clock) = (last.offset + 1, last.time);
        bytes += records.iter().map(|record| record.value.len()).sum::<usize>();
        let room = options.dates_max;
        let (mut known, mut said) = (std::mem::take(dates), std::mem::take(&mut verdicts));
        // Columns are built where it holds up no other task.
        let built = tokio::task::spawn_blocking(move || {
            let built = build(table, of, &records, &mut said, &mut known, room);
            (built, known, said)
        });
        let (built, known, said) = built.await.map_err(|e| Error::Archive(Box::new(e)))?;
        (*dates, verdicts) = (known, said);
        let Built { rows, stopped_at } = built?;
        cut.rows.extend(rows);
        if let Some((at, time)) = stopped_at {
            cut.next = at;
            cut.clock = time.or(cut.clock);
            break;
        }
        (cut.next, cut.clock) = (next, Some(clock));
    }
    Ok(cut)
}

struct Built {
    rows: Option<RecordBatch>,
    /// The first record whose date has no room any more, and the time of the record before it.
    stopped_at: Option<(Offset, Option<LogTime>)>,
}

fn build(
    table: Table,
    of: TopicPartition,
    records: &[Record],
    verdicts: &mut Verdicts,
    dates: &mut BTreeSet<i32>,
    dates_max: usize,
) -> Result<Built> {
    let mut columns = Columns::new(table, records.len());
    let mut time = None;
    for record in records {
        let robot = verdicts.robots.remove(&record.offset);
        if !verdicts.left_out.remove(&record.offset) && !columns.add(of, record, robot, dates, dates_max)? {
            // It begins the next block, which asks for its verdicts again.
            return Ok(Built { rows: columns.finish(), stopped_at: Some((record.offset, time)) });
        }
        time = Some(record.time);
    }
    Ok(Built { rows: columns.finish(), stopped_at: None })
}

/// True when a row of this date fits into the commit. The first date always does.
fn has_room(time_us: i64, dates: &mut BTreeSet<i32>, dates_max: usize) -> bool {
    let date = date_of(time_us);
    if dates.contains(&date) {
        return true;
    }
    if dates.len() >= dates_max.max(1) {
        return false;
    }
    dates.insert(date)
}

enum Columns {
    Events(Box<EventsBuilder>),
    Slates(Box<ServedSlatesBuilder>),
    Letters(Box<DeadLettersBuilder>),
}

impl Columns {
    fn new(table: Table, rows: usize) -> Self {
        match table {
            Table::ServedSlates => Columns::Slates(Box::new(ServedSlatesBuilder::with_capacity(rows))),
            Table::DeadLetters => Columns::Letters(Box::new(DeadLettersBuilder::with_capacity(rows))),
            Table::Events | Table::EngagementWindows | Table::Identities => {
                Columns::Events(Box::new(EventsBuilder::with_capacity(rows)))
            }
        }
    }

    /// Adds the rows of a record, of which stage 1 says whether it is a robot's; false when their date has no room.
    fn add(
        &mut self,
        of: TopicPartition,
        record: &Record,
        robot: bool,
        dates: &mut BTreeSet<i32>,
        dates_max: usize,
    ) -> Result<bool> {
        match self {
            Columns::Events(events) => {
                // Stage 1 has read it, or left it out.
                let envelope: Envelope = decode("an action", record.value.clone())
                    .map_err(|_| Error::bad_record("an action", of, record.offset))?;
                if envelope.kind() == Kind::Tick {
                    return Ok(true);
                }
                if !has_room(shown(envelope.event_time_us), dates, dates_max) {
                    return Ok(false);
                }
                events.push(row_of_action(of, record, &envelope, robot));
            }
            Columns::Slates(slates) => {
                let slate: ServedSlate = decode("a served slate", record.value.clone())
                    .map_err(|_| Error::bad_record("a served slate", of, record.offset))?;
                if !has_room(shown(record.time.0), dates, dates_max) {
                    return Ok(false);
                }
                add_slate(slates, of, record, &slate);
            }
            Columns::Letters(letters) => {
                let letter: DeadLetter = decode("a dead letter", record.value.clone())
                    .map_err(|_| Error::bad_record("a dead letter", of, record.offset))?;
                if !has_room(shown(record.time.0), dates, dates_max) {
                    return Ok(false);
                }
                add_letter(letters, of, record, &letter);
            }
        }
        Ok(true)
    }

    fn finish(self) -> Option<RecordBatch> {
        let batch = match self {
            Columns::Events(mut events) => events.finish(),
            Columns::Slates(mut slates) => slates.finish(),
            Columns::Letters(mut letters) => letters.finish(),
        };
        (batch.num_rows() > 0).then_some(batch)
    }
}

fn not_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// The first and the last microsecond that every engine can reckon with: from the beginning of 1900, where ClickHouse begins,
/// to the end of 2261, where times in nanoseconds end. A client's clock can say anything, and one event must not keep the
/// others out: in the tables a time beyond stands as the bound.
const TIMES: std::ops::RangeInclusive<i64> = -2_208_988_800_000_000..=9_214_646_399_999_999;

fn shown(time_us: i64) -> i64 {
    time_us.clamp(*TIMES.start(), *TIMES.end())
}

/// The row of an action in `events`. `robot` is the verdict of stage 1, beside what the record says itself.
pub fn row_of_action<'a>(of: TopicPartition, record: &Record, envelope: &'a Envelope, robot: bool) -> EventRow<'a> {
    let personal = envelope.personal.as_ref();
    let json = |bytes: Option<&'a bytes::Bytes>| {
        // Checked to be JSON when it came in.
        let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        if text.is_empty() { "{}" } else { text }
    };
    let properties = personal.map(|p| if p.properties.is_empty() { &p.traits } else { &p.properties });
    let action = envelope.action.as_ref();
    EventRow {
        message_id: &envelope.message_id,
        source: &envelope.source,
        event: &envelope.event,
        actor_id: envelope.key(),
        user_id: not_empty(&envelope.user_id),
        anonymous_id: not_empty(&envelope.anonymous_id),
        post_id: action.and_then(|a| not_empty(&a.post_id)),
        target_id: action.and_then(|a| not_empty(&a.target_id)),
        tag: action.and_then(|a| not_empty(&a.tag)),
        slate: action.and_then(|a| not_empty(&a.slate)),
        event_time: shown(envelope.event_time_us),
        ingest_time: shown(record.time.0),
        properties: json(properties),
        context: json(personal.map(|p| &p.context)),
        topic: of.topic.as_str(),
        partition: of.partition,
        offset: record.offset,
        robot: robot || envelope.robot,
        violation: not_empty(&envelope.violation),
    }
}

fn add_slate(slates: &mut ServedSlatesBuilder, of: TopicPartition, record: &Record, slate: &ServedSlate) {
    for (index, candidate) in (0..).zip(&slate.candidates) {
        slates.push(ServedSlateRow {
            slate: &slate.slate,
            viewer_id: &slate.viewer,
            served_at: shown(record.time.0),
            as_of: slate.as_of_us.map(shown),
            model: &slate.model,
            model_version: &slate.model_version,
            sample_rate: slate.sample_rate,
            position: candidate.position,
            post_id: &candidate.post_id,
            author_id: &candidate.author_id,
            reason: &candidate.source,
            score: candidate.score,
            recency: candidate.recency,
            affinity: candidate.affinity,
            engagement: candidate.engagement,
            diversity: candidate.diversity,
            filter: not_empty(&candidate.filter),
            topic: of.topic.as_str(),
            partition: of.partition,
            offset: record.offset,
            index,
        });
    }
}

fn add_letter(letters: &mut DeadLettersBuilder, of: TopicPartition, record: &Record, letter: &DeadLetter) {
    // One that the collector refused has no id but its place.
    let place = format!("{}-{}-{}", of.topic, of.partition, record.offset);
    letters.push(DeadLetterRow {
        id: if letter.id.is_empty() { &place } else { &letter.id },
        reason: &letter.reason,
        detail: &letter.detail,
        source: &letter.source,
        refused_by: &letter.by,
        log_time: shown(record.time.0),
        payload_bytes: letter.payload.len() as u64,
        truncated: letter.truncated,
        topic: of.topic.as_str(),
        partition: of.partition,
        offset: record.offset,
    });
}

/// What stage 1 says of the records of a range.
#[derive(Default)]
struct Verdicts {
    /// Those that have no row.
    left_out: HashSet<Offset>,
    /// Those that are a robot's, and do not say so themselves.
    robots: HashSet<Offset>,
}

impl Verdicts {
    async fn of(seams: &ArchiveSeams, of: TopicPartition, range: &Range<Offset>) -> Result<Self> {
        Ok(Self {
            left_out: listed(seams, of, rows::left_out_table(), range).await?,
            robots: listed(seams, of, rows::robots_table(), range).await?,
        })
    }
}

/// Which records of the range stand in a table of the state.
async fn listed(
    seams: &ArchiveSeams,
    of: TopicPartition,
    table: StateKey,
    range: &Range<Offset>,
) -> Result<HashSet<Offset>> {
    let mut offsets = HashSet::new();
    let mut after = before(&table, range.start);
    loop {
        let found = seams.states.peek(of, &after, PEEK_VALUES).await?;
        let Some((last, _)) = found.last() else { return Ok(offsets) };
        after = last.to_vec();
        for (key, _) in &found {
            match offset_of(key).filter(|offset| key.starts_with(table.as_bytes()) && *offset < range.end) {
                Some(offset) => offsets.insert(offset),
                None => return Ok(offsets),
            };
        }
    }
}

async fn cut_rows(
    seams: &ArchiveSeams,
    options: &ArchiveOptions,
    made: Table,
    of: TopicPartition,
    range: Range<Offset>,
    dates: &mut BTreeSet<i32>,
) -> Result<Cut> {
    let table = rows::rows_table();
    let mut after = before(&table, range.start);
    let mut columns = RowColumns::new(made);
    let (mut bytes, mut record, mut index) = (0, None, 0);
    // The first record of a commit always fits: what one record leads to has few enough dates for a commit of its own.
    let is_first = dates.is_empty();
    let mut next = range.end;
    'all: loop {
        let found = seams.states.peek(of, &after, PEEK_ROWS).await?;
        let Some((last, _)) = found.last() else { break };
        after = last.to_vec();
        for (key, value) in &found {
            let offset = match offset_of(key).filter(|_| key.starts_with(table.as_bytes())) {
                Some(offset) if offset < range.end => offset,
                _ => break 'all,
            };
            let rows =
                RowsValue::decode(value).ok_or_else(|| Error::corrupt("rows that wait for the warehouse", of))?;
            if record != Some(offset) {
                // A record's rows stay together: they are counted from 0.
                let is_full = bytes >= options.block_bytes_max || !all_have_room(&rows, dates, options.dates_max);
                if is_full && !(is_first && record.is_none()) {
                    next = offset;
                    break 'all;
                }
                (record, index) = (Some(offset), 0);
            }
            bytes += value.len();
            all_have_room(&rows, dates, usize::MAX);
            for row in &rows.rows {
                columns.add(of, offset, index, row)?;
                index += 1;
            }
        }
    }
    Ok(Cut { rows: columns.finish().into_iter().collect(), next, clock: None })
}

/// True when every row of a record fits into the commit; then their dates are in it.
fn all_have_room(rows: &RowsValue, dates: &mut BTreeSet<i32>, dates_max: usize) -> bool {
    let time_us = |row: &Row| match row {
        Row::EngagementWindow(window) => window.counts.start_us,
        Row::Identity(identity) => identity.linked_at_us,
    };
    rows.rows.iter().all(|row| has_room(shown(time_us(row)), dates, dates_max))
}

/// Rows that jobs made, as columns.
enum RowColumns {
    Windows(Box<EngagementWindowsBuilder>),
    Identities(Box<IdentitiesBuilder>),
}

impl RowColumns {
    fn new(table: Table) -> Self {
        match table {
            Table::Identities => RowColumns::Identities(Box::new(IdentitiesBuilder::with_capacity(PEEK_VALUES))),
            _ => RowColumns::Windows(Box::new(EngagementWindowsBuilder::with_capacity(PEEK_VALUES))),
        }
    }

    fn add(&mut self, of: TopicPartition, offset: Offset, index: u32, row: &Row) -> Result<()> {
        match (self, row) {
            (RowColumns::Windows(columns), Row::EngagementWindow(closed)) => {
                add_window(columns, of, offset, index, closed);
            }
            (RowColumns::Identities(columns), Row::Identity(linked)) => add_identity(columns, of, offset, linked),
            _ => return Err(Error::corrupt("rows for another table than that of their topic", of)),
        }
        Ok(())
    }

    fn finish(self) -> Option<RecordBatch> {
        let batch = match self {
            RowColumns::Windows(mut columns) => columns.finish(),
            RowColumns::Identities(mut columns) => columns.finish(),
        };
        (batch.num_rows() > 0).then_some(batch)
    }
}

fn add_window(
    columns: &mut EngagementWindowsBuilder,
    of: TopicPartition,
    offset: Offset,
    index: u32,
    closed: &ClosedWindow,
) {
    let counts = &closed.counts;
    let window = Window::ALL.into_iter().find(|w| *w as u32 == counts.window).unwrap_or(Window::FiveMinutes);
    columns.push(EngagementWindowRow {
        window: window.as_str(),
        window_start: shown(counts.start_us),
        window_end: shown(counts.start_us.saturating_add(window.width_us())),
        post_id: &closed.post_id,
        views: counts.views,
        clicks: counts.clicks,
        likes: counts.likes,
        unlikes: counts.unlikes,
        comments: counts.comments,
        shares: counts.shares,
        saves: counts.saves,
        hides: counts.hides,
        reports: counts.reports,
        closed_at: shown(closed.closed_at.0),
        topic: of.topic.as_str(),
        partition: of.partition,
        offset,
        index,
    });
}

fn add_identity(columns: &mut IdentitiesBuilder, of: TopicPartition, offset: Offset, linked: &LinkedId) {
    columns.push(IdentityRow {
        alias_id: &linked.alias_id,
        person_id: &linked.person_id,
        linked_at: shown(linked.linked_at_us),
        topic: of.topic.as_str(),
        partition: of.partition,
        offset,
    });
}
