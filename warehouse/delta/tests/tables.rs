//! What the embedded warehouse does beyond the laws of the seam: how the directory looks and what maintenance leaves in it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow;
use deltalake_core::{DeltaTable, open_table};
use futures::{StreamExt, TryStreamExt};
use millrace_delta::{DATES_MAX, DeltaOptions, DeltaWarehouse, RETENTION};
use millrace_events::Topic;
use millrace_warehouse::tables::{EventRow, EventsBuilder};
use millrace_warehouse::{Answer, Block, ErrorKind, Maintained, Source, Table, Warehouse};
use tempfile::TempDir;
use url::Url;

const DAY_US: i64 = 86_400_000_000;

/// One row for each time.
fn block_of(start: u64, times: impl IntoIterator<Item = i64>) -> Block {
    let mut rows = EventsBuilder::with_capacity(8);
    let mut end = start;
    for event_time in times {
        rows.push(EventRow {
            message_id: &end.to_string(),
            source: "web",
            event: "post_viewed",
            actor_id: "ada",
            user_id: None,
            anonymous_id: None,
            post_id: None,
            target_id: None,
            tag: None,
            slate: None,
            event_time,
            ingest_time: 0,
            properties: "{}",
            context: "{}",
            topic: "actions",
            partition: 0,
            offset: end,
            robot: false,
            violation: None,
        });
        end += 1;
    }
    let source = Source { generation: 1, topic: Topic::Actions, partition: 0 };
    Block { source, start, end, rows: vec![rows.finish()] }
}

struct Place {
    dir: TempDir,
    warehouse: Option<DeltaWarehouse>,
}

impl Place {
    async fn new(retention: Duration) -> Self {
        let mut place = Self { dir: TempDir::new().unwrap(), warehouse: None };
        place.reopen(retention).await;
        place
    }

    async fn reopen(&mut self, retention: Duration) {
        self.warehouse = None;
        let options = DeltaOptions { retention, ..DeltaOptions::default() };
        self.warehouse = Some(DeltaWarehouse::open(&self.root(), options).await.unwrap());
    }

    /// With what a directory may have in its name.
    fn root(&self) -> PathBuf {
        self.dir.path().join("a dir # é")
    }

    fn warehouse(&self) -> &DeltaWarehouse {
        self.warehouse.as_ref().unwrap()
    }

    /// Commits one row each, on one date.
    async fn commit(&self, offsets: std::ops::Range<u64>) {
        for offset in offsets {
            let time = i64::try_from(offset).unwrap();
            self.warehouse().commit(Table::Events, vec![block_of(offset, [time])]).await.unwrap();
        }
    }

    async fn maintain(&self) -> Maintained {
        self.warehouse().maintain().await.unwrap()
    }

    async fn rows(&self) -> usize {
        count(self.warehouse().scan(Table::Events, &[]).await.unwrap()).await
    }

    /// The table as another program sees it.
    async fn outside(&self) -> DeltaTable {
        open_table(Url::from_directory_path(self.root().join("events")).unwrap()).await.unwrap()
    }

    fn data_files(&self) -> usize {
        walk(&self.root().join("events")).iter().filter(|path| is(path, "parquet") && !in_log(path)).count()
    }

    fn log_files(&self, extension: &str) -> usize {
        walk(&self.root().join("events")).iter().filter(|path| is(path, extension) && in_log(path)).count()
    }
}

