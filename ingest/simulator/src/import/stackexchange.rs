//! The public dump of a Stack Exchange site as actions on posts.
//!
//! A file of the dump is XML with one `<row …/>` a line; its first element says what the rows are. Ids are the site's own
//! numbers behind a prefix (posts `se-p<n>`, users `se-u<n>`), so two sites do not fit on one server.
//!
//! | rows of | becomes | by | properties |
//! |---|---|---|---|
//! | `users` | `user_registered` | the user | `handle` and `name` (the display name) |
//! | `posts`, question (type 1) | `post_created` | its owner | `post_id`, `text` (title, blank line, body: HTML as in the dump), `tags`, `kind` = text |
//! | `posts`, answer (type 2) | `post_created` | its owner | `post_id`, `text` (body), `tags` (none), `kind` = text, `reply_to` (the question) |
//! | `posts`, any other type | `wiki_written` | its owner | `post_id`, `post_type` (the number) |
//! | `comments` | `post_commented` | its writer | `post_id`, `comment_id`, `text` |
//! | `votes`, up (type 2) by a known voter | `post_liked` | the voter | `post_id` |
//! | `votes`, favourite (type 5) by a known voter | `post_saved` | the voter | `post_id` |
//! | `votes`, any other | `post_voted` | the voter, else somebody anonymous who cast this vote and no other | `post_id`, `vote` (up, down, accepted, bounty_start, …) |
//! | `badges` | `badge_awarded` | the user | `badge` |
//! | `postlinks` | `post_linked` | somebody anonymous | `post_id`, `target_post_id`, `link_type` (the number) |
//! | `tags` | nothing: no time, nobody who acts; the questions carry them | | |
//!
//! Why these: the dump withholds who voted up or down, and a like is a state of (actor, post), so likes by made-up people would be
//! facts that nobody stated; `post_voted` is a custom event, kept and queried, not counted as engagement. There is no
//! `post_unliked`: a vote that was taken back is not in the dump. Somebody whose account is gone acts under the name that is
//! left, `se-name-<name>` as `anonymousId`, or if none is left as somebody of this row only.
//!
//! Rows of all files given come in order of time, whichever file was named first; at the same time users come before posts, posts
//! before comments, comments before the rest. Votes and favourites have a day and no time: they are put at its last
//! millisecond, for on the day itself most of them would come before their post. Rows of one file need not be in order,
//! as long as none stands more than [`REORDER_ROWS_MAX`] rows from its place; one that does comes as early as it can.
//!
//! Message ids are made from the kind and the row's id (`se-post-1`), so importing again, in parts or after a crash changes no
//! number. What the dump says about people is passed on as it is, and no more of it than stated above.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::path::PathBuf;

use millrace_events::{Micros, check_id, parse_rfc3339};
use quick_xml::events::attributes::Attributes;

use super::{ImportError, Lines, Place};
use crate::call::{Call, Properties};

/// How many rows of one file wait at most until it is known which comes first.
pub const REORDER_ROWS_MAX: usize = 16_384;

/// How many bytes of properties wait at most for each file.
const REORDER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most files: each keeps rows waiting.
pub const FILES_MAX: usize = 64;

/// From the start of a day to its last millisecond.
const TO_DAY_END_US: Micros = 86_400_000_000 - 1_000;

/// The calls of all files, in order of time.
pub struct StackExchangeCalls {
    files: Vec<Rows>,
    too_many: Option<PathBuf>,
}

/// Reads `paths` side by side, [`FILES_MAX`] at most.
pub fn calls(paths: Vec<PathBuf>) -> StackExchangeCalls {
    let too_many = paths.get(FILES_MAX).cloned();
    StackExchangeCalls { files: paths.into_iter().take(FILES_MAX).map(Rows::new).collect(), too_many }
}

impl Iterator for StackExchangeCalls {
    type Item = Result<Call, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(path) = self.too_many.take() {
            self.files.clear();
            return Some(Err(not_readable(path, format!("more than {FILES_MAX} files at once"))));
        }
        for file in &mut self.files {
            if let Err(error) = file.fill() {
                if !error.is_one_line() {
                    self.files.clear();
                }
                return Some(Err(error));
            }
        }
        let first = self.files.iter_mut().filter(|file| !file.waiting.is_empty()).max_by(|a, b| {
            // The heaps have the earliest on top, so the greatest top is the earliest of all.
            a.waiting.peek().cmp(&b.waiting.peek())
        })?;
        first.take().map(Ok)
    }
}

