//! A warehouse in memory, with the laws of the seam and failures on demand: for tests of what fills one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt;

use crate::{
    Answer, Block, Error, ErrorKind, Maintained, NamedQuery, Offset, Params, Result, Source, Table, Warehouse,
};

/// What a commit should do wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It answers that it failed, and has not happened.
    Refused,
    /// It answers that it failed, and has happened.
    Unanswered,
}

/// See the module. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ToyWarehouse {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    recorded: BTreeMap<(Table, Source), Offset>,
    rows: BTreeMap<Table, Vec<RecordBatch>>,
    fault: Fault,
    commits: u64,
}

impl ToyWarehouse {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the next commit does wrong; those after it are right again.
    pub fn fail_next(&self, fault: Fault) {
        self.lock().fault = fault;
    }

    /// How many commits have happened.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// The rows of a table, in the order of commits.
    pub fn rows(&self, table: Table) -> Vec<RecordBatch> {
        self.lock().rows.get(&table).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed() -> Error {
    Error::new(ErrorKind::Retry, "the toy was told to fail")
}

#[async_trait]
impl Warehouse for ToyWarehouse {
    async fn recorded(&self, table: Table) -> Result<BTreeMap<Source, Offset>> {
        let inner = self.lock();
        Ok(inner
            .recorded
            .iter()
            .filter(|((of, _), _)| *of == table)
            .map(|((_, source), end)| (*source, *end))
            .collect())
    }

    async fn commit(&self, table: Table, blocks: Vec<Block>) -> Result<()> {
        let mut inner = self.lock();
        let fault = std::mem::take(&mut inner.fault);
        if fault == Fault::Refused {
            return Err(failed());
        }
        for block in &blocks {
            let stands = inner.recorded.get(&(table, block.source)).copied().unwrap_or(0);
            if block.start != stands {
                let message = format!("a block begins at {} where its source stands at {stands}", block.start);
                return Err(Error::new(ErrorKind::Conflict, message));
            }
        }
        inner.commits += 1;
        for block in blocks {
            inner.recorded.insert((table, block.source), block.end);
            inner.rows.entry(table).or_default().extend(block.rows);
        }
        if fault == Fault::Unanswered { Err(failed()) } else { Ok(()) }
    }

    async fn maintain(&self) -> Result<Maintained> {
        Ok(Maintained::default())
    }

    async fn scan(&self, table: Table, columns: &[&str]) -> Result<Answer> {
        let schema = table.schema();
        let index = |name: &&str| {
            schema
                .index_of(name)
                .map_err(|e| Error::with_source(ErrorKind::Invalid, format!("{table} has no {name}"), e))
        };
        let indexes = columns.iter().map(index).collect::<Result<Vec<_>>>()?;
        let project = |batch: RecordBatch| {
            let made = batch.project(&indexes);
            made.map_err(|e| Error::with_source(ErrorKind::Corrupt, "a batch has lost a column", e))
        };
        let rows: Vec<_> = self.rows(table).into_iter().map(project).collect();
        let schema =
            schema.project(&indexes).map_err(|e| Error::with_source(ErrorKind::Corrupt, "no such columns", e))?;
        Ok(Answer { schema: Arc::new(schema), rows: futures::stream::iter(rows).boxed() })
    }

    async fn query(&self, query: &NamedQuery, _params: &Params) -> Result<Answer> {
        Err(Error::new(ErrorKind::Invalid, format!("cannot run {}: the toy has no SQL", query.name)))
    }
}
