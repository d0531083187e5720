use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use super::*;

/// Answers as told, then takes everything; keeps what it was offered.
struct Scripted {
    answers: Mutex<Vec<Answer>>,
    offered: Mutex<Vec<(Bytes, bool)>>,
}

#[async_trait]
impl Door for Scripted {
    async fn batch(&self, body: Bytes) -> Answer {
        let answer = self.answers.lock().unwrap().pop().unwrap_or(Answer::Taken { rejected: 0 });
        self.offered.lock().unwrap().push((body, matches!(answer, Answer::Taken { .. })));
        answer
    }

    async fn progress(&self) -> anyhow::Result<Progress> {
        Ok(Progress { caught_up: true, lag: 0 })
    }
}

fn door(mut answers: Vec<Answer>) -> Arc<Scripted> {
    answers.reverse();
    Arc::new(Scripted { answers: Mutex::new(answers), offered: Mutex::default() })
}

fn calls(n: u64) -> impl Iterator<Item = Result<Outgoing, ImportError>> + Send + 'static {
    (0..n).map(|i| {
        Ok(Outgoing { key: format!("u{}", i % 7), time_us: Some(0), json: format!("[{},{i}]", i % 7).into_bytes() })
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
    let large = Outgoing { key: String::new(), time_us: None, json: vec![b' '; CALL_BYTES_MAX + 1] };
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
    let call = |bytes: usize, time_us| Outgoing { key: String::new(), time_us: Some(time_us), json: vec![b'1'; bytes] };
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
