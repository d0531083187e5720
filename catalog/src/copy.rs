//! The last content that was good, in a file, for a process that starts while the catalog is away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Document, Entry, Revision};

/// What this version writes.
const FORMAT: u32 = 1;
/// What a file may hold besides documents, in bytes: names and times.
const OVERHEAD_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Wire {
    format: u32,
    kinds: Vec<String>,
    revision: u64,
    confirmed_ms: i64,
    entries: Vec<WireEntry>,
}

#[derive(Serialize, Deserialize)]
struct WireEntry {
    kind: String,
    name: String,
    revision: u64,
    created_ms: i64,
    updated_ms: i64,
    document: Box<RawValue>,
}

/// All entries of some kinds.
pub(crate) struct Copy {
    pub(crate) kinds: Vec<String>,
    pub(crate) revision: Revision,
    pub(crate) confirmed_ms: i64,
    pub(crate) entries: Vec<Entry>,
}

/// Writes it beside `path` and puts it there in one step, so that a reader finds the old one or the new one. Only its owner may
/// read it: it holds keys.
pub(crate) fn save(path: &Path, copy: Copy) -> io::Result<()> {
    let entry = |entry: Entry| -> io::Result<WireEntry> {
        Ok(WireEntry {
            kind: entry.kind,
            name: entry.name,
            revision: entry.revision.0,
            created_ms: entry.created_ms,
            updated_ms: entry.updated_ms,
            document: RawValue::from_string(entry.document.as_str().to_owned())?,
        })
    };
    let entries: io::Result<Vec<WireEntry>> = copy.entries.into_iter().map(entry).collect();
    let wire = Wire {
        format: FORMAT,
        kinds: copy.kinds,
        revision: copy.revision.0,
        confirmed_ms: copy.confirmed_ms,
        entries: entries?,
    };
    let text = serde_json::to_vec(&wire)?;
    let fresh = beside(path)?;
    // Left by a process of this number that was killed while it wrote.
    match fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    let written = file.write_all(&text).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&fresh, path));
    if let Err(error) = written {
        // The first error is the one to tell.
        drop(fs::remove_file(&fresh));
        return Err(error);
    }
    File::open(folder(path))?.sync_all()
}

/// Reads it. `bytes_max` bounds its documents.
pub(crate) fn load(path: &Path, bytes_max: usize) -> io::Result<Copy> {
    let limit = (bytes_max as u64).saturating_add(OVERHEAD_BYTES_MAX);
    let mut text = String::new();
    File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes")));
    }
    let damaged = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let wire: Wire = serde_json::from_str(&text)
        .map_err(|e| damaged(format!("it is no copy of a catalog, from line {} column {}", e.line(), e.column())))?;
    if wire.format != FORMAT {
        return Err(damaged(format!("its format is {}, this version knows {FORMAT}", wire.format)));
    }
    let entry = |entry: WireEntry| -> io::Result<Entry> {
        Ok(Entry {
            document: Document::parse(entry.document.get()).map_err(|e| damaged(e.to_string()))?,
            kind: entry.kind,
            name: entry.name,
            revision: Revision(entry.revision),
            created_ms: entry.created_ms,
            updated_ms: entry.updated_ms,
        })
    };
    let entries: io::Result<Vec<Entry>> = wire.entries.into_iter().map(entry).collect();
    Ok(Copy {
        kinds: wire.kinds,
        revision: Revision(wire.revision),
        confirmed_ms: wire.confirmed_ms,
        entries: entries?,
    })
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
    let mut fresh = name.to_owned();
    fresh.push(format!(".{}.new", std::process::id()));
    Ok(folder(path).join(fresh))
}
