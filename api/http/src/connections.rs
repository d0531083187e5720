//! Who is connected, and who has to go when all places are taken.
//!
//! What a connection may take of the time is decided here and not by hyper's own timer for heads: that one knows no
//! difference between a head that is being sent and a client that is silent between two requests, and what waits longest
//! is known to none of them. A sweep once a second is all the timing there is, however many connections there are.

mod link;
mod stream;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::link::{Answered, Link};
pub(crate) use self::stream::Watched;
use crate::address::Address;

/// How long a head may take to arrive, from the beginning of the connection or from its first byte.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may be silent between two requests.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an answer may wait for a client that reads nothing.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is looked at who was too slow.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// All connections of a listener.
#[derive(Debug)]
pub(crate) struct Connections {
    places_max: usize,
    per_address_max: usize,
    started: Instant,
    next_id: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    links: HashMap<u64, Arc<Link>>,
    by_address: HashMap<Address, usize>,
}

/// The place of one connection; it is free again when this is gone.
#[derive(Debug)]
pub(crate) struct Place {
    all: Arc<Connections>,
    link: Arc<Link>,
}

impl Connections {
    pub(crate) fn new(places_max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self {
            places_max,
            per_address_max,
            started: Instant::now(),
            next_id: AtomicU64::new(0),
            table: Mutex::default(),
        })
    }

    /// A place for a connection from `from`. Where there is none left, or no more for this address, the connection that
    /// has waited longest without a request in progress is closed for it; `None` when every one has a request.
    /// `has_share` is false for an address that many share, such as a proxy's.
    pub(crate) fn enter(self: &Arc<Self>, from: IpAddr, has_share: bool) -> Option<Place> {
        let address = Address::of(from);
        let mut table = self.table();
        if has_share && table.by_address.get(&address).is_some_and(|n| *n >= self.per_address_max) {
            table.make_room(Some(address))?;
        } else if table.links.len() >= self.places_max {
            table.make_room(None)?;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let link = Arc::new(Link::new(id, address, self.started));
        table.links.insert(id, Arc::clone(&link));
        *table.by_address.entry(address).or_default() += 1;
        Some(Place { all: Arc::clone(self), link })
    }

    /// Closes the connection that has waited longest: the process is out of file handles.
    pub(crate) fn shed(&self) {
        let _none_waits = self.table().make_room(None);
    }

    /// Closes what was too slow.
    pub(crate) fn sweep(&self) {
        let mut table = self.table();
        let slow: Vec<_> = table.links.values().filter(|link| link.close_if_slow()).map(|link| link.id()).collect();
        slow.into_iter().for_each(|id| table.forget(id));
        #[expect(clippy::cast_precision_loss, reason = "connections are far fewer than 2^53")]
        metrics::gauge!("millrace_api_connections_open").set(table.links.len() as f64);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Closes the connection, of `address` if given, that has waited longest: first of those that owe a head, because who
    /// holds places without asking anything is among them, then of those that are silent after an answer. Of two that came
    /// in the same moment the first goes.
    fn make_room(&mut self, address: Option<Address>) -> Option<()> {
        loop {
            let candidates = self.links.values().filter(|link| address.is_none_or(|of| link.address() == of));
            let waiting = candidates.filter_map(|link| link.waits().map(|since| (since, link)));
            let (since, link) = waiting.min_by_key(|(since, link)| (*since, link.id()))?;
            // A head may have become complete just now: then it is a request in progress, and another has to go.
            if link.close_if_waits(since) {
                let id = link.id();
                self.forget(id);
                return Some(());
            }
        }
    }

    fn forget(&mut self, id: u64) {
        let Some(link) = self.links.remove(&id) else { return };
        let Some(n) = self.by_address.get_mut(&link.address()) else { return };
        *n -= 1;
        if *n == 0 {
            self.by_address.remove(&link.address());
        }
    }
}

impl Place {
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.table().forget(self.link.id());
    }
}

#[cfg(test)]
mod tests;
