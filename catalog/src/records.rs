//! What the entries of known kinds say.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Catalog, Document, Entry, Error, ErrorKind, Expect, Result, Revision, check_name};

/// How short a write key may be, in characters.
pub const KEY_CHARS_MIN: usize = 8;
/// How long a write key may be, in bytes.
const KEY_BYTES_MAX: usize = 256;
/// The name of the settings of the whole platform.
pub const PLATFORM: &str = "platform";

/// An entry of a known kind. What it says is checked when it is written and when it is read.
pub trait Record: Serialize + DeserializeOwned + Send + Sync {
    /// Its kind.
    const KIND: &'static str;

    /// The name of its entry.
    fn name(&self) -> &str;

    /// Refuses what it cannot say.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], with what is wrong and no secret.
    fn check(&self) -> Result<()>;
}

/// What an entry says.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is of another kind, has fields that are not known, or says what it cannot.
pub fn read<R: Record>(entry: &Entry) -> Result<R> {
    let corrupt = |why: String| {
        Error::new(ErrorKind::Corrupt, format!("cannot read {} {:?} of the catalog: {why}", entry.kind, entry.name))
    };
    if entry.kind != R::KIND {
        return Err(corrupt(format!("it is not of {}", R::KIND)));
    }
    let record: R = entry.document.read().map_err(|e| corrupt(e.to_string()))?;
    record.check().map_err(|e| corrupt(e.to_string()))?;
    if record.name() != entry.name {
        return Err(corrupt(format!("it calls itself {:?}", record.name())));
    }
    Ok(record)
}

/// Reads a record and its revision, which its next writer expects.
///
/// # Errors
/// As of [`Catalog::get`] and [`read`].
pub async fn read_record<R: Record>(catalog: &dyn Catalog, name: &str) -> Result<Option<(R, Revision)>> {
    let entry = catalog.get(R::KIND, name).await?;
    entry.map(|entry| Ok((read(&entry)?, entry.revision))).transpose()
}

/// Writes a record.
///
/// # Errors
/// As of [`Record::check`] and [`Catalog::put`].
pub async fn write_record<R: Record>(catalog: &dyn Catalog, record: &R, expect: Expect) -> Result<Revision> {
    record.check()?;
    catalog.put(R::KIND, record.name(), &Document::of(record)?, expect).await
}

/// A text that neither `Debug` nor an error shows. Compare it in constant time.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who may send events.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteKey {
    /// Its name, which events carry as their source.
    pub name: String,
    /// The key: at least [`KEY_CHARS_MIN`] characters without control characters.
    pub key: Secret,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// True when it is not to be taken any more.
    #[serde(default)]
    pub revoked: bool,
}

impl Record for WriteKey {
    const KIND: &'static str = "write-keys";

    fn name(&self) -> &str {
        &self.name
    }

    fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        let key = self.key.expose();
        let fits = key.chars().count() >= KEY_CHARS_MIN && key.len() <= KEY_BYTES_MAX;
        if fits && !key.chars().any(char::is_control) {
            return Ok(());
        }
        let why = format!(
            "the write key of {:?} is not {KEY_CHARS_MIN} characters to {KEY_BYTES_MAX} bytes without control characters",
            self.name
        );
        Err(Error::new(ErrorKind::Invalid, why))
    }
}

/// What the whole platform is set to. What is none is left to the configuration of each process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Which share of served slates is kept, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slate_sample_rate: Option<f64>,
    /// For how many days events are kept; more than 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<f64>,
    /// For how many days served slates are kept; more than 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slate_retention_days: Option<f64>,
}

impl Record for Settings {
    const KIND: &'static str = "settings";

    fn name(&self) -> &str {
        PLATFORM
    }

    fn check(&self) -> Result<()> {
        let invalid = |why: &str| Err(Error::new(ErrorKind::Invalid, why));
        if self.slate_sample_rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
            return invalid("slate_sample_rate is from 0 to 1");
        }
        for (days, name) in
            [(self.retention_days, "retention_days"), (self.slate_retention_days, "slate_retention_days")]
        {
            if days.is_some_and(|days| !(days.is_finite() && days > 0.0)) {
                return invalid(&format!("{name} is more than 0"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
