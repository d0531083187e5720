//! Sends calls through the front door, each exactly once as far as counting goes, in order for each key.
//!
//! One request is on its way at a time (per lane, when there are several): a batch that failed is repeated with the same bytes
//! before anything after it is sent. Two requests at once would be faster and would let a like overtake its unlike when the
//! first of them has to be repeated.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use async_trait::async_trait;
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use millrace_collector::Call;
use millrace_events::{Micros, PARTITIONS_MAX, partition_of};
use millrace_simulator::Outgoing;
use millrace_simulator::import::ImportError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::note;

/// The most calls in one request.
pub(crate) const BATCH_CALLS_MAX: usize = 500;

/// The largest request, in bytes: below what the front door takes, as Segment's own clients stay.
pub(crate) const BATCH_BYTES_MAX: usize = 480_000;

/// The largest call that is sent, in bytes. What is larger would be refused with its whole batch.
const CALL_BYTES_MAX: usize = 256 * 1024;

/// The most lanes.
const LANES_MAX: u32 = 64;

/// Batches that wait for their lane.
const WAITING_BATCHES_MAX: usize = 2;

/// The first wait after a failure; each further one is twice as long, up to [`BACKOFF_MAX`].
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// The longest wait between two tries, unless the server asks for more.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The longest wait that a server can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// How often plain progress lines come.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// How often `--wait` asks.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// What one batch may span when calls wait until they are due: no call waits longer than this for others. Microseconds.
const LIVE_SPAN_US: Micros = 100_000;

/// Bad lines that are named one by one.
const BAD_LINES_SHOWN: u64 = 5;

const HEAD: &[u8] = b"{\"batch\":[";
const TAIL: &[u8] = b"]}";

/// What takes batches: a server over HTTP, or the collector of this very process.
#[async_trait]
pub(crate) trait Door: Send + Sync + 'static {
    /// Offers the body of a call. The same bytes may be offered again until they are taken.
    async fn send(&self, call: Call, body: Bytes) -> Answer;

    /// Offers `{"batch":[…]}`.
    async fn batch(&self, body: Bytes) -> Answer {
        self.send(Call::Batch, body).await
    }

    /// How far what was taken is.
    async fn progress(&self) -> anyhow::Result<Progress>;
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is durable; `rejected` of its calls went to `dead-letters`.
    Taken {
        /// How many.
        rejected: u64,
    },
    /// It may or may not be: offer it again.
    Again {
        /// Not before this.
        after: Option<Duration>,
        /// For people.
        why: String,
    },
    /// It never will be.
    Refused {
        /// For people.
        why: String,
    },
}

/// How far what was taken is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Everything taken is visible everywhere.
    pub(crate) caught_up: bool,
    /// Records that some job has yet to apply.
    pub(crate) lag: u64,
}

/// How to send.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Send at most this many events per second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Send this many at a time side by side; order is kept for each user, not between users
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(LANES_MAX)))]
    pub(crate) lanes: u32,
    /// The most events in one request
    #[arg(long, value_name = "N", default_value_t = BATCH_CALLS_MAX as u32, value_parser = clap::value_parser!(u32).range(1..=BATCH_CALLS_MAX as i64))]
    pub(crate) batch: u32,
    /// Give up when the server took nothing for this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) give_up_after: u64,
    /// Wait until everything sent is visible in every answer
    #[arg(long)]
    pub(crate) wait: bool,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Report {
    /// Calls that are durable, dead letters included.
    pub(crate) sent: u64,
    /// Those of them that went to `dead-letters`.
    pub(crate) rejected: u64,
    /// Lines that were no calls and were not sent.
    pub(crate) skipped: u64,
    /// Requests that had to be repeated.
    pub(crate) retries: u64,
    /// How long it took, in seconds.
    pub(crate) seconds: f64,
}

impl Report {
    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let accepted = self.sent - self.rejected;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.sent as f64 / self.seconds.max(0.001);
        let mut line =
            format!("sent {} events, accepted {accepted}, {rate:.0} events/s, {:.1} s", self.sent, self.seconds);
        for (count, what) in [
            (self.rejected, "rejected (see `millrace dlq list`)"),
            (self.skipped, "lines skipped"),
            (self.retries, "requests repeated"),
        ] {
            if count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
        }
        line
    }

    /// The same for scripts.
    pub(crate) fn json(&self) -> String {
        serde_json::json!({"sent": self.sent, "accepted": self.sent - self.rejected, "rejected": self.rejected,
            "skipped": self.skipped, "retries": self.retries, "seconds": self.seconds})
        .to_string()
    }

    /// Every call of the input was accepted.
    pub(crate) fn is_complete(&self) -> bool {
        self.rejected == 0 && self.skipped == 0
    }
}

