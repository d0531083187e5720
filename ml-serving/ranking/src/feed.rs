//! The home feed: sources → hydrate → filter → score → blend → select → respond.

use futures::future::{try_join, try_join_all};
use millrace_events::LogTime;
use millrace_feature_store::views;
use millrace_feature_store::{ListItem, OnlineStore};
use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::Xxh3;

use crate::as_of::as_of;
use crate::blend::blend;
use crate::cursor::{Entry, HomeCursor, author_hash, post_hash};
use crate::filters::filter;
use crate::hydrate::{Viewer, hydrate, read_viewer};
use crate::posts::{check, now_us};
use crate::scorers::affinity::Affinity;
use crate::scorers::score;
use crate::selectors::{SCORE_UNITS, Scored, select};
use crate::slate::{Explain, MODEL, ScoreParts, Slate, SlateItem, SourceReport};
use crate::sources::{Candidate, followed};
use crate::{LIMIT_MAX, Ranker, Result};

/// How many posts of one author in one microsecond are read at a time when an entry of a cursor is looked up.
const LOOK_UP_PAGE: usize = 16;
/// How often: an author with more posts in one microsecond than these two allow loses the rest from later pages.
const LOOK_UPS_MAX: usize = 64;

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
}

impl Ranker {
    /// A page of `viewer`'s home feed.
    ///
    /// The first page ranks; the cursor carries the rest of that order, so that over the pages every post of the first
    /// ranking comes once, whatever arrives in between. What may no longer be shown is left out when its page is asked for.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for an impossible viewer or a cursor that is not this viewer's;
    /// [`crate::ErrorKind::Retry`] when the online store cannot be read now.
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
        let mut explain = Explain::default();

        // The clock is read first: what is read after it can only be more complete than it says.
        let as_of = as_of(store, self.partitions).await?;
        let viewer = read_viewer(store, &query.viewer, true).await?;

        let started_us = (self.options.stopwatch_us)();
        let candidates = followed::pull(store, &viewer.following).await?;
        let took_us = (self.options.stopwatch_us)().saturating_sub(started_us);
        explain.sources.push(SourceReport { name: followed::NAME, candidates: candidates.len(), took_us });
        if viewer.following.is_empty() {
            explain.notes.push("the viewer follows nobody, and no source but follows brings posts".to_owned());
        }

        let known = hydrate(store, &viewer, candidates).await?;
        let (kept, removed) = filter(&viewer, known.candidates);
        explain.filtered = removed;

        let now_us = now_us(as_of);
        let affinity = Affinity::new(&viewer.reactions, &known.reacted_authors, now_us);
        let scored = kept.into_iter().map(|candidate| {
            let parts = score(&candidate, &affinity, now_us);
            let blended = blend(&self.options.weights, &parts);
            (candidate, parts, blended)
        });
        let ranked = select(scored.collect());

        Ok(respond(query, as_of, &ranked, explain))
    }

    async fn next_page(&self, query: &HomeQuery, cursor: HomeCursor) -> Result<Slate> {
        let store = self.store.as_ref();
        let limit = query.limit.clamp(1, LIMIT_MAX);
        let (as_of, viewer) = try_join(as_of(store, self.partitions), read_viewer(store, &query.viewer, false)).await?;
        let authors = by_hash(&viewer);

        let mut items = Vec::with_capacity(limit);
        let mut explain = Explain::default();
        let (mut next, mut found, mut took_us) = (0, 0, 0);
        // Entries whose posts have gone leave room, so go on until the page is full or the order at its end.
        while items.len() < limit && next < cursor.rest.len() {
            let started_us = (self.options.stopwatch_us)();
            let chunk = &cursor.rest[next..cursor.rest.len().min(next + limit - items.len())];
            let looked_up = try_join_all(chunk.iter().map(|entry| look_up(store, &authors, entry))).await?;
            took_us += (self.options.stopwatch_us)().saturating_sub(started_us);

            let mut places = FxHashMap::default();
            let mut candidates = Vec::with_capacity(chunk.len());
            for (nth, candidate) in looked_up.into_iter().enumerate() {
                let Some(candidate) = candidate else { continue };
                places.insert(candidate.post_id.clone(), (cursor.position + next + nth, chunk[nth].score));
                candidates.push(candidate);
            }
            found += candidates.len();
            let (kept, removed) = filter(&viewer, hydrate(store, &viewer, candidates).await?.candidates);
            explain.filtered.extend(removed);
            items.extend(kept.into_iter().filter_map(|kept| {
                let (position, score) = places.remove(&kept.candidate.post_id)?;
                Some(item(position, kept.candidate, score))
            }));
            next += chunk.len();
        }
        explain.sources.push(SourceReport { name: followed::NAME, candidates: found, took_us });
        explain.notes.push("the order and the scores are those of the first page".to_owned());

        let rest = cursor.rest[next..].to_vec();
        let rest = HomeCursor { slate: cursor.slate, position: cursor.position + next, rest };
        Ok(Slate {
            slate: slate_name(cursor.slate),
            viewer: query.viewer.clone(),
            items,
            next_cursor: (!rest.rest.is_empty()).then(|| rest.encode(&query.viewer)),
            model: MODEL,
            as_of,
            explain: query.explain.then_some(explain),
        })
    }
}

