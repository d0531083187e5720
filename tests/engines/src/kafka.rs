//! Apache Kafka: one broker, or three of one cluster, each broker and controller in one process (KRaft).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Process, free_port, on_path, programs, skip};

/// Names a cluster to use instead: `kafka://host:port`.
const URL: &str = "MILLRACE_TEST_KAFKA_URL";
/// What makes Kafka available.
const CURE: &str = "run scripts/engines/kafka.sh, or set MILLRACE_TEST_KAFKA_URL=kafka://host:port";
/// The heap of a broker, in megabytes.
const HEAP_MB: u32 = 256;
/// Any 16 bytes do.
const CLUSTER_ID: &str = "bWlsbHJhY2UtdGVzdHMtMQ";

/// The password of every store of keys here.
const STORE_PASSWORD: &str = "millrace-tests";

/// A cluster that runs as long as this handle.
#[derive(Debug)]
pub struct Kafka {
    nodes: Vec<Node>,
    secure: Option<Secure>,
}

/// A door with TLS and SCRAM-SHA-512 beside the plain one.
#[derive(Clone, Debug)]
pub struct Secure {
    /// Where it is, on 127.0.0.1.
    pub port: u16,
    /// A name that may come in.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The certificate that the broker shows, as PEM.
    pub certificate: PathBuf,
}

#[derive(Debug)]
struct Node {
    process: Process,
    port: u16,
}

/// The brokers to test with, `host:port`, and the process that runs them when it was started here.
pub fn brokers() -> Option<(String, Option<Kafka>)> {
    if let Some(url) = std::env::var_os(URL) {
        let url = url.to_string_lossy().into_owned();
        let place = url.trim_start_matches("kafka://");
        return Some((place.split('/').next().unwrap_or(place).to_owned(), None));
    }
    let kafka = Kafka::start(1, "")?;
    Some((kafka.brokers(), Some(kafka)))
}

impl Kafka {
    /// Starts a cluster of `nodes` with these lines of configuration more; `None`, said aloud, when Kafka is not installed.
    ///
    /// # Panics
    /// When it is installed and does not start.
    pub fn start(nodes: u32, more: &str) -> Option<Self> {
        Self::start_with(nodes, more, None)
    }

    /// Starts one broker that has a secure door too; `None` as of [`Kafka::start`].
    ///
    /// # Panics
    /// As of [`Kafka::start`].
    pub fn start_secure(user: &str, password: &str) -> Option<Self> {
        Self::start_with(1, "", Some((user, password)))
    }

    /// The secure door.
    pub fn secure(&self) -> Option<&Secure> {
        self.secure.as_ref()
    }

    fn start_with(nodes: u32, more: &str, user: Option<(&str, &str)>) -> Option<Self> {
        let (Some(java), Some(jars)) = (on_path("java"), jars()) else {
            skip("Apache Kafka", CURE);
            return None;
        };
        let ports: Vec<(u16, u16)> = (0..nodes).map(|_| (free_port(), free_port())).collect();
        let voters: Vec<String> =
            ports.iter().zip(1..).map(|((_, controller), id)| format!("{id}@127.0.0.1:{controller}")).collect();
        let mut cluster = Self { nodes: Vec::new(), secure: None };
        for ((port, controller), id) in ports.iter().zip(1..) {
            let mut process = Process::new("kafka");
            let folder = process.folder().to_owned();
            let file = folder.join("server.properties");
            let lines = properties(id, nodes, *port, *controller, &voters.join(","), &folder);
            let mut scram = Vec::new();
            let mut secure_lines = String::new();
            if let Some((user, password)) = user {
                let secure = Secure {
                    port: free_port(),
                    user: user.to_owned(),
                    password: password.to_owned(),
                    certificate: folder.join("certificate.pem"),
                };
                let store = keys(&folder, &secure.certificate);
                secure_lines = secure_properties(*port, *controller, secure.port, &store);
                scram = vec!["--add-scram".to_owned(), format!("SCRAM-SHA-512=[name={user},password={password}]")];
                cluster.secure = Some(secure);
            }
            fs::write(&file, lines + &secure_lines + more).expect("a test machine has room for a file");
            format(&java, &jars, &file, &scram);
            let heap = format!("{HEAP_MB}m");
            // Native libraries are unpacked there, and nobody else removes them.
            let scratch = format!("-Djava.io.tmpdir={}", folder.display());
            let arguments = [
                &format!("-Xmx{heap}"),
                &format!("-Xms{heap}"),
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                &scratch,
            ]
            .map(ToString::to_string)
            .into_iter()
            .chain(["-cp".to_owned(), jars.clone(), "kafka.Kafka".to_owned(), file.display().to_string()])
            .collect();
            // One node is not ready before the others are: they are waited for together.
            process.start(&java, arguments, || true);
            cluster.nodes.push(Node { process, port: *port });
        }
        for nth in 0..cluster.nodes.len() {
            cluster.await_answer(nth);
        }
        Some(cluster)
    }

    /// Where clients connect: every broker.
    pub fn brokers(&self) -> String {
        let places: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        places.join(",")
    }

    /// The port of one broker, from 0.
    pub fn port(&self, nth: usize) -> u16 {
        self.nodes[nth].port
    }

    /// How many brokers it has.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// Tells a broker to stop, and waits until it has: it hands what it leads to others first.
    pub fn stop(&mut self, nth: usize) {
        self.nodes[nth].process.stop();
    }

    /// The process of one broker, from 0.
    pub fn process(&self, nth: usize) -> &Process {
        &self.nodes[nth].process
    }

