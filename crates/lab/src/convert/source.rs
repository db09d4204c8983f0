//! A checkpoint folder: its shards and what lies where.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use ds4_gguf::printable;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::error::{Error, Problems, io};
use super::{index, shard};

/// Longest index that is read, bytes.
const LONGEST_INDEX: u64 = 256 << 20;

/// The tensors of a folder.
pub(super) struct Source {
    pub(super) folder: PathBuf,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Found>,
    index: BTreeMap<String, String>,
    /// Shards that cannot be read.
    broken: BTreeSet<String>,
}

struct Shard {
    name: String,
    path: PathBuf,
    file: File,
}

/// A tensor in a shard.
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) dtype: Dtype,
    /// Outermost first.
    pub(super) shape: Vec<usize>,
}

/// A byte in a shard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    shard: usize,
    offset: u64,
}

/// What tells whether a shard is the one that it was.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) name: String,
    bytes: u64,
    /// Time of the last change, nanoseconds since 1970.
    modified: u64,
}

impl Source {
    /// Reads the headers of the shards that the index names, or of all `*.safetensors` where there is no index.
    pub(super) fn open(folder: &Path, problems: &mut Problems) -> Result<Self, Error> {
        let mut source = Self {
            folder: folder.into(),
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            index: BTreeMap::new(),
            broken: BTreeSet::new(),
        };
        for name in source.shard_names(problems)? {
            let path = folder.join(&name);
            match shard::open(&path) {
                Ok((file, tensors, data)) => source.add(Shard { name, path, file }, tensors, data, problems),
                Err(why) => {
                    problems.add(format!("{}: {why}", printable(&path.to_string_lossy())));
                    source.broken.insert(name);
                }
            }
        }
        source.compare_with_index(problems);
        Ok(source)
    }

    fn shard_names(&mut self, problems: &mut Problems) -> Result<BTreeSet<String>, Error> {
        let path = self.folder.join(index::FILE);
        if path.exists() {
            match index::parse_index(&read_limited(&path, LONGEST_INDEX)?) {
                Ok(map) => self.index = map,
                Err(why) => problems.add(format!("{}: {why}", path.display())),
            }
            return Ok(self.index.values().cloned().collect());
        }
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(&self.folder).map_err(io(&self.folder))? {
            let path = entry.map_err(io(&self.folder))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if name.ends_with(".safetensors") {
                names.insert(name.to_string());
            }
        }
        if names.is_empty() {
            problems.add(format!("{}: no *.safetensors file in this folder", self.folder.display()));
        }
        Ok(names)
    }

    fn add(&mut self, shard: Shard, tensors: Vec<shard::Stored>, data: u64, problems: &mut Problems) {
        for tensor in tensors {
            let place = Place { shard: self.shards.len(), offset: data + tensor.start };
            match self.tensors.entry(tensor.name) {
                Entry::Vacant(free) => {
                    free.insert(Found { place, dtype: tensor.dtype, shape: tensor.shape });
                }
                Entry::Occupied(taken) => {
                    let other = printable(&self.shards[taken.get().place.shard].name);
                    let path = printable(&shard.path.to_string_lossy());
                    problems.add(format!("{path}: tensor {} is in {other} too", printable(taken.key())));
                }
            }
        }
        self.shards.push(shard);
    }

    /// Every tensor must be in the file where the index has it.
    fn compare_with_index(&self, problems: &mut Problems) {
        for (name, file) in self.index.iter().filter(|(_, file)| !self.broken.contains(*file)) {
            let found = self.tensors.get(name).map(|t| &self.shards[t.place.shard].name);
            if found != Some(file) {
                let path = self.folder.join(printable(file));
                let place = found.map_or("nowhere".to_string(), |f| format!("in {}", printable(f)));
                let name = printable(name);
                problems.add(format!("{}: tensor {name} is not in this file but {place}", path.display()));
            }
        }
    }

    /// Whether there are no tensors at all.
    pub(super) fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// A tensor.
    pub(super) fn get(&self, name: &str) -> Option<&Found> {
        self.tensors.get(name)
    }

    /// Whether the checkpoint has the tensor, be it in a shard that cannot be read.
    pub(super) fn lists(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || self.index.contains_key(name)
    }

    /// Whether a tensor that was not found was named already: through its shard, or through the index.
    pub(super) fn is_named(&self, name: &str) -> bool {
        if self.index.is_empty() { !self.broken.is_empty() } else { self.index.contains_key(name) }
    }

    /// Fills `bytes` from `place` + `offset`.
    pub(super) fn read(&self, place: Place, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let shard = &self.shards[place.shard];
        shard.file.read_exact_at(bytes, place.offset + offset).map_err(io(&shard.path))
    }

    /// What tells whether the shards change.
    pub(super) fn stamps(&self) -> Result<Vec<Stamp>, Error> {
        let stamp = |shard: &Shard| {
            let metadata = shard.file.metadata().map_err(io(&shard.path))?;
            let modified = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            let modified = modified.map_or(0, |t| t.as_nanos() as u64);
            Ok(Stamp { name: shard.name.clone(), bytes: metadata.len(), modified })
        };
        self.shards.iter().map(stamp).collect()
    }
}

/// A small file's bytes; an error when it is larger than `most`.
pub(super) fn read_limited(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io(path))?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(io(path))?;
    match bytes.len() as u64 > most {
        true => Err(Error::Config(path.into(), format!("larger than {most} bytes"))),
        false => Ok(bytes),
    }
}
