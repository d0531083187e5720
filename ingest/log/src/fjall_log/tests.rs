use bytes::Bytes;
use millrace_embedded::Options;
use millrace_events::LogTime;
use proptest::prelude::*;
use tempfile::TempDir;

use super::batch::{Batch, Builder, Taken, key_of};
use super::partition::Steps;
use super::queue::Next;
use super::*;

const OF: TopicPartition = TopicPartition::new(Topic::Actions, 0);
const ALL: usize = 64 * 1024 * 1024;

fn open(dir: &TempDir, options: FjallLogOptions) -> Result<Arc<FjallLog>> {
    FjallLog::open(Embedded::open(dir.path(), Options::default()).unwrap(), options)
}

fn append(time: i64, value: impl Into<Bytes>) -> Append {
    Append { to: OF, time: LogTime(time), key: Bytes::from_static(b"key"), value: value.into() }
}

fn stored(base: Offset, records: &[(i64, Vec<u8>, Vec<u8>)]) -> (Batch, Slice) {
    let mut builder = Builder::default();
    for (time, key, value) in records {
        builder.push(LogTime(*time), key, value);
    }
    builder.finish(base).unwrap()
}

fn decode(base: Offset, value: &[u8]) -> Result<Vec<Record>> {
    let batch = Batch::parse(base, Slice::from(value))?;
    let mut taken = Taken::new(base, batch.end(), ALL);
    taken.take(&batch)?;
    Ok(taken.into_records())
}

#[test]
fn a_batch_has_the_layout_that_is_written_down() {
    let (_, value) = stored(7, &[(1000, b"k".to_vec(), b"value".to_vec()), (1300, vec![], vec![])]);
    let mut expected = vec![1, 0, 0, 0, 2];
    expected.extend(1000_i64.to_be_bytes());
    expected.extend(1300_i64.to_be_bytes());
    expected.extend([1, 5, 0]);
    expected.extend(b"kvalue");
    expected.extend([0, 0, 0xac, 0x02]);
    assert_eq!(&*value, expected);
}

#[test]
fn a_builder_is_empty_after_every_batch() {
    let mut builder = Builder::default();
    assert!(builder.finish(0).is_none());
    builder.push(LogTime(1), b"k", &[0; 3 * 1024 * 1024]);
    assert_eq!(builder.finish(0).unwrap().0.end(), 1);
    assert_eq!(builder.bytes(), 0);
    builder.push(LogTime(2), b"k", b"v");
    builder.reset();
    assert!(builder.finish(1).is_none());
}

#[test]
fn what_is_no_batch_is_corrupt() {
    let (_, value) = stored(3, &[(5, b"key".to_vec(), vec![9; 200]), (6, b"key".to_vec(), vec![9; 200])]);
    for length in 0..value.len() {
        assert_eq!(decode(3, &value[..length]).unwrap_err().kind(), ErrorKind::Corrupt, "cut at {length}");
    }
    let mut longer = value.to_vec();
    longer.push(0);
    assert_eq!(decode(3, &longer).unwrap_err().kind(), ErrorKind::Corrupt);
    let mut unknown = value.to_vec();
    unknown[0] = 2;
    assert_eq!(decode(3, &unknown).unwrap_err().kind(), ErrorKind::Corrupt);
}

fn bytes_up_to(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..max)
}

