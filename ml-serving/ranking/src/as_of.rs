//! How far the present is complete: the least clock over every partition that serving reads the effects of.

use millrace_events::{LogTime, Topic, TopicPartition};
use millrace_feature_store::OnlineStore;
use millrace_feature_store::views::{self, ProgressRecord};

use crate::{Ranker, Result};

impl Ranker {
    /// The log time up to which answers are complete; `None` until every partition has been applied once.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Retry`] when the online store cannot be read now.
    pub async fn as_of(&self) -> Result<Option<LogTime>> {
        as_of(self.store.as_ref(), self.partitions).await
    }
}

pub(crate) async fn as_of(store: &dyn OnlineStore, partitions: u32) -> Result<Option<LogTime>> {
    let keys: Vec<_> = Topic::DERIVED
        .into_iter()
        .flat_map(|topic| (0..topic.partitions(partitions)).map(move |p| TopicPartition::new(topic, p)))
        .map(views::progress_key)
        .collect();
    let mut least: Option<i64> = None;
    for value in store.get(&keys).await? {
        let Some(value) = value else { return Ok(None) };
        let progress: ProgressRecord = views::decode("progress", value)?;
        least = Some(least.map_or(progress.clock_us, |l| l.min(progress.clock_us)));
    }
    Ok(least.map(LogTime))
}
