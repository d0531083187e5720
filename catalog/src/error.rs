//! Why the catalog could not do what it was asked.

use std::error::Error as StdError;

use crate::Revision;

/// What the caller should do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Fix the call: it can never succeed.
    Invalid,
    /// Look at what is there now and decide again: the entry is at this revision, or absent.
    Conflict(Option<Revision>),
    /// Read everything again: changes since that revision are not known, or are those of another catalog.
    Expired,
    /// Repeat the same call later: nothing was changed.
    Retry,
    /// Look whether it happened: the answer to a change was lost.
    Unknown,
    /// Someone must act first: a password, a permission, a newer version. The message says what.
    Refused,
    /// Stop: what is stored is not what was written.
    Corrupt,
}

/// Why the catalog could not do what it was asked. Neither its text nor its causes hold documents or passwords.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
    cure: Option<&'static str>,
}

/// What calls of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without a cause below it. `message` says what was attempted on what.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, cure: None }
    }

    /// An error with its cause.
    pub fn with_source(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()), cure: None }
    }

    /// The same with what a person has to do about it.
    pub(crate) fn with_cure(self, cure: Option<&'static str>) -> Self {
        Self { cure, ..self }
    }

    /// What a person has to do about it, where that is known.
    pub(crate) fn cure(&self) -> Option<&'static str> {
        self.cure
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// True when the same call may succeed later, as it is.
    pub fn is_retry(&self) -> bool {
        self.kind == ErrorKind::Retry
    }
}
