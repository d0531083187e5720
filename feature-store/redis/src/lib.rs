//! The online store on Redis and Redis Cluster.
//!
//! [`RedisOnlineStore`] is the [`OnlineStore`] of deployments that share one store: many processes write, many read. Versions
//! are compared where the data is, by scripts, so writers need no lock and a zombie does no harm; the keys of a list share a
//! hash tag, so that one script changes them at once. Everything else is plain commands, many in one pipeline per server.
//! Masters alone are read: a replica may not have what `write` has answered.
//!
//! **What Redis loses.** It acknowledges before it is durable or replicated, so each restart, failover and flush may take
//! away what was acknowledged. Three things bring it back:
//! - A connection is used only after it was checked. When the server behind it is another process than before, has another id
//!   of replication, or has lost a guard (a small key that shows whether what was there is there), the keys written
//!   in the last minutes are written again first. To the same process with the same id nothing can have been lost, and
//!   nothing is written again: else an overloaded server would be given more to do with each timeout.
//! - Behind every write a guard is read in the same pipeline, and every second all of them: a flush is noticed without any
//!   connection failing. Until then readers find less than was written.
//! - What is older must come from the log. [`State::lost`] says so until somebody has rebuilt the store
//!   ([`RedisOnlineStore::begin_rebuild`]), also after a restart of everybody; writing goes on meanwhile, because by law 1 a
//!   replay and live writes may meet in any order.
//!
//! Why not the cluster client or the connection manager of the `redis` crate: they reconnect behind the caller's back, and
//! then a write could be answered by a server that has just lost an older one.
//!
//! It must never know what its values mean, nor keep what only it has.

mod check;
mod failure;
mod guard;
mod health;
mod info;
mod keys;
mod map;
mod plan;
mod read;
mod recent;
mod scan;
mod server;
mod shared;
mod slots;
mod target;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use millrace_feature_store::OnlineStore;
use millrace_feature_store::online::{
    Content, Error, ErrorKind, ListItem, ListKey, OnlineWrite, RecordKey, Result, check_batch,
};
use redis::Value;
use tokio::sync::watch;

pub use check::{Finding, Level};

use guard::{Guard, Guards, places};
use keys::Keys;
use plan::{Op, Plan, Scripts, Shape};
use scan::Walk;
use shared::{Shared, lock};
use target::Target;

/// How long a prefix may be, in bytes.
pub const PREFIX_BYTES_MAX: usize = 64;

/// Bounds of the store. The defaults are for a server in the same data centre.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// What the names of all keys begin with: 1 to 64 printable characters of ASCII, no braces. Two stores on one Redis need two.
    /// A prefix in the URL goes before it.
    pub prefix: String,
    /// How long connecting to one server may take.
    pub connect_timeout: Duration,
    /// How long one answer may take. A call takes twice that and the time of connecting at most.
    pub timeout: Duration,
    /// How often each server is looked at: how soon a loss is noticed when nobody writes.
    pub heartbeat: Duration,
    /// How long writes are remembered, to write them again: longer than a failover takes and than replicas lag.
    pub recent: Duration,
    /// How much memory that may take, in bytes; the oldest are forgotten first.
    pub recent_bytes: usize,
    /// How long tombstones stay: longer than any older write may still be under way, a replay from the last commit included.
    pub tombstones: Duration,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            prefix: "millrace:".to_owned(),
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(1),
            recent: Duration::from_secs(5 * 60),
            recent_bytes: 64 * 1024 * 1024,
            tombstones: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// How the store is, as far as this process knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The store was flushed, lost or never filled: what is older than the writes remembered is missing until it is rebuilt
    /// from the log. See [`RedisOnlineStore::begin_rebuild`].
    pub lost: bool,
    /// How many losses this process has noticed since it opened the store.
    pub losses: u64,
    /// How often what was written lately was written again to a server.
    pub rewrites: u64,
    /// Recent writes outgrow [`RedisOptions::recent_bytes`]: they are remembered for less than [`RedisOptions::recent`], and a
    /// failover now may lose what was forgotten too early.
    pub cut: bool,
    /// There is a connection to every server.
    pub connected: bool,
}

