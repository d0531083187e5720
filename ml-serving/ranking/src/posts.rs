//! Single posts, as they are now.

use millrace_events::{LogTime, check_id};
use millrace_feature_store::views::{self, EngagementRecord, PostRecord};

use crate::{Error, Ranker, Result};

/// A post's totals, and who wrote it.
pub type Engagement = (Option<PostRecord>, EngagementRecord);

impl Ranker {
    /// The post `id`; a deleted one is there without its content.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] when `id` cannot be an id; [`crate::ErrorKind::Retry`] when the store cannot be read now.
    pub async fn post(&self, id: &str) -> Result<Option<PostRecord>> {
        check("post_id", id)?;
        let found = self.store.get(&[views::record(views::POST, id)]).await?.pop().flatten();
        Ok(found.map(|value| views::decode("post", value)).transpose()?)
    }

    /// The totals of the post `id`, zeros for one that nobody has reacted to, and the post when it is known.
    ///
    /// # Errors
    /// As of [`Ranker::post`].
    pub async fn engagement(&self, id: &str) -> Result<Engagement> {
        check("post_id", id)?;
        let keys = [views::record(views::POST, id), views::record(views::ENGAGEMENT, id)];
        let mut found = self.store.get(&keys).await?.into_iter();
        let post = found.next().flatten().map(|value| views::decode("post", value)).transpose()?;
        let totals = found.next().flatten().map(|value| views::decode("engagement", value)).transpose()?;
        Ok((post, totals.unwrap_or_default()))
    }
}

/// Checks an id that a caller sent as `name`.
pub(crate) fn check(name: &str, id: &str) -> Result<()> {
    check_id(id).map_err(|why| Error::invalid("invalid_id", format!("{name} {why}")))
}

/// The log time as microseconds, for ages; before anything was applied there is no now, and everything is new.
pub(crate) fn now_us(as_of: Option<LogTime>) -> i64 {
    as_of.map_or(i64::MIN, |t| t.0)
}
