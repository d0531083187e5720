use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use super::*;

/// Answers as told, then takes everything; keeps what it was offered.
struct Scripted {
    answers: Mutex<Vec<Answer>>,
    offered: Mutex<Vec<(Bytes, bool)>>,
    /// When each offer came.
    at: Mutex<Vec<Instant>>,
}

#[async_trait]
impl Door for Scripted {
    async fn send(&self, call: Call, body: Bytes) -> Answer {
        assert_eq!(call, Call::Batch);
        let answer = self.answers.lock().unwrap().pop().unwrap_or(Answer::Taken { rejected: 0 });
        self.at.lock().unwrap().push(Instant::now());
        self.offered.lock().unwrap().push((body, matches!(answer, Answer::Taken { .. })));
        answer
    }

    async fn progress(&self) -> anyhow::Result<Progress> {
        Ok(Progress { caught_up: true, lag: 0 })
    }
}

fn door(mut answers: Vec<Answer>) -> Arc<Scripted> {
    answers.reverse();
    Arc::new(Scripted { answers: Mutex::new(answers), offered: Mutex::default(), at: Mutex::default() })
}

fn calls(n: u64) -> impl Iterator<Item = Result<Outgoing, ImportError>> + Send + 'static {
    (0..n).map(|i| {
        Ok(Outgoing { key: format!("u{}", i % 7), due_us: Some(0), json: format!("[{},{i}]", i % 7).into_bytes() })
    })
}

fn options() -> Options {
    Options { rate: None, lanes: 1, batch: 10, give_up_after: 5, wait: false }
}

fn items(body: &Bytes) -> Vec<(u64, u64)> {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap();
    json["batch"].as_array().unwrap().iter().map(|i| (i[0].as_u64().unwrap(), i[1].as_u64().unwrap())).collect()
}

