//! Postgres, from the package of the system. It refuses to run as root, so root gives it to the user `postgres`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Process, free_port, on_path, skip, unwanted};

/// Names the server to test against, such as `postgres://user:password@host:5432/database`; the user may make schemas and roles
/// there, and what tests make stays.
pub const URL_VARIABLE: &str = "MILLRACE_TEST_POSTGRES_URL";

/// The user of a server that was started here.
pub const USER: &str = "tests";
/// The user's password: with characters that a URL must escape.
pub const PASSWORD: &str = "s3cret/@:%?";
/// The same in a URL.
const PASSWORD_IN_URL: &str = "s3cret%2F%40%3A%25%3F";
/// The account that root gives the server to; the package makes it.
const ACCOUNT: &str = "postgres";

const CURE: &str = "run scripts/engines/postgres.sh, or set MILLRACE_TEST_POSTGRES_URL";

/// A Postgres to test against.
#[derive(Debug)]
pub struct Postgres {
    url: String,
    process: Option<(Process, u16)>,
}

impl Postgres {
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

    /// One of one's own, to be killed or suspended. It asks for a password, and syncs what it commits.
    ///
    /// # Panics
    /// As of [`Postgres::get`].
    pub fn start() -> Option<Self> {
        Self::begin(false)
    }

    /// One that offers TLS, and the file with the certificate of its authority. It proves to be `localhost`, and nothing else.
    ///
    /// # Panics
    /// As of [`Postgres::get`], also for want of `openssl`.
    pub fn start_with_tls() -> Option<(Self, PathBuf)> {
        if on_path("openssl").is_none() {
            skip("Postgres with TLS", "install openssl");
            return None;
        }
        let server = Self::begin(true)?;
        let authority = server.process.as_ref().map(|(process, _)| process.folder().join("authority.crt"));
        Some((server, authority?))
    }

    fn begin(tls: bool) -> Option<Self> {
        let Some(programs) = programs() else {
            skip("Postgres", CURE);
            return None;
        };
        let mut process = Process::new("postgres");
        let (port, data) = (free_port(), process.folder().join("data"));
        if tls {
            make_certificates(process.folder());
        }
        make_cluster(&programs, process.folder(), &data);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let server = text(&programs.join("postgres"));
        let settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=50",
            "shared_buffers=16MB",
            "timezone=UTC",
        ];
        let mut arguments = vec![server, "-D".to_owned(), text(&data), "-p".to_owned(), port.to_string()];
        arguments.extend(settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
        if tls {
            let certificates = ["ssl=on", "ssl_cert_file=../server.crt", "ssl_key_file=../server.key"];
            arguments.extend(certificates.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
        }
        let (program, arguments) = as_account(arguments);
        process.start(&program, arguments, || answers(port));
        let url = format!("postgres://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{port}/postgres");
        Some(Self { url, process: Some((process, port)) })
    }

    /// Its URL, with user, password and database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills it and its children with -9.
    ///
    /// # Panics
    /// When it was not started here.
    pub fn kill(&mut self) {
        let (process, _) = self.own();
        let children = children(process);
        process.kill();
        // They would notice and go, after a while; until then nothing can be started on their data.
        signal("-KILL", &children);
        while children.iter().any(|child| parent(*child).is_some()) {
            pause();
        }
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

    /// Stops it and its children from running, until it is resumed.
    ///
    /// # Panics
    /// When it was not started here.
    pub fn suspend(&mut self) {
        let (process, _) = self.own();
        process.suspend();
        signal("-STOP", &children(process));
    }

    /// See [`Postgres::suspend`].
    ///
    /// # Panics
    /// When it was not started here.
    pub fn resume(&mut self) {
        let (process, _) = self.own();
        signal("-CONT", &children(process));
        process.resume();
    }

    /// What `psql` prints for statements.
    ///
    /// # Panics
    /// When one fails.
    pub fn sql(&self, statements: &str) -> String {
        let beside = programs().map(|folder| folder.join("psql")).filter(|file| file.is_file());
        let mut command = Command::new(beside.unwrap_or_else(|| PathBuf::from("psql")));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url, "-c", statements]);
        let output = command.output().expect("psql is there: the package of the server needs it");
        assert!(output.status.success(), "psql failed:\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn own(&mut self) -> &mut (Process, u16) {
        self.process.as_mut().expect("only a server that was started here is killed: call `start`")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A suspended child would not notice that its server is gone.
        if let Some((process, _)) = &self.process {
            signal("-CONT", &children(process));
        }
    }
}

/// The processes that serve its connections, and those that look after its data.
fn children(process: &Process) -> Vec<u32> {
    let told = std::fs::read_to_string(process.folder().join("data/postmaster.pid")).unwrap_or_default();
    let Some(server) = told.lines().next().and_then(|line| line.parse().ok()) else { return Vec::new() };
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|number| parent(*number) == Some(server)).collect()
}

