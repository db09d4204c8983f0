//! One instance at a time: weights and context fill the machine.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use ds4_supervise::process;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::failure::Failure;

/// Holds the lock until it is dropped or the process ends, however it ends.
pub(crate) struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Takes the lock of `$DS4_LOCK_FILE`, or `/tmp/ds4.lock`, and writes this process's number into it.
    pub(crate) fn take() -> Result<Self, Failure> {
        let path = std::env::var_os("DS4_LOCK_FILE").map_or_else(|| PathBuf::from("/tmp/ds4.lock"), PathBuf::from);
        let broken = |what: &str, e: io::Error| Failure::from(format!("{}: cannot {what}: {e}", path.display()));
        let mut options = OpenOptions::new();
        // Anybody may put a link into /tmp, and the file that it leads to would be emptied.
        let options = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(|e| broken(why_not(&e), e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&file).take(32).read_to_string(&mut pid);
                let pid = pid.trim();
                let line = pid.parse().ok().and_then(process::command_line);
                let who = line.map(|line| format!("process {pid} is {line}\n")).unwrap_or_default();
                let pid = if pid.is_empty() { "unknown" } else { pid };
                let message = format!(
                    "{who}ds4 down ends a server that ds4 up started; another file in DS4_LOCK_FILE lets two run, if memory \
                     suffices\nanother ds4 process is already running (pid {pid}); refusing to start"
                );
                return Err(Failure::usage(message));
            }
            Err(TryLockError::Error(e)) => return Err(broken("lock", e)),
        }
        file.set_len(0).map_err(|e| broken("write", e))?;
        writeln!(file, "{}", std::process::id()).map_err(|e| broken("write", e))?;
        Ok(Self { _file: file })
    }
}

/// Why a lock file does not open, and what then helps. It is its owner's alone (0600): who could open it could hold it for
/// ever. So another user's, who runs ds4 or has run it, is in the way; the machine is one, and only they know whether it is free.
fn why_not(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::LOOP) => {
            "open the instance lock, because it is a link; remove it, or name another file in DS4_LOCK_FILE"
        }
        Some(Errno::ACCESS) => {
            "open the instance lock, perhaps another user's; they can end their ds4 and remove it, or name another file in \
             DS4_LOCK_FILE"
        }
        _ => "open the instance lock",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_users_lock_is_said_with_the_way_out() {
        let why = why_not(&Errno::ACCESS.into());
        assert!(why.contains("another user's") && why.ends_with("name another file in DS4_LOCK_FILE"), "{why}");
    }
}
