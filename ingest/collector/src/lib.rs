//! The front door: what speaks Segment's, PostHog's and CloudEvents' protocols, without the HTTP.
//!
//! A request is authenticated, unpacked, cut into events, checked against the contract, stamped with its times and appended
//! to the log in one call; the answer comes when the log says that it is durable. What cannot be accepted goes to
//! `dead-letters` in the same append, so that one bad event costs nobody else anything and is never lost in silence.
//! It knows neither paths nor statuses: other doors (gRPC, an import) come in here too.
//!
//! It must never know what an event does: that is for the jobs that read `actions`.

mod auth;
mod body;
mod bounds;
mod cloudevents;
mod counters;
mod encode;
mod event;
mod gate;
mod json;
mod key;
mod last_use;
mod lookup;
mod plan;
mod posthog;
mod properties;
mod refusal;
mod robots;
mod scope;
mod shape;
mod time;
mod verdict;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use millrace_events::{Kind, LogTime, Micros, Topic, TopicPartition};
use millrace_failpoints::reach;
use millrace_log::{Append, Clock, ErrorKind, EventLog, VALUE_BYTES_MAX};

pub use auth::{DEV_SOURCE, Denied, Key};
pub use bounds::{
    BATCH_BYTES_MAX, BODY_BYTES_MAX, Bounds, DEPTH_MAX, DWELL_MS_MAX, EVENT_BYTES_MAX, EVENT_NAME_BYTES_MAX,
    EVENTS_PER_BATCH_MAX, KEYS_MAX, MERGED_BYTES_MAX, NUMBER_BYTES_MAX, OFFSET_MS_MAX, TAGS_MAX,
};
pub use counters::{CollectorCounters, SourceCounters};
pub use gate::Gate;
pub use key::{KEY_RANDOM_BYTES, KeyHash, KeyKind, is_mistyped, make_key};
pub use last_use::{CoarseClock, LastUse};
pub use lookup::LatestKeys;
pub use plan::{OnViolation, PLANS_MAX, Plan, SCHEMA_BYTES_MAX, SCHEMA_PARTS_MAX, SchemaError, VIOLATION_BYTES_MAX};
pub use refusal::{Reason, Refusal, RefusalKind};
pub use robots::is_crawler;
pub use scope::{Scope, Scopes};
pub use time::{REPLAY_AHEAD_MAX_US, SKEW_IGNORED_US};
pub use verdict::{Judged, Verdict};

use auth::Keys;
use cloudevents::Mode;
use counters::{Answered, Tally};
use encode::{EnvelopeRef, Message as _};
use event::{Records, Shared};
use gate::Open;
use json::{BatchBody, Events, Fields};
use lookup::{Looked, Lookup};
use plan::Plans;
use posthog::{CaptureBody, Sdk};
use refusal::Code;
use time::Stamps;
use verdict::Verdicts;

/// Which call a request is. A single call's own `type` is not looked at: the path says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Somebody did something.
    Track,
    /// Who an actor is.
    Identify,
    /// A page was looked at.
    Page,
    /// A screen was looked at.
    Screen,
    /// An actor belongs to a group.
    Group,
    /// Two ids are one person.
    Alias,
    /// Several of them at once.
    Batch,
    /// Several of them, and the client wants to know what became of each: our own.
    Events,
    /// One or several events of PostHog's, in any of its shapes.
    Capture,
    /// Several events of PostHog's newer protocol, which wants to know what became of each.
    Analytics,
    /// One or several CloudEvents, in any of their modes.
    CloudEvents,
}

impl Call {
    /// The call of the last part of a path: `track`, or `t` as browsers send it, and so on; `import` is a batch.
    pub fn from_path(name: &str) -> Option<Call> {
        Some(match name {
            "track" | "t" => Call::Track,
            "identify" | "i" => Call::Identify,
            "page" | "p" => Call::Page,
            "screen" | "s" => Call::Screen,
            "group" | "g" => Call::Group,
            "alias" | "a" => Call::Alias,
            "batch" | "b" | "import" => Call::Batch,
            _ => return None,
        })
    }

