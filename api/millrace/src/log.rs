//! The log of this process: in the data directory, or on Apache Kafka. Job state stays in the data directory and follows one log.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use millrace_embedded::Embedded;
use millrace_log::{ErrorKind, EventLog, FjallLog, FjallLogOptions};
use millrace_log_kafka::{KafkaLog, KafkaOptions, cloud_event_headers};

use crate::commands::client::note;
use crate::config::{Backend, ClockMode, Config, Role};

/// The file of a data directory that names the log its job state follows. Without it that is the log in the directory.
const NAME: &str = "log-name";

/// The file that says how many partitions that log has, where it is on Kafka.
const PARTITIONS: &str = "log-partitions";

/// The name of a log in the data directory.
const EMBEDDED: &str = "embedded";

/// An open log.
pub(crate) struct Opened {
    pub(crate) log: Arc<dyn EventLog>,
    /// The log again, where it is on Kafka.
    pub(crate) kafka: Option<Arc<KafkaLog>>,
    /// Which log it is: what follows it keeps this.
    pub(crate) name: String,
}

/// Opens the log, wherever it is, making it when it is not there.
pub(crate) async fn open(config: &Config, embedded: &Arc<Embedded>) -> anyhow::Result<Opened> {
    let Backend::Engine { url, .. } = &config.log else {
        follow(&config.data_dir, embedded, EMBEDDED)?;
        let (config, embedded) = (config.clone(), embedded.clone());
        // Reads the disk.
        let log = tokio::task::spawn_blocking(move || in_data_dir(&config, &embedded)).await??;
        return Ok(Opened { log, kafka: None, name: EMBEDDED.to_owned() });
    };
    let options = kafka_options(config, url)?;
    // Before topics are made: a wrong URL leaves nothing behind.
    let name = KafkaLog::identify(&options).await.with_context(|| cannot_open(config))?;
    open_known(config, embedded, options, name).await
}

/// The same for a server: one that has a spool takes events in while Kafka does not answer, also when it starts then, as long
/// as it is known which log they are for.
pub(crate) async fn open_to_serve(config: &Config, embedded: &Arc<Embedded>) -> anyhow::Result<Opened> {
    let Backend::Engine { url, .. } = &config.log else { return open(config, embedded).await };
    let options = kafka_options(config, url)?;
    let why = match KafkaLog::identify(&options).await {
        Ok(name) => return open_known(config, embedded, options, name).await,
        Err(error) => error,
    };
    let known = known_unasked(config, embedded, &options)?.filter(|_| why.kind() == ErrorKind::Retry);
    let Some(name) = known else { return Err(why).with_context(|| cannot_open(config)) };
    note(&format!("{}: {why}; events are kept in the spool until it answers", config.log));
    let log = KafkaLog::open_unanswered(options, name.clone())?;
    Ok(Opened { log: log.clone(), kafka: Some(log), name })
}

/// Opens the log on Kafka that has said its name.
async fn open_known(
    config: &Config,
    embedded: &Arc<Embedded>,
    options: KafkaOptions,
    name: String,
) -> anyhow::Result<Opened> {
    follow(&config.data_dir, embedded, &name)?;
    let partitions = options.partitions;
    let log = KafkaLog::open(options).await.with_context(|| cannot_open(config))?;
    // Its topics have as many.
    if made_with(&config.data_dir) != Some(partitions) {
        write(&config.data_dir, PARTITIONS, &partitions.to_string())?;
    }
    Ok(Opened { log: log.clone(), kafka: Some(log), name })
}

fn cannot_open(config: &Config) -> String {
    format!("cannot open the log at {}", config.log)
}

/// How many partitions the log on Kafka had when it was opened last. An actor's events go to one of them, so a door that cannot
/// ask must know.
fn made_with(dir: &Path) -> Option<u32> {
    std::fs::read_to_string(dir.join(PARTITIONS)).ok()?.trim().parse().ok()
}

/// The log that a server may start for while it does not answer, if there is one that it knows.
fn known_unasked(config: &Config, embedded: &Arc<Embedded>, options: &KafkaOptions) -> anyhow::Result<Option<String>> {
    // A replay goes on from the newest time in the log; and workers that share their state must not meet in the group of
    // another.
    let shares_state = config.state != Backend::Embedded && config.roles.contains(&Role::Pipelines);
    if config.spool().is_none() || config.clock == ClockMode::Replay || shares_state {
        return Ok(None);
    }
    let is_made_so = made_with(&config.data_dir) == Some(options.partitions);
    Ok(followed(&config.data_dir, embedded)?.filter(|name| is_made_so && is_of(name, options)))
}

/// Whether a log of this name may be the one of these options, as far as can be told without asking.
fn is_of(name: &str, options: &KafkaOptions) -> bool {
    name.strip_prefix("kafka ")
        .and_then(|name| name.split_once('/'))
        .is_some_and(|(_, prefix)| prefix == options.prefix)
}