proptest! {
    #[test]
    fn batches_come_back_as_they_were(
        base in 0..u64::MAX / 2,
        mut times in prop::collection::vec(any::<i64>(), 1..40),
        pieces in prop::collection::vec((bytes_up_to(40), bytes_up_to(300)), 40),
        skip in 0..40_usize,
    ) {
        times.sort_unstable();
        let records: Vec<_> = times.into_iter().zip(pieces).map(|(time, (key, value))| (time, key, value)).collect();
        let (batch, value) = stored(base, &records);
        let read = decode(base, &value).unwrap();
        prop_assert_eq!(read.len(), records.len());
        for (nth, (record, (time, key, value))) in read.iter().zip(&records).enumerate() {
            prop_assert_eq!((record.offset, record.time), (base + nth as u64, LogTime(*time)));
            prop_assert_eq!((&record.key[..], &record.value[..]), (&key[..], &value[..]));
        }
        let skip = skip % records.len();
        let mut taken = Taken::new(base + skip as u64, batch.end(), ALL);
        taken.take(&batch).unwrap();
        prop_assert_eq!(&taken.into_records()[..], &read[skip..]);
    }

    /// Whatever is on disk is an answer or an error.
    #[test]
    fn no_bytes_panic(bytes in bytes_up_to(400), mut header in Just(stored(0, &[(1, vec![], vec![])]).1.to_vec())) {
        drop(decode(0, &bytes));
        header.truncate(21);
        header.extend(bytes);
        drop(decode(0, &header));
        drop(decode(u64::MAX, &header));
    }
}

/// One step of a random history, over two partitions.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u32, i64, Vec<u8>)>),
    Read { partition: u32, from: u64, bytes_max: usize },
    Trim { partition: u32, before: u64 },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let append = (0..2_u32, -100..100_i64, bytes_up_to(80));
    prop_oneof![
        6 => prop::collection::vec(append, 0..30).prop_map(Step::Append),
        3 => (0..2_u32, 0..200_u64, 0..4000_usize)
            .prop_map(|(partition, from, bytes_max)| Step::Read { partition, from, bytes_max }),
        1 => (0..2_u32, 0..200_u64).prop_map(|(partition, before)| Step::Trim { partition, before }),
        1 => Just(Step::Reopen),
    ]
}

/// Plays the steps against the log and against plain vectors.
async fn check_history(steps: Vec<Step>, options: FjallLogOptions) {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(&dir, options.clone()).unwrap();
    let mut model: [Vec<Record>; 2] = Default::default();
    let mut trimmed = [0; 2];
    let of = |partition: u32| TopicPartition::new(Topic::UserEvents, partition);
    for step in steps {
        match step {
            Step::Append(batch) => {
                let mut expected = Vec::new();
                for (partition, time, value) in &batch {
                    let records = &mut model[*partition as usize];
                    let time = records.last().map_or(LogTime(*time), |last| last.time.max(LogTime(*time)));
                    let (key, value) = (Bytes::from_static(b"k"), Bytes::from(value.clone()));
                    expected.push(records.len() as u64);
                    records.push(Record { offset: records.len() as u64, time, key, value });
                }
                let to_append = |(partition, time, value): (u32, i64, Vec<u8>)| {
                    let (key, value) = (Bytes::from_static(b"k"), Bytes::from(value));
                    Append { to: of(partition), time: LogTime(time), key, value }
                };
                assert_eq!(log.append(batch.into_iter().map(to_append).collect()).await.unwrap(), expected);
            }
            Step::Read { partition, from, bytes_max } => {
                let records = &model[partition as usize];
                let start = log.bounds(of(partition)).await.unwrap().start;
                match log.read(of(partition), from, bytes_max).await {
                    Ok(read) => {
                        let rest = &records[usize::try_from(from).unwrap()..];
                        assert_eq!(read.is_empty(), rest.is_empty());
                        assert_eq!(read[..], rest[..read.len()]);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::OutOfRange, "{error}");
                        assert!(from < start || from > records.len() as u64, "{error}");
                    }
                }
            }
            Step::Trim { partition, before } => {
                log.trim(of(partition), before).await.unwrap();
                let kept = &mut trimmed[partition as usize];
                *kept = before.max(*kept);
                assert!(log.bounds(of(partition)).await.unwrap().start <= *kept);
            }
            Step::Reopen => {
                drop(log);
                log = open(&dir, options.clone()).unwrap();
            }
        }
        for (partition, records) in model.iter().enumerate() {
            let bounds = log.bounds(of(u32::try_from(partition).unwrap())).await.unwrap();
            assert_eq!((bounds.end, bounds.last_time), (records.len() as u64, records.last().map(|last| last.time)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_history_reads_like_plain_vectors(
        steps in prop::collection::vec(step(), 1..40),
        tail_bytes_max in prop_oneof![Just(0), Just(500), Just(1 << 20)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check_history(steps, FjallLogOptions { partitions: 2, tail_bytes_max, ..Default::default() }));
    }
}

#[test]
fn the_number_of_partitions_is_fixed() {
    let dir = tempfile::tempdir().unwrap();
    let with = |partitions| open(&dir, FjallLogOptions { partitions, ..FjallLogOptions::default() });
    for impossible in [0, PARTITIONS_MAX + 1, u32::MAX] {
        assert_eq!(with(impossible).err().unwrap().kind(), ErrorKind::Invalid);
    }
    drop(with(3).unwrap());
    let error = with(4).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("start with 3"), "{error}");
    assert_eq!(with(3).unwrap().partitions(), 3);
}

#[test]
fn a_layout_of_the_future_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(dir.path(), Options::default()).unwrap();
    let mut writes = Writes::default();
    writes.put(&embedded.space(META_SPACE).unwrap(), LAYOUT_KEY, [9_u8, 0, 0, 0, 4].as_slice());
    embedded.write(writes, Durability::Synced).unwrap();
    let error = FjallLog::open(embedded, FjallLogOptions::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("a newer version") && error.to_string().contains("upgrade"), "{error}");
}

#[test]
fn every_partition_has_its_own_place() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, FjallLogOptions { partitions: 3, ..FjallLogOptions::default() }).unwrap();
    // Five topics of three, and the dead letters in one.
    assert_eq!(log.shared.partitions.len(), 16);
    for (nth, partition) in log.shared.partitions.iter().enumerate() {
        assert_eq!(log.shared.index_of(partition.name), Some(nth));
    }
}

