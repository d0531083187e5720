//! Named points between one write and the next, where a test can end or freeze the process.
//!
//! Without the feature `on`, which only tests have, [`reach`] is empty. With it `FAILPOINTS` says what happens where, in the
//! language of the `fail` crate: `runner-published=40*off->1*return(abort)` ends the process the 41st time that it gets
//! there, `return(stop)` freezes it as SIGSTOP does until somebody sends SIGCONT: a worker that was paused for so long that
//! another took over, and goes on as if nothing had happened.

/// Every point, in the order in which an event passes them.
pub const NAMES: &[&str] = &[
    // A request is read and stamped; nothing of it is in the log.
    "collector-prepared",
    // The log did not take a batch in time, or may have taken it; nothing of it is in the spool.
    "spool-tried",
    // It is durable in the spool; nobody knows.
    "spool-kept",
    // It is in the log too; its place in the spool is not free yet.
    "spool-drained",
    // It is durable; nobody was answered.
    "collector-appended",
    // Records are applied in memory; nothing of them is out.
    "runner-applied",
    // What follows from them is in the topics; not online.
    "runner-published",
    // It is online; not committed.
    "runner-online",
    // State and offset are about to be committed.
    "runner-committing",
    // They are committed; nobody was told.
    "runner-committed",
    // Rows are cut; the warehouse has nothing of them.
    "archive-cut",
    // Rows are stored; where they come from is not recorded.
    "warehouse-stored",
    // Both are; the archive does not know.
    "archive-committed",
];

/// Every place where something can be refused as if by an engine.
pub const REFUSALS: &[&str] = &[
    // A batch that the door has tries its way into the log.
    "spool-trying",
    // A batch of the spool does.
    "spool-draining",
];

/// Does here what a test has asked for.
///
/// # Panics
/// With the feature `on`, when the name is none of [`NAMES`] or what is asked for is neither `abort` nor `stop`.
#[cfg(not(feature = "on"))]
#[inline(always)]
pub fn reach(_name: &'static str) {}

/// Does here what a test has asked for.
///
/// # Panics
/// When the name is none of [`NAMES`], or what is asked for is neither `abort` nor `stop`.
#[cfg(feature = "on")]
pub fn reach(name: &'static str) {
    assert!(NAMES.contains(&name), "{name} is not among the failpoints");
    read_once();
    fail::fail_point!(name, |action: Option<String>| match action.as_deref() {
        Some("abort") => std::process::abort(),
        Some("stop") => freeze(name),
        other => panic!("a failpoint can `abort` or `stop`, not {other:?}"),
    });
}

/// True where a test has asked for `return(refuse)`.
#[cfg(not(feature = "on"))]
#[inline(always)]
pub fn refuses(_name: &'static str) -> bool {
    false
}

/// True where a test has asked for `return(refuse)`.
///
/// # Panics
/// When the name is none of [`REFUSALS`], or something else is asked for.
#[cfg(feature = "on")]
pub fn refuses(name: &'static str) -> bool {
    assert!(REFUSALS.contains(&name), "{name} is not among the refusals");
    read_once();
    fail::fail_point!(name, |action: Option<String>| match action.as_deref() {
        Some("refuse") => true,
        other => panic!("here a failpoint can `refuse`, not {other:?}"),
    });
    false
}

#[cfg(feature = "on")]
fn read_once() {
    use std::sync::Once;

    static READ: Once = Once::new();
    // For as long as the process lives: the points are given with its environment.
    READ.call_once(|| std::mem::forget(fail::FailScenario::setup()));
}

#[cfg(feature = "on")]
fn freeze(name: &str) {
    use rustix::process::{Signal, getpid, kill_process};

    kill_process(getpid(), Signal::STOP).unwrap_or_else(|error| panic!("cannot stop at {name}: {error}"));
}
