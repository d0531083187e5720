//! What rises: the lists of all partitions as one. Each partition lists its own tags and posts, so nothing is counted
//! here.

use std::cmp::Ordering;

use millrace_events::{LogTime, Window};
use millrace_feature_store::views::{self, PostRecord, TrendItem, TrendKind, TrendsRecord};

use crate::{LIMIT_MAX, Ranker, Result};

/// What scores at least this much is called rising: at most one in a thousand evaluations of something whose rate is
/// at most twice that of its past scores as much.
pub const RISING_SCORE: f64 = 3.0;

/// What rises over one window.
#[derive(Clone, Debug, PartialEq)]
pub struct Trends {
    /// The log time, a whole second, up to which every partition was brought up to date; `None` until each was once.
    /// A partition may be ahead of it by what its sources are apart, seconds at most while events come in, and is not
    /// at rest.
    pub as_of: Option<LogTime>,
    /// What rises most comes first.
    pub items: Vec<Trend>,
}

/// A tag or a post that rises.
#[derive(Clone, Debug, PartialEq)]
pub struct Trend {
    /// The tag, or the post id.
    pub id: String,
    /// Who wrote the post; `None` for a tag.
    pub author_id: Option<String>,
    /// How surprising the count is: −log10 of a bound on the probability to count as much without a rise.
    pub score: f64,
    /// Events within the window.
    pub count: u64,
    /// How many its own past leads to expect.
    pub baseline: f64,
}

impl Trend {
    /// Whether it may be called rising, see [`RISING_SCORE`].
    pub fn is_rising(&self) -> bool {
        self.score >= RISING_SCORE
    }
}

impl Ranker {
    /// The tags that rise most, at most `limit` and [`LIMIT_MAX`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Retry`] when the online store cannot be read now.
    pub async fn trending_tags(&self, window: Window, limit: usize) -> Result<Trends> {
        let (as_of, mut items) = self.listed(TrendKind::Tags, window).await?;
        items.truncate(limit.min(LIMIT_MAX));
        let trend = |item| trend(item, None);
        Ok(Trends { as_of, items: items.into_iter().map(trend).collect() })
    }

    /// The posts that rise most, at most `limit` and [`LIMIT_MAX`]; not what was deleted, nor what was never created.
    ///
    /// # Errors
    /// As of [`Ranker::trending_tags`].
    pub async fn trending_posts(&self, window: Window, limit: usize) -> Result<Trends> {
        let limit = limit.min(LIMIT_MAX);
        let (as_of, listed) = self.listed(TrendKind::Posts, window).await?;
        let mut items = Vec::with_capacity(limit);
        let mut listed = listed.into_iter();
        while items.len() < limit {
            let page: Vec<_> = listed.by_ref().take(limit).collect();
            if page.is_empty() {
                break;
            }
            let keys: Vec<_> = page.iter().map(|item| views::record(views::POST, &item.id)).collect();
            for (item, value) in page.into_iter().zip(self.store.get(&keys).await?) {
                let Some(value) = value else { continue };
                let post: PostRecord = views::decode("post", value)?;
                if !post.deleted && items.len() < limit {
                    items.push(trend(item, Some(post.author_id)));
                }
            }
        }
        Ok(Trends { as_of, items })
    }

    /// Everything that is listed, best first.
    async fn listed(&self, kind: TrendKind, window: Window) -> Result<(Option<LogTime>, Vec<TrendItem>)> {
        let keys: Vec<_> = (0..self.partitions).map(|partition| views::trends_key(kind, window, partition)).collect();
        let mut as_of = Some(LogTime::MAX);
        let mut items = Vec::new();
        for value in self.store.get(&keys).await? {
            let record: Option<TrendsRecord> = value.map(|value| views::decode("trends", value)).transpose()?;
            as_of = as_of.min(record.as_ref().map(|record| LogTime(record.clock_us)));
            items.extend(record.unwrap_or_default().items);
        }
        items.sort_unstable_by(best_first);
        Ok((as_of, items))
    }
}

fn best_first(a: &TrendItem, b: &TrendItem) -> Ordering {
    b.score.total_cmp(&a.score).then_with(|| b.count.cmp(&a.count)).then_with(|| a.id.cmp(&b.id))
}

fn trend(item: TrendItem, author_id: Option<String>) -> Trend {
    let TrendItem { id, count, baseline, score } = item;
    Trend { id, author_id, score, count, baseline }
}

#[cfg(test)]
mod tests;
