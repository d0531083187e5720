mod faulty;
mod laws;

use std::time::Duration;

use bytes::Bytes;
use millrace_events::Topic;
use millrace_log::toy::seconds;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use faulty::{Faulty, Weather};

use super::*;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const ACTIONS: TopicPartition = TopicPartition::new(Topic::Actions, 0);

/// A spool in front of a log whose weather is made here.
struct Scene {
    dir: TempDir,
    log: Faulty,
    spool: Arc<Spool>,
    draining: JoinHandle<()>,
    options: SpoolOptions,
}

impl Scene {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut SpoolOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = SpoolOptions::new(dir.path().join("spool"), "toy");
        (options.free_bytes_min, options.try_max, options.keep_max) = (0, Duration::from_millis(20), PATIENCE);
        change(&mut options);
        Self::over(dir, Faulty::new(1), options)
    }

    fn over(dir: TempDir, log: Faulty, options: SpoolOptions) -> Self {
        let spool = Spool::open(Arc::new(log.clone()), options.clone()).unwrap();
        let draining = tokio::spawn(spool.drain());
        Self { dir, log, spool, draining, options }
    }

    /// The process ends and another begins.
    async fn again(self) -> Self {
        let Self { dir, log, spool, draining, options } = self;
        spool.close();
        draining.await.unwrap();
        drop(spool);
        Self::over(dir, log, options)
    }

    async fn send(&self, n: i64) -> Result<Vec<Offset>> {
        self.spool.append(vec![event(n)]).await
    }

    async fn emptied(&self) {
        let begun = Instant::now();
        while !self.spool.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "not emptied in time: {:?}", self.spool.spooled());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What is in the log, repetitions included.
    fn logged(&self) -> Vec<i64> {
        let records = self.log.toy.records(ACTIONS);
        records.iter().map(|record| i64::from_be_bytes(record.value[..8].try_into().unwrap())).collect()
    }
}

fn event(n: i64) -> Append {
    Append { to: ACTIONS, time: seconds(n), key: Bytes::from_static(b"ann"), value: n.to_be_bytes().to_vec().into() }
}

fn large(n: i64, bytes: usize) -> Append {
    let mut value = n.to_be_bytes().to_vec();
    value.resize(bytes, 0);
    Append { value: value.into(), ..event(n) }
}

/// What is left when repetitions are dropped, as stage 1 does.
fn firsts(mut records: Vec<i64>) -> Vec<i64> {
    let mut met = std::collections::HashSet::new();
    records.retain(|n| met.insert(*n));
    records
}

#[tokio::test]
async fn a_log_that_is_well_gets_everything_at_once() {
    let scene = Scene::new();
    assert_eq!(scene.send(0).await.unwrap(), [0]);
    assert_eq!(scene.send(1).await.unwrap(), [1]);
    assert_eq!(scene.spool.append(Vec::new()).await.unwrap(), []);
    assert_eq!(scene.spool.spooled(), Spooled::default());
    assert!(!has_leftovers(scene.spool.dir()));
}

#[tokio::test]
async fn what_a_log_that_is_away_does_not_take_is_in_it_afterwards() {
    let scene = Scene::new();
    scene.send(0).await.unwrap();
    scene.log.set(Weather::Away);
    for n in 1..=3 {
        assert_eq!(scene.send(n).await.unwrap(), [], "what is kept has no offset yet");
    }
    let spooled = scene.spool.spooled();
    assert_eq!((spooled.events, spooled.kept_events, spooled.oldest), (3, 3, Some(seconds(1))));
    assert!(spooled.bytes > 0 && scene.spool.healthy() && !scene.spool.is_empty());
    assert_eq!(scene.logged(), [0]);
    scene.log.set(Weather::Well);
    scene.emptied().await;
    assert_eq!(scene.logged(), [0, 1, 2, 3]);
    let times: Vec<_> = scene.log.toy.records(ACTIONS).iter().map(|record| record.time).collect();
    assert_eq!(times, [0, 1, 2, 3].map(seconds), "each has the time at which it came");
    let expected = Spooled { kept_events: 3, drained_events: 3, ..Spooled::default() };
    assert_eq!(scene.spool.spooled(), expected);
    assert_eq!(scene.send(4).await.unwrap(), [4], "the way is straight again");
}

