//! Remembers what was served: records of slates on their way to the log, beside the answers and never in their way.
//!
//! A record waits in a bounded queue and is appended with others in one batch, keyed by the viewer. What finds the queue
//! full, or what the log refuses, is lost and counted: a slate is worth less than an answer, and repeating an append that
//! may have happened would record it twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millrace_events::{LogTime, ServedSlate, Topic, TopicPartition, partition_of};
use millrace_http::SlateSink;
use millrace_log::{Append, Clock, EventLog, VALUE_BYTES_MAX};
use prost::Message as _;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

/// The most records that wait.
const QUEUE_SLATES_MAX: usize = 1024;

/// The most candidates in all the records that wait; about 200 bytes each.
const QUEUE_CANDIDATES_MAX: usize = 100_000;

/// The most records of one append.
const BATCH_SLATES_MAX: usize = 64;

/// About the most bytes of one append, so that events waiting for the same disk do not wait long for slates.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// How many candidates are recorded in one second: about a megabyte of log, and a few percent of a core to archive. What is
/// served beyond that is served all the same; its record is dropped and counted.
const CANDIDATES_PER_SECOND_MAX: usize = 10_000;

/// The largest record. Candidates beyond it are left out, those that were not served first.
const RECORD_BYTES_MAX: usize = 512 * 1024;
const _: () = assert!(RECORD_BYTES_MAX < VALUE_BYTES_MAX, "the log takes every record");

/// What a record takes beside its candidates, at most: four ids, the sources and numbers.
const HEAD_BYTES_MAX: usize = 4 * 1024;

/// How long a shutdown waits until what was queued is in the log.
const FLUSH_GRACE: Duration = Duration::from_secs(2);

/// Takes what was served; a task of its own appends it. Records at a rate, the same for all.
pub(crate) struct Slates {
    /// The bits of a float.
    rate: AtomicU64,
    queue: mpsc::Sender<ServedSlate>,
    /// Candidates of the records that wait.
    waiting: AtomicUsize,
    /// Which second of the process it is, and the candidates recorded in it.
    second: AtomicU64,
    recorded: AtomicUsize,
    counts: Counts,
    stopping: Notify,
}

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    written: AtomicU64,
    left_out: AtomicU64,
}

/// What became of records since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlateCounts {
    /// Taken into the queue.
    pub(crate) accepted: u64,
    /// Not taken, because the queue was full or closed.
    pub(crate) dropped: u64,
    /// Taken and lost, because the log refused the append.
    pub(crate) failed: u64,
    /// Durable in the log.
    pub(crate) written: u64,
    /// Candidates that were left out of records which would have been too large.
    pub(crate) left_out: u64,
}

/// The task that appends.
pub(crate) struct SlateWriter {
    slates: Arc<Slates>,
    task: JoinHandle<()>,
}

impl Slates {
    /// Starts the task that appends to `log`, on the present runtime. `rate` is the share of slates that are recorded, from
    /// 0 to 1.
    pub(crate) fn start(log: Arc<dyn EventLog>, clock: Arc<dyn Clock>, rate: f64) -> (Arc<Self>, SlateWriter) {
        let (queue, waiting) = mpsc::channel(QUEUE_SLATES_MAX);
        let slates = Arc::new(Self {
            rate: AtomicU64::new(rate.to_bits()),
            queue,
            waiting: AtomicUsize::new(0),
            second: AtomicU64::new(0),
            recorded: AtomicUsize::new(0),
            counts: Counts::default(),
            stopping: Notify::new(),
        });
        let task = tokio::spawn(slates.clone().write_all(waiting, log, clock));
        (slates.clone(), SlateWriter { slates, task })
    }

    /// Records this share of slates from now on.
    pub(crate) fn set_rate(&self, rate: f64) {
        self.rate.store(rate.to_bits(), Ordering::Relaxed);
    }

