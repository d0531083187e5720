//! Tables on an object store that several processes write: the laws of the warehouse, and what only others can do to one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod gate;

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use async_trait::async_trait;
use futures::TryStreamExt;
use millrace_delta::{DeltaOptions, DeltaWarehouse, QueryOptions};
use millrace_engines::minio;
use millrace_objects::Target;
use millrace_objects::object_store::memory::InMemory;
use millrace_objects::object_store::path::Path;
use millrace_objects::object_store::{ObjectStore, ObjectStoreExt};
use millrace_warehouse::conformance::{Harness, block};
use millrace_warehouse::{ErrorKind, NamedQuery, Params, Table, Warehouse};

use gate::Gate;

/// Deletes nothing while a test lasts.
const LONG: Duration = Duration::from_secs(3_600);

fn target(store: Arc<dyn ObjectStore>) -> Target {
    Target { store, prefix: Path::from("a/prefix"), conditional: true, name: "memory".to_owned() }
}

async fn open(store: &Arc<InMemory>, retention: Duration) -> DeltaWarehouse {
    open_on(store.clone(), retention).await
}

async fn open_on(store: Arc<dyn ObjectStore>, retention: Duration) -> DeltaWarehouse {
    DeltaWarehouse::on(target(store), DeltaOptions { retention, ..DeltaOptions::default() }).await.unwrap()
}

async fn commit(warehouse: &DeltaWarehouse, partition: u32, records: Range<u64>) -> Result<(), ErrorKind> {
    warehouse.commit(Table::Events, vec![block(partition, records)]).await.map_err(|error| error.kind())
}

/// Where each partition stands, and partition and offset of each row.
type Seen = (Vec<(u32, u64)>, Vec<(i32, i64)>);

async fn seen(warehouse: &DeltaWarehouse) -> Seen {
    let recorded = warehouse.recorded(Table::Events).await.unwrap();
    let stands = recorded.into_iter().map(|(source, end)| (source.partition, end)).collect();
    let answer = warehouse.scan(Table::Events, &["partition", "offset"]).await.unwrap();
    let batches: Vec<_> = answer.rows.try_collect().await.unwrap();
    let mut rows = Vec::new();
    for batch in batches {
        let partitions = batch.column(0).as_primitive::<Int32Type>().values().to_vec();
        rows.extend(partitions.into_iter().zip(batch.column(1).as_primitive::<Int64Type>().values().iter().copied()));
    }
    rows.sort_unstable();
    (stands, rows)
}

/// Every row of these partitions up to here, once.
fn rows(ends: &[(u32, u64)]) -> Seen {
    let rows = ends.iter().flat_map(|(p, end)| (0..*end).map(|o| (i32::try_from(*p).unwrap(), o.cast_signed())));
    (ends.to_vec(), rows.collect())
}

/// Where a law keeps its tables: each warehouse that it opens has a place of its own.
struct Places {
    find: fn() -> Place,
    newest: Mutex<Option<Place>>,
}

#[derive(Clone)]
enum Place {
    Memory(Arc<InMemory>),
    Url(String),
}

impl Places {
    fn new(find: fn() -> Place) -> Self {
        Self { find, newest: Mutex::default() }
    }

    async fn open_newest(&self) -> Arc<dyn Warehouse> {
        let place = self.newest.lock().unwrap().clone().unwrap();
        match place {
            Place::Memory(store) => Arc::new(open(&store, LONG).await),
            Place::Url(url) => Arc::new(DeltaWarehouse::open_shared(&url, DeltaOptions::default()).await.unwrap()),
        }
    }
}

#[async_trait]
impl Harness for Places {
    async fn open(&self) -> Arc<dyn Warehouse> {
        *self.newest.lock().unwrap() = Some((self.find)());
        self.open_newest().await
    }

    async fn reopen(&self, warehouse: Arc<dyn Warehouse>) -> Arc<dyn Warehouse> {
        drop(warehouse);
        self.open_newest().await
    }
}

fn in_memory() -> Place {
    Place::Memory(Arc::default())
}

mod in_memory {
    millrace_warehouse::warehouse_conformance!(super::Places::new(super::in_memory));
}

mod on_s3 {
    use super::*;

    // In memory where there is no engine, which was said aloud.
    millrace_warehouse::warehouse_conformance!(Places::new(|| minio::prefix().map_or_else(in_memory, Place::Url)));

    /// A query has threads of its own, and must reach the server from there too.
    #[tokio::test]
    async fn queries_reach_the_server_from_their_own_threads() {
        let Some(url) = minio::prefix() else { return };
        let writer = DeltaWarehouse::open_shared(&url, DeltaOptions::default()).await.unwrap();
        for nth in 0..20 {
            commit(&writer, 0, nth * 5..nth * 5 + 5).await.unwrap();
        }
        let count = NamedQuery {
            name: "rows_of_test".to_owned(),
            doc: String::new(),
            params: Vec::new(),
            sql: "SELECT message_id, count(*) AS n FROM events GROUP BY message_id".to_owned(),
        };
        let ask = |reader: Arc<DeltaWarehouse>| {
            let count = count.clone();
            async move {
                let answer = reader.query(&count, &Params::new()).await.unwrap();
                let batches: Vec<_> = answer.rows.try_collect().await.unwrap();
                batches.iter().map(|batch| batch.num_rows()).sum::<usize>()
            }
        };
        // More at one time than there are connections from opening the tables.
        const QUERIES: usize = 32;
        let queries = QueryOptions { running_max: QUERIES, ..QueryOptions::default() };
        let options = DeltaOptions { queries, ..DeltaOptions::default() };
        let reader = Arc::new(DeltaWarehouse::open_shared(&url, options).await.unwrap());
        let answers = futures::future::join_all((0..QUERIES).map(|_| ask(reader.clone()))).await;
        assert_eq!(answers, [100; QUERIES]);
    }

