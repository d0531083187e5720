//! Where Redis is: the URL. It may hold a password, so no message repeats any part of it.

use millrace_feature_store::online::{Error, ErrorKind, Result};
use redis::io::tcp::TcpSettings;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// How many servers a URL may name.
const SEEDS_MAX: usize = 64;

const FORMS: &str = "write redis://user:password@host:6379/0 for one server, or redis-cluster://user:password@host:6379,host:6379 \
                     for a cluster, with rediss or rediss-cluster for TLS; ?prefix=name: where several share one; escape what is special in a password";

/// The servers that a URL names.
#[derive(Clone)]
pub(crate) struct Target {
    /// Of a cluster any of its servers; else the one.
    pub(crate) seeds: Vec<ConnectionInfo>,
    pub(crate) cluster: bool,
    /// What the names of all keys begin with, where it says so.
    pub(crate) prefix: Option<String>,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("it has no scheme"))?;
        let (scheme, mut cluster) = match scheme {
            "redis" | "rediss" => (scheme, false),
            "redis-cluster" => ("redis", true),
            "rediss-cluster" => ("rediss", true),
            _ => return Err(invalid("its scheme is none of Redis")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut prefix = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("cluster", "true")) => cluster = true,
                Some(("cluster", "false")) => cluster = false,
                // As it stands: what a URL would have to escape, no prefix needs.
                Some(("prefix", name)) => prefix = Some(name.to_owned()),
                _ => return Err(invalid("after the question mark it may only say cluster=true and prefix=name:")),
            }
        }
        if rest.contains('#') || query.contains('#') {
            return Err(invalid("it has a fragment"));
        }
        let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
        let at = if user.is_empty() { "" } else { "@" };
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { "0" } else { database };
        if cluster && database != "0" {
            return Err(invalid("a cluster has the database 0 only"));
        }
        let hosts: Vec<&str> = hosts.split(',').collect();
        if hosts.len() > SEEDS_MAX || hosts.len() > 1 && !cluster {
            return Err(invalid("it names too many hosts: one, or up to 64 of a cluster"));
        }
        let seed = |host: &&str| {
            // The cause would repeat the URL's parts.
            let seed = format!("{scheme}://{user}{at}{host}/{database}").into_connection_info();
            seed.map(settled).map_err(|_| invalid("its user, host, port or database cannot be read"))
        };
        Ok(Self { seeds: hosts.iter().map(seed).collect::<Result<_>>()?, cluster, prefix })
    }

    /// Another server of the same cluster.
    pub(crate) fn other(&self, host: &str, port: u16) -> ConnectionInfo {
        let seed = self.seeds[0].clone();
        let host = host.to_owned();
        let addr = if self.tls() {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        seed.set_addr(addr)
    }

    pub(crate) fn tls(&self) -> bool {
        matches!(self.seeds[0].addr(), ConnectionAddr::TcpTls { .. })
    }
}

/// Host and port, without who we are.
pub(crate) fn address_of(info: &ConnectionInfo) -> String {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => address(host, *port),
        _ => "a socket".to_owned(),
    }
}

pub(crate) fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn settled(info: ConnectionInfo) -> ConnectionInfo {
    // A request is one write; waiting to fill a packet would only delay it.
    let redis = info.redis_settings().clone().set_skip_set_lib_name();
    info.set_redis_settings(redis).set_tcp_settings(TcpSettings::default().set_nodelay(true))
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("cannot use the URL of Redis: {why}; {FORMS}"))
}

#[cfg(test)]
mod tests;
