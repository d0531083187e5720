//! Carries commands to the servers that have their slots.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use millrace_feature_store::online::{Error, ErrorKind, Result};
use redis::{AsyncConnectionConfig, Pipeline, RedisError, Value};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::failure::{Answer, answer, failed, retry};
use crate::guard::Guards;
use crate::health;
use crate::map::{Map, host_of};
use crate::plan::{Op, Shape};
use crate::recent::Recent;
use crate::server::{Link, Server};
use crate::target::Target;
use crate::{RedisOptions, State};

/// How often commands are sent again because slots or servers change.
const ATTEMPTS_MAX: u32 = 6;
/// How long the second attempt waits; each later one waits twice as long.
const PAUSE: Duration = Duration::from_millis(20);
/// How many commands one pipeline holds.
const PIPELINE_COMMANDS_MAX: usize = 1_024;
/// How many bytes of commands one pipeline holds, unless one command is larger.
const PIPELINE_BYTES_MAX: usize = 1024 * 1024;

/// What the store, its heart and its attempts to connect share.
pub(crate) struct Shared {
    pub(crate) target: Target,
    pub(crate) options: RedisOptions,
    pub(crate) shape: Shape,
    pub(crate) config: AsyncConnectionConfig,
    map: Mutex<Arc<Map>>,
    pub(crate) refreshing: tokio::sync::Mutex<()>,
    pub(crate) recent: Mutex<Recent>,
    pub(crate) guards: Mutex<Guards>,
    pub(crate) state: watch::Sender<State>,
}

/// What came of the commands for one server.
#[derive(Default)]
struct Outcome {
    done: Vec<(usize, Value)>,
    again: Vec<usize>,
    /// The slots must be looked up before.
    refresh: bool,
    /// Why, when it must be told in the end.
    why: Option<Error>,
}

/// What came of asking the server that a slot is on its way to.
enum Asked {
    Done(Value),
    /// It did not help, perhaps for a reason that must be told in the end.
    Not(Option<Error>),
}

