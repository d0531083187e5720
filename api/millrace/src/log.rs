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
    let (options, failed) = (kafka_options(config, url)?, || format!("cannot open the log at {}", config.log));
    // Before topics are made: a wrong URL leaves nothing behind.
    let name = KafkaLog::identify(&options).await.with_context(failed)?;
    follow(&config.data_dir, embedded, &name)?;
    let log = KafkaLog::open(options).await.with_context(failed)?;
    Ok(Opened { log: log.clone(), kafka: Some(log), name })
}

/// The same for a server: one that has a spool takes events in while Kafka does not answer, also when it starts then, as long
/// as it is known which log they are for.
pub(crate) async fn open_to_serve(config: &Config, embedded: &Arc<Embedded>) -> anyhow::Result<Opened> {
    let why = match open(config, embedded).await {
        Ok(opened) => return Ok(opened),
        Err(error) => error,
    };
    let Backend::Engine { url, .. } = &config.log else { return Err(why) };
    let is_away = why.downcast_ref::<millrace_log::Error>().is_some_and(|error| error.kind() == ErrorKind::Retry);
    let options = kafka_options(config, url)?;
    let known = followed(&config.data_dir, embedded)?;
    let Some(name) = known.filter(|name| is_away && may_start_without(config) && is_of(name, &options)) else {
        return Err(why);
    };
    note(&format!("{why:#}; events are kept in the spool until it does"));
    let log = KafkaLog::open_unanswered(options, name.clone())?;
    Ok(Opened { log: log.clone(), kafka: Some(log), name })
}

/// A replay goes on from the newest time in the log, and a group whose members hold shared job state must be that of the right log.
fn may_start_without(config: &Config) -> bool {
    let shares_state = config.state != Backend::Embedded && config.roles.contains(&Role::Pipelines);
    config.spool().is_some() && config.clock == ClockMode::Wall && !shares_state
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
    let (path, fresh) = (dir.join(NAME), dir.join(format!("{NAME}.new")));
    let write = || {
        std::fs::write(&fresh, log)?;
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
