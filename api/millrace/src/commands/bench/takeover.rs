//! How long the partitions of a worker that died stand still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use millrace_events::Topic;
use millrace_pipelines::jobs::stage_of;
use serde_json::Value;

use super::place::Place;
use super::server::{Load, Metrics, Server};
use super::{Args, LOAD_BATCH, LOAD_RATE, batches, micros};
use crate::assemble::GENERATION;
use crate::commands::client::{note, say};
use crate::measure::{percentiles, stopwatch_us};

/// How long two workers may take to share the work, and others to take it over.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long all must have gone well before the next worker is killed.
const CALM: Duration = Duration::from_secs(3);
/// How many records may wait, over all partitions, when nothing is behind: half a second of the load, since each event is read
/// twice, once re-keyed.
const WAITING_MAX: u64 = LOAD_RATE;
/// After this long what a killed worker had already sent to an engine has arrived there.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The most events that the load may come to: an hour of it.
const LOAD_EVENTS_MAX: u64 = LOAD_RATE * 3_600;

/// A topic and one of its partitions, as metrics name them.
type Part = (String, u32);

/// Where a partition stands: applied below it, and how much waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stand {
    applied: u64,
    waiting: u64,
}

/// Kills one of two workers again and again, under load.
pub(super) async fn run(args: &Args) -> anyhow::Result<()> {
    let place = Place::fresh(args)?;
    ensure!(
        place.is_shared(),
        "takeover needs stores that several workers share: give --log, --state and --online, or run make bench-cluster"
    );
    let door = Arc::new(Server::start_in(&place, &place.below("door"), "collector,api").await?);
    let load = Load::start(&door, batches(LOAD_EVENTS_MAX, LOAD_BATCH));
    let mut started = 0;
    let (mut workers, mut stood_still, mut all_moved, mut all_done) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for nth in 1..=args.kills {
        while workers.len() < 2 {
            let dir = place.below(&format!("worker-{started}"));
            workers.push(Server::start_in(&place, &dir, "pipelines").await?);
            started += 1;
        }
        let owned = calm(&door, &workers, &load).await?;
        workers.remove(0).kill()?;
        let killed = stopwatch_us();
        tokio::time::sleep(LAST_WORDS).await;
        let taken = take_over(&door, &owned, killed).await.context("the partitions of a killed worker")?;
        note(&format!(
            "kill {nth}: {} partitions, all of them moved after {:.1} s, nothing waited after {:.1} s",
            owned.len(),
            taken.moved.iter().max().map_or(0.0, Duration::as_secs_f64),
            taken.done.as_secs_f64(),
        ));
        all_moved.extend(taken.moved.iter().max());
        all_done.push(taken.done);
        stood_still.extend(taken.moved);
    }
    let sent = load.stop().await?;
    for (what, samples) in [
        ("a partition of it goes on", &mut stood_still),
        ("all of them go on", &mut all_moved),
        ("nothing waits any more", &mut all_done),
    ] {
        let count = samples.len();
        let (p50, p99, max) = percentiles(samples).context("nothing was measured: --kills is at least 1")?;
        say(&format!(
            "takeover, one of two workers killed, {what}: p50 {:.1} s, p99 {:.1} s, max {:.1} s, {count} samples over {} kills",
            p50.as_secs_f64(),
            p99.as_secs_f64(),
            max.as_secs_f64(),
            args.kills,
        ))?;
    }
    say(&format!("takeover: {sent} events came in meanwhile, {LOAD_RATE} a second; all of them were acknowledged"))?;
    for worker in workers {
        worker.stop().await?;
    }
    if let Ok(door) = Arc::try_unwrap(door) {
        door.stop().await?;
    }
    Ok(())
}