/// How much of batches of these sizes a read with this budget has in memory at the end.
fn fetched(budget: usize, sizes: impl IntoIterator<Item = usize>) -> usize {
    let mut steps = Steps::default();
    let mut sizes = sizes.into_iter();
    let mut fetched = sizes.next().unwrap();
    steps.met(fetched);
    while fetched < budget {
        let limit = steps.next(budget - fetched);
        let step: Vec<usize> = sizes.by_ref().take(limit).collect();
        step.iter().for_each(|bytes| steps.met(*bytes));
        fetched += step.iter().sum::<usize>();
    }
    fetched
}

#[test]
fn a_read_from_disk_holds_little_more_than_it_wants() {
    const KIB: usize = 1024;
    let ticks = |n| std::iter::repeat_n(40, n);
    let large = || std::iter::repeat(256 * KIB);
    for budget in [1, 100 * KIB, 256 * KIB, KIB * KIB, 16 * KIB * KIB] {
        assert!(fetched(budget, large()) <= budget + 256 * KIB, "{budget} bytes of large batches");
        for n in [1, 2, 3, 10, 100, 10_000] {
            // One step, which is no longer than what came before and never longer than 64.
            let step = (n + 1).min(64) * 256 * KIB;
            let held = fetched(budget, ticks(n).chain(large()));
            assert!(held <= budget + step, "{budget} bytes, {n} ticks first: {held}");
        }
    }
    let mut steps = Steps::default();
    steps.met(40);
    let limits: Vec<usize> = (0..9).map(|_| steps.next(KIB * KIB)).collect();
    assert_eq!(limits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
    steps.met(256 * KIB);
    assert_eq!([steps.next(KIB * KIB), steps.next(100), steps.next(KIB * KIB)], [4, 1, 2]);
}

#[tokio::test]
async fn batches_are_cut_so_that_reads_stay_small() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, FjallLogOptions { tail_bytes_max: 0, ..FjallLogOptions::default() }).unwrap();
    log.append((0..2000).map(|n| append(n, vec![0; 1000])).collect()).await.unwrap();
    let (_, first) = log.shared.partitions[0].stored_from(0).unwrap().unwrap();
    assert!(first.len() < 300 * 1024, "{}", first.len());
    let mut next = 0;
    while next < 2000 {
        let records = log.read(OF, next, 100_000).await.unwrap();
        assert!(records.iter().map(|r| r.value.len()).sum::<usize>() <= 100_000);
        next += records.len() as u64;
    }
}

