//! Appending: one idempotent producer at a time, and answers from delivery reports only.
//!
//! librdkafka keeps the order of a partition and sends nothing after what it could not send, as long as nothing times out
//! inside it and no call goes on after a failure. So records have no time-out there: an append that is not acknowledged in
//! time, or any record that fails, *dooms* the producer. What it had queued is dropped at once, all its appends end with
//! [`ErrorKind::Retry`], and the next append gets a new producer. Of each append a prefix per partition is there then.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use millrace_events::{Topic, TopicPartition};
use millrace_log::{Append, Error, ErrorKind, Offset, Result};
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer, ProducerContext, PurgeConfig};
use tokio::sync::oneshot;

use crate::asking::number;
use crate::closing::{WRITER_CLOSE_MAX, within};
use crate::context::{Context, failed, unusable};
use crate::headers::all_of;
use crate::health::{Health, STALL};
use crate::options::KafkaOptions;
use crate::topics::RECORD_BYTES_MAX;
use crate::wire::timestamp_of;

/// What a queued record costs beside its key and value, so that empty ones are bounded too.
const QUEUED_RECORD_BYTES: usize = 64;
/// How often a producer's thread looks whether it is doomed.
const LOOK: Duration = Duration::from_millis(20);
/// How many looks a doomed producer gets to report what was dropped.
const LAST_LOOKS: usize = 50;
/// For how long at most a log that closes sees off appends: with the last looks it is less than [`WRITER_CLOSE_MAX`].
const SEE_OFF_MAX: Duration = Duration::from_millis(2500);
/// How many producers there may be at once: the one in use, and doomed ones that are not gone yet.
const PRODUCERS_MAX: usize = 3;

/// Appends for everybody in this process.
pub(crate) struct Writer {
    options: KafkaOptions,
    queue: Arc<Mutex<Queued>>,
    current: Mutex<Current>,
    health: Arc<Health>,
    told: Told,
}

#[derive(Debug, Default)]
struct Queued {
    bytes: usize,
    records: usize,
}

#[derive(Default)]
struct Current {
    producer: Option<Arc<Instance>>,
    threads: Vec<JoinHandle<()>>,
    closed: bool,
}

impl Writer {
    /// `answers` asks whether the cluster is as appends need it.
    pub(crate) fn new(options: KafkaOptions, told: Told, answers: impl Fn() -> bool + Send + 'static) -> Result<Self> {
        let health = Arc::<Health>::default();
        let writer = Self { options, queue: Arc::default(), current: Mutex::default(), health, told };
        // The first one now: a configuration that cannot be is an error of opening.
        drop(writer.instance()?);
        let watching = writer.health.watch(answers)?;
        writer.lock().threads.push(watching);
        Ok(writer)
    }

