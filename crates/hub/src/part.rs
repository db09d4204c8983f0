//! `FILE.part`: bytes that are there, their hash so far, and the lock that makes one process write it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::Error;
use crate::origin::remove;
use crate::progress::{Meter, Phase};
use crate::verify::{MAGIC, hex};

/// How often a lock that another process holds is tried.
const TRY_EVERY: Duration = Duration::from_millis(200);
/// How much is read at once.
const PIECE: usize = 4 << 20;

/// An open part, locked for this process.
pub(crate) struct Part {
    path: PathBuf,
    file: File,
    hash: Sha256,
    len: u64,
    /// Whether an earlier run left some of it.
    old: bool,
    /// Whether nothing can follow what is there.
    doubted: bool,
}

impl Part {
    /// Opens and locks it; waits while another process has it. Its bytes are not read yet.
    pub(crate) async fn take(path: &Path, meter: &mut Meter<'_>) -> Result<Self, Error> {
        let mut said = false;
        loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).open(path);
            let file = file.map_err(Error::io(path, "write"))?;
            match file.try_lock() {
                // It may have been renamed or removed between opening and locking.
                Ok(()) if is_at(&file, path) => {
                    return Ok(Self {
                        path: path.into(),
                        file,
                        hash: Sha256::new(),
                        len: 0,
                        old: false,
                        doubted: false,
                    });
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    if !said {
                        meter.note("another process is downloading this file; waiting for it");
                    }
                    said = true;
                    tokio::time::sleep(TRY_EVERY).await;
                }
                Err(TryLockError::Error(e)) => return Err(Error::io(path, "lock")(e)),
            }
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is on the disk, read or not.
    pub(crate) fn nothing_there(&self) -> bool {
        self.file.metadata().is_ok_and(|m| m.len() == 0)
    }

    /// Nothing can follow what is there; it stays until there is something better.
    pub(crate) fn doubt(&mut self) {
        self.doubted = true;
    }

    pub(crate) fn is_doubted(&self) -> bool {
        self.doubted
    }

    /// Whether some of its bytes are an earlier run's.
    pub(crate) fn is_old(&self) -> bool {
        self.old
    }

    /// Reads what an earlier run left. What cannot be the beginning of a model is thrown away.
    pub(crate) async fn read_again(&mut self, meter: &mut Meter<'_>) -> Result<(), Error> {
        let total = self.file.metadata().map_err(Error::io(&self.path, "read"))?.len();
        let mut piece = vec![0; PIECE.min(total as usize)];
        meter.begin();
        while self.len < total {
            let n = match self.file.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::io(&self.path, "read")(e)),
            };
            if self.len == 0 && !could_begin(&piece[..n]) {
                return self.restart();
            }
            self.hash.update(&piece[..n]);
            self.len += n as u64;
            self.old = true;
            meter.count(Phase::Checking, self.len, Some(total));
            tokio::task::yield_now().await; // Ctrl-C
        }
        Ok(())
    }

    /// Adds bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::io(&self.path, "write"))?;
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Throws away what is there.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(Error::io(&self.path, "empty"))?;
        (self.hash, self.len, self.old, self.doubted) = (Sha256::new(), 0, false, false);
        Ok(())
    }

    /// The SHA-256 of what is there.
    pub(crate) fn sha256(&self) -> String {
        hex(&self.hash.clone().finalize())
    }

    /// Gives the file its name, after its bytes have reached the disk.
    pub(crate) fn finish(self, name: &Path) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::io(&self.path, "write"))?;
        std::fs::rename(&self.path, name).map_err(Error::io(&self.path, "rename"))?;
        let folder = name.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io(folder, "write"))
    }

    /// Removes the file.
    pub(crate) fn remove(self) -> Result<(), Error> {
        remove(&self.path)
    }
}

/// Whether an open file is the one that is found at this path.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

/// Whether a model can begin with these bytes.
pub(crate) fn could_begin(bytes: &[u8]) -> bool {
    let n = bytes.len().min(MAGIC.len());
    bytes[..n] == MAGIC[..n]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Progress, Report};

    struct Nobody;

    impl Progress for Nobody {
        fn report(&mut self, _: &Report) {}
        fn note(&mut self, _: &str) {}
    }

    #[test]
    fn what_was_not_read_yet_is_not_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.gguf.part");
        std::fs::write(&path, "GGUF and more").expect("written");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let part = runtime.block_on(Part::take(&path, &mut Meter::new(&mut Nobody))).expect("free");
        assert!(part.len() == 0 && !part.nothing_there());
    }
}
