//! Whatever the log does, wherever the process ends: what was acknowledged is in the log, in the order of its key.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use futures::future::join_all;
use millrace_events::partition_of;
use proptest::prelude::*;

use super::*;

const KEYS: u8 = 3;
const PARTITIONS: u32 = 2;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Weather(Weather),
    /// Everybody sends so many events, and sends again what was not acknowledged.
    Send(u8),
    /// What is kept has so many milliseconds to get into the log.
    Pause(u64),
    /// The process dies, and so many bytes of a write that was never answered are on disk.
    Crash(u8),
}

fn step() -> impl Strategy<Value = Step> {
    const WEATHERS: &[Weather] = &[Weather::Well, Weather::Away, Weather::Refuses, Weather::Hangs];
    prop_oneof![
        4 => prop::sample::select(WEATHERS).prop_map(Step::Weather),
        6 => (1..4_u8).prop_map(Step::Send),
        2 => (0..150_u64).prop_map(Step::Pause),
        2 => (0..100_u8).prop_map(Step::Crash),
    ]
}

/// Who sends, and what became of it.
#[derive(Default)]
struct Sender {
    next: u32,
    acknowledged: u32,
}

fn append(key: u8, n: u32) -> Append {
    let name = [b'k', key];
    let to = TopicPartition::new(Topic::Actions, partition_of(&name, PARTITIONS));
    let value = [&[key][..], &n.to_be_bytes()].concat();
    Append { to, time: seconds(i64::from(n)), key: Bytes::copy_from_slice(&name), value: value.into() }
}

struct World {
    scene: Scene,
    senders: BTreeMap<u8, Sender>,
}

impl World {
    async fn play(steps: &[Step], bytes_max: u64) {
        let mut scene = Scene::with(|options| options.bytes_max = bytes_max);
        scene.log = Faulty::new(PARTITIONS);
        let scene = scene.again().await;
        let mut world = World { scene, senders: (0..KEYS).map(|key| (key, Sender::default())).collect() };
        for step in steps {
            world = world.step(step).await;
        }
        world.scene.log.set(Weather::Well);
        world.scene.emptied().await;
        world.check();
    }

    async fn step(mut self, step: &Step) -> Self {
        match *step {
            Step::Weather(weather) => self.scene.log.set(weather),
            Step::Send(count) => self.send(u32::from(count)).await,
            Step::Pause(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Step::Crash(torn_bytes) => return self.crash(torn_bytes).await,
        }
        self
    }

    async fn send(&mut self, count: u32) {
        let spool = &self.scene.spool;
        join_all(self.senders.iter_mut().map(|(key, sender)| async move {
            sender.next = sender.next.max(sender.acknowledged + count);
            let batch = (sender.acknowledged..sender.next).map(|n| append(*key, n)).collect();
            if spool.append(batch).await.is_ok() {
                sender.acknowledged = sender.next;
            }
        }))
        .await;
    }

    /// Files as they are now are what the next process finds, whatever this one manages to delete until it is gone.
    async fn crash(mut self, torn_bytes: u8) -> Self {
        let files = files(&self.scene.spool);
        let Scene { dir, log, spool, draining, options } = self.scene;
        spool.close();
        draining.await.unwrap();
        drop(spool);
        for (path, bytes) in &files {
            fs::write(path, bytes).unwrap();
        }
        if let Some((path, bytes)) = files.last_key_value() {
            let torn = vec![0x5a; usize::from(torn_bytes)];
            fs::write(path, [&bytes[..], &torn].concat()).unwrap();
        }
        self.scene = Scene::over(dir, log, options);
        self
    }

    fn check(&self) {
        for (key, sender) in &self.senders {
            let of = append(*key, 0).to;
            let records = self.scene.log.toy.records(of);
            let mine = records.iter().filter(|record| record.value[0] == *key);
            let found = mine.map(|record| i64::from(u32::from_be_bytes(record.value[1..].try_into().unwrap())));
            let found = firsts(found.collect());
            let expected: Vec<i64> = (0..i64::from(sender.next)).take(found.len()).collect();
            assert_eq!(found, expected, "key {key}: in order");
            assert!(found.len() >= sender.acknowledged as usize, "key {key}: {} acknowledged", sender.acknowledged);
        }
    }
}

/// The files as they are at one moment.
fn files(spool: &Spool) -> BTreeMap<PathBuf, Vec<u8>> {
    let _nobody_deletes = writer::lock(&spool.files);
    let paths = fs::read_dir(spool.dir()).unwrap().map(|entry| entry.unwrap().path());
    let segments = paths.filter(|path| path.extension().is_some_and(|extension| extension == "spool"));
    segments.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_was_acknowledged_is_in_the_log_in_the_order_of_its_key(
        steps in prop::collection::vec(step(), 1..30),
        bytes_max in prop::sample::select(&[2_000_u64, 20_000, SPOOL_BYTES]),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        runtime.block_on(World::play(&steps, bytes_max));
    }
}