impl Shared {
    pub(crate) fn new(target: Target, options: RedisOptions, shape: Shape) -> Result<Arc<Self>> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(Some(options.timeout));
        let map = if target.cluster {
            Map::unknown()
        } else {
            Map::single(Server::new(target.seeds[0].clone(), config.clone())?)
        };
        let beats = options.recent.as_millis().div_ceil(options.heartbeat.as_millis().max(1));
        let recent = Recent::new(u32::try_from(beats).unwrap_or(u32::MAX), options.recent_bytes);
        let shared = Arc::new(Self {
            target,
            shape,
            config,
            map: Mutex::new(Arc::new(map)),
            refreshing: tokio::sync::Mutex::default(),
            recent: Mutex::new(recent),
            guards: Mutex::default(),
            state: watch::Sender::new(State::default()),
            options,
        });
        tokio::spawn(health::beat(Arc::downgrade(&shared), shared.options.heartbeat));
        Ok(shared)
    }

    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// The servers and their slots as far as known.
    pub(crate) fn map(&self) -> Arc<Map> {
        lock(&self.map).clone()
    }

    pub(crate) fn set_map(&self, map: Map) {
        *lock(&self.map) = Arc::new(map);
    }

    /// Carries out commands, each on the server of its slot, and answers what each was answered. They may be carried out more
    /// than once. `writes` are answered only when their server has shown that it still has what it had.
    pub(crate) async fn run(self: &Arc<Self>, attempted: &'static str, ops: &[Op], writes: bool) -> Result<Vec<Value>> {
        if ops.is_empty() {
            return Ok(Vec::new());
        }
        // Each wait below has a bound; this bounds their sum.
        let bound = self.options.timeout * 2 + self.options.connect_timeout;
        let done = timeout(bound, self.attempt(attempted, ops, writes)).await;
        done.unwrap_or_else(|_| {
            Err(retry(format!("cannot {attempted}: Redis did not answer within {bound:?}; it is tried again")))
        })
    }

    async fn attempt(self: &Arc<Self>, attempted: &'static str, ops: &[Op], writes: bool) -> Result<Vec<Value>> {
        let mut answers: Vec<Value> = Vec::new();
        answers.resize_with(ops.len(), Value::default);
        let mut pending: Vec<usize> = (0..ops.len()).collect();
        let mut why = None;
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 1 {
                sleep(PAUSE * (1 << (attempt - 2))).await;
            }
            let map = self.known_map().await?;
            let (groups, homeless) = group(&map, ops, &pending);
            let runs =
                groups.into_iter().map(|(at, indices)| self.run_on(attempted, &map.servers[at], ops, indices, writes));
            let mut refresh = !homeless.is_empty();
            pending = homeless;
            for outcome in join_all(runs).await {
                let outcome = outcome?;
                for (i, value) in outcome.done {
                    answers[i] = value;
                }
                pending.extend(outcome.again);
                refresh |= outcome.refresh;
                why = outcome.why.or(why);
            }
            if writes && !refresh {
                // A server may have been replaced while we wrote to it, and what it took may not be in its successor.
                let now = self.map();
                let moved = |slot| match (map.owner(slot), now.owner(slot)) {
                    (Some((_, before)), Some((_, after))) => !Arc::ptr_eq(before, after),
                    _ => true,
                };
                if now.number != map.number {
                    let mut redo: Vec<bool> = ops.iter().map(|op| moved(op.slot)).collect();
                    for &i in &pending {
                        redo[i] = true;
                    }
                    pending = (0..ops.len()).filter(|&i| redo[i]).collect();
                }
            }
            if pending.is_empty() {
                return Ok(answers);
            }
            if refresh {
                self.refresh(map.number).await?;
            }
        }
        Err(why.unwrap_or_else(|| {
            retry(format!(
                "cannot {attempted}: some slots of the cluster of Redis have no master that answers; it is tried again, see \
                 CLUSTER INFO"
            ))
        }))
    }

    async fn run_on(
        self: &Arc<Self>,
        attempted: &'static str,
        server: &Arc<Server>,
        ops: &[Op],
        indices: Vec<usize>,
        writes: bool,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let link = match self.link(server).await {
            Ok(link) => link,
            Err(error) if self.target.cluster && error.kind() == ErrorKind::Retry => {
                // Its slots may have another master by now.
                return Ok(Outcome { again: indices, refresh: true, why: Some(error), ..outcome });
            }
            Err(error) => return Err(error),
        };
        let mut rest = &indices[..];
        while !rest.is_empty() {
            let (some, after) = rest.split_at(pipeline_len(ops, rest));
            rest = after;
            let guard = if writes { self.guard_of(server) } else { None };
            let mut pipeline = Pipeline::with_capacity(some.len() + 1);
            for &i in some {
                pipeline.add_command(ops[i].cmd.clone());
            }
            if let Some((_, name)) = &guard {
                pipeline.cmd("GET").arg(&name[..]);
            }
            let what = if writes { "write" } else { "read" };
            metrics::counter!("millrace_online_round_trips_total", "what" => what).increment(1);
            metrics::counter!("millrace_online_commands_total", "what" => what).increment(pipeline.len() as u64);
            let mut values = match server.pipeline(&link, &pipeline).await {
                Ok(values) => values,
                Err(error) => {
                    server.drop_link(&link);
                    if error.is_timeout() {
                        return Err(failed(attempted, &server.address, error));
                    }
                    outcome.why = Some(failed(attempted, &server.address, error));
                    outcome.again.extend(some.iter().chain(rest));
                    outcome.refresh |= self.target.cluster;
                    return Ok(outcome);
                }
            };
            if values.len() != pipeline.len() {
                return Err(retry(format!(
                    "cannot {attempted}: Redis at {} left something unanswered",
                    server.address
                )));
            }
            if let Some((slot, _)) = guard
                && !self.check_guard(slot, values.pop())
            {
                // What was just written is among what is written again.
                server.drop_link(&link);
                outcome.again.extend(some.iter().chain(rest));
                return Ok(outcome);
            }
            for (&i, value) in some.iter().zip(values) {
                let Value::ServerError(error) = value else {
                    outcome.done.push((i, value));
                    continue;
                };
                match answer(attempted, &server.address, self.target.cluster, error.into()) {
                    Answer::Moved => {
                        outcome.refresh = true;
                        outcome.again.push(i);
                    }
                    Answer::Ask(to) => match self.ask(attempted, &to, &ops[i]).await? {
                        Asked::Done(value) => outcome.done.push((i, value)),
                        Asked::Not(why) => {
                            outcome.why = why.or(outcome.why);
                            outcome.again.push(i);
                        }
                    },
                    Answer::Soon(why) => {
                        outcome.why = Some(why);
                        outcome.again.push(i);
                    }
                    Answer::NoScript => {
                        server.drop_link(&link);
                        outcome.again.push(i);
                    }
                    Answer::Demoted => {
                        server.drop_link(&link);
                        outcome.refresh |= self.target.cluster;
                        outcome.again.push(i);
                    }
                    Answer::Tell(error) => return Err(error),
                }
            }
        }
        Ok(outcome)
    }

    /// Asks the server that a slot is on its way to.
    async fn ask(self: &Arc<Self>, attempted: &'static str, to: &str, op: &Op) -> Result<Asked> {
        let Some(port) = to.rsplit_once(':').and_then(|(_, port)| port.parse().ok()) else {
            return Ok(Asked::Not(None));
        };
        let server = match self.map().server_at(to) {
            Some(server) => server.clone(),
            None => Arc::new(Server::new(self.target.other(&host_of(to), port), self.config.clone())?),
        };
        let link = self.link(&server).await?;
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("ASKING");
        pipeline.add_command(op.cmd.clone());
        match server.pipeline(&link, &pipeline).await.map(|mut values| values.pop()) {
            Ok(Some(Value::ServerError(error))) => match answer(attempted, to, true, error.into()) {
                Answer::Tell(error) => Err(error),
                Answer::Soon(why) => Ok(Asked::Not(Some(why))),
                _ => Ok(Asked::Not(None)),
            },
            Ok(Some(value)) => Ok(Asked::Done(value)),
            Ok(None) => Ok(Asked::Not(None)),
            Err(error) => {
                server.drop_link(&link);
                Err(failed(attempted, to, error))
            }
        }
    }

    /// Sends commands of which none may fail.
    pub(crate) async fn all_ok(
        &self,
        attempted: &'static str,
        server: &Server,
        link: &Link,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>> {
        let values = server.pipeline(link, pipeline).await.map_err(|e| failed(attempted, &server.address, e))?;
        for value in &values {
            if let Value::ServerError(error) = value {
                return Err(failed(attempted, &server.address, RedisError::from(error.clone())));
            }
        }
        Ok(values)
    }
}

/// The pending commands by the server that has their slot, and those whose slot nobody has.
fn group(map: &Map, ops: &[Op], pending: &[usize]) -> (Vec<(usize, Vec<usize>)>, Vec<usize>) {
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); map.servers.len()];
    let mut homeless = Vec::new();
    for &i in pending {
        match map.owner(ops[i].slot) {
            Some((at, _)) => groups[at].push(i),
            None => homeless.push(i),
        }
    }
    (groups.into_iter().enumerate().filter(|(_, indices)| !indices.is_empty()).collect(), homeless)
}

/// How many of these commands, of at least one, fit into one pipeline.
pub(crate) fn pipeline_len(ops: &[Op], indices: &[usize]) -> usize {
    let mut bytes = 0;
    let fits = indices.iter().take(PIPELINE_COMMANDS_MAX).take_while(|i| {
        let first = bytes == 0;
        bytes += ops[**i].bytes;
        first || bytes <= PIPELINE_BYTES_MAX
    });
    fits.count()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