fn push_to(queue: &Queue, topics: &[Topic], bytes: usize) -> Result<oneshot::Receiver<Result<Vec<Offset>>>> {
    let (answer, answered) = oneshot::channel();
    let to = |topic: &Topic| Append { to: TopicPartition::new(*topic, 0), ..append(1, "v") };
    queue.push(Request { batch: topics.iter().map(to).collect(), bytes, answer }).map(|()| answered)
}

#[test]
fn what_follows_from_actions_has_room_when_clients_fill_the_queue() {
    let intake = [Topic::DeadLetters, Topic::Actions];
    let derived = [Topic::UserEvents, Topic::DeadLetters];
    for (bytes_max, requests_max, bytes) in [(1000, 100, 250), (1000, 4, 1)] {
        let queue = Queue::new(bytes_max, requests_max);
        let fill = |topics: &[Topic]| (0..20).map_while(|_| push_to(&queue, topics, bytes).ok()).count();
        assert_eq!(fill(&intake), 4);
        assert_eq!(fill(&derived), 4, "as much again, and no more");
        assert_eq!(fill(&intake), 0);
        queue.enter(Phase::Failing);
        queue.enter(Phase::Open);
        assert_eq!(fill(&derived), 8);
        assert_eq!(fill(&intake), 0, "the reserve is not the clients'");
    }
}

#[test]
fn a_full_queue_says_so_at_once() {
    let queue = Queue::new(1000, 3);
    let push = |bytes| push_to(&queue, &[Topic::Actions], bytes);
    let _first = push(600).unwrap();
    assert_eq!(push(401).unwrap_err().kind(), ErrorKind::Retry);
    let _second = push(200).unwrap();
    let _third = push(200).unwrap();
    assert_eq!(push(0).unwrap_err().kind(), ErrorKind::Retry);
    let mut taken = Vec::new();
    assert!(matches!(queue.take(&mut taken, 700, std::time::Duration::ZERO), Next::Requests));
    assert_eq!(taken.len(), 2, "about as many bytes as were asked for");
    let _fourth = push(800).unwrap();
}

#[test]
fn a_queue_that_cannot_go_on_answers_everybody() {
    for (phase, kind) in [(Phase::Failing, ErrorKind::Retry), (Phase::Broken, ErrorKind::Corrupt)] {
        let queue = Queue::new(1000, 10);
        let push = || {
            let (answer, answered) = oneshot::channel();
            queue.push(Request { batch: Vec::new(), bytes: 1, answer }).map(|()| answered)
        };
        let queued = [push().unwrap(), push().unwrap()];
        queue.enter(phase);
        for mut answered in queued {
            assert_eq!(answered.try_recv().unwrap().unwrap_err().kind(), ErrorKind::Retry);
        }
        assert_eq!(push().unwrap_err().kind(), kind);
        queue.enter(Phase::Closed);
        queue.enter(Phase::Open);
        assert_eq!(queue.phase(), Phase::Closed, "closing is for ever");
    }
}

#[tokio::test]
async fn closing_finishes_what_was_taken() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, FjallLogOptions::default()).unwrap();
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let log = log.clone();
            tokio::spawn(async move { log.append(vec![append(n, "v")]).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let waiting = {
        let log = log.clone();
        tokio::spawn(async move { log.wait(OF, 1000).await })
    };
    tokio::task::yield_now().await;
    assert!(log.healthy());
    log.close();
    log.close();
    assert!(!log.healthy());
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(log.append(vec![append(1, "v")]).await.unwrap_err().kind(), ErrorKind::Retry);
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Retry);
    assert_eq!(log.read(OF, 0, ALL).await.unwrap().len(), 50, "reading goes on");
}

