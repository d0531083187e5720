//! `millrace dlq`: what could not be accepted or applied, and a second chance for it.

use std::collections::{HashSet, VecDeque};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bytes::Bytes;
use millrace_collector::Call;
use millrace_events::Topic;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::{Admin, Client, Server, is_closed_pipe, say};
use super::sender::{Answer, Door};
use super::tail::Records;

/// Records read at a time.
const PAGE_RECORDS: u64 = 500;

/// How much of a detail the list shows, in characters.
const DETAIL_CHARS_MAX: usize = 60;

/// Looks at dead letters and sends them again
#[derive(Clone, clap::Args)]
#[command(after_help = "Exit codes: 0 done · 1 no such letter, or refused again · 2 could not run\n\n\
    Example: millrace dlq list --limit 20")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) what: What,
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(flatten)]
    pub(crate) admin: Admin,
    /// The write key to send again as
    #[arg(
        long,
        value_name = "KEY",
        env = "MILLRACE_WRITE_KEY",
        hide_env_values = true,
        default_value = "dev",
        global = true
    )]
    pub(crate) write_key: String,
}

/// What to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum What {
    /// The latest letters, oldest first
    List {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u64,
        /// Only these; with one of them all that is kept is looked through
        #[command(flatten)]
        only: Only,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// All of one letter, as JSON
    Show {
        /// Its id, as in the list
        id: String,
    },
    /// Sends the event of one letter in again
    Replay {
        /// Its id, as in the list
        id: String,
    },
}

/// Which letters.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Only {
    /// Only those refused for this reason, such as missing_id
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// Only those of this source: the name of the write key
    #[arg(long)]
    pub(crate) source: Option<String>,
}

impl Only {
    fn is_all(&self) -> bool {
        self.reason.is_none() && self.source.is_none()
    }

    fn has(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, name| wanted.as_ref().is_none_or(|wanted| wanted == letter.text(name));
        is(&self.reason, "reason") && is(&self.source, "source")
    }
}

/// Runs against a server.
///
/// # Errors
/// When there is no server, or it refuses.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?.with_admin_token(args.admin.token()?).with_write_key(&args.write_key);
    run_with(args.what, &client, &client).await
}

