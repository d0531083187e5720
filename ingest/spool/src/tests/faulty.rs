//! A log whose weather is made by the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use millrace_events::TopicPartition;
use millrace_log::toy::ToyLog;
use millrace_log::{Append, Bounds, Error, ErrorKind, EventLog, Offset, Record, Result};
use tokio::sync::watch;

/// How a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    /// As a log should be.
    Well,
    /// It says that it is away, and takes nothing.
    Away,
    /// It seems well, writes a part of what it is given and refuses.
    Refuses,
    /// It seems well, and answers as soon as it is otherwise.
    Hangs,
}

#[derive(Clone, Debug)]
pub(super) struct Faulty {
    pub(super) toy: ToyLog,
    weather: Arc<watch::Sender<Weather>>,
    records_max: Arc<AtomicUsize>,
}

impl Faulty {
    pub(super) fn new(partitions: u32) -> Self {
        let weather = Arc::new(watch::Sender::new(Weather::Well));
        Self { toy: ToyLog::new(partitions), weather, records_max: Arc::new(AtomicUsize::new(usize::MAX)) }
    }

    pub(super) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Refuses an append of more records for good.
    pub(super) fn take_at_most(&self, records: usize) {
        self.records_max.store(records, Ordering::Relaxed);
    }
}

#[async_trait]
impl EventLog for Faulty {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Offset>> {
        if batch.len() > self.records_max.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Invalid, "the append is too large for this log"));
        }
        let weather = *self.weather.subscribe().wait_for(|weather| *weather != Weather::Hangs).await.unwrap();
        match weather {
            Weather::Away => return Err(Error::new(ErrorKind::Retry, "the log is away")),
            Weather::Refuses => {
                let part = batch[..batch.len() / 2].to_vec();
                self.toy.append(part).await?;
                return Err(Error::new(ErrorKind::Retry, "the log refuses"));
            }
            Weather::Well | Weather::Hangs => {}
        }
        self.toy.append(batch).await
    }

    async fn read(&self, of: TopicPartition, from: Offset, bytes_max: usize) -> Result<Vec<Record>> {
        self.toy.read(of, from, bytes_max).await
    }

    async fn wait(&self, of: TopicPartition, from: Offset) -> Result<()> {
        self.toy.wait(of, from).await
    }

    async fn bounds(&self, of: TopicPartition) -> Result<Bounds> {
        self.toy.bounds(of).await
    }

    async fn trim(&self, of: TopicPartition, before: Offset) -> Result<()> {
        self.toy.trim(of, before).await
    }

    fn partitions(&self) -> u32 {
        self.toy.partitions()
    }

    fn healthy(&self) -> bool {
        *self.weather.borrow() != Weather::Away
    }
}
