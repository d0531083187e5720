//! What is wrong with a Redis, before it shows.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use millrace_feature_store::online::Result;
use redis::{Pipeline, Value};

use crate::failure::cure;
use crate::info::Info;
use crate::server::Server;
use crate::shared::Shared;

/// The version that the scripts are tested with.
const TESTED_MAJOR: u32 = 7;
/// The oldest version that has all commands used here.
const OLDEST_MAJOR: u32 = 6;
/// Above this share of `maxmemory`, in percent, it is time to act.
const MEMORY_PERCENT_MAX: u64 = 80;
/// By how much its clock may differ from ours, milliseconds. Only people compare times of both.
const SKEW_MS_MAX: i64 = 2_000;

/// How much a [`Finding`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Fine,
    /// It works; something will hurt one day.
    Warning,
    /// It does not work, or loses data.
    Fault,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What is so.
    pub what: String,
    /// What to do about it; none when it is as it should be.
    pub cure: Option<String>,
}

impl Finding {
    fn fine(what: impl Into<String>) -> Self {
        Self { level: Level::Fine, what: what.into(), cure: None }
    }

    fn bad(level: Level, what: impl Into<String>, cure: &str) -> Self {
        Self { level, what: what.into(), cure: Some(cure.to_owned()) }
    }
}

/// Looks at every server, and at the cluster as a whole.
pub(crate) async fn check(shared: &Arc<Shared>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let map = match shared.known_map().await {
        Ok(map) => map,
        Err(error) => return vec![Finding::bad(Level::Fault, error.to_string(), cure(&error))],
    };
    for server in &map.servers {
        match facts(shared, server).await {
            Ok(facts) => judge(&server.address, &facts, &mut findings),
            Err(error) => findings.push(Finding::bad(Level::Fault, error.to_string(), cure(&error))),
        }
    }
    if shared.target.cluster {
        let cure = "bring the masters back, or see redis-cli --cluster fix";
        findings.push(match map.uncovered() {
            0 => Finding::fine(format!("{} masters have all slots", map.servers.len())),
            n => Finding::bad(Level::Fault, format!("{n} slots of the cluster have no master"), cure),
        });
    }
    findings.push(if shared.state().borrow().lost {
        Finding::bad(Level::Warning, "the online store is not whole", "rebuild it from the log")
    } else {
        Finding::fine("the online store is whole")
    });
    if shared.state().borrow().cut {
        let cure = "give recent writes more room, or remember them for a shorter time";
        findings.push(Finding::bad(Level::Warning, "recent writes outgrow their room", cure));
    }
    findings
}

struct Facts {
    info: Info,
    /// Our own clock before and after `info` was asked for, milliseconds since 1970.
    asked_ms: (i64, i64),
    /// What `CONFIG GET save` says, where it is allowed.
    save: Option<String>,
    /// What `CLUSTER INFO` says, in a cluster.
    cluster: Option<Info>,
}

async fn facts(shared: &Arc<Shared>, server: &Arc<Server>) -> Result<Facts> {
    let link = shared.link(server).await?;
    let mut pipeline = Pipeline::new();
    pipeline.cmd("INFO");
    if shared.target.cluster {
        pipeline.cmd("CLUSTER").arg("INFO");
    }
    let before = now_ms();
    let mut values = shared.all_ok("check", server, &link, &pipeline).await?.into_iter();
    let asked_ms = (before, now_ms());
    let info = Info::read("check", &server.address, values.next())?;
    let cluster = match values.next() {
        Some(value) => Some(Info::read("check", &server.address, Some(value))?),
        None => None,
    };
    let mut pipeline = Pipeline::new();
    pipeline.cmd("CONFIG").arg("GET").arg("save");
    // Hosted servers forbid it.
    let save = match shared.all_ok("check", server, &link, &pipeline).await.map(|mut values| values.pop()) {
        Ok(Some(Value::Array(pair))) => match pair.into_iter().nth(1) {
            Some(Value::BulkString(save)) => Some(String::from_utf8_lossy(&save).into_owned()),
            _ => None,
        },
        _ => None,
    };
    Ok(Facts { info, asked_ms, save, cluster })
}