    /// Every call.
    pub const ALL: [Call; 11] = [
        Call::Track,
        Call::Identify,
        Call::Page,
        Call::Screen,
        Call::Group,
        Call::Alias,
        Call::Batch,
        Call::Events,
        Call::Capture,
        Call::Analytics,
        Call::CloudEvents,
    ];

    /// What it is called in a dead letter, which has to come in by the same call when it is sent again.
    pub const fn name(self) -> &'static str {
        match self {
            Call::Track => "track",
            Call::Identify => "identify",
            Call::Page => "page",
            Call::Screen => "screen",
            Call::Group => "group",
            Call::Alias => "alias",
            Call::Batch => "batch",
            Call::Events => "events",
            Call::Capture => "capture",
            Call::Analytics => "analytics",
            Call::CloudEvents => "cloudevents",
        }
    }

    /// The content type of its body, where one event is one.
    pub const fn media_type(self) -> &'static str {
        if matches!(self, Call::CloudEvents) { "application/cloudevents+json" } else { "application/json" }
    }

    /// What a call that comes alone is; `None` for what may hold several, or in a form of its own.
    fn kind(self) -> Option<Kind> {
        Some(match self {
            Call::Track => Kind::Track,
            Call::Identify => Kind::Identify,
            Call::Page => Kind::Page,
            Call::Screen => Kind::Screen,
            Call::Group => Kind::Group,
            Call::Alias => Kind::Alias,
            Call::Batch | Call::Events | Call::Capture | Call::Analytics | Call::CloudEvents => return None,
        })
    }

    /// Whether the token of `Authorization: Bearer` is a write key. Segment has a token of another service there, and the key
    /// in the body.
    fn has_key_as_token(self) -> bool {
        matches!(self, Call::Events | Call::Analytics | Call::CloudEvents)
    }
}

/// Who may send, and how much.
#[derive(Clone, Debug, Default)]
pub struct CollectorOptions {
    /// The known keys.
    pub keys: Vec<Key>,
    /// Take any key that is not empty, as source [`DEV_SOURCE`]: for development on the loopback only.
    pub accept_any_key: bool,
    /// The bounds.
    pub bounds: Bounds,
}

/// What the edge took off the wire.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `Content-Encoding` header.
    pub content_encoding: Option<String>,
    /// The `Content-Type` header; only [`Call::CloudEvents`] looks at it.
    pub content_type: Option<String>,
    /// A write key that came beside header and body, as in the query of a URL.
    pub key: Option<String>,
    /// When it was sent by the client's clock, where that does not stand in the body. Microseconds.
    pub sent_at_us: Option<Micros>,
    /// The `PostHog-Sdk-Info` header; only [`Call::Analytics`] looks at it.
    pub sdk: Option<String>,
    /// The headers that begin with `ce-`, in lower case and without that; only [`Call::CloudEvents`] looks at them.
    pub attributes: Vec<(String, Vec<u8>)>,
    /// Whether the `User-Agent` header names a crawler, see [`is_crawler`]: events that say nothing of their own agent are
    /// marked as a robot's then.
    pub from_crawler: bool,
    /// The body, still packed; the edge reads at most [`Bounds::body_bytes_max`] of it.
    pub body: Bytes,
}

/// A request that is durable in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Events in `actions`.
    pub accepted: u32,
    /// Events in `dead-letters`.
    pub rejected: u32,
}

/// So many events in one round of ticks tell the time themselves: whoever reads `actions` passes the time on at least
/// once in as many records, and on every tick.
const BUSY_EVENTS: u64 = 64;

/// The front door. Share it in an [`Arc`].
pub struct Collector {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    keys: RwLock<Arc<Keys>>,
    plans: RwLock<Arc<Plans>>,
    lookup: Lookup,
    bounds: Bounds,
    /// Per partition of `actions`: how many events were sent there.
    sent: Vec<AtomicU64>,
    /// Per partition of `actions`, in the same order.
    rounds: Mutex<Vec<Round>>,
    minted: AtomicU64,
    /// See [`Collector::named`].
    door: Option<String>,
    tally: Tally,
}