/// The online store on Redis. Needs a Tokio runtime, on which it looks after its connections until it is dropped.
pub struct RedisOnlineStore {
    shared: Arc<Shared>,
    /// Where the last scan ended.
    walk: tokio::sync::Mutex<Option<Walk>>,
}

/// A rebuild that has begun: which losses it makes good. See [`RedisOnlineStore::begin_rebuild`].
#[derive(Clone, Debug)]
pub struct Rebuild {
    guards: Guards,
}

impl RedisOnlineStore {
    /// The online store at this URL: `redis://user:password@host:6379/0` for one server, or
    /// `redis-cluster://user:password@host:6379,host:6379` for a cluster (also `redis://host?cluster=true`), with `rediss` or
    /// `rediss-cluster` for TLS by the certificates of the system; `?prefix=name:` instead of [`RedisOptions::prefix`]. It does
    /// not wait for Redis: calls say when it is away.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the URL or the options cannot be used. Messages never repeat the URL.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn open(url: &str, mut options: RedisOptions) -> Result<Arc<Self>> {
        let target = Target::parse(url)?;
        if let Some(prefix) = &target.prefix {
            options.prefix.clone_from(prefix);
        }
        check_options(&options)?;
        if target.tls() {
            // An error says that another part of the process has chosen one already.
            drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        }
        let shape = Shape {
            keys: Keys::new(&options.prefix),
            scripts: Scripts::new(),
            tombstone_s: options.tombstones.as_secs(),
            cluster: target.cluster,
        };
        let shared = Shared::new(target, options, shape)?;
        Ok(Arc::new(Self { shared, walk: tokio::sync::Mutex::default() }))
    }

    /// How the store is now.
    pub fn state(&self) -> State {
        *self.shared.state().borrow()
    }

    /// Tells of every change of [`RedisOnlineStore::state`].
    pub fn watch(&self) -> watch::Receiver<State> {
        self.shared.state()
    }

    /// Connects to every server, and so finds out whether anything was lost.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] when a server cannot be reached, [`ErrorKind::Invalid`] when the URL is for another kind of Redis.
    pub async fn connect(&self) -> Result<State> {
        let map = self.shared.known_map().await?;
        for server in &map.servers {
            self.shared.link(server).await?;
        }
        Ok(self.state())
    }

    /// Notes what is lost now. Write all content from the log then, whether it is there or not, while others go on writing,
    /// and end with [`RedisOnlineStore::finish_rebuild`].
    ///
    /// # Errors
    /// As of [`RedisOnlineStore::connect`].
    pub async fn begin_rebuild(&self) -> Result<Rebuild> {
        self.connect().await?;
        Ok(Rebuild { guards: lock(&self.shared.guards).clone() })
    }

    /// Says that all content was written since the rebuild began. False when something was lost meanwhile: begin again.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] when Redis cannot be asked now; repeating it is harmless.
    pub async fn finish_rebuild(&self, rebuild: &Rebuild) -> Result<bool> {
        let shape = &self.shared.shape;
        let mut ops = Vec::new();
        for (slot, tag) in places(shape.cluster) {
            let Some(guard) = rebuild.guards.get(slot) else { continue };
            let name = shape.keys.guard(*tag);
            let mut op = Op::script(if shape.cluster { *slot } else { 0 }, &shape.scripts.confirm, 1);
            op.arg(&name);
            op.arg(Guard { whole: false, ..guard.clone() }.text().as_bytes());
            op.arg(Guard { whole: true, ..guard.clone() }.text().as_bytes());
            ops.push(op);
        }
        let answers = self.shared.run("confirm a rebuild", &ops, false).await?;
        if answers.iter().any(|answer| *answer != Value::Int(1)) {
            return Ok(false);
        }
        let mut guards = lock(&self.shared.guards);
        for (slot, guard) in &rebuild.guards {
            if let Some(known) = guards.get_mut(slot).filter(|known| known.id == guard.id) {
                known.whole = true;
            }
        }
        self.shared.note_guards(&guards, false);
        Ok(!guards.values().any(|guard| !guard.whole))
    }

    /// Deletes all content under the prefix, tombstones included; the store is [`State::lost`] then. Nobody may write
    /// meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] when Redis fails meanwhile; part of it may be deleted, and repeating it is harmless.
    pub async fn clear(&self) -> Result<()> {
        self.connect().await?;
        let shape = &self.shared.shape;
        let fresh: Guards = places(shape.cluster).iter().map(|(slot, _)| (*slot, Guard::new())).collect();
        let set = |(slot, tag): &(u16, u32)| {
            let mut op = Op::on(shape, "SET", &shape.keys.guard(*tag));
            op.arg(fresh[slot].text().as_bytes());
            op
        };
        let ops: Vec<Op> = places(shape.cluster).iter().map(set).collect();
        self.shared.run("clear the online store", &ops, false).await?;
        {
            let mut guards = lock(&self.shared.guards);
            *guards = fresh;
            self.shared.note_guards(&guards, false);
        }
        lock(&self.shared.recent).clear();
        scan::delete_all(&self.shared).await
    }

    /// What is wrong with this Redis, and what to do about it.
    pub async fn check(&self) -> Vec<Finding> {
        check::check(&self.shared).await
    }
}

