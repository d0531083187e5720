//! ClickHouse: the engine as a library, behind an HTTP front of our own (`clickhouse_server.py`). It has no Keeper, so
//! neither replicated tables nor `ON CLUSTER`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::{Process, free_port, programs, skip};

/// Names the server to test against, with user and password, such as `http://user:password@host:8123`.
pub const URL_VARIABLE: &str = "MILLRACE_TEST_CLICKHOUSE_URL";

/// The user of an engine that was started here.
pub const USER: &str = "tests";
/// The user's password: with characters that a URL must escape.
pub const PASSWORD: &str = "s3cret/@:%?";
/// The same in a URL.
const PASSWORD_IN_URL: &str = "s3cret%2F%40%3A%25%3F";

const CURE: &str = "run scripts/engines/clickhouse.sh, or set MILLRACE_TEST_CLICKHOUSE_URL";

/// The front of it.
const SERVER: &str = include_str!("../clickhouse_server.py");

/// A ClickHouse to test against.
#[derive(Debug)]
pub struct ClickHouse {
    url: String,
    process: Option<(Process, u16)>,
}

impl ClickHouse {
    /// The one whose URL is set, else one that is started. `None`, said aloud, when there is neither.
    ///
    /// # Panics
    /// Where `CI` is set and there is neither; when it does not start.
    pub fn get() -> Option<Self> {
        match std::env::var(URL_VARIABLE) {
            Ok(url) if !url.is_empty() => Some(Self { url, process: None }),
            _ => Self::start(),
        }
    }

    /// One of one's own, to be killed or suspended.
    ///
    /// # Panics
    /// As of [`ClickHouse::get`].
    pub fn start() -> Option<Self> {
        let python = programs().join("clickhouse/bin/python");
        if !python.is_file() {
            skip("ClickHouse", CURE);
            return None;
        }
        let mut process = Process::new("clickhouse");
        let port = free_port();
        let server = process.folder().join("server.py");
        std::fs::write(&server, SERVER).expect("a test machine has room for a file");
        let data = process.folder().join("data");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let arguments = vec![text(&server), port.to_string(), text(&data), USER.to_owned(), PASSWORD.to_owned()];
        process.start(&python, arguments, || answers(port));
        let url = format!("http://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{port}");
        Some(Self { url, process: Some((process, port)) })
    }

    /// Its URL, with user and password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it runs in, when it was started here.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref().map(|(process, _)| process)
    }

    /// Kills it with -9.
    ///
    /// # Panics
    /// When it was not started here.
    pub fn kill(&mut self) {
        self.own().0.kill();
    }

    /// Starts it again, on the same port and data.
    ///
    /// # Panics
    /// When it was not started here, or does not start.
    pub fn restart(&mut self) {
        let (process, port) = self.own();
        let port = *port;
        process.restart(|| answers(port));
    }

    /// Stops it from running, until it is resumed.
    ///
    /// # Panics
    /// When it was not started here.
    pub fn suspend(&mut self) {
        self.own().0.suspend();
    }

    /// See [`ClickHouse::suspend`].
    ///
    /// # Panics
    /// When it was not started here.
    pub fn resume(&mut self) {
        self.own().0.resume();
    }

    fn own(&mut self) -> &mut (Process, u16) {
        self.process.as_mut().expect("only an engine that was started here is killed: call `start`")
    }
}

/// Whether somebody answers there as ClickHouse does.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.contains("Ok."))
    };
    ask().unwrap_or(false)
}
