//! The toys behind the seams, with a crash point before and after everything that has an effect, and the mutants.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_events::TopicPartition;
use millrace_feature_store::online::toy::ToyStore;
use millrace_feature_store::online::{Content, ListItem, ListKey, OnlineStore, OnlineWrite, RecordKey};
use millrace_log::toy::ToyLog;
use millrace_log::{Append, Bounds, EventLog, Offset, Record};
use millrace_pipelines::runner::Timer;
use millrace_pipelines::state::toy::ToyStateStore;
use millrace_pipelines::state::{PartitionState, StateStore, StateWrite};

use super::executor::yield_now;

/// Virtual time: a pause is over whenever the schedule says so.
pub(crate) struct SimTimer;

#[async_trait]
impl Timer for SimTimer {
    async fn pause(&self, _duration: Duration) {
        for _ in 0..4 {
            yield_now().await;
        }
    }
}

pub(crate) struct SimLog {
    pub(crate) log: ToyLog,
    /// The mutant that does not wait for what it published: state is committed before its outputs are durable.
    pub(crate) acknowledge_early: bool,
}

#[async_trait]
impl EventLog for SimLog {
    async fn append(&self, batch: Vec<Append>) -> millrace_log::Result<Vec<Offset>> {
        yield_now().await;
        if self.acknowledge_early {
            let answered = batch.len() as u64;
            let mut append = self.log.append(batch);
            std::future::poll_fn(|cx| {
                let _queued = append.as_mut().poll(cx);
                std::task::Poll::Ready(())
            })
            .await;
            return Ok((0..answered).collect());
        }
        let offsets = self.log.append(batch).await;
        yield_now().await;
        offsets
    }

    async fn read(&self, of: TopicPartition, from: Offset, bytes_max: usize) -> millrace_log::Result<Vec<Record>> {
        yield_now().await;
        self.log.read(of, from, bytes_max).await
    }

    async fn wait(&self, of: TopicPartition, from: Offset) -> millrace_log::Result<()> {
        self.log.wait(of, from).await
    }

    async fn bounds(&self, of: TopicPartition) -> millrace_log::Result<Bounds> {
        self.log.bounds(of).await
    }

    async fn trim(&self, of: TopicPartition, before: Offset) -> millrace_log::Result<()> {
        self.log.trim(of, before).await
    }

    fn partitions(&self) -> u32 {
        self.log.partitions()
    }
}

pub(crate) struct SimOnline(pub(crate) ToyStore);

#[async_trait]
impl OnlineStore for SimOnline {
    async fn write(&self, batch: Vec<OnlineWrite>) -> millrace_feature_store::Result<()> {
        yield_now().await;
        // A torn write: the store applies a batch piece by piece, and the process can die or freeze in between.
        let mut batch = batch;
        let rest = batch.split_off(batch.len() / 2);
        self.0.write(batch).await?;
        yield_now().await;
        self.0.write(rest).await?;
        yield_now().await;
        Ok(())
    }

    async fn get(&self, keys: &[RecordKey]) -> millrace_feature_store::Result<Vec<Option<Bytes>>> {
        self.0.get(keys).await
    }

    async fn heads(&self, lists: &[ListKey], limit: usize) -> millrace_feature_store::Result<Vec<Vec<ListItem>>> {
        self.0.heads(lists, limit).await
    }

    async fn page(
        &self,
        list: &ListKey,
        after: Option<&ListItem>,
        limit: usize,
    ) -> millrace_feature_store::Result<Vec<ListItem>> {
        self.0.page(list, after, limit).await
    }

    async fn scan(&self, after: Option<&Content>, limit: usize) -> millrace_feature_store::Result<Vec<Content>> {
        self.0.scan(after, limit).await
    }
}

pub(crate) struct SimStates(pub(crate) ToyStateStore);

struct SimPartition(Box<dyn PartitionState>);

#[async_trait]
impl StateStore for SimStates {
    async fn open(&self, of: TopicPartition) -> millrace_pipelines::Result<Box<dyn PartitionState>> {
        yield_now().await;
        Ok(Box::new(SimPartition(self.0.open(of).await?)))
    }

    async fn peek(
        &self,
        of: TopicPartition,
        after: &[u8],
        limit: usize,
    ) -> millrace_pipelines::Result<Vec<(Bytes, Bytes)>> {
        yield_now().await;
        self.0.peek(of, after, limit).await
    }
}

#[async_trait]
impl PartitionState for SimPartition {
    fn get(&self, key: &[u8]) -> millrace_pipelines::Result<Option<Bytes>> {
        self.0.get(key)
    }

    fn scan(&self, after: Option<&[u8]>, limit: usize) -> millrace_pipelines::Result<Vec<(Bytes, Bytes)>> {
        self.0.scan(after, limit)
    }

    fn offset(&self) -> Offset {
        self.0.offset()
    }

    async fn commit(&mut self, writes: Vec<StateWrite>, offset: Offset) -> millrace_pipelines::Result<()> {
        yield_now().await;
        self.0.commit(writes, offset).await?;
        yield_now().await;
        Ok(())
    }
}

/// Seams of one process.
pub(crate) fn seams(
    log: &ToyLog,
    online: &ToyStore,
    states: &ToyStateStore,
    acknowledge_early: bool,
) -> millrace_pipelines::runner::Seams {
    millrace_pipelines::runner::Seams {
        log: Arc::new(SimLog { log: log.clone(), acknowledge_early }),
        online: Arc::new(SimOnline(online.clone())),
        states: Arc::new(SimStates(states.clone())),
        timer: Arc::new(SimTimer),
        gate: Default::default(),
        archived: Default::default(),
    }
}
