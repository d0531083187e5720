//! What the entries of known kinds say.

pub(crate) mod keys;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Catalog, Document, Entry, Error, ErrorKind, Expect, Result, Revision};

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