#[async_trait]
impl OnlineStore for RedisOnlineStore {
    async fn write(&self, batch: Vec<OnlineWrite>) -> Result<()> {
        check_batch(&batch)?;
        let plan = Plan::of(batch);
        // Before it is sent: whoever replaces a lost connection meanwhile must find it.
        lock(&self.shared.recent).add(&plan);
        let ops = plan.ops(&self.shared.shape, |_| true);
        self.shared.run("write to the online store", &ops, true).await.map(drop)
    }

    async fn get(&self, keys: &[RecordKey]) -> Result<Vec<Option<Bytes>>> {
        read::records(&self.shared, "read records", keys).await
    }

    async fn heads(&self, lists: &[ListKey], limit: usize) -> Result<Vec<Vec<ListItem>>> {
        read::heads(&self.shared, "read lists", lists, limit).await
    }

    async fn page(&self, list: &ListKey, after: Option<&ListItem>, limit: usize) -> Result<Vec<ListItem>> {
        read::page(&self.shared, "read a list", list, after, limit).await
    }

    /// Costs a pass over all keys for each window of names, not for each page, when pages are read one after the other.
    async fn scan(&self, after: Option<&Content>, limit: usize) -> Result<Vec<Content>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut last = self.walk.lock().await;
        let walk = last.take().filter(|walk| walk.goes_on_after(after));
        let mut walk = walk.unwrap_or_else(|| Walk::after(after, scan::WINDOW_BYTES));
        let page = walk.page(&self.shared, limit).await?;
        *last = Some(walk);
        Ok(page)
    }
}

impl fmt::Debug for RedisOnlineStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.shared.map().servers.iter().map(|server| server.address.clone()).collect();
        f.debug_struct("RedisOnlineStore").field("servers", &servers).field("state", &self.state()).finish()
    }
}

fn check_options(options: &RedisOptions) -> Result<()> {
    let invalid =
        |why: &str| Err(Error::new(ErrorKind::Invalid, format!("cannot open the online store on Redis: {why}")));
    let prefix = &options.prefix;
    let plain = prefix.chars().all(|c| c.is_ascii_graphic() && c != '{' && c != '}');
    if !plain || !(1..=PREFIX_BYTES_MAX).contains(&prefix.len()) {
        return invalid("the prefix must be 1 to 64 printable characters of ASCII without braces");
    }
    let millisecond = Duration::from_millis(1);
    if [options.connect_timeout, options.timeout, options.heartbeat].iter().any(|time| *time < millisecond) {
        return invalid("timeouts and the heartbeat must be at least a millisecond");
    }
    if options.recent < options.heartbeat {
        return invalid("writes must be remembered for at least a heartbeat");
    }
    if options.tombstones < options.recent.max(Duration::from_secs(1))
        || options.tombstones.as_secs() > u64::from(u32::MAX)
    {
        return invalid(
            "tombstones must stay for at least a second, as long as writes are remembered, and below 136 years",
        );
    }
    Ok(())
}
