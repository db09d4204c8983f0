//! Where the files are.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::{Error, process};

/// The state directory: `$DS4_DIR`, else `~/.pi/ds4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
}

/// Most entries of a folder that are looked at.
pub(crate) const MOST_ENTRIES: usize = 4096;

impl StateDir {
    /// This folder.
    pub fn at(root: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(root).map_err(Error::file(root, "find this folder"))?;
        match root.to_str() {
            Some(_) => Ok(Self { root }),
            None => Err(Error::Usage(format!("{}: the state directory's name must be UTF-8", root.display()))),
        }
    }

    /// The one that the environment names.
    pub fn from_environment() -> Result<Self, Error> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match (set("DS4_DIR"), set("HOME")) {
            (Some(dir), _) => Self::at(&dir),
            (None, Some(home)) => Self::at(&home.join(".pi/ds4")),
            (None, None) => Err(Error::Usage("neither DS4_DIR nor HOME is set; set DS4_DIR to a folder".into())),
        }
    }

    /// Makes it, for its owner alone.
    pub fn create(&self) -> Result<(), Error> {
        for folder in [self.root.clone(), self.clients()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(Error::file(&folder, "make this folder"))?;
        }
        Ok(())
    }

    /// Whether it is there.
    pub(crate) fn exists(&self) -> Result<bool, Error> {
        self.root.try_exists().map_err(Error::file(&self.root, "look into"))
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What runs: `server.json`.
    pub fn server(&self) -> PathBuf {
        self.root.join("server.json")
    }

    /// What the server holds for its whole life.
    pub fn server_lock(&self) -> PathBuf {
        self.root.join("server.lock")
    }

    /// The lifecycle lock's visible form, a folder.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// What its owner holds.
    pub fn lifecycle_lock(&self) -> PathBuf {
        self.root.join("lifecycle.lock")
    }

    /// The folder of leases.
    pub fn clients(&self) -> PathBuf {
        self.root.join("clients")
    }

    /// A process's lease.
    pub fn lease(&self, pid: u32) -> PathBuf {
        self.clients().join(format!("{pid}.json"))
    }

    /// What the holder of a process's lease holds.
    pub fn lease_lock(&self, pid: u32) -> PathBuf {
        self.clients().join(format!("{pid}.lock"))
    }

    /// There while the server stays without a lease.
    pub fn keep(&self) -> PathBuf {
        self.root.join("keep")
    }

    /// The log of all that runs.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The log before it.
    pub fn old_log(&self) -> PathBuf {
        self.root.join("log.1")
    }

    /// What was computed once.
    pub fn kv(&self) -> PathBuf {
        self.root.join("kv")
    }

    /// Removes what writers left that were killed half-way: `NAME.PID.MS.SEQ.tmp` and `lock.PID.MS.SEQ.stale`.
    pub(crate) fn sweep(&self) {
        for folder in [self.root.clone(), self.clients()] {
            for path in entries(&folder) {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if writer(name).is_some_and(|pid| !process::is_alive(pid)) {
                    // Somebody else may have done it.
                    let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
                }
            }
        }
    }
}

/// What is in a folder; nothing where it cannot be read.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.take(MOST_ENTRIES).map(|entry| entry.path()).collect()
}

/// Who wrote a file of this name that was to be renamed or removed.
fn writer(name: &str) -> Option<u32> {
    let mut parts = name.rsplit('.');
    let end = parts.next()?;
    let [sequence, time, pid] = [parts.next()?, parts.next()?, parts.next()?];
    let numbers = sequence.parse::<u64>().is_ok() && time.parse::<u64>().is_ok();
    (["tmp", "stale"].contains(&end) && numbers).then(|| pid.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unfinished_files_of_dead_writers_are_swept() {
        assert_eq!(writer("server.json.12.1795000000000.3.tmp"), Some(12));
        assert_eq!(writer("lock.12.1795000000000.3.stale"), Some(12));
        for name in ["server.json", "a.tmp", "1.2.tmp", "x.y.1.2.tmp", "weights.12.1.1.part", ".tmp"] {
            assert_eq!(writer(name), None, "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::at(folder.path()).unwrap();
        dir.create().unwrap();
        let alive = dir.root().join(format!("server.json.{}.1.1.tmp", std::process::id()));
        let dead = dir.clients().join("7.json.2147483646.1.1.tmp");
        std::fs::write(&alive, "{").unwrap();
        std::fs::write(&dead, "{").unwrap();
        dir.sweep();
        assert!(alive.exists() && !dead.exists());
    }
}