    #[tokio::test]
    async fn two_write_what_both_read() {
        let Some(url) = minio::prefix() else { return };
        let open = || async { DeltaWarehouse::open_shared(&url, DeltaOptions::default()).await.unwrap() };
        together(Arc::new(open().await), Arc::new(open().await)).await;
    }
}

/// Two write different partitions at the same time, and one of them merges.
async fn together(one: Arc<DeltaWarehouse>, other: Arc<DeltaWarehouse>) {
    const COMMITS: u64 = 25;
    let write = |warehouse: Arc<DeltaWarehouse>, partition| async move {
        for nth in 0..COMMITS {
            commit(&warehouse, partition, nth * 3..nth * 3 + 3).await.unwrap();
            if partition == 0 && nth % 5 == 4 {
                warehouse.maintain().await.unwrap();
            }
        }
    };
    tokio::join!(write(one.clone(), 0), write(other.clone(), 1));
    let expected = rows(&[(0, COMMITS * 3), (1, COMMITS * 3)]);
    assert_eq!(seen(&one).await, expected);
    assert_eq!(seen(&other).await, expected);
    let files = one.size(Table::Events).files;
    assert!(files < 2 * COMMITS, "nothing was merged: {files} files");
}

#[tokio::test]
async fn two_write_what_both_read() {
    let store = Arc::new(InMemory::new());
    together(Arc::new(open(&store, LONG).await), Arc::new(open(&store, LONG).await)).await;
}

#[tokio::test]
async fn of_two_owners_of_one_partition_one_is_refused() {
    let store = Arc::new(InMemory::new());
    let (former, owner) = (open(&store, LONG).await, open(&store, LONG).await);
    commit(&former, 0, 0..5).await.unwrap();
    commit(&owner, 0, 5..9).await.unwrap();
    assert_eq!(commit(&former, 0, 5..7).await, Err(ErrorKind::Conflict));
    assert_eq!(commit(&former, 0, 5..9).await, Err(ErrorKind::Conflict), "a repeated one, too");
    assert_eq!(seen(&former).await, rows(&[(0, 9)]));
    commit(&former, 0, 9..10).await.unwrap();
    assert_eq!(seen(&owner).await, rows(&[(0, 10)]));
}

#[tokio::test]
async fn an_entry_whose_answer_was_lost_is_taken_once() {
    let store = Arc::new(InMemory::new());
    let gate = Gate::new(store.clone());
    let warehouse = open_on(gate.clone(), LONG).await;
    commit(&warehouse, 0, 0..4).await.unwrap();
    gate.lose_answers(true);
    commit(&warehouse, 0, 4..8).await.unwrap();
    gate.lose_answers(false);
    commit(&warehouse, 0, 8..9).await.unwrap();
    assert_eq!(seen(&warehouse).await, rows(&[(0, 9)]));
    assert_eq!(seen(&open(&store, LONG).await).await, rows(&[(0, 9)]));
}

#[tokio::test]
async fn who_slept_while_the_log_was_shortened_reads_it_anew() {
    let store = Arc::new(InMemory::new());
    let (sleeper, busy) = (open(&store, LONG).await, open(&store, LONG).await);
    for nth in 0..110 {
        commit(&busy, 0, nth..nth + 1).await.unwrap();
    }
    while busy.maintain().await.unwrap().checkpoints == 0 {}
    for version in 1..100 {
        let entry = format!("a/prefix/{}/_delta_log/{version:020}.json", Table::Events.name());
        store.delete(&Path::from(entry)).await.unwrap();
    }
    assert_eq!(seen(&sleeper).await, rows(&[(0, 110)]));
    commit(&sleeper, 0, 110..111).await.unwrap();
    assert_eq!(seen(&busy).await, rows(&[(0, 111)]));
}

#[tokio::test]
async fn a_commit_that_was_asleep_until_its_files_were_deleted_is_not_taken() {
    const RETENTION: Duration = Duration::from_secs(2);
    let store = Arc::new(InMemory::new());
    let gate = Gate::new(store.clone());
    let sleeper = Arc::new(open_on(gate.clone(), RETENTION).await);
    gate.hold(true);
    let asleep = sleeper.clone();
    let asleep = tokio::spawn(async move { commit(&asleep, 0, 0..4).await });
    gate.held().await;
    // Its file is there and its entry is not: whoever looks now finds something that nobody named.
    let other = open(&store, RETENTION).await;
    let mut deleted = 0;
    while deleted == 0 {
        tokio::time::sleep(RETENTION / 4).await;
        deleted = other.maintain().await.unwrap().files_deleted;
    }
    gate.hold(false);
    assert_eq!(asleep.await.unwrap(), Err(ErrorKind::Retry));
    assert_eq!(seen(&other).await, rows(&[]));
    commit(&sleeper, 0, 0..6).await.unwrap();
    assert_eq!(seen(&other).await, rows(&[(0, 6)]));
}

#[tokio::test]
async fn a_folder_is_not_shared() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let refused = DeltaWarehouse::open_shared(&url, DeltaOptions::default()).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let refused = DeltaWarehouse::open_shared("s3:///prefix", DeltaOptions::default()).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}
