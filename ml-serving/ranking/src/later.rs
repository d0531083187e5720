//! The pages after the first: the order that the cursor carries, as far as it may still be shown.

use futures::future::{try_join, try_join_all};
use millrace_feature_store::views;
use millrace_feature_store::{ListItem, OnlineStore};
use rustc_hash::FxHashMap;

use crate::as_of::as_of;
use crate::cursor::{Entry, EntryPost, HomeCursor, Listed, author_hash, post_hash};
use crate::feed::{HomeQuery, filtered, item, slate_name};
use crate::filters::{Removed, filter};
use crate::hydrate::{Viewer, hydrate, read_viewer};
use crate::record::{self, is_sampled};
use crate::slate::{Explain, MODEL, Slate, SlateItem, SourceReport};
use crate::sources::{Candidate, Source};
use crate::{LIMIT_MAX, Ranker, Result};

/// How many posts of one author in one microsecond are read at a time when an entry of a cursor is looked up.
const LOOK_UP_PAGE: usize = 16;
/// How often: an author with more posts in one microsecond than these two allow loses the rest from later pages.
const LOOK_UPS_MAX: usize = 64;

/// A page as far as it is filled.
struct Page {
    items: Vec<SlateItem>,
    removed: Vec<Removed>,
    reports: [SourceReport; 3],
}

impl Ranker {
    pub(crate) async fn next_page(&self, query: &HomeQuery, cursor: HomeCursor) -> Result<Slate> {
        let store = self.store.as_ref();
        let limit = query.limit.clamp(1, LIMIT_MAX);
        let (as_of, viewer) = try_join(as_of(store, self.partitions), read_viewer(store, &query.viewer)).await?;
        let authors = by_hash(&viewer);

        let mut page = Page {
            items: Vec::with_capacity(limit),
            removed: Vec::new(),
            reports: [Source::Follows, Source::Trending, Source::Fresh].map(report),
        };
        let mut next = 0;
        // Entries whose posts have gone leave room, so go on until the page is full or the order at its end.
        while page.items.len() < limit && next < cursor.rest.len() {
            let chunk = next..cursor.rest.len().min(next + limit - page.items.len());
            self.fill(&viewer, &authors, &cursor.rest[chunk.clone()], cursor.position + next, &mut page).await?;
            next = chunk.end;
        }

        let slate = cursor.slate;
        let rest = HomeCursor { slate, position: cursor.position + next, rest: cursor.rest[next..].to_vec() };
        let explain = query.explain.then(|| Explain {
            filtered: page.removed.iter().map(filtered).collect(),
            scores: Vec::new(),
            notes: vec!["the order and the scores are those of the first page".to_owned()],
        });
        let mut answer = Slate {
            slate: slate_name(slate),
            viewer: query.viewer.clone(),
            items: page.items,
            next_cursor: (!rest.rest.is_empty()).then(|| rest.encode(&query.viewer)),
            model: MODEL,
            as_of,
            sources: page.reports.to_vec(),
            explain,
            record: None,
        };
        if let Some(rate) = query.record_rate.filter(|rate| is_sampled(slate, *rate)) {
            answer.record = record::of_later_page(&answer, rate, cursor.position, page.removed);
        }
        Ok(answer)
    }

    /// Adds what `entries`, of which the first stands at `position`, still have to show.
    async fn fill(
        &self,
        viewer: &Viewer,
        authors: &FxHashMap<u16, Vec<&str>>,
        entries: &[Entry],
        position: usize,
        page: &mut Page,
    ) -> Result<()> {
        let store = self.store.as_ref();
        let started_us = (self.options.stopwatch_us)();
        let found = try_join_all(entries.iter().map(|entry| find(store, authors, entry))).await?;
        page.reports[0].took_us += (self.options.stopwatch_us)().saturating_sub(started_us);

        let mut places = FxHashMap::default();
        let mut candidates = Vec::with_capacity(entries.len());
        for (nth, candidate) in found.into_iter().enumerate() {
            let Some(candidate) = candidate else { continue };
            page.reports[candidate.source as usize].candidates += 1;
            places.insert(candidate.post_id.clone(), (position + nth, entries[nth].score));
            candidates.push(candidate);
        }
        let (kept, removed) = filter(viewer, hydrate(store, &viewer.ids, candidates).await?);
        page.removed.extend(removed);
        page.items.extend(kept.iter().filter_map(|kept| {
            let (position, score) = places.remove(&kept.candidate.post_id)?;
            Some(item(position, kept, score))
        }));
        Ok(())
    }
}

fn report(source: Source) -> SourceReport {
    SourceReport { name: source.name(), candidates: 0, took_us: 0, late: false, failed: false }
}

fn by_hash(viewer: &Viewer) -> FxHashMap<u16, Vec<&str>> {
    let mut authors: FxHashMap<u16, Vec<&str>> = FxHashMap::default();
    for author in &viewer.following {
        authors.entry(author_hash(author)).or_default().push(author);
    }
    authors
}

/// The post that an entry of a cursor names; not one of an author who is no longer followed.
async fn find(
    store: &dyn OnlineStore,
    authors: &FxHashMap<u16, Vec<&str>>,
    entry: &Entry,
) -> Result<Option<Candidate>> {
    match &entry.post {
        EntryPost::Listed(listed) => look_up(store, authors, listed).await,
        EntryPost::Named { source, post_id } => {
            let post_id = post_id.clone();
            Ok(Some(Candidate { post_id, source: *source, listed_by: None, listed_us: 0 }))
        }
    }
}

/// The post that stands at a place of a followed author's list, unless it or the follow has gone.
async fn look_up(
    store: &dyn OnlineStore,
    authors: &FxHashMap<u16, Vec<&str>>,
    place: &Listed,
) -> Result<Option<Candidate>> {
    for &author in authors.get(&place.author).into_iter().flatten() {
        let list = views::list(views::AUTHOR_POSTS, author);
        // Just before the first post of that microsecond: ids are UTF-8, so none sorts after this byte.
        let mut after = ListItem { score: place.listed_us.saturating_add(1), member: [0xff].to_vec().into() };
        for _ in 0..LOOK_UPS_MAX {
            let page = store.page(&list, Some(&after), LOOK_UP_PAGE).await?;
            for listed in page.iter().take_while(|listed| listed.score == place.listed_us) {
                let Ok(post_id) = str::from_utf8(&listed.member) else { continue };
                if post_hash(post_id) == place.post {
                    return Ok(Some(Candidate {
                        post_id: post_id.to_owned(),
                        source: Source::Follows,
                        listed_by: Some(author.to_owned()),
                        listed_us: place.listed_us,
                    }));
                }
            }
            match page.into_iter().next_back() {
                Some(last) if last.score == place.listed_us => after = last,
                _ => break,
            }
        }
    }
    Ok(None)
}
