//! For whom a proxy asks. Anybody can write these headers, so only what proxies that are trusted have written counts, and
//! each of them adds to the right end.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::header::{FORWARDED, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How many hops are looked at, from the right.
pub const HOPS_MAX: usize = 16;

/// The client: the first address from the right that is no trusted proxy. `X-Forwarded-For` counts where both headers are
/// there. What cannot be read ends the chain: whoever is left of it might have been made up.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut client = peer.to_canonical();
    if !trusts(client) {
        return client;
    }
    let has_x = headers.contains_key(X_FORWARDED_FOR);
    let (name, read): (_, fn(&str) -> Option<IpAddr>) =
        if has_x { (X_FORWARDED_FOR, node) } else { (FORWARDED, forwarded_for) };
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    for hop in hops.take(HOPS_MAX) {
        let Some(ip) = read(hop) else { return client };
        client = ip;
        if !trusts(client) {
            break;
        }
    }
    client
}

/// The `for` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    node(value.trim().trim_matches('"'))
}

/// An address as proxies write it: plain, with a port, in brackets.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|at| at.ip()))?;
    Some(ip.to_canonical())
}