async fn count(answer: Answer) -> usize {
    answer.rows.map_ok(|batch| batch.num_rows()).try_fold(0, |sum, rows| async move { Ok(sum + rows) }).await.unwrap()
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

fn in_log(path: &Path) -> bool {
    path.parent().unwrap().ends_with("_delta_log")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_is_plain_delta_with_its_columns() {
    let place = Place::new(RETENTION).await;
    for table in Table::ALL {
        let root = place.root().join(table.name());
        let found = open_table(Url::from_directory_path(root).unwrap()).await.unwrap();
        let snapshot = found.snapshot().unwrap();
        let protocol = snapshot.protocol();
        assert_eq!((protocol.min_reader_version(), protocol.min_writer_version()), (1, 2));
        assert_eq!(snapshot.metadata().partition_columns(), &["event_date"]);
        let schema: arrow::datatypes::Schema = snapshot.schema().as_ref().try_into_arrow().unwrap();
        assert_eq!(schema.fields(), table.schema().fields(), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_open_once() {
    let place = Place::new(RETENTION).await;
    let second = DeltaWarehouse::open(&place.root(), DeltaOptions::default()).await;
    assert_eq!(second.err().map(|error| error.kind()), Some(ErrorKind::Busy));
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_become_one_and_are_deleted_after_the_retention() {
    let mut place = Place::new(RETENTION).await;
    place.commit(0..16).await;
    assert_eq!(place.data_files(), 16);
    let done = place.maintain().await;
    assert_eq!((done.files_merged, done.files_written, done.files_deleted), (16, 1, 0));
    assert_eq!(place.data_files(), 17);
    assert_eq!(place.outside().await.snapshot().unwrap().log_data().num_files(), 1);
    assert_eq!(place.maintain().await, Maintained::default());

    place.reopen(Duration::ZERO).await;
    assert_eq!(place.maintain().await.files_deleted, 16);
    assert_eq!((place.data_files(), place.rows().await), (1, 16));
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_keep_the_log_short_and_remember_everything() {
    let mut place = Place::new(Duration::ZERO).await;
    let mut checkpoints = 0;
    for round in 0..25 {
        place.commit(round * 10..round * 10 + 10).await;
        checkpoints += place.maintain().await.checkpoints;
    }
    assert_eq!(checkpoints, 2);
    assert!(place.log_files("json") < 120, "{} entries are left", place.log_files("json"));
    assert_eq!(place.log_files("parquet"), 1);
    assert_eq!(place.rows().await, 250);
    place.reopen(Duration::ZERO).await;
    let recorded = place.warehouse().recorded(Table::Events).await.unwrap();
    assert_eq!(recorded.into_values().collect::<Vec<_>>(), [250]);
    assert_eq!(place.rows().await, 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_no_entry_names_are_deleted_and_others_are_not_ours() {
    let mut place = Place::new(Duration::ZERO).await;
    place.commit(0..1).await;
    let date = place.root().join("events/event_date=1970-01-01");
    fs::write(date.join("from-a-kill.parquet"), "torn").unwrap();
    fs::write(date.join("x.parquet#3"), "torn").unwrap();
    fs::write(date.join("notes.txt"), "of somebody").unwrap();
    place.reopen(Duration::ZERO).await;
    assert_eq!(place.maintain().await.files_deleted, 1);
    let mut left = walk(&date).into_iter().map(|path| path.extension().unwrap().to_owned()).collect::<Vec<_>>();
    left.sort();
    assert_eq!(left, ["parquet", "txt"]);
    assert_eq!(place.rows().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_wait_for_who_reads_them_here() {
    let place = Place::new(Duration::ZERO).await;
    place.commit(0..16).await;
    let mut answer = place.warehouse().scan(Table::Events, &[]).await.unwrap();
    let first = answer.rows.next().await.unwrap().unwrap().num_rows();
    let done = place.maintain().await;
    assert_eq!((done.files_merged, done.files_deleted), (16, 0));
    assert_eq!(first + count(answer).await, 16);
    // The reader's thread gives its files back when it has seen that nobody waits.
    while place.maintain().await.files_deleted == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(place.data_files(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_dates_are_refused_whole() {
    let place = Place::new(RETENTION).await;
    let dates = |count: usize| (0..count).map(|day| i64::try_from(day).unwrap() * DAY_US);
    let refused = place.warehouse().commit(Table::Events, vec![block_of(0, dates(DATES_MAX + 1))]).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Invalid));
    assert_eq!(place.data_files(), 0);
    place.warehouse().commit(Table::Events, vec![block_of(0, dates(DATES_MAX))]).await.unwrap();
    assert_eq!((place.data_files(), place.rows().await), (DATES_MAX, DATES_MAX));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_delta_cannot_write_is_refused() {
    let place = Place::new(RETENTION).await;
    for time in [i64::MAX, i64::MIN] {
        let refused = place.warehouse().commit(Table::Events, vec![block_of(0, [time])]).await;
        assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Invalid));
    }
    assert_eq!(place.rows().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_somebody_else_is_a_conflict_once() {
    let place = Place::new(RETENTION).await;
    place.commit(0..2).await;
    let entry = place.root().join("events/_delta_log/00000000000000000003.json");
    fs::write(entry, "{\"commitInfo\":{\"operation\":\"of somebody else\"}}\n").unwrap();
    let refused = place.warehouse().commit(Table::Events, vec![block_of(2, [2])]).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Conflict));
    place.commit(2..3).await;
    assert_eq!(place.rows().await, 3);
    assert_eq!(place.outside().await.version(), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_or_broken_disk_is_to_be_tried_again() {
    let place = Place::new(RETENTION).await;
    place.commit(0..1).await;
    let log = place.root().join("events/_delta_log");
    let away = place.root().join("away");
    fs::rename(&log, &away).unwrap();
    fs::write(&log, "no directory").unwrap();
    let refused = place.warehouse().commit(Table::Events, vec![block_of(1, [1])]).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Retry));
    assert_eq!(place.rows().await, 1, "what is known stays readable");
    fs::remove_file(&log).unwrap();
    fs::rename(&away, &log).unwrap();
    place.commit(1..2).await;
    assert_eq!(place.rows().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_other_columns_is_not_touched() {
    let mut place = Place::new(RETENTION).await;
    place.warehouse = None;
    let first = place.root().join("events/_delta_log/00000000000000000000.json");
    let entry = fs::read_to_string(&first).unwrap().replace("actor_id", "who");
    fs::write(&first, &entry).unwrap();
    let refused = DeltaWarehouse::open(&place.root(), DeltaOptions::default()).await;
    let error = refused.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("other columns"), "{error}");
    assert_eq!(fs::read_to_string(&first).unwrap(), entry);
}
