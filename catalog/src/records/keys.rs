//! Who may send events and read: of each key its hash, never the key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Record, read};
use crate::{Catalog, Document, Error, ErrorKind, Expect, PAGE_MAX, Result, check_name};

/// How short a key may be that somebody has chosen, in characters.
pub const KEY_CHARS_MIN: usize = 8;
/// How long a key may be, in bytes.
const KEY_BYTES_MAX: usize = 256;
/// How many keys of one name may be taken beside the newest.
pub const OLD_KEYS_MAX: usize = 4;
/// Of how many keys of one name it is kept when they were used.
const USES_MAX: usize = 16;
/// How long an id may be, in bytes.
const ID_BYTES_MAX: usize = 32;
/// How much of a long key its id shows, in bytes: which kind it is, and 36 of its 256 random bits.
const SHOWN_BYTES: usize = 12;
/// How long a key must be for that, in bytes.
const SHOWN_OF_BYTES_MIN: usize = 48;

/// What a key is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// Public: it stands in pages and apps, and may only send events.
    #[default]
    Write,
    /// For servers: it may do what its scopes say.
    Secret,
}

/// What a secret key lets its holder do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// Send events.
    #[serde(rename = "events:write")]
    EventsWrite,
    /// Read feeds, posts and trends.
    #[serde(rename = "feeds:read")]
    FeedsRead,
    /// Ask named queries.
    #[serde(rename = "queries:read")]
    QueriesRead,
    /// See how the platform is doing.
    #[serde(rename = "status:read")]
    StatusRead,
    /// Everything, what the administrator does included.
    #[serde(rename = "admin")]
    Admin,
}

/// The SHA-256 of a key. Not a slow hash: a key that was made is 256 random bits, which nobody finds by trying, and one that
/// somebody chose may only write, and is public in any case.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash(pub [u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hash.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for KeyHash {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        const WHY: &str = "a hash is 64 hexadecimal digits";
        let mut hash = [0; 32];
        if text.len() != 2 * hash.len() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(WHY);
        }
        for (n, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).map_err(|_| WHY)?;
        }
        Ok(Self(hash))
    }
}

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashedKey {
    /// By which people tell it from others; not secret.
    pub id: String,
    /// Its hash.
    pub hash: KeyHash,
}

impl HashedKey {
    /// What is kept of this key.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it is not [`KEY_CHARS_MIN`] characters to 256 bytes without control characters.
    pub fn of(key: &str) -> Result<Self> {
        let fits = key.chars().count() >= KEY_CHARS_MIN && key.len() <= KEY_BYTES_MAX;
        if !fits || key.chars().any(char::is_control) {
            let why =
                format!("a key is {KEY_CHARS_MIN} characters to {KEY_BYTES_MAX} bytes without control characters");
            return Err(Error::new(ErrorKind::Invalid, why));
        }
        Ok(Self::of_any(key))
    }

    fn of_any(key: &str) -> Self {
        let hash = KeyHash(Sha256::digest(key).into());
        let shown = key.get(..SHOWN_BYTES).filter(|_| key.starts_with("mr_") && key.len() >= SHOWN_OF_BYTES_MIN);
        // Of one that somebody has chosen nothing is shown: its first characters may be half of it.
        let id = shown.map_or_else(|| format!("sha256:{}", &String::from(hash)[..8]), str::to_owned);
        Self { id, hash }
    }
}

/// A key that another one has replaced, and that is taken for a while yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OldKey {
    /// What is kept of it.
    pub key: HashedKey,
    /// Until when it is taken, in milliseconds since 1970 by the clock of the database.
    pub taken_until_ms: i64,
}

