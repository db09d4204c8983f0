//! A file that one process holds until it ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use crate::Error;

/// A record lock, which the kernel gives to a process and takes back at its end, and of which it says who has it.
///
/// Such a lock belongs to the process, not to this value: while it is held, the process must not ask
/// [`holder`](Self::holder) of the same file, since closing any descriptor of the file gives the lock away.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes it, or says which process has it (0 where the system does not say).
    pub fn take(path: &Path) -> Result<Result<Self, u32>, Error> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(Error::file(path, "open"))?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => return Ok(Err(asked(&file, path)?.unwrap_or(0))),
            Err(e) => return Err(Error::file(path, "lock")(e.into())),
        }
        // For people; nobody goes by it.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Ok(Self { _file: file }))
    }

    /// Which process has it (0 where the system does not say), if any.
    pub fn holder(path: &Path) -> Result<Option<u32>, Error> {
        match File::open(path) {
            Ok(file) => asked(&file, path),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::file(path, "open")(e)),
        }
    }

    /// Keeps it until the process ends.
    pub fn keep_for_life(self) {
        std::mem::forget(self);
    }
}

fn asked(file: &File, path: &Path) -> Result<Option<u32>, Error> {
    let lock = fcntl_getlk(file, &Flock::from(FlockType::WriteLock));
    let lock = lock.map_err(|e| Error::file(path, "ask who holds")(e.into()))?;
    Ok(lock.map(|lock| lock.pid.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())))
}
