//! Where a platform under test keeps what it has.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Args;
use crate::assemble::random_token;
use crate::config::{ClockMode, Config, ConfigArgs, StoreArgs};

/// The variable that says what is logged: the only one that holds for a platform under test too.
const LOG_VARIABLE: &str = "MILLRACE_LOG";

/// A folder that is thrown away; and where engines were named, names on them that nobody else uses. What is kept under those
/// stays there: the engines are for throwing away too.
pub(super) struct Place {
    dir: tempfile::TempDir,
    stores: StoreArgs,
    partitions: Option<u32>,
}

impl Place {
    /// A new one, for one platform.
    pub(super) fn fresh(args: &Args) -> anyhow::Result<Self> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("millrace-bench-");
        let dir = match &args.dir {
            Some(dir) => builder.tempdir_in(dir)?,
            None => builder.tempdir()?,
        };
        // Engines outlive runs, so a number that is counted here would come again.
        let name = format!("bench-{:.12}", random_token()?);
        Ok(Self { dir, stores: args.stores.apart(&name)?, partitions: args.partitions })
    }

    /// The same stores with another number of partitions; before anything is in them.
    pub(super) fn with_partitions(self, partitions: u32) -> Self {
        Self { partitions: Some(partitions), ..self }
    }

    /// True where several processes can share the work: nothing but scratch is in the folder.
    pub(super) fn is_shared(&self) -> bool {
        [&self.stores.log, &self.stores.state, &self.stores.online].iter().all(|url| url.is_some())
    }

    /// Where the stores are, in a word.
    pub(super) fn kind(&self) -> &'static str {
        if self.stores.each().iter().all(|(_, url)| url.is_none()) { "embedded" } else { "engines" }
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A folder in it, for one of several processes.
    pub(super) fn below(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The stores for this process, in the time of the events.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        Config::load(&ConfigArgs {
            data_dir: Some(self.dir.path().to_path_buf()),
            stores: self.stores.clone(),
            partitions: self.partitions,
            clock: Some(ClockMode::Replay),
            ..ConfigArgs::default()
        })
    }

    /// `millrace up` on these stores with `dir` for its own, and with nothing of what is set for another Millrace.
    pub(super) fn up(&self, dir: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MILLRACE_") && name != LOG_VARIABLE {
                command.env_remove(name);
            }
        }
        // Not as arguments: any process may read those, and there are passwords in them.
        for (store, url) in self.stores.each() {
            if let Some(url) = url {
                command.env(format!("MILLRACE_{}_URL", store.to_uppercase()), url);
            }
        }
        command.arg("up").arg("--data-dir").arg(dir);
        if let Some(partitions) = self.partitions {
            command.arg("--partitions").arg(partitions.to_string());
        }
        Ok(command)
    }
}