/// What the rounds of ticks know of a partition. Ticks are not among the events.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// How many events had been sent at the last round.
    sent: u64,
    /// The same at the last tick, and its time.
    ticked: Option<(u64, LogTime)>,
}

/// A request on its way into the log.
struct Prepared<'k> {
    source: &'k str,
    appends: Vec<Append>,
    accepted: u32,
    violations: u32,
    rejected: Vec<Reason>,
    verdicts: Option<Verdicts>,
    bytes: usize,
}

/// What is known of a request beside its text.
struct Asked<'c, 'a> {
    call: Call,
    keys: &'c Keys,
    /// The source that a header or the edge named; `None` when the body has to.
    source: Option<&'c str>,
    sent_at_us: Option<Micros>,
    from_crawler: bool,
    /// Where it is left once it is known.
    known: &'a Known<'c>,
}

/// Whose a request is, as soon as that is known: also of one that is refused then.
type Known<'c> = Cell<Option<&'c str>>;

impl<'c> Asked<'c, '_> {
    /// The source, by the key of the body when no other was sent.
    fn source(&self, of_body: Option<&str>) -> Result<&'c str, Refusal> {
        let source = self.source.map_or_else(|| self.keys.by_body(of_body), Ok)?;
        self.known.set(Some(source));
        Ok(source)
    }
}

impl Collector {
    /// A front door to `log`. The bound on one event is lowered to what the log can certainly take.
    pub fn new(log: Arc<dyn EventLog>, clock: Arc<dyn Clock>, options: CollectorOptions) -> Self {
        let CollectorOptions { keys, accept_any_key, mut bounds } = options;
        // A post's text is stored twice, its keys and names come on top.
        bounds.event_bytes_max = bounds.event_bytes_max.min(VALUE_BYTES_MAX / 4);
        let sent: Vec<AtomicU64> = (0..log.partitions()).map(|_| AtomicU64::new(0)).collect();
        let rounds = Mutex::new(vec![Round::default(); sent.len()]);
        Self {
            log,
            clock,
            keys: RwLock::new(Arc::new(Keys::new(keys, accept_any_key))),
            plans: RwLock::default(),
            lookup: Lookup::nowhere(),
            bounds,
            sent,
            rounds,
            minted: AtomicU64::new(0),
            door: None,
            tally: Tally::default(),
        }
    }

    /// For a log in which a record that was appended once may come to stand more than once: what comes without an id is known
    /// by one that this door mints, remembered and dropped when it is repeated as a client's would be. `door` is part of it;
    /// no other process may have it, nor have had it.
    #[must_use]
    pub fn named(mut self, door: String) -> Self {
        self.door = Some(door);
        self
    }

    /// Takes one request in and answers when all of it is durable.
    ///
    /// # Errors
    /// When nothing of the request could be accepted; see [`RefusalKind`] for what to do. A single bad event is no error:
    /// it is in `dead-letters` and counted as rejected.
    pub async fn collect(&self, call: Call, request: Request) -> Result<Accepted, Refusal> {
        self.judge(call, request).await.map(|judged| judged.accepted)
    }

    /// As [`Self::collect`], and says what became of each event: for the calls whose clients want to know, and for a
    /// CloudEvent that comes alone. For all others there are no verdicts.
    ///
    /// # Errors
    /// As [`Self::collect`].
    pub async fn judge(&self, call: Call, request: Request) -> Result<Judged, Refusal> {
        self.judge_through(call, request, &Open).await
    }

    /// The same where a gate decides who may send.
    ///
    /// # Errors
    /// As [`Self::collect`], and when the gate refuses: then nothing of the request is in the log.
    pub async fn judge_through(&self, call: Call, request: Request, gate: &dyn Gate) -> Result<Judged, Refusal> {
        let keys = self.keys();
        let (prepared, source) = self.prepare_known(&keys, call, &request, gate);
        let unknown = prepared.as_ref().err().and_then(|refusal| unknown_key(refusal, &request));
        let Some(unknown) = unknown else { return self.finish(prepared, source).await };
        match self.newer_keys(&keys, unknown).await {
            Err(denied) => self.finish(Err(undecided(denied)), source).await,
            Ok(None) => self.finish(prepared, source).await,
            Ok(Some(newer)) => {
                let (prepared, source) = self.prepare_known(&newer, call, &request, gate);
                self.finish(prepared, source).await
            }
        }
    }