fn not_readable(path: PathBuf, reason: String) -> ImportError {
    ImportError::Read { path, source: std::io::Error::new(std::io::ErrorKind::InvalidData, reason) }
}

/// What the rows of a file are, in the order in which rows of the same time come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Users,
    Posts,
    Comments,
    Votes,
    Badges,
    PostLinks,
    Tags,
}

impl Table {
    const ALL: [(&'static str, Table); 7] = [
        ("users", Table::Users),
        ("posts", Table::Posts),
        ("comments", Table::Comments),
        ("votes", Table::Votes),
        ("badges", Table::Badges),
        ("postlinks", Table::PostLinks),
        ("tags", Table::Tags),
    ];

    /// What the message id of a row starts with.
    fn prefix(self) -> &'static str {
        match self {
            Table::Users => "se-user-",
            Table::Posts => "se-post-",
            Table::Comments => "se-comment-",
            Table::Votes => "se-vote-",
            Table::Badges => "se-badge-",
            Table::PostLinks => "se-link-",
            Table::Tags => "se-tag-",
        }
    }
}

/// The rows of one file, as calls that wait for their turn.
struct Rows {
    path: PathBuf,
    lines: Lines,
    table: Option<Table>,
    is_read: bool,
    line: u64,
    rows: u64,
    waiting: BinaryHeap<Waiting>,
    waiting_bytes: usize,
}

struct Waiting {
    table: Table,
    row: u64,
    call: Call,
}

impl Waiting {
    fn rank(&self) -> (Micros, Table, u64) {
        (self.call.time_us, self.table, self.row)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank().cmp(&self.rank())
    }
}

impl Rows {
    fn new(path: PathBuf) -> Self {
        let lines = Lines::new(vec![path.clone()]);
        Self {
            path,
            lines,
            table: None,
            is_read: false,
            line: 0,
            rows: 0,
            waiting: BinaryHeap::new(),
            waiting_bytes: 0,
        }
    }

    /// Reads until so many rows wait that the first of them is the next of the file.
    fn fill(&mut self) -> Result<(), ImportError> {
        while !self.is_read && self.waiting.len() < REORDER_ROWS_MAX && self.waiting_bytes < REORDER_BYTES_MAX {
            let Some(line) = self.lines.next() else {
                self.is_read = true;
                return Err(self.cut_short());
            };
            let (place, line) = line?;
            self.line = place.line;
            let Some(table) = self.table else {
                self.table = table_of(line).map_err(|reason| not_readable(self.path.clone(), reason))?;
                continue;
            };
            if line.starts_with(b"</") {
                self.is_read = true;
                break;
            }
            self.rows += 1;
            if let Some(call) = read(table, place, line)? {
                self.waiting_bytes += call.properties.len();
                self.waiting.push(Waiting { table, row: self.rows, call });
            }
        }
        Ok(())
    }

    /// What there is of a file that ends too soon is sent all the same.
    fn cut_short(&self) -> ImportError {
        let path = self.path.clone();
        match self.table {
            None => not_readable(path, "no dump of Stack Exchange: the file is empty".to_owned()),
            Some(_) => {
                ImportError::Line { path, line: self.line, reason: "the file is cut short after this".to_owned() }
            }
        }
    }

    fn take(&mut self) -> Option<Call> {
        let Waiting { call, .. } = self.waiting.pop()?;
        self.waiting_bytes -= call.properties.len();
        Some(call)
    }
}

/// What the rows are, from a line before them; `None` when it is only the XML declaration.
fn table_of(line: &[u8]) -> Result<Option<Table>, String> {
    let no_dump = || "no dump of Stack Exchange: it does not begin with an XML element".to_owned();
    let text = std::str::from_utf8(line).map_err(|_| no_dump())?.trim_start_matches('\u{feff}').trim();
    let text = match text.strip_prefix("<?xml") {
        Some(declared) => declared.split_once("?>").ok_or_else(no_dump)?.1.trim(),
        None => text,
    };
    if text.is_empty() {
        return Ok(None);
    }
    let name = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).ok_or_else(no_dump)?;
    match Table::ALL.iter().find(|(known, _)| *known == name) {
        Some((_, table)) => Ok(Some(*table)),
        None => {
            let known: Vec<&str> = Table::ALL.iter().map(|(name, _)| *name).collect();
            Err(format!("rows of {name:?} cannot be imported, only {}", known.join(", ")))
        }
    }
}

