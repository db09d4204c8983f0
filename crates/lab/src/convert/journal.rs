//! What an interrupted conversion leaves beside its unfinished file: how far it came, and from which shards.
//!
//! `FILE.part` holds the header and a number of finished pieces; `FILE.part.json` says how many can be relied on. The
//! journal is written to another name first and renamed, after the pieces that it counts have reached the disk, so
//! whatever kills the program, what it says is true.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Error, io};
use super::source::{Stamp, read_limited};

/// Changes with how tensors are cut into pieces and how values are rounded.
const VERSION: u32 = 1;
/// Longest journal that is read, bytes.
const LONGEST: u64 = 16 << 20;

/// The journal's content.
#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    /// Finished pieces, from the first.
    done: usize,
    /// Pieces in all.
    pieces: usize,
    shards: Vec<Stamp>,
}

/// The journal of one conversion.
pub(super) struct Journal {
    path: PathBuf,
    content: Content,
}

/// `path` with `end` appended.
pub(super) fn appended(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

impl Journal {
    /// The journal beside `part`, of a conversion from `shards` in so many `pieces` that has done nothing yet.
    pub(super) fn new(part: &Path, shards: Vec<Stamp>, pieces: usize) -> Self {
        Self { path: appended(part, ".json"), content: Content { version: VERSION, done: 0, pieces, shards } }
    }

    /// How many pieces of `part` are there already. `Err` says why what is there cannot be continued: it was made from
    /// other shards, with other options (`header` is what `part` must begin with), or by another program.
    pub(super) fn resume(&self, part: &File, header: &[u8], size: u64) -> Result<usize, String> {
        let there = part.metadata().map_err(|e| e.to_string())?.len();
        if there == 0 {
            return Ok(0);
        }
        let bytes = read_limited(&self.path, LONGEST).map_err(|e| format!("cannot be continued: {e}"))?;
        let old: Content = serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", self.path.display()))?;
        if old.done == 0 {
            return Ok(0);
        }
        if old.version != VERSION || old.done > old.pieces {
            return Err("was begun by another version of ds4".into());
        }
        if let Some(changed) = difference(&old.shards, &self.content.shards) {
            return Err(format!("{changed} since this was begun"));
        }
        let mut begin = vec![0; header.len()];
        let same = there == size && part.read_exact_at(&mut begin, 0).is_ok() && begin == header;
        match same && old.pieces == self.content.pieces {
            true => Ok(old.done),
            false => Err("was begun with another configuration, tokenizer or options".into()),
        }
    }

    /// Says that the first `done` pieces are there; they must be on the disk.
    pub(super) fn write(&mut self, done: usize) -> Result<(), Error> {
        self.content.done = done;
        let new = appended(&self.path, ".new");
        let json = serde_json::to_vec(&self.content).map_err(|e| Error::Io(new.clone(), e.into()))?;
        let mut file = File::create(&new).map_err(io(&new))?;
        file.write_all(&json).and_then(|()| file.sync_all()).map_err(io(&new))?;
        fs::rename(&new, &self.path).map_err(io(&self.path))?;
        sync_folder(&self.path)
    }

    /// The conversion is finished.
    pub(super) fn remove(self) -> Result<(), Error> {
        fs::remove_file(&self.path).map_err(io(&self.path))
    }
}

/// The first shard that is not what it was.
fn difference(old: &[Stamp], new: &[Stamp]) -> Option<String> {
    let changed = new.iter().find(|n| !old.contains(n)).map(|n| format!("shard {} changed", n.name));
    let gone = || old.iter().find(|o| !new.contains(o)).map(|o| format!("shard {} went away", o.name));
    changed.or_else(gone)
}

/// Makes a rename in the folder of `path` outlast a power cut.
pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = folder_of(path);
    File::open(folder).and_then(|f| f.sync_all()).map_err(io(folder))
}

/// The folder that `path` is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
