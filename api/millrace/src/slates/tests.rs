use std::sync::Mutex;

use async_trait::async_trait;
use millrace_events::{Micros, ServedCandidate};
use millrace_log::{Bounds, Error, ErrorKind, Offset, Record, Result};
use tokio::sync::Semaphore;

use super::*;

const PARTITIONS: u32 = 2;
const MANY: usize = 1_000_000;
const NOW_US: i64 = 1_767_225_600_000_000;

struct Still;

impl Clock for Still {
    fn stamp(&self, event_time: Micros) -> LogTime {
        LogTime(NOW_US.max(event_time))
    }

    fn now(&self) -> LogTime {
        LogTime(NOW_US)
    }
}

/// A log that takes as many appends as it is let, or refuses them all.
struct Gated {
    taken: Mutex<Vec<Append>>,
    gate: Semaphore,
    refuses: bool,
}

impl Gated {
    fn new(appends: usize) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), gate: Semaphore::new(appends), refuses: false })
    }

    fn open(&self) {
        self.gate.add_permits(MANY);
    }

    /// What was appended, and what it decodes to.
    fn slates(&self) -> Vec<(Append, ServedSlate)> {
        let decoded = |append: &Append| (append.clone(), ServedSlate::decode(append.value.clone()).unwrap());
        self.taken.lock().unwrap().iter().map(decoded).collect()
    }
}

#[async_trait]
impl EventLog for Gated {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Offset>> {
        self.gate.acquire().await.unwrap().forget();
        if self.refuses {
            return Err(Error::new(ErrorKind::Retry, "told to refuse"));
        }
        let offsets = (0..).take(batch.len()).collect();
        self.taken.lock().unwrap().extend(batch);
        Ok(offsets)
    }

    async fn read(&self, _: TopicPartition, _: Offset, _: usize) -> Result<Vec<Record>> {
        panic!("a writer reads nothing")
    }

    async fn wait(&self, _: TopicPartition, _: Offset) -> Result<()> {
        panic!("a writer reads nothing")
    }

    async fn bounds(&self, _: TopicPartition) -> Result<Bounds> {
        panic!("a writer reads nothing")
    }

    async fn trim(&self, _: TopicPartition, _: Offset) -> Result<()> {
        panic!("a writer trims nothing")
    }

    fn partitions(&self) -> u32 {
        PARTITIONS
    }
}

fn slate(viewer: &str, candidates: usize) -> ServedSlate {
    let candidate = |nth| ServedCandidate { post_id: format!("p{nth}"), ..ServedCandidate::default() };
    ServedSlate {
        slate: format!("sl-{viewer}"),
        viewer: viewer.to_owned(),
        as_of_us: Some(NOW_US - 1),
        candidates: (0..candidates).map(candidate).collect(),
        ..ServedSlate::default()
    }
}

#[tokio::test]
async fn what_is_recorded_is_in_the_log_once_it_stopped() {
    let log = Gated::new(MANY);
    let (slates, writer) = Slates::start(log.clone(), Arc::new(Still), 1.0);
    for nth in 0..200 {
        slates.record(slate(&format!("v{nth}"), 3));
    }
    writer.stop().await;
    let found = log.slates();
    assert_eq!(found.len(), 200);
    for (append, read) in found {
        assert_eq!(read, slate(&read.viewer, 3));
        let partition = partition_of(read.viewer.as_bytes(), PARTITIONS);
        assert_eq!(append.to, TopicPartition::new(Topic::ServedSlates, partition));
        assert_eq!((&append.key[..], append.time), (read.viewer.as_bytes(), LogTime(NOW_US)));
    }
    let counts = SlateCounts { accepted: 200, written: 200, ..SlateCounts::default() };
    assert_eq!(slates.counts(), counts);
    slates.record(slate("late", 1));
    assert_eq!(slates.counts(), SlateCounts { dropped: 1, ..counts }, "nobody is left to write it");
}

