use std::fmt;

/// The result of what concerns a whole store. What concerns one partition answers with an error of `millrace-pipelines`.
pub type Result<T> = std::result::Result<T, Error>;

/// What to do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The URL or an option is wrong: correct it.
    Invalid,
    /// What is stored there is not for this process: of another log, or made by a newer version.
    Refused,
    /// The object store did not answer, or not as asked: try again, or look at it.
    Retry,
}

/// Why a store of state cannot be used. No message repeats a password.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Invalid, message: message.into(), source: None }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Refused, message: message.into(), source: None }
    }

    pub(crate) fn retry(message: impl Into<String>, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { kind: ErrorKind::Retry, message: message.into(), source: Some(Box::new(source)) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<millrace_objects::Error> for Error {
    fn from(error: millrace_objects::Error) -> Self {
        match error {
            millrace_objects::Error::Invalid(message) => Self::invalid(message),
            millrace_objects::Error::Refused(message) => Self::refused(message),
            millrace_objects::Error::Retry { message, source } => Self::retry(message, source),
        }
    }
}