/// What Kafka is asked for at this URL.
pub(crate) fn kafka_options(config: &Config, url: &str) -> millrace_log::Result<KafkaOptions> {
    let options = KafkaOptions::from_url(url)?;
    let partitions = config.partitions.unwrap_or(options.partitions);
    Ok(KafkaOptions { partitions, headers: Some(cloud_event_headers()), ..options })
}

fn in_data_dir(config: &Config, embedded: &Arc<Embedded>) -> anyhow::Result<Arc<dyn EventLog>> {
    let partitions = match config.partitions {
        Some(partitions) => partitions,
        None => FjallLog::made_with(embedded)?.unwrap_or_else(|| config.new_partitions()),
    };
    Ok(FjallLog::open(embedded.clone(), FjallLogOptions { partitions, ..FjallLogOptions::default() })?)
}

/// The name of the log that the state in `dir` follows; `None` when it follows none yet.
fn followed(dir: &Path, embedded: &Arc<Embedded>) -> anyhow::Result<Option<String>> {
    let path = dir.join(NAME);
    match std::fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => Ok(Some(name.trim().to_owned())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(FjallLog::made_with(embedded)?.map(|_| EMBEDDED.to_owned()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Makes sure that the state in `dir` follows this log: an offset of one log means nothing in another.
fn follow(dir: &Path, embedded: &Arc<Embedded>, log: &str) -> anyhow::Result<()> {
    if let Some(known) = followed(dir, embedded)? {
        ensure!(
            known == log,
            "the job state in {} follows the log `{known}`, not `{log}`: give --log as it was, or another --data-dir, in which \
             state is made again from the log",
            dir.display()
        );
        return Ok(());
    }
    write(dir, NAME, log)
}

/// Writes a file of the data directory, whole or not at all.
fn write(dir: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let (path, fresh) = (dir.join(name), dir.join(format!("{name}.new")));
    let write = || {
        std::fs::write(&fresh, text)?;
        std::fs::File::open(&fresh)?.sync_all()?;
        std::fs::rename(&fresh, &path)?;
        std::fs::File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use millrace_embedded::Options;

    use super::*;
    use crate::config::ConfigArgs;

    #[test]
    fn state_follows_one_log() {
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::open(dir.path().join("db"), Options::default()).unwrap();
        follow(dir.path(), &embedded, "kafka a/x").unwrap();
        follow(dir.path(), &embedded, "kafka a/x").unwrap();
        let refused = follow(dir.path(), &embedded, EMBEDDED).unwrap_err().to_string();
        assert!(refused.contains("follows the log `kafka a/x`, not `embedded`"), "{refused}");
    }

    #[test]
    fn a_server_starts_without_its_log_only_when_it_knows_it_and_can_do_without() {
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::open(dir.path().join("db"), Options::default()).unwrap();
        let known = |change: fn(&mut ConfigArgs)| {
            let mut args = ConfigArgs { data_dir: Some(dir.path().to_owned()), ..ConfigArgs::default() };
            args.stores.log = Some("kafka://h:1/x".to_owned());
            change(&mut args);
            let config = Config::load(&args).unwrap();
            let Backend::Engine { url, .. } = &config.log else { panic!("it is on Kafka") };
            known_unasked(&config, &embedded, &kafka_options(&config, url).unwrap()).unwrap()
        };
        assert_eq!(known(|_| {}), None, "it was never there");
        follow(dir.path(), &embedded, "kafka a/x").unwrap();
        assert_eq!(known(|_| {}), None, "nobody knows how many partitions it has");
        write(dir.path(), PARTITIONS, "4").unwrap();
        let name = Some("kafka a/x".to_owned());
        assert_eq!(known(|_| {}), name);
        assert_eq!(known(|args| args.partitions = Some(5)), None);
        assert_eq!(known(|args| args.stores.log = Some("kafka://h:1/y".to_owned())), None);
        assert_eq!(known(|args| args.clock = Some(ClockMode::Replay)), None);
        assert_eq!(known(|args| args.spool_bytes = Some(0)), None);
        assert_eq!(known(|args| args.stores.state = Some("s3://k:s@b/p".to_owned())), None);
        let door = |args: &mut ConfigArgs| {
            args.stores.state = Some("s3://k:s@b/p".to_owned());
            args.roles = Some(vec![Role::Collector, Role::Api]);
        };
        assert_eq!(known(door), name);
    }

    #[test]
    fn what_tells_logs_apart_without_asking_is_their_prefix() {
        let options = KafkaOptions { prefix: "x".to_owned(), ..KafkaOptions::default() };
        assert!(is_of("kafka a/x", &options));
        for other in ["kafka a/y", "kafka a/x/x", "embedded", "kafka x"] {
            assert!(!is_of(other, &options), "{other}");
        }
    }

    #[test]
    fn a_directory_with_a_log_in_it_follows_that_one() {
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::open(dir.path().join("db"), Options::default()).unwrap();
        FjallLog::open(embedded.clone(), FjallLogOptions::default()).unwrap().close();
        assert!(follow(dir.path(), &embedded, "kafka a/x").is_err());
        follow(dir.path(), &embedded, EMBEDDED).unwrap();
    }
}
