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
