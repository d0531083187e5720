//! Configuration: plain data whose defaults are the laptop. A file is never needed; flags win over `MILLRACE_*` variables,
//! which win over the file.

mod backend;
mod limits;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use clap::{Args, ValueEnum};
use millrace_collector::is_mistyped;
use millrace_http::LimitOptions;
use serde::Deserialize;

pub(crate) use self::backend::Backend;
use self::limits::{LimitArgs, LimitFile};

/// Partitions of every topic unless configured otherwise: enough for a laptop's cores, few enough to tick cheaply.
const PARTITIONS: u32 = 4;

/// How long recorded slates stay in the log unless configured otherwise, days.
pub(crate) const SLATE_DAYS: f64 = 7.0;

/// The schemes that each store can have.
const LOGS: &[&str] = &["kafka", "kafka+ssl"];
const ONLINE_STORES: &[&str] = &["redis", "rediss", "redis-cluster", "rediss-cluster"];
const WAREHOUSES: &[&str] = &["clickhouse", "clickhouses", "s3"];
const STATES: &[&str] = &["s3"];
const CATALOGS: &[&str] = &["postgres", "postgresql"];

/// What tells log time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClockMode {
    /// The machine's clock.
    #[default]
    Wall,
    /// The largest event time seen so far: for demos, tests and back-tests on old logs.
    Replay,
}

/// A part of the platform that can run on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// The front door: accepts events.
    Collector,
    /// The jobs.
    Pipelines,
    /// The read API: feeds, posts, status.
    Api,
}

/// Where stores are that are not in the data directory.
#[derive(Args, Clone, Default)]
pub(crate) struct StoreArgs {
    /// The log, when it is not in the data directory: kafka://HOST:PORT,HOST:PORT, kafka+ssl:// with TLS.
    #[arg(long, value_name = "URL", env = "MILLRACE_LOG_URL", hide_env_values = true)]
    pub(crate) log: Option<String>,
    /// Job state, when it is not in the data directory: s3://BUCKET/PREFIX. Then processes with the same log share the work.
    #[arg(long, value_name = "URL", env = "MILLRACE_STATE_URL", hide_env_values = true)]
    pub(crate) state: Option<String>,
    /// The online store, when it is not in the data directory: redis://HOST:PORT, rediss:// with TLS, redis-cluster:// for a cluster.
    #[arg(long, value_name = "URL", env = "MILLRACE_ONLINE_URL", hide_env_values = true)]
    pub(crate) online: Option<String>,
    /// The warehouse, when it is not in the data directory: clickhouse://HOST:PORT/DATABASE, clickhouses:// with TLS, or
    /// Delta Lake tables at s3://BUCKET/PREFIX.
    #[arg(long, value_name = "URL", env = "MILLRACE_WAREHOUSE_URL", hide_env_values = true)]
    pub(crate) warehouse: Option<String>,
    /// Write keys and settings, when they are not in the data directory: postgres://USER:PASSWORD@HOST:PORT/DATABASE.
    #[arg(long, value_name = "URL", env = "MILLRACE_CATALOG_URL", hide_env_values = true)]
    pub(crate) catalog: Option<String>,
}

