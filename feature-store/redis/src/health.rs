//! Whether servers still have what they had: new connections are checked, and living ones once in a heartbeat.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use millrace_feature_store::online::{Error, ErrorKind, Result};
use redis::{Pipeline, Value};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::failure::{again, failed, retry};
use crate::guard::{Guard, Guards, places};
use crate::info::Info;
use crate::plan::SOURCES;
use crate::server::{Identity, Link, Server};
use crate::shared::{Shared, lock, pipeline_len};

/// After so many beats the slots are looked up again without a reason.
const MAP_BEATS: u64 = 30;

impl Shared {
    /// The connection to a server; a new one is checked first. Whoever stops waiting does not stop that.
    pub(crate) async fn link(self: &Arc<Self>, server: &Arc<Server>) -> Result<Link> {
        if let Some(link) = server.link() {
            return Ok(link);
        }
        let (shared, server) = (self.clone(), server.clone());
        let connected = tokio::spawn(async move { shared.connect(&server).await }).await;
        connected.map_err(|e| Error::with_source(ErrorKind::Retry, "cannot connect to Redis: the runtime stops", e))?
    }

    async fn connect(&self, server: &Server) -> Result<Link> {
        let mut backoff = server.connecting.lock().await;
        if let Some(link) = server.link() {
            return Ok(link);
        }
        backoff.check()?;
        match self.establish(server).await {
            Ok(link) => {
                backoff.succeeded();
                server.set_link(link.clone());
                self.note_connected();
                Ok(link)
            }
            Err(error) => {
                if backoff.failed(&error) {
                    tracing::warn!(redis = %server.address, error = %again(&error), "no connection to Redis");
                }
                self.state.send_if_modified(|state| std::mem::take(&mut state.connected));
                Err(error)
            }
        }
    }

    /// A connection to a master that has the scripts, its guards, and whatever we wrote lately. It must not be used before: a
    /// write that it answers would otherwise be newer than one that it has lost.
    async fn establish(&self, server: &Server) -> Result<Link> {
        let failed = |e| failed("connect", &server.address, e);
        let link = server.dial().await.map_err(failed)?;
        let greeting = timeout(self.options.connect_timeout, self.greet(server, &link)).await;
        let identity = greeting.map_err(|_| {
            retry(format!("cannot connect: Redis at {} accepts but does not answer; it is tried again", server.address))
        })??;
        let found = self.find_guards(server, &link).await?;
        let lost = self.are_lost(&found);
        if lost {
            tracing::warn!(
                redis = %server.address,
                "Redis has lost what it held: recent writes are repeated now, the rest must be rebuilt from the log"
            );
        }
        if lost || server.seen().as_ref() != Some(&identity) {
            self.rewrite(server, &link).await?;
            server.set_seen(identity);
        }
        // Known only now: until all is written again, whoever writes on an older connection must not find its guard in order.
        let mut guards = lock(&self.guards);
        guards.extend(found);
        self.note_guards(&guards, lost);
        Ok(link)
    }