/// Whose child a process is; none when it is gone.
fn parent(number: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // Behind the name, which may hold anything: state and parent.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| state != "Z")
}

fn signal(signal: &str, processes: &[u32]) {
    for process in processes {
        // It fails when that process has just ended by itself.
        drop(Command::new("/bin/sh").arg("-c").arg(format!("kill {signal} {process} 2>/dev/null")).status());
    }
}

#[expect(clippy::disallowed_methods, reason = "a killed process tells nobody when it is gone")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// The folder of the server's programs: on the `PATH`, or where Debian puts the newest version.
fn programs() -> Option<PathBuf> {
    if let Some(found) = on_path("initdb") {
        return found.parent().map(Path::to_owned);
    }
    if unwanted() {
        return None;
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = |folder: &Path| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let folders =
        versions.filter_map(|entry| Some(entry.ok()?.path())).filter(|folder| folder.join("bin/initdb").is_file());
    folders.max_by_key(|folder| version(folder)).map(|folder| folder.join("bin"))
}

/// Makes what the server keeps its data in, with a user that has a password.
fn make_cluster(programs: &Path, folder: &Path, data: &Path) {
    let secret = folder.join("password");
    std::fs::write(&secret, PASSWORD).expect("a test machine has room");
    if is_root() {
        // It must own what it writes; the keeper, as root, goes on writing its own marks beside that.
        let given = Command::new("chown").args(["-R", ACCOUNT]).arg(folder).status();
        assert!(given.is_ok_and(|status| status.success()), "the user {ACCOUNT} is not there: {CURE}");
    }
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut arguments = vec![text(&programs.join("initdb")), "-D".to_owned(), text(data)];
    arguments.push(format!("--pwfile={}", text(&secret)));
    arguments.push(format!("--username={USER}"));
    // Not synced: it is made once, and nobody pulls the plug. The server syncs its own.
    let rest = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"];
    arguments.extend(rest.map(str::to_owned));
    let (program, arguments) = as_account(arguments);
    let output = Command::new(program).args(arguments).current_dir("/").output().expect("initdb is there");
    assert!(output.status.success(), "initdb failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes an authority, and a certificate of it for `localhost`.
fn make_certificates(folder: &Path) {
    const SCRIPT: &str = "set -e
        openssl req -x509 -newkey rsa:2048 -nodes -keyout authority.key -out authority.crt -days 2 -subj '/CN=tests'
        openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj '/CN=localhost'
        echo 'subjectAltName=DNS:localhost' >server.ext
        openssl x509 -req -in server.csr -CA authority.crt -CAkey authority.key -CAcreateserial -days 2 -extfile server.ext \\
            -out server.crt
        chmod 600 server.key";
    let output = Command::new("/bin/sh").args(["-c", SCRIPT]).current_dir(folder).output();
    let output = output.expect("a test machine has a shell");
    assert!(output.status.success(), "openssl failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The same command as somebody who is not root.
fn as_account(command: Vec<String>) -> (PathBuf, Vec<String>) {
    let (program, arguments) = if is_root() {
        // It becomes the program, so that a signal to it reaches the server.
        let given = ["--reuid", ACCOUNT, "--regid", ACCOUNT, "--init-groups"].map(str::to_owned);
        ("setpriv".to_owned(), given.into_iter().chain(command).collect())
    } else {
        let mut command = command.into_iter();
        (command.next().expect("a command names a program"), command.collect())
    };
    (PathBuf::from(program), arguments)
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("a test machine has id");
    output.stdout.trim_ascii() == b"0"
}

/// Whether somebody there takes connections: a server that is starting says that it does not yet.
fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut hello = 196_608_u32.to_be_bytes().to_vec();
        hello.extend_from_slice(b"user\0tests\0database\0postgres\0\0");
        let mut packet = (hello.len() as u32 + 4).to_be_bytes().to_vec();
        packet.extend_from_slice(&hello);
        stream.write_all(&packet)?;
        let mut answer = [0; 1];
        stream.read_exact(&mut answer)?;
        // It asks for a password.
        Ok(answer == *b"R")
    };
    ask().unwrap_or(false)
}