#[tokio::test]
async fn an_append_larger_than_the_queue_is_invalid() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, FjallLogOptions { queue_bytes_max: 10_000, ..FjallLogOptions::default() }).unwrap();
    let error = log.append(vec![append(1, vec![0; 10_000])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = log.append(vec![append(1, ""); 200]).await.unwrap_err();
    assert!(error.to_string().contains("split it"), "{error}");
    log.append(vec![append(1, vec![0; 9000])]).await.unwrap();
}

/// What a failed write left behind, as the committer finds it after opening again.
#[tokio::test]
async fn a_batch_left_by_a_failed_write_becomes_visible_after_recovery() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, FjallLogOptions::default()).unwrap();
    log.append(vec![append(1, "a"), append(2, "b")]).await.unwrap();
    let shared = &log.shared;
    let (_, value) = stored(2, &[(5, vec![], b"left".to_vec()), (6, vec![], b"behind".to_vec())]);
    let mut writes = Writes::default();
    writes.put(&shared.partitions[0].space, key_of(2).as_slice(), value);
    shared.embedded.write(writes, Durability::Ordered).unwrap();
    assert_eq!(log.bounds(OF).await.unwrap().end, 2);
    assert_eq!(log.read(OF, 0, ALL).await.unwrap().len(), 2);
    Committer::new(shared.clone()).try_recover(false).unwrap();
    let bounds = log.bounds(OF).await.unwrap();
    assert_eq!((bounds.end, bounds.last_time), (4, Some(LogTime(6))));
    let values: Vec<Bytes> = log.read(OF, 0, ALL).await.unwrap().into_iter().map(|record| record.value).collect();
    assert_eq!(values, ["a", "b", "left", "behind"]);
    log.wait(OF, 3).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_lost_acknowledged_records_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, FjallLogOptions::default()).unwrap();
    log.append(vec![append(1, "a")]).await.unwrap();
    log.append(vec![append(2, "b")]).await.unwrap();
    let mut writes = Writes::default();
    writes.delete(&log.shared.partitions[0].space, key_of(1).as_slice());
    log.shared.embedded.write(writes, Durability::Synced).unwrap();
    let error = Committer::new(log.shared.clone()).try_recover(false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("actions/0 ends at 1"), "{error}");
}

#[tokio::test]
async fn many_trims_keep_the_newest_and_leave_other_partitions_alone() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir, FjallLogOptions::default()).unwrap();
    let other = TopicPartition::new(Topic::Actions, 1);
    log.append(vec![Append { to: other, ..append(1, "other") }]).await.unwrap();
    // More batches than one write of a trim deletes.
    let partition = &log.shared.partitions[0];
    let mut writes = Writes::default();
    for base in 0..3000 {
        let (batch, value) = stored(base, &[(1, vec![], vec![])]);
        writes.put(&partition.space, key_of(base).as_slice(), value);
        partition.publish([batch].into_iter());
    }
    log.shared.embedded.write(writes, Durability::Synced).unwrap();
    log.trim(OF, 2500).await.unwrap();
    assert_eq!(log.bounds(OF).await.unwrap().start, 2500);
    log.trim(OF, u64::MAX).await.unwrap();
    let bounds = log.bounds(OF).await.unwrap();
    assert_eq!((bounds.start, bounds.end), (2999, 3000));
    assert_eq!(log.read(other, 0, ALL).await.unwrap().len(), 1);
    drop(log);
    let log = open(&dir, FjallLogOptions::default()).unwrap();
    assert_eq!(log.bounds(OF).await.unwrap(), bounds);
}
