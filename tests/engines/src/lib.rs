//! Real engines for tests: Kafka, Redis, ClickHouse, Postgres and S3, each started on a free port of the loopback interface in
//! a folder of its own, and gone with the test, also when the test is killed.
//!
//! A test that needs an engine asks for it by its module and gets it in one of three ways: the one whose URL is set, one that
//! is started here when its program can be had (`scripts/engines.sh` installs what is missing), or none, said aloud; where
//! `CI` is set, none is a failure. It is only ever a dev-dependency.

/// ClickHouse.
pub mod clickhouse;
pub mod fleet;
pub mod kafka;
pub mod minio;
pub mod postgres;
mod process;
pub mod redis;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub use process::Process;

/// How long an engine may take to start.
pub const START_MAX: Duration = Duration::from_secs(60);

/// Where `scripts/engines.sh` puts programs that no package of the system brings; nowhere, where no engine is wanted.
pub fn programs() -> PathBuf {
    if unwanted() {
        return PathBuf::from("/dev/null");
    }
    let home = || std::env::var_os("HOME").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    std::env::var_os("MILLRACE_ENGINES").map_or_else(|| home().join(".cache/millrace-engines"), PathBuf::from)
}

/// True where tests are to do without any engine: `MILLRACE_TEST_ENGINES=0`.
fn unwanted() -> bool {
    std::env::var_os("MILLRACE_TEST_ENGINES").is_some_and(|wanted| wanted == "0")
}

/// A program on the `PATH`; `None` also where no engine is wanted.
pub fn on_path(program: &str) -> Option<PathBuf> {
    if unwanted() {
        return None;
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A port of the loopback interface that nobody listens on. Below those that systems give to outgoing connections, of which
/// one could take it before whoever asked listens; never the same twice in a process, and each process begins elsewhere.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(61);
    (0..COUNT)
        .filter_map(|_| {
            let nth = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
            u16::try_from(FIRST + nth).ok()
        })
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a test machine has a free port")
}

/// Says that a test is skipped for want of an engine.
///
/// # Panics
/// Where `CI` is set, unless no engine is wanted: there every engine must run.
pub fn skip(engine: &str, cure: &str) {
    assert!(std::env::var_os("CI").is_none() || unwanted(), "{engine} cannot be had, and in CI it must: {cure}");
    // Past the test runner, which keeps what a passing test prints to itself. Where nobody listens, nobody is told.
    drop(writeln!(std::io::stderr(), "SKIPPED: {engine} cannot be had here: {cure}"));
}