/// Reads letters from `records` and sends them again through `door`.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_with(what: What, records: &dyn Records, door: &dyn Door) -> anyhow::Result<ExitCode> {
    let done = match what {
        What::List { limit, only, json } => list(records, limit, &only, json).await,
        What::Show { id } => show(records, &id).await,
        What::Replay { id } => replay(records, door, &id).await,
    };
    match done {
        Err(error) if is_closed_pipe(&error) => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

/// One dead letter as the log's HTTP door writes it: where it is, and what it says, side by side.
struct Letter {
    line: String,
    json: Value,
}

impl Letter {
    fn parse(line: String) -> anyhow::Result<Self> {
        let json = serde_json::from_str(&line).context("the server's dead letter is not JSON")?;
        Ok(Self { line, json })
    }

    fn text(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_default()
    }

    /// Its own id, else where it is: letters of the collector have none.
    fn id(&self) -> String {
        let number = |name: &str| self.json[name].as_u64().unwrap_or(0);
        match self.text("id") {
            "" => format!("{}-{}", number("partition"), number("offset")),
            id => id.to_owned(),
        }
    }
}

async fn list(records: &dyn Records, limit: u64, only: &Only, json: bool) -> anyhow::Result<ExitCode> {
    let letters = latest(records, limit, only).await?;
    if json {
        return letters.iter().try_for_each(|letter| say(&letter.line)).map(|()| ExitCode::SUCCESS).map_err(Into::into);
    }
    if letters.is_empty() {
        say(if only.is_all() { "no dead letters" } else { "no such dead letters" })?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{:<24} {:<20} {:<12} {:<10} {}", "id", "reason", "by", "source", "detail"))?;
    for letter in letters {
        let detail: String = letter.text("detail").chars().take(DETAIL_CHARS_MAX).collect();
        let (reason, by, source) = (letter.text("reason"), letter.text("by"), letter.text("source"));
        say(&format!("{:<24} {reason:<20} {by:<12} {source:<10} {detail}", letter.id()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is in the last `limit` places of each partition, or the last so many of those asked for, oldest first. A letter with
/// an id of its own comes once: the job that wrote it writes it again when it was interrupted.
async fn latest(records: &dyn Records, limit: u64, only: &Only) -> anyhow::Result<Vec<Letter>> {
    let mut letters = Vec::new();
    let mut met = HashSet::new();
    let keep = usize::try_from(limit).unwrap_or(usize::MAX);
    for (partition, held) in (0_u32..).zip(records.bounds(Topic::DeadLetters).await?) {
        let places = if only.is_all() { limit } else { u64::MAX };
        let mut from = held.end.saturating_sub(places).max(held.start);
        let mut found = VecDeque::new();
        while from < held.end {
            let page = records.read(Topic::DeadLetters, partition, from, PAGE_RECORDS.min(held.end - from)).await?;
            if page.next <= from {
                break;
            }
            from = page.next;
            for line in page.lines {
                let letter = Letter::parse(line)?;
                let id = letter.text("id");
                if only.has(&letter) && (id.is_empty() || met.insert(id.to_owned())) {
                    found.push_back(letter);
                    if found.len() > keep {
                        found.pop_front();
                    }
                }
            }
        }
        letters.extend(found);
    }
    Ok(letters)
}

async fn show(records: &dyn Records, id: &str) -> anyhow::Result<ExitCode> {
    let Some(letter) = find(records, id).await? else { return missing(id) };
    let pretty = serde_json::to_string_pretty(&letter.json).unwrap_or(letter.line);
    say(&pretty)?;
    Ok(ExitCode::SUCCESS)
}

async fn replay(records: &dyn Records, door: &dyn Door, id: &str) -> anyhow::Result<ExitCode> {
    let Some(letter) = find(records, id).await? else { return missing(id) };
    let event = event_of(&letter).with_context(|| format!("cannot replay {id}"))?;
    let call = call_of(&letter).with_context(|| format!("cannot replay {id}"))?;
    match door.send(call, body_of(call, &event)).await {
        Answer::Taken { rejected: 0 } => {
            say(&format!(
                "{id} was accepted; if an event with its message id was accepted before, it counts as that one"
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Answer::Taken { .. } => {
            say(&format!(
                "{id} was rejected again ({}): the new letter is at the end of `millrace dlq list`",
                letter.text("reason")
            ))?;
            Ok(ExitCode::from(1))
        }
        Answer::Refused { why } => {
            say(&format!("{id} was refused: {why}"))?;
            Ok(ExitCode::from(1))
        }
        Answer::Again { why, .. } => bail!("cannot replay {id} now, try again later: {why}"),
    }
}

/// The call by which the event of a letter came in. Older letters do not say: most came in a batch of Segment's.
fn call_of(letter: &Letter) -> anyhow::Result<Call> {
    let door = letter.text("door");
    if door.is_empty() {
        return Ok(Call::Batch);
    }
    let call = Call::ALL.into_iter().find(|call| call.name() == door);
    call.with_context(|| format!("it came in by a call {door:?} that this version does not know"))
}

/// The body that is one event, as its call takes it.
fn body_of(call: Call, event: &str) -> Bytes {
    match call {
        Call::Batch | Call::Events | Call::Capture | Call::Analytics => {
            Bytes::from([b"{\"batch\":[", event.as_bytes(), b"]}"].concat())
        }
        Call::Track | Call::Identify | Call::Page | Call::Screen | Call::Group | Call::Alias | Call::CloudEvents => {
            Bytes::copy_from_slice(event.as_bytes())
        }
    }
}

/// The event in a letter, if it is all there, with its numbers as they were written.
fn event_of(letter: &Letter) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Held {
        #[serde(default)]
        truncated: bool,
        payload: Option<Box<RawValue>>,
    }
    let held: Held = serde_json::from_str(&letter.line).context("the server's dead letter is not one")?;
    if held.truncated {
        bail!("the event was too large to be kept whole");
    }
    match held.payload {
        Some(event) if event.get().starts_with('{') => Ok(event.get().to_owned()),
        _ => bail!(
            "it holds no event but something that {:?} could not read: correct the cause and send the event again",
            letter.text("by")
        ),
    }
}

fn missing(id: &str) -> anyhow::Result<ExitCode> {
    say(&format!("no dead letter {id}: `millrace dlq list` shows what there is"))?;
    Ok(ExitCode::from(1))
}

/// Looks the letter up where its id says it is, else through the whole topic.
async fn find(records: &dyn Records, id: &str) -> anyhow::Result<Option<Letter>> {
    let bounds = records.bounds(Topic::DeadLetters).await?;
    let place = id.split_once('-').and_then(|(p, o)| Some((p.parse::<u32>().ok()?, o.parse::<u64>().ok()?)));
    if let Some((partition, offset)) = place
        && bounds.get(partition as usize).is_some_and(|held| (held.start..held.end).contains(&offset))
    {
        let page = records.read(Topic::DeadLetters, partition, offset, 1).await?;
        let letter = page.lines.into_iter().next().map(Letter::parse).transpose()?;
        if let Some(letter) = letter.filter(|letter| letter.id() == id) {
            return Ok(Some(letter));
        }
    }
    for (partition, held) in (0_u32..).zip(bounds) {
        let mut from = held.start;
        while from < held.end {
            let page = records.read(Topic::DeadLetters, partition, from, PAGE_RECORDS).await?;
            for line in page.lines {
                let letter = Letter::parse(line)?;
                if letter.id() == id {
                    return Ok(Some(letter));
                }
            }
            if page.next <= from {
                break;
            }
            from = page.next;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
