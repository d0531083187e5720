//! A log in memory whose disk is in the hands of the test: for simulations and for the tests of other crates.
//!
//! Left alone ([`ToyLog::new`]) every append is durable at once. In the hands of a simulation ([`ToyLog::manual`]) appends
//! wait until [`ToyLog::step`] writes a random piece of a random partition, acknowledgements come back in random order,
//! and [`ToyLog::crash`] drops what was never synced, keeping a random prefix of each partition's queue.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use async_trait::async_trait;
use millrace_events::{LogTime, Topic, TopicPartition};

use crate::{Append, Bounds, Error, ErrorKind, EventLog, Offset, Record, Result, VALUE_BYTES_MAX};

/// See the module. Clones share the log.
#[derive(Clone, Debug)]
pub struct ToyLog {
    inner: Arc<Mutex<Inner>>,
    /// Who appends through this handle: a crash takes the unsynced appends of one process.
    process: u32,
}

#[derive(Debug)]
struct Inner {
    partitions: u32,
    manual: bool,
    parts: BTreeMap<TopicPartition, Part>,
    calls: HashMap<u64, Call>,
    answerable: Vec<u64>,
    next_call: u64,
    fail_next: u32,
    healthy: bool,
}

#[derive(Debug, Default)]
struct Part {
    start: Offset,
    durable: Vec<Record>,
    queue: VecDeque<Queued>,
    waiting: Vec<Waker>,
}

#[derive(Debug)]
struct Queued {
    process: u32,
    call: u64,
    index: usize,
    append: Append,
}

#[derive(Debug)]
struct Call {
    process: u32,
    offsets: Vec<Option<Offset>>,
    answered: bool,
    waker: Option<Waker>,
}

impl ToyLog {
    /// A log whose appends are durable at once.
    pub fn new(partitions: u32) -> Self {
        Self::with_mode(partitions, false)
    }

    /// A log that does nothing until it is told to: see [`ToyLog::step`].
    pub fn manual(partitions: u32) -> Self {
        Self::with_mode(partitions, true)
    }

    fn with_mode(partitions: u32, manual: bool) -> Self {
        let mut parts = BTreeMap::new();
        for topic in Topic::ALL {
            for partition in 0..topic.partitions(partitions) {
                parts.insert(TopicPartition::new(topic, partition), Part::default());
            }
        }
        let inner = Inner {
            partitions,
            manual,
            parts,
            calls: HashMap::new(),
            answerable: Vec::new(),
            next_call: 0,
            fail_next: 0,
            healthy: true,
        };
        Self { inner: Arc::new(Mutex::new(inner)), process: 0 }
    }

    /// The same log as another process sees it.
    pub fn as_process(&self, process: u32) -> Self {
        Self { inner: self.inner.clone(), process }
    }

    /// Makes the next `count` appends fail with [`ErrorKind::Retry`] after writing a part of their records.
    pub fn fail_next(&self, count: u32) {
        self.lock().fail_next = count;
    }

    /// What [`EventLog::healthy`] answers from now on. Appends go on as they did.
    pub fn set_healthy(&self, healthy: bool) {
        self.lock().healthy = healthy;
    }

    /// Does one thing that the disk or the network has to do, chosen by `random`: writes a piece of one partition's queue,
    /// or answers one call whose records are all durable. False when there is nothing to do.
    pub fn step(&self, mut random: impl FnMut(usize) -> usize) -> bool {
        let mut inner = self.lock();
        let busy: Vec<TopicPartition> =
            inner.parts.iter().filter(|(_, part)| !part.queue.is_empty()).map(|(of, _)| *of).collect();
        let choices = busy.len() + inner.answerable.len();
        if choices == 0 {
            return false;
        }
        let choice = random(choices);
        if let Some(of) = busy.get(choice) {
            let queued = inner.parts.get(of).map_or(0, |part| part.queue.len());
            let count = 1 + random(queued);
            inner.write(*of, count);
        } else {
            let call = inner.answerable.swap_remove(choice - busy.len());
            inner.answer(call);
        }
        true
    }

    /// The process dies: of its unsynced appends a random prefix per partition is kept, the rest is gone.
    pub fn crash(&self, process: u32, mut random: impl FnMut(usize) -> usize) {
        let mut inner = self.lock();
        let partitions: Vec<TopicPartition> = inner.parts.keys().copied().collect();
        for of in partitions {
            let Some(part) = inner.parts.get_mut(&of) else { continue };
            let mine = part.queue.iter().filter(|q| q.process == process).count();
            let mut keep = if mine == 0 { 0 } else { random(mine + 1) };
            part.queue.retain(|queued| {
                if queued.process != process {
                    return true;
                }
                let kept = keep > 0;
                keep = keep.saturating_sub(1);
                kept
            });
        }
        let dead: Vec<u64> = inner.calls.iter().filter(|(_, c)| c.process == process).map(|(id, _)| *id).collect();
        for id in dead {
            inner.calls.remove(&id);
            inner.answerable.retain(|other| *other != id);
        }
    }

    /// How many records are durable.
    pub fn written(&self) -> usize {
        self.lock().parts.values().map(|part| part.durable.len()).sum()
    }

