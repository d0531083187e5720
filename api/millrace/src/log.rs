//! The log of this process: in the data directory, or on Apache Kafka. Job state stays in the data directory and follows one log.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use millrace_embedded::Embedded;
use millrace_log::{EventLog, FjallLog, FjallLogOptions};
use millrace_log_kafka::{KafkaLog, KafkaOptions, cloud_event_headers};

use crate::config::{Backend, Config};

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

/// Makes sure that the state in `dir` follows this log: an offset of one log means nothing in another.
fn follow(dir: &Path, embedded: &Arc<Embedded>, log: &str) -> anyhow::Result<()> {
    let path = dir.join(NAME);
    let known = match std::fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => Some(name.trim().to_owned()),
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            FjallLog::made_with(embedded)?.map(|_| EMBEDDED.to_owned())
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    if let Some(known) = known {
        ensure!(
            known == log,
            "the job state in {} follows the log `{known}`, not `{log}`: give --log as it was, or another --data-dir, in which \
             state is made again from the log",
            dir.display()
        );
        return Ok(());
    }
    let fresh = dir.join(format!("{NAME}.new"));
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
    fn a_directory_with_a_log_in_it_follows_that_one() {
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::open(dir.path().join("db"), Options::default()).unwrap();
        FjallLog::open(embedded.clone(), FjallLogOptions::default()).unwrap().close();
        assert!(follow(dir.path(), &embedded, "kafka a/x").is_err());
        follow(dir.path(), &embedded, EMBEDDED).unwrap();
    }
}
