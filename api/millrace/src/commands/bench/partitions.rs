//! What an event costs with so many partitions, and what partitions cost when nothing happens.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::place::Place;
use super::server::{Load, Server};
use super::{Args, EVENTS, LOAD_BATCH, LOAD_RATE, Meter, batches, work_off};
use crate::commands::client::say;

/// The most partitions that are tried, unless told otherwise.
const PARTITIONS: u32 = 64;
/// How long a platform that has started may take to settle before it counts as idle.
const SETTLE: Duration = Duration::from_secs(3);
/// And so much longer for each partition: a broker is busy for a while with the files of new ones.
const SETTLE_EACH: Duration = Duration::from_millis(400);

/// The numbers of partitions that are tried: powers of two up to `max`.
fn counts(max: u32) -> impl Iterator<Item = u32> {
    (0..u32::BITS).map(|power| 1 << power).take_while(move |count| *count <= max)
}

/// For each number of partitions: all jobs on a full log, then everything at a steady rate, then idle.
pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let events = args.events.unwrap_or(EVENTS);
    for count in counts(args.partitions.unwrap_or(PARTITIONS)) {
        let place = Place::fresh(args)?.with_partitions(count);
        let done = work_off(args, &place, events).await?;
        say(&format!(
            "partitions {count} {}: {:.2} µs CPU per action from a full log{}, {:.0} actions/s, {:.2} re-keyed records per \
             action, {} MiB resident",
            place.kind(),
            done.spent.per(events),
            done.spent.beside(events),
            done.spent.rate(events),
            done.rekeyed as f64 / events as f64,
            done.spent.resident_bytes >> 20,
        ))?;

        let place = Place::fresh(args)?.with_partitions(count);
        let server = Arc::new(Server::start(&place, "collector,pipelines,api").await?);
        tokio::time::sleep(SETTLE + SETTLE_EACH * count).await;
        let meter = Meter::start(args, server.process())?;
        tokio::time::sleep(Duration::from_secs(args.seconds)).await;
        let idle = meter.read()?;
        let meter = Meter::start(args, server.process())?;
        let load = Load::start(&server, batches(args.seconds * LOAD_RATE, LOAD_BATCH));
        let sent = load.finish().await.with_context(|| {
            format!(
                "{LOAD_RATE} events a second are more than {count} partitions take here: give fewer with --partitions"
            )
        })?;
        server.caught_up().await?;
        let busy = meter.read()?;
        say(&format!(
            "partitions {count} {}: {:.1} ms CPU per idle second, {:.2} µs CPU per event at {LOAD_RATE} events/s{}, {} MiB resident",
            place.kind(),
            idle.cpu.as_secs_f64() * 1e3 / idle.took.as_secs_f64(),
            busy.per(sent),
            busy.beside(sent),
            busy.resident_bytes >> 20,
        ))?;
        if let Ok(server) = Arc::try_unwrap(server) {
            server.stop().await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_are_tried_up_to_the_bound() {
        assert_eq!(counts(64).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64]);
        assert_eq!(counts(5).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(counts(u32::MAX).count(), 32);
    }
}