    /// Everything durable in one partition.
    pub fn records(&self, of: TopicPartition) -> Vec<Record> {
        self.lock().parts.get(&of).map(|part| part.durable.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write(&mut self, of: TopicPartition, count: usize) {
        let Some(part) = self.parts.get_mut(&of) else { return };
        for _ in 0..count {
            let Some(queued) = part.queue.pop_front() else { break };
            let offset = part.start + part.durable.len() as u64;
            let time = part.durable.last().map_or(queued.append.time, |last| last.time.max(queued.append.time));
            part.durable.push(Record { offset, time, key: queued.append.key, value: queued.append.value });
            // The call is unknown when its process died: the record is durable, nobody hears of it.
            if let Some(call) = self.calls.get_mut(&queued.call) {
                call.offsets[queued.index] = Some(offset);
                if call.offsets.iter().all(Option::is_some) {
                    self.answerable.push(queued.call);
                }
            }
        }
        part.waiting.drain(..).for_each(Waker::wake);
    }

    fn answer(&mut self, id: u64) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.answered = true;
            if let Some(waker) = call.waker.take() {
                waker.wake();
            }
        }
    }

    fn part(&self, of: TopicPartition) -> Result<&Part> {
        self.parts.get(&of).ok_or_else(|| Error::new(ErrorKind::Invalid, format!("there is no partition {of}")))
    }
}

#[async_trait]
impl EventLog for ToyLog {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Offset>> {
        let id = {
            let mut inner = self.lock();
            for append in &batch {
                inner.part(append.to)?;
                if append.value.len() > VALUE_BYTES_MAX {
                    return Err(Error::new(ErrorKind::Invalid, "cannot append a value over the bound"));
                }
            }
            if batch.is_empty() {
                return Ok(Vec::new());
            }
            let failing = inner.fail_next > 0;
            inner.fail_next = inner.fail_next.saturating_sub(1);
            let id = inner.next_call;
            inner.next_call += 1;
            let count = if failing { batch.len() / 2 } else { batch.len() };
            let offsets = vec![None; batch.len()];
            inner.calls.insert(id, Call { process: self.process, offsets, answered: false, waker: None });
            let mut touched = Vec::new();
            for (index, append) in batch.into_iter().take(count).enumerate() {
                let of = append.to;
                if let Some(part) = inner.parts.get_mut(&of) {
                    part.queue.push_back(Queued { process: self.process, call: id, index, append });
                }
                touched.push(of);
            }
            if !inner.manual {
                for of in touched {
                    inner.write(of, usize::MAX);
                }
                inner.answerable.clear();
                inner.answer(id);
            }
            if failing {
                inner.calls.remove(&id);
                return Err(Error::new(ErrorKind::Retry, "the toy log was told to fail"));
            }
            id
        };
        poll_fn(|cx| {
            let mut inner = self.lock();
            match inner.calls.get_mut(&id) {
                Some(call) if !call.answered => {
                    call.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                Some(_) => {
                    let call = inner.calls.remove(&id);
                    Poll::Ready(Ok(call.map(|c| c.offsets.into_iter().flatten().collect()).unwrap_or_default()))
                }
                None => Poll::Ready(Err(Error::new(ErrorKind::Retry, "the process of this append has crashed"))),
            }
        })
        .await
    }

    async fn read(&self, of: TopicPartition, from: Offset, bytes_max: usize) -> Result<Vec<Record>> {
        let inner = self.lock();
        let part = inner.part(of)?;
        let end = part.start + part.durable.len() as u64;
        if from < part.start || from > end {
            let message = format!("cannot read {of} from {from}: it holds {} to {end}", part.start);
            return Err(Error::new(ErrorKind::OutOfRange, message));
        }
        let mut bytes = 0;
        let skip = usize::try_from(from - part.start).unwrap_or(usize::MAX);
        let mut taken = Vec::new();
        for record in part.durable.iter().skip(skip) {
            bytes += record.key.len() + record.value.len();
            if !taken.is_empty() && bytes > bytes_max {
                break;
            }
            taken.push(record.clone());
        }
        Ok(taken)
    }

    async fn wait(&self, of: TopicPartition, from: Offset) -> Result<()> {
        poll_fn(|cx| {
            let mut inner = self.lock();
            match inner.parts.get_mut(&of) {
                Some(part) if part.start + part.durable.len() as u64 > from => Poll::Ready(Ok(())),
                Some(part) => {
                    part.waiting.push(cx.waker().clone());
                    Poll::Pending
                }
                None => Poll::Ready(Err(Error::new(ErrorKind::Invalid, format!("there is no partition {of}")))),
            }
        })
        .await
    }

    async fn bounds(&self, of: TopicPartition) -> Result<Bounds> {
        let inner = self.lock();
        let part = inner.part(of)?;
        let end = part.start + part.durable.len() as u64;
        Ok(Bounds { start: part.start, end, last_time: part.durable.last().map(|r| r.time) })
    }

    async fn trim(&self, of: TopicPartition, before: Offset) -> Result<()> {
        let mut inner = self.lock();
        inner.part(of)?;
        if let Some(part) = inner.parts.get_mut(&of) {
            let count = usize::try_from(before.saturating_sub(part.start)).unwrap_or(usize::MAX);
            // The newest record stays, so that log time goes on from it.
            let count = count.min(part.durable.len().saturating_sub(1));
            part.durable.drain(..count);
            part.start += count as u64;
        }
        Ok(())
    }

    fn healthy(&self) -> bool {
        self.lock().healthy
    }

    fn partitions(&self) -> u32 {
        self.lock().partitions
    }
}

/// The log time that toys and tests stamp: one second after the epoch per unit.
pub fn seconds(s: i64) -> LogTime {
    LogTime(s * 1_000_000)
}
