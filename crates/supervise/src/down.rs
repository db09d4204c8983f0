//! Stops the one server.

use std::time::{Duration, Instant};

use crate::json::remove;
use crate::observe::{Server, is_ds4_server};
use crate::{Error, FileLock, LifecycleLock, StateDir, Stop, Timings, http, log, process, write_json};

/// A server that was asked to end takes no requests any more by then.
const HEARD: Duration = Duration::from_secs(1);

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// There was none.
    NothingRan,
    /// This process has ended.
    Stopped(u32),
    /// This process is not ours and goes on.
    LeftRunning(u32),
}

/// How a server is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was asked, and lets running requests end.
    Asked,
    /// At once.
    Killed,
}

/// Stops the server, which then is not kept any more. With `force` at once, and also one that was adopted. `say` tells what it
/// waits for.
pub fn down(
    dir: &StateDir,
    force: bool,
    timings: &Timings,
    stop: &Stop,
    say: &mut dyn FnMut(&str),
) -> Result<Down, Error> {
    if !dir.exists()? {
        return Ok(Down::NothingRan);
    }
    let lock = LifecycleLock::take(dir, Instant::now() + timings.lock_timeout, stop)?;
    remove(&dir.keep())?;
    let server = Server::of(dir)?;
    let pid = match &server {
        Server::None { .. } => {
            clear(dir)?;
            return Ok(Down::NothingRan);
        }
        Server::Foreign(record) if record.adopted && !(force && is_ds4_server(record.pid)) => {
            clear(dir)?;
            return Ok(Down::LeftRunning(record.pid));
        }
        Server::Foreign(record) => record.pid,
        Server::Ours { pid: 0, .. } => {
            let path = dir.server_lock();
            let why =
                format!("{}: held by a process that cannot be seen from here; stop it where it runs", path.display());
            return Err(Error::Failed(why));
        }
        Server::Ours { pid, .. } => *pid,
    };
    let end = if force { End::Killed } else { End::Asked };
    if end == End::Asked && !server.is_stopping() {
        ask(dir, &server);
    }
    drop(lock);
    wait(dir, &server, end, timings, stop, say)?;
    Ok(Down::Stopped(pid))
}

/// Marks a server as stopping and asks it to end. Under the lifecycle lock.
pub(crate) fn ask(dir: &StateDir, server: &Server) {
    let Some(pid) = server.pid() else { return };
    if let Some(record) = server.record() {
        let mut record = record.clone();
        record.mark_stopping();
        // A full disk keeps nobody from ending a server.
        let _ = write_json(&dir.server(), &record);
    }
    log::append(dir, "ds4", &format!("stopping ds4-server (pid {pid})"));
    process::terminate(pid);
}

/// Waits until a server that was asked is gone, and ends it when it takes too long. Outside of the lifecycle lock.
pub(crate) fn wait(
    dir: &StateDir,
    server: &Server,
    end: End,
    timings: &Timings,
    stop: &Stop,
    say: &mut dyn FnMut(&str),
) -> Result<(), Error> {
    let Some(pid) = server.pid() else { return Ok(()) };
    let said = server.record().and_then(|record| record.process_start_exact.clone());
    let start = said.or_else(|| process::start_of(pid).map(|start| start.exact));
    // The last of its threads gives the lock back, after the first has ended.
    let holds = || FileLock::holder(&dir.server_lock()).is_ok_and(|holder| holder == Some(pid));
    let is_gone = || !process::is_same(pid, start.as_deref(), None) && !holds();
    let grace = if end == End::Killed { Duration::ZERO } else { timings.shutdown_grace };
    let first = grace.min(HEARD);
    let mut gone = stop.wait(first, is_gone)?;
    if !gone && end == End::Asked {
        if server.record().is_some_and(|record| http::is_ready(&record.base_url)) {
            // Whoever said that it ends was killed before it was asked to.
            process::terminate(pid);
        }
        let seconds = grace.as_secs();
        say(&format!("ds4-server (pid {pid}) lets running requests end, for {seconds} s at most"));
        gone = stop.wait(grace - first, is_gone)?;
    }
    if !gone {
        log::append(dir, "ds4", &format!("killing ds4-server (pid {pid})"));
        process::kill(pid);
        if !stop.wait(timings.kill_wait, is_gone)? {
            return Err(Error::Failed(format!("ds4-server (pid {pid}) does not end, not even when it is killed")));
        }
    }
    let _lock = LifecycleLock::take(dir, Instant::now() + timings.lock_timeout, stop)?;
    if matches!(Server::of(dir)?, Server::None { .. }) {
        clear(dir)?;
    }
    Ok(())
}

/// Forgets a server that is gone. Under the lifecycle lock.
pub(crate) fn clear(dir: &StateDir) -> Result<(), Error> {
    remove(&dir.server())
}