fn respond(query: &HomeQuery, as_of: Option<LogTime>, ranked: &[Scored], mut explain: Explain) -> Slate {
    let slate = slate_hash(&query.viewer, as_of, ranked);
    let (page, rest) = ranked.split_at(ranked.len().min(query.limit.clamp(1, LIMIT_MAX)));
    let items = page.iter().enumerate().map(|(position, s)| item(position, s.hydrated.candidate.clone(), s.score));
    explain.scores = page.iter().map(parts_of).collect();
    let cursor = HomeCursor { slate, position: page.len(), rest: rest.iter().map(entry).collect() };
    Slate {
        slate: slate_name(slate),
        viewer: query.viewer.clone(),
        items: items.collect(),
        next_cursor: (!rest.is_empty()).then(|| cursor.encode(&query.viewer)),
        model: MODEL,
        as_of,
        explain: query.explain.then_some(explain),
    }
}

fn item(position: usize, candidate: Candidate, score: u32) -> SlateItem {
    SlateItem {
        position,
        post_id: candidate.post_id,
        author_id: candidate.author_id,
        score: f64::from(score) / SCORE_UNITS,
        reason: candidate.reason,
    }
}

fn parts_of(scored: &Scored) -> ScoreParts {
    ScoreParts { post_id: scored.hydrated.candidate.post_id.clone(), parts: scored.parts }
}

fn entry(scored: &Scored) -> Entry {
    let Candidate { post_id, author_id, listed_us, .. } = &scored.hydrated.candidate;
    Entry { author: author_hash(author_id), post: post_hash(post_id), listed_us: *listed_us, score: scored.score }
}

fn by_hash(viewer: &Viewer) -> FxHashMap<u16, Vec<&str>> {
    let mut authors: FxHashMap<u16, Vec<&str>> = FxHashMap::default();
    for author in &viewer.following {
        authors.entry(author_hash(author)).or_default().push(author);
    }
    authors
}

/// The post that an entry of a cursor names, unless it or the follow has gone.
async fn look_up(
    store: &dyn OnlineStore,
    authors: &FxHashMap<u16, Vec<&str>>,
    entry: &Entry,
) -> Result<Option<Candidate>> {
    for &author in authors.get(&entry.author).into_iter().flatten() {
        let list = views::list(views::AUTHOR_POSTS, author);
        // Just before the first post of that microsecond: ids are UTF-8, so none sorts after this byte.
        let mut after = ListItem { score: entry.listed_us.saturating_add(1), member: [0xff].to_vec().into() };
        for _ in 0..LOOK_UPS_MAX {
            let page = store.page(&list, Some(&after), LOOK_UP_PAGE).await?;
            for listed in page.iter().take_while(|listed| listed.score == entry.listed_us) {
                let Ok(post_id) = str::from_utf8(&listed.member) else { continue };
                if post_hash(post_id) == entry.post {
                    return Ok(Some(Candidate {
                        post_id: post_id.to_owned(),
                        author_id: author.to_owned(),
                        listed_us: entry.listed_us,
                        reason: followed::NAME,
                    }));
                }
            }
            match page.into_iter().next_back() {
                Some(last) if last.score == entry.listed_us => after = last,
                _ => break,
            }
        }
    }
    Ok(None)
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

fn slate_name(hash: u64) -> String {
    format!("sl_{hash:016x}")
}