fn judge(address: &str, facts: &Facts, findings: &mut Vec<Finding>) {
    let field = |name| facts.info.get(name).unwrap_or_default();
    let version = field("redis_version");
    let major = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0_u32);
    findings.push(if major < OLDEST_MAJOR {
        let cure = "upgrade it: 7.0 is what is tested";
        Finding::bad(Level::Fault, format!("Redis at {address} has version {version}"), cure)
    } else if major < TESTED_MAJOR {
        Finding::bad(
            Level::Warning,
            format!("Redis at {address} has version {version}"),
            "upgrade it: 7.0 is what is tested",
        )
    } else {
        Finding::fine(format!("Redis at {address} has version {version}"))
    });

    let policy = field("maxmemory_policy");
    let what = format!("Redis at {address} has maxmemory-policy {policy}");
    let cure = "set maxmemory-policy noeviction: what is evicted is missing in answers, and nothing tells";
    findings.push(match policy {
        "noeviction" => Finding::fine(what),
        // Only tombstones expire.
        _ if policy.starts_with("volatile-") => Finding::bad(Level::Warning, what, cure),
        _ => Finding::bad(Level::Fault, what, cure),
    });

    let number = |name| field(name).parse::<u64>().unwrap_or(0);
    let (used, max) = (number("used_memory"), number("maxmemory"));
    findings.push(match used.saturating_mul(100).checked_div(max) {
        None => Finding::bad(
            Level::Warning,
            format!("Redis at {address} has no maxmemory"),
            "set maxmemory below the memory of its machine: a refused write is repeated, a killed server is rebuilt",
        ),
        Some(percent) if percent > MEMORY_PERCENT_MAX => Finding::bad(
            Level::Warning,
            format!("Redis at {address} uses {percent} % of its maxmemory"),
            "raise maxmemory or add servers: a full one refuses writes",
        ),
        Some(percent) => Finding::fine(format!("Redis at {address} uses {percent} % of its maxmemory")),
    });

    // Older servers do not tell.
    if let Ok(now) = field("server_time_usec").parse::<i64>() {
        let (now, (before, after)) = (now / 1_000, facts.asked_ms);
        let skew = if now < before { now - before } else { (now - after).max(0) };
        let what = format!("the clock of Redis at {address} is {skew} ms from ours");
        findings.push(if skew.abs() <= SKEW_MS_MAX {
            Finding::fine(what)
        } else {
            Finding::bad(Level::Warning, what, "let a time service set the clocks of both machines")
        });
    }

    let appends = field("aof_enabled") == "1";
    let saves = facts.save.as_ref().map(|save| !save.is_empty());
    findings.push(match (appends, saves) {
        (true, _) => Finding::fine(format!("Redis at {address} appends to a file")),
        (false, Some(true)) => Finding::fine(format!("Redis at {address} saves now and then")),
        (false, None) => {
            Finding::fine(format!("Redis at {address} does not append to a file; whether it saves cannot be seen"))
        }
        (false, Some(false)) => Finding::bad(
            Level::Warning,
            format!("Redis at {address} keeps nothing on disk"),
            "set appendonly yes: else each restart means a rebuild from the log",
        ),
    });

    if let Some(cluster) = &facts.cluster {
        let state = cluster.get("cluster_state").unwrap_or("unknown");
        let what = format!("the cluster is {state} for Redis at {address}");
        findings.push(if state == "ok" {
            Finding::fine(what)
        } else {
            Finding::bad(Level::Fault, what, "bring its masters back, or see redis-cli --cluster check")
        });
    }
    findings.push(match number("connected_slaves") {
        0 => Finding::bad(
            Level::Warning,
            format!("Redis at {address} has no replica"),
            "add one where minutes without feeds after a crash matter",
        ),
        n => Finding::fine(format!("Redis at {address} has {n} replicas")),
    });
}

#[expect(clippy::disallowed_methods, reason = "the wall clock of this machine is what is compared")]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
