//! From one catalog to another.

use crate::{Catalog, Entry, Error, ErrorKind, Expect, KeyUse, PAGE_MAX, Record as _, Result};

/// What servers write by themselves, in a backup's time too: it is copied as it is at some moment, and not compared.
const RESTLESS: &str = KeyUse::KIND;

/// Copies all entries of `from` into `to`, checks that they hold the same, and tells how many there are. Revisions and times
/// are those of `to`. Nobody may change `from` meanwhile, but by using keys; what was cut short may be repeated.
///
/// # Errors
/// [`ErrorKind::Conflict`] when `to` holds something else, which is left as it is; else as of [`Catalog`].
pub async fn transfer(from: &dyn Catalog, to: &dyn Catalog) -> Result<usize> {
    let mut count = 0;
    for kind in from.kinds().await? {
        let mut after: Option<String> = None;
        loop {
            let page = from.list(&kind, after.as_deref(), PAGE_MAX).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            count += page.len();
            for entry in &page {
                take(to, entry).await?;
            }
        }
    }
    check_nothing_else(from, to).await?;
    Ok(count)
}

async fn take(to: &dyn Catalog, entry: &Entry) -> Result<()> {
    match to.get(&entry.kind, &entry.name).await? {
        None => to.put(&entry.kind, &entry.name, &entry.document, Expect::Absent).await.map(drop),
        Some(there) if there.document == entry.document => Ok(()),
        Some(_) if entry.kind == RESTLESS => {
            to.put(&entry.kind, &entry.name, &entry.document, Expect::Any).await.map(drop)
        }
        Some(there) => Err(stranger(&there)),
    }
}

/// After all of `from` is there, `to` has nothing that `from` has not.
async fn check_nothing_else(from: &dyn Catalog, to: &dyn Catalog) -> Result<()> {
    for kind in to.kinds().await?.into_iter().filter(|kind| kind != RESTLESS) {
        let mut after: Option<String> = None;
        loop {
            let page = to.list(&kind, after.as_deref(), PAGE_MAX).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            for there in page {
                let origin = from.get(&there.kind, &there.name).await?;
                if origin.is_none_or(|origin| origin.document != there.document) {
                    return Err(stranger(&there));
                }
            }
        }
    }
    Ok(())
}

fn stranger(there: &Entry) -> Error {
    let why = format!(
        "cannot copy the catalog: the other one holds a different {} {:?}; take one that is empty",
        there.kind, there.name
    );
    Error::new(ErrorKind::Conflict(Some(there.revision)), why)
}