/// Sends all of `source`; `total` is for the progress display. With `live_from` each call waits until it is due, as if that
/// moment were now.
///
/// # Errors
/// When the input cannot be read, the server refuses, or it took nothing for too long. What was taken until then stays.
pub(crate) async fn send(
    door: Arc<dyn Door>,
    source: impl Iterator<Item = Result<Outgoing, ImportError>> + Send + 'static,
    options: &Options,
    live_from: Option<Micros>,
    total: Option<u64>,
) -> anyhow::Result<Report> {
    let lanes = options.lanes.clamp(1, LANES_MAX.min(PARTITIONS_MAX));
    let cut = Cut { calls: batch_calls(options), span_us: live_from.map(|_| LIVE_SPAN_US) };
    let shared = Arc::new(Shared {
        door,
        pace: Pace { start: Instant::now(), rate: options.rate, live_from, scheduled: AtomicU64::new(0) },
        give_up_after: Duration::from_secs(options.give_up_after),
        display: Display::new(total),
        sent: AtomicU64::new(0),
        rejected: AtomicU64::new(0),
        retries: AtomicU64::new(0),
    });
    let mut queues = Vec::new();
    let mut tasks = JoinSet::new();
    for _ in 0..lanes {
        let (queue, waiting) = mpsc::channel(WAITING_BATCHES_MAX);
        queues.push(queue);
        tasks.spawn(lane(Arc::clone(&shared), waiting));
    }
    let reader = tokio::task::spawn_blocking(move || fill(source, &queues, cut));
    let mut failed = None;
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended.context("a lane broke down")? {
            // The others lose their place in the queue with this, and the reader its reason to read.
            tasks.abort_all();
            failed.get_or_insert(error);
        }
        if failed.is_some() {
            break;
        }
    }
    tasks.shutdown().await;
    let read = reader.await.context("the reader broke down")?;
    shared.display.end();
    if let Some(error) = failed {
        return Err(error);
    }
    let skipped = read?;
    let report = Report {
        sent: shared.sent.load(Ordering::Relaxed),
        rejected: shared.rejected.load(Ordering::Relaxed),
        skipped,
        retries: shared.retries.load(Ordering::Relaxed),
        seconds: shared.pace.start.elapsed().as_secs_f64(),
    };
    if options.wait {
        wait(shared.door.as_ref(), shared.give_up_after).await?;
    }
    Ok(report)
}

/// Waits until `door` has caught up; gives up when nothing moves for `give_up_after`.
///
/// # Errors
/// When it gives up.
pub(crate) async fn wait(door: &dyn Door, give_up_after: Duration) -> anyhow::Result<()> {
    let mut moved = Instant::now();
    let mut said = Instant::now();
    let mut last = None;
    loop {
        // A server that is restarting is waited for like one that is busy.
        let now = door.progress().await;
        match &now {
            Ok(progress) if progress.caught_up => return Ok(()),
            Ok(progress) if last != Some(progress.lag) => {
                last = Some(progress.lag);
                moved = Instant::now();
            }
            _ => {}
        }
        if moved.elapsed() >= give_up_after {
            return match now {
                Ok(progress) => {
                    bail!(
                        "nothing has moved for {1} s, with {0} records to go: `millrace status` says what waits",
                        progress.lag,
                        give_up_after.as_secs()
                    )
                }
                Err(error) => Err(error),
            };
        }
        if said.elapsed() >= PLAIN_EVERY {
            said = Instant::now();
            note(&format!(
                "waiting: {} records to go",
                last.map_or_else(|| "unknown".to_owned(), |lag| lag.to_string())
            ));
        }
        sleep(POLL_EVERY).await;
    }
}

struct Shared {
    door: Arc<dyn Door>,
    pace: Pace,
    give_up_after: Duration,
    display: Display,
    sent: AtomicU64,
    rejected: AtomicU64,
    retries: AtomicU64,
}

struct Batch {
    body: Bytes,
    calls: u64,
    /// When the last of the calls is due.
    due_us: Option<Micros>,
}