/// The flags of `up`, and of every command that opens a data directory.
#[derive(Args, Clone, Default)]
pub(crate) struct ConfigArgs {
    /// Where everything is kept [default: ./data].
    #[arg(long, env = "MILLRACE_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) stores: StoreArgs,
    /// Address to listen on; anything but loopback needs keys that write, and keys that read or an API token
    /// [default: 127.0.0.1:8080].
    #[arg(long, env = "MILLRACE_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// A TOML file with any of: data_dir, log, state, online, warehouse, catalog, listen, roles, clock, partitions, api_token,
    /// retention_days, slate_retention_days, slate_sample_rate, backup_dir, spool_bytes, spool_dir, sources = [{ name, write_key }],
    /// limits = { the names of the flags about limits }.
    #[arg(long, env = "MILLRACE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Which roles this process runs [default: all].
    #[arg(long, env = "MILLRACE_ROLES", value_delimiter = ',')]
    pub(crate) roles: Option<Vec<Role>>,
    /// What tells log time [default: wall].
    #[arg(long, env = "MILLRACE_CLOCK")]
    pub(crate) clock: Option<ClockMode>,
    /// Partitions of every topic; fixed when the data directory is made [default: 4].
    #[arg(long, env = "MILLRACE_PARTITIONS")]
    pub(crate) partitions: Option<u32>,
    /// Write keys as NAME:KEY, separated by commas. Public: they may only write.
    #[arg(long, env = "MILLRACE_WRITE_KEYS", value_delimiter = ',', hide_env_values = true)]
    pub(crate) write_keys: Option<Vec<String>>,
    /// A bearer token that may read everything. Without one, and without a secret key that reads, reading is open, on loopback
    /// only.
    #[arg(long, env = "MILLRACE_API_TOKEN", hide_env_values = true)]
    pub(crate) api_token: Option<String>,
    /// Drop what is older than so many days from the log, once it is applied and archived. Left out: keep everything; only a
    /// whole log can be verified and rebuilt from its first record.
    #[arg(long, env = "MILLRACE_RETENTION_DAYS")]
    pub(crate) retention_days: Option<f64>,
    /// Keep recorded slates in the log for so many days; the warehouse keeps them [default: 7].
    #[arg(long, env = "MILLRACE_SLATE_RETENTION_DAYS")]
    pub(crate) slate_retention_days: Option<f64>,
    /// The share of home feeds that are recorded with every candidate, 0 to 1 [default: 1].
    #[arg(long, env = "MILLRACE_SLATE_SAMPLE_RATE")]
    pub(crate) slate_sample_rate: Option<f64>,
    /// Below which directory `backup --to` may write; a server beyond the loopback takes no backups without it.
    #[arg(long, env = "MILLRACE_BACKUP_DIR")]
    pub(crate) backup_dir: Option<PathBuf>,
    /// How many bytes of events a door keeps on its own disk while the log does not take them; 0: none [default: 1 GiB where the
    /// log is an engine].
    #[arg(long, value_name = "BYTES", env = "MILLRACE_SPOOL_BYTES")]
    pub(crate) spool_bytes: Option<u64>,
    /// Where a door keeps them, on a volume that outlives the process; with the log in the data directory, on another disk
    /// than that [default: DATA_DIR/spool where the log is an engine].
    #[arg(long, value_name = "DIR", env = "MILLRACE_SPOOL_DIR")]
    pub(crate) spool_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// How long the log is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Retention {
    /// Every topic but slates, days; `None`: for ever.
    pub(crate) log_days: Option<f64>,
    /// Recorded slates, days.
    pub(crate) slate_days: f64,
}

/// A write key and its name.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceConfig {
    /// The name under which its events are kept.
    pub(crate) name: String,
    /// The key that clients send.
    pub(crate) write_key: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileConfig {
    data_dir: Option<PathBuf>,
    log: Option<String>,
    state: Option<String>,
    online: Option<String>,
    warehouse: Option<String>,
    catalog: Option<String>,
    listen: Option<SocketAddr>,
    roles: Option<Vec<Role>>,
    clock: Option<ClockMode>,
    partitions: Option<u32>,
    api_token: Option<String>,
    retention_days: Option<f64>,
    slate_retention_days: Option<f64>,
    slate_sample_rate: Option<f64>,
    backup_dir: Option<PathBuf>,
    spool_bytes: Option<u64>,
    spool_dir: Option<PathBuf>,
    sources: Vec<SourceConfig>,
    limits: LimitFile,
}

/// Everything decided.
#[derive(Clone)]
pub(crate) struct Config {
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// Where the log is.
    pub(crate) log: Backend,
    /// Where job state is.
    pub(crate) state: Backend,
    /// Where the online store is.
    pub(crate) online: Backend,
    /// Where the warehouse is.
    pub(crate) warehouse: Backend,
    /// Where write keys and settings are.
    pub(crate) catalog: Backend,
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// What runs here.
    pub(crate) roles: BTreeSet<Role>,
    /// What tells log time.
    pub(crate) clock: ClockMode,
    /// Partitions of every topic; `None`: what the data directory has, or the default for a new one.
    pub(crate) partitions: Option<u32>,
    /// Write keys, besides those of the catalog.
    pub(crate) sources: Vec<SourceConfig>,
    /// The token of readers.
    pub(crate) api_token: Option<String>,
    /// For how many days the log is kept, when that is not left to the catalog.
    pub(crate) retention_days: Option<f64>,
    /// For how many days recorded slates are kept in it, when that is not left to the catalog.
    pub(crate) slate_retention_days: Option<f64>,
    /// The share of home feeds that are recorded, when that is not left to the catalog.
    pub(crate) slate_sample_rate: Option<f64>,
    /// Below which directory the administrator may have backups written.
    pub(crate) backup_dir: Option<PathBuf>,
    /// How many bytes the spool may have, when that is not left to the default.
    pub(crate) spool_bytes: Option<u64>,
    /// Where the spool is, when that is not left to the default.
    pub(crate) spool_dir: Option<PathBuf>,
    /// How often who may ask.
    pub(crate) limits: LimitOptions,
}

