//! The two objects that say what the state beside them is: its format, and the log that its offsets are of.

use std::sync::Arc;

use slatedb::object_store::path::Path;
use slatedb::object_store::{
    Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};

use crate::{Error, Result};

/// The format of what is stored: paths, keys and the meaning of their values. A process reads its own and older ones, and
/// refuses newer ones.
pub const FORMAT: u32 = 1;

/// The longest marker that is read, in bytes.
const BYTES_MAX: u64 = 4096;

/// How often a marker that others change at the same time is looked at again.
const TURNS_MAX: u32 = 8;

/// The name of the object that has the format.
const FORMAT_NAME: &str = "format";

/// The name of the object that has the log's name.
const LOG_NAME: &str = "log-name";

/// Makes sure that a process of format `ours` may use what is below `at`, and that older ones refuse it from now on.
pub(crate) async fn check_format(store: &Arc<dyn ObjectStore>, at: &Path, ours: u32) -> Result<()> {
    let path = at.clone().join(FORMAT_NAME);
    for _ in 0..TURNS_MAX {
        let Some((text, version)) = read(store, &path).await? else {
            create(store, &path, &ours.to_string()).await?;
            continue;
        };
        let found: u32 = text.trim().parse().map_err(|_| {
            Error::refused(format!(
                "{path} has no format in it, but `{text}`: something else writes there, use another prefix"
            ))
        })?;
        if found > ours {
            return Err(Error::refused(format!(
                "the state below {at} was made by a newer version (format {found}, this one knows up to {ours}): upgrade this process"
            )));
        }
        if found == ours || replace(store, &path, &ours.to_string(), version).await? {
            return Ok(());
        }
    }
    Err(Error::refused(format!("{path} changes all the time: something else writes there, use another prefix")))
}

/// Only that the format is not newer: for each partition that is opened, since another process may have gone ahead.
pub(crate) async fn check_not_newer(store: &Arc<dyn ObjectStore>, at: &Path, ours: u32) -> Result<()> {
    let path = at.clone().join(FORMAT_NAME);
    match read(store, &path).await? {
        Some((text, _)) if text.trim().parse().is_ok_and(|found: u32| found <= ours) => Ok(()),
        _ => check_format(store, at, ours).await,
    }
}

/// Makes sure that what is below `at` follows `log`.
pub(crate) async fn follow(store: &Arc<dyn ObjectStore>, at: &Path, log: &str) -> Result<()> {
    if log.is_empty() || log.len() as u64 > BYTES_MAX || log.trim() != log {
        return Err(Error::invalid(format!(
            "`{log}` cannot name a log: it must have 1 to {BYTES_MAX} bytes and no space around it"
        )));
    }
    let path = at.clone().join(LOG_NAME);
    for _ in 0..TURNS_MAX {
        match read(store, &path).await? {
            None => create(store, &path, log).await?,
            Some((known, _)) if known.trim() == log => return Ok(()),
            Some((known, _)) => {
                let known = known.trim();
                return Err(Error::refused(format!(
                    "the job state below {at} follows the log `{known}`, not `{log}`: give the log as it was, or another prefix \
                     for the state, in which it is made again from the log"
                )));
            }
        }
    }
    Err(Error::refused(format!("{path} comes and goes: something else writes there, use another prefix")))
}

async fn read(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Option<(String, UpdateVersion)>> {
    let found = match store.get(path).await {
        Ok(found) => found,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(failed("read", path, error)),
    };
    let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
    if found.meta.size > BYTES_MAX {
        return Err(Error::refused(format!("{path} is too large: something else writes there, use another prefix")));
    }
    let bytes = found.bytes().await.map_err(|error| failed("read", path, error))?;
    let text = String::from_utf8(bytes.into())
        .map_err(|_| Error::refused(format!("{path} is no text: something else writes there, use another prefix")))?;
    Ok(Some((text, version)))
}

/// Puts it where nothing is; whoever was faster has won.
async fn create(store: &Arc<dyn ObjectStore>, path: &Path, text: &str) -> Result<()> {
    match store.put_opts(path, PutPayload::from(text.to_owned()), PutOptions::from(PutMode::Create)).await {
        Ok(_) | Err(StoreError::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(failed("write", path, error)),
    }
}

/// False when it was not any more what it was.
async fn replace(store: &Arc<dyn ObjectStore>, path: &Path, text: &str, version: UpdateVersion) -> Result<bool> {
    match store.put_opts(path, PutPayload::from(text.to_owned()), PutOptions::from(PutMode::Update(version))).await {
        Ok(_) => Ok(true),
        Err(StoreError::Precondition { .. } | StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(failed("write", path, error)),
    }
}

fn failed(attempted: &str, path: &Path, error: StoreError) -> Error {
    Error::retry(format!("cannot {attempted} {path} in the object store"), error)
}

#[cfg(test)]
mod tests;
