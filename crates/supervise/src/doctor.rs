//! Recovery in three steps: look; clean what is dead; refuse to touch what lives, which is a person's decision.

use crate::json::remove;
use crate::lifecycle::owner_in_words;
use crate::observe::is_there;
use crate::status::recorded;
use crate::{Error, FileLock, Found, LifecycleLock, StateDir, lease, process};

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
    let holder = FileLock::holder(&dir.server_lock())?;
    let lives = match holder.is_some() || is_there(&record) {
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

/// Removes what a dead server left, and all leases, under the lifecycle lock.
pub fn recover(dir: &StateDir) -> Result<Recovery, Error> {
    if !dir.exists()? {
        return Ok(Recovery::AlreadyClean);
    }
    let Some(_lock) = LifecycleLock::take_from_the_dead(dir)? else {
        return Ok(Recovery::LockHeld(owner_in_words(dir)));
    };
    if let Some(pid) = FileLock::holder(&dir.server_lock())? {
        return Ok(Recovery::StillAlive(pid));
    }
    let kept = dir.keep().exists();
    let pid = match recorded(dir) {
        Found::Nothing if !kept => return Ok(Recovery::AlreadyClean),
        Found::Nothing => None,
        Found::There(record) if is_there(&record) => return Ok(Recovery::StillAlive(record.pid)),
        Found::There(record) => Some(record.pid),
        Found::Unreadable(_) => None,
    };
    let leases = lease::all(dir);
    for lease in &leases {
        remove(&lease.path)?;
    }
    dir.sweep();
    remove(&dir.keep())?;
    crate::down::clear(dir)?;
    Ok(Recovery::Cleaned(pid, leases.len()))
}
