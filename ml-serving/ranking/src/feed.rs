//! The home feed: sources → hydrate → filter → score → blend → select → respond.

use futures::future::{join, join4};
use millrace_events::LogTime;
use xxhash_rust::xxh3::Xxh3;

use crate::as_of::as_of;
use crate::blend::blend;
use crate::budget::{Budget, Share};
use crate::cursor::{Entry, EntryPost, HomeCursor, Listed, ORDER_BYTES_MAX, author_hash, post_hash};
use crate::filters::{Removed, filter};
use crate::hydrate::{self, Hydrated, Taste, Viewer, hydrate, read_taste, read_viewer};
use crate::posts::{check, now_us};
use crate::record::{self, is_sampled};
use crate::scorers::affinity::Affinity;
use crate::scorers::score;
use crate::selectors::{SCORE_UNITS, Scored, select};
use crate::slate::{Explain, Filtered, MODEL, ScoreParts, Slate, SlateItem, SourceReport};
use crate::sources::{self, Candidate, Source, followed, fresh, trending};
use crate::{Error, LIMIT_MAX, Ranker, Result};

/// Asks for a home feed.
#[derive(Clone, Debug)]
pub struct HomeQuery {
    /// For whom.
    pub viewer: String,
    /// How many items, at most [`LIMIT_MAX`].
    pub limit: usize,
    /// [`Slate::next_cursor`] of the page before.
    pub cursor: Option<String>,
    /// Whether to say how it came about.
    pub explain: bool,
    /// The share of slates, above 0 to 1, that get a [`Slate::record`]; `None` for none. A slate's name decides, so that all
    /// pages of a slate have one or none of them.
    pub record_rate: Option<f64>,
}

/// What the sources brought, and what else the ranking can do without.
struct Gathered {
    reports: Vec<SourceReport>,
    followed: Vec<Candidate>,
    strangers: Vec<Candidate>,
    taste: Taste,
    notes: Vec<String>,
}

impl Ranker {
    /// A page of `viewer`'s home feed.
    ///
    /// The first page ranks; the cursor carries the rest of that order, so that over the pages every post of the order
    /// comes once, whatever arrives in between. What may no longer be shown is left out when its page is asked for.
    ///
    /// The first page has a budget of time: a source that is late is left out and reported, and so is one, other than that
    /// of the authors followed, that fails.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for an impossible viewer or a cursor that is not this viewer's;
    /// [`crate::ErrorKind::Retry`] when the online store cannot be read now, or so slowly that nothing would be left.
    pub async fn home(&self, query: HomeQuery) -> Result<Slate> {
        check("viewer", &query.viewer)?;
        match &query.cursor {
            None => self.first_page(&query).await,
            Some(cursor) => {
                let cursor = HomeCursor::decode(cursor, &query.viewer)?;
                self.next_page(&query, cursor).await
            }
        }
    }

    async fn first_page(&self, query: &HomeQuery) -> Result<Slate> {
        let store = self.store.as_ref();
        let budget = Budget::start(&self.options);

        // The clock is read first: what is read after it can only be more complete than it says.
        let as_of = as_of(store, self.partitions).await?;
        let viewer = read_viewer(store, &query.viewer).await?;

        let mut gathered = self.gather(&budget, &viewer).await?;
        let candidates = self.hydrate_all(&budget, &viewer, &mut gathered).await?;
        // An app would show an empty feed and keep it.
        if candidates.is_empty() && gathered.reports.iter().any(|report| report.late || report.failed) {
            return Err(Error::late());
        }
        let (kept, removed) = filter(&viewer, candidates);

        let now_us = now_us(as_of);
        let affinity = Affinity::new(&gathered.taste, now_us);
        let scored = kept.into_iter().map(|candidate| {
            let mut parts = score(&candidate, &affinity, now_us);
            parts.source = self.options.weights.of(candidate.candidate.source);
            let blended = blend(&self.options.weights, &parts);
            (candidate, parts, blended)
        });
        let ranked = select(scored.collect());

        Ok(respond(query, as_of, ranked, removed, gathered))
    }

    /// Asks all sources, and for the viewer's taste, at the same time.
    async fn gather(&self, budget: &Budget<'_>, viewer: &Viewer) -> Result<Gathered> {
        let (store, partitions) = (self.store.as_ref(), self.partitions);
        let (follows, trending, fresh, taste) = join4(
            ask(budget, Source::Follows, Share::Whole, followed::pull(store, &viewer.following)),
            ask(budget, Source::Trending, Share::Extra, trending::pull(store, partitions)),
            ask(budget, Source::Fresh, Share::Extra, fresh::pull(store, partitions)),
            budget.within(Share::Extra, read_taste(store, &viewer.ids)),
        )
        .await;

        let mut notes = Vec::new();
        if viewer.following.is_empty() {
            notes.push("the viewer follows nobody: only strangers' posts are here".to_owned());
        }
        let ((follows, followed), (trending, rising), (fresh, new)) = (follows, trending, fresh);
        let rising = rising.unwrap_or_else(|error| noted(&mut notes, "trending", &error));
        let new = new.unwrap_or_else(|error| noted(&mut notes, "fresh", &error));
        let taste = match taste {
            Some(taste) => taste.unwrap_or_else(|error| noted(&mut notes, "affinity", &error)),
            None => {
                notes.push("affinity is left out: the viewer's reactions were not there in time".to_owned());
                Taste::default()
            }
        };
        let strangers = sources::merge(rising, new);
        Ok(Gathered { reports: vec![follows, trending, fresh], followed: followed?, strangers, taste, notes })
    }