impl StoreArgs {
    /// The name of each store and its URL.
    pub(crate) fn each(&self) -> [(&'static str, &Option<String>); 5] {
        [
            ("log", &self.log),
            ("state", &self.state),
            ("online", &self.online),
            ("warehouse", &self.warehouse),
            ("catalog", &self.catalog),
        ]
    }

    /// The same engines under a name of their own: what is kept under another one there is neither seen nor touched. The
    /// catalog is the same one, since nothing that follows from events is in it.
    ///
    /// # Errors
    /// When one is not a URL of its store.
    pub(crate) fn apart(&self, name: &str) -> anyhow::Result<Self> {
        let apart = |what, url: &Option<String>, schemes| {
            Backend::read(what, url.as_deref(), schemes).map(|backend| backend.apart(name).into_url())
        };
        Ok(Self {
            log: apart("log", &self.log, LOGS)?,
            state: apart("state", &self.state, STATES)?,
            online: apart("online", &self.online, ONLINE_STORES)?,
            warehouse: apart("warehouse", &self.warehouse, WAREHOUSES)?,
            catalog: Backend::read("catalog", self.catalog.as_deref(), CATALOGS)?.into_url(),
        })
    }
}

impl fmt::Debug for StoreArgs {
    /// Which are given. A URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.each().into_iter().filter_map(|(store, url)| url.as_ref().map(|_| store))).finish()
    }
}

impl fmt::Debug for ConfigArgs {
    /// Where things are. The other flags may hold keys and tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ConfigArgs");
        shown.field("data_dir", &self.data_dir).field("config", &self.config).field("listen", &self.listen);
        shown.field("stores", &self.stores).finish_non_exhaustive()
    }
}