#[tokio::test]
async fn a_batch_of_which_a_part_was_written_is_there_whole_and_in_order() {
    let scene = Scene::new();
    scene.log.set(Weather::Refuses);
    scene.spool.append((0..4).map(event).collect()).await.unwrap();
    scene.send(4).await.unwrap();
    scene.log.set(Weather::Well);
    scene.emptied().await;
    let logged = scene.logged();
    assert!(logged.len() > 5, "what was written before it failed is there twice: {logged:?}");
    assert_eq!(firsts(logged), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_log_that_hangs_holds_nobody_up_and_what_it_took_after_all_is_there_once() {
    let scene = Scene::new();
    scene.log.set(Weather::Hangs);
    scene.send(0).await.unwrap();
    scene.send(1).await.unwrap();
    assert_eq!((scene.logged(), scene.spool.spooled().events), (vec![], 2));
    scene.log.set(Weather::Well);
    scene.emptied().await;
    assert_eq!(scene.logged(), [0, 1], "the append that hung was not repeated");
}

#[tokio::test]
async fn beyond_its_bound_the_spool_refuses_and_goes_on_when_there_is_room() {
    let scene = Scene::with(|options| options.bytes_max = 64 * 1024);
    scene.log.set(Weather::Away);
    let mut taken = 0;
    let refused = loop {
        match scene.spool.append(vec![large(taken, 1000)]).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "it does not get full");
    };
    assert_eq!(refused.kind(), ErrorKind::Retry);
    assert!(refused.to_string().contains("it is full, at most 65536 bytes"), "{refused}");
    assert!(taken > 50 && scene.spool.spooled().bytes <= 64 * 1024);
    assert!(!scene.spool.healthy(), "whoever asks first is refused without being read");
    scene.log.set(Weather::Well);
    scene.emptied().await;
    assert!(scene.spool.healthy());
    assert_eq!(scene.logged(), (0..taken).collect::<Vec<_>>());
    scene.log.set(Weather::Away);
    scene.send(taken).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_told_of_and_left_behind() {
    let scene = Scene::with(|options| options.free_bytes_min = u64::MAX / 2);
    scene.log.set(Weather::Away);
    let refused = scene.send(0).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Retry);
    assert!(scene.spool.spooled().failing.unwrap().contains("bytes are free on its disk"));
    assert!(!scene.spool.healthy());
    assert_eq!(scene.send(1).await.unwrap_err().kind(), ErrorKind::Retry);
    scene.log.set(Weather::Well);
    assert!(scene.spool.healthy() && scene.spool.is_empty());
    assert_eq!(scene.send(2).await.unwrap(), [0], "nothing is kept, so nothing is in the way");
}

#[tokio::test]
async fn time_is_not_told_before_what_came_earlier() {
    let scene = Scene::new();
    let tick = || Append { key: Bytes::new(), ..event(9) };
    scene.spool.append(vec![tick()]).await.unwrap();
    scene.log.set(Weather::Away);
    assert_eq!(scene.spool.append(vec![tick()]).await.unwrap_err().kind(), ErrorKind::Retry);
    assert!(scene.spool.is_empty(), "a tick is not kept");
    scene.send(0).await.unwrap();
    scene.log.set(Weather::Refuses);
    assert_eq!(scene.spool.append(vec![tick()]).await.unwrap_err().kind(), ErrorKind::Retry);
    scene.log.set(Weather::Well);
    scene.emptied().await;
    scene.spool.append(vec![tick()]).await.unwrap();
    assert_eq!(firsts(scene.logged()), [9, 0]);
    assert_eq!(scene.logged().last(), Some(&9));
}

#[tokio::test]
async fn what_a_process_leaves_the_next_one_brings_in_first() {
    let scene = Scene::new();
    scene.log.set(Weather::Away);
    for n in 0..3 {
        scene.send(n).await.unwrap();
    }
    let scene = scene.again().await;
    assert_eq!(scene.spool.newest_left(), Some(seconds(2)));
    assert_eq!((scene.spool.spooled().events, scene.spool.spooled().oldest), (3, Some(seconds(0))));
    scene.send(3).await.unwrap();
    assert_eq!(scene.logged(), [], "behind what was there");
    let scene = scene.again().await;
    scene.log.set(Weather::Well);
    scene.send(4).await.unwrap();
    scene.emptied().await;
    assert_eq!(scene.logged(), [0, 1, 2, 3, 4]);
    let scene = scene.again().await;
    assert_eq!(scene.spool.spooled(), Spooled::default());
    assert_eq!(scene.logged(), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_spool_is_for_one_process_and_one_log() {
    let scene = Scene::new();
    scene.log.set(Weather::Away);
    let log = || Arc::new(scene.log.clone());
    let refused = |options| Spool::open(log(), options).err().unwrap().to_string();
    let told = refused(scene.options.clone());
    assert!(told.contains("another process has the spool"), "{told}");
    let other = SpoolOptions { log_name: "another".to_owned(), ..scene.options.clone() };
    scene.send(0).await.unwrap();
    scene.spool.close();
    assert_eq!(scene.send(1).await.unwrap_err().kind(), ErrorKind::Retry, "it is closed");
    let Scene { draining, spool, .. } = &scene;
    assert!(!spool.healthy());
    while !draining.is_finished() {
        tokio::task::yield_now().await;
    }
    let Scene { dir, log, spool, options, .. } = scene;
    drop(spool);
    let told = Spool::open(Arc::new(log.clone()), other.clone()).err().unwrap().to_string();
    assert!(told.contains("holds events for the log `toy`, not for `another`"), "{told}");
    log.set(Weather::Well);
    let scene = Scene::over(dir, log, options);
    scene.emptied().await;
    let Scene { dir: _dir, log, spool, draining, .. } = scene;
    spool.close();
    draining.await.unwrap();
    drop(spool);
    Spool::open(Arc::new(log), other).unwrap();
}

#[tokio::test]
async fn what_is_too_much_for_one_append_is_brought_in_by_parts() {
    let scene = Scene::new();
    scene.log.set(Weather::Away);
    for n in 0..5 {
        scene.spool.append((0..3).map(|nth| event(n * 3 + nth)).collect()).await.unwrap();
    }
    scene.log.take_at_most(2);
    scene.log.set(Weather::Well);
    scene.emptied().await;
    assert_eq!(scene.logged(), (0..15).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_the_log_will_never_take_is_told_of_and_kept() {
    let scene = Scene::new();
    scene.log.set(Weather::Away);
    scene.send(0).await.unwrap();
    scene.log.take_at_most(0);
    scene.log.set(Weather::Well);
    let begun = Instant::now();
    while scene.spool.spooled().stuck.is_none() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!scene.spool.is_empty());
    scene.log.take_at_most(1);
    scene.emptied().await;
    assert_eq!((scene.logged(), scene.spool.spooled().stuck), (vec![0], None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_is_straight_again_while_clients_go_on_sending() {
    const CLIENTS: i64 = 4;
    let scene = Scene::new();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let client = |nth: i64| {
        let (spool, stop) = (scene.spool.clone(), stop.clone());
        tokio::spawn(async move {
            let mut n = nth;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                spool.append(vec![event(n)]).await.unwrap();
                n += CLIENTS;
            }
            n
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    for _ in 0..5 {
        scene.log.set(Weather::Away);
        let kept = scene.spool.spooled().kept_events + 50;
        let begun = Instant::now();
        while scene.spool.spooled().kept_events < kept {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        scene.log.set(Weather::Well);
        scene.emptied().await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut sent = Vec::new();
    for client in clients {
        sent.push(client.await.unwrap());
    }
    scene.emptied().await;
    let logged = scene.logged();
    for (nth, end) in (0..CLIENTS).zip(sent) {
        let of_one: Vec<i64> = firsts(logged.iter().copied().filter(|n| n % CLIENTS == nth).collect());
        let expected: Vec<i64> = (nth..end).step_by(CLIENTS as usize).collect();
        assert_eq!(of_one, expected, "client {nth}");
    }
}
