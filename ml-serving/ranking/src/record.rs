//! What was served, with everything that was ranked for it, as it goes to `served-slates`: what training sees is what
//! serving saw.

use millrace_events::{ServedCandidate, ServedSlate, SlateSource};

use crate::filters::Removed;
use crate::hydrate::Hydrated;
use crate::selectors::{SCORE_UNITS, Scored};
use crate::slate::{Slate, SourceReport};

/// Whether the slate named by this hash is among those recorded at `rate`. Hashes are uniform, so a share of `rate` is.
pub(crate) fn is_sampled(slate: u64, rate: f64) -> bool {
    rate >= 1.0 || (slate as f64) < rate * (u64::MAX as f64)
}

/// The record of a first page: `ranked` is the whole order, of which `slate` holds the first items, and what was ranked
/// behind it. `None` before anything was applied, when there is nothing to rank either.
pub(crate) fn of_first_page(
    slate: &Slate,
    rate: f64,
    ranked: Vec<Scored>,
    removed: Vec<Removed>,
) -> Option<Box<ServedSlate>> {
    let mut record = of(slate, rate, 0)?;
    record.candidates.reserve(ranked.len() + removed.len());
    for (position, scored) in ranked.into_iter().enumerate() {
        let mut candidate = candidate(scored.hydrated);
        candidate.position = (position < slate.items.len()).then_some(small(position));
        candidate.score = Some(f64::from(scored.score) / SCORE_UNITS);
        candidate.recency = Some(scored.parts.recency);
        candidate.affinity = Some(scored.parts.affinity);
        candidate.engagement = Some(scored.parts.engagement);
        candidate.diversity = Some(scored.parts.diversity);
        record.candidates.push(candidate);
    }
    record.candidates.extend(removed.into_iter().map(refused));
    Some(record)
}

/// The record of a later page, whose first entry stood at `first`: what it served, with the scores of the first page, and
/// what it left out.
pub(crate) fn of_later_page(slate: &Slate, rate: f64, first: usize, removed: Vec<Removed>) -> Option<Box<ServedSlate>> {
    let mut record = of(slate, rate, first)?;
    record.candidates.extend(slate.items.iter().map(|item| ServedCandidate {
        post_id: item.post_id.clone(),
        author_id: item.author_id.clone(),
        source: item.reason.to_owned(),
        position: Some(small(item.position)),
        score: Some(item.score),
        ..ServedCandidate::default()
    }));
    record.candidates.extend(removed.into_iter().map(refused));
    Some(record)
}

fn of(slate: &Slate, rate: f64, first: usize) -> Option<Box<ServedSlate>> {
    Some(Box::new(ServedSlate {
        slate: slate.slate.clone(),
        viewer: slate.viewer.clone(),
        as_of_us: Some(slate.as_of?.0),
        model: slate.model.name.to_owned(),
        model_version: slate.model.version.to_owned(),
        first_position: small(slate.items.first().map_or(first, |item| item.position)),
        sample_rate: rate.min(1.0),
        candidates: Vec::new(),
        sources: slate.sources.iter().map(source).collect(),
        left_out: 0,
    }))
}

fn candidate(hydrated: Hydrated) -> ServedCandidate {
    let Hydrated { candidate, post, .. } = hydrated;
    ServedCandidate {
        post_id: candidate.post_id,
        author_id: post.map(|post| post.author_id).or(candidate.listed_by).unwrap_or_default(),
        source: candidate.source.name().to_owned(),
        ..ServedCandidate::default()
    }
}

fn refused(removed: Removed) -> ServedCandidate {
    ServedCandidate { filter: removed.filter.to_owned(), ..candidate(removed.hydrated) }
}

/// One that failed brought nothing either, and is reported like one that was late.
fn source(report: &SourceReport) -> SlateSource {
    SlateSource {
        name: report.name.to_owned(),
        candidates: small(report.candidates),
        late: report.late || report.failed,
    }
}

/// Positions and counts are at most those of the candidates of a feed.
fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
