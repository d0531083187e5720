//! GitHub's public events as actions on posts.
//!
//! A repository is a post: `post_id` is its name, `owner/name`, and its author is the owner. An actor is their login. Names
//! are taken as written, capitals included: GitHub treats `Ann/App` and `ann/app` as one, a log of that day does not.
//!
//! | in the two-hour files | in the compact files | becomes | properties beside `post_id` |
//! |---|---|---|---|
//! | the first event of a repository | the same | `post_created` by the owner, before the event itself | `text` (the name), `kind` = link, `url` |
//! | `WatchEvent` | `watch` | `post_liked` | |
//! | `ForkEvent` | `fork` | `post_shared` | |
//! | `IssueCommentEvent` | `icomment` | `post_commented` | `comment_id` |
//! | `PushEvent` by the owner | `push` by the owner | `post_edited` | `text`, `kind`, `url` as in `post_created`, `commits` |
//! | `PushEvent` by anyone else | `push` by anyone else | `repo_pushed` | `commits` |
//! | `CreateEvent` | `create` | `repo_ref_created` (a branch, a tag or the first of both) | |
//! | `DeleteEvent` | `del` | `repo_ref_deleted` | |
//! | `IssuesEvent` | `issue` | `repo_issue_changed` | `action` |
//! | `PullRequestEvent` | `pr` | `repo_pull_request_changed` | `action` |
//! | `PullRequestReviewCommentEvent` | `prcomment` | `repo_code_reviewed` | `action` |
//! | `CommitCommentEvent` | `ccomment` | `repo_commit_commented` | |
//! | `GollumEvent` | `golem` | `repo_wiki_edited` | |
//! | `ReleaseEvent` | `release` | `repo_released` | `action` |
//! | `MemberEvent` | `member` | `repo_member_added` | `action` |
//! | `PublicEvent` | `public` | `repo_made_public` | |
//! | any other type | any other type | `repo_` and the folded type | `action`, where there is one |
//!
//! Why these: a like is a state of (actor, post) and so is a star; a fork passes a repository on; only its author may edit a
//! post, so a push by a collaborator cannot be an edit. Comments on code are not comments on the repository as a whole and
//! stay custom events, as does everything that has no counterpart in a feed.
//!
//! Message ids are `gh-` and the event's id, and `gh-repo-` and the repository's name for the post that is made up. So an
//! import that is repeated, or cut short and started again, or split over several runs, adds nothing that is counted. The
//! made-up post has the time of the first event seen in the run, and keeps the time of the run that came first.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::PathBuf;

use millrace_events::{ID_BYTES_MAX, Micros, check_id, fold_name, parse_rfc3339};
use serde::Deserialize;

use super::{ImportError, Lines, Place};
use crate::call::{Call, Properties};

/// What the message id of a made-up post starts with.
const POST_PREFIX: &str = "gh-repo-";

/// What the message id of an event starts with.
const EVENT_PREFIX: &str = "gh-";

/// The calls of `paths`, in order.
pub struct GhArchiveCalls {
    lines: Lines,
    /// Repositories met in this run. Bounded by the input: about 60 bytes each.
    seen: HashSet<Box<str>>,
    /// The event whose repository was announced by the call before.
    waiting: Option<Call>,
}

/// Reads `paths` one after the other.
pub fn calls(paths: Vec<PathBuf>) -> GhArchiveCalls {
    GhArchiveCalls { lines: Lines::new(paths), seen: HashSet::new(), waiting: None }
}

impl Iterator for GhArchiveCalls {
    type Item = Result<Call, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(call) = self.waiting.take() {
            return Some(Ok(call));
        }
        let event = match self.lines.next()?.and_then(|(place, line)| read(place, line)) {
            Ok(event) => event,
            Err(error) => return Some(Err(error)),
        };
        let call = event.call();
        if self.seen.contains(event.repo.as_ref()) {
            return Some(Ok(call));
        }
        self.seen.insert(event.repo.as_ref().into());
        let post = event.post();
        self.waiting = Some(call);
        Some(Ok(post))
    }
}