/// A name under which somebody may send events or read, and the keys that prove it. The name outlives its keys: events
/// carry it as their source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct ApiKey {
    /// The name.
    pub name: String,
    /// What it is for.
    pub kind: KeyKind,
    /// What a secret key may do: at least one thing. None of a write key, which may write.
    pub scopes: BTreeSet<Scope>,
    /// The newest key.
    pub key: HashedKey,
    /// Those before it that may still be taken: [`OLD_KEYS_MAX`] at most.
    pub old: Vec<OldKey>,
    /// When the name was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// When the newest key was made, when it is not the first.
    pub rotated_at_ms: Option<i64>,
    /// True when none of them is to be taken any more.
    pub revoked: bool,
    was_in_clear: bool,
}

impl ApiKey {
    /// A new name and its first key.
    pub fn new(name: String, kind: KeyKind, scopes: BTreeSet<Scope>, key: HashedKey, created_at_ms: i64) -> Self {
        let (old, rotated_at_ms) = (Vec::new(), None);
        Self { name, kind, scopes, key, old, created_at_ms, rotated_at_ms, revoked: false, was_in_clear: false }
    }

    /// True when it was read from an entry that holds the key itself, as earlier builds wrote them; what is written holds the
    /// hash.
    pub fn was_in_clear(&self) -> bool {
        self.was_in_clear
    }

    /// Every key that is taken at this time by the clock of the database.
    pub fn taken(&self, now_ms: i64) -> impl Iterator<Item = &HashedKey> {
        let old = self.old.iter().filter(move |old| now_ms < old.taken_until_ms).map(|old| &old.key);
        std::iter::once(&self.key).chain(old).filter(|_| !self.revoked)
    }

    /// Takes none of its keys any more.
    pub fn revoke(&mut self) {
        self.revoked = true;
        self.old.clear();
    }

    /// Puts a key in the place of the newest, which is taken until then at the latest.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when there are too many old ones that are taken, or the name is revoked.
    pub fn rotate(&mut self, key: HashedKey, now_ms: i64, taken_until_ms: i64) -> Result<()> {
        let invalid = |why: String| Err(Error::new(ErrorKind::Invalid, why));
        if self.revoked {
            return invalid(format!("the key {:?} is revoked: make one under another name", self.name));
        }
        let is_taken = |until_ms: i64| now_ms < until_ms;
        let until_ms = self.old.iter().map(|old| old.taken_until_ms).filter(|&until_ms| is_taken(until_ms));
        let (count, first) = until_ms.fold((0, i64::MAX), |(count, first), until_ms| (count + 1, first.min(until_ms)));
        if is_taken(taken_until_ms) && count == OLD_KEYS_MAX {
            return invalid(format!(
                "{count} old keys of {:?} are still taken, one of them for {} s: rotate when that is over, or without an overlap",
                self.name,
                (first - now_ms) / 1_000 + 1
            ));
        }
        let before = OldKey { key: std::mem::replace(&mut self.key, key), taken_until_ms };
        self.old.push(before);
        self.old.retain(|old| is_taken(old.taken_until_ms));
        self.rotated_at_ms = Some(now_ms);
        Ok(())
    }
}

impl Record for ApiKey {
    // What it was called when there were write keys alone. A kind keeps its name, or what is stored would be lost.
    const KIND: &'static str = "write-keys";

    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Result<()> {
        let invalid = |why: String| Err(Error::new(ErrorKind::Invalid, why));
        check_name(&self.name)?;
        match self.kind {
            KeyKind::Write if !self.scopes.is_empty() => {
                return invalid(format!("the write key {:?} has scopes, and may only write", self.name));
            }
            KeyKind::Secret if self.scopes.is_empty() => {
                return invalid(format!("the secret key {:?} has no scope, and could do nothing", self.name));
            }
            _ => {}
        }
        if self.old.len() > OLD_KEYS_MAX {
            return invalid(format!("{:?} has more than {OLD_KEYS_MAX} old keys", self.name));
        }
        let mut keys = std::iter::once(&self.key).chain(self.old.iter().map(|old| &old.key));
        match keys.find(|key| !is_id(&key.id)) {
            Some(_) => invalid(format!("an id of the key {:?} is none", self.name)),
            None => Ok(()),
        }
    }
}

fn is_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