#[tokio::test]
async fn a_log_that_hangs_delays_nobody_and_what_is_lost_is_counted() {
    let log = Gated::new(0);
    let (slates, writer) = Slates::start(log.clone(), Arc::new(Still), 1.0);
    // The writer may hold one batch besides what is queued.
    let sent = 2 * QUEUE_SLATES_MAX + BATCH_SLATES_MAX;
    for nth in 0..sent {
        slates.record(slate(&format!("v{nth}"), 1));
        tokio::task::yield_now().await;
    }
    let counts = slates.counts();
    assert!(counts.accepted as usize >= QUEUE_SLATES_MAX, "{counts:?}");
    assert!(counts.accepted as usize <= QUEUE_SLATES_MAX + BATCH_SLATES_MAX, "{counts:?}");
    assert_eq!(counts.accepted + counts.dropped, sent as u64);
    log.open();
    writer.stop().await;
    assert_eq!(log.slates().len() as u64, counts.accepted, "what was taken is kept");
}

#[tokio::test]
async fn the_queue_is_bounded_in_candidates_too() {
    let log = Gated::new(0);
    let (slates, writer) = Slates::start(log.clone(), Arc::new(Still), 1.0);
    for _ in 0..3 {
        slates.record(slate("ann", QUEUE_CANDIDATES_MAX / 2));
    }
    assert_eq!((slates.counts().accepted, slates.counts().dropped), (2, 1));
    log.open();
    writer.stop().await;
    assert_eq!(log.slates().len(), 2);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_log_that_hangs() {
    let log = Gated::new(0);
    let (slates, writer) = Slates::start(log.clone(), Arc::new(Still), 1.0);
    slates.record(slate("ann", 1));
    // Ends at all, although the log never answers.
    writer.stop_within(Duration::from_millis(20)).await;
    log.open();
    assert_eq!(log.slates().len(), 0);
    assert_eq!(slates.counts(), SlateCounts { accepted: 1, ..SlateCounts::default() });
}

#[tokio::test]
async fn what_the_log_refuses_is_counted_and_the_next_is_tried() {
    let log = Gated { taken: Mutex::default(), gate: Semaphore::new(MANY), refuses: true };
    let (slates, writer) = Slates::start(Arc::new(log), Arc::new(Still), 1.0);
    for _ in 0..3 {
        slates.record(slate("ann", 1));
    }
    writer.stop().await;
    assert_eq!(slates.counts(), SlateCounts { accepted: 3, failed: 3, ..SlateCounts::default() });
}

#[tokio::test]
async fn a_rate_of_nothing_wants_nothing() {
    for (rate, wanted) in [(0.0, None), (0.25, Some(0.25)), (1.0, Some(1.0))] {
        let (slates, writer) = Slates::start(Gated::new(MANY), Arc::new(Still), rate);
        assert_eq!(slates.wants("ann"), wanted);
        writer.stop().await;
    }
}

#[test]
fn a_record_stays_below_its_bound_and_says_what_it_left_out() {
    let long = "x".repeat(millrace_events::ID_BYTES_MAX);
    let candidate = ServedCandidate { post_id: long.clone(), author_id: long.clone(), ..ServedCandidate::default() };
    let served = ServedCandidate { position: Some(0), ..candidate.clone() };
    let mut candidates = vec![served.clone()];
    candidates.resize(5_000, candidate);
    let mut slate = ServedSlate { viewer: long, candidates, left_out: 2, ..ServedSlate::default() };
    let left_out = bound(&mut slate);
    assert!(left_out > 0 && slate.candidates.len() + left_out as usize == 5_000);
    assert_eq!((slate.left_out, &slate.candidates[0]), (left_out + 2, &served), "served ones come first");
    assert!(slate.encoded_len() <= RECORD_BYTES_MAX && slate.encoded_len() > RECORD_BYTES_MAX - HEAD_BYTES_MAX - 1024);
    let mut small = ServedSlate { candidates: vec![served], ..ServedSlate::default() };
    assert_eq!((bound(&mut small), small.left_out, small.candidates.len()), (0, 0, 1));
}
