//! The same commands without a server: reading a data directory that nobody has open, and a platform inside this process.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_collector::{Call, Collector, RefusalKind, Request};
use millrace_events::{Topic, TopicPartition};
use millrace_http::record_json;

use super::client::{Client, LogBounds, Server};
use super::sender::{Answer, Door, Progress};
use super::tail::{Page, Records};
use crate::assemble::{Status, Stores};
use crate::config::{Config, ConfigArgs};

/// How much one read takes, bytes.
const READ_BYTES: usize = 1024 * 1024;

/// The log of a data directory that no server has open.
pub(crate) struct LocalRecords {
    stores: Stores,
}

impl LocalRecords {
    /// The data directory, when no server answers and the directory is there.
    ///
    /// # Errors
    /// When the directory is there and cannot be opened.
    pub(crate) async fn when_no_server(server: &Server, data_dir: &Path) -> anyhow::Result<Option<Self>> {
        if !data_dir.join("db").is_dir() || Client::new(server)?.status().await.is_ok() {
            return Ok(None);
        }
        let args = ConfigArgs { data_dir: Some(data_dir.to_path_buf()), ..ConfigArgs::default() };
        Ok(Some(Self { stores: Stores::open(&Config::load(&args)?).await? }))
    }
}

#[async_trait]
impl Records for LocalRecords {
    async fn bounds(&self, topic: Topic) -> anyhow::Result<Vec<LogBounds>> {
        let mut found = Vec::new();
        for partition in 0..topic.partitions(self.stores.log.partitions()) {
            let bounds = self.stores.log.bounds(TopicPartition::new(topic, partition)).await?;
            found.push(LogBounds { start: bounds.start, end: bounds.end });
        }
        Ok(found)
    }

    async fn read(&self, topic: Topic, partition: u32, from: u64, limit: u64) -> anyhow::Result<Page> {
        let of = TopicPartition::new(topic, partition);
        let mut page = Page { next: from, ..Page::default() };
        for record in self.stores.log.read(of, from, READ_BYTES).await? {
            if page.lines.len() as u64 >= limit {
                break;
            }
            page.next = record.offset + 1;
            page.lines.push(record_json(of, &record));
        }
        Ok(page)
    }

    fn grows(&self) -> bool {
        false
    }
}

/// The collector of this process as a door.
pub(crate) struct LocalDoor {
    pub(crate) collector: Arc<Collector>,
    pub(crate) status: Arc<Status>,
    pub(crate) authorization: String,
}

#[async_trait]
impl Door for LocalDoor {
    async fn send(&self, call: Call, body: Bytes) -> Answer {
        let request = Request {
            authorization: Some(self.authorization.clone()),
            content_type: Some(call.media_type().to_owned()),
            body,
            ..Request::default()
        };
        match self.collector.collect(call, request).await {
            Ok(accepted) => Answer::Taken { rejected: accepted.rejected.into() },
            Err(refusal) if refusal.kind == RefusalKind::Unavailable => {
                let after = refusal.retry_after_s.map(|s| std::time::Duration::from_secs(s.into()));
                Answer::Again { after, why: refusal.message }
            }
            Err(refusal) => Answer::Refused { why: refusal.message },
        }
    }

    async fn progress(&self) -> anyhow::Result<Progress> {
        let report = millrace_http::StatusSource::status(self.status.as_ref()).await;
        let lag = report.jobs.values().flat_map(|partitions| partitions.values()).map(|job| job.lag).sum();
        Ok(Progress { caught_up: report.caught_up, lag })
    }
}
