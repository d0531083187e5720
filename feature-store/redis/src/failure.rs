//! What went wrong with Redis, as errors that say what to do.

use millrace_feature_store::online::{Error, ErrorKind};
use redis::RedisError;

const REFUSES_USER: &str = "it refuses the user or the password: correct them in the URL";
const NOBODY: &str = "nobody listens there: start it, or correct the URL";

/// What to do with a call that Redis did not carry out.
pub(crate) enum Answer {
    /// The slot is elsewhere: look where the slots are, and ask again.
    Moved,
    /// The slot is on its way to this server, which has the key: ask there, this once.
    Ask(String),
    /// It will be possible soon; until then the error says why it is not.
    Soon(Error),
    /// The server does not know the scripts any more.
    NoScript,
    /// This server no longer takes writes: connect again.
    Demoted,
    /// Tell the caller.
    Tell(Error),
}

/// What to do about an error that Redis answered.
pub(crate) fn answer(attempted: &str, address: &str, cluster: bool, error: RedisError) -> Answer {
    match error.code() {
        Some("MOVED") if cluster => Answer::Moved,
        Some("ASK") if cluster => match error.redirect_node() {
            Some((to, _)) => Answer::Ask(to.to_owned()),
            None => Answer::Moved,
        },
        Some("TRYAGAIN" | "CLUSTERDOWN") if cluster => Answer::Soon(failed(attempted, address, error)),
        Some("NOSCRIPT") => Answer::NoScript,
        Some("READONLY") => Answer::Demoted,
        _ => Answer::Tell(failed(attempted, address, error)),
    }
}

/// The error for the caller. `attempted` follows "cannot".
pub(crate) fn failed(attempted: &str, address: &str, error: RedisError) -> Error {
    let code = error.code().unwrap_or_default();
    if matches!(code, "WRONGTYPE" | "CORRUPT") {
        return Error::with_source(ErrorKind::Corrupt, garbage_message(attempted, address), error);
    }
    let why = match code {
        "OOM" => "it is out of memory: raise maxmemory or add servers",
        "LOADING" => "it is still loading its data: wait",
        "READONLY" => "it is a replica: point the URL at the master",
        "CLUSTERDOWN" => "the cluster is down: look which slots have no master with CLUSTER INFO",
        "MOVED" | "ASK" | "TRYAGAIN" => "slots are moving: wait",
        "CROSSSLOT" => "it is a cluster: begin the URL with redis-cluster://",
        "MISCONF" => "it cannot save to its disk and therefore takes no writes: make room there, or see its log",
        "NOREPLICAS" => "too few replicas are connected to it for min-replicas-to-write: bring them back",
        "MASTERDOWN" => "it is a replica without its master: point the URL at the master",
        "BUSY" => "a script keeps it busy: see SLOWLOG GET",
        "NOAUTH" | "WRONGPASS" => REFUSES_USER,
        "NOPERM" => {
            "its ACL forbids the user a command or a key: grant it our prefix and +@read +@write +@scripting +time +info +cluster +asking"
        }
        _ if error.is_timeout() => "it did not answer in time: it or the network is overloaded, or hangs",
        _ if error.is_connection_refusal() => NOBODY,
        _ if matches!(error.kind(), redis::ErrorKind::AuthenticationFailed) => REFUSES_USER,
        _ if error.is_io_error() => "the connection failed",
        _ => "it said no",
    };
    Error::with_source(
        ErrorKind::Retry,
        format!("cannot {attempted}: Redis at {address}: {why}; it is tried again"),
        error,
    )
}

/// What a person has to do about an error of ours.
pub(crate) fn cure(error: &Error) -> &'static str {
    let said = error.to_string();
    if said.contains(REFUSES_USER) {
        return "correct the user and the password in the URL";
    }
    if said.contains(NOBODY) {
        return "start Redis there, or correct host and port in the URL";
    }
    "see the message"
}

/// An error about stored bytes that are none of ours.
pub(crate) fn garbage(attempted: &str, address: &str) -> Error {
    Error::new(ErrorKind::Corrupt, garbage_message(attempted, address))
}

fn garbage_message(attempted: &str, address: &str) -> String {
    format!(
        "cannot {attempted}: what Redis at {address} stores under our prefix was not written by us; stop, give us a prefix of \
         our own, delete what is under it and rebuild the online store from the log"
    )
}

/// An error that the caller may hope to get over by repeating.
pub(crate) fn retry(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Retry, message)
}

/// A copy for another caller, without its cause.
pub(crate) fn again(error: &Error) -> Error {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::new(error.kind(), format!("{error}{cause}"))
}
