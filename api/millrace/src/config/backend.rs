//! Where each store is: in the data directory, or an engine by its URL.

use std::fmt;

use anyhow::{bail, ensure};

/// Where one store is. Its text may hold a password, so it is only ever shown without.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) enum Backend {
    /// In the data directory.
    #[default]
    Embedded,
    /// An engine.
    Engine {
        /// What stands before `://`.
        scheme: &'static str,
        /// The whole of it.
        url: String,
    },
}

impl Backend {
    /// Reads the URL of the store called `what`; nothing, and `file:`, mean the data directory.
    ///
    /// # Errors
    /// When its scheme is none of `schemes`.
    pub(crate) fn read(what: &str, url: Option<&str>, schemes: &[&'static str]) -> anyhow::Result<Self> {
        let Some(url) = url.map(str::trim).filter(|url| !url.is_empty() && *url != "file:") else {
            return Ok(Self::Embedded);
        };
        let known = || schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(", ");
        let Some((scheme, rest)) = url.split_once("://") else {
            bail!(
                "--{what} is not a URL: leave it out to keep it in the data directory, or give one that begins with {}",
                known()
            );
        };
        let Some(scheme) = schemes.iter().find(|known| **known == scheme) else {
            bail!(
                "--{what} cannot be at {scheme}://: use {}, or leave it out to keep it in the data directory",
                known()
            );
        };
        ensure!(!rest.is_empty() && !rest.starts_with('/'), "--{what} names no host: {scheme}://HOST:PORT");
        Ok(Self::Engine { scheme, url: url.to_owned() })
    }

    /// The same engine with `name` after whatever says which topics, keys, tables or objects there are ours. Of an engine
    /// whose URL says no such thing, itself.
    pub(crate) fn apart(&self, name: &str) -> Self {
        let Self::Engine { scheme, url } = self else { return Self::Embedded };
        let (place, query) = url.split_once('?').map_or((&url[..], None), |(place, query)| (place, Some(query)));
        let url = match *scheme {
            "redis" | "rediss" | "redis-cluster" | "rediss-cluster" => {
                // A number is all that its path can say, and there are sixteen of them.
                let pairs = query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty());
                let (prefixes, mut rest): (Vec<_>, Vec<_>) = pairs.partition(|pair| pair.starts_with("prefix="));
                let prefix = format!("{}{name}:", prefixes.last().copied().unwrap_or("prefix="));
                rest.push(&prefix);
                format!("{place}?{}", rest.join("&"))
            }
            "kafka" | "kafka+ssl" | "s3" | "clickhouse" | "clickhouses" => {
                let hosts = place.rfind('@').unwrap_or_default().max(scheme.len() + "://".len());
                let place = place.trim_end_matches('/');
                let joint = if place[hosts.min(place.len())..].contains('/') { "-" } else { "/" };
                let query = query.map(|query| format!("?{query}")).unwrap_or_default();
                format!("{place}{joint}{name}{query}")
            }
            _ => url.clone(),
        };
        Self::Engine { scheme, url }
    }

    /// The whole URL, password and all, for whoever is to use the engine; nothing for the data directory.
    pub(crate) fn into_url(self) -> Option<String> {
        match self {
            Self::Embedded => None,
            Self::Engine { url, .. } => Some(url),
        }
    }
}

impl fmt::Display for Backend {
    /// Scheme, hosts and path: neither user nor password, nor the query, where settings may be secrets too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Engine { scheme, url } = self else { return f.write_str("file:") };
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // A password that nobody escaped may hold what ends a host, and a setting an @: then nobody can tell what is what.
        if tail.contains('@') {
            return write!(f, "{scheme}://(not shown)");
        }
        let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
        write!(f, "{scheme}://{hosts}{}", tail.split(['?', '#']).next().unwrap_or_default())
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_file_mean_the_data_directory() {
        for url in [None, Some(""), Some("file:"), Some(" file: ")] {
            assert_eq!(Backend::read("log", url, &["kafka"]).unwrap(), Backend::Embedded, "{url:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        for (url, said) in [
            ("localhost:9092", "begins with kafka://, kafkas://"),
            ("redis://localhost", "cannot be at redis://: use kafka://"),
            ("kafka://", "names no host"),
            ("kafka:///x", "names no host"),
        ] {
            let error = Backend::read("log", Some(url), &["kafka", "kafkas"]).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("--log"), "{url}: {error}");
        }
    }

    #[test]
    fn apart_each_engine_has_a_name_of_its_own_and_stays_what_it_is() {
        let schemes = &["kafka", "redis", "redis-cluster", "clickhouse", "s3", "postgres"];
        for (url, apart) in [
            ("kafka://a:1,b:2", "kafka://a:1,b:2/run"),
            ("kafka://u:p@a:1/shop?replication=1&x=/", "kafka://u:p@a:1/shop-run?replication=1&x=/"),
            ("s3://bucket", "s3://bucket/run"),
            ("s3://k:s@bucket/a/b/?endpoint=http://h:1", "s3://k:s@bucket/a/b-run?endpoint=http://h:1"),
            ("clickhouse://u:p%2F@h:1/db", "clickhouse://u:p%2F@h:1/db-run"),
            ("clickhouse://h", "clickhouse://h/run"),
            ("redis://h:1/3", "redis://h:1/3?prefix=run:"),
            ("redis-cluster://a,b?prefix=shop:&cluster=true", "redis-cluster://a,b?cluster=true&prefix=shop:run:"),
            ("postgres://u:p@h/db?sslmode=require", "postgres://u:p@h/db?sslmode=require"),
        ] {
            let found = Backend::read("log", Some(url), schemes).unwrap().apart("run");
            assert_eq!(found.into_url().as_deref(), Some(apart), "{url}");
        }
        assert_eq!(Backend::Embedded.apart("run"), Backend::Embedded);
    }

    #[test]
    fn secrets_are_never_shown() {
        for (url, shown) in [
            ("kafka://me:se@cret@a:9092,b:9092/prefix?password=secret", "kafka://a:9092,b:9092/prefix"),
            ("kafka://a:9092", "kafka://a:9092"),
            ("kafka://me:se/cr?et@a:9092/prefix", "kafka://(not shown)"),
            ("kafka://a:9092/prefix?sasl.password=se@cret", "kafka://(not shown)"),
            ("kafka://a?secret/secret#secret", "kafka://a"),
        ] {
            let backend = Backend::read("log", Some(url), &["kafka"]).unwrap();
            assert_eq!(backend.to_string(), shown);
            assert_eq!(format!("{backend:?}"), shown);
        }
    }
}
