//! Redis and Redis Cluster, from the `redis-server` and `redis-cli` of the system.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::{Process, START_MAX, free_port, on_path};

/// Where the URL of a running server is looked for.
pub const URL: &str = "MILLRACE_TEST_REDIS_URL";
/// Where the URL of a running cluster is looked for.
pub const CLUSTER_URL: &str = "MILLRACE_TEST_REDIS_CLUSTER_URL";
/// What to do when there is none.
pub const CURE: &str = "run scripts/engines/redis.sh, or set MILLRACE_TEST_REDIS_URL";

/// How long a cluster may take to agree on its slots.
const AGREE_POLLS_MAX: u32 = 600;

/// A server that keeps nothing on disk.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    /// Where it listens, on the loopback interface.
    pub port: u16,
}

impl Redis {
    /// Starts one; `None` when its program is not there.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts one with more arguments, like `--maxmemory 10mb`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with(arguments: &[&str]) -> Option<Self> {
        let (server, _) = programs()?;
        let port = free_port();
        let mut process = Process::new("redis");
        let folder = process.folder().display().to_string();
        let mut all: Vec<String> =
            ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"].map(str::to_owned).into();
        all.extend(["--port".to_owned(), port.to_string(), "--dir".to_owned(), folder]);
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        process.start(&server, all, || answers(port));
        Some(Self { process, port })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` prints for a command.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn command(&self, arguments: &[&str]) -> String {
        let (_, cli) = programs().expect("the server was started with them");
        let mut command = Command::new(cli);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(arguments);
        let output = command.output().expect("redis-cli runs");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// What it runs in.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Kills it with -9; what it held is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, empty.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        let port = self.port;
        self.process.restart(|| answers(port));
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

/// A cluster of three masters, and perhaps of replicas.
#[derive(Debug)]
pub struct RedisCluster {
    /// The first three were the masters when it began.
    pub nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts one with so many replicas for each master; `None` when its program is not there.
    ///
    /// # Panics
    /// When it does not start, or does not agree on its slots within [`START_MAX`].
    pub fn start(replicas: usize) -> Option<Self> {
        let (_, cli) = programs()?;
        let mut nodes = Vec::new();
        for _ in 0..3 * (1 + replicas) {
            let bus = free_port().to_string();
            let cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", &bus];
            let replication = ["--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"];
            nodes.push(Redis::start_with(&[&cluster[..], &replication[..]].concat())?);
        }
        let mut create = Command::new(cli);
        create.args(["--cluster", "create"]);
        create.args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        create.args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"]);
        let output = create.output().expect("redis-cli runs");
        assert!(output.status.success(), "cannot create the cluster:\n{}", String::from_utf8_lossy(&output.stdout));
        let cluster = Self { nodes };
        for _ in 0..AGREE_POLLS_MAX {
            let agrees = |node: &Redis| {
                let info = node.command(&["CLUSTER", "INFO"]);
                let replicated = node.command(&["INFO", "replication"]);
                info.contains("cluster_state:ok")
                    && (replicated.contains("role:master")
                        && replicated.contains(&format!("connected_slaves:{replicas}"))
                        || replicated.contains("master_link_status:up"))
            };
            if cluster.nodes.iter().all(agrees) {
                return Some(cluster);
            }
            pause();
        }
        panic!("the cluster did not agree on its slots within {START_MAX:?}");
    }

    /// Its URL, which names three of its servers.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.nodes.iter().take(3).map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }
}

fn programs() -> Option<(PathBuf, PathBuf)> {
    Some((on_path("redis-server")?, on_path("redis-cli")?))
}

/// True when a server at this port answers, also when it wants a password first.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let limit = Some(Duration::from_secs(1));
    let mut answer = [0; 1];
    stream.set_read_timeout(limit).is_ok()
        && stream.write_all(b"PING\r\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && (answer == *b"+" || answer == *b"-")
}

#[expect(clippy::disallowed_methods, reason = "a cluster tells nobody when it has agreed")]
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}