/// The attributes of a row that mean something here.
#[derive(Default)]
struct Row<'a> {
    values: [Option<Cow<'a, str>>; NAMES.len()],
}

/// Every attribute that is read.
const NAMES: [&str; 19] = [
    "Id",
    "CreationDate",
    "Date",
    "UserId",
    "UserDisplayName",
    "OwnerUserId",
    "OwnerDisplayName",
    "DisplayName",
    "PostTypeId",
    "ParentId",
    "Title",
    "Body",
    "Tags",
    "PostId",
    "Text",
    "VoteTypeId",
    "Name",
    "RelatedPostId",
    "LinkTypeId",
];

impl<'a> Row<'a> {
    fn parse(place: Place<'_>, line: &'a [u8]) -> Result<Self, ImportError> {
        let text = std::str::from_utf8(line).map_err(|_| place.error("not UTF-8"))?;
        let inner = text.strip_prefix("<row").and_then(|text| text.strip_suffix("/>"));
        let inner = inner.filter(|inner| inner.starts_with(char::is_whitespace));
        let inner = inner.ok_or_else(|| place.error("not a <row …/>"))?;
        let mut row = Self::default();
        for attribute in Attributes::new(inner, 0) {
            let attribute = attribute.map_err(|error| place.error(format!("not a row: {error}")))?;
            let name = std::str::from_utf8(attribute.key.as_ref()).unwrap_or_default();
            let Some(index) = NAMES.iter().position(|known| *known == name) else { continue };
            let value = attribute.unescape_value().map_err(|error| place.error(format!("{name}: {error}")))?;
            row.values[index] = Some(value);
        }
        Ok(row)
    }

    fn get(&self, name: &str) -> Option<&str> {
        let index = NAMES.iter().position(|known| *known == name)?;
        self.values[index].as_deref()
    }

    /// A number of the site, which becomes part of an id.
    fn number(&self, place: Place<'_>, name: &str) -> Result<i64, ImportError> {
        self.number_if_there(place, name)?.ok_or_else(|| place.error(format!("the row has no {name}")))
    }

    fn number_if_there(&self, place: Place<'_>, name: &str) -> Result<Option<i64>, ImportError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| place.error(format!("{name} {text:?} is not a number")))
    }

    /// Times of the dump are UTC and do not say so.
    fn time(&self, place: Place<'_>, name: &str) -> Result<Micros, ImportError> {
        let text = self.get(name).ok_or_else(|| place.error(format!("the row has no {name}")))?;
        parse_rfc3339(&format!("{text}Z")).map_err(|error| place.error(format!("{name} {text:?}: {error}")))
    }

    /// Who acts, and whether nobody knows who that is.
    fn actor(&self, place: Place<'_>, id: &str, name: &str, message_id: &str) -> Result<Actor, ImportError> {
        if let Some(id) = self.number_if_there(place, id)? {
            return Ok(Actor { id: user_id(id), is_anonymous: false });
        }
        let left = self.get(name).filter(|name| !name.is_empty()).map(|name| format!("se-name-{name}"));
        let id = left.unwrap_or_else(|| format!("{message_id}-actor"));
        check_id(&id).map_err(|reason| place.error(format!("{name} {reason}")))?;
        Ok(Actor { id, is_anonymous: true })
    }
}

struct Actor {
    id: String,
    is_anonymous: bool,
}

fn user_id(number: i64) -> String {
    format!("se-u{number}")
}

fn post_id(number: i64) -> String {
    format!("se-p{number}")
}

fn read(table: Table, place: Place<'_>, line: &[u8]) -> Result<Option<Call>, ImportError> {
    let row = Row::parse(place, line)?;
    let message_id = format!("{}{}", table.prefix(), row.number(place, "Id")?);
    let (event, by, properties, time_us) = match table {
        Table::Tags => return Ok(None),
        Table::Users => user(place, &row)?,
        Table::Posts => post(place, &row, &message_id)?,
        Table::Comments => comment(place, &row, &message_id)?,
        Table::Votes => vote(place, &row, &message_id)?,
        Table::Badges => badge(place, &row)?,
        Table::PostLinks => link(place, &row, &message_id)?,
    };
    let call = Call::track(message_id, by.id, Cow::Borrowed(event), properties, time_us);
    Ok(Some(Call { is_anonymous: by.is_anonymous, ..call }))
}