    /// Appends what was checked before.
    pub(crate) async fn append(&self, batch: Vec<Append>) -> Result<Vec<Offset>> {
        let held = self.hold(&batch)?;
        let instance = self.instance()?;
        let (answer, mut answered) = oneshot::channel();
        let call = Arc::new(Call::new(&batch, held, answer, self.told.clone()));
        instance.send(&batch, &call, &self.options);
        drop(batch);
        let stall = STALL.min(self.options.append_timeout);
        let mut in_time = tokio::time::timeout(stall, &mut answered).await;
        let _stalled = in_time.is_err().then(|| self.health.stalled());
        if in_time.is_err() {
            in_time = tokio::time::timeout(self.options.append_timeout - stall, answered).await;
        }
        match in_time {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::new(ErrorKind::Retry, "the log was closed while it took an append")),
            Err(_) => {
                let why = instance.shared.context.why();
                let message = format!("no acknowledgement within {:?}{why}", self.options.append_timeout);
                instance.doom(message.clone());
                Err(Error::new(ErrorKind::Retry, format!("cannot append now: {message}")))
            }
        }
    }

    pub(crate) fn healthy(&self) -> bool {
        self.health.is_well() && !self.lock().closed
    }

    /// Takes no more appends, sees off those that were taken, and ends. Blocks until then, at most [`WRITER_CLOSE_MAX`].
    pub(crate) fn close(&self) {
        self.health.close();
        let threads = {
            let mut current = self.lock();
            current.closed = true;
            if let Some(instance) = current.producer.take() {
                instance.shared.leave(self.options.append_timeout.min(SEE_OFF_MAX));
            }
            std::mem::take(&mut current.threads)
        };
        if threads.is_empty() {
            return;
        }
        within(WRITER_CLOSE_MAX, "the producers", move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a producer's thread ended with a panic");
                }
            }
        });
    }

    /// Takes room in the queue until the last delivery report of the call.
    fn hold(&self, batch: &[Append]) -> Result<Held> {
        let bytes: usize = batch.iter().map(|a| QUEUED_RECORD_BYTES + a.key.len() + a.value.len()).sum();
        let (bytes_max, records_max) = (self.options.queue_bytes_max, self.options.queue_records_max);
        if bytes > bytes_max || batch.len() > records_max {
            let records = batch.len();
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "cannot append {records} records of {bytes} bytes at once: at most {records_max} and {bytes_max}; split it"
                ),
            ));
        }
        // What follows from the log must get through where new actions are turned away, or nothing would ever drain.
        let share = if batch.iter().any(|append| append.to.topic == Topic::Actions) { 1 } else { 2 };
        let mut queued = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queued.bytes + bytes > share * bytes_max || queued.records + batch.len() > share * records_max {
            let message = format!("cannot append now: {} records wait for acknowledgement", queued.records);
            return Err(Error::new(ErrorKind::Retry, message));
        }
        queued.bytes += bytes;
        queued.records += batch.len();
        Ok(Held { queue: self.queue.clone(), bytes, records: batch.len() })
    }

    /// The producer in use, a new one when the last is doomed.
    fn instance(&self) -> Result<Arc<Instance>> {
        let mut current = self.lock();
        if current.closed {
            return Err(Error::new(ErrorKind::Retry, "cannot append: the log is closed"));
        }
        if let Some(instance) = current.producer.as_ref().filter(|instance| instance.shared.doomed.get().is_none()) {
            return Ok(instance.clone());
        }
        current.producer = None;
        current.threads.retain(|thread| !thread.is_finished());
        // One of them watches the cluster.
        if current.threads.len() > PRODUCERS_MAX {
            return Err(Error::new(ErrorKind::Retry, "cannot append now: the last producers are still ending"));
        }
        let (instance, thread) = Instance::start(&self.options, self.health.clone())?;
        current.producer = Some(instance.clone());
        current.threads.push(thread);
        Ok(instance)
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// Room in the queue, given back when dropped.
struct Held {
    queue: Arc<Mutex<Queued>>,
    bytes: usize,
    records: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut queued = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queued.bytes -= self.bytes;
        queued.records -= self.records;
    }
}

/// One append on its way. It outlives its caller until the last delivery report.
struct Call {
    to: Vec<TopicPartition>,
    offsets: Vec<AtomicI64>,
    left: AtomicUsize,
    error: Mutex<Option<Error>>,
    /// The room in the queue goes before the answer: whoever is answered finds it free.
    answer: Mutex<Option<(Held, Answer)>>,
    told: Told,
}

type Answer = oneshot::Sender<Result<Vec<Offset>>>;
/// Called with a partition and the end that an acknowledgement tells.
type Told = Arc<dyn Fn(TopicPartition, Offset) + Send + Sync>;

impl Call {
    fn new(batch: &[Append], held: Held, answer: Answer, told: Told) -> Self {
        Self {
            to: batch.iter().map(|append| append.to).collect(),
            offsets: batch.iter().map(|_| AtomicI64::new(-1)).collect(),
            left: AtomicUsize::new(batch.len()),
            error: Mutex::default(),
            answer: Mutex::new(Some((held, answer))),
            told,
        }
    }