/// Waits until the workers share all partitions and have kept up for a while; which ones the first of them has.
async fn calm(door: &Server, workers: &[Server], load: &Load) -> anyhow::Result<Vec<Part>> {
    let begun = stopwatch_us();
    let mut since = begun;
    loop {
        ensure!(
            !load.is_finished(),
            "the load ended early: events were not taken, or there were too many kills for it"
        );
        let stands = stands(&door.get("/v1/status").await?)?;
        let mut shares = Vec::new();
        for worker in workers {
            shares.push(owned(&worker.metrics().await?)?);
        }
        let (had, waiting) = (shares.iter().map(Vec::len).sum::<usize>(), waiting(&stands));
        let is_calm = shares.iter().all(|share| !share.is_empty()) && had == stands.len() && waiting <= WAITING_MAX;
        if !is_calm {
            since = stopwatch_us();
        }
        if stopwatch_us() - since >= micros(CALM) {
            return Ok(shares.swap_remove(0));
        }
        if stopwatch_us() - begun > micros(PATIENCE) {
            bail!(
                "the workers do not keep up: they have {had} of {} partitions and {waiting} records wait; this machine may be too \
                 slow for the load, or busy with something else",
                stands.len()
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How long after the kill each partition moved again, and until nothing waited.
struct Taken {
    moved: Vec<Duration>,
    done: Duration,
}

/// Looks until all that the dead worker had has moved and nothing waits.
async fn take_over(door: &Server, owned: &[Part], killed: u64) -> anyhow::Result<Taken> {
    let stood = stands(&door.get("/v1/status").await?)?;
    let mut moved = BTreeMap::new();
    loop {
        let now = stands(&door.get("/v1/status").await?)?;
        let after = Duration::from_micros(stopwatch_us() - killed);
        for part in owned {
            let before = stood.get(part).with_context(|| format!("{} {} is not in the status", part.0, part.1))?;
            if now.get(part).is_some_and(|now| now.applied > before.applied) {
                moved.entry(part).or_insert(after);
            }
        }
        if moved.len() == owned.len() && waiting(&now) <= WAITING_MAX {
            return Ok(Taken { moved: moved.into_values().collect(), done: after });
        }
        ensure!(
            after < PATIENCE,
            "{} of {} partitions went on within {PATIENCE:?}, and {} records wait",
            moved.len(),
            owned.len(),
            waiting(&now)
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn waiting(stands: &BTreeMap<Part, Stand>) -> u64 {
    stands.values().map(|stand| stand.waiting).sum()
}

/// The partitions that a worker has, by its metrics.
fn owned(metrics: &Metrics) -> anyhow::Result<Vec<Part>> {
    metrics.series("millrace_pipelines_applied_offset").map(|(labels, _)| part_of(labels)).collect()
}

fn part_of(labels: &str) -> anyhow::Result<Part> {
    let label = |name: &str| {
        labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
    };
    let unreadable = || format!("the metrics name no partition: {labels}");
    let (topic, partition) = label("topic").zip(label("partition")).with_context(unreadable)?;
    Ok((topic.to_owned(), partition.parse().with_context(unreadable)?))
}

/// Where every partition stands that jobs read, by a status.
fn stands(status: &Value) -> anyhow::Result<BTreeMap<Part, Stand>> {
    let mut found = BTreeMap::new();
    let jobs = status.get("jobs").and_then(Value::as_object).context("the status names no jobs")?;
    for topic in Topic::ALL {
        // All jobs of a topic are one worker and stand at the same record.
        let first = stage_of(topic, GENERATION, 1).and_then(|stage| stage.jobs().first().copied());
        let Some(job) = first else { continue };
        let partitions = jobs.get(job).and_then(Value::as_object);
        for (partition, at) in partitions.with_context(|| format!("the status does not name the job {job}"))? {
            let number = |name: &str| at.get(name).and_then(Value::as_u64);
            let told = || format!("the status of {job} on {partition} cannot be read: {at}");
            let (end, waiting) = number("end").zip(number("lag")).with_context(told)?;
            let stand = Stand { applied: end.saturating_sub(waiting), waiting };
            found.insert((topic.as_str().to_owned(), partition.parse().with_context(told)?), stand);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_says_where_each_partition_stands_and_what_waits() {
        let at = |end: u64, lag: u64| json!({ "0": { "committed": 1, "end": end, "lag": lag } });
        let status = json!({ "jobs": {
            "stage-one": { "0": { "end": 7, "lag": 2 }, "1": { "end": 9, "lag": 9 } },
            "graph": at(5, 0), "authors": at(5, 0), "posts": at(4, 1), "engagement": at(4, 1),
            "post-trends": at(4, 1), "tag-trends": at(3, 3),
        } });
        let stands = stands(&status).unwrap();
        let found: Vec<_> =
            stands.iter().map(|((topic, nth), at)| (&topic[..], *nth, at.applied, at.waiting)).collect();
        let expected = [
            ("actions", 0, 5, 2),
            ("actions", 1, 0, 9),
            ("reaction-events", 0, 3, 1),
            ("tag-events", 0, 0, 3),
            ("user-events", 0, 5, 0),
        ];
        assert_eq!((&found[..], waiting(&stands)), (&expected[..], 15));
    }

    #[test]
    fn a_status_without_a_job_is_an_error_and_not_a_calm_platform() {
        let error = stands(&json!({ "jobs": {} })).unwrap_err().to_string();
        assert!(error.contains("stage-one"), "{error}");
        assert!(stands(&json!({})).is_err());
    }

    #[test]
    fn metrics_say_which_partitions_a_worker_has() {
        assert_eq!(part_of("topic=\"tag-events\",partition=\"13\"").unwrap(), ("tag-events".to_owned(), 13));
        for wrong in ["", "topic=\"actions\"", "topic=\"actions\",partition=\"x\""] {
            assert!(part_of(wrong).is_err(), "{wrong}");
        }
    }
}
