//! What the server says, as what a caller should do.

use std::time::Duration;

use millrace_warehouse::{Error, ErrorKind};

use crate::client::Server;

/// How much of the server's own words a message repeats, characters.
const WORDS_CHARS_MAX: usize = 300;

/// What was attempted, on which server.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) attempt: String,
    place: String,
}

impl Work {
    pub(crate) fn new(server: &Server, attempt: &str) -> Self {
        Self { attempt: attempt.to_owned(), place: server.place().to_owned() }
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

/// No answer in time. What was asked may happen all the same.
pub(crate) fn late(work: &Work, time_max: Duration) -> Error {
    let message =
        format!("{}: ClickHouse at {} did not answer within {} s", work.attempt, work.place, time_max.as_secs_f64());
    Error::new(ErrorKind::Retry, message)
}

/// An answer that is not what the format says.
pub(crate) fn garbled(work: &Work, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = format!("{}: the answer of ClickHouse at {} broke off", work.attempt, work.place);
    Error::with_source(ErrorKind::Retry, message, source)
}

/// The error of a statement of our own.
pub(crate) fn failed(error: clickhouse::error::Error, work: &Work) -> Error {
    let Some(exception) = Exception::of(&error) else {
        let message = format!("{}: ClickHouse at {} cannot be reached", work.attempt, work.place);
        return Error::with_source(ErrorKind::Retry, message, error);
    };
    let (kind, cure) = match exception.code {
        AUTHENTICATION_FAILED | UNKNOWN_USER | WRONG_PASSWORD | REQUIRED_PASSWORD => {
            (ErrorKind::Retry, ": correct the user and the password in its URL")
        }
        ACCESS_DENIED | READONLY => (ErrorKind::Retry, ": grant the user what is missing"),
        UNKNOWN_TABLE | UNKNOWN_DATABASE | NO_SUCH_COLUMN | NOT_FOUND_COLUMN | UNKNOWN_IDENTIFIER => {
            (ErrorKind::Corrupt, ": the tables are not those that were created, restart to create what is missing")
        }
        CORRUPTED_DATA | CHECKSUM_DOES_NOT_MATCH => (ErrorKind::Corrupt, ""),
        TOO_MANY_PARTS => (ErrorKind::Retry, ": merges do not keep up, send larger blocks"),
        _ => (ErrorKind::Retry, ""),
    };
    let message = format!("{}: ClickHouse at {} says `{}`{cure}", work.attempt, work.place, exception.words);
    Error::with_source(kind, message, error)
}

/// What one query may take, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) time_max: Duration,
    pub(crate) memory_bytes_max: u64,
    pub(crate) rows_max: u64,
}

/// The error of a named query.
pub(crate) fn of_query(error: clickhouse::error::Error, work: &Work, bounds: Bounds) -> Error {
    let Some(exception) = Exception::of(&error) else { return failed(error, work) };
    match exception.code {
        TIMEOUT_EXCEEDED | TOO_SLOW => too_slow(bounds.time_max),
        // That of the whole server is nothing that asking for less would cure.
        MEMORY_LIMIT_EXCEEDED if exception.words.contains("(total)") => {
            Error::with_source(ErrorKind::Busy, "the server has no memory to spare; ask again in a moment", error)
        }
        MEMORY_LIMIT_EXCEEDED => {
            let why = format!("needs more than {} MiB of memory", bounds.memory_bytes_max >> 20);
            too_large(&why, error)
        }
        TOO_MANY_ROWS | TOO_MANY_ROWS_OR_BYTES | TOO_MANY_BYTES => {
            too_large(&format!("has more than {} rows", bounds.rows_max), error)
        }
        TOO_MANY_SIMULTANEOUS_QUERIES => busy(),
        code if CANNOT_BE_PLANNED.contains(&code) => {
            let message = format!("the query cannot be planned: {}", exception.words);
            Error::with_source(ErrorKind::Invalid, message, error)
        }
        _ => failed(error, work),
    }
}

pub(crate) fn busy() -> Error {
    Error::new(ErrorKind::Busy, "too many queries are running; ask again in a moment")
}

pub(crate) fn too_slow(time_max: Duration) -> Error {
    let message = format!(
        "the query was stopped after {} s, the longest that one may take: ask again when the machine is less busy, or ask for \
         less, such as a shorter time",
        time_max.as_secs_f64()
    );
    Error::new(ErrorKind::TooLarge, message)
}

fn too_large(why: &str, source: clickhouse::error::Error) -> Error {
    let message = format!(
        "the query was stopped because it {why}, the most that one may take; ask for less, such as a shorter time"
    );
    Error::with_source(ErrorKind::TooLarge, message, source)
}

/// What the server said, by its number.
struct Exception {
    code: u32,
    words: String,
}

impl Exception {
    /// `None` when the server said nothing: it could not be reached, or something in between answered.
    fn of(error: &clickhouse::error::Error) -> Option<Self> {
        let clickhouse::error::Error::BadResponse(text) = error else { return None };
        let after = text.split_once("Code: ")?.1;
        let (code, words) = after.split_once('.').unwrap_or((after, ""));
        let words = words.trim_start_matches([' ', '.']).trim_start_matches("DB::Exception: ");
        let words = words.lines().next().unwrap_or_default();
        Some(Self { code: code.trim().parse().ok()?, words: words.chars().take(WORDS_CHARS_MAX).collect() })
    }
}

/// The number of what the server said.
pub(crate) fn code(error: &Error) -> Option<u32> {
    let source = std::error::Error::source(error)?.downcast_ref::<clickhouse::error::Error>()?;
    Exception::of(source).map(|exception| exception.code)
}

const NOT_FOUND_COLUMN: u32 = 10;
const NO_SUCH_COLUMN: u32 = 16;
const CHECKSUM_DOES_NOT_MATCH: u32 = 40;
const UNKNOWN_IDENTIFIER: u32 = 47;
const UNKNOWN_TABLE: u32 = 60;
const UNKNOWN_DATABASE: u32 = 81;
const TOO_MANY_ROWS: u32 = 158;
const TIMEOUT_EXCEEDED: u32 = 159;
const TOO_SLOW: u32 = 160;
pub(crate) const READONLY: u32 = 164;
pub(crate) const UNKNOWN_USER: u32 = 192;
pub(crate) const WRONG_PASSWORD: u32 = 193;
pub(crate) const REQUIRED_PASSWORD: u32 = 194;
const TOO_MANY_SIMULTANEOUS_QUERIES: u32 = 202;
const MEMORY_LIMIT_EXCEEDED: u32 = 241;
const CORRUPTED_DATA: u32 = 246;
const TOO_MANY_PARTS: u32 = 252;
const TOO_MANY_BYTES: u32 = 307;
const TOO_MANY_ROWS_OR_BYTES: u32 = 396;
pub(crate) const ACCESS_DENIED: u32 = 497;
pub(crate) const AUTHENTICATION_FAILED: u32 = 516;

/// What a query says about itself: arguments, types, names, syntax, functions, parameters, writing.
const CANNOT_BE_PLANNED: &[u32] = &[
    36,
    NO_SUCH_COLUMN,
    35,
    42,
    43,
    44,
    46,
    UNKNOWN_IDENTIFIER,
    53,
    UNKNOWN_TABLE,
    62,
    63,
    READONLY,
    179,
    184,
    207,
    215,
    386,
    456,
    457,
];

#[cfg(test)]
mod tests;
