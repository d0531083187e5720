//! A platform in another process, driven over HTTP.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::task::{JoinHandle, JoinSet};

use super::place::Place;
use super::{IN_FLIGHT, LOAD_BATCH, LOAD_EVERY, micros};
use crate::measure::{Usage, stopwatch_us, usage};

/// How long a started platform may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long nothing may move while a platform catches up: beyond that something is broken.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(1_800);

/// A platform in another process; killed when dropped.
pub(super) struct Server {
    child: Child,
    url: String,
    http: reqwest::Client,
    pub(super) ready_after: Duration,
}

impl Server {
    /// One with everything of `place` to itself.
    pub(super) async fn start(place: &Place, roles: &str) -> anyhow::Result<Self> {
        Self::start_in(place, place.dir(), roles).await
    }

    /// One of several on the stores of `place`, with `dir` for its own.
    pub(super) async fn start_in(place: &Place, dir: &Path, roles: &str) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let begun = stopwatch_us();
        let child = place
            .up(dir)?
            .args(["--listen", &format!("127.0.0.1:{port}"), "--roles", roles])
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start the platform")?;
        let http = client()?;
        let mut server = Self { child, url: format!("http://127.0.0.1:{port}"), http, ready_after: Duration::ZERO };
        loop {
            let ready = server.http.get(format!("{}/readyz", server.url)).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                server.ready_after = Duration::from_micros(stopwatch_us() - begun);
                return Ok(server);
            }
            ensure!(server.child.try_wait()?.is_none(), "the platform ended before it was ready");
            ensure!(stopwatch_us() - begun < micros(READY_WITHIN), "the platform was not ready in time");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        usage(self.child.id()).context("this system does not tell the processor time of a process")
    }

    /// Where bodies for `path` go.
    pub(super) fn target(&self, path: &str) -> Target {
        Target { url: format!("{}{path}", self.url), http: self.http.clone() }
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.bytes(path).await?)?)
    }

    /// A home feed; `null` where the stores are too slow for one.
    pub(super) async fn feed(&self, query: &str) -> anyhow::Result<Value> {
        let url = format!("{}/v1/feeds/home?{query}", self.url);
        let answer = self.http.get(url).send().await?;
        match answer.status().as_u16() {
            200 => Ok(serde_json::from_slice(&answer.bytes().await?)?),
            503 => Ok(Value::Null),
            status => bail!("a feed was answered with {status}"),
        }
    }

    /// What it counts of itself.
    pub(super) async fn metrics(&self) -> anyhow::Result<Metrics> {
        Ok(Metrics(String::from_utf8(self.bytes("/metrics").await?)?))
    }

    async fn bytes(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await?;
        ensure!(answer.status().as_u16() == 200, "{path} was answered with {}", answer.status());
        Ok(answer.bytes().await?.to_vec())
    }

    pub(super) async fn caught_up(&self) -> anyhow::Result<()> {
        let begun = stopwatch_us();
        loop {
            let status = self.get("/v1/status").await?;
            if status.get("caught_up") == Some(&Value::Bool(true)) {
                return Ok(());
            }
            ensure!(stopwatch_us() - begun < micros(CAUGHT_UP_WITHIN), "the platform did not catch up: {status}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// kill -9.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().context("cannot kill the platform")?;
        self.child.wait()?;
        Ok(())
    }

    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        // The shell's own `kill`: the program of that name is not on every machine.
        let stopped = Command::new("sh").args(["-c", "kill -TERM $0", &self.child.id().to_string()]).status()?;
        ensure!(stopped.success(), "cannot stop the platform");
        tokio::task::spawn_blocking(move || self.child.wait()).await??;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone when it was stopped or killed.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Somewhere that bodies are sent to.
pub(super) struct Target {
    url: String,
    http: reqwest::Client,
}

impl Target {
    /// One that is no platform of ours.
    pub(super) fn new(url: String) -> anyhow::Result<Self> {
        Ok(Self { url, http: client()? })
    }

    pub(super) async fn post(&self, body: Vec<u8>) -> anyhow::Result<()> {
        let answer = self.http.post(&self.url).basic_auth("bench", Some("")).body(body).send().await?;
        ensure!(answer.status().as_u16() == 200, "{} was answered with {}", self.url, answer.status());
        answer.bytes().await?;
        Ok(())
    }
}

fn client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(IN_FLIGHT).build()?)
}

/// Metrics in Prometheus' text format.
pub(super) struct Metrics(String);

impl Metrics {
    /// The labels, as they stand, and the value of each series of this name.
    pub(super) fn series(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.parse().ok()?))
        })
    }

    /// The sum over the series of this name with this label.
    pub(super) fn sum(&self, name: &str, label: &str) -> f64 {
        self.series(name).filter(|(labels, _)| labels.split(',').any(|of| of == label)).map(|(_, value)| value).sum()
    }
}

/// Events that come in steadily, until it is stopped.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<u64>>,
}

impl Load {
    /// Begins to send these bodies, one every [`LOAD_EVERY`]; ends by itself after the last.
    pub(super) fn start(server: &Server, bodies: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(drip(Arc::new(server.target("/v1/batch")), bodies, stop.clone()));
        Self { stop, task }
    }

    /// True when everything was sent, or when something was not taken.
    pub(super) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Lets it end by itself; how many events were acknowledged.
    pub(super) async fn finish(self) -> anyhow::Result<u64> {
        self.task.await?
    }

    /// Ends it; how many events were acknowledged.
    pub(super) async fn stop(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.finish().await
    }
}

async fn drip(
    target: Arc<Target>,
    bodies: impl Iterator<Item = Vec<u8>>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<u64> {
    let mut every = tokio::time::interval(LOAD_EVERY);
    let (mut sending, mut sent) = (JoinSet::new(), 0);
    for body in bodies {
        every.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let target = target.clone();
        sending.spawn(async move { target.post(body).await });
        while let Some(done) = sending.try_join_next() {
            done??;
            sent += LOAD_BATCH as u64;
        }
    }
    while let Some(done) = sending.join_next().await {
        done??;
        sent += LOAD_BATCH as u64;
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_by_name_and_label() {
        let text = "# HELP a_total x\n# TYPE a_total counter\na_total 3\na_total_more 9\n\
                    b{what=\"read\",at=\"x} y\"} 2\nb{what=\"write\"} 5.5\nb{what=\"read\"} 1e1\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!(metrics.series("a_total").collect::<Vec<_>>(), [("", 3.0)]);
        assert_eq!(metrics.series("b").count(), 3);
        assert_eq!(metrics.sum("b", "what=\"read\""), 12.0);
        assert_eq!(metrics.sum("b", "what=\"other\""), 0.0);
    }
}
