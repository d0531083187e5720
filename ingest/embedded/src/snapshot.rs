//! One moment of the whole database, read while writing goes on.

use std::ops::Bound;
use std::sync::Arc;

use fjall::Readable;

use super::{Embedded, Error, ErrorKind, Pair, Result, Slice, Space};

/// Every space as it was at one moment: a batch is in it whole or not at all, and with a batch everything written before it.
/// That is what a crash at that moment would have left, so whatever starts again after a crash starts from a snapshot too.
///
/// Reads are paged, and between two pages nothing of the database is held but the promise to keep what the snapshot sees:
/// a reopen need not wait for it. It ends the snapshot, whose next page says so.
pub struct Snapshot {
    embedded: Arc<Embedded>,
    moment: fjall::Snapshot,
    spaces: Vec<Space>,
    epoch: u64,
}

impl Embedded {
    /// This moment of every space. What it sees is kept on disk for as long as it lives.
    ///
    /// # Errors
    /// As of [`Embedded::space`].
    pub fn snapshot(self: &Arc<Self>) -> Result<Snapshot> {
        loop {
            // Read first, so that a reopen while this runs is noticed with the first page at the latest.
            let epoch = self.epoch();
            let moment = self.with_open(|db| Ok(db.snapshot()))?;
            // Named after the moment: a space that was made since is empty in it, and harmless.
            let mut names = self.space_names()?;
            names.sort();
            let spaces = names.iter().map(|name| self.space(name)).collect::<Result<Vec<Space>>>()?;
            if epoch == self.epoch() {
                return Ok(Snapshot { embedded: self.clone(), moment, spaces, epoch });
            }
        }
    }
}

impl Snapshot {
    /// The names of the spaces, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.spaces.iter().map(Space::name)
    }

    /// The value of `key` in the space `name`; `None` when there is no such space either.
    ///
    /// # Errors
    /// As of [`Snapshot::page`].
    pub fn get(&self, name: &str, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        let Ok(space) = self.space(name) else { return Ok(None) };
        self.read(space, |keyspace| self.moment.get(keyspace, key))
    }

    /// The last pair of the space `name`; `None` when there is no such space either.
    ///
    /// # Errors
    /// As of [`Snapshot::page`].
    pub fn last(&self, name: &str) -> Result<Option<Pair>> {
        let Ok(space) = self.space(name) else { return Ok(None) };
        self.read(space, |keyspace| self.moment.last_key_value(keyspace).map(fjall::Guard::into_inner).transpose())
    }

    /// The pairs of the space `name` after `after`, in order of key, until about `bytes_max` bytes are taken: at least one
    /// when there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Reopened`] when the database was reopened since the snapshot was taken; [`ErrorKind::Io`] when the
    /// disk says no; [`ErrorKind::Failed`] when there is no such space.
    pub fn page(&self, name: &str, after: Option<&[u8]>, bytes_max: usize) -> Result<Vec<Pair>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.read(self.space(name)?, |keyspace| {
            let (mut page, mut bytes) = (Vec::new(), 0);
            for guard in self.moment.range::<&[u8], _>(keyspace, (from, Bound::Unbounded)) {
                let (key, value) = guard.into_inner()?;
                bytes += key.len() + value.len();
                page.push((key, value));
                if bytes >= bytes_max {
                    break;
                }
            }
            Ok(page)
        })
    }

    fn space(&self, name: &str) -> Result<&Space> {
        let found = self.spaces.binary_search_by(|space| space.name().cmp(name));
        found.map(|at| &self.spaces[at]).map_err(|_| super::no_space(name))
    }

    fn read<T>(&self, space: &Space, call: impl FnOnce(&fjall::Keyspace) -> fjall::Result<T>) -> Result<T> {
        self.embedded.with_open(|_| {
            // Compared while the database cannot be replaced.
            if self.embedded.epoch() != self.epoch {
                let message = "the database was reopened after a failure since the snapshot was taken: take another";
                return Err(Error::new(ErrorKind::Reopened, message));
            }
            space.with_keyspace(|keyspace| call(keyspace).map_err(|e| space.read_error(e)))
        })
    }
}
