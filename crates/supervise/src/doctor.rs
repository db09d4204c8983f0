//! Recovery in three steps: look; clean what is dead; refuse to touch what lives, which is a person's decision.

use crate::lifecycle::owner_in_words;
use crate::status::recorded;
use crate::{Error, FileLock, Found, LifecycleLock, ServerRecord, StateDir, lease, process};

/// What was found or done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing had to be done.
    AlreadyClean,
    /// What was left of this process is gone, and so many leases with it.
    Cleaned(Option<u32>, usize),
    /// This process is there.
    StillAlive(u32),
    /// Somebody changes something; who.
    LockHeld(String),
}

/// Says what `server.json` says and whether that is so, and changes nothing.
pub fn inspect(dir: &StateDir) -> Result<Vec<String>, Error> {
    let record = match recorded(dir) {
        Found::There(record) => record,
        Found::Unreadable(why) => return Ok(vec![format!("server.json cannot be read: {why}")]),
        Found::Nothing => {
            let nothing = "no server.json (already clean)".to_string();
            return Ok(match FileLock::holder(&dir.server_lock())? {
                Some(pid) => vec![nothing, format!("yet process {pid} holds server.lock: {}", line(pid))],
                None => vec![nothing],
            });
        }
    };
    let binary = record.binary.as_ref().map_or_else(|| "unknown".into(), |path| path.display().to_string());
    let lives = match is_there(dir, &record)? {
        true => format!("process: alive, {}", line(record.pid)),
        false => "process: gone".into(),
    };
    Ok(vec![
        format!("managedBy: {}", record.managed_by),
        format!("pid: {}", record.pid),
        format!("binary: {binary}"),
        lives,
    ])
}

fn line(pid: u32) -> String {
    process::command_line(pid).unwrap_or_else(|| "which cannot be seen from here".into())
}

/// Whether the process of a record is there, or another one holds the server's lock.
fn is_there(dir: &StateDir, record: &ServerRecord) -> Result<bool, Error> {
    Ok(FileLock::holder(&dir.server_lock())?.is_some() || record.lives())
}

/// Removes what a dead server left, and all leases, under the lifecycle lock.
pub fn recover(dir: &StateDir) -> Result<Recovery, Error> {
    if !dir.root().exists() {
        return Ok(Recovery::AlreadyClean);
    }
    // Twice: the first try clears a dead owner away.
    let lock = match LifecycleLock::try_take(dir)? {
        Some(lock) => Some(lock),
        None => LifecycleLock::try_take(dir)?,
    };
    let Some(_lock) = lock else { return Ok(Recovery::LockHeld(owner_in_words(dir))) };
    if let Some(pid) = FileLock::holder(&dir.server_lock())? {
        return Ok(Recovery::StillAlive(pid));
    }
    let pid = match recorded(dir) {
        Found::Nothing => return Ok(Recovery::AlreadyClean),
        Found::There(record) if record.lives() => return Ok(Recovery::StillAlive(record.pid)),
        Found::There(record) => Some(record.pid),
        Found::Unreadable(_) => None,
    };
    let leases = lease::all(dir);
    for lease in &leases {
        std::fs::remove_file(&lease.path).map_err(Error::file(&lease.path, "remove"))?;
    }
    dir.sweep();
    crate::down::clear(dir)?;
    Ok(Recovery::Cleaned(pid, leases.len()))
}