    async fn greet(&self, server: &Server, link: &Link) -> Result<Identity> {
        let address = &server.address;
        let mut pipeline = Pipeline::new();
        pipeline.cmd("INFO");
        let values = server.pipeline(link, &pipeline).await.map_err(|e| failed("connect", address, e))?;
        let info = Info::read("connect", address, values.into_iter().next())?;
        if info.get("loading") == Some("1") {
            return Err(retry(format!(
                "cannot connect: Redis at {address} is still loading its data; it is tried again"
            )));
        }
        if info.get("role") != Some("master") {
            return Err(retry(format!(
                "cannot connect: Redis at {address} is a replica; point the URL at the master, or wait for the failover"
            )));
        }
        let cluster = info.get("redis_mode") == Some("cluster");
        if cluster != self.target.cluster {
            let scheme = if cluster { "redis-cluster://" } else { "redis://" };
            let what = if cluster { "belongs to" } else { "does not belong to" };
            let message = format!("cannot connect: Redis at {address} {what} a cluster; begin the URL with {scheme}");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        if let Some(policy) = info.get("maxmemory_policy").filter(|policy| *policy != "noeviction") {
            tracing::warn!(
                redis = %address, policy,
                "Redis may evict what the online store holds: set maxmemory-policy to noeviction"
            );
        }
        let mut pipeline = Pipeline::new();
        for source in SOURCES {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(source);
        }
        self.all_ok("load scripts", server, link, &pipeline).await?;
        let text = |key| info.get(key).unwrap_or_default().to_owned();
        Ok(Identity { run: text("run_id"), replication: text("master_replid") })
    }

    /// The guards on a server, those that were missing just made.
    async fn find_guards(&self, server: &Server, link: &Link) -> Result<Guards> {
        let places = self.places_of(server);
        if places.is_empty() {
            return Ok(Guards::new());
        }
        let (mut gets, mut sets) = (Pipeline::new(), Pipeline::new());
        for (_, name) in &places {
            gets.cmd("GET").arg(&name[..]);
            sets.cmd("SET").arg(&name[..]).arg(Guard::new().text()).arg("NX");
        }
        // Read first: a server that takes no writes now must not be lost for reading.
        let mut values = self.ask_guards(server, link, &gets).await?;
        if values.contains(&Value::Nil) {
            self.ask_guards(server, link, &sets).await?;
            values = self.ask_guards(server, link, &gets).await?;
        }
        let mut found = Guards::new();
        for ((slot, name), value) in places.iter().zip(values) {
            if is_moving(&value) {
                continue;
            }
            let Some(guard) = read_guard(&value) else {
                let name = String::from_utf8_lossy(name);
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!(
                        "cannot use Redis at {}: {name} was not written by us; give us a prefix of our own",
                        server.address
                    ),
                ));
            };
            found.insert(*slot, guard);
        }
        Ok(found)
    }

    /// True when some are others than those that we know.
    fn are_lost(&self, found: &Guards) -> bool {
        let known = lock(&self.guards);
        found.iter().any(|(slot, guard)| known.get(slot).is_some_and(|known| known.id != guard.id))
    }

    /// Sends commands on guards. Of errors only those remain that say that a guard is moving.
    async fn ask_guards(&self, server: &Server, link: &Link, pipeline: &Pipeline) -> Result<Vec<Value>> {
        let values = server.pipeline(link, pipeline).await.map_err(|e| failed("check", &server.address, e))?;
        for value in values.iter().filter(|value| !is_moving(value)) {
            if let Value::ServerError(error) = value {
                return Err(failed("check", &server.address, error.clone().into()));
            }
        }
        Ok(values)
    }

    /// Writes again what this server has been given lately.
    async fn rewrite(&self, server: &Server, link: &Link) -> Result<()> {
        let all = lock(&self.recent).all();
        let map = self.map();
        let ops = all.ops(&self.shape, |slot| map.owns(server, slot));
        let indices: Vec<usize> = (0..ops.len()).collect();
        let mut rest = &indices[..];
        while !rest.is_empty() {
            let (some, after) = rest.split_at(pipeline_len(&ops, rest));
            rest = after;
            let mut pipeline = Pipeline::with_capacity(some.len());
            for &i in some {
                pipeline.add_command(ops[i].cmd.clone());
            }
            self.all_ok("write again what was written lately", server, link, &pipeline).await?;
        }
        if !ops.is_empty() {
            self.state.send_modify(|state| state.rewrites += 1);
            tracing::info!(redis = %server.address, keys = all.len(), "wrote again what was written lately");
        }
        Ok(())
    }

    /// The guards on a server, by slot, with their names.
    pub(crate) fn places_of(&self, server: &Server) -> Vec<(u16, Vec<u8>)> {
        let map = self.map();
        let here = places(self.target.cluster).iter().filter(|(slot, _)| map.owns(server, *slot));
        here.map(|(slot, tag)| (*slot, self.shape.keys.guard(*tag))).collect()
    }

    /// One guard on a server, to be read behind every write.
    pub(crate) fn guard_of(&self, server: &Server) -> Option<(u16, Vec<u8>)> {
        let map = self.map();
        let (slot, tag) = places(self.target.cluster).iter().find(|(slot, _)| map.owns(server, *slot))?;
        Some((*slot, self.shape.keys.guard(*tag)))
    }

    /// True when a guard is the one we know, or cannot be seen now. What somebody else has confirmed is noted.
    pub(crate) fn check_guard(&self, slot: u16, value: Option<Value>) -> bool {
        if value.as_ref().is_some_and(is_moving) {
            return true;
        }
        let Some(found) = value.as_ref().and_then(read_guard) else { return false };
        let mut guards = lock(&self.guards);
        let Some(known) = guards.get_mut(&slot).filter(|known| known.id == found.id) else { return false };
        if known.whole != found.whole {
            *known = found;
            self.note_guards(&guards, false);
        }
        true
    }

    /// Tells whoever listens what the guards say.
    pub(crate) fn note_guards(&self, guards: &Guards, lost: bool) {
        let building = guards.values().any(|guard| !guard.whole);
        self.state.send_if_modified(|state| {
            let before = *state;
            state.losses += u64::from(lost);
            state.lost = building;
            *state != before
        });
    }

    fn note_connected(&self) {
        let map = self.map();
        let connected = map.servers.iter().all(|server| server.link().is_some());
        self.state.send_if_modified(|state| std::mem::replace(&mut state.connected, connected) != connected);
    }

    /// One beat of the heart: time passes for what is remembered, and each server is looked at.
    async fn beat(self: &Arc<Self>, beats: u64) {
        let cut = {
            let mut recent = lock(&self.recent);
            recent.beat();
            recent.is_cut()
        };
        let newly_cut = self.state.send_if_modified(|state| std::mem::replace(&mut state.cut, cut) != cut) && cut;
        if newly_cut {
            tracing::warn!(
                bytes_max = self.options.recent_bytes,
                "recent writes outgrow their room and are remembered for less than {:?}",
                self.options.recent
            );
        }
        let map = self.map();
        if self.target.cluster && (map.number == 0 || beats.is_multiple_of(MAP_BEATS)) {
            self.try_refresh(map.number).await;
        }
        let map = self.map();
        join_all(map.servers.iter().map(|server| self.look_at(server))).await;
        self.note_connected();
    }

    async fn try_refresh(self: &Arc<Self>, after: u64) {
        if let Err(error) = self.refresh(after).await {
            tracing::debug!(%error, "the slots cannot be looked up");
        }
    }

    /// Connects, or checks that the server is still the one that was connected to and has its guards.
    async fn look_at(self: &Arc<Self>, server: &Arc<Server>) {
        let Some(link) = server.link() else {
            if let Err(error) = self.link(server).await {
                tracing::debug!(%error, "no connection");
                // Its slots may have another master by now.
                self.try_refresh(self.map().number).await;
            }
            return;
        };
        if let Ok(true) = self.is_as_known(server, &link).await {
            return;
        }
        server.drop_link(&link);
        if let Err(error) = self.link(server).await {
            tracing::debug!(%error, "no connection");
        }
    }

    async fn is_as_known(&self, server: &Server, link: &Link) -> Result<bool> {
        let places = self.places_of(server);
        let mut pipeline = Pipeline::with_capacity(1 + places.len());
        pipeline.cmd("INFO").arg("replication");
        for (_, name) in &places {
            pipeline.cmd("GET").arg(&name[..]);
        }
        let mut values = self.ask_guards(server, link, &pipeline).await?.into_iter();
        let info = Info::read("check", &server.address, values.next())?;
        let same = server.seen().is_some_and(|seen| Some(seen.replication.as_str()) == info.get("master_replid"));
        let mut guarded = true;
        for ((slot, _), value) in places.iter().zip(values) {
            guarded &= self.check_guard(*slot, Some(value));
        }
        Ok(same && guarded && info.get("role") == Some("master"))
    }
}

/// Beats until the store is gone.
pub(crate) async fn beat(shared: Weak<Shared>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for beats in 0.. {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        shared.beat(beats).await;
    }
}

/// True for a guard whose slot is on its way to another server: it goes with it.
fn is_moving(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if matches!(error.code(), "MOVED" | "ASK" | "TRYAGAIN"))
}

fn read_guard(value: &Value) -> Option<Guard> {
    match value {
        Value::BulkString(text) => Guard::read(text),
        _ => None,
    }
}
