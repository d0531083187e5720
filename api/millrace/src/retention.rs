//! Drops what the log need not keep: older than asked, applied by every job and archived, all three.

use std::sync::Arc;
use std::time::Duration;

use millrace_events::{LogTime, Topic, TopicPartition};
use millrace_log::{Clock, EventLog, Offset};
use millrace_pipelines::archive::Archived;
use millrace_pipelines::runner::Board;

use crate::config::Retention;

/// How often the log is looked through for what has expired.
const EVERY: Duration = Duration::from_secs(60);

const DAY_US: f64 = 24.0 * 3_600.0 * 1e6;

/// Trims the topics of one log.
pub(crate) struct Trimmer {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The first record of a partition that a job or the archive has yet to read.
    pub(crate) needed_from: Box<dyn Fn(TopicPartition) -> Offset + Send + Sync>,
    pub(crate) retention: Box<dyn Fn() -> Retention + Send + Sync>,
}

/// The first record that a job or the archive has yet to read, by what they say of themselves.
pub(crate) fn needed_from(board: Board, archived: Archived) -> Box<dyn Fn(TopicPartition) -> Offset + Send + Sync> {
    Box::new(move |of| {
        let committed = || board.get(of).map_or(0, |status| status.committed);
        match of.topic {
            Topic::Actions => committed().min(archived.get(of)),
            Topic::UserEvents | Topic::ReactionEvents | Topic::TagEvents => committed(),
            Topic::DeadLetters | Topic::ServedSlates => archived.get(of),
        }
    })
}

impl Trimmer {
    /// Trims now and then, until it is dropped.
    pub(crate) async fn run(self) {
        let mut every = tokio::time::interval(EVERY);
        loop {
            every.tick().await;
            if let Err(error) = self.trim().await {
                tracing::warn!(%error, "the log could not be trimmed; the next round tries again");
            }
        }
    }

    /// One look through every partition.
    async fn trim(&self) -> millrace_log::Result<()> {
        for topic in Topic::ALL {
            let Some(days) = self.days(topic) else { continue };
            // A float to an integer saturates: what is kept for longer than time lasts is kept.
            let before = LogTime(self.clock.now().0.saturating_sub((days * DAY_US) as i64));
            for partition in 0..topic.partitions(self.log.partitions()) {
                let of = TopicPartition::new(topic, partition);
                let end = self.find(of, before).await?.min((self.needed_from)(of));
                if end > self.log.bounds(of).await?.start {
                    tracing::info!(partition = %of, end, "trimming what has expired");
                    self.log.trim(of, end).await?;
                }
            }
        }
        Ok(())
    }

    fn days(&self, topic: Topic) -> Option<f64> {
        let retention = (self.retention)();
        match topic {
            Topic::ServedSlates => Some(retention.slate_days),
            _ => retention.log_days,
        }
    }

    /// The first record that is not older than `before`: log time never falls, so it is searched for by halves.
    async fn find(&self, of: TopicPartition, before: LogTime) -> millrace_log::Result<Offset> {
        let bounds = self.log.bounds(of).await?;
        let (mut low, mut high) = (bounds.start, bounds.end);
        while low < high {
            let middle = low + (high - low) / 2;
            let is_old = self.log.read(of, middle, 1).await?.first().is_some_and(|record| record.time < before);
            if is_old {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

#[cfg(test)]
mod tests;
