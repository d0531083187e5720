//! Rate limits: how much one write key and one address may ask, and what an answer says about it.
//!
//! Every limit is a token bucket that may be overdrawn: a request is let in as long as anything is left, and pays whole. So
//! a batch that is larger than the bucket is possible, what it takes beyond is a debt to be waited for, and over time the
//! rate holds. What is refused was not appended and costs nothing; a repetition costs as much as the first time, because
//! whether an event is a duplicate is known only later.

mod addresses;
mod bucket;
mod forwarded;
mod headers;
mod keys;

use std::net::IpAddr;
use std::sync::OnceLock;

use axum::http::HeaderMap;
use ipnet::IpNet;
use millrace_collector::{Gate, Refusal};
use tokio::time::Instant;

use self::addresses::Addresses;
use self::bucket::{Meter, Verdict};
use self::keys::Keys;
use crate::error::ApiError;
use crate::serve::Peer;

pub use self::addresses::ADDRESSES_MAX;
pub use self::bucket::{BURST_SECONDS, Rate, RateError};
pub use self::forwarded::HOPS_MAX;

/// What may be asked how often; `None` is without a limit.
#[derive(Clone, Debug, Default)]
pub struct LimitOptions {
    /// Events of one write key, those that go to the dead letters included.
    pub key_events: Option<Rate>,
    /// Requests of one write key that bring events.
    pub key_requests: Option<Rate>,
    /// Requests of one address, a /64 being one. Probes are not counted.
    pub address_requests: Option<Rate>,
    /// Proxies that are believed when they say for whom they ask.
    pub trusted_proxies: Vec<IpNet>,
}

/// The limits at work.
pub(crate) struct Limits {
    started: Instant,
    addresses: Option<Addresses>,
    keys: Option<Keys>,
    trusted_proxies: Vec<IpNet>,
}

impl Limits {
    pub(crate) fn new(options: LimitOptions) -> Self {
        let LimitOptions { key_events, key_requests, address_requests, trusted_proxies } = options;
        let requests = key_requests.map(|rate| Meter::new("key-requests", rate));
        let events = key_events.map(|rate| Meter::new("key-events", rate));
        Self {
            started: Instant::now(),
            addresses: address_requests.map(|rate| Addresses::new(Meter::new("address", rate))),
            keys: (requests.is_some() || events.is_some()).then(|| Keys::new(requests, events)),
            trusted_proxies,
        }
    }

    /// Whether `ip` is a proxy that many come through.
    pub(crate) fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&ip))
    }

    /// Counts a request of an address. Without a known peer, in process, there is no address to count.
    pub(crate) fn arrive(&self, peer: Option<&Peer>, headers: &HeaderMap) -> Asked<'_> {
        let address = self.addresses.as_ref().zip(peer).map(|(addresses, peer)| {
            let client = forwarded::client(peer.0, headers, |ip| self.trusts(ip));
            addresses.take(client, self.now_ns())
        });
        Asked { limits: self, address, key: OnceLock::new() }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// One request, and what the limits said to it.
pub(crate) struct Asked<'l> {
    limits: &'l Limits,
    address: Option<Verdict>,
    /// Those of its write key, once that is known.
    key: OnceLock<[Option<Verdict>; 2]>,
}

impl Asked<'_> {
    /// Whether its address may ask.
    pub(crate) fn check_address(&self) -> Result<(), ApiError> {
        match self.address.filter(|verdict| !verdict.is_let_in()) {
            Some(verdict) => Err(refused(&verdict).into()),
            None => Ok(()),
        }
    }

    /// Says in the answer how much is left.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let of_key = self.key.get().into_iter().flatten();
        headers::tell(headers, std::iter::once(&self.address).chain(of_key).flatten());
    }

    fn decide(&self, verdicts: [Option<Verdict>; 2]) -> Result<(), Refusal> {
        let closed = verdicts.iter().flatten().filter(|verdict| !verdict.is_let_in());
        let closed = closed.max_by_key(|verdict| verdict.retry_after_s()).copied();
        // After a refusal nobody asks again, so this is set once.
        match closed {
            Some(verdict) => {
                _ = self.key.set(verdicts);
                Err(refused(&verdict))
            }
            None => Ok(()),
        }
    }
}

impl Gate for Asked<'_> {
    fn knock(&self, source: &str) -> Result<(), Refusal> {
        let Some(keys) = &self.limits.keys else { return Ok(()) };
        self.decide(keys.look(source, self.limits.now_ns()))
    }

    fn admit(&self, source: &str, events: u32) -> Result<(), Refusal> {
        let Some(keys) = &self.limits.keys else { return Ok(()) };
        let verdicts = keys.take(source, events, self.limits.now_ns());
        self.decide(verdicts)?;
        _ = self.key.set(verdicts);
        Ok(())
    }
}

fn refused(verdict: &Verdict) -> Refusal {
    metrics::counter!("millrace_api_limited_total", "limit" => verdict.meter().name()).increment(1);
    let what = match verdict.meter().name() {
        "address" => "requests from this address",
        "key-requests" => "requests with this write key",
        _ => "events with this write key",
    };
    let Rate { per_second, .. } = verdict.meter().rate();
    let message = format!("more than {per_second} {what} a second: send it again after the time in retry-after");
    Refusal::limited(message, verdict.retry_after_s())
}

#[cfg(test)]
mod tests;
