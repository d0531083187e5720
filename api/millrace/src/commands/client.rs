//! A running server, as the commands see it: over HTTP, like any other client.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use bytes::Bytes;
use millrace_collector::Call;
use reqwest::StatusCode;
use serde::Deserialize;

use super::sender::{Answer, Door, Progress};
use crate::config::{Config, ConfigArgs};

/// How long one request may take. A durable answer takes milliseconds; a server that is starting up takes longer.
const REQUEST_SECONDS_MAX: u64 = 30;

/// The header that says how many events of a request went to `dead-letters`.
const REJECTED: &str = "x-millrace-rejected";

/// How often a verification is asked after.
const VERIFY_POLL: Duration = Duration::from_millis(200);

/// The longest error text that is shown, in characters.
const DETAIL_CHARS_MAX: usize = 400;

/// Which server to talk to.
#[derive(Clone, clap::Args)]
pub(crate) struct Server {
    /// Where the server is
    #[arg(
        long = "to",
        value_name = "URL",
        env = "MILLRACE_TO",
        global = true,
        default_value = "http://127.0.0.1:8080"
    )]
    pub(crate) url: String,
    /// The token to read with, where the server asks for one
    #[arg(long, value_name = "TOKEN", env = "MILLRACE_API_TOKEN", global = true, hide_env_values = true)]
    pub(crate) api_token: Option<String>,
}

/// Where the token is that lets one read the log.
#[derive(Clone, clap::Args)]
pub(crate) struct Admin {
    /// The admin token [default: the file admin-token in the data directory]
    #[arg(long, value_name = "TOKEN", env = "MILLRACE_ADMIN_TOKEN", global = true, hide_env_values = true)]
    pub(crate) admin_token: Option<String>,
    /// Where to find admin-token
    #[arg(long, value_name = "DIR", env = "MILLRACE_DATA_DIR", global = true, default_value = "data")]
    pub(crate) data_dir: PathBuf,
}

/// A data directory on this machine, or a running server that does it itself.
#[derive(Clone, clap::Args)]
pub(crate) struct Place {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Have a running server do it instead
    #[arg(long, value_name = "URL")]
    pub(crate) to: Option<String>,
    /// The admin token, with --to [default: the file admin-token in the data directory]
    #[arg(long, value_name = "TOKEN", env = "MILLRACE_ADMIN_TOKEN", hide_env_values = true)]
    pub(crate) admin_token: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("url", &self.url).finish_non_exhaustive()
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("config", &self.config).field("to", &self.to).finish_non_exhaustive()
    }
}

impl Place {
    /// The administrator's door of the running server, when one was named.
    ///
    /// # Errors
    /// As of [`Admin::token`] and [`Client::new`].
    pub(crate) fn server(&self, config: &Config) -> anyhow::Result<Option<Client>> {
        let Some(url) = &self.to else { return Ok(None) };
        let admin = Admin { admin_token: self.admin_token.clone(), data_dir: config.data_dir.clone() };
        let server = Server { url: url.clone(), api_token: config.api_token.clone() };
        Ok(Some(Client::new(&server)?.with_admin_token(admin.token()?)))
    }
}

