//! What a key looks like, and what is kept of one.
//!
//! A key that we make is `mr_<kind>_<43 characters>_<5 characters>`: 32 random bytes in base 62, and a checksum of all that
//! stands before it. By the first characters, scanners find it where it should not be; by the last ones a key that was
//! mistyped or cut is told from one that is not known. Both together are 55 bytes, which is as much as one block of SHA-256
//! takes. Keys that people bring themselves may have any form.

use std::fmt;
use std::hash::{Hash, Hasher};

use sha2::{Digest as _, Sha256};

/// How many random bytes a key is made of.
pub const KEY_RANDOM_BYTES: usize = 32;

/// How long 32 bytes are in base 62.
const BODY_CHARS: usize = 43;
/// How long a checksum is.
const CHECKSUM_CHARS: usize = 5;
/// What the checksum wraps at: as many as it has values.
const CHECKSUM_VALUES: u32 = 62_u32.pow(CHECKSUM_CHARS as u32);

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What a key is for, as its first characters tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Public: it stands in pages and apps, and may only send events.
    Write,
    /// For servers: it may do what its scopes say.
    Secret,
}

impl KeyKind {
    const ALL: [Self; 2] = [Self::Write, Self::Secret];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Write => "mr_wk_",
            Self::Secret => "mr_sk_",
        }
    }
}

/// The key that these bytes make. Whoever knows them knows the key: take them from the system's random source.
pub fn make_key(kind: KeyKind, random: &[u8; KEY_RANDOM_BYTES]) -> String {
    let mut key = kind.prefix().to_owned();
    key.push_str(&base62(random));
    let checksum = checksum(key.as_bytes());
    key.push('_');
    key.push_str(&checksum);
    key
}

/// True when it begins as a key of ours and does not end as one: it was mistyped, or cut.
pub fn is_mistyped(key: &[u8]) -> bool {
    let is_ours = KeyKind::ALL.iter().any(|kind| key.starts_with(kind.prefix().as_bytes()));
    let body_end = KeyKind::Write.prefix().len() + BODY_CHARS;
    let is_whole = key.len() == body_end + 1 + CHECKSUM_CHARS
        && key[body_end] == b'_'
        && &key[body_end + 1..] == checksum(&key[..body_end]).as_bytes();
    is_ours && !is_whole
}

/// True when it begins as a secret key does.
pub(crate) fn is_secret(key: &[u8]) -> bool {
    key.starts_with(KeyKind::Secret.prefix().as_bytes())
}

/// The hash of the text before it, wrapped: what is mistyped has the same in one of 900 million cases.
fn checksum(text: &[u8]) -> String {
    let [a, b, c, d, ..] = KeyHash::of(text).0;
    let mut rest = u32::from_be_bytes([a, b, c, d]) % CHECKSUM_VALUES;
    let mut digits = [0; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits.iter().map(|&digit| char::from(digit)).collect()
}

/// Big-endian, with leading zeros, so that all keys are of one length.
fn base62(bytes: &[u8; KEY_RANDOM_BYTES]) -> String {
    let mut number = *bytes;
    let mut digits = [0; BODY_CHARS];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0;
        for byte in &mut number {
            let whole = rest * 256 + u32::from(*byte);
            // Below 256, because the rest before it was below 62.
            *byte = (whole / 62) as u8;
            rest = whole % 62;
        }
        *digit = DIGITS[rest as usize];
    }
    digits.iter().map(|&digit| char::from(digit)).collect()
}

/// The SHA-256 of a key: all that is kept of it. Not a slow hash: a key is 256 random bits, so nobody finds it by trying, at
/// whatever cost a try has, while each request would pay that cost. A write key that somebody chose may be short; it
/// stands in every page that uses it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a key.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// A hash that was kept.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Hash for KeyHash {
    /// Some of it is as good as all of it: it is random already.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl fmt::Debug for KeyHash {
    /// Of a key that somebody chose, a hash lets one try guesses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

#[cfg(test)]
mod tests;
