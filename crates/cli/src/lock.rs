//! One instance at a time: weights and context fill the machine.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::failure::Failure;

/// Holds the lock until it is dropped or the process ends, however it ends.
pub(crate) struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Takes the lock of `$DS4_LOCK_FILE`, or `/tmp/ds4.lock`, and writes this process's number into it.
    pub(crate) fn take() -> Result<Self, Failure> {
        let path = std::env::var_os("DS4_LOCK_FILE").map_or_else(|| PathBuf::from("/tmp/ds4.lock"), PathBuf::from);
        let broken = |what: &str, e: std::io::Error| Failure::from(format!("{}: cannot {what}: {e}", path.display()));
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| broken("open the instance lock", e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&file).take(32).read_to_string(&mut pid);
                let pid = pid.trim();
                let pid = if pid.is_empty() { "unknown" } else { pid };
                let message = format!("another ds4 process is already running (pid {pid}); refusing to start");
                return Err(Failure::usage(message));
            }
            Err(TryLockError::Error(e)) => return Err(broken("lock", e)),
        }
        file.set_len(0).map_err(|e| broken("write", e))?;
        writeln!(file, "{}", std::process::id()).map_err(|e| broken("write", e))?;
        Ok(Self { _file: file })
    }
}
