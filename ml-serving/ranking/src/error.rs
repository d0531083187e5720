use std::error::Error as StdError;

use millrace_feature_store::online;

/// What the caller should do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Fix the query: it can never succeed.
    Invalid,
    /// Repeat the same query later.
    Retry,
    /// Stop: what is stored is not what was written.
    Corrupt,
}

/// Why a query could not be answered.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    code: &'static str,
    message: String,
    #[source]
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Invalid, code, message: message.into(), source: None }
    }

    pub(crate) fn late() -> Self {
        let message = "the online store is too slow now for any source of the feed; try again".to_owned();
        Self { kind: ErrorKind::Retry, code: "store_slow", message, source: None }
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// A stable name for machines, such as `invalid_cursor`.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl From<online::Error> for Error {
    fn from(cause: online::Error) -> Self {
        let (kind, code, message) = match cause.kind() {
            online::ErrorKind::Retry => {
                (ErrorKind::Retry, "store_unavailable", "cannot read the online store now; try again")
            }
            // A query that came this far was checked, so what the store refuses is our bug and not the caller's.
            online::ErrorKind::Invalid | online::ErrorKind::Corrupt => {
                (ErrorKind::Corrupt, "store_corrupt", "cannot use what the online store holds")
            }
        };
        Self { kind, code, message: message.to_owned(), source: Some(cause.into()) }
    }
}