    /// Looks for a key that is not among `keys`: those of this moment, where they are others.
    ///
    /// # Errors
    /// [`Denied::Undecided`].
    async fn newer_keys(&self, keys: &Arc<Keys>, unknown: KeyHash) -> Result<Option<Arc<Keys>>, Denied> {
        match self.lookup.look_for(unknown).await {
            Looked::Nothing => Ok(None),
            Looked::Undecided => Err(Denied::Undecided),
            Looked::Updated => {
                let newer = self.keys();
                if !newer.has(unknown) {
                    self.lookup.was_in_vain(unknown);
                }
                Ok((!Arc::ptr_eq(keys, &newer)).then_some(newer))
            }
        }
    }

    /// Prepares a request, and says whose it is as far as that became known.
    fn prepare_known<'k>(
        &'k self,
        keys: &'k Keys,
        call: Call,
        request: &Request,
        gate: &dyn Gate,
    ) -> (Result<Prepared<'k>, Refusal>, Option<&'k str>) {
        let known = Known::default();
        let prepared = self.prepare(keys, &known, call, request, gate);
        (prepared, known.get())
    }

    async fn finish(&self, prepared: Result<Prepared<'_>, Refusal>, source: Option<&str>) -> Result<Judged, Refusal> {
        let answer = match prepared {
            Ok(prepared) => self.take_in(prepared).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &answer {
            self.tally.refused(source, refusal.code);
        }
        answer
    }

    /// Counts a request that the edge refused before it came in here, for one of the codes `body_too_large`, `body_timeout`,
    /// `body_unreadable`, `overloaded` and `rate_limited`. `authorization` is its header, if it is worth finding out whose
    /// it was.
    pub fn turned_away(&self, code: &str, authorization: Option<&str>) {
        let keys = self.keys();
        let source = authorization.and_then(|header| keys.by_header(Some(header)).ok().flatten());
        self.tally.refused(source, code);
    }

    /// Whether a request with this write key would be let in. May wait for where keys are made.
    ///
    /// # Errors
    /// When that cannot be told now.
    pub async fn knows(&self, key: &str) -> Result<bool, Refusal> {
        let keys = self.keys();
        let unknown = match keys.by_body(Some(key)) {
            Ok(_) => return Ok(true),
            Err(refusal) => refusal.unknown,
        };
        let Some(unknown) = unknown else { return Ok(false) };
        let newer = self.newer_keys(&keys, unknown).await.map_err(undecided)?;
        Ok(newer.is_some_and(|newer| newer.by_body(Some(key)).is_ok()))
    }

    /// Moves the clock of every partition of `actions` that got too little since the last call to tell the time by itself.
    /// Where nothing came since the last tick and the time is still the same, there is nothing to tell. To be called
    /// every second or few.
    ///
    /// # Errors
    /// When the log cannot take the ticks; the next call tries again.
    pub async fn tick_idle(&self) -> millrace_log::Result<()> {
        let Some(now) = self.tick_time().await? else { return Ok(()) };
        let mut value = Vec::new();
        EnvelopeRef { kind: Some(Kind::Tick), ..EnvelopeRef::default() }.write(&mut value);
        let value = Bytes::from(value);
        let due = self.due(now);
        if due.is_empty() {
            return Ok(());
        }
        let tick = |&(partition, _): &(usize, u64)| Append {
            to: TopicPartition::new(Topic::Actions, count(partition)),
            time: now,
            key: Bytes::new(),
            value: value.clone(),
        };
        self.log.append(due.iter().map(tick).collect()).await?;
        self.tally.total.ticked(due.len());
        let mut rounds = self.rounds();
        for (partition, sent) in due {
            rounds[partition].ticked = Some((sent, now));
        }
        Ok(())
    }

    /// What a tick says. In a replay it is the newest time that is durable, not the newest that was stamped: an append that
    /// a crash then takes back would otherwise have moved the time of everything. `None` while there is no time to tell.
    async fn tick_time(&self) -> millrace_log::Result<Option<LogTime>> {
        if !self.clock.is_replay() {
            return Ok(Some(self.clock.now()));
        }
        let mut newest = None;
        for partition in 0..count(self.sent.len()) {
            newest = newest.max(self.log.bounds(TopicPartition::new(Topic::Actions, partition)).await?.last_time);
        }
        Ok(newest)
    }

    /// Begins a round of ticks: the partitions that need one, each with how many events it had been sent.
    fn due(&self, now: LogTime) -> Vec<(usize, u64)> {
        let mut due = Vec::new();
        for (partition, (sent, round)) in self.sent.iter().zip(self.rounds().iter_mut()).enumerate() {
            let sent = sent.load(Ordering::Relaxed);
            let is_busy = sent - round.sent >= BUSY_EVENTS;
            round.sent = sent;
            if !is_busy && round.ticked != Some((sent, now)) {
                due.push((partition, sent));
            }
        }
        due
    }

    fn rounds(&self) -> MutexGuard<'_, Vec<Round>> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes these keys from the next request on, instead of those that it was made with.
    pub fn set_keys(&self, keys: Vec<Key>, accept_any_key: bool) {
        let keys = Arc::new(Keys::new(keys, accept_any_key));
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Looks there for a key that is not known, before it is refused. Of several calls the first counts.
    pub fn look_for_keys_in(&self, latest: Arc<dyn LatestKeys>) {
        self.lookup.look_in(latest);
    }

    /// Compares events with these tracking plans from the next request on. Of two for one event the last counts, and of more
    /// than [`PLANS_MAX`] the first ones.
    pub fn set_plans(&self, plans: Vec<Plan>) {
        *self.plans.write().unwrap_or_else(PoisonError::into_inner) = Plans::new(plans);
    }

    /// The name of this key, when it lets its holder do this: for whatever else asks for a key than the front door. May wait
    /// for where keys are made.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn allow(&self, key: &str, scope: Scope) -> Result<Arc<str>, Denied> {
        let allow = |keys: &Keys| keys.allow(key.as_bytes(), scope).map(|key| key.name.clone());
        let keys = self.keys();
        let allowed = allow(&keys);
        if !matches!(allowed, Err(Denied::Unknown)) {
            return allowed;
        }
        let newer = self.newer_keys(&keys, KeyHash::of(key.as_bytes())).await?;
        newer.map_or(allowed, |newer| allow(&newer))
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What happened here since the process started.
    pub fn counters(&self) -> CollectorCounters {
        self.tally.total.read()
    }

    /// The same by source, of those that sent something.
    pub fn counters_by_source(&self) -> BTreeMap<String, SourceCounters> {
        self.tally.by_source()
    }

    /// The same of requests that were refused before it was known whose they are: without a key, with one that is not known,
    /// or with one in a body that cannot be read.
    pub fn counters_of_nobody(&self) -> CollectorCounters {
        self.tally.of_nobody()
    }

    async fn take_in(&self, prepared: Prepared<'_>) -> Result<Judged, Refusal> {
        let Prepared { source, appends, accepted, violations, rejected, verdicts, bytes } = prepared;
        let at = appends.last().map_or_else(|| self.clock.now(), |append| append.time);
        if !appends.is_empty() {
            reach("collector-prepared");
            self.append(appends).await?;
            reach("collector-appended");
        }
        self.tally.answered(source, at, &Answered { accepted, violations, rejected: &rejected, bytes });
        let accepted = Accepted { accepted, rejected: count(rejected.len()) };
        Ok(Judged { accepted, verdicts: verdicts.map(Verdicts::into_inner).unwrap_or_default() })
    }

    async fn append(&self, appends: Vec<Append>) -> Result<(), Refusal> {
        let unavailable =
            || Err(Refusal::new(Code::Unavailable, "the log cannot take it now: repeat the same request later"));
        // An append would wait as long as it may for what is known to be away, and its client and our memory with it. The
        // log gets well by itself.
        if !self.log.healthy() {
            return unavailable();
        }
        let actions = appends.iter().filter(|append| append.to.topic == Topic::Actions);
        for sent in actions.filter_map(|append| self.sent.get(append.to.partition as usize)) {
            sent.fetch_add(1, Ordering::Relaxed);
        }
        let Err(error) = self.log.append(appends).await else { return Ok(()) };
        if error.kind() == ErrorKind::Retry {
            tracing::debug!(%error, "the log cannot take a request now");
        } else {
            tracing::error!(%error, kind = ?error.kind(), "the log refused a request");
        }
        unavailable()
    }

    fn prepare<'k>(
        &'k self,
        keys: &'k Keys,
        known: &Known<'k>,
        call: Call,
        request: &Request,
        gate: &dyn Gate,
    ) -> Result<Prepared<'k>, Refusal> {
        let source = source_of(call, request, keys)?;
        known.set(source);
        source.map_or(Ok(()), |source| gate.knock(source))?;
        let Request { sent_at_us, from_crawler, .. } = *request;
        let asked = Asked { call, keys, source, sent_at_us, from_crawler, known };
        let mode = match call {
            Call::CloudEvents => Some(Mode::of(request.content_type.as_deref(), !request.attributes.is_empty())?),
            _ => None,
        };
        let body = self.unpack(call, mode, request)?;
        let records = match (call.kind(), call, mode) {
            (_, _, Some(mode)) => self.cloud_events(mode, request, &body, &asked)?,
            (Some(kind), ..) => self.single(kind, body::text(&body)?, &asked)?,
            (None, Call::Capture, _) => self.capture(body::text(&body)?, &asked)?,
            (None, Call::Analytics, _) => self.analytics(body::text(&body)?, request.sdk.as_deref(), &asked)?,
            (None, ..) => self.batch(body::text(&body)?, &asked)?,
        };
        gate.admit(records.source, count(records.pending.len()))?;
        let accepted = count(records.accepted());
        let (source, violations) = (records.source, records.violations);
        let (appends, rejected, verdicts) = records.into_parts();
        Ok(Prepared { source, appends, accepted, violations, rejected, verdicts, bytes: body.len() })
    }

    fn unpack(&self, call: Call, mode: Option<Mode>, request: &Request) -> Result<Bytes, Refusal> {
        let Bounds { body_bytes_max, batch_bytes_max, event_bytes_max, .. } = self.bounds;
        let body = request.body.clone();
        if body.len() > body_bytes_max {
            return Err(Refusal::new(Code::BodyTooLarge, format!("the body is larger than {body_bytes_max} bytes")));
        }
        let (bytes_max, too_large) = match (call, mode) {
            (Call::Batch, _) => (batch_bytes_max, Code::BatchTooLarge),
            // PostHog's SDKs send up to a hundred events of any size at once, and drop what is refused.
            (Call::Capture | Call::Analytics | Call::Events, _) | (_, Some(Mode::Batched)) => {
                (body_bytes_max, Code::BatchTooLarge)
            }
            _ => (event_bytes_max, Code::EventTooLarge),
        };
        let bytes_max = bytes_max.min(body_bytes_max);
        let encoding = request.content_encoding.as_deref();
        if mode == Some(Mode::Binary) && !cloudevents::may_be_json(request.content_type.as_deref()) {
            // Data that are compressed by themselves are not unpacked.
            return body::unpack(body, encoding.or(Some(body::IDENTITY)), bytes_max, too_large);
        }
        let body = body::unpack(body, encoding, bytes_max, too_large)?;
        if call != Call::Capture {
            return Ok(body);
        }
        // What a form holds may be compressed again: the browser's SDK does so.
        body::unpack(posthog::unwrap_form(body)?, None, bytes_max, too_large)
    }

    fn single<'c>(&'c self, kind: Kind, text: &str, asked: &Asked<'c, '_>) -> Result<Records<'c>, Refusal> {
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|e| unreadable(Code::NotAnObject, &e))?;
        let key = fields.write_key.and_then(json::Raw::string);
        let mut records = self.records(asked, asked.source(key.as_deref())?, 1, text.len());
        records.add_single(kind, &fields, text.trim_ascii());
        Ok(records)
    }

    fn batch<'c>(&'c self, text: &str, asked: &Asked<'c, '_>) -> Result<Records<'c>, Refusal> {
        let body: BatchBody<'_> = serde_json::from_str(text).map_err(|e| unreadable(Code::InvalidBatch, &e))?;
        let key = body.write_key.and_then(json::Raw::string);
        let source = asked.source(key.as_deref())?;
        let Some(events) = &body.events else { return Err(no_batch()) };
        self.check_batch(&body, events)?;
        let mut records = self.records(asked, source, events.len(), text.len());
        if asked.call == Call::Events {
            records.verdicts = Some(Verdicts::new("messageId"));
        }
        let shared = Shared::of_batch(body.sent_at, body.context, &records.stamps).ok_or_else(|| {
            Refusal::new(Code::InvalidBatch, "`context` of the batch is not an object of valid Unicode")
        })?;
        for event in events {
            records.add(event, &shared);
        }
        Ok(records)
    }

    fn capture<'c>(&'c self, text: &str, asked: &Asked<'c, '_>) -> Result<Records<'c>, Refusal> {
        let body = CaptureBody::read(text).map_err(|e| unreadable(Code::NotAnObject, &e))?;
        self.captured(&body, asked, text.len(), &Sdk::default())
    }

    fn analytics<'c>(&'c self, text: &str, sdk: Option<&str>, asked: &Asked<'c, '_>) -> Result<Records<'c>, Refusal> {
        let body = CaptureBody::read_batch(text).map_err(|e| unreadable(Code::InvalidBatch, &e))?;
        self.captured(&body.ok_or_else(no_batch)?, asked, text.len(), &Sdk::of(sdk))
    }

    fn captured<'c>(
        &'c self,
        body: &CaptureBody<'_>,
        asked: &Asked<'c, '_>,
        bytes: usize,
        sdk: &Sdk,
    ) -> Result<Records<'c>, Refusal> {
        self.check_count(body.events.len())?;
        let events = body.captured();
        let source = match asked.source {
            Some(source) => source,
            None => asked.source(body.token(&events)?.as_deref())?,
        };
        let mut records = self.records(asked, source, events.len(), bytes);
        if asked.call == Call::Analytics {
            records.verdicts = Some(Verdicts::new("uuid"));
        }
        let shared = match body.sent_at {
            None => Shared::sent_at(asked.sent_at_us),
            sent_at => Shared::of_batch(sent_at, None, &records.stamps).unwrap_or_else(Shared::none),
        };
        for (text, read) in body.events.iter().zip(events) {
            records.add_captured(text, read, sdk, &shared);
        }
        Ok(records)
    }

    fn cloud_events<'c>(
        &'c self,
        mode: Mode,
        request: &Request,
        body: &[u8],
        asked: &Asked<'c, '_>,
    ) -> Result<Records<'c>, Refusal> {
        let source = match asked.source {
            Some(source) => source,
            None => asked.keys.of_anybody().map_or_else(|| asked.source(None), Ok)?,
        };
        if mode == Mode::Batched {
            let text = body::text(body)?;
            let Events(events) = serde_json::from_str(text).map_err(|e| unreadable_list(&e))?;
            self.check_count(events.len())?;
            let mut records = self.records(asked, source, events.len(), text.len());
            for event in events {
                records.add_cloud_event(event, cloudevents::read(event));
            }
            return Ok(records);
        }
        let written;
        let text = if mode == Mode::Structured {
            body::text(body)?.trim_ascii()
        } else {
            written = cloudevents::to_json(&request.attributes, request.content_type.as_deref(), body)?;
            &written
        };
        let event = serde_json::from_str(text).map_err(|e| unreadable(Code::NotAnObject, &e))?;
        let mut records = self.records(asked, source, 1, text.len());
        records.verdicts = Some(Verdicts::new("id"));
        records.add_cloud_event(text, Ok(event));
        Ok(records)
    }

    fn check_count(&self, events: usize) -> Result<(), Refusal> {
        let Bounds { events_per_batch_max, .. } = self.bounds;
        if events > events_per_batch_max {
            return Err(Refusal::new(Code::TooManyEvents, format!("a batch may hold {events_per_batch_max} events")));
        }
        Ok(())
    }

    fn check_batch(&self, body: &BatchBody<'_>, events: &[&str]) -> Result<(), Refusal> {
        let Bounds { merged_bytes_max, depth_max, .. } = self.bounds;
        self.check_count(events.len())?;
        if let Some(context) = body.context {
            // It is a level below the event that it becomes a part of.
            let depth_max = depth_max.saturating_sub(1);
            event::check_shape(context.as_str(), depth_max)
                .map_err(|rejection| Refusal::new(Code::InvalidBatch, format!("`context`: {}", rejection.detail)))?;
        }
        let context_bytes = body.context.map_or(0, |context| context.as_str().len());
        if context_bytes.saturating_mul(events.len()) > merged_bytes_max {
            let message = format!(
                "`context` of the batch would be copied into {} events, more than {merged_bytes_max} bytes in all",
                events.len()
            );
            return Err(Refusal::new(Code::BatchTooLarge, message));
        }
        Ok(())
    }

    fn records<'c>(&'c self, asked: &Asked<'c, '_>, source: &'c str, events: usize, bytes: usize) -> Records<'c> {
        /// What an event gains in the log: its key, times, source and typed properties.
        const GAIN_BYTES: usize = 128;
        Records {
            call: asked.call,
            source,
            stamps: Stamps::new(self.clock.as_ref()),
            bounds: self.bounds,
            from_crawler: asked.from_crawler,
            plans: self.plans.read().unwrap_or_else(PoisonError::into_inner).clone(),
            violations: 0,
            partitions: count(self.sent.len()),
            minted: &self.minted,
            door: self.door.as_deref(),
            buffer: Vec::with_capacity(bytes + events * GAIN_BYTES),
            pending: Vec::with_capacity(events),
            rejected: Vec::new(),
            verdicts: None,
        }
    }
}