impl Config {
    /// Puts flags, variables, file and defaults together and checks that they are safe together.
    pub(crate) fn load(args: &ConfigArgs) -> anyhow::Result<Config> {
        let file = match &args.config {
            Some(path) => read_file(path)?,
            None => FileConfig::default(),
        };
        let mut sources = file.sources;
        for pair in args.write_keys.iter().flatten() {
            let (name, key) = pair.split_once(':').context("a write key is NAME:KEY, for example web:3f9c...")?;
            sources.push(SourceConfig { name: name.to_owned(), write_key: key.to_owned() });
        }
        for source in &sources {
            ensure!(!source.name.is_empty(), "a write key needs a name");
            ensure!(
                source.write_key.len() >= 8,
                "the write key of source {} is shorter than 8 characters",
                source.name
            );
            ensure!(
                !is_mistyped(source.write_key.as_bytes()),
                "the write key of source {} is invalid: its checksum is wrong; was it copied whole?",
                source.name
            );
        }
        fn of<'a>(given: &'a Option<String>, file: &'a Option<String>) -> Option<&'a str> {
            given.as_deref().or(file.as_deref())
        }
        let roles = args.roles.clone().or(file.roles);
        let listen = args.listen.or(file.listen).unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
        let config = Config {
            data_dir: args.data_dir.clone().or(file.data_dir).unwrap_or_else(|| PathBuf::from("data")),
            log: Backend::read("log", of(&args.stores.log, &file.log), LOGS)?,
            state: Backend::read("state", of(&args.stores.state, &file.state), STATES)?,
            online: Backend::read("online", of(&args.stores.online, &file.online), ONLINE_STORES)?,
            warehouse: Backend::read("warehouse", of(&args.stores.warehouse, &file.warehouse), WAREHOUSES)?,
            catalog: Backend::read("catalog", of(&args.stores.catalog, &file.catalog), CATALOGS)?,
            listen,
            roles: roles
                .map_or_else(|| [Role::Collector, Role::Pipelines, Role::Api].into(), |r| r.into_iter().collect()),
            clock: args.clock.or(file.clock).unwrap_or_default(),
            partitions: args.partitions.or(file.partitions),
            sources,
            api_token: args.api_token.clone().or(file.api_token).filter(|token| !token.is_empty()),
            retention_days: args.retention_days.or(file.retention_days),
            slate_retention_days: args.slate_retention_days.or(file.slate_retention_days),
            slate_sample_rate: args.slate_sample_rate.or(file.slate_sample_rate),
            backup_dir: args.backup_dir.clone().or(file.backup_dir),
            spool_bytes: args.spool_bytes.or(file.spool_bytes),
            spool_dir: args.spool_dir.clone().or(file.spool_dir),
            limits: file.limits.decide(&args.limits, listen.ip().is_loopback())?,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let mut days = [self.retention_days, self.slate_retention_days].into_iter().flatten();
        ensure!(days.all(|days| days > 0.0), "a retention is a number of days above 0");
        let rate = self.slate_sample_rate.unwrap_or(1.0);
        ensure!((0.0..=1.0).contains(&rate), "the sample rate of slates is from 0 to 1");
        ensure!(
            self.state == Backend::Embedded || self.log != Backend::Embedded,
            "--state is at {}, where others can share it, but the log is in the data directory, where they cannot: give --log too",
            self.state
        );
        ensure!(
            self.spool_bytes.unwrap_or(0) == 0 || self.spool_dir.is_some() || self.log != Backend::Embedded,
            "--spool-bytes is given, but the log is in the data directory, and a spool there would be on the same disk: give \
             --spool-dir on another one"
        );
        ensure!(!self.roles.is_empty(), "no role to run: leave --roles out to run all of them");
        if let Some(token) = &self.api_token {
            ensure!(token.len() >= 16, "the API token is shorter than 16 characters");
        }
        Ok(())
    }

    /// Refuses what can only be done where everything is in the data directory.
    ///
    /// # Errors
    /// When a store is elsewhere.
    pub(crate) fn embedded(&self, what: &str) -> anyhow::Result<()> {
        for (name, backend) in [
            ("log", &self.log),
            ("state", &self.state),
            ("online", &self.online),
            ("warehouse", &self.warehouse),
            ("catalog", &self.catalog),
        ] {
            ensure!(
                *backend == Backend::Embedded,
                "`millrace {what}` works on a data directory alone, and --{name} is at {backend}: use what that engine brings"
            );
        }
        Ok(())
    }

    /// Where a door keeps what the log does not take, and how many bytes of it. `None`: nothing. A log in the data directory
    /// would have the same disk, and be away when this is.
    pub(crate) fn spool(&self) -> Option<(PathBuf, u64)> {
        let bytes = self.spool_bytes.unwrap_or(millrace_spool::SPOOL_BYTES);
        let beside_an_engine = (self.log != Backend::Embedded).then(|| self.data_dir.join("spool"));
        let dir = self.spool_dir.clone().or(beside_an_engine)?;
        (bytes > 0 && self.roles.contains(&Role::Collector)).then_some((dir, bytes))
    }

    /// Partitions for a new data directory.
    pub(crate) fn new_partitions(&self) -> u32 {
        self.partitions.unwrap_or(PARTITIONS)
    }

    /// The tables of the warehouse.
    pub(crate) fn warehouse_dir(&self) -> PathBuf {
        self.data_dir.join("warehouse")
    }

    /// The database.
    pub(crate) fn database_dir(&self) -> PathBuf {
        self.data_dir.join("db")
    }
}

fn read_file(path: &Path) -> anyhow::Result<FileConfig> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the config file {}", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| 1 + text.get(..span.start).unwrap_or_default().matches('\n').count());
        anyhow!("cannot understand the config file {}: {}, in line {line}", path.display(), told(&error))
    })
}