    /// What became of records since the start.
    pub(crate) fn counts(&self) -> SlateCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { accepted, dropped, failed, written, left_out } = &self.counts;
        SlateCounts {
            accepted: of(accepted),
            dropped: of(dropped),
            failed: of(failed),
            written: of(written),
            left_out: of(left_out),
        }
    }

    /// Appends what comes until it is told to stop, and then what is still queued.
    async fn write_all(
        self: Arc<Self>,
        mut queue: mpsc::Receiver<ServedSlate>,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
    ) {
        let mut slates = Vec::with_capacity(BATCH_SLATES_MAX);
        let mut is_open = true;
        loop {
            tokio::select! {
                biased;
                () = self.stopping.notified(), if is_open => {
                    queue.close();
                    is_open = false;
                }
                taken = queue.recv_many(&mut slates, BATCH_SLATES_MAX) => {
                    if taken == 0 {
                        return;
                    }
                    self.write(&mut slates, log.as_ref(), clock.as_ref()).await;
                }
            }
        }
    }

    async fn write(&self, slates: &mut Vec<ServedSlate>, log: &dyn EventLog, clock: &dyn Clock) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for slate in slates.drain(..) {
            self.waiting.fetch_sub(slate.candidates.len(), Ordering::Relaxed);
            let append = self.encode(slate, log.partitions(), clock);
            bytes += append.value.len();
            batch.push(append);
            if bytes >= BATCH_BYTES_MAX {
                self.append(std::mem::take(&mut batch), log).await;
                bytes = 0;
            }
        }
        self.append(batch, log).await;
    }

    async fn append(&self, batch: Vec<Append>, log: &dyn EventLog) {
        if batch.is_empty() {
            return;
        }
        let records = batch.len() as u64;
        match log.append(batch).await {
            Ok(_) => self.counts.written.fetch_add(records, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(%error, records, "served slates are lost: the log did not take them");
                self.counts.failed.fetch_add(records, Ordering::Relaxed)
            }
        };
    }

    fn encode(&self, mut slate: ServedSlate, partitions: u32, clock: &dyn Clock) -> Append {
        let left_out = bound(&mut slate);
        self.counts.left_out.fetch_add(u64::from(left_out), Ordering::Relaxed);
        let partition = partition_of(slate.viewer.as_bytes(), Topic::ServedSlates.partitions(partitions));
        Append {
            to: TopicPartition::new(Topic::ServedSlates, partition),
            // A replay's clock knows only the events of this process: the answer may have been later than those.
            time: clock.stamp(slate.as_of_us.unwrap_or(LogTime::MIN.0)),
            key: Bytes::copy_from_slice(slate.viewer.as_bytes()),
            value: slate.encode_to_vec().into(),
        }
    }
}

impl SlateSink for Slates {
    fn wants(&self, _viewer: &str) -> Option<f64> {
        if f64::from_bits(self.rate.load(Ordering::Relaxed)) <= 0.0 {
            return None;
        }
        let second = crate::measure::stopwatch_us() / 1_000_000;
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.recorded.store(0, Ordering::Relaxed);
        }
        if self.recorded.load(Ordering::Relaxed) >= CANDIDATES_PER_SECOND_MAX {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(f64::from_bits(self.rate.load(Ordering::Relaxed)))
    }

    fn record(&self, slate: ServedSlate) {
        let candidates = slate.candidates.len();
        self.recorded.fetch_add(candidates, Ordering::Relaxed);
        let waiting = self.waiting.fetch_add(candidates, Ordering::Relaxed);
        let is_taken = waiting + candidates <= QUEUE_CANDIDATES_MAX && self.queue.try_send(slate).is_ok();
        if is_taken {
            self.counts.accepted.fetch_add(1, Ordering::Relaxed);
        } else {
            self.waiting.fetch_sub(candidates, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl SlateWriter {
    /// Takes no more records and waits, within a bound, until those that were taken are in the log.
    pub(crate) async fn stop(self) {
        self.stop_within(FLUSH_GRACE).await;
    }

    async fn stop_within(self, grace: Duration) {
        self.slates.stopping.notify_one();
        let abort = self.task.abort_handle();
        match tokio::time::timeout(grace, self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the writer of served slates panicked"),
            Err(_) => {
                abort.abort();
                let SlateCounts { accepted, failed, written, .. } = self.slates.counts();
                let records = accepted.saturating_sub(failed + written);
                tracing::warn!(records, "served slates may be lost: the log did not take them in time");
            }
        }
    }
}

/// Leaves out the last candidates until the record is below its bound, and says in it how many; returns that.
fn bound(slate: &mut ServedSlate) -> u32 {
    let mut bytes = HEAD_BYTES_MAX;
    let fits = |candidate: &&millrace_events::ServedCandidate| {
        let len = candidate.encoded_len();
        // The tag of the field, the length, and the candidate.
        bytes += 1 + prost::length_delimiter_len(len) + len;
        bytes <= RECORD_BYTES_MAX
    };
    let kept = slate.candidates.iter().take_while(fits).count();
    let left_out = u32::try_from(slate.candidates.len() - kept).unwrap_or(u32::MAX);
    slate.candidates.truncate(kept);
    slate.left_out = slate.left_out.saturating_add(left_out);
    left_out
}

#[cfg(test)]
mod tests;