/// The key for which a request was refused because it is not known. A header may name one too, and then that of the body counts.
fn unknown_key(refusal: &Refusal, request: &Request) -> Option<KeyHash> {
    let of_header = || {
        let is_missing = refusal.code == Code::MissingWriteKey.as_str();
        let header = request.authorization.as_deref().filter(|_| is_missing)?;
        auth::bearer(header).map(|token| KeyHash::of(token.as_bytes()))
    };
    refusal.unknown.or_else(of_header)
}

fn undecided(denied: Denied) -> Refusal {
    Refusal::new(Code::Unavailable, denied.to_string())
}

/// The source that a request names outside of its body.
fn source_of<'k>(call: Call, request: &Request, keys: &'k Keys) -> Result<Option<&'k str>, Refusal> {
    let authorization = request.authorization.as_deref();
    if let Some(source) = keys.by_header(authorization)? {
        return Ok(Some(source));
    }
    let token = authorization.filter(|_| call.has_key_as_token()).and_then(auth::bearer);
    let key = token.or(request.key.as_deref()).filter(|key| !key.is_empty());
    key.map(|key| keys.by_body(Some(key))).transpose()
}

fn no_batch() -> Refusal {
    Refusal::new(Code::InvalidBatch, "the body has no `batch`: send a list of events under that name")
}

fn unreadable(wrong_shape: Code, error: &serde_json::Error) -> Refusal {
    if !error.is_data() {
        return Refusal::new(Code::InvalidJson, format!("the body is not valid JSON: {error}"));
    }
    // The error itself would quote what it found instead, however long that is.
    let must_be = if wrong_shape == Code::InvalidBatch { "an object with a list `batch`" } else { "an object" };
    Refusal::new(wrong_shape, format!("the body is not {must_be}, at line {} column {}", error.line(), error.column()))
}

fn unreadable_list(error: &serde_json::Error) -> Refusal {
    if !error.is_data() {
        return unreadable(Code::InvalidJson, error);
    }
    Refusal::new(Code::InvalidBatch, "the body is not a list of CloudEvents")
}

/// Batches are bounded far below this.
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