/// What is wrong with a file, without the line itself or a value: either may be a key.
fn told(error: &toml::de::Error) -> &str {
    let what = error.message();
    if ["unknown", "missing", "duplicate"].iter().any(|begin| what.starts_with(begin)) {
        return what;
    }
    "it is not TOML, or a value has another type than it should"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(listen: &str, keys: &[&str], token: Option<&str>) -> anyhow::Result<Config> {
        Config::load(&ConfigArgs {
            listen: Some(listen.parse()?),
            write_keys: Some(keys.iter().map(|k| (*k).to_owned()).collect()),
            api_token: token.map(str::to_owned),
            ..ConfigArgs::default()
        })
    }

    #[test]
    fn bad_keys_are_refused_with_the_reason() {
        let refused = |key: &str| load("127.0.0.1:1", &[key], None).err().unwrap().to_string();
        assert!(refused("nocolon").contains("NAME:KEY"));
        assert!(refused("web:short").contains("shorter than 8"));
        assert!(refused(":12345678").contains("needs a name"));
        let cut = refused("web:mr_wk_0000000000");
        assert!(cut.contains("source web") && cut.contains("its checksum is wrong") && !cut.contains("0000"), "{cut}");
    }

    #[test]
    fn flags_do_not_show_what_is_secret() {
        let args = ConfigArgs {
            write_keys: Some(vec!["web:hunter2hunter2".to_owned()]),
            api_token: Some("hunter2hunter2hunter2".to_owned()),
            ..ConfigArgs::default()
        };
        assert!(!format!("{args:?}").contains("hunter2"), "{args:?}");
    }

    #[test]
    fn stores_apart_are_engines_of_the_same_kind_and_say_no_password() {
        let given = StoreArgs {
            log: Some("kafka://h:1/p".to_owned()),
            catalog: Some("postgres://u:secret@h/d".to_owned()),
            ..StoreArgs::default()
        };
        let apart = given.apart("run").unwrap();
        assert_eq!(apart.log.as_deref(), Some("kafka://h:1/p-run"));
        assert_eq!((apart.catalog, apart.online), (given.catalog.clone(), None));
        assert_eq!(format!("{given:?}"), "{\"log\", \"catalog\"}");
        let wrong = StoreArgs { online: Some("kafka://h:1".to_owned()), ..StoreArgs::default() };
        assert!(wrong.apart("run").unwrap_err().to_string().contains("--online cannot be at kafka://"));
    }

    #[test]
    fn a_spool_is_before_an_engine_or_on_a_disk_of_its_own() {
        let spool = |log: Option<&str>, dir: Option<&str>, bytes: Option<u64>| {
            let stores = StoreArgs { log: log.map(str::to_owned), ..StoreArgs::default() };
            let args =
                ConfigArgs { stores, spool_dir: dir.map(PathBuf::from), spool_bytes: bytes, ..ConfigArgs::default() };
            Config::load(&args).map(|config| config.spool())
        };
        let (kafka, default) = (Some("kafka://h:1/p"), millrace_spool::SPOOL_BYTES);
        assert_eq!(spool(None, None, None).unwrap(), None);
        assert_eq!(spool(kafka, None, None).unwrap(), Some(("data/spool".into(), default)));
        assert_eq!(spool(kafka, Some("/x"), Some(7)).unwrap(), Some(("/x".into(), 7)));
        assert_eq!(spool(kafka, None, Some(0)).unwrap(), None);
        assert_eq!(spool(None, Some("/x"), None).unwrap(), Some(("/x".into(), default)));
        assert!(spool(None, None, Some(7)).unwrap_err().to_string().contains("on the same disk"));
    }

    #[test]
    fn a_file_gives_what_flags_leave_open_and_unknown_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.toml");
        std::fs::write(
            &path,
            "clock = \"replay\"\nroles = [\"api\"]\n[[sources]]\nname = \"a\"\nwrite_key = \"12345678\"\n",
        )
        .unwrap();
        let args = ConfigArgs { config: Some(path.clone()), clock: Some(ClockMode::Wall), ..ConfigArgs::default() };
        let config = Config::load(&args).unwrap();
        assert_eq!((config.clock, config.roles.len(), config.sources.len()), (ClockMode::Wall, 1, 1));
        std::fs::write(&path, "\nclok = \"replay\"").unwrap();
        let refused = format!("{:#}", Config::load(&args).err().unwrap());
        assert!(refused.contains("clok") && refused.contains("line 2"), "{refused}");
        for spoiled in
            ["api_token = hunter2", "sources = \"hunter2\"", "api_token = \"hunter2\" x", "listen = \"hunter2\""]
        {
            std::fs::write(&path, spoiled).unwrap();
            let refused = format!("{:#}", Config::load(&args).err().unwrap());
            assert!(refused.contains("line 1") && !refused.contains("hunter2"), "{refused}");
        }
    }
}