    /// The first error of a call is its answer; the rest follow from it.
    fn fail(&self, error: Error) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn delivered(&self, nth: usize, offset: i64) {
        self.offsets[nth].store(offset, Ordering::Relaxed);
        if offset < 0 {
            // A repetition that the broker knew to be one, too long after to know where the first had gone.
            let message = format!("the append to {} happened, but the broker forgot where", self.to[nth]);
            self.fail(Error::new(ErrorKind::Retry, message));
        }
    }

    /// Tells the end of each partition once: readers that wait are woken for a call, and not for each of its records.
    fn tell(&self) {
        let mut ends: Vec<(TopicPartition, Offset)> = Vec::new();
        for (&to, offset) in self.to.iter().zip(&self.offsets) {
            let Ok(offset) = Offset::try_from(offset.load(Ordering::Relaxed)) else { continue };
            match ends.iter_mut().find(|(of, _)| *of == to) {
                Some((_, end)) => *end = offset.max(*end),
                None => ends.push((to, offset)),
            }
        }
        for (of, last) in ends {
            (self.told)(of, last + 1);
        }
    }

    /// `count` records need not be waited for any longer.
    fn settle(&self, count: usize) {
        if self.left.fetch_sub(count, Ordering::AcqRel) != count {
            return;
        }
        self.tell();
        let taken = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((held, answer)) = taken else { return };
        let answered = match self.error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(self.offsets.iter().map(|offset| offset.load(Ordering::Relaxed).unsigned_abs()).collect()),
        };
        drop(held);
        // The caller may be gone.
        drop(answer.send(answered));
    }
}

/// One record of a call, in the hands of librdkafka.
struct Sent {
    call: Arc<Call>,
    nth: usize,
}

/// A producer and the thread that hears its reports.
struct Instance {
    /// The thread owns it, so that no caller ever waits for it to be destroyed.
    producer: Weak<BaseProducer<Reports>>,
    shared: Arc<Shared>,
}

/// What callers, delivery reports and the thread of one producer share.
struct Shared {
    context: Context,
    health: Arc<Health>,
    /// Why no more may be sent. Once set it stays.
    doomed: OnceLock<String>,
    /// Set when the log closes: how many looks are left to see off what was taken.
    leaving: AtomicUsize,
    /// Read while an append is handed over, written when the queue is dropped: no append is cut by it unnoticed.
    closed: RwLock<bool>,
}

impl Shared {
    fn new(health: Arc<Health>) -> Self {
        let (doomed, leaving, closed) = Default::default();
        Self { context: Context::default(), health, doomed, leaving, closed }
    }

    fn leave(&self, within: Duration) {
        let looks = usize::try_from(within.as_millis() / LOOK.as_millis()).unwrap_or(usize::MAX);
        self.leaving.store(looks.max(1), Ordering::Release);
    }

    fn doom(&self, why: String) {
        if self.doomed.set(why).is_ok() {
            tracing::warn!(why = self.doomed.get(), "the producer is replaced");
            self.health.failed();
        }
    }
}

impl Instance {
    fn start(options: &KafkaOptions, health: Arc<Health>) -> Result<(Arc<Self>, JoinHandle<()>)> {
        let shared = Arc::new(Shared::new(health));
        let mut config = options.client("producer");
        let request_ms = (options.append_timeout.as_millis() / 3).clamp(100, 10_000).to_string();
        config
            .set("enable.idempotence", "true")
            // A record that can never be sent stops the producer: nothing may come after it.
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("request.timeout.ms", &request_ms)
            // The first broker that a new producer meets may be the one that hangs.
            .set("api.version.request.timeout.ms", "2000")
            .set("message.max.bytes", RECORD_BYTES_MAX.to_string())
            .set("linger.ms", options.linger.as_millis().to_string())
            // Our own bounds come first; these only back them.
            .set("queue.buffering.max.messages", (options.queue_records_max.saturating_mul(3)).to_string())
            .set("queue.buffering.max.kbytes", (options.queue_bytes_max.saturating_mul(4) / 1024 + 65_536).to_string());
        if !options.properties.keys().any(|name| name.starts_with("compression")) {
            config.set("compression.type", "lz4");
        }
        if !options.properties.contains_key("socket.timeout.ms") {
            config.set("socket.timeout.ms", options.append_timeout.as_millis().clamp(1000, 10_000).to_string());
        }
        let producer = BaseProducer::from_config_and_context(&config, Reports(shared.clone()));
        let producer = Arc::new(producer.map_err(|error| unusable("a producer", error))?);
        let instance = Arc::new(Self { producer: Arc::downgrade(&producer), shared: shared.clone() });
        let thread = thread::Builder::new().name("kafka-producer".to_owned()).spawn(move || run(&producer, &shared));
        let thread = thread.map_err(|e| Error::with_source(ErrorKind::Retry, "cannot start a producer's thread", e))?;
        Ok((instance, thread))
    }

