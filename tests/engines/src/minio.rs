//! S3, from the `minio` that `scripts/engines/minio.sh` builds.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Process, free_port, on_path, programs, skip};

/// Where the URL of a bucket is looked for: `s3://key:secret@bucket?endpoint=http://host:port&allow_http=true`.
pub const URL: &str = "MILLRACE_TEST_S3_URL";
/// What to do when there is none.
pub const CURE: &str = "run scripts/engines/minio.sh, or set MILLRACE_TEST_S3_URL";

/// The bucket that is there from the beginning.
const BUCKET: &str = "millrace-test";

/// A server with one bucket, whose objects are in its folder.
#[derive(Debug)]
pub struct Minio {
    process: Process,
    /// Where it listens, on the loopback interface.
    pub port: u16,
    /// The name of its only user, made for this server.
    pub key: String,
    /// The password of that user.
    pub secret: String,
}

impl Minio {
    /// Starts one; `None` when its program is not there.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Option<Self> {
        let (env, minio) = (on_path("env")?, program()?);
        let (port, key, secret) = (free_port(), random(), random());
        let mut process = Process::new("minio");
        let data = process.folder().join("data");
        // In a server with one folder, a folder in it is a bucket.
        std::fs::create_dir_all(data.join(BUCKET)).expect("a test machine has room for a folder");
        let variables = [
            format!("HOME={}", process.folder().display()),
            format!("MINIO_ROOT_USER={key}"),
            format!("MINIO_ROOT_PASSWORD={secret}"),
            "MINIO_BROWSER=off".to_owned(),
            "MINIO_UPDATE=off".to_owned(),
            "MINIO_CI_CD=on".to_owned(),
        ];
        let mut arguments: Vec<String> = variables.into();
        arguments.push(minio.display().to_string());
        arguments.extend(["server", "--quiet", "--anonymous", "--address"].map(str::to_owned));
        arguments.extend([format!("127.0.0.1:{port}"), data.display().to_string()]);
        process.start(&env, arguments, || is_ready(port));
        Some(Self { process, port, key, secret })
    }

    /// The URL of its bucket and of a prefix in it.
    pub fn url(&self, prefix: &str) -> String {
        let Self { port, key, secret, .. } = self;
        format!(
            "s3://{key}:{secret}@{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{port}&allow_http=true&region=us-east-1"
        )
    }

    /// What it runs in.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Kills it with -9.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, with the objects it had.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        let port = self.port;
        self.process.restart(|| is_ready(port));
    }

    /// See [`Process::suspend`].
    pub fn suspend(&self) {
        self.process.suspend();
    }

    /// See [`Process::resume`].
    pub fn resume(&self) {
        self.process.resume();
    }
}

/// The URL of a prefix that no other caller has: in the bucket whose URL is set, else in the one MinIO of this test process.
/// `None`, said aloud, where there is neither.
///
/// # Panics
/// When a server does not start, or cannot be had where CI is set.
pub fn prefix() -> Option<String> {
    static SHARED: OnceLock<Option<Minio>> = OnceLock::new();
    static USERS: AtomicU64 = AtomicU64::new(0);
    let prefix = format!("test-{}-{}", std::process::id(), USERS.fetch_add(1, Ordering::Relaxed));
    if let Ok(url) = std::env::var(URL) {
        let (place, query) = url.split_once('?').map_or((url.as_str(), String::new()), |(a, b)| (a, format!("?{b}")));
        return Some(format!("{}/{prefix}{query}", place.trim_end_matches('/')));
    }
    let shared = SHARED.get_or_init(Minio::start);
    if shared.is_none() {
        skip("S3", CURE);
    }
    shared.as_ref().map(|minio| minio.url(&prefix))
}

fn program() -> Option<PathBuf> {
    let installed = programs().join("minio/minio");
    if installed.is_file() { Some(installed) } else { on_path("minio") }
}

/// 32 hexadecimal digits that no other test has.
fn random() -> String {
    let mut bytes = [0; 16];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.expect("a test machine has random numbers");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// True when a server at this port takes requests.
fn is_ready(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let limit = Some(Duration::from_secs(1));
    let request = b"GET /minio/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = [0; 12];
    stream.set_read_timeout(limit).is_ok()
        && stream.write_all(request).is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer == *b"HTTP/1.1 200"
}