    /// What is known about the candidates; about strangers' posts only if it is there in time.
    async fn hydrate_all(
        &self,
        budget: &Budget<'_>,
        viewer: &Viewer,
        gathered: &mut Gathered,
    ) -> Result<Vec<Hydrated>> {
        let store = self.store.as_ref();
        let (followed, strangers) = (std::mem::take(&mut gathered.followed), std::mem::take(&mut gathered.strangers));
        let (followed, strangers) = join(
            hydrate(store, &viewer.ids, followed),
            budget.within(Share::Whole, hydrate(store, &viewer.ids, strangers)),
        )
        .await;
        let reports = gathered.reports.iter_mut().filter(|report| report.name != Source::Follows.name());
        let strangers = match strangers {
            Some(Ok(strangers)) => strangers,
            Some(Err(error)) => {
                reports.for_each(|report| report.failed = true);
                noted(&mut gathered.notes, "strangers' posts", &error)
            }
            None => {
                reports.for_each(|report| report.late = true);
                Vec::new()
            }
        };
        Ok(hydrate::join(followed?, strangers))
    }
}

/// What a source brought, and how it went. What is late is left out as if it had brought nothing.
async fn ask(
    budget: &Budget<'_>,
    source: Source,
    share: Share,
    work: impl Future<Output = Result<Vec<Candidate>>>,
) -> (SourceReport, Result<Vec<Candidate>>) {
    let started_us = budget.elapsed_us();
    let found = budget.within(share, work).await;
    let took_us = budget.elapsed_us().saturating_sub(started_us);
    let (late, failed) = (found.is_none(), matches!(found, Some(Err(_))));
    let found = found.unwrap_or_else(|| Ok(Vec::new()));
    let candidates = found.as_ref().map_or(0, Vec::len);
    (SourceReport { name: source.name(), candidates, took_us, late, failed }, found)
}

/// Nothing, with a note that says why.
fn noted<T: Default>(notes: &mut Vec<String>, what: &str, error: &crate::Error) -> T {
    notes.push(format!("{what} left out: {error}"));
    T::default()
}

fn respond(
    query: &HomeQuery,
    as_of: Option<LogTime>,
    mut ranked: Vec<Scored>,
    removed: Vec<Removed>,
    mut gathered: Gathered,
) -> Slate {
    let mut order: Vec<Entry> = ranked.iter().map(entry).collect();
    let beyond = ranked.split_off(cut(&mut order));
    if !beyond.is_empty() {
        gathered.notes.push(format!("{} ranked last are left out: a cursor has no room for them", beyond.len()));
    }
    let slate = slate_hash(&query.viewer, as_of, &ranked);
    let page_len = ranked.len().min(query.limit.clamp(1, LIMIT_MAX));
    let page = &ranked[..page_len];
    let items: Vec<_> = page.iter().enumerate().map(|(at, s)| item(at, &s.hydrated, s.score)).collect();
    let cursor = HomeCursor { slate, position: page_len, rest: order.split_off(page_len) };
    let next_cursor = (!cursor.rest.is_empty()).then(|| cursor.encode(&query.viewer));
    let explain = query.explain.then(|| Explain {
        filtered: removed.iter().map(filtered).collect(),
        scores: page.iter().map(parts_of).collect(),
        notes: gathered.notes,
    });
    let mut answer = Slate {
        slate: slate_name(slate),
        viewer: query.viewer.clone(),
        items,
        next_cursor,
        model: MODEL,
        as_of,
        sources: gathered.reports,
        explain,
        record: None,
    };
    if let Some(rate) = query.record_rate.filter(|rate| is_sampled(slate, *rate)) {
        ranked.extend(beyond);
        answer.record = record::of_first_page(&answer, rate, ranked, removed);
    }
    answer
}

/// Takes off what a cursor would have no room for, and says how much is left.
fn cut(order: &mut Vec<Entry>) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.cost();
        bytes <= ORDER_BYTES_MAX
    };
    let left = order.iter().take_while(fits).count();
    order.truncate(left);
    left
}

pub(crate) fn item(position: usize, hydrated: &Hydrated, score: u32) -> SlateItem {
    SlateItem {
        position,
        post_id: hydrated.candidate.post_id.clone(),
        author_id: hydrated.author().to_owned(),
        score: f64::from(score) / SCORE_UNITS,
        reason: hydrated.candidate.source.name(),
    }
}

pub(crate) fn filtered(removed: &Removed) -> Filtered {
    Filtered { post_id: removed.hydrated.candidate.post_id.clone(), filter: removed.filter, why: removed.why }
}

fn parts_of(scored: &Scored) -> ScoreParts {
    ScoreParts { post_id: scored.hydrated.candidate.post_id.clone(), parts: scored.parts }
}

fn entry(scored: &Scored) -> Entry {
    let Candidate { post_id, source, listed_by, listed_us } = &scored.hydrated.candidate;
    let post = match listed_by {
        Some(author) => {
            EntryPost::Listed(Listed { author: author_hash(author), post: post_hash(post_id), listed_us: *listed_us })
        }
        None => EntryPost::Named { source: *source, post_id: post_id.clone() },
    };
    Entry { post, score: scored.score }
}

/// Names a ranked list: the same viewer, clock and order have the same name, so a replayed log serves the same slates.
fn slate_hash(viewer: &str, as_of: Option<LogTime>, ranked: &[Scored]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&now_us(as_of).to_le_bytes());
    let ids = ranked.iter().map(|s| s.hydrated.candidate.post_id.as_str());
    for id in std::iter::once(viewer).chain(ids) {
        hash.update(&(id.len() as u64).to_le_bytes());
        hash.update(id.as_bytes());
    }
    hash.digest()
}

pub(crate) fn slate_name(hash: u64) -> String {
    format!("sl_{hash:016x}")
}
