//! What librdkafka says besides answers: log lines and errors of a client as a whole.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use millrace_log::{Error, ErrorKind};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Where librdkafka comments on properties that it takes all the same.
const CONFIGURATION: &str = "CONFWARN";

/// Passes log lines on and remembers the last error, so that a time-out can say why.
#[derive(Debug, Default)]
pub(crate) struct Context {
    last_error: Mutex<Option<String>>,
    refused: AtomicBool,
}

impl Context {
    /// The last error of the client, for a message, or nothing.
    pub(crate) fn why(&self) -> String {
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|error| format!(" (last error of the client: {error})")).unwrap_or_default()
    }

    /// Whether a broker refused the user or the password.
    pub(crate) fn refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, error: &KafkaError, reason: &str) {
        tracing::warn!(target: "librdkafka", %error, reason, "kafka client");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication) {
            self.refused.store(true, Ordering::Relaxed);
        }
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        // That no broker is left follows from what was said before, which says more.
        if last.is_none() || error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *last = Some(reason.to_owned());
        }
    }

    /// A line of the log of librdkafka.
    pub(crate) fn line(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == CONFIGURATION {
            // Among others that a setting the laws rest on is experimental, for every producer anew.
            tracing::debug!(target: "librdkafka", facility, "{message}");
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note(&error, reason);
    }
}

impl ConsumerContext for Context {}

/// A client that cannot be made: its configuration is wrong.
pub(crate) fn unusable(what: &str, error: KafkaError) -> Error {
    // librdkafka repeats the value, which may be a password.
    if let KafkaError::ClientConfig(_, description, name, _) = error {
        return Error::new(ErrorKind::Invalid, format!("cannot make {what}: {name}: {description}"));
    }
    Error::with_source(ErrorKind::Invalid, format!("cannot make {what}"), error)
}

/// What to do about an error of the cluster.
pub(crate) fn failed(attempted: String, error: KafkaError) -> Error {
    let kind = match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidTimestamp,
        ) => ErrorKind::Invalid,
        _ => ErrorKind::Retry,
    };
    Error::with_source(kind, attempted, error)
}
