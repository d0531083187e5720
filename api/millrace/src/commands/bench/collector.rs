//! The collector alone, by the size of a batch, beside other collectors that get the same bodies.

use std::sync::Arc;

use anyhow::Context;

use super::meter::Meter;
use super::place::Place;
use super::server::{Server, Target};
use super::{Args, EVENTS, bodies, drive};
use crate::commands::client::say;

/// How many events a request brings.
const BATCHES: [usize; 3] = [1, 10, 100];

/// Another collector, which runs already: what is asked of it is one path for single events and one for batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    name: String,
    process: u32,
    single: String,
    batch: String,
}

impl Peer {
    /// Reads `NAME=PID=URL=URL`.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not NAME=PID=URL=URL, such as peer=4711=http://127.0.0.1:9000/one=http://127.0.0.1:9000/many"
            )
        };
        let mut parts = text.splitn(4, '=').filter(|part| !part.is_empty());
        let mut next = || parts.next().ok_or_else(wrong);
        let (name, process, single, batch) = (next()?, next()?, next()?, next()?);
        let process = process.parse().map_err(|_| wrong())?;
        Ok(Self { name: name.to_owned(), process, single: single.to_owned(), batch: batch.to_owned() })
    }
}

/// Runs it.
pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let all = args.events.unwrap_or(EVENTS);
    for batch in BATCHES {
        // Each request costs about as much, however little it brings.
        let events = if batch == 1 { all / 10 } else { all };
        let place = Place::fresh(args)?;
        let server = Arc::new(Server::start(&place, "collector").await?);
        let path = if batch == 1 { "/v1/track" } else { "/v1/batch" };
        measure(args, "millrace", server.process(), server.target(path), batch, events).await?;
        if let Ok(server) = Arc::try_unwrap(server) {
            server.stop().await?;
        }
        for peer in &args.peer {
            let url = if batch == 1 { &peer.single } else { &peer.batch };
            let target = Target::new(url.clone())?;
            let measured = measure(args, &peer.name, peer.process, target, batch, events).await;
            measured.with_context(|| format!("cannot measure {}", peer.name))?;
        }
    }
    Ok(())
}

async fn measure(
    args: &Args,
    name: &str,
    process: u32,
    target: Target,
    batch: usize,
    events: u64,
) -> anyhow::Result<()> {
    /// Connections, and whatever is compiled or grown on first use.
    const WARM: u64 = 5_000;
    let target = Arc::new(target);
    drive(&target, bodies(WARM, batch)).await?;
    let bodies = bodies(events, batch);
    let requests = bodies.len();
    let meter = Meter::start(args, process)?;
    drive(&target, bodies).await?;
    let spent = meter.read()?;
    Ok(say(&format!(
        "collector {name} batch={batch}: {:.2} µs CPU per event{}, {:.0} events/s, {requests} requests, {} MiB resident",
        spent.per(events),
        spent.beside(events),
        spent.rate(events),
        spent.resident_bytes >> 20,
    ))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_a_process_and_two_addresses() {
        let peer = Peer::read("p=12=http://127.0.0.1:1/one=http://127.0.0.1:1/many?a=b");
        let [single, batch] = ["http://127.0.0.1:1/one", "http://127.0.0.1:1/many?a=b"].map(str::to_owned);
        assert_eq!(peer, Ok(Peer { name: "p".to_owned(), process: 12, single, batch }));
        for wrong in ["p", "p=12", "p=x=http://a=http://b", "p=12=http://a", "=12=http://a=http://b"] {
            assert!(Peer::read(wrong).unwrap_err().contains("NAME=PID=URL=URL"), "{wrong}");
        }
    }
}