type Parts = (&'static str, Actor, Properties, Micros);

fn user(place: Place<'_>, row: &Row<'_>) -> Result<Parts, ImportError> {
    let by = Actor { id: user_id(row.number(place, "Id")?), is_anonymous: false };
    let name = row.get("DisplayName").unwrap_or_default();
    let properties = Properties::new().text("handle", name).text("name", name);
    Ok(("user_registered", by, properties, row.time(place, "CreationDate")?))
}

fn post(place: Place<'_>, row: &Row<'_>, message_id: &str) -> Result<Parts, ImportError> {
    const QUESTION: i64 = 1;
    const ANSWER: i64 = 2;
    let by = row.actor(place, "OwnerUserId", "OwnerDisplayName", message_id)?;
    let about = Properties::new().text("post_id", &post_id(row.number(place, "Id")?));
    let time_us = row.time(place, "CreationDate")?;
    let body = row.get("Body").unwrap_or_default();
    let properties = match row.number(place, "PostTypeId")? {
        QUESTION => {
            let text = format!("{}\n\n{body}", row.get("Title").unwrap_or_default());
            about.text("text", &text).list("tags", tags(row.get("Tags").unwrap_or_default())).text("kind", "text")
        }
        ANSWER => {
            let question = post_id(row.number(place, "ParentId")?);
            about.text("text", body).list("tags", []).text("kind", "text").text("reply_to", &question)
        }
        other => return Ok(("wiki_written", by, about.text("post_type", &other.to_string()), time_us)),
    };
    Ok(("post_created", by, properties, time_us))
}

/// `<a><b>` in dumps until 2024, `|a|b|` since.
fn tags(text: &str) -> impl Iterator<Item = &str> {
    text.split(['<', '>', '|']).filter(|tag| !tag.is_empty())
}

fn comment(place: Place<'_>, row: &Row<'_>, message_id: &str) -> Result<Parts, ImportError> {
    let by = row.actor(place, "UserId", "UserDisplayName", message_id)?;
    let properties = Properties::new()
        .text("post_id", &post_id(row.number(place, "PostId")?))
        .text("comment_id", &format!("se-c{}", row.number(place, "Id")?))
        .text("text", row.get("Text").unwrap_or_default());
    Ok(("post_commented", by, properties, row.time(place, "CreationDate")?))
}

fn vote(place: Place<'_>, row: &Row<'_>, message_id: &str) -> Result<Parts, ImportError> {
    const UP: i64 = 2;
    const FAVOURITE: i64 = 5;
    let by = row.actor(place, "UserId", "", message_id)?;
    let about = Properties::new().text("post_id", &post_id(row.number(place, "PostId")?));
    let kind = row.number(place, "VoteTypeId")?;
    let (event, properties) = match kind {
        UP if !by.is_anonymous => ("post_liked", about),
        FAVOURITE if !by.is_anonymous => ("post_saved", about),
        _ => ("post_voted", about.text("vote", &vote_name(kind))),
    };
    let day_us = row.time(place, "CreationDate")?;
    Ok((event, by, properties, day_us.saturating_add(TO_DAY_END_US)))
}

/// The names that Stack Exchange itself gives the types.
fn vote_name(kind: i64) -> Cow<'static, str> {
    Cow::Borrowed(match kind {
        1 => "accepted",
        2 => "up",
        3 => "down",
        4 => "offensive",
        5 => "favourite",
        6 => "close",
        7 => "reopen",
        8 => "bounty_start",
        9 => "bounty_close",
        10 => "deletion",
        11 => "undeletion",
        12 => "spam",
        15 => "moderator_review",
        16 => "approve_edit_suggestion",
        other => return Cow::Owned(format!("type_{other}")),
    })
}

fn badge(place: Place<'_>, row: &Row<'_>) -> Result<Parts, ImportError> {
    let by = Actor { id: user_id(row.number(place, "UserId")?), is_anonymous: false };
    let properties = Properties::new().text("badge", row.get("Name").unwrap_or_default());
    Ok(("badge_awarded", by, properties, row.time(place, "Date")?))
}

fn link(place: Place<'_>, row: &Row<'_>, message_id: &str) -> Result<Parts, ImportError> {
    let by = row.actor(place, "UserId", "", message_id)?;
    let properties = Properties::new()
        .text("post_id", &post_id(row.number(place, "PostId")?))
        .text("target_post_id", &post_id(row.number(place, "RelatedPostId")?))
        .text("link_type", &row.number(place, "LinkTypeId")?.to_string());
    Ok(("post_linked", by, properties, row.time(place, "CreationDate")?))
}