/// Both formats at once: the compact one has strings where the full one has objects.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    actor: Actor<'a>,
    #[serde(borrow)]
    repo: Repo<'a>,
    #[serde(borrow, alias = "dt")]
    created_at: Cow<'a, str>,
    #[serde(borrow)]
    action: Option<Cow<'a, str>>,
    commits: Option<u64>,
    #[serde(borrow)]
    payload: Option<Payload<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Actor<'a> {
    Name(#[serde(borrow)] Cow<'a, str>),
    Object {
        #[serde(borrow)]
        login: Cow<'a, str>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Repo<'a> {
    Name(#[serde(borrow)] Cow<'a, str>),
    Object {
        #[serde(borrow)]
        name: Cow<'a, str>,
    },
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    action: Option<Cow<'a, str>>,
    size: Option<u64>,
}

struct Event<'a> {
    id: Cow<'a, str>,
    event_type: Cow<'a, str>,
    actor: Cow<'a, str>,
    repo: Cow<'a, str>,
    action: Option<Cow<'a, str>>,
    commits: Option<u64>,
    time_us: Micros,
}

fn read<'a>(place: Place<'_>, line: &'a [u8]) -> Result<Event<'a>, ImportError> {
    let record: Record<'a> =
        serde_json::from_slice(line).map_err(|error| place.error(format!("not an event of GH Archive: {error}")))?;
    let actor = match record.actor {
        Actor::Name(name) | Actor::Object { login: name } => name,
    };
    let repo = match record.repo {
        Repo::Name(name) | Repo::Object { name } => name,
    };
    for (what, id) in [("id", &record.id), ("actor", &actor), ("repo", &repo)] {
        check_id(id).map_err(|reason| place.error(format!("{what} {reason}")))?;
    }
    if POST_PREFIX.len() + repo.len().max(record.id.len()) > ID_BYTES_MAX {
        return Err(place.error(format!("id and repo must leave room for {POST_PREFIX:?} in {ID_BYTES_MAX} bytes")));
    }
    if repo.split_once('/').is_none_or(|(owner, name)| owner.is_empty() || name.is_empty()) {
        return Err(place.error(format!("repo {repo:?} is not owner/name")));
    }
    let time_us = parse_rfc3339(&record.created_at).map_err(|error| place.error(format!("time: {error}")))?;
    let (payload_action, size) = record.payload.map_or((None, None), |p| (p.action, p.size));
    Ok(Event {
        id: record.id,
        event_type: record.event_type,
        actor,
        repo,
        action: record.action.or(payload_action),
        commits: record.commits.or(size),
        time_us,
    })
}

impl Event<'_> {
    fn owner(&self) -> &str {
        self.repo.split_once('/').map_or(&self.repo, |(owner, _)| owner)
    }

    /// What the post says: the same each time, so that an edit does not empty it.
    fn content(&self) -> Properties {
        Properties::new()
            .text("post_id", &self.repo)
            .text("text", &self.repo)
            .text("kind", "link")
            .text("url", &format!("https://github.com/{}", self.repo))
    }

    fn post(&self) -> Call {
        Call::track(
            format!("{POST_PREFIX}{}", self.repo),
            self.owner().to_owned(),
            Cow::Borrowed("post_created"),
            self.content(),
            self.time_us,
        )
    }

    fn call(&self) -> Call {
        let event = self.name();
        let base = match event.as_ref() {
            "post_edited" => self.content(),
            _ => Properties::new().text("post_id", &self.repo),
        };
        let with_detail = match (event.as_ref(), &self.action, self.commits) {
            ("post_commented", _, _) => base.text("comment_id", &format!("{EVENT_PREFIX}{}", self.id)),
            ("post_edited" | "repo_pushed", _, Some(commits)) => base.number("commits", commits),
            (name, Some(action), _) if name.starts_with("repo_") => base.text("action", action),
            _ => base,
        };
        let message_id = format!("{EVENT_PREFIX}{}", self.id);
        Call::track(message_id, self.actor.as_ref().to_owned(), event, with_detail, self.time_us)
    }

    fn name(&self) -> Cow<'static, str> {
        let known = match self.event_type.as_ref() {
            "WatchEvent" | "watch" => "post_liked",
            "ForkEvent" | "fork" => "post_shared",
            "IssueCommentEvent" | "icomment" => "post_commented",
            "PushEvent" | "push" if self.actor.as_ref() == self.owner() => "post_edited",
            "PushEvent" | "push" => "repo_pushed",
            "CreateEvent" | "create" => "repo_ref_created",
            "DeleteEvent" | "del" => "repo_ref_deleted",
            "IssuesEvent" | "issue" => "repo_issue_changed",
            "PullRequestEvent" | "pr" => "repo_pull_request_changed",
            "PullRequestReviewCommentEvent" | "prcomment" => "repo_code_reviewed",
            "CommitCommentEvent" | "ccomment" => "repo_commit_commented",
            "GollumEvent" | "golem" => "repo_wiki_edited",
            "ReleaseEvent" | "release" => "repo_released",
            "MemberEvent" | "member" => "repo_member_added",
            "PublicEvent" | "public" => "repo_made_public",
            other => return Cow::Owned(format!("repo_{}", fold_name(other))),
        };
        Cow::Borrowed(known)
    }
}
