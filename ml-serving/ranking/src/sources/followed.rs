//! What the followed authors wrote last, pulled from their own lists.

use std::cmp::Ordering;

use millrace_feature_store::views;
use millrace_feature_store::{ListItem, OnlineStore};

use super::{Candidate, Source};
use crate::{FOLLOWED_CANDIDATES_MAX, Result};

/// About how many list items one pull reads; with more authors each gives fewer.
const POSTS_READ_MAX: usize = 10_000;
/// What every author gives at least: a viewer who follows very many still sees a short history of each.
const PER_AUTHOR_MIN: usize = 5;

/// The newest posts of `authors`, newest first.
pub(crate) async fn pull(store: &dyn OnlineStore, authors: &[String]) -> Result<Vec<Candidate>> {
    if authors.is_empty() {
        return Ok(Vec::new());
    }
    let per_author = (POSTS_READ_MAX / authors.len()).clamp(PER_AUTHOR_MIN, FOLLOWED_CANDIDATES_MAX);
    let lists: Vec<_> = authors.iter().map(|author| views::list(views::AUTHOR_POSTS, author)).collect();
    let heads = store.heads(&lists, per_author).await?;

    let mut newest: Vec<Listed> = Vec::with_capacity(heads.iter().map(Vec::len).sum());
    for (author, head) in heads.into_iter().enumerate() {
        newest.extend(head.into_iter().map(|item| Listed { item, author }));
    }
    if newest.len() > FOLLOWED_CANDIDATES_MAX {
        newest.select_nth_unstable_by(FOLLOWED_CANDIDATES_MAX, Listed::newest_first);
        newest.truncate(FOLLOWED_CANDIDATES_MAX);
    }
    newest.sort_unstable_by(Listed::newest_first);

    // Two authors may list one id when somebody created a post under an id that was taken; the foreign one is filtered
    // later, so both stay.
    let candidates = newest.into_iter().filter_map(|Listed { item, author }| {
        // Members are ids, checked to be UTF-8 when they came in.
        let post_id = String::from_utf8(item.member.into()).ok()?;
        let listed_by = Some(authors[author].clone());
        Some(Candidate { post_id, source: Source::Follows, listed_by, listed_us: item.score })
    });
    Ok(candidates.collect())
}

/// An item of an author's list, and whose list it is.
struct Listed {
    item: ListItem,
    author: usize,
}

impl Listed {
    fn newest_first(&self, other: &Self) -> Ordering {
        let by_time = other.item.score.cmp(&self.item.score);
        by_time.then_with(|| self.item.member.cmp(&other.item.member)).then_with(|| self.author.cmp(&other.author))
    }
}