/// An entry as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    name: String,
    #[serde(default)]
    kind: KeyKind,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    scopes: BTreeSet<Scope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<KeyHash>,
    /// The key itself: only read, from what earlier builds have written.
    #[serde(skip_serializing)]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    old: Vec<OldKey>,
    created_at_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotated_at_ms: Option<i64>,
    #[serde(default)]
    revoked: bool,
}

impl TryFrom<Wire> for ApiKey {
    type Error = &'static str;

    fn try_from(wire: Wire) -> std::result::Result<Self, Self::Error> {
        let Wire { name, kind, scopes, id, hash, key, old, created_at_ms, rotated_at_ms, revoked } = wire;
        let (key, was_in_clear) = match (id, hash, key) {
            (Some(id), Some(hash), None) => (HashedKey { id, hash }, false),
            (None, None, Some(key)) if key.chars().count() >= KEY_CHARS_MIN => (HashedKey::of_any(&key), true),
            // As serde words it, and so shown as no value is.
            _ => return Err("missing field `id` or `hash`, or a `key` that is long enough"),
        };
        Ok(Self { name, kind, scopes, key, old, created_at_ms, rotated_at_ms, revoked, was_in_clear })
    }
}

impl From<ApiKey> for Wire {
    fn from(record: ApiKey) -> Self {
        let ApiKey { name, kind, scopes, key, old, created_at_ms, rotated_at_ms, revoked, was_in_clear: _ } = record;
        let (id, hash, key) = (Some(key.id), Some(key.hash), None);
        Self { name, kind, scopes, id, hash, key, old, created_at_ms, rotated_at_ms, revoked }
    }
}

/// Writes every entry again that holds a key in clear, and tells how many there were. For commands that change keys, not for
/// servers: those of an earlier build, which may run beside newer ones while a deployment is updated, cannot read what is
/// written here.
///
/// # Errors
/// As of [`Catalog::list`], [`read`] and [`Catalog::put`].
pub async fn hash_clear_keys(catalog: &dyn Catalog) -> Result<usize> {
    let (mut count, mut after) = (0, None::<String>);
    loop {
        let page = catalog.list(ApiKey::KIND, after.as_deref(), PAGE_MAX).await?;
        let Some(last) = page.last() else { return Ok(count) };
        after = Some(last.name.clone());
        for entry in &page {
            let record: ApiKey = read(entry)?;
            if !record.was_in_clear {
                continue;
            }
            let hashed = Document::of(&record)?;
            match catalog.put(ApiKey::KIND, &entry.name, &hashed, Expect::Revision(entry.revision)).await {
                Ok(_) => count += 1,
                // Whoever was faster has hashed it too.
                Err(error) if matches!(error.kind(), ErrorKind::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// When the keys of a name were used last, of a kind of its own: it changes each minute, and who follows keys need not know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyUse {
    /// The name.
    pub name: String,
    /// By the id of a key, when it was used last, in milliseconds since 1970 by the clock of the database.
    pub used_at_ms: BTreeMap<String, i64>,
}

impl KeyUse {
    /// Takes in what somebody else has seen: the latest of each key is kept, and of too many keys those used last.
    pub fn merge(&mut self, seen: &BTreeMap<String, i64>) {
        for (id, &at_ms) in seen {
            let known = self.used_at_ms.entry(id.clone()).or_insert(at_ms);
            *known = at_ms.max(*known);
        }
        while self.used_at_ms.len() > USES_MAX {
            let Some(oldest) = self.used_at_ms.iter().min_by_key(|(_, at_ms)| **at_ms) else { return };
            let oldest = oldest.0.clone();
            self.used_at_ms.remove(&oldest);
        }
    }
}

impl Record for KeyUse {
    const KIND: &'static str = "key-uses";

    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        if self.used_at_ms.len() <= USES_MAX && self.used_at_ms.keys().all(|id| is_id(id)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, format!("the uses of {:?} are of more than {USES_MAX} keys", self.name)))
    }
}

#[cfg(test)]
mod tests;