    /// Hands an append over. What could not be handed over is settled here, the rest by delivery reports.
    fn send(&self, batch: &[Append], call: &Arc<Call>, options: &KafkaOptions) {
        let closed = self.shared.closed.read().unwrap_or_else(PoisonError::into_inner);
        let producer = if *closed { None } else { self.producer.upgrade() };
        let Some(producer) = producer else {
            call.fail(Error::new(ErrorKind::Retry, "cannot append now: the producer is being replaced"));
            return call.settle(batch.len());
        };
        for (nth, append) in batch.iter().enumerate() {
            if let Err(error) = self.send_one(&producer, nth, append, call, options) {
                call.fail(error);
                return call.settle(batch.len() - nth);
            }
        }
    }

    fn send_one(
        &self,
        producer: &BaseProducer<Reports>,
        nth: usize,
        append: &Append,
        call: &Arc<Call>,
        options: &KafkaOptions,
    ) -> Result<()> {
        let topic = options.topic(append.to.topic);
        let record = BaseRecord::with_opaque_to(&topic, Box::new(Sent { call: call.clone(), nth }))
            .partition(number(append.to.partition))
            .key(&append.key[..])
            .payload(&append.value[..])
            .timestamp(timestamp_of(append.time.0))
            .headers(all_of(append, options.headers.as_ref()));
        let Err((error, _record)) = producer.send(record) else { return Ok(()) };
        // A full queue takes nothing and loses nothing. Anything else says that this producer is of no more use.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
            self.doom(error.to_string());
        }
        Err(failed(format!("cannot append to {}", append.to), error))
    }

    fn doom(&self, why: String) {
        self.shared.doom(why);
    }
}

/// Hears reports until the producer is doomed or the log closes, then drops what is queued.
fn run(producer: &BaseProducer<Reports>, shared: &Shared) {
    loop {
        producer.poll(LOOK);
        if shared.doomed.get().is_some() {
            break;
        }
        let leaving = shared.leaving.load(Ordering::Acquire);
        if leaving > 0 {
            // The last look is the end of it.
            if leaving == 1 || producer.in_flight_count() == 0 {
                break;
            }
            shared.leaving.store(leaving - 1, Ordering::Release);
        }
    }
    // Nothing failed when the log closes. It is set already when something did.
    drop(shared.doomed.set("the log is closed".to_owned()));
    *shared.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
    producer.purge(PurgeConfig::default().queue().inflight());
    for _ in 0..LAST_LOOKS {
        if producer.in_flight_count() == 0 {
            break;
        }
        producer.poll(LOOK);
    }
}

/// Where librdkafka reports.
struct Reports(Arc<Shared>);

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.context.line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.context.note(&error, reason);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => self.0.doom(reason.to_owned()),
            Some(RDKafkaErrorCode::AllBrokersDown) => self.0.health.suspect(),
            _ => {}
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        match result {
            Ok(message) => {
                self.0.health.delivered();
                sent.call.delivered(sent.nth, message.offset());
            }
            Err((error, _)) => {
                let to = sent.call.to[sent.nth];
                self.0.doom(format!("a record for {to} failed: {error}"));
                let why = self.0.doomed.get().map_or("", String::as_str);
                sent.call.fail(failed(format!("cannot append to {to} now: {why}"), error.clone()));
            }
        }
        sent.call.settle(1);
    }
}