impl Admin {
    /// The token, if there is one. A server on the loopback may not ask for it.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(crate) fn token(&self) -> anyhow::Result<Option<String>> {
        if let Some(token) = &self.admin_token {
            return Ok(Some(token.trim().to_owned()));
        }
        let path = self.data_dir.join("admin-token");
        match std::fs::read_to_string(&path) {
            Ok(token) => Ok(Some(token.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

/// A client of one server.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    write_key: Option<String>,
    api_token: Option<String>,
    admin_token: Option<String>,
}

impl Client {
    /// Talks to `server`; nothing is sent yet.
    ///
    /// # Errors
    /// When the address is not one.
    pub(crate) fn new(server: &Server) -> anyhow::Result<Self> {
        let base = server.url.trim_end_matches('/').to_owned();
        let url = reqwest::Url::parse(&base)
            .with_context(|| format!("{base:?} is not a URL such as http://127.0.0.1:8080"))?;
        if url.scheme() != "http" {
            bail!("{base:?} is not an http:// address: put a proxy that speaks TLS in between");
        }
        let host = url.host_str().unwrap_or_default();
        let loopback = host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let mut builder = reqwest::Client::builder()
            .timeout(Duration::from_secs(REQUEST_SECONDS_MAX))
            // Nothing here speaks TLS, and on a machine without certificates looking for them would fail.
            .tls_certs_only([])
            .user_agent(concat!("millrace/", env!("CARGO_PKG_VERSION")));
        if loopback {
            // A proxy that is set for the outside world does not know this machine.
            builder = builder.no_proxy();
        }
        let http = builder.build().context("cannot set up an HTTP client")?;
        Ok(Self { http, base, write_key: None, api_token: server.api_token.clone(), admin_token: None })
    }

    /// Sends events as `key`.
    pub(crate) fn with_write_key(mut self, key: &str) -> Self {
        self.write_key = Some(key.to_owned());
        self
    }

    /// Reads the log with `token`.
    pub(crate) fn with_admin_token(mut self, token: Option<String>) -> Self {
        self.admin_token = token;
        self
    }

    /// `GET path`, with the token that it takes if there is one; any answer but 200 is an error that says what the server said.
    ///
    /// # Errors
    /// When there is no server, or it refuses.
    pub(crate) async fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<reqwest::Response> {
        let mut url =
            reqwest::Url::parse(&format!("{}{path}", self.base)).with_context(|| format!("{path:?} is not a path"))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.get(url);
        let is_admin = path.starts_with("/v1/log/");
        // The administrator may read everything, so who has that token needs no other.
        let readers = self.api_token.as_ref().or(self.admin_token.as_ref());
        if let Some(token) = if is_admin { self.admin_token.as_ref() } else { readers } {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.with_context(|| {
            format!(
                "cannot reach a server at {}: start one with `millrace up`, or say where it is with --to",
                self.base
            )
        })?;
        let status = answer.status();
        if status == StatusCode::OK {
            return Ok(answer);
        }
        let said = detail(&answer.bytes().await.unwrap_or_default());
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            let cure = match is_admin {
                true => "set MILLRACE_ADMIN_TOKEN, or --data-dir to where the server keeps its data",
                false => "set MILLRACE_API_TOKEN",
            };
            bail!("the server wants a token for {path}: {cure} ({said})");
        }
        bail!("GET {path} was answered with {status}: {said}");
    }

    /// How far the server is.
    ///
    /// # Errors
    /// When there is no server, or its answer is not a status.
    pub(crate) async fn status(&self) -> anyhow::Result<Status> {
        let body = self.get("/v1/status", &[]).await?.bytes().await.context("cannot read the status")?;
        serde_json::from_slice(&body).context("the answer to GET /v1/status is not a status")
    }
}

impl Client {
    /// Asks a running server to compare itself with a replay of its log, and waits for what it finds.
    ///
    /// # Errors
    /// When there is no server, it refuses, or the comparison could not run.
    pub(crate) async fn verify(&self) -> anyhow::Result<serde_json::Value> {
        const PATH: &str = "/v1/admin/verify";
        let mut said = self.admin(PATH, Some(&serde_json::Value::Null)).await?;
        loop {
            let mut known: Verification = serde_json::from_value(said).context("the answer cannot be understood")?;
            match (known.state.as_str(), known.report.take()) {
                ("done", Some(report)) => return Ok(report),
                ("running", _) => tokio::time::sleep(VERIFY_POLL).await,
                _ => bail!("the server could not verify itself: {}", known.error.unwrap_or(known.state)),
            }
            said = self.admin(PATH, None).await?;
        }
    }

    /// Sends the administrator's `POST path` with a body, or `GET path` without one; gives the JSON of the answer.
    ///
    /// # Errors
    /// When there is no server, or it refuses.
    pub(crate) async fn admin(
        &self,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> anyhow::Result<serde_json::Value> {
        let url = format!("{}{path}", self.base);
        let mut request = match body {
            Some(body) => self.http.post(&url).json(body),
            None => self.http.get(&url),
        };
        if let Some(token) = &self.admin_token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.with_context(|| format!("cannot reach a server at {}", self.base))?;
        let status = answer.status();
        let body = answer.bytes().await.context("cannot read the answer")?;
        if !status.is_success() {
            bail!("the server refused {path}: {status}: {}", detail(&body));
        }
        serde_json::from_slice(&body).context("the answer cannot be understood")
    }
}

/// How a verification stands.
#[derive(Deserialize)]
struct Verification {
    state: String,
    report: Option<serde_json::Value>,
    error: Option<String>,
}

#[async_trait]
impl Door for Client {
    async fn send(&self, call: Call, body: Bytes) -> Answer {
        let key = self.write_key.as_deref().unwrap_or_default();
        let request = self
            .http
            .post(format!("{}{}", self.base, millrace_http::path_of(call)))
            .basic_auth(key, Some(""))
            .header("content-type", call.media_type())
            .body(body);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Answer::Again { after: None, why: chain(&error) },
        };
        let status = answer.status();
        let number = |name| answer.headers().get(name).and_then(|v| v.to_str().ok()?.trim().parse::<u64>().ok());
        let (after, rejected) = (number("retry-after"), number(REJECTED).unwrap_or(0));
        let said = match answer.bytes().await {
            Ok(said) => said,
            // It may be in the log or not: only a repetition can tell, and the message ids make it harmless.
            Err(error) => return Answer::Again { after: None, why: chain(&error) },
        };
        if status == StatusCode::OK {
            return Answer::Taken { rejected };
        }
        let why = format!("{status}: {}", detail(&said));
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT
        {
            return Answer::Again { after: after.map(Duration::from_secs), why };
        }
        Answer::Refused { why }
    }

    async fn progress(&self) -> anyhow::Result<Progress> {
        let status = self.status().await?;
        Ok(Progress { caught_up: status.caught_up, lag: status.lag() })
    }
}

/// The answer to `GET /v1/status`.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    /// What each partition of each topic holds.
    #[serde(default)]
    pub(crate) log: std::collections::BTreeMap<String, Partitions<LogBounds>>,
    /// How far each job is on each partition.
    #[serde(default)]
    pub(crate) jobs: std::collections::BTreeMap<String, Partitions<JobPosition>>,
    /// How far the archive is, where one runs.
    #[serde(default)]
    pub(crate) warehouse: Option<millrace_http::WarehouseStatus>,
    /// Whether the online store has what the log says, where it can lose it.
    #[serde(default)]
    pub(crate) online: Option<millrace_http::OnlineStatus>,
    /// What the door keeps until the log takes it.
    #[serde(default)]
    pub(crate) spool: Option<millrace_http::SpoolStatus>,
    /// Everything acknowledged is visible everywhere.
    pub(crate) caught_up: bool,
}

/// By partition; the keys are numbers as text.
pub(crate) type Partitions<T> = std::collections::BTreeMap<String, T>;

/// What one partition holds.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct LogBounds {
    /// The oldest offset still there.
    #[serde(default)]
    pub(crate) start: u64,
    /// The offset that the next record gets.
    pub(crate) end: u64,
}

/// How far a job is on one partition.
#[derive(Debug, Deserialize)]
pub(crate) struct JobPosition {
    /// The next offset to read.
    #[serde(default)]
    pub(crate) committed: u64,
    /// What is left.
    pub(crate) lag: u64,
    /// The log time up to which it is complete.
    pub(crate) clock: Option<serde_json::Value>,
}

impl Status {
    /// Records that some job has yet to apply, that have yet to be archived, and that are not even in the log.
    pub(crate) fn lag(&self) -> u64 {
        let archive = self.warehouse.as_ref().map_or(0, |archive| archive.lag);
        let kept = self.spool.as_ref().map_or(0, |spool| spool.events);
        self.jobs.values().flat_map(|job| job.values()).map(|at| at.lag).sum::<u64>() + archive + kept
    }
}

/// What the server says is wrong: the `message` of its error body, or the start of whatever it sent.
fn detail(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        message: String,
    }
    let said = match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    if said.is_empty() {
        return "no reason given".to_owned();
    }
    said.chars().take(DETAIL_CHARS_MAX).collect()
}

/// An error with its causes on one line: the outermost of an HTTP client says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Writes one line to standard output at once.
///
/// # Errors
/// When it cannot be written; see [`is_closed_pipe`].
pub(crate) fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Writes one line to standard error. There is nowhere left to report a failure to do so.
pub(crate) fn note(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// True when the reader of our output went away, as `head` does: the end, and no failure.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