    /// Kills a broker with -9.
    pub fn kill(&mut self, nth: usize) {
        self.nodes[nth].process.kill();
    }

    /// Starts killed brokers again, together: alone they may be too few to begin.
    pub fn restart(&mut self, which: &[usize]) {
        for nth in which {
            self.nodes[*nth].process.restart(|| true);
        }
        for nth in which {
            self.await_answer(*nth);
        }
    }

    /// Stops a broker from running until [`Kafka::resume`].
    pub fn suspend(&self, nth: usize) {
        self.nodes[nth].process.suspend();
    }

    /// See [`Kafka::suspend`].
    pub fn resume(&self, nth: usize) {
        self.nodes[nth].process.resume();
    }

    /// Deletes a topic.
    ///
    /// # Panics
    /// When the cluster does not do so.
    pub fn delete_topic(&self, topic: &str) {
        let answer = delete_topic(self.nodes[0].port, topic).expect("a broker that runs takes requests");
        assert_eq!(answer, 0, "{topic} cannot be deleted: Kafka's error {answer}");
    }

    fn await_answer(&mut self, nth: usize) {
        let port = self.nodes[nth].port;
        self.nodes[nth].process.await_ready(|| answers(port));
    }
}

/// The class path, when Kafka is installed.
fn jars() -> Option<String> {
    let folder: PathBuf = programs().join("kafka");
    let installed = fs::read_dir(&folder).ok()?.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("kafka_2.13-")
    });
    installed.then(|| folder.join("*").display().to_string())
}

fn properties(id: u32, nodes: u32, port: u16, controller: u16, voters: &str, folder: &Path) -> String {
    let copies = nodes.min(3);
    let insync = copies.saturating_sub(1).max(1);
    format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,\
         SASL_SSL:SASL_SSL\n\
         controller.quorum.voters={voters}\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         group.initial.rebalance.delay.ms=0\n\
         num.network.threads=2\n\
         num.io.threads=2\n\
         num.partitions=1\n\
         log.cleaner.dedupe.buffer.size=2097152\n\
         offsets.topic.num.partitions=4\n\
         offsets.topic.replication.factor={copies}\n\
         transaction.state.log.replication.factor={copies}\n\
         transaction.state.log.min.isr={insync}\n\
         share.coordinator.state.topic.replication.factor={copies}\n\
         share.coordinator.state.topic.min.isr={insync}\n",
        folder.join("data").display()
    )
}

/// A door more; of two lines with one name the last counts.
fn secure_properties(port: u16, controller: u16, secure: u16, store: &Path) -> String {
    let store = store.display();
    format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         sasl.enabled.mechanisms=SCRAM-SHA-512\n\
         listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
         org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
         ssl.keystore.type=PKCS12\n\
         ssl.keystore.location={store}\n\
         ssl.keystore.password={STORE_PASSWORD}\n\
         ssl.key.password={STORE_PASSWORD}\n"
    )
}

/// Makes a key for 127.0.0.1 and writes its certificate; the store with the key.
fn keys(folder: &Path, certificate: &Path) -> PathBuf {
    let store = folder.join("keys.p12");
    let keytool = on_path("keytool").expect("every Java runtime has a keytool");
    let run = |arguments: &[&str]| {
        let common = ["-alias", "broker", "-storetype", "PKCS12", "-storepass", STORE_PASSWORD, "-keystore"];
        let output = Command::new(&keytool).args(arguments).args(common).arg(&store).output().expect("it was found");
        assert!(output.status.success(), "no keys: {}", String::from_utf8_lossy(&output.stdout));
        output.stdout
    };
    run(&["-genkeypair", "-keyalg", "RSA", "-validity", "2", "-dname", "CN=127.0.0.1", "-ext", "SAN=ip:127.0.0.1"]);
    fs::write(certificate, run(&["-exportcert", "-rfc"])).expect("a test machine has room for a file");
    store
}

fn format(java: &Path, jars: &str, file: &Path, more: &[String]) {
    let output = Command::new(java)
        .args(["-XX:TieredStopAtLevel=1", "-cp", jars, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
        .arg(file)
        .args(more)
        .output()
        .expect("java runs: it was found");
    assert!(output.status.success(), "kafka cannot be formatted: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether a broker answers its versions, which it does when it has started.
fn answers(port: u16) -> bool {
    // Length, ApiVersions, version 0, correlation 7, no client.
    const REQUEST: &[u8] = &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let asked = || -> std::io::Result<[u8; 8]> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(REQUEST)?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    asked().is_ok_and(|answer| answer[7] == 7)
}

/// The code of the answer to DeleteTopics, version 1: <https://kafka.apache.org/protocol>. 0 says that it is done.
fn delete_topic(port: u16, topic: &str) -> std::io::Result<i16> {
    const PATIENCE: Duration = Duration::from_secs(30);
    // Correlation 7, no client, one topic, and for how long the broker may wait, in milliseconds.
    let length = u16::try_from(topic.len()).expect("names of topics are short");
    let mut body = vec![0, 20, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 1];
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&20_000_u32.to_be_bytes());
    let mut request = u32::try_from(body.len()).expect("as above").to_be_bytes().to_vec();
    request.extend_from_slice(&body);
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&request)?;
    // Length, correlation, throttling, how many topics, the name, and what became of it.
    let mut answer = vec![0; 16 + 2 + topic.len() + 2];
    stream.read_exact(&mut answer)?;
    let [.., high, low] = answer[..] else { unreachable!("it is longer than two bytes") };
    Ok(i16::from_be_bytes([high, low]))
}
