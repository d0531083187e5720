//! Who is behind a request.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::key::{KeyHash, is_mistyped, is_secret};
use crate::last_use::LastUse;
use crate::refusal::{Code, Refusal};
use crate::scope::{Scope, Scopes};

/// The name of the source of everything that came in with any key on a development machine.
pub const DEV_SOURCE: &str = "dev";

/// A key that is known here. The key itself is not.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name: the source of what is sent with it, in the log and in metrics.
    pub name: Arc<str>,
    /// Its hash.
    pub hash: KeyHash,
    /// What it lets its holder do.
    pub scopes: Scopes,
    /// When that was done last.
    pub used: LastUse,
}

impl Key {
    /// A write key of which nobody wants to know when it was used.
    pub fn write(name: &str, key: &str) -> Self {
        Self { name: name.into(), hash: KeyHash::of(key.as_bytes()), scopes: Scopes::WRITE, used: LastUse::default() }
    }
}

/// Why a key does not let its holder do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It was never made, or is not taken any more.
    #[error("it is not known here, or not taken any more: `millrace keys list` shows those that are")]
    Unknown,
    /// It is not known here, and whether it was made a moment ago cannot be told now.
    #[error("whether this key is known cannot be told now: repeat the same request later")]
    Undecided,
    /// It is none: see [`crate::is_mistyped`].
    #[error("invalid key: its checksum is wrong; was it copied whole?")]
    Mistyped,
    /// It is known, and not for this.
    #[error("it lacks the scope {0}")]
    Lacks(Scope),
}

/// The keys of a deployment, by their hashes.
///
/// A key is hashed as it came and looked up, however many there are. What the time of that can tell is how much of the hash
/// of a guess is that of a hash in the map. It is no way to a key: who would know a whole hash would still have to
/// find what has it, and changing a guess a little changes all of its hash. So nothing here is compared in constant time.
#[derive(Debug)]
pub(crate) struct Keys {
    known: HashMap<KeyHash, Key>,
    accept_any_key: bool,
}

impl Keys {
    /// Of two with one hash the first is taken.
    pub(crate) fn new(keys: Vec<Key>, accept_any_key: bool) -> Self {
        let mut known = HashMap::with_capacity(keys.len());
        for key in keys {
            known.entry(key.hash).or_insert(key);
        }
        Self { known, accept_any_key }
    }

    /// The source named by an `Authorization` header; `None` when the header names no key and the body has to.
    pub(crate) fn by_header(&self, authorization: Option<&str>) -> Result<Option<&str>, Refusal> {
        let Some((scheme, sent)) = authorization.and_then(|header| header.trim().split_once(' ')) else {
            return Ok(None);
        };
        let sent = sent.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.by_bearer(sent.as_bytes());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Ok(None);
        }
        let decoded = STANDARD.decode(sent).map_err(|_| refused(Denied::Unknown))?;
        // Anything after the first colon is a password, which Segment leaves empty.
        let key = decoded.split(|&b| b == b':').next().unwrap_or_default();
        if key.is_empty() { Ok(None) } else { self.find(key).map(Some) }
    }

    /// Some clients send the token of another service there and their write key in the body, so what is not known says
    /// nothing, unless it is a key of ours.
    fn by_bearer(&self, token: &[u8]) -> Result<Option<&str>, Refusal> {
        match self.allow(token, Scope::EventsWrite) {
            Err(Denied::Unknown) => Ok(None),
            allowed => self.named(token, allowed).map(Some),
        }
    }

    /// The source named by `writeKey` of the body. A secret key is not taken there: bodies end up in dead letters.
    pub(crate) fn by_body(&self, write_key: Option<&str>) -> Result<&str, Refusal> {
        let Some(key) = write_key.map(str::as_bytes).filter(|key| !key.is_empty()) else {
            return Err(Refusal::new(
                Code::MissingWriteKey,
                "no write key: send it as the user name of HTTP Basic, or in the body as `writeKey`, with PostHog's SDKs as `api_key`",
            ));
        };
        match self.allow(key, Scope::EventsWrite) {
            Ok(_) if is_secret(key) => Err(Refusal::new(
                Code::InvalidWriteKey,
                "a secret key is sent in the header `Authorization`, never in a body",
            )),
            allowed => self.named(key, allowed),
        }
    }

    /// The source of what comes without a key, from clients that have no place for one: only for development.
    pub(crate) fn of_anybody(&self) -> Option<&str> {
        self.accept_any_key.then_some(DEV_SOURCE)
    }

    fn find(&self, key: &[u8]) -> Result<&str, Refusal> {
        self.named(key, self.allow(key, Scope::EventsWrite))
    }

    fn named<'a>(&'a self, key: &[u8], allowed: Result<&'a Key, Denied>) -> Result<&'a str, Refusal> {
        match allowed {
            Ok(key) => Ok(&key.name),
            Err(Denied::Unknown | Denied::Mistyped) if self.accept_any_key => Ok(DEV_SOURCE),
            Err(Denied::Unknown) => Err(Refusal { unknown: Some(KeyHash::of(key)), ..refused(Denied::Unknown) }),
            Err(denied) => Err(refused(denied)),
        }
    }

    pub(crate) fn has(&self, key: KeyHash) -> bool {
        self.known.contains_key(&key)
    }

    /// The key, when it lets its holder do this; that is a use of it.
    pub(crate) fn allow(&self, key: &[u8], scope: Scope) -> Result<&Key, Denied> {
        match self.known.get(&KeyHash::of(key)) {
            Some(known) if known.scopes.allow(scope) => {
                known.used.touch();
                Ok(known)
            }
            Some(_) => Err(Denied::Lacks(scope)),
            None if is_mistyped(key) => Err(Denied::Mistyped),
            None => Err(Denied::Unknown),
        }
    }
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, rest) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(rest.trim())
}

fn refused(denied: Denied) -> Refusal {
    let code = match denied {
        Denied::Unknown | Denied::Mistyped => Code::InvalidWriteKey,
        Denied::Undecided => Code::Unavailable,
        Denied::Lacks(_) => Code::InsufficientScope,
    };
    Refusal::new(code, format!("the key was refused: {denied}"))
}

#[cfg(test)]
mod tests;
