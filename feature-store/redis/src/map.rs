//! Which server has which slot.

use std::sync::Arc;

use millrace_feature_store::online::Result;
use redis::{AsyncConnectionConfig, Value};

use crate::failure::retry;
use crate::keys::SLOTS;
use crate::server::Server;
use crate::target::{Target, address};

/// What stands for a slot that no server has.
const NOBODY: u16 = u16::MAX;
/// How many masters a cluster may have.
const SERVERS_MAX: usize = 1_000;

/// The masters, and the slots of each. Never changed: a newer one replaces it.
pub(crate) struct Map {
    /// Rises with every replacement.
    pub(crate) number: u64,
    pub(crate) servers: Vec<Arc<Server>>,
    owners: Box<[u16]>,
}

impl Map {
    /// The map of one server that has everything.
    pub(crate) fn single(server: Server) -> Self {
        Self { number: 1, servers: vec![Arc::new(server)], owners: vec![0; SLOTS.into()].into() }
    }

    /// The map of a cluster that was not asked yet.
    pub(crate) fn unknown() -> Self {
        Self { number: 0, servers: Vec::new(), owners: vec![NOBODY; SLOTS.into()].into() }
    }

    /// The server of a slot, and its place among [`Map::servers`].
    pub(crate) fn owner(&self, slot: u16) -> Option<(usize, &Arc<Server>)> {
        let at = usize::from(*self.owners.get(usize::from(slot))?);
        self.servers.get(at).map(|server| (at, server))
    }

    /// True when that server has the slot.
    pub(crate) fn owns(&self, server: &Server, slot: u16) -> bool {
        self.owner(slot).is_some_and(|(_, owner)| owner.address == server.address)
    }

    pub(crate) fn server_at(&self, address: &str) -> Option<&Arc<Server>> {
        self.servers.iter().find(|server| server.address == address)
    }

    /// The map after this one, from the answer to `CLUSTER SLOTS` of the server at `asked`; servers that keep a slot keep their
    /// connections.
    pub(crate) fn next(
        &self,
        answer: &Value,
        asked: &str,
        target: &Target,
        config: &AsyncConnectionConfig,
    ) -> Result<Self> {
        let unreadable = || retry(format!("cannot read what Redis at {asked} says about the slots of its cluster"));
        let mut next = Self { number: self.number + 1, ..Self::unknown() };
        let Value::Array(ranges) = answer else { return Err(unreadable()) };
        for range in ranges {
            let (first, last, host, port) = read_range(range).ok_or_else(unreadable)?;
            // A server that does not know its own name is where we found it.
            let host = if host.is_empty() { host_of(asked) } else { host };
            let address = address(&host, port);
            let at = match next.servers.iter().position(|server| server.address == address) {
                Some(at) => at,
                None => {
                    let server = match self.server_at(&address) {
                        Some(server) => server.clone(),
                        None => Arc::new(Server::new(target.other(&host, port), config.clone())?),
                    };
                    next.servers.push(server);
                    next.servers.len() - 1
                }
            };
            let owner = u16::try_from(at).ok().filter(|_| at < SERVERS_MAX).ok_or_else(unreadable)?;
            next.owners.get_mut(first..=last).ok_or_else(unreadable)?.fill(owner);
        }
        if next.servers.is_empty() {
            return Err(retry(format!(
                "cannot use the cluster of Redis at {asked}: no server has slots yet; create it with redis-cli --cluster create"
            )));
        }
        Ok(next)
    }

    /// How many slots no server has.
    pub(crate) fn uncovered(&self) -> usize {
        self.owners.iter().filter(|owner| **owner == NOBODY).count()
    }
}

/// First and last slot, and host and port of the master.
fn read_range(range: &Value) -> Option<(usize, usize, String, u16)> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &parts[..] else { return None };
    let [host, Value::Int(port), ..] = &master[..] else { return None };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?.to_owned(),
        Value::SimpleString(host) => host.clone(),
        Value::Nil => String::new(),
        _ => return None,
    };
    let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
    (first <= last).then_some((first, last, host, u16::try_from(*port).ok()?))
}

/// The host in "host:port", without the brackets of IPv6.
pub(crate) fn host_of(address: &str) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

#[cfg(test)]
mod tests;
