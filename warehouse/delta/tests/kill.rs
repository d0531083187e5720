//! A process that is killed while it commits, merges, writes checkpoints and deletes leaves tables that anybody can read, with
//! each row that it answered for exactly once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use deltalake_core::open_table;
use millrace_delta::{DeltaOptions, DeltaWarehouse, RETENTION};
use millrace_events::Topic;
use millrace_warehouse::tables::{EventRow, EventsBuilder};
use millrace_warehouse::{Block, ErrorKind, Source, Table, Warehouse};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use url::Url;

/// Set for the child, which is this same program: where its tables are.
const CHILD_DATA: &str = "MILLRACE_TEST_KILLED_WAREHOUSE";
/// Set for the child: for how many seconds it keeps replaced files.
const CHILD_RETENTION: &str = "MILLRACE_TEST_KILLED_RETENTION";
const KILLS: u64 = 60;
/// How often a reader lists the table again that met a listing with a gap.
const LISTINGS_MAX: usize = 20;
/// More than the parent waits for. Without a bound a slow reader leaves a table that takes the next one longer still.
const COMMITS_OF_A_LIFE: usize = 30;
/// Every commit moves each of these partitions by so many records.
const PARTITIONS: [(u32, u64); 2] = [(0, 3), (1, 5)];

fn source(partition: u32) -> Source {
    Source { generation: 1, topic: Topic::Actions, partition }
}

/// A block whose rows fall on two dates.
fn block(partition: u32, start: u64, end: u64) -> Block {
    let mut rows = EventsBuilder::with_capacity(8);
    for offset in start..end {
        rows.push(EventRow {
            message_id: &offset.to_string(),
            source: "web",
            event: "post_viewed",
            actor_id: "ada",
            user_id: None,
            anonymous_id: None,
            post_id: None,
            target_id: None,
            tag: None,
            slate: None,
            event_time: i64::try_from(offset % 2 * 86_400_000_000 + offset).unwrap(),
            ingest_time: 0,
            properties: "{}",
            context: "{}",
            topic: "actions",
            partition,
            offset,
            robot: false,
            violation: None,
        });
    }
    Block { source: source(partition), start, end, rows: vec![rows.finish()] }
}

/// The child: commits, maintains beside it until it is killed, and prints how many commits it has been answered in all its lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(dir) = env::var_os(CHILD_DATA) else { return };
    let retention = Duration::from_secs(env::var(CHILD_RETENTION).unwrap().parse().unwrap());
    let options = DeltaOptions { retention, ..DeltaOptions::default() };
    let warehouse = Arc::new(DeltaWarehouse::open(Path::new(&dir), options).await.unwrap());
    let maintained = warehouse.clone();
    tokio::spawn(async move {
        loop {
            // A directory has no moment: a listing that begins before two commits may hold the second and not the first.
            // Whoever meets that is told, and tries again.
            match maintained.maintain().await {
                Err(error) if error.kind() == ErrorKind::Retry => {}
                done => drop(done.unwrap()),
            }
            // It lists the whole log each time, and the reader beside it wants the disk too.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    for _ in 0..COMMITS_OF_A_LIFE {
        let recorded = warehouse.recorded(Table::Events).await.unwrap();
        let stands = |partition| recorded.get(&source(partition)).copied().unwrap_or(0);
        let blocks = PARTITIONS.map(|(partition, records)| {
            let start = stands(partition);
            block(partition, start, start + records)
        });
        let commits = blocks[0].end / PARTITIONS[0].1;
        warehouse.commit(Table::Events, blocks.to_vec()).await.unwrap();
        println!("told {commits}");
    }
    std::future::pending().await
}

struct Killed {
    child: Child,
    told: Arc<AtomicU64>,
    lines: std::thread::JoinHandle<()>,
}

impl Killed {
    fn start(dir: &Path, retention: Duration) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD_DATA, dir)
            .env(CHILD_RETENTION, retention.as_secs().to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = Arc::new(AtomicU64::new(0));
        let heard = told.clone();
        let lines = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(commits) = line.strip_prefix("told ") {
                    heard.store(commits.parse().unwrap(), Ordering::Release);
                }
            }
        });
        Self { child, told, lines }
    }

    fn told(&self) -> u64 {
        self.told.load(Ordering::Acquire)
    }

    fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Kills it; answers how many commits it had been answered.
    fn kill(mut self) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.join().unwrap();
        self.told.load(Ordering::Acquire)
    }
}

/// How many commits an outside reader finds: whole ones, each row once.
async fn seen_from_outside(dir: &Path) -> u64 {
    let root = dir.join(Table::Events.name());
    let url = Url::from_directory_path(&root).unwrap();
    let mut opened = open_table(url.clone()).await;
    // See the child: hundreds of commits a second make that happen.
    for _ in 0..LISTINGS_MAX {
        match &opened {
            Err(error) if error.to_string().contains("gap") => opened = open_table(url.clone()).await,
            _ => break,
        }
    }
    let table = opened.unwrap();
    let mut offsets: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for file in table.snapshot().unwrap().log_data().iter() {
        let path = root.join(file.path().as_ref());
        let rows = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
        let mut count = 0;
        for batch in rows {
            let batch = batch.unwrap();
            count += batch.num_rows();
            let partitions = batch.column_by_name("partition").unwrap().as_primitive::<Int32Type>().values();
            let found = batch.column_by_name("offset").unwrap().as_primitive::<Int64Type>().values();
            for (partition, offset) in partitions.iter().zip(found) {
                offsets.entry(partition.unsigned_abs()).or_default().push(offset.unsigned_abs());
            }
        }
        assert_eq!(file.num_records(), Some(count));
    }
    let mut commits = Vec::new();
    for (partition, records) in PARTITIONS {
        let mut found = offsets.remove(&partition).unwrap_or_default();
        found.sort_unstable();
        let end = found.len() as u64;
        assert!(found.iter().copied().eq(0..end), "partition {partition} lacks rows or has them twice");
        assert_eq!(end % records, 0, "a commit is there whole or not at all");
        commits.push(end / records);
    }
    assert_eq!(commits[0], commits[1], "blocks of one commit come together");
    commits[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_answered_and_leaves_readable_tables() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for kill in 0..KILLS {
        // Files vanish at once in every other life; a reader beside it can then be late, so it comes after the kill only.
        let at_once = kill % 2 == 0;
        let mut child = Killed::start(dir.path(), if at_once { Duration::ZERO } else { RETENTION });
        let until = before + 1 + kill * 7 % 23;
        while child.told() < until {
            assert!(child.is_alive(), "the child found something wrong");
            if at_once || child.told() <= before {
                tokio::task::yield_now().await;
                continue;
            }
            let told = child.told();
            let seen = seen_from_outside(dir.path()).await;
            assert!(seen >= told, "{seen} commits are seen of {told} answered");
        }
        let told = child.kill();
        let seen = seen_from_outside(dir.path()).await;
        assert!(seen == told || seen == told + 1, "{seen} commits are seen of {told} answered");
        before = seen;
    }
    println!("{before} commits in {KILLS} lives");
}
