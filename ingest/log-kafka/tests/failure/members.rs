//! Members of a group that are killed or hang, each a process of its own, and a cluster that hangs.

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use millrace_events::{Topic, TopicPartition};
use millrace_log::{Assignment, Member};
use millrace_log_kafka::{GroupOptions, KafkaLog, KafkaMember, KafkaOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{BROKERS, LONG, cluster, open, options};

/// Set for the child, which is this same program: where the brokers are.
const CHILD_BROKERS: &str = "MILLRACE_TEST_MEMBER_BROKERS";
/// And what its topics begin with.
const CHILD_PREFIX: &str = "MILLRACE_TEST_MEMBER_PREFIX";
/// The shortest that brokers take.
const SESSION: Duration = Duration::from_secs(6);
/// How much later than that a partition has its next owner, on a slow machine.
const TAKEOVER_MAX: Duration = Duration::from_secs(20);

fn group() -> GroupOptions {
    GroupOptions {
        topics: vec![Topic::Actions, Topic::UserEvents],
        session_timeout: SESSION,
        ..GroupOptions::default()
    }
}

fn all() -> BTreeSet<TopicPartition> {
    let of = |topic| (0..3).map(move |partition| TopicPartition::new(topic, partition));
    of(Topic::Actions).chain(of(Topic::UserEvents)).collect()
}

fn set(assignment: &Assignment) -> BTreeSet<TopicPartition> {
    assignment.partitions.iter().copied().collect()
}

/// A member that releases whatever it is told to, at once.
struct Following {
    member: Arc<KafkaMember>,
    has: watch::Receiver<Assignment>,
    follow: JoinHandle<()>,
}

impl Following {
    fn start(log: &KafkaLog) -> Self {
        let member = Arc::new(log.join(&group()).unwrap());
        let (has, told) = watch::channel(Assignment::default());
        let follow = tokio::spawn({
            let member = member.clone();
            async move {
                let mut assignment = member.assignment();
                loop {
                    let now = assignment.borrow_and_update().clone();
                    assert!(now.epoch >= has.borrow().epoch, "the epoch rises");
                    member.released(now.epoch);
                    has.send_replace(now);
                    assignment.changed().await.unwrap();
                }
            }
        });
        Self { member, has: told, follow }
    }

    async fn until(&mut self, wanted: impl Fn(&BTreeSet<TopicPartition>) -> bool) -> Assignment {
        let reached = tokio::time::timeout(LONG, self.has.wait_for(|now| wanted(&set(now)))).await;
        reached.expect("the group should share its partitions out").unwrap().clone()
    }

    async fn leave(self) {
        self.follow.abort();
        // It was aborted.
        drop(self.follow.await);
        tokio::task::spawn_blocking(move || drop(self.member)).await.unwrap();
    }
}

/// A member in a process of its own, killed when dropped.
struct Other {
    process: Child,
    told: mpsc::UnboundedReceiver<Assignment>,
}

impl Other {
    fn start(options: &KafkaOptions) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "members::child", "--nocapture"])
            .env(CHILD_BROKERS, &options.brokers)
            .env(CHILD_PREFIX, &options.prefix)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (tell, told) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).filter_map(|line| parse(&line)).try_for_each(|a| tell.send(a))
        });
        Self { process, told }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("/bin/sh").arg("-c").arg(format!("kill {signal} {}", self.process.id())).status();
        assert!(sent.unwrap().success());
    }

    async fn next(&mut self) -> Assignment {
        tokio::time::timeout(LONG, self.told.recv()).await.expect("the other should be told").unwrap()
    }

    async fn until(&mut self, wanted: impl Fn(&BTreeSet<TopicPartition>) -> bool) -> Assignment {
        loop {
            let now = self.next().await;
            if wanted(&set(&now)) {
                return now;
            }
        }
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may be gone.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// `assigned EPOCH TOPIC/PARTITION…`
fn parse(line: &str) -> Option<Assignment> {
    let mut words = line.split_once("assigned ")?.1.split(' ');
    let epoch = words.next()?.parse().ok()?;
    let partition = |word: &str| {
        let (topic, partition) = word.split_once('/')?;
        let topic = Topic::ALL.into_iter().find(|known| known.as_str() == topic)?;
        Some(TopicPartition::new(topic, partition.parse().ok()?))
    };
    Some(Assignment { epoch, partitions: words.map_while(partition).collect() })
}

/// The child: a member that prints each assignment and releases it, until nobody listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let (Ok(brokers), Ok(prefix)) = (env::var(CHILD_BROKERS), env::var(CHILD_PREFIX)) else { return };
    std::thread::spawn(|| {
        // The one who started it holds the other end, without a word.
        drop(std::io::stdin().read_line(&mut String::new()));
        std::process::exit(1);
    });
    let log = open(KafkaOptions { brokers, prefix, partitions: 3, ..KafkaOptions::default() }).await;
    let mut member = Following::start(&log);
    loop {
        let now = member.has.borrow_and_update().clone();
        let partitions: String = now.partitions.iter().map(|of| format!(" {}/{}", of.topic, of.partition)).collect();
        println!("assigned {}{partitions}", now.epoch);
        member.has.changed().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_hangs_is_taken_over_and_learns_it_when_it_goes_on() {
    let Some(cluster) = cluster().await else { return };
    let options = options(cluster.as_ref().unwrap(), "members");
    let log = open(options.clone()).await;
    let mut other = Other::start(&options);
    other.until(|now| *now == all()).await;
    let mut here = Following::start(&log);
    let mine = here.until(|now| now.len() == all().len() / 2).await;
    let theirs = other.until(|now| now.len() == all().len() / 2).await;
    assert_eq!(&set(&mine) | &set(&theirs), all());

    other.signal("-STOP");
    let stopped = Instant::now();
    let taken = here.until(|now| *now == all()).await;
    assert!(taken.epoch > mine.epoch);
    println!("a member that hung was taken over after {:?}", stopped.elapsed());
    assert!(stopped.elapsed() < SESSION + TAKEOVER_MAX);
    other.signal("-CONT");
    let learnt = other.next().await;
    assert!(learnt.partitions.is_empty() && learnt.epoch > theirs.epoch, "it lost everything: {learnt:?}");
    let theirs = other.until(|now| now.len() == all().len() / 2).await;
    assert!(theirs.epoch > learnt.epoch);
    let mine = here.until(|now| now.is_disjoint(&set(&theirs))).await;
    assert_eq!(&set(&mine) | &set(&theirs), all());

    other.signal("-KILL");
    let killed = Instant::now();
    let taken = here.until(|now| *now == all()).await;
    assert!(taken.epoch > mine.epoch);
    println!("a member that was killed was taken over after {:?}", killed.elapsed());
    assert!(killed.elapsed() < SESSION + TAKEOVER_MAX);
    here.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_back_when_the_cluster_does() {
    let Some(cluster) = cluster().await else { return };
    let kafka = cluster.as_ref().unwrap();
    let log = open(options(kafka, "back")).await;
    let mut members = [Following::start(&log), Following::start(&log)];
    let mut before = Vec::new();
    for member in &mut members {
        before.push(member.until(|now| now.len() == all().len() / 2).await);
    }
    (0..BROKERS as usize).for_each(|nth| kafka.suspend(nth));
    // Without a word from the cluster for longer than the session nobody may go on.
    for member in &mut members {
        member.until(BTreeSet::is_empty).await;
    }
    (0..BROKERS as usize).for_each(|nth| kafka.resume(nth));
    let resumed = Instant::now();
    let mut after = Vec::new();
    for (member, before) in members.iter_mut().zip(&before) {
        let now = member.until(|now| now.len() == all().len() / 2).await;
        assert!(now.epoch > before.epoch);
        after.push(now);
    }
    assert_eq!(&set(&after[0]) | &set(&after[1]), all());
    println!("members were back {:?} after the cluster was", resumed.elapsed());
    let [first, mut second] = members;
    first.leave().await;
    second.until(|now| *now == all()).await;
    second.leave().await;
}