async fn lane(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Batch>) -> anyhow::Result<()> {
    while let Some(batch) = waiting.recv().await {
        sleep_until(shared.pace.next(batch.calls, batch.due_us)).await;
        let rejected = deliver(&shared, &batch).await?;
        shared.rejected.fetch_add(rejected, Ordering::Relaxed);
        let sent = shared.sent.fetch_add(batch.calls, Ordering::Relaxed) + batch.calls;
        shared.display.show(sent, shared.rejected.load(Ordering::Relaxed), shared.pace.start);
    }
    Ok(())
}

/// Offers one batch until it is taken.
async fn deliver(shared: &Shared, batch: &Batch) -> anyhow::Result<u64> {
    let mut backoff = BACKOFF_FIRST;
    let mut first_failure = None;
    loop {
        let (after, why) = match shared.door.batch(batch.body.clone()).await {
            Answer::Taken { rejected } => return Ok(rejected),
            Answer::Refused { why } => bail!("the server refuses the events: {why}"),
            Answer::Again { after, why } => (after, why),
        };
        shared.retries.fetch_add(1, Ordering::Relaxed);
        let since = *first_failure.get_or_insert_with(Instant::now);
        if since.elapsed() >= shared.give_up_after {
            return Err(anyhow!(why)).with_context(|| {
                format!(
                    "gave up after {} s in which the server took nothing; run the same command again to go on, nothing is counted twice",
                    since.elapsed().as_secs()
                )
            });
        }
        shared.display.trouble(&why);
        sleep(after.unwrap_or(backoff).clamp(backoff, RETRY_AFTER_MAX)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// When a batch is full.
#[derive(Clone, Copy)]
struct Cut {
    calls: usize,
    /// The time that one batch may span, so that what is sent live does not come in jerks.
    span_us: Option<Micros>,
}

/// At a low rate batches are small, so that events come evenly: about twenty requests a second.
fn batch_calls(options: &Options) -> usize {
    let most = options.batch as usize;
    options.rate.map_or(most, |rate| (rate as usize / 20).clamp(1, most))
}

struct Filling {
    body: Vec<u8>,
    calls: u64,
    /// When the first and the last of the calls are due.
    first_us: Option<Micros>,
    last_us: Option<Micros>,
}

impl Filling {
    fn new() -> Self {
        Self { body: HEAD.to_vec(), calls: 0, first_us: None, last_us: None }
    }

    fn take(&mut self) -> Batch {
        let mut full = std::mem::replace(self, Self::new());
        full.body.extend_from_slice(TAIL);
        Batch { body: full.body.into(), calls: full.calls, due_us: full.last_us }
    }

    fn is_full_before(&self, call: &Outgoing, cut: Cut) -> bool {
        if self.calls == 0 {
            return false;
        }
        self.spans_more(call, cut)
            || self.calls as usize >= cut.calls
            || self.body.len() + call.json.len() + 1 + TAIL.len() > BATCH_BYTES_MAX
    }

    /// `call` is so much later than the first one here that this batch goes without it.
    fn spans_more(&self, call: &Outgoing, cut: Cut) -> bool {
        match (cut.span_us, self.first_us, call.due_us) {
            (Some(span), Some(first), Some(due)) => due.saturating_sub(first) > span,
            _ => false,
        }
    }

    fn push(&mut self, call: &Outgoing) {
        if self.calls > 0 {
            self.body.push(b',');
        }
        self.body.extend_from_slice(&call.json);
        self.calls += 1;
        self.first_us = self.first_us.or(call.due_us);
        self.last_us = self.last_us.max(call.due_us);
    }
}

/// Reads the source to its end and hands each lane its batches; returns how many lines were skipped. Blocks.
fn fill(
    source: impl Iterator<Item = Result<Outgoing, ImportError>>,
    queues: &[mpsc::Sender<Batch>],
    cut: Cut,
) -> anyhow::Result<u64> {
    let lanes = u32::try_from(queues.len()).context("too many lanes")?;
    let mut filling: Vec<Filling> = queues.iter().map(|_| Filling::new()).collect();
    let mut skipped = 0;
    for call in source {
        let refused = match call {
            Ok(call) if call.json.len() <= CALL_BYTES_MAX => {
                if !send_spanned(&mut filling, queues, &call, cut) {
                    return Ok(skipped);
                }
                let lane = partition_of(call.key.as_bytes(), lanes) as usize;
                if filling[lane].is_full_before(&call, cut) && queues[lane].blocking_send(filling[lane].take()).is_err()
                {
                    // The lane has failed and said why.
                    return Ok(skipped);
                }
                filling[lane].push(&call);
                continue;
            }
            Ok(call) => format!("a call of {} bytes is too large to send", call.json.len()),
            Err(error) if error.is_one_line() => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        skipped += 1;
        if skipped <= BAD_LINES_SHOWN {
            note(&format!("skipped {refused}"));
        }
        if skipped == BAD_LINES_SHOWN {
            note("further bad lines are only counted");
        }
    }
    for (lane, queue) in filling.iter_mut().zip(queues) {
        if lane.calls > 0 && queue.blocking_send(lane.take()).is_err() {
            return Ok(skipped);
        }
    }
    Ok(skipped)
}

/// Sends every batch whose time is over by `call`: a lane whose users are quiet would keep its batch until they are not. False
/// when a lane has failed and said why.
fn send_spanned(filling: &mut [Filling], queues: &[mpsc::Sender<Batch>], call: &Outgoing, cut: Cut) -> bool {
    if cut.span_us.is_none() {
        return true;
    }
    let over = filling.iter_mut().zip(queues).filter(|(batch, _)| batch.spans_more(call, cut));
    over.into_iter().all(|(batch, queue)| queue.blocking_send(batch.take()).is_ok())
}

/// When each batch may go.
struct Pace {
    start: Instant,
    rate: Option<u32>,
    /// The moment that `start` is taken for; calls go when they are due.
    live_from: Option<Micros>,
    scheduled: AtomicU64,
}

impl Pace {
    /// When the next batch may go: no earlier than the rate allows, and than its last call is due, for none is sent before it
    /// happened. A moment that is over is no wait.
    fn next(&self, calls: u64, due_us: Option<Micros>) -> Instant {
        let mut next = self.start;
        if let Some(rate) = self.rate {
            let before = self.scheduled.fetch_add(calls, Ordering::Relaxed);
            #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 events")]
            let due = Duration::from_secs_f64(before as f64 / f64::from(rate));
            next = next.max(self.start + due);
        }
        if let (Some(from), Some(due)) = (self.live_from, due_us) {
            let elapsed = u64::try_from(due.saturating_sub(from)).unwrap_or(0);
            next = next.max(self.start + Duration::from_micros(elapsed));
        }
        next
    }
}

/// A bar on a terminal, plain lines in a pipe; on standard error, so that results can be piped.
enum Display {
    Bar(ProgressBar),
    Plain { next: std::sync::Mutex<Instant>, total: Option<u64> },
}

impl Display {
    fn new(total: Option<u64>) -> Self {
        if !std::io::stderr().is_terminal() {
            return Display::Plain { next: std::sync::Mutex::new(Instant::now() + PLAIN_EVERY), total };
        }
        let (bar, form) = match total {
            Some(total) => {
                (ProgressBar::new(total), "{bar:30} {human_pos}/{human_len} events  {per_sec}  {eta}  {msg}")
            }
            None => (ProgressBar::new_spinner(), "{spinner} {human_pos} events  {per_sec}  {msg}"),
        };
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        Display::Bar(bar)
    }

    fn show(&self, sent: u64, rejected: u64, start: Instant) {
        match self {
            Display::Bar(bar) => {
                bar.set_position(sent);
                bar.set_message(if rejected > 0 { format!("{rejected} rejected") } else { String::new() });
            }
            Display::Plain { total, .. } if self.is_due() => {
                let of = total.map_or_else(String::new, |total| format!(" of {total}"));
                note(&format!("{sent}{of} events sent, {rejected} rejected, {} s", start.elapsed().as_secs()));
            }
            Display::Plain { .. } => {}
        }
    }

    fn trouble(&self, why: &str) {
        match self {
            Display::Bar(bar) => bar.set_message(format!("trying again: {why}")),
            Display::Plain { .. } if self.is_due() => note(&format!("trying again: {why}")),
            Display::Plain { .. } => {}
        }
    }

    fn is_due(&self) -> bool {
        let Display::Plain { next, .. } = self else { return false };
        let Ok(mut next) = next.lock() else { return false };
        let now = Instant::now();
        let due = now >= *next;
        if due {
            *next = now + PLAIN_EVERY;
        }
        due
    }

    fn end(&self) {
        if let Display::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests;
