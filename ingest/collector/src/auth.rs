//! Which source a request comes from.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use crate::refusal::{Code, Refusal};

/// The name of the source of everything that came in with any key on a development machine.
pub const DEV_SOURCE: &str = "dev";

/// Somebody who may send events: a write key and the name that stands for it in the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// The name in the log and in metrics.
    pub name: String,
    /// The key that clients send. Never empty: an empty key matches nothing.
    pub write_key: String,
}

impl std::fmt::Debug for Source {
    /// A key does not belong in a log line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The write keys of a deployment.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) sources: Vec<Source>,
    pub(crate) accept_any_key: bool,
}

impl Keys {
    /// The source named by an `Authorization` header; `None` when the header names no key and the body has to.
    pub(crate) fn by_header(&self, authorization: Option<&str>) -> Result<Option<&str>, Refusal> {
        let Some(encoded) = authorization.and_then(basic) else { return Ok(None) };
        let decoded = STANDARD.decode(encoded).map_err(|_| invalid())?;
        // Anything after the first colon is a password, which Segment leaves empty.
        let key = decoded.split(|&b| b == b':').next().unwrap_or_default();
        if key.is_empty() { Ok(None) } else { self.find(key).map(Some) }
    }

    /// The source named by `writeKey` of the body.
    pub(crate) fn by_body(&self, write_key: Option<&str>) -> Result<&str, Refusal> {
        match write_key {
            None | Some("") => Err(Refusal::new(
                Code::MissingWriteKey,
                "no write key: send it as the user name of HTTP Basic, or in the body as `writeKey`, with PostHog's SDKs as `api_key`",
            )),
            Some(key) => self.find(key.as_bytes()),
        }
    }

    /// The source of what comes without a key, from clients that have no place for one: only for development.
    pub(crate) fn of_anybody(&self) -> Option<&str> {
        self.accept_any_key.then_some(DEV_SOURCE)
    }

    /// Looks at every key, and at all of it, so that the time taken tells nothing about how much of a guess was right.
    fn find(&self, key: &[u8]) -> Result<&str, Refusal> {
        const NONE: u32 = u32::MAX;
        let mut found = NONE;
        for (nth, source) in (0_u32..).zip(&self.sources) {
            let same = source.write_key.as_bytes().ct_eq(key) & Choice::from(u8::from(!source.write_key.is_empty()));
            found.conditional_assign(&nth, same);
        }
        match self.sources.get(found as usize) {
            Some(source) => Ok(&source.name),
            None if self.accept_any_key => Ok(DEV_SOURCE),
            None => Err(invalid()),
        }
    }
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, rest) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(rest.trim())
}

fn basic(authorization: &str) -> Option<&str> {
    let (scheme, rest) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then_some(rest.trim())
}

fn invalid() -> Refusal {
    Refusal::new(Code::InvalidWriteKey, "the write key is not known here: check it against the configured sources")
}

#[cfg(test)]
mod tests;