fn again() -> Answer {
    Answer::Again { after: None, why: "busy".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_once_and_in_order_whatever_the_door_says() {
    let taken = || Answer::Taken { rejected: 0 };
    let door = door(vec![again(), taken(), Answer::Taken { rejected: 2 }, again(), again(), taken()]);
    let report = send(door.clone(), calls(95), &options(), None, None).await.unwrap();
    assert_eq!((report.sent, report.rejected, report.retries, report.skipped), (95, 2, 3, 0));
    assert!(!report.is_complete());
    let offered = door.offered.lock().unwrap();
    let arrived: Vec<u64> =
        offered.iter().filter(|(_, taken)| *taken).flat_map(|(body, _)| items(body)).map(|i| i.1).collect();
    assert_eq!(arrived, (0..95).collect::<Vec<_>>());
    for pair in offered.windows(2).filter(|pair| !pair[0].1) {
        assert_eq!(pair[0].0, pair[1].0, "a repetition has the same bytes and comes before anything else");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_keep_the_order_of_each_key() {
    let door = door(vec![again(), again(), again()]);
    let report = send(door.clone(), calls(500), &Options { lanes: 4, ..options() }, None, None).await.unwrap();
    assert_eq!(report.sent, 500);
    let mut by_key: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (body, _) in door.offered.lock().unwrap().iter().filter(|(_, taken)| *taken) {
        for (key, number) in items(body) {
            by_key.entry(key).or_default().push(number);
        }
    }
    assert_eq!(by_key.values().map(Vec::len).sum::<usize>(), 500);
    assert!(by_key.values().all(|numbers| numbers.is_sorted()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_and_a_server_that_stays_away_end_it_with_the_reason() {
    let refused = door(vec![Answer::Refused { why: "401: unknown write key".to_owned() }]);
    let error = send(refused, calls(1_000_000), &options(), None, None).await.unwrap_err();
    assert!(format!("{error:#}").contains("unknown write key"), "{error:#}");
    let away = door((0..100).map(|_| again()).collect());
    let error = send(away, calls(1_000_000), &Options { give_up_after: 0, ..options() }, None, None).await.unwrap_err();
    assert!(format!("{error:#}").contains("gave up") && format!("{error:#}").contains("busy"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_are_counted_and_a_missing_file_is_the_end() {
    let line = |line| ImportError::Line { path: PathBuf::from("a"), line, reason: "garbage".to_owned() };
    let large = Outgoing { key: String::new(), due_us: None, json: vec![b' '; CALL_BYTES_MAX + 1] };
    let source = calls(3).chain([Err(line(4)), Ok(large), Err(line(6))]).chain(calls(2));
    let report = send(door(vec![]), source, &options(), None, None).await.unwrap();
    assert_eq!((report.sent, report.skipped), (5, 2 + 1));
    let gone = ImportError::Read { path: PathBuf::from("b"), source: std::io::ErrorKind::NotFound.into() };
    let door = door(vec![]);
    assert!(send(door.clone(), calls(25).chain([Err(gone)]), &options(), None, None).await.is_err());
    assert_eq!(door.offered.lock().unwrap().len(), 2, "full batches before it went out");
}

#[test]
fn batches_stay_within_their_bounds() {
    let cut = Cut { calls: 500, span_us: Some(1_000) };
    let call = |bytes: usize, time_us| Outgoing { key: String::new(), due_us: Some(time_us), json: vec![b'1'; bytes] };
    let mut filling = Filling::new();
    assert!(!filling.is_full_before(&call(CALL_BYTES_MAX, 0), cut), "an empty batch takes anything");
    filling.push(&call(CALL_BYTES_MAX, 0));
    let room = BATCH_BYTES_MAX - filling.body.len() - 1 - TAIL.len();
    assert!(!filling.is_full_before(&call(room, 1_000), cut));
    assert!(filling.is_full_before(&call(room + 1, 1_000), cut));
    assert!(filling.is_full_before(&call(1, 1_001), cut));
    filling.push(&call(room, 0));
    assert_eq!(filling.take().body.len(), BATCH_BYTES_MAX);
    assert_eq!(batch_calls(&Options { rate: Some(3), ..options() }), 1);
    assert_eq!(batch_calls(&Options { rate: Some(100), ..options() }), 5);
    assert_eq!(batch_calls(&Options { rate: Some(1_000_000), ..options() }), 10);
}

const SECOND: Micros = 1_000_000;

/// What was recorded for `user` at `seconds`, in the form of [`items`].
fn recorded(user: u64, number: u64, seconds: f64) -> Outgoing {
    #[expect(clippy::cast_possible_truncation, reason = "a few seconds in microseconds")]
    let due_us = (seconds * SECOND as f64) as Micros;
    Outgoing { key: format!("u{user}"), due_us: Some(due_us), json: format!("[{user},{number}]").into_bytes() }
}

#[test]
fn a_batch_waits_for_the_rate_and_for_its_last_call() {
    #[track_caller]
    fn check(rate: Option<u32>, live_from: Option<Micros>, batches: &[(u64, Option<Micros>)], expected_ms: &[u64]) {
        let pace = Pace { start: Instant::now(), rate, live_from, scheduled: AtomicU64::new(0) };
        let found: Vec<Duration> =
            batches.iter().map(|(calls, due_us)| pace.next(*calls, *due_us) - pace.start).collect();
        assert_eq!(found, expected_ms.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>());
    }
    let from = 1_700_000_000 * SECOND;
    let due = |ms: i64| Some(from + ms * 1_000);
    check(None, None, &[(10, due(500)), (10, None)], &[0, 0]);
    check(Some(100), None, &[(10, due(9_000)), (20, None), (1, None)], &[0, 100, 300]);
    check(None, Some(from), &[(2, due(50)), (1, due(3_000)), (1, due(1_000))], &[50, 3_000, 1_000]);
    // What was due before the start, or says nothing, goes at once.
    check(None, Some(from), &[(1, due(-60_000)), (1, None), (1, Some(Micros::MIN))], &[0, 0, 0]);
    // Both hold: the later one counts.
    check(Some(10), Some(from), &[(10, due(0)), (10, due(500)), (10, due(5_000))], &[0, 1_000, 5_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_calls_go_when_they_are_due_and_never_before() {
    let door = door(vec![]);
    let base = 1_700_000_000.0;
    let source: Vec<_> = (0..).zip([0.0, 0.05, 0.2, 0.4]).map(|(i, s)| Ok(recorded(0, i, base + s))).collect();
    let begun = Instant::now();
    let from = Some(1_700_000_000 * SECOND);
    let report = send(door.clone(), source.into_iter(), &options(), from, None).await.unwrap();
    assert_eq!(report.sent, 4);
    let sent: Vec<Vec<u64>> =
        door.offered.lock().unwrap().iter().map(|(body, _)| items(body).into_iter().map(|i| i.1).collect()).collect();
    assert_eq!(sent, [vec![0, 1], vec![2], vec![3]]);
    // How much later depends on the machine; earlier would be wrong.
    for (at, due_ms) in door.at.lock().unwrap().iter().zip([50, 200, 400]) {
        assert!(*at - begun >= Duration::from_millis(due_ms), "{:?} instead of {due_ms} ms", *at - begun);
    }
}

/// What `fill` hands out live, in the order in which it does, whichever the lane.
fn filled(source: Vec<Outgoing>, lanes: usize) -> Vec<Batch> {
    let (queue, mut batches) = mpsc::channel(source.len() + 1);
    let queues = vec![queue; lanes];
    let cut = Cut { calls: 10, span_us: Some(LIVE_SPAN_US) };
    assert_eq!(fill(source.into_iter().map(Ok), &queues, cut).unwrap(), 0);
    drop(queues);
    std::iter::from_fn(|| batches.try_recv().ok()).collect()
}

#[test]
fn a_quiet_lane_does_not_keep_its_calls_until_it_is_used_again() {
    let quiet = (0..64).find(|&user| partition_of(format!("u{user}").as_bytes(), 2) == 0).unwrap();
    let busy = (0..64).find(|&user| partition_of(format!("u{user}").as_bytes(), 2) == 1).unwrap();
    let mut source = vec![recorded(quiet, 0, 0.0)];
    source.extend((1..100).map(|i| recorded(busy, i, i as f64 / 10.0)));
    let batches = filled(source, 2);
    let place = batches.iter().position(|batch| items(&batch.body).contains(&(quiet, 0))).unwrap();
    assert!(place <= 2, "it went as batch {place} of {}", batches.len());
}

#[test]
fn live_batches_are_short_and_lose_nothing() {
    for seed in 1..200_u64 {
        let mut state = seed;
        let mut below = |n: u64| {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (state >> 33) % n
        };
        let (users, lanes, length) = (1 + below(20), 1 + below(5) as usize, 1 + below(200));
        let mut now = 0.0;
        let mut call = |number| {
            now += below(200) as f64 / 1_000.0;
            recorded(number % users, number, now)
        };
        let source: Vec<Outgoing> = (0..length).map(&mut call).collect();
        let dues: Vec<Micros> = source.iter().map(|call| call.due_us.unwrap()).collect();
        let mut arrived = Vec::new();
        for batch in filled(source, lanes) {
            let numbers: Vec<u64> = items(&batch.body).into_iter().map(|item| item.1).collect();
            let due = |number: u64| dues[usize::try_from(number).unwrap()];
            let (first, last) = (due(numbers[0]), due(numbers[numbers.len() - 1]));
            assert!(last - first <= LIVE_SPAN_US && batch.due_us == Some(last), "seed {seed}");
            arrived.extend(numbers);
        }
        arrived.sort_unstable();
        assert_eq!(arrived, (0..length).collect::<Vec<_>>(), "seed {seed}");
    }
}
